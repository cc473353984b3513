package dev.tarpon.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;

import dev.tarpon.DeviceKind;
import dev.tarpon.Tarpon;

import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.Set;

class MainTest {
    /** A benchmark that someone else runs on this machine must not fail these tests. */
    @BeforeAll
    static void ignoreTheLockOfOtherBenchmarks() {
        System.setProperty("jmh.ignoreLock", "true");
    }

    @Test
    void helpIsNoError() {
        assertEquals(0, Main.execute("--help"));
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "--shapes=4096",
                "--shapes=0x16",
                "--shapes=16x15",
                "--devices=sim",
                "--devices=cuda:first",
                "--rows=0",
                "--parameters=0",
                "--tensors=0",
                "--threads=-1",
                "--rounds=0",
                "--implementations=numpy",
                "--benchmarks=gemm",
                "--dtypes=F8",
                "--rows=many"
            })
    void wrongArgumentsAreRefused(String argument) {
        assertEquals(2, Main.execute(argument));
    }

    /** Every case in forks of their own, as short as JMH allows; figures are not looked at. */
    @Test
    void writesReportOfEverythingThatRunsHere(@TempDir Path out) throws IOException {
        int code =
                Main.execute(
                        "--shapes=128x128",
                        "--rows=1",
                        "--parameters=5000",
                        "--cold-mib=1",
                        "--rounds=1",
                        "--warmups=0",
                        "--iterations=1",
                        "--time=20",
                        "--commit=abc123",
                        "--out=" + out,
                        "--name=smoke");
        assertEquals(0, code);

        JsonObject report =
                JsonParser.parseString(Files.readString(out.resolve("smoke.json")))
                        .getAsJsonObject();
        Set<String> measured = new HashSet<>();
        for (JsonElement row : report.getAsJsonArray("results")) {
            assertTrue(row.getAsJsonObject().get("medianNs").getAsDouble() > 0);
            measured.add(row.getAsJsonObject().get("series").getAsString());
        }
        assertTrue(
                measured.containsAll(
                        Set.of(
                                "javaCall",
                                "downcall",
                                "emptyLinear",
                                "tarpon-8bit",
                                "tarpon-fp32",
                                "read memory",
                                "fp32 multiply-add",
                                "tarpon",
                                "tarpon-int8",
                                "java-fp32",
                                "java-w4")),
                measured.toString());
        if (Tarpon.deviceCount(DeviceKind.CUDA) == 0) {
            String reason = Tarpon.unavailableReason(DeviceKind.CUDA).orElseThrow();
            assertFalse(report.getAsJsonArray("skipped").isEmpty());
            assertTrue(Files.readString(out.resolve("smoke.md")).contains(reason), reason);
        }
    }
}
