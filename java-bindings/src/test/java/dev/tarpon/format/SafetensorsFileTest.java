package dev.tarpon.format;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** What the safetensors reader accepts, and what it says about what it refuses. */
class SafetensorsFileTest {
    @TempDir Path folder;

    @Test
    void test_safetensors_round_trip_keeps_every_bit() throws IOException {
        Path path = folder.resolve("round-trip.safetensors");
        try (Arena arena = Arena.ofConfined()) {
            HostTensor floats = HostTensor.ofFloats(arena, "a", new float[] {1, -2, 0.5f}, 3);
            byte[] odd = {1, 2, 3, 4, 5};
            var bytes = new HostTensor("b", ElementType.U8, new long[] {5}, segment(arena, odd));
            byte[] halves = {0x00, 0x3c, 0x00, (byte) 0xc0};
            var half =
                    new HostTensor("c", ElementType.F16, new long[] {2, 1}, segment(arena, halves));
            var empty = new HostTensor("d", ElementType.F32, new long[] {0, 7}, segment(arena));
            var scalar =
                    new HostTensor("e", ElementType.I8, new long[] {}, segment(arena, (byte) 9));
            new SafetensorsWriter()
                    .add(bytes)
                    .add(half)
                    .add(empty)
                    .add(scalar)
                    .add(floats)
                    .metadata("k", "v \"quoted\" \u00e9")
                    .write(path);
        }
        try (SafetensorsFile file = SafetensorsFile.open(path)) {
            assertEquals(Map.of("k", "v \"quoted\" \u00e9"), file.metadata());
            assertEquals(5, file.tensors().size());
            assertArrayEquals(new float[] {1, -2, 0.5f}, file.find("a").orElseThrow().toFloats());
            assertArrayEquals(new float[] {1, -2}, file.find("c").orElseThrow().toFloats());
            assertArrayEquals(new long[] {0, 7}, file.find("d").orElseThrow().shape());
            assertEquals(0, file.find("e").orElseThrow().rank());
            for (HostTensor tensor : file.tensors()) {
                assertEquals(
                        0,
                        tensor.data().address() % tensor.type().bytes(),
                        () -> tensor.name() + " is aligned to its elements");
            }
        }
    }

    @Test
    void test_safetensors_data_is_gone_after_close() throws IOException {
        Path path =
                write(header("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}"), 1);
        SafetensorsFile file = SafetensorsFile.open(path);
        MemorySegment data = file.find("a").orElseThrow().data();
        file.close();
        file.close();
        assertThrows(IllegalStateException.class, () -> data.get(ValueLayout.JAVA_BYTE, 0));
    }

    static List<Arguments> malformed() {
        var cases = new ArrayList<Arguments>();
        // name, header, bytes of data, what the message must contain
        cases.add(bad("not json", "nonsense", 0, "not valid JSON"));
        cases.add(bad("array", "[]", 0, "expected OBJECT"));
        cases.add(bad("unclosed", "{\"a\":{\"dtype\":\"U8\"", 0, "not valid JSON"));
        cases.add(bad("trailing", "{} x", 0, "not valid JSON"));
        cases.add(bad("two values", "{}{}", 0, "JSON"));
        cases.add(bad("unknown dtype", tensor("F31", "[1]", "[0,4]"), 4, "unknown dtype 'F31'"));
        cases.add(bad("lower case dtype", tensor("f32", "[1]", "[0,4]"), 4, "unknown dtype 'f32'"));
        cases.add(bad("negative shape", tensor("U8", "[-1]", "[0,1]"), 1, "-1 is not"));
        cases.add(bad("fractional shape", tensor("U8", "[1.0]", "[0,1]"), 1, "1.0 is not"));
        cases.add(bad("exponent shape", tensor("U8", "[1e3]", "[0,1]"), 1, "1e3 is not"));
        cases.add(bad("quoted shape", tensor("U8", "[\"1\"]", "[0,1]"), 1, "found STRING"));
        cases.add(
                bad(
                        "overflowing number",
                        tensor("U8", "[99999999999999999999]", "[0,1]"),
                        1,
                        "99999999999999999999 is too large"));
        cases.add(
                bad(
                        "overflowing shape",
                        tensor("F32", "[4611686018427387904,4]", "[0,4]"),
                        4,
                        "[4611686018427387904, 4] is larger than any file"));
        cases.add(bad("too small", tensor("F32", "[2]", "[0,4]"), 4, "needs 8 bytes"));
        cases.add(bad("three offsets", tensor("U8", "[1]", "[0,1,2]"), 1, "more than 2"));
        cases.add(bad("one offset", tensor("U8", "[1]", "[1]"), 1, "must be two numbers"));
        cases.add(bad("backwards", tensor("U8", "[1]", "[1,0]"), 1, "[1, 0] run backwards"));
        cases.add(bad("beyond", tensor("U8", "[9]", "[0,9]"), 4, "reach beyond the 4 bytes"));
        cases.add(bad("gap at start", tensor("U8", "[1]", "[1,2]"), 2, "leave a gap"));
        cases.add(bad("bytes left", tensor("U8", "[1]", "[0,1]"), 2, "2 bytes of data follow"));
        cases.add(bad("no tensors but data", "{}", 3, "3 bytes of data follow"));
        cases.add(bad("missing shape", "{\"a\":{\"dtype\":\"U8\"}}", 0, "shape is missing"));
        cases.add(bad("null entry", "{\"a\":null}", 0, "found NULL"));
        cases.add(
                bad(
                        "unknown key",
                        "{\"a\":{\"dtype\":\"U8\",\"strides\":[1]}}",
                        0,
                        "unknown key 'strides'"));
        cases.add(
                bad(
                        "key twice",
                        "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}",
                        0,
                        "dtype appears twice"));
        String a = "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}";
        cases.add(bad("name twice", "{" + a + "," + a + "}", 1, "'a' appears twice"));
        cases.add(
                bad(
                        "overlap",
                        "{" + a + ",\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
                        1,
                        "overlap tensor 'a'"));
        cases.add(bad("metadata number", "{\"__metadata__\":{\"k\":1}}", 0, "found NUMBER"));
        cases.add(
                bad(
                        "metadata key twice",
                        "{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}",
                        0,
                        "'k' appears twice"));
        cases.add(
                bad(
                        "metadata twice",
                        "{\"__metadata__\":{},\"__metadata__\":{}}",
                        0,
                        "__metadata__ appears twice"));
        cases.add(bad("terminal escape", "{\"\\u001b[2J\":null}", 0, "'\\u001b[2J'"));
        cases.add(
                bad(
                        "many dimensions",
                        tensor("U8", "[1" + ",1".repeat(64) + "]", "[0,1]"),
                        1,
                        "more than 64"));
        return cases;
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("malformed")
    void test_safetensors_refuses_with_the_values(
            String name, String header, int dataBytes, String message) throws IOException {
        Path path = write(header(header), dataBytes);
        var failure = assertThrows(SafetensorsException.class, () -> SafetensorsFile.open(path));
        assertTrue(
                failure.getMessage().contains(message),
                () -> "expected \"" + message + "\" in: " + failure.getMessage());
        assertTrue(failure.getMessage().startsWith(path.toString()), failure.getMessage());
    }

    @Test
    void test_safetensors_refuses_lying_header_lengths() throws IOException {
        long[] lengths = {3, 100, Integer.MAX_VALUE, 1L << 40, Long.MAX_VALUE, Long.MIN_VALUE, -1};
        for (long length : lengths) {
            byte[] bytes =
                    ByteBuffer.allocate(10).order(ByteOrder.LITTLE_ENDIAN).putLong(length).array();
            Path path = Files.write(folder.resolve("lying.safetensors"), bytes);
            var failure =
                    assertThrows(SafetensorsException.class, () -> SafetensorsFile.open(path));
            assertTrue(
                    failure.getMessage().contains(Long.toUnsignedString(length)),
                    failure.getMessage());
        }
    }

    @Test
    void test_safetensors_refuses_invalid_utf8() throws IOException {
        byte[] text = "{\"a\":null}".getBytes(StandardCharsets.ISO_8859_1);
        text[2] = (byte) 0xff;
        Path path = write(text, 0);
        var failure = assertThrows(SafetensorsException.class, () -> SafetensorsFile.open(path));
        assertTrue(failure.getMessage().contains("UTF-8"), failure.getMessage());
    }

    @Test
    void test_safetensors_refuses_short_files_and_folders() throws IOException {
        for (int size = 0; size < 8; size++) {
            Path path = Files.write(folder.resolve("short.safetensors"), new byte[size]);
            var failure =
                    assertThrows(SafetensorsException.class, () -> SafetensorsFile.open(path));
            assertTrue(
                    failure.getMessage().contains("file of " + size + " bytes"),
                    failure.getMessage());
        }
        assertThrows(SafetensorsException.class, () -> SafetensorsFile.open(folder));
    }

    private static Arguments bad(String name, String header, int dataBytes, String message) {
        return Arguments.of(name, header, dataBytes, message);
    }

    private static String tensor(String dtype, String shape, String offsets) {
        return "{\"a\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":%s}}"
                .formatted(dtype, shape, offsets);
    }

    private static byte[] header(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static MemorySegment segment(Arena arena, byte... bytes) {
        return arena.allocate(Math.max(1, bytes.length), 8)
                .asSlice(0, bytes.length)
                .copyFrom(MemorySegment.ofArray(bytes));
    }

    private Path write(byte[] header, int dataBytes) throws IOException {
        ByteBuffer file =
                ByteBuffer.allocate(8 + header.length + dataBytes).order(ByteOrder.LITTLE_ENDIAN);
        file.putLong(header.length).put(header);
        return Files.write(folder.resolve("case.safetensors"), file.array());
    }
}
