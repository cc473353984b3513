package dev.tarpon.ffi;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Collections;
import java.util.EnumSet;
import java.util.HexFormat;
import java.util.Set;

/**
 * Native libraries extracted from jars, in {@code <root>/<sha256 of the content>/}. Processes that
 * start at once share it without locks: each writes a file of its own and renames it into place.
 *
 * <p>A library is code that will run in this process, so a folder or file that another user owns or
 * may write is refused, and a file whose content has changed is written anew.
 */
final class LibraryCache {
    private static final Set<PosixFilePermission> OTHERS_MAY_WRITE =
            EnumSet.of(PosixFilePermission.GROUP_WRITE, PosixFilePermission.OTHERS_WRITE);

    private final Path root;

    LibraryCache(Path root) {
        this.root = root;
    }

    /** {@code $XDG_CACHE_HOME/tarpon}, or {@code ~/.cache/tarpon} if that is not set. */
    static Path defaultRoot() {
        String cacheHome = System.getenv("XDG_CACHE_HOME");
        // The XDG base directory specification: a relative path is to be ignored.
        if (cacheHome != null && Path.of(cacheHome).isAbsolute()) {
            return Path.of(cacheHome, "tarpon");
        }
        return Path.of(System.getProperty("user.home"), ".cache", "tarpon");
    }

    /** The cached file with this content, written now unless it is there. */
    Path extract(byte[] content, String fileName) throws IOException {
        Path folder = root.resolve(sha256(content));
        Files.createDirectories(
                folder,
                PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
        requirePrivate(folder);
        Path file = folder.resolve(fileName);
        if (!holds(file, content)) {
            write(folder, file, content);
        }
        return file;
    }

    private static boolean holds(Path file, byte[] content) throws IOException {
        if (!Files.isRegularFile(file, LinkOption.NOFOLLOW_LINKS)) {
            return false;
        }
        requirePrivate(file);
        return Files.size(file) == content.length
                && sha256(Files.readAllBytes(file)).equals(sha256(content));
    }

    private static void write(Path folder, Path file, byte[] content) throws IOException {
        Path partial = Files.createTempFile(folder, file.getFileName().toString(), ".partial");
        try {
            try (FileChannel channel = FileChannel.open(partial, StandardOpenOption.WRITE)) {
                ByteBuffer buffer = ByteBuffer.wrap(content);
                while (buffer.hasRemaining()) {
                    channel.write(buffer);
                }
                channel.force(true); // or a crash could leave an empty file under the final name
            }
            Files.move(
                    partial,
                    file,
                    StandardCopyOption.ATOMIC_MOVE,
                    StandardCopyOption.REPLACE_EXISTING);
        } finally {
            Files.deleteIfExists(partial);
        }
    }

    private static void requirePrivate(Path path) throws IOException {
        // Numbers, not names: in a container the user of this process may have no name.
        Object user = Files.getAttribute(Path.of("/proc/self"), "unix:uid");
        Object owner = Files.getAttribute(path, "unix:uid", LinkOption.NOFOLLOW_LINKS);
        if (!owner.equals(user)) {
            throw new IOException(
                    "%s belongs to user %s, this process to user %s; remove it"
                            .formatted(path, owner, user));
        }
        Set<PosixFilePermission> permissions =
                Files.getPosixFilePermissions(path, LinkOption.NOFOLLOW_LINKS);
        if (!Collections.disjoint(permissions, OTHERS_MAY_WRITE)) {
            throw new IOException(
                    "%s may be written by others (%s); remove it"
                            .formatted(path, PosixFilePermissions.toString(permissions)));
        }
    }

    static String sha256(byte[] content) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(content));
        } catch (NoSuchAlgorithmException exception) {
            throw new AssertionError("every Java platform has SHA-256", exception);
        }
    }
}
