package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.sun.management.ThreadMXBean;

import org.junit.jupiter.api.Test;

import java.lang.management.ManagementFactory;

/** The hot path leaves no garbage. */
class AllocationTest {
    private static final int RUNS = 2_000;

    @Test
    void forwardAllocatesNothingOnTheJavaHeap() {
        LinearCase layer = LinearCase.random(4, 128, 64, 128, DType.F16, 9);
        ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        // One worker: waking others for so small a layer is what would take the time.
        try (Device device = Device.open(DeviceKind.CPU, 0, new DeviceOptions(1));
                Stream stream = device.createStream();
                QuantizedLinear linear = QuantizedLinear.create(device, layer.weights, DType.F16);
                Tensor x = device.allocate(DType.F16, 4, 128).copyFrom(layer.x);
                Tensor y = device.allocate(DType.F16, 4, 64)) {
            // The interpreter and the compilers allocate in this thread until the loop is compiled,
            // which happens in the background: so measure until a round is clean.
            long allocated = Long.MAX_VALUE;
            for (int round = 0; round < 100 && allocated != 0; round++) {
                long before = threads.getCurrentThreadAllocatedBytes();
                for (int run = 0; run < RUNS; run++) {
                    linear.forward(x, y, 1 + run % 4, stream);
                }
                allocated = threads.getCurrentThreadAllocatedBytes() - before;
            }
            assertEquals(0, allocated, "bytes allocated by " + RUNS + " runs");
        }
    }
}
