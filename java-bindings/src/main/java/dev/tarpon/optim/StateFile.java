package dev.tarpon.optim;

import dev.tarpon.DType;
import dev.tarpon.Tensor;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.Names;
import dev.tarpon.format.SafetensorsFile;
import dev.tarpon.format.SafetensorsWriter;
import dev.tarpon.format.Shapes;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * An optimizer as a safetensors file: for each parameter and slot the state {@code NAME.SLOT} with
 * the parameter's shape, and {@code NAME.SLOT.absmax}; everything else is metadata. No two tensors
 * can have the same name, since no slot is called absmax.
 */
final class StateFile {
    private static final String KIND = "tarpon-optimizer-state";
    private static final String VERSION = "1";
    private static final String FORMAT_PREFIX = "state_format:";
    private static final String HYPER_PREFIX = "hyper:";

    private StateFile() {}

    /** A tensor of the device and what it is in a file. */
    private record Slot(String name, long[] shape, Tensor tensor) {
        ElementType type() {
            return tensor.dtype() == DType.F32 ? ElementType.F32 : ElementType.U8;
        }
    }

    static void save(Optimizer optimizer, Path file) throws IOException {
        OptimizerCounters counters = optimizer.counters(); // waits for the steps
        var writer = new SafetensorsWriter();
        writer.metadata("format", KIND).metadata("version", VERSION);
        writer.metadata("rule", optimizer.rule().name());
        writer.metadata("step", Long.toString(counters.step()));
        writer.metadata("skipped_steps", Long.toString(counters.skippedSteps()));
        writer.metadata("skipped_blocks", Long.toString(counters.skippedBlocks()));
        writer.metadata("grad_norm", Double.toString(counters.gradNorm()));
        optimizer
                .hyperparameters()
                .values()
                .forEach((key, value) -> writer.metadata(HYPER_PREFIX + key, value));
        for (ParameterState state : optimizer.states()) {
            writer.metadata(FORMAT_PREFIX + state.parameter().name(), state.format().name());
        }
        List<Slot> slots = slots(optimizer);
        long largest = slots.stream().mapToLong(slot -> slot.tensor().sizeBytes()).max().orElse(0);
        try (Arena arena = Arena.ofConfined()) {
            // The writer is done with a tensor's bytes before it asks for the next one's.
            MemorySegment staging = arena.allocate(Math.max(1, largest), Long.BYTES);
            for (Slot slot : slots) {
                writer.add(
                        slot.name(),
                        slot.type(),
                        slot.shape(),
                        () -> {
                            MemorySegment bytes = staging.asSlice(0, slot.tensor().sizeBytes());
                            slot.tensor().copyTo(bytes);
                            return bytes;
                        });
            }
            writer.write(file);
        }
    }

    static void load(Optimizer optimizer, Path path) throws IOException {
        try (SafetensorsFile file = SafetensorsFile.open(path)) {
            var reader = new Reader(path.toString(), file);
            reader.checkKind(optimizer.rule());
            OptimizerCounters counters = reader.counters();
            MemorySegment hyperparameters = reader.hyperparameters();
            reader.checkFormats(optimizer);
            List<Slot> slots = slots(optimizer);
            reader.checkTensors(slots);
            for (Slot slot : slots) {
                slot.tensor().copyFrom(file.find(slot.name()).orElseThrow().data());
            }
            optimizer.restore(counters);
            optimizer.hyperparameters().set(hyperparameters);
        }
    }

    private static List<Slot> slots(Optimizer optimizer) {
        List<Slot> slots = new ArrayList<>();
        for (ParameterState state : optimizer.states()) {
            Parameter parameter = state.parameter();
            for (int i = 0; i < state.states().size(); i++) {
                String name = parameter.name() + "." + optimizer.rule().slots().get(i);
                slots.add(new Slot(name, parameter.value().shape(), state.states().get(i)));
                if (!state.absmax().isEmpty()) {
                    Tensor absmax = state.absmax().get(i);
                    long[] shape = {absmax.size()};
                    if (state.format() == StateFormat.FP8) {
                        shape = new long[] {absmax.size() / 2, 2}; // {absmax, k} of each group
                    }
                    slots.add(new Slot(name + ".absmax", shape, absmax));
                }
            }
        }
        return slots;
    }

    /** A file under comparison with an optimizer. */
    private record Reader(String source, SafetensorsFile file) {
        void checkKind(UpdateRule rule) throws FormatException {
            require("format", KIND);
            require("version", VERSION);
            require("rule", rule.name());
        }

        private void require(String key, String expected) throws FormatException {
            String found = metadata(key);
            if (!found.equals(expected)) {
                throw failure(
                        "%s is %s; the optimizer takes %s"
                                .formatted(key, Names.quote(found), Names.quote(expected)));
            }
        }

        OptimizerCounters counters() throws FormatException {
            return new OptimizerCounters(
                    count("step"), count("skipped_steps"), count("skipped_blocks"), gradNorm());
        }

        private long count(String key) throws FormatException {
            String text = metadata(key);
            try {
                long count = Long.parseLong(text);
                if (count >= 0) {
                    return count;
                }
            } catch (NumberFormatException e) {
                throw new FormatException(source, notACount(key, text), e);
            }
            throw failure(notACount(key, text));
        }

        private static String notACount(String key, String text) {
            return "%s is %s, not a count".formatted(key, Names.quote(text));
        }

        private double gradNorm() throws FormatException {
            String text = metadata("grad_norm");
            try {
                return Double.parseDouble(text);
            } catch (NumberFormatException e) {
                throw new FormatException(
                        source, "grad_norm is %s, not a number".formatted(Names.quote(text)), e);
            }
        }

        MemorySegment hyperparameters() throws FormatException {
            try {
                return Hyperparameters.parse(withPrefix(HYPER_PREFIX));
            } catch (IllegalArgumentException e) {
                throw new FormatException(source, "hyperparameter " + e.getMessage(), e);
            }
        }

        void checkFormats(Optimizer optimizer) throws FormatException {
            Map<String, String> formats = withPrefix(FORMAT_PREFIX);
            for (ParameterState state : optimizer.states()) {
                String name = state.parameter().name();
                String format = formats.remove(name);
                if (format == null) {
                    throw failure("parameter %s is missing".formatted(Names.quote(name)));
                }
                if (!format.equals(state.format().name())) {
                    throw failure(
                            "states of parameter %s are in format %s; the optimizer keeps %s"
                                    .formatted(
                                            Names.quote(name),
                                            Names.quote(format),
                                            state.format()));
                }
            }
            for (String foreign : formats.keySet()) {
                throw failure(
                        "parameter %s is none of the optimizer's".formatted(Names.quote(foreign)));
            }
        }

        void checkTensors(List<Slot> slots) throws FormatException {
            Map<String, HostTensor> left = new LinkedHashMap<>();
            file.tensors().forEach(tensor -> left.put(tensor.name(), tensor));
            for (Slot slot : slots) {
                HostTensor tensor = left.remove(slot.name());
                if (tensor == null) {
                    throw failure("tensor %s is missing".formatted(Names.quote(slot.name())));
                }
                if (tensor.type() != slot.type() || !Arrays.equals(tensor.shape(), slot.shape())) {
                    throw failure(
                            "tensor %s is %s; the optimizer's is %s %s"
                                    .formatted(
                                            Names.quote(slot.name()),
                                            tensor.description(),
                                            slot.type(),
                                            Shapes.text(slot.shape())));
                }
            }
            for (String foreign : left.keySet()) {
                throw failure(
                        "tensor %s is none of the optimizer's".formatted(Names.quote(foreign)));
            }
        }

        private String metadata(String key) throws FormatException {
            String value = file.metadata().get(key);
            if (value == null) {
                throw failure("metadata %s is missing; is this an optimizer's?".formatted(key));
            }
            return value;
        }

        private Map<String, String> withPrefix(String prefix) {
            Map<String, String> matching = new LinkedHashMap<>();
            file.metadata()
                    .forEach(
                            (key, value) -> {
                                if (key.startsWith(prefix)) {
                                    matching.put(key.substring(prefix.length()), value);
                                }
                            });
            return matching;
        }

        private FormatException failure(String detail) {
            return new FormatException(source, detail);
        }
    }
}
