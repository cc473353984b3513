package dev.tarpon.ffi;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Optional;

/**
 * The loaded libtarpon, found once for each process:
 *
 * <ol>
 *   <li>the file that the system property {@code dev.tarpon.library.path} names, and no other if it
 *       is set;
 *   <li>otherwise the resource of the jar {@code tarpon-native:linux-x86_64}, extracted into {@link
 *       LibraryCache}.
 * </ol>
 *
 * <p>A failure is kept: {@link #get} explains the same cause every time. Thread-safe.
 *
 * @param path the file that was loaded
 * @param symbols its exported functions, valid for as long as the process lives
 */
public record NativeLibrary(Path path, SymbolLookup symbols) {
    /** The system property that names the library file to load. */
    public static final String PATH_PROPERTY = "dev.tarpon.library.path";

    static final String FILE_NAME = "libtarpon.so";

    /** Either the library or the reason why there is none. */
    private record Outcome(NativeLibrary library, LibraryUnavailableException failure) {}

    // A holder, so that this class itself can be used before anything is loaded.
    private static final class Holder {
        static final Outcome OUTCOME = attempt();

        private static Outcome attempt() {
            try {
                Path path = locate(System.getProperty(PATH_PROPERTY), LibraryCache.defaultRoot());
                return new Outcome(open(path), null);
            } catch (LibraryUnavailableException failure) {
                return new Outcome(null, failure);
            }
        }
    }

    /**
     * The library.
     *
     * @throws LibraryUnavailableException the original failure, if it could not be loaded
     */
    public static NativeLibrary get() {
        Outcome outcome = Holder.OUTCOME;
        if (outcome.library == null) {
            throw outcome.failure;
        }
        return outcome.library;
    }

    /** Why there is no library; empty if it is loaded. */
    public static Optional<LibraryUnavailableException> failure() {
        return Optional.ofNullable(Holder.OUTCOME.failure);
    }

    /** The file to load: {@code override} if it is not null, else the extracted resource. */
    static Path locate(String override, Path cacheRoot) {
        if (override != null) {
            Path path = Path.of(override).toAbsolutePath();
            if (!Files.isRegularFile(path)) {
                throw new LibraryUnavailableException(
                        "the system property %s names %s, which is not a file"
                                .formatted(PATH_PROPERTY, path));
            }
            return path;
        }
        String platform = platform(System.getProperty("os.name"), System.getProperty("os.arch"));
        String resource = "/META-INF/native/" + platform + "/" + FILE_NAME;
        try (InputStream content = NativeLibrary.class.getResourceAsStream(resource)) {
            if (content == null) {
                throw new LibraryUnavailableException(
                        ("the class path has no %s; add the artifact dev.tarpon:tarpon-native with "
                                        + "classifier %s, or name a library file with -D%s=FILE")
                                .formatted(resource, platform, PATH_PROPERTY));
            }
            return new LibraryCache(cacheRoot).extract(content.readAllBytes(), FILE_NAME);
        } catch (IOException | UncheckedIOException exception) {
            throw new LibraryUnavailableException(
                    "%s could not be extracted to %s: %s"
                            .formatted(resource, cacheRoot, exception.getMessage()),
                    exception);
        }
    }

    /** The folder of a platform's natives inside the jar. */
    static String platform(String osName, String osArch) {
        String os = osName.toLowerCase(Locale.ROOT);
        if (!os.equals("linux") || !(osArch.equals("amd64") || osArch.equals("x86_64"))) {
            throw new LibraryUnavailableException(
                    ("Tarpon has no native library for %s on %s, only for Linux on x86-64; a"
                                    + " library of your own build can be named with -D%s=FILE")
                            .formatted(osName, osArch, PATH_PROPERTY));
        }
        return "linux-x86_64";
    }

    /** Loads a library file and checks that it speaks this binding's ABI. */
    static NativeLibrary open(Path path) {
        SymbolLookup symbols;
        try {
            symbols = SymbolLookup.libraryLookup(path, Arena.global());
        } catch (IllegalArgumentException exception) {
            throw new LibraryUnavailableException(
                    "%s could not be loaded: %s".formatted(path, loaderMessage(path)), exception);
        }
        MemorySegment abiVersion =
                symbols.find("tarpon_abi_version")
                        .orElseThrow(
                                () ->
                                        new LibraryUnavailableException(
                                                path
                                                        + " is not libtarpon: it does not export"
                                                        + " tarpon_abi_version"));
        int found = abiVersion(abiVersion);
        if (found != tarpon_h.TARPON_ABI_VERSION) {
            throw new LibraryUnavailableException(
                    ("%s has ABI version %d and this Java library needs %d; use jars of one"
                                    + " version, or unset %s")
                            .formatted(path, found, tarpon_h.TARPON_ABI_VERSION, PATH_PROPERTY));
        }
        return new NativeLibrary(path, symbols);
    }

    private static int abiVersion(MemorySegment address) {
        try {
            return (int)
                    Linker.nativeLinker()
                            .downcallHandle(address, FunctionDescriptor.of(tarpon_h.C_INT))
                            .invokeExact();
        } catch (Throwable throwable) {
            throw new AssertionError("tarpon_abi_version cannot fail", throwable);
        }
    }

    /**
     * What the dynamic loader says of a file that it refuses, which libraryLookup does not tell.
     */
    private static String loaderMessage(Path path) {
        try {
            System.load(path.toString());
            return "the dynamic loader gives no reason";
        } catch (UnsatisfiedLinkError error) {
            return error.getMessage();
        }
    }
}
