package dev.tarpon.ffi;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.TestPaths;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestReporter;

import java.io.IOException;
import java.lang.foreign.GroupLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;

/**
 * The binding against the header, the C compiler and the library: every constant, struct, field and
 * signature is the same, and every function is exported.
 */
class BindingTest {
    static BindingDescription shippedBinding() throws Exception {
        Path classes =
                Path.of(tarpon_h.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        return BindingDescription.ofClasses(
                classes.resolve("dev/tarpon/ffi"),
                "dev.tarpon.ffi",
                tarpon_h.class.getClassLoader());
    }

    private static BindingDescription cView() throws IOException, InterruptedException {
        Path program = TestPaths.nativeBuild().resolve("test/tarpon_abi_dump");
        assertTrue(Files.isExecutable(program), program + " is not built");
        Process process = new ProcessBuilder(program.toString()).start();
        List<String> lines = process.inputReader().lines().toList();
        assertEquals(0, process.waitFor(), "exit status of " + program);
        return BindingDescription.ofDump(lines);
    }

    private static Set<String> names(BindingDescription description, String kind) {
        return description.entries().keySet().stream()
                .filter(key -> key.startsWith(kind + " "))
                .map(key -> key.substring(kind.length() + 1))
                .collect(Collectors.toCollection(TreeSet::new));
    }

    @Test
    void bindingEqualsTheCompilersView() throws Exception {
        assertEquals(
                List.of(), shippedBinding().differences("the binding", cView(), "the C compiler"));
    }

    /** The C program names what it prints, so it could miss something new. */
    @Test
    void nothingOfTheBoundSectionsIsMissing(TestReporter reporter) throws Exception {
        Header header = Header.read();
        BindingDescription dump = cView();
        assertEquals(header.functions(), names(dump, "function"));
        assertEquals(header.structs(), names(dump, "struct"));
        assertEquals(header.constants(), names(dump, "constant"));
        reporter.publishEntry(
                "sections of tarpon.h without a Java API", header.unboundSections().toString());
    }

    /** Every byte of a struct belongs to a field, so that no field of the header is missing. */
    @Test
    void structsHaveNoHoles() {
        for (GroupLayout layout :
                List.of(
                        tarpon_device_options.layout(),
                        tarpon_device_info.layout(),
                        tarpon_linear_desc.layout(),
                        tarpon_linear_weights.layout(),
                        tarpon_linear_info.layout(),
                        tarpon_optim_tensor.layout(),
                        tarpon_optim_desc.layout(),
                        tarpon_optim_step_args.layout(),
                        tarpon_optim_counters.layout(),
                        tarpon_optim_info.layout(),
                        tarpon_kv_desc.layout(),
                        tarpon_kv_info.layout(),
                        tarpon_kv_calibration.layout(),
                        tarpon_kv_append_args.layout(),
                        tarpon_kv_attend_args.layout(),
                        tarpon_kv_dequantize_args.layout())) {
            assertTrue(
                    layout.memberLayouts().stream().allMatch(member -> member.name().isPresent()),
                    layout::toString);
        }
    }

    @Test
    void everyFunctionIsExported() throws Exception {
        NativeLibrary library = NativeLibrary.get();
        for (String function : names(shippedBinding(), "function")) {
            assertTrue(library.symbols().find(function).isPresent(), function);
        }
    }

    @Test
    void libraryAndBindingAgreeOnTheAbiVersion() {
        assertEquals(tarpon_h.TARPON_ABI_VERSION, tarpon_h.tarpon_abi_version());
    }
}
