package dev.tarpon.quant.format;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.format.HostTensor;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** Reading ONNX initializers and tracing linear weights to their layers. */
class OnnxFileTest {
    @TempDir Path folder;

    @Test
    void test_onnx_linears_are_named_after_their_layers() throws IOException {
        try (OnnxFile file = open(OnnxBytes.twoLayerModel())) {
            assertEquals(3, file.initializers().size());
            assertEquals("test", file.metadata().get("producer_name"));
            List<OnnxLinears.Weight> linears = OnnxLinears.find(file);
            assertEquals(2, linears.size());
            assertEquals("first.weight", linears.get(0).name());
            assertEquals("onnx::MatMul_7", linears.get(0).weight().name());
            assertEquals(false, linears.get(0).outFeaturesFirst());
            assertArrayEquals(new float[] {1, 2, 3, 4, 5, 6}, linears.get(0).weight().toFloats());
            assertEquals("second.weight", linears.get(1).name());
            assertEquals(true, linears.get(1).outFeaturesFirst());
        }
    }

    @Test
    void test_onnx_weight_without_bias_is_named_after_its_node() throws IOException {
        OnnxBytes graph =
                OnnxBytes.message()
                        .message(
                                1,
                                OnnxBytes.node(
                                        "MatMul",
                                        "/block.3/proj/MatMul",
                                        "y",
                                        "x",
                                        "onnx::MatMul_1"))
                        .message(5, OnnxBytes.floats("onnx::MatMul_1", new float[2], 2, 1));
        try (OnnxFile file = open(OnnxBytes.model(graph))) {
            assertEquals("block.3.proj.weight", OnnxLinears.find(file).getFirst().name());
        }
    }

    @Test
    void test_onnx_typed_data_is_read_packed_and_plain() throws IOException {
        // float_data (4) packed; int64_data (7) one by one; int32_data (5) narrowed to F16 bits.
        OnnxBytes floats =
                OnnxBytes.message()
                        .integer(1, 2)
                        .integer(2, 1)
                        .text(8, "f")
                        .bytes(4, new byte[] {0, 0, (byte) 0x80, 0x3f, 0, 0, 0, 0x40});
        OnnxBytes longs =
                OnnxBytes.message()
                        .integer(1, 2)
                        .integer(2, 7)
                        .text(8, "l")
                        .integer(7, 5)
                        .integer(7, -6);
        OnnxBytes halves =
                OnnxBytes.message().integer(1, 1).integer(2, 10).text(8, "h").integer(5, 0x3c00);
        OnnxBytes graph =
                OnnxBytes.message().message(5, floats).message(5, longs).message(5, halves);
        try (OnnxFile file = open(OnnxBytes.model(graph))) {
            assertArrayEquals(new float[] {1, 2}, file.find("f").orElseThrow().toFloats());
            assertArrayEquals(new float[] {1}, file.find("h").orElseThrow().toFloats());
            HostTensor l = file.find("l").orElseThrow();
            assertEquals(-6, l.data().get(ValueLayout.JAVA_LONG, 8));
        }
    }

    @Test
    void test_onnx_refuses_with_the_values() throws IOException {
        OnnxBytes tensor = OnnxBytes.floats("w", new float[3], 2, 2);
        assertRefused(graph(tensor), "F32 [2, 2] needs 16 bytes, but it holds 12");
        OnnxBytes huge = OnnxBytes.floats("w", new float[1], Long.MAX_VALUE, 3);
        assertRefused(graph(huge), "larger than any file");
        OnnxBytes negative = OnnxBytes.floats("w", new float[1], -5);
        assertRefused(graph(negative), "dimension 0 is -5");
        OnnxBytes strings = OnnxBytes.message().integer(2, 8).text(8, "w");
        assertRefused(graph(strings), "data type 8");
        OnnxBytes external = OnnxBytes.floats("w", new float[1], 1).integer(14, 1);
        assertRefused(graph(external), "another file");
        OnnxBytes one = OnnxBytes.floats("w", new float[1], 1);
        assertRefused(
                OnnxBytes.model(OnnxBytes.message().message(5, one).message(5, one)),
                "'w' appears twice");
        assertRefused(new byte[] {0x3a, 0x7f, 0}, "127 bytes are announced");
        assertRefused(new byte[] {0x08}, "announced");
        assertRefused(new byte[] {0x0b}, "wire type 3");
        assertRefused(new byte[] {0x08, 0x01}, "no graph");
        assertRefused(new byte[0], "empty");
    }

    private void assertRefused(byte[] bytes, String message) throws IOException {
        Path path = Files.write(folder.resolve("bad.onnx"), bytes);
        var failure = assertThrows(OnnxException.class, () -> OnnxFile.open(path).close());
        assertTrue(
                failure.getMessage().contains(message),
                () -> "expected \"" + message + "\" in: " + failure.getMessage());
    }

    private static byte[] graph(OnnxBytes tensor) {
        return OnnxBytes.model(OnnxBytes.message().message(5, tensor));
    }

    private OnnxFile open(byte[] bytes) throws IOException {
        return OnnxFile.open(Files.write(folder.resolve("model.onnx"), bytes));
    }
}
