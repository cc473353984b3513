package dev.tarpon.ffi;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;

import java.nio.file.Files;
import java.nio.file.Path;

/** What is refused, and how that is said; whole processes are in LoadingTest. */
class NativeLibraryTest {
    /** Where an ELF file says for which processor it is, and what it says for another. */
    private static final int E_MACHINE = 18;

    private static final byte EM_AARCH64 = (byte) 183;

    @TempDir Path work;

    private static void assertUnavailable(Executable call, String... parts) {
        String message = assertThrows(LibraryUnavailableException.class, call).getMessage();
        for (String part : parts) {
            assertTrue(message.contains(part), () -> "no \"" + part + "\" in: " + message);
        }
    }

    @Test
    void overrideMustBeAFile() {
        Path missing = work.resolve("none.so");
        assertUnavailable(() -> NativeLibrary.locate(missing.toString(), work), missing.toString());
        assertUnavailable(
                () -> NativeLibrary.locate(work.toString(), work), work.toString(), "not a file");
    }

    @Test
    void overrideIsTakenAsItIs() throws Exception {
        Path file = Files.createFile(work.resolve("some.so"));
        assertEquals(file, NativeLibrary.locate(file.toString(), work));
    }

    @Test
    void platformsWithoutALibraryAreNamed() {
        assertEquals("linux-x86_64", NativeLibrary.platform("Linux", "amd64"));
        assertUnavailable(
                () -> NativeLibrary.platform("Mac OS X", "aarch64"), "Mac OS X", "aarch64");
        assertUnavailable(() -> NativeLibrary.platform("Linux", "riscv64"), "riscv64");
    }

    @Test
    void theLoadersReasonIsKept() throws Exception {
        byte[] library = Files.readAllBytes(NativeLibrary.get().path());
        library[E_MACHINE] = EM_AARCH64;
        Path file = Files.write(work.resolve("libarm.so"), library);
        assertUnavailable(
                () -> NativeLibrary.open(file), file.toString(), "cannot open shared object");
    }

    @Test
    void anotherLibraryIsRefused() {
        Path other = Path.of(System.getProperty("java.home"), "lib", "libzip.so");
        assertUnavailable(() -> NativeLibrary.open(other), other.toString(), "tarpon_abi_version");
    }

    @Test
    void anotherAbiVersionIsRefused() throws Exception {
        Path source =
                Files.writeString(
                        work.resolve("other.c"), "int tarpon_abi_version(void) { return 999; }\n");
        Path library = work.resolve("libother.so");
        assumeTrue(Files.isExecutable(Path.of("/usr/bin/cc")), "needs a C compiler, /usr/bin/cc");
        Process compiler =
                new ProcessBuilder(
                                "/usr/bin/cc",
                                "-shared",
                                "-fPIC",
                                "-o",
                                library.toString(),
                                source.toString())
                        .inheritIO()
                        .start();
        assertEquals(0, compiler.waitFor());
        assertUnavailable(
                () -> NativeLibrary.open(library),
                "ABI version 999",
                "needs " + tarpon_h.TARPON_ABI_VERSION);
    }
}
