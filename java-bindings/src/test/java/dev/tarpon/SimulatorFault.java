package dev.tarpon;

import java.lang.foreign.MemorySegment;

/** A program for SimulatorFaultTest: runs a layer on memory that nobody has written. */
final class SimulatorFault {
    private SimulatorFault() {}

    public static void main(String[] args) {
        float[] weight = new float[64 * 128];
        QuantizedWeights weights =
                QuantizedWeights.quantize(MemorySegment.ofArray(weight), DType.F32, 64, 128, 128);
        try (Device device = Device.open("sim");
                Stream stream = device.createStream();
                QuantizedLinear linear = QuantizedLinear.create(device, weights, DType.F16);
                Tensor x = device.allocate(DType.F16, 1, 128);
                Tensor y = device.allocate(DType.F16, 1, 64)) {
            report("run", () -> linear.forward(x, y, stream));
            report("synchronize", stream::synchronize);
        }
        System.out.println("ended");
    }

    private static void report(String name, Runnable call) {
        try {
            call.run();
            System.out.println(name + ": fine");
        } catch (TarponException exception) {
            String firstLine = exception.getMessage().lines().findFirst().orElse("no message");
            System.out.println(name + ": " + exception.status() + ", " + firstLine);
        }
    }
}
