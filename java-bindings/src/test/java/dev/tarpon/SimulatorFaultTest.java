package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

import java.util.List;
import java.util.Map;

/**
 * A fault on a GPU is an exception with the runtime's words, not the end of the process; shown with
 * the simulator, in a process of its own, since such a fault stays with its device.
 */
class SimulatorFaultTest {
    @Test
    void faultIsAnExceptionThatSaysWhatHappened() throws Exception {
        TestDevices.open("sim").close();
        JavaProcess.Result result =
                JavaProcess.run(
                        "dev.tarpon.SimulatorFault",
                        List.of(),
                        Map.of("dev.tarpon.library.path", Tarpon.libraryPath()),
                        Map.of());
        List<String> lines = result.output().lines().toList();
        assertEquals(3, lines.size(), result::output);
        assertTrue(lines.get(0).startsWith("run: CUDA, launch of "), lines::getFirst);
        assertTrue(lines.get(0).contains("uninitialised"), lines::getFirst);
        assertTrue(lines.get(1).startsWith("synchronize: CUDA, "), () -> lines.get(1));
        assertEquals("ended", lines.get(2));
        assertEquals(0, result.status());
    }
}
