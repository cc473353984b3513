package dev.tarpon.ffi;

import java.io.IOException;
import java.lang.foreign.AddressLayout;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.GroupLayout;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.SequenceLayout;
import java.lang.foreign.ValueLayout;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Stream;

/**
 * What a binding of tarpon.h says, entry by entry, in the words of native/test/abi_dump.c: made
 * from the classes of the shipped binding, from those that jextract generates (both have the same
 * shape), and from the output of the C program. Signs are left out, since Java's integers have none
 * to say, and so are target layouts of pointers.
 *
 * @param entries such as "function tarpon_abi_version" to "i32 void"
 */
record BindingDescription(Map<String, String> entries) {

    /** Describes the classes tarpon* of a package, whose class files are in {@code folder}. */
    static BindingDescription ofClasses(Path folder, String packageName, ClassLoader loader)
            throws IOException, ReflectiveOperationException {
        List<String> names;
        try (Stream<Path> files = Files.list(folder)) {
            names =
                    files.map(file -> file.getFileName().toString())
                            .filter(name -> name.matches("tarpon.*\\.class"))
                            .map(name -> name.substring(0, name.length() - ".class".length()))
                            .toList();
        }
        Map<String, String> entries = new TreeMap<>();
        for (String name : names) {
            describe(loader.loadClass(packageName + "." + name), entries);
        }
        return new BindingDescription(entries);
    }

    /** Reads the lines that abi_dump prints. */
    static BindingDescription ofDump(List<String> lines) {
        Map<String, String> entries = new TreeMap<>();
        for (String line : lines) {
            // The key is the kind and the name, for a field also the name of its struct.
            int keyWords = line.startsWith("field ") ? 3 : 2;
            String[] words = line.split(" ");
            String key = String.join(" ", List.of(words).subList(0, keyWords));
            String value = String.join(" ", List.of(words).subList(keyWords, words.length));
            entries.put(key, value.replaceAll("\\bu(8|16|32|64)\\b", "i$1"));
        }
        return new BindingDescription(entries);
    }

    /** The entries of these functions, structs and constants. */
    BindingDescription only(Set<String> names) {
        Map<String, String> kept = new TreeMap<>(entries);
        kept.keySet().removeIf(key -> !names.contains(key.split(" ")[1]));
        return new BindingDescription(kept);
    }

    /** One line for each entry that the two do not share. */
    List<String> differences(String thisName, BindingDescription other, String otherName) {
        TreeMap<String, String> all = new TreeMap<>(entries);
        all.putAll(other.entries);
        List<String> differences = new ArrayList<>();
        for (String key : all.keySet()) {
            String mine = entries.getOrDefault(key, "absent");
            String theirs = other.entries.getOrDefault(key, "absent");
            if (!mine.equals(theirs)) {
                differences.add(
                        "%s: %s says [%s], %s says [%s]"
                                .formatted(key, thisName, mine, otherName, theirs));
            }
        }
        return differences;
    }

    private static void describe(Class<?> type, Map<String, String> entries)
            throws ReflectiveOperationException {
        for (Field field : type.getDeclaredFields()) {
            if (!Modifier.isStatic(field.getModifiers())) {
                continue;
            }
            if (field.getType() == int.class && field.getName().startsWith("TARPON_")) {
                field.setAccessible(true);
                entries.put("constant " + field.getName(), String.valueOf(field.getInt(null)));
            }
            if (field.getType() == FunctionDescriptor.class && field.getName().equals("DESC")) {
                field.setAccessible(true);
                String function = type.getName().substring(type.getName().lastIndexOf('$') + 1);
                entries.put(
                        "function " + function, signature((FunctionDescriptor) field.get(null)));
            }
        }
        for (Method method : type.getDeclaredMethods()) {
            if (method.getName().equals("layout") && method.getParameterCount() == 0) {
                describe(type.getSimpleName(), (GroupLayout) method.invoke(null), entries);
            }
        }
    }

    private static void describe(String struct, GroupLayout layout, Map<String, String> entries) {
        entries.put("struct " + struct, layout.byteSize() + " " + layout.byteAlignment());
        long offset = 0;
        for (MemoryLayout member : layout.memberLayouts()) {
            if (member.name().isPresent()) { // padding has no name
                entries.put(
                        "field %s %s".formatted(struct, member.name().get()),
                        "%d %d %s".formatted(offset, member.byteSize(), typeName(member)));
            }
            offset += member.byteSize();
        }
    }

    private static String signature(FunctionDescriptor descriptor) {
        List<String> words = new ArrayList<>();
        words.add(descriptor.returnLayout().map(BindingDescription::typeName).orElse("void"));
        descriptor.argumentLayouts().forEach(layout -> words.add(typeName(layout)));
        if (descriptor.argumentLayouts().isEmpty()) {
            words.add("void");
        }
        return String.join(" ", words);
    }

    private static String typeName(MemoryLayout layout) {
        return switch (layout) {
            case AddressLayout _ -> "pointer";
            case ValueLayout.OfFloat _ -> "f32";
            case ValueLayout.OfDouble _ -> "f64";
            case ValueLayout value -> "i" + 8 * value.byteSize();
            case SequenceLayout sequence
                    when sequence.elementLayout() instanceof ValueLayout.OfByte ->
                    "char[]";
            case SequenceLayout sequence when sequence.elementLayout() instanceof AddressLayout ->
                    "pointer[]";
            default -> layout.toString();
        };
    }
}
