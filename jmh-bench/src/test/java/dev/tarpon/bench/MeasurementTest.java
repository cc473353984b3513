package dev.tarpon.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;

import dev.tarpon.DType;
import dev.tarpon.bench.linear.Implementation;
import dev.tarpon.bench.linear.LinearCase;
import dev.tarpon.bench.optim.AdamWKind;

import org.junit.jupiter.api.Test;

import java.util.List;
import java.util.Optional;

class MeasurementTest {
    private static final LinearCase LAYER =
            new LinearCase(new TimedDevice("cpu"), 256, 512, 4, DType.F16, 0, 256L << 20);

    private static final Measurement TARPON =
            new Measurement(
                    BenchmarkCase.linear(Implementation.TARPON, LAYER),
                    List.of(1000.0, 4000.0, 1100.0));

    // The machine was four times slower in round two, for both.
    private static final Measurement BASELINE =
            new Measurement(
                    BenchmarkCase.linear(Implementation.JAVA_FP32, LAYER),
                    List.of(3000.0, 12000.0, 3300.0));

    @Test
    void medianOfOddAndEvenCounts() {
        assertEquals(2, Measurement.median(List.of(9.0, 1.0, 2.0)));
        assertEquals(3, Measurement.median(List.of(9.0, 1.0, 2.0, 4.0)));
    }

    @Test
    void ratiosHoldWhenTheMachineDrifts() {
        assertEquals(3, BASELINE.ratioTo(TARPON), 1e-12);
        assertEquals(1100, TARPON.medianNs());
        assertEquals(1000, TARPON.minNs());
        assertEquals(4000, TARPON.maxNs());
    }

    @Test
    void sharesAreOfTheRoofInTheSameRound() {
        double nsAtTheRoof = BenchmarkCase.readRoof().bytes() / TARPON.benchmark().bytes() * 1000;
        Measurement roof =
                new Measurement(
                        BenchmarkCase.readRoof(),
                        List.of(nsAtTheRoof / 2, nsAtTheRoof * 2, nsAtTheRoof * 0.55));
        assertEquals(0.5, TARPON.shareOfBytes(roof), 1e-12);
        Report report =
                new Report(
                        Environment.read("the command", Optional.of("abc123")),
                        new InterleavedRunner.Settings(3, 1, 1, 1),
                        List.of(roof, TARPON),
                        List.of(),
                        List.of());
        assertTrue(report.toMarkdown().contains("| 50 |"), report.toMarkdown());
    }

    @Test
    void ratesFollowFromTheShape() {
        // 256 * 512 / 2 bytes of codes, 2 * 512 scales, x [4, 256] and y [4, 512] of two bytes each
        double bytes = 65536 + 2048 + 2 * 4 * (256 + 512);
        assertEquals(bytes / 1100, TARPON.gigabytesPerSecond(), 1e-9);
        assertEquals(2.0 * 4 * 256 * 512 / 1100, TARPON.gigaflops(), 1e-9);
    }

    /**
     * The roof moves 12 bytes a parameter, the step 16.0625, each in both rounds at its own rate.
     */
    @Test
    void optimizersAreMeasuredAgainstTheRoofOfTheirGroup() {
        TimedDevice cpu = new TimedDevice("cpu");
        int count = 16 << 20;
        Measurement step =
                new Measurement(
                        BenchmarkCase.optimizer(AdamWKind.TARPON_8BIT, cpu, count, 300, 2),
                        List.of(3e6, 6e6));
        Measurement roof =
                new Measurement(BenchmarkCase.roof(cpu, count, 300, 2), List.of(2e6, 4e6));
        Report report =
                new Report(
                        Environment.read("the command", Optional.of("abc123")),
                        new InterleavedRunner.Settings(2, 1, 1, 1),
                        List.of(step, roof),
                        List.of(),
                        List.of());
        JsonObject row =
                JsonParser.parseString(report.toJson())
                        .getAsJsonObject()
                        .getAsJsonArray("results")
                        .get(0)
                        .getAsJsonObject();
        assertEquals(16.0625, row.get("bytesPerElement").getAsDouble(), 1e-12);
        assertEquals(4.5e6 / count, row.get("nsPerElement").getAsDouble(), 1e-12);
        double percent = 100 * 16.0625 / 12 * 2 / 3;
        assertEquals(percent, row.get("percentOfRoof").getAsDouble(), 1e-9);
        String page = report.toMarkdown();
        assertTrue(page.contains("parameters in 300 tensors, threads 2 | time"), page);
        assertTrue(
                page.contains("| tarpon-8bit | 4.50 ms | 3.00 ms to 6.00 ms | 0.27 | 16.1 |"),
                page);
        assertTrue(page.contains("| read-modify-write |"), page);
    }

    @Test
    void reportNamesSkipsAndFailures() {
        Report report =
                new Report(
                        Environment.read("the command", Optional.of("abc123")),
                        new InterleavedRunner.Settings(3, 1, 1, 1),
                        List.of(TARPON, BASELINE),
                        List.of(new Skipped("cublas", "no GPU here")),
                        List.of(new Skipped("jcublas", "it broke")));

        JsonObject json = JsonParser.parseString(report.toJson()).getAsJsonObject();
        assertEquals("abc123", json.getAsJsonObject("environment").get("commit").getAsString());
        JsonObject second = json.getAsJsonArray("results").get(1).getAsJsonObject();
        assertEquals(3, second.get("timesReference").getAsDouble(), 1e-12);
        assertEquals("java-fp32", second.get("series").getAsString());

        String page = report.toMarkdown();
        assertTrue(page.contains("- cublas: no GPU here"), page);
        assertTrue(page.contains("- jcublas: it broke"), page);
        assertTrue(page.contains("| java-fp32 | 3.30 us | 3.00 us to 12.0 us |"), page);
    }

    @Test
    void durationsKeepThreeDigits() {
        assertEquals("7.81 ns", Report.duration(7.812));
        assertEquals("412 us", Report.duration(412_345));
        assertEquals("36.2 ms", Report.duration(36_245_000));
    }
}
