package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** One layer, many threads: every thread gets the result that it would get alone. */
class ConcurrencyTest {
    private static final int THREADS = 4;

    @ParameterizedTest
    @CsvSource({
        "cpu,false,200",
        "cpu,true,200",
        "sim,false,3",
        "sim,true,3",
        "cuda,false,200",
        "cuda,true,200"
    })
    void threadsShareALayer(String spec, boolean shareStream, int runs) throws Exception {
        try (Device device = TestDevices.open(spec);
                ExecutorService threads = Executors.newFixedThreadPool(THREADS);
                Stream shared = device.createStream()) {
            LinearCase layer = LinearCase.random(THREADS * 16, 200, 96, 128, DType.F16, 5);
            try (QuantizedLinear linear =
                    QuantizedLinear.create(device, layer.weights, DType.F16)) {
                List<Callable<float[]>> tasks = new ArrayList<>();
                List<float[]> alone = new ArrayList<>();
                for (int thread = 0; thread < THREADS; thread++) {
                    int rows = 1 + 16 * thread; // so that the shared workspace has to grow
                    float[] x = java.util.Arrays.copyOf(layer.x, rows * layer.in);
                    tasks.add(
                            () ->
                                    shareStream
                                            ? runs(linear, x, rows, shared, runs)
                                            : runsOnOwnStream(linear, x, rows, runs));
                    alone.add(runsOnOwnStream(linear, x, rows, 1));
                }
                List<Future<float[]>> together = threads.invokeAll(tasks);
                for (int thread = 0; thread < THREADS; thread++) {
                    assertArrayEquals(
                            alone.get(thread), together.get(thread).get(), "thread " + thread);
                }
            }
        }
    }

    private static float[] runsOnOwnStream(QuantizedLinear linear, float[] x, int rows, int runs) {
        try (Stream stream = linear.device().createStream()) {
            return runs(linear, x, rows, stream, runs);
        }
    }

    private static float[] runs(
            QuantizedLinear linear, float[] input, int rows, Stream stream, int runs) {
        Device device = linear.device();
        try (Tensor x = device.allocate(DType.F16, rows, linear.inFeatures()).copyFrom(input);
                Tensor y = device.allocate(DType.F16, rows, linear.outFeatures())) {
            float[] first = null;
            for (int run = 0; run < runs; run++) {
                linear.forward(x, y, stream);
                float[] result = y.toFloatArray();
                if (first != null) {
                    assertArrayEquals(first, result, "run " + run);
                }
                first = result;
            }
            return first;
        }
    }
}
