package dev.tarpon.ffi;

import dev.tarpon.TestPaths;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The names that tarpon.h declares, by its sections. Sections of operations that have no Java API
 * are not bound; C tests cover them.
 */
record Header(Map<String, String> sections) {
    private static final Set<String> BOUND =
            Set.of(
                    "Versions",
                    "Status",
                    "Element types",
                    "Devices",
                    "Streams",
                    "Memory",
                    "4-bit weights on the host",
                    "Linear: y = x * W with quantised W",
                    "Hadamard transform",
                    "Block-wise quantisation",
                    "Optimizers",
                    "KV cache in 2 to 16 bits");
    private static final Pattern SECTION = Pattern.compile("/\\* -{4} (.+?) -+ \\*/");
    private static final Pattern COMMENT = Pattern.compile("/\\*.*?\\*/", Pattern.DOTALL);

    static Path path() {
        return TestPaths.root().resolve("native/include/tarpon.h");
    }

    static Header read() throws IOException {
        String text = Files.readString(path());
        Map<String, String> sections = new TreeMap<>();
        Matcher matcher = SECTION.matcher(text);
        String title = null;
        int begin = 0;
        while (matcher.find()) {
            if (title != null) {
                sections.put(title, text.substring(begin, matcher.start()));
            }
            title = matcher.group(1);
            begin = matcher.end();
        }
        sections.put(title, text.substring(begin));
        if (!sections.keySet().containsAll(BOUND)) {
            throw new IllegalStateException(
                    "tarpon.h has the sections %s, not all of %s"
                            .formatted(sections.keySet(), BOUND));
        }
        return new Header(sections);
    }

    List<String> unboundSections() {
        List<String> unbound = new ArrayList<>(sections.keySet());
        unbound.removeAll(BOUND);
        return unbound;
    }

    Set<String> functions() {
        return matches("TARPON_API[^;]*?\\b(tarpon_\\w+)\\(");
    }

    Set<String> structs() {
        return matches("typedef struct (tarpon_\\w+) \\{");
    }

    Set<String> constants() {
        Set<String> constants = matches("\\b(TARPON_\\w+) = ");
        constants.addAll(matches("#define (TARPON_\\w+) [0-9]"));
        return constants;
    }

    /** All of these. */
    Set<String> names() {
        Set<String> names = functions();
        names.addAll(structs());
        names.addAll(constants());
        return names;
    }

    private Set<String> matches(String regex) {
        Pattern pattern = Pattern.compile(regex);
        Set<String> found = new TreeSet<>();
        for (String section : BOUND) {
            String code = COMMENT.matcher(sections.get(section)).replaceAll("");
            Matcher matcher = pattern.matcher(code);
            while (matcher.find()) {
                found.add(matcher.group(1));
            }
        }
        return found;
    }
}
