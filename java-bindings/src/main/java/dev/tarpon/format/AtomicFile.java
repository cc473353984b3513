package dev.tarpon.format;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.HexFormat;
import java.util.concurrent.ThreadLocalRandom;

/**
 * Writes a file so that nobody ever sees half of it: the content goes to a neighbour in the same
 * folder, which takes the target's name only when it is complete and on disk.
 */
public final class AtomicFile {
    private AtomicFile() {}

    /** Produces the content. */
    @FunctionalInterface
    public interface Content {
        void writeTo(FileChannel channel) throws IOException;
    }

    /**
     * Writes the target, replacing an older one. If anything fails the older one stays as it was
     * and the neighbour is removed.
     *
     * @throws IOException if the folder does not exist, the target is a folder, or writing fails
     */
    public static void write(Path target, Content content) throws IOException {
        Path folder = target.toAbsolutePath().getParent();
        if (folder == null || Files.isDirectory(target)) {
            throw new IOException(target + " is a folder; a file name is needed");
        }
        if (!Files.isDirectory(folder)) {
            throw new NoSuchFileException(
                    target.toString(), null, "its folder " + folder + " does not exist");
        }
        // A name of our own rather than createTempFile, whose files only the owner may read.
        String suffix = HexFormat.of().toHexDigits(ThreadLocalRandom.current().nextLong());
        Path neighbour = folder.resolve("." + target.getFileName() + "." + suffix + ".part");
        try {
            try (FileChannel channel =
                    FileChannel.open(
                            neighbour, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
                content.writeTo(channel);
                channel.force(true);
            }
            Files.move(neighbour, target, StandardCopyOption.ATOMIC_MOVE);
        } finally {
            Files.deleteIfExists(neighbour);
        }
    }
}
