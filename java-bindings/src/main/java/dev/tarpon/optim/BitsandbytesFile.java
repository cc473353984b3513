package dev.tarpon.optim;

import dev.tarpon.CodeMap;
import dev.tarpon.Tensor;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.Names;
import dev.tarpon.format.SafetensorsFile;
import dev.tarpon.format.Shapes;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.UnaryOperator;

/**
 * The state of a bitsandbytes optimizer: for each parameter {@code KEY.state1}, {@code KEY.step}
 * and, by rule and format, {@code state2}, {@code absmax1}, {@code absmax2}, {@code qmap1}, {@code
 * qmap2}. AdEMAMix stacks its two first moments in state1. Blocks are of 256 elements, as ours are;
 * earlier releases of bitsandbytes had blocks of 2048, which a file shows by its count of scales.
 * LAMB has {@code unorm_vec}, too.
 */
final class BitsandbytesFile {
    private static final int BLOCK = 256;

    /** Maps are equal if they differ by less than how releases compute them; codes lie 1% apart. */
    private static final double MAP_TOLERANCE = 1e-6;

    private static final ValueLayout.OfFloat FLOAT =
            ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfInt INT =
            ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfLong LONG =
            ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    /** Rules whose states mean the same there. LARS' momentum holds no learning rate there. */
    private static final Set<UpdateRule> RULES =
            EnumSet.of(
                    UpdateRule.ADAM,
                    UpdateRule.ADAMW,
                    UpdateRule.SGD,
                    UpdateRule.RMSPROP,
                    UpdateRule.ADAGRAD,
                    UpdateRule.LION,
                    UpdateRule.ADEMAMIX,
                    UpdateRule.LAMB);

    private static final Set<UpdateRule> SECOND_MOMENTS_FIRST =
            EnumSet.of(UpdateRule.RMSPROP, UpdateRule.ADAGRAD);

    private final String source;
    private final UpdateRule rule;
    private final Map<String, HostTensor> left = new LinkedHashMap<>();
    private final Map<CodeMap, float[]> maps = new EnumMap<>(CodeMap.class);

    /** What goes where, once everything is known to fit. */
    private record Copy(MemorySegment from, Tensor to) {}

    private final List<Copy> copies = new ArrayList<>();

    private BitsandbytesFile(String source, UpdateRule rule, SafetensorsFile file) {
        this.source = source;
        this.rule = rule;
        file.tensors().forEach(tensor -> left.put(tensor.name(), tensor));
    }

    static void load(Optimizer optimizer, Path path, UnaryOperator<String> keys)
            throws IOException {
        try (SafetensorsFile file = SafetensorsFile.open(path)) {
            var reader = new BitsandbytesFile(path.toString(), optimizer.rule(), file);
            long steps = reader.read(optimizer.states(), keys);
            for (Copy copy : reader.copies) {
                copy.to().copyFrom(copy.from());
            }
            optimizer.restore(new OptimizerCounters(steps, 0, 0, 0));
        }
    }

    /** Fills {@link #copies}; returns the steps, of which all parameters have as many. */
    private long read(List<ParameterState> states, UnaryOperator<String> keys)
            throws FormatException {
        if (!RULES.contains(rule)) {
            throw failure(
                    "states of %s mean something else there; it can be %s".formatted(rule, RULES));
        }
        String first = null;
        long steps = 0;
        for (ParameterState state : states) {
            String key = keys.apply(state.parameter().name());
            long count = steps(take(key + ".step"));
            if (first != null && count != steps) {
                throw failure(
                        "%s has taken %d steps and %s %d; here all take the same"
                                .formatted(Names.quote(first), steps, Names.quote(key), count));
            }
            first = key;
            steps = count;
            readStates(key, state);
        }
        for (String foreign : left.keySet()) {
            throw failure("tensor %s has no counterpart here".formatted(Names.quote(foreign)));
        }
        return steps;
    }

    private void readStates(String key, ParameterState state) throws FormatException {
        if (state.format() == StateFormat.FP8) {
            throw failure(
                    "parameter %s has states in FP8, which bitsandbytes has not"
                            .formatted(Names.quote(state.parameter().name())));
        }
        if (rule == UpdateRule.ADEMAMIX) {
            readNumbered(key, "1", state, 0, 2, CodeMap.DYNAMIC_SIGNED);
            readNumbered(key, "2", state, 2, 1, CodeMap.DYNAMIC_UNSIGNED);
            return;
        }
        CodeMap firstMap =
                SECOND_MOMENTS_FIRST.contains(rule)
                        ? CodeMap.DYNAMIC_UNSIGNED
                        : CodeMap.DYNAMIC_SIGNED;
        if (rule == UpdateRule.LAMB) {
            left.remove(key + ".unorm_vec"); // room for a norm, made anew by every step
        }
        readNumbered(key, "1", state, 0, 1, firstMap);
        if (rule.slots().size() == 2) {
            readNumbered(key, "2", state, 1, 1, CodeMap.DYNAMIC_UNSIGNED);
        }
    }

    /** Reads state1 or state2, which has {@code count} slots one after the other. */
    private void readNumbered(
            String key, String number, ParameterState state, int slot, int count, CodeMap map)
            throws FormatException {
        boolean quantized = state.format() == StateFormat.DYNAMIC8;
        long[] shape = state.parameter().value().shape();
        HostTensor values = take(key + ".state" + number);
        requireShape(
                values,
                quantized ? ElementType.U8 : ElementType.F32,
                count == 1 ? shape : stacked(count, shape));
        split(values, state.states().subList(slot, slot + count));
        if (!quantized) {
            return;
        }
        HostTensor absmax = take(key + ".absmax" + number);
        long n = state.parameter().value().size();
        long blocks = (n + BLOCK - 1) / BLOCK;
        if (absmax.elements() != count * blocks) {
            throw failure(
                    ("tensor %s is %s; %d elements in blocks of %d have %d scales. States in other"
                                    + " blocks are not converted")
                            .formatted(
                                    Names.quote(absmax.name()),
                                    absmax.description(),
                                    n,
                                    BLOCK,
                                    count * blocks));
        }
        requireShape(
                absmax,
                ElementType.F32,
                count == 1 ? new long[] {blocks} : new long[] {count, blocks});
        split(absmax, state.absmax().subList(slot, slot + count));
        requireMap(take(key + ".qmap" + number), map);
    }

    private void split(HostTensor from, List<Tensor> to) {
        long offset = 0;
        for (Tensor tensor : to) {
            copies.add(new Copy(from.data().asSlice(offset, tensor.sizeBytes()), tensor));
            offset += tensor.sizeBytes();
        }
    }

    private void requireMap(HostTensor qmap, CodeMap map) throws FormatException {
        float[] expected = maps.computeIfAbsent(map, CodeMap::codebook);
        requireShape(qmap, ElementType.F32, expected.length);
        for (int code = 0; code < expected.length; code++) {
            float found = qmap.data().get(FLOAT, (long) Float.BYTES * code);
            double difference = Math.abs((double) found - expected[code]);
            if (!(difference <= MAP_TOLERANCE * Math.abs(expected[code]))) {
                throw failure(
                        ("tensor %s maps code %d to %s; states of %s are kept by %s, which maps it"
                                        + " to %s. States in 32 bits have no map")
                                .formatted(
                                        Names.quote(qmap.name()),
                                        code,
                                        found,
                                        rule,
                                        map,
                                        expected[code]));
            }
        }
    }

    private long steps(HostTensor step) throws FormatException {
        double value = Double.NaN;
        if (step.elements() == 1) {
            value =
                    switch (step.type()) {
                        case I64 -> step.data().get(LONG, 0);
                        case I32 -> step.data().get(INT, 0);
                        case F32 -> step.data().get(FLOAT, 0);
                        default -> Double.NaN;
                    };
        }
        if (!(value >= 0) || value != Math.rint(value) || value > 1L << 53) {
            throw failure(
                    "tensor %s is %s; it must be a count of steps"
                            .formatted(
                                    Names.quote(step.name()),
                                    Double.isNaN(value) ? step.description() : value));
        }
        return (long) value;
    }

    private void requireShape(HostTensor tensor, ElementType type, long... shape)
            throws FormatException {
        if (tensor.type() != type || !Arrays.equals(tensor.shape(), shape)) {
            throw failure(
                    "tensor %s is %s; the optimizer's is %s %s"
                            .formatted(
                                    Names.quote(tensor.name()),
                                    tensor.description(),
                                    type,
                                    Shapes.text(shape)));
        }
    }

    private static long[] stacked(int count, long[] shape) {
        long[] all = new long[shape.length + 1];
        all[0] = count;
        System.arraycopy(shape, 0, all, 1, shape.length);
        return all;
    }

    private HostTensor take(String name) throws FormatException {
        HostTensor tensor = left.remove(name);
        if (tensor == null) {
            throw failure("tensor %s is missing".formatted(Names.quote(name)));
        }
        return tensor;
    }

    private FormatException failure(String detail) {
        return new FormatException(source, detail);
    }
}
