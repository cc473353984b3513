package dev.tarpon.ffi;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

import java.nio.file.Path;
import java.util.List;

/** The comparison that the profile {@code jextract} makes, on hand-made classes. */
class JextractSampleTest {
    private static BindingDescription sample(String name) throws Exception {
        Path classes = Path.of(tarpon_h.class.getResource("sample/" + name).toURI());
        return BindingDescription.ofClasses(
                classes, "dev.tarpon.ffi.sample." + name, tarpon_h.class.getClassLoader());
    }

    @Test
    void equalBindingsHaveNoDifferences() throws Exception {
        BindingDescription shipped = sample("shipped");
        assertEquals(8, shipped.entries().size(), shipped::toString);
        assertEquals(List.of(), shipped.differences("shipped", sample("generated"), "generated"));
    }

    @Test
    void everyDifferenceIsNamed() throws Exception {
        List<String> differences =
                sample("shipped").differences("shipped", sample("differing"), "jextract");
        assertEquals(
                List.of(
                        "constant TARPON_SAMPLE_LIMIT: shipped says [7], jextract says [8]",
                        "field tarpon_sample_info reserved: shipped says [absent], jextract says"
                                + " [4 4 i32]",
                        "function tarpon_sample_close: shipped says [void pointer], jextract says"
                                + " [absent]",
                        "function tarpon_sample_destroy: shipped says [absent], jextract says"
                                + " [void pointer]",
                        "function tarpon_sample_run: shipped says [i32 pointer i64], jextract says"
                                + " [i32 pointer i32]"),
                differences);
    }
}
