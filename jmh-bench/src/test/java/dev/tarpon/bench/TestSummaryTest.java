package dev.tarpon.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

class TestSummaryTest {
    @TempDir private Path directory;

    @Test
    void countsCtestWithSkipsInsidePassedTests() throws IOException {
        Path build = Files.createDirectory(directory.resolve("cmake"));
        Files.writeString(
                build.resolve("ctest.xml"),
                """
                <?xml version="1.0" encoding="UTF-8"?>
                <testsuite name="x" tests="5" failures="1" skipped="1">
                  <testcase name="abi" classname="abi" time="1" status="run">
                    <system-out>passed   test_versions (0.00 s)
                passed   test_copies (0.00 s)
                skipped  test_cuda: no driver
                2 passed, 0 failed, 1 skipped
                </system-out></testcase>
                  <testcase name="ptx" classname="ptx" time="0" status="notrun">
                    <skipped message="SKIP_RETURN_CODE=77"/>
                    <system-out>skipped  test_mma: no GPU
                0 passed, 0 failed, 1 skipped
                </system-out></testcase>
                  <testcase name="harness" classname="harness" time="0" status="run">
                    <system-out>skipped  test_skips: on purpose
                0 passed, 2 failed, 1 skipped
                </system-out></testcase>
                  <testcase name="single" classname="single" time="0" status="run">
                    <system-out>SKIPPED: golden file a.safetensors is not there
                </system-out></testcase>
                  <testcase name="bad" classname="bad" time="0" status="fail">
                    <failure message="Failed"/><system-out>boom</system-out></testcase>
                </testsuite>
                """);
        TestSummary summary = new TestSummary();
        summary.add(build.resolve("ctest.xml"));
        assertEquals("4 passed, 1 failed, 3 skipped", summary.line());
        assertEquals(
                List.of(
                        "ctest cmake: abi: test_cuda: no driver",
                        "ctest cmake: ptx: test_mma: no GPU",
                        "ctest cmake: single: golden file a.safetensors is not there"),
                summary.skipped().stream().map(Object::toString).toList());
        assertEquals("ctest cmake: bad: Failed", summary.failed().get(0).toString());
    }

    @Test
    void countsJunitAndNamesReasons() throws IOException {
        Files.writeString(
                directory.resolve("TEST-a.xml"),
                """
                <testsuite><testcase name="t" classname="C"/>
                <testcase name="u" classname="C"><skipped message="org.opentest4j.TestAbortedException: Assumption failed: no GPU"/>
                </testcase>
                <testcase name="w" classname="C"><skipped message="no GPU"/></testcase>
                <testcase name="v" classname="C"><error message="boom" type="E">trace</error>
                </testcase></testsuite>
                """);
        TestSummary summary = new TestSummary();
        summary.add(directory);
        assertEquals("1 passed, 1 failed, 2 skipped", summary.line());
        assertEquals(
                Map.of("no GPU", List.of("junit: C.u", "junit: C.w")), summary.skippedByReason());
        assertEquals("junit: C.u: no GPU", summary.skipped().getFirst().toString());
    }

    @Test
    void missingReportIsFailure() {
        TestSummary summary = new TestSummary();
        summary.add(directory.resolve("ctest.xml"));
        assertEquals(1, summary.failed().size());
        assertTrue(summary.line().startsWith("0 passed, 1 failed"), summary.line());
    }
}
