package dev.tarpon.bench;

import dev.tarpon.DeviceKind;
import dev.tarpon.bench.linear.Implementation;
import dev.tarpon.bench.linear.LinearCase;
import dev.tarpon.bench.optim.AdamWKind;

import java.util.LinkedHashMap;
import java.util.Map;

/**
 * One benchmark method with its parameters: what a fork of JMH measures and a row of the report.
 *
 * @param group cases of one group are compared with one another; the first is what the others are
 *     compared with
 * @param series the name within the group, such as "tarpon"
 * @param method fully qualified benchmark method
 * @param parameters JMH parameters; empty if it has none
 * @param runsPerInvocation how many runs one call of the method makes
 * @param bytes memory that one run must at least move, 0 if that means nothing
 * @param flops floating-point operations of one run, 0 if that means nothing
 * @param elements what one run works on, such as parameters, 0 if that means nothing
 */
record BenchmarkCase(
        String group,
        String series,
        String method,
        Map<String, String> parameters,
        int runsPerInvocation,
        double bytes,
        double flops,
        double elements) {
    /** The series of {@link MemoryBenchmark} in its group. */
    static final String ROOF = "read-modify-write";

    static BenchmarkCase overhead(String method) {
        return new BenchmarkCase(
                "call overhead",
                method,
                CallOverheadBenchmark.class.getName() + "." + method,
                Map.of(),
                1,
                0,
                0,
                0);
    }

    /** Reading memory on all processors: what the linear's bytes are compared with. */
    static BenchmarkCase readRoof() {
        return new BenchmarkCase(
                "roof of the CPU's memory",
                "read memory",
                RoofBenchmark.class.getName() + ".read",
                Map.of(),
                1,
                RoofBenchmark.readBytes(),
                0,
                0);
    }

    /** fp32 multiply-adds on all processors: what the linear's flops are compared with. */
    static BenchmarkCase multiplyAddRoof() {
        return new BenchmarkCase(
                "roof of the CPU's arithmetic",
                "fp32 multiply-add",
                RoofBenchmark.class.getName() + ".multiplyAdd",
                Map.of(),
                1,
                0,
                RoofBenchmark.multiplyAddFlops(),
                0);
    }

    /** Whether this is a linear on the CPU, and so under its roofs. */
    boolean isLinearOnCpu() {
        return flops > 0 && "cpu".equals(parameters.get("device"));
    }

    static BenchmarkCase optimizer(
            AdamWKind kind, TimedDevice device, int parameters, int tensors, int threads) {
        Map<String, String> values = new LinkedHashMap<>();
        values.put("implementation", kind.label());
        values.put("device", device.name());
        values.put("parameters", Integer.toString(parameters));
        values.put("tensors", Integer.toString(tensors));
        values.put("threads", Integer.toString(threads));
        return new BenchmarkCase(
                optimizerGroup(device, parameters, tensors, threads),
                kind.label(),
                OptimizerBenchmark.class.getName() + ".step",
                values,
                device.runsPerInvocation(),
                kind.bytesPerParameter() * parameters,
                0,
                parameters);
    }

    /** What memory allows the optimizers of a CPU in the group of these parameters. */
    static BenchmarkCase roof(TimedDevice device, int parameters, int tensors, int threads) {
        Map<String, String> values = new LinkedHashMap<>();
        values.put("elements", Integer.toString(parameters));
        values.put("threads", Integer.toString(threads));
        return new BenchmarkCase(
                optimizerGroup(device, parameters, tensors, threads),
                ROOF,
                MemoryBenchmark.class.getName() + ".update",
                values,
                1,
                MemoryBenchmark.BYTES_PER_ELEMENT * (double) parameters,
                0,
                parameters);
    }

    private static String optimizerGroup(
            TimedDevice device, int parameters, int tensors, int threads) {
        return "AdamW step, %s, %d fp32 parameters%s%s"
                .formatted(
                        device.name(),
                        parameters,
                        tensors > 1 ? " in %d tensors".formatted(tensors) : "",
                        device.kind() == DeviceKind.CPU ? ", threads " + threads : "");
    }

    static BenchmarkCase linear(Implementation implementation, LinearCase layer) {
        String shape = layer.inFeatures() + "x" + layer.outFeatures();
        Map<String, String> parameters = new LinkedHashMap<>();
        parameters.put("implementation", implementation.label());
        parameters.put("device", layer.device().name());
        parameters.put("shape", shape);
        parameters.put("rows", Integer.toString(layer.rows()));
        parameters.put("dtype", layer.dtype().name());
        parameters.put("threads", Integer.toString(layer.threads()));
        parameters.put("coldBytes", Long.toString(layer.coldBytes()));
        String threads = layer.threads() == 0 ? "" : ", threads " + layer.threads();
        String temperature = layer.coldBytes() == 0 ? ", hot weights" : "";
        return new BenchmarkCase(
                "linear %s, %s, m=%d, %s%s%s"
                        .formatted(
                                layer.device().name(),
                                shape,
                                layer.rows(),
                                layer.dtype(),
                                threads,
                                temperature),
                implementation.label(),
                LinearBenchmark.class.getName() + ".multiply",
                parameters,
                layer.device().runsPerInvocation(),
                layer.bytesMoved(implementation.weightBytes(layer)),
                layer.flops(),
                0);
    }
}
