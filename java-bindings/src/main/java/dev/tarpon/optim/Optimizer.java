package dev.tarpon.optim;

import static dev.tarpon.ffi.tarpon_h.C_LONG;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.NativeOptimizer;
import dev.tarpon.Stream;
import dev.tarpon.TarponException;
import dev.tarpon.Tensor;
import dev.tarpon.ffi.tarpon_optim_counters;
import dev.tarpon.ffi.tarpon_optim_desc;
import dev.tarpon.ffi.tarpon_optim_h;
import dev.tarpon.ffi.tarpon_optim_info;
import dev.tarpon.ffi.tarpon_optim_tensor;
import dev.tarpon.format.FormatException;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.function.UnaryOperator;

/**
 * Steps all parameters of a model in one native call, with states in 8 bits or in 32.
 *
 * <pre>{@code
 * var optimizer = Optimizer.create(device, new OptimizerOptions(UpdateRule.ADAMW),
 *         List.of(new ParameterGroup(weights), new ParameterGroup(norms).withoutDecay()));
 * optimizer.hyperparameters().weightDecay(0.1).maxGradNorm(1);
 * for (...) {
 *     // write the gradients
 *     optimizer.step(schedule.lr(i), stream);
 * }
 * }</pre>
 *
 * <p>Parameters and gradients are the caller's; the states are the optimizer's. {@link #save}
 * writes them to a file; a new optimizer over parameters of the same names and shapes that {@link
 * #load}s it goes on bit for bit, once the caller has put the parameters themselves back.
 *
 * <p>Thread-safe: steps are queued one after the other.
 */
public final class Optimizer implements AutoCloseable {
    private final UpdateRule rule;
    private final NativeOptimizer plan;
    private final Hyperparameters hyperparameters;
    private final List<ParameterState> states;
    private final String variant;
    private final long workspaceBytes;

    private Optimizer(UpdateRule rule, NativeOptimizer plan, List<ParameterState> states) {
        this.rule = rule;
        this.plan = plan;
        this.states = List.copyOf(states);
        this.hyperparameters = new Hyperparameters(rule);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment info = tarpon_optim_info.allocate(arena);
            plan.readInfo(info);
            this.variant = tarpon_optim_info.variant(info);
            this.workspaceBytes = tarpon_optim_info.workspace_bytes(info);
        }
    }

    /**
     * Allocates states of zeros and makes the plan.
     *
     * @param groups at least one; names are unique over all of them
     * @throws IllegalArgumentException if a name occurs twice, or a tensor is of another device or
     *     of a dtype that is not floating
     * @throws TarponException with status UNSUPPORTED if no kernel serves this combination
     */
    public static Optimizer create(
            Device device, OptimizerOptions options, List<ParameterGroup> groups) {
        Objects.requireNonNull(device, "device");
        Objects.requireNonNull(options, "options");
        check(device, groups);
        List<ParameterState> states = new ArrayList<>();
        try {
            for (ParameterGroup group : groups) {
                for (Parameter parameter : group.parameters()) {
                    allocate(device, options, parameter, states);
                }
            }
            return new Optimizer(options.rule(), plan(device, options, groups, states), states);
        } catch (RuntimeException | Error exception) {
            states.forEach(Optimizer::close);
            throw exception;
        }
    }

    private static void check(Device device, List<ParameterGroup> groups) {
        if (groups.isEmpty()) {
            throw new IllegalArgumentException("an optimizer needs at least one group");
        }
        Set<String> names = new HashSet<>();
        for (ParameterGroup group : groups) {
            for (Parameter parameter : group.parameters()) {
                if (!names.add(parameter.name())) {
                    throw new IllegalArgumentException(
                            "two parameters have the name %s".formatted(parameter.name()));
                }
                check(device, parameter, "value", parameter.value());
                check(device, parameter, "gradient", parameter.gradient());
                if (parameter.copy() != null) {
                    check(device, parameter, "copy", parameter.copy());
                }
            }
        }
    }

    private static void check(Device device, Parameter parameter, String role, Tensor tensor) {
        if (tensor.device() != device) {
            throw new IllegalArgumentException(
                    "%s of parameter %s is %s, of another device than %s"
                            .formatted(role, parameter.name(), tensor, device));
        }
        if (tensor.dtype() == DType.U8 || tensor.dtype() == DType.I32) {
            throw new IllegalArgumentException(
                    "%s of parameter %s is %s; it must be of F32, F16 or BF16"
                            .formatted(role, parameter.name(), tensor));
        }
    }

    /** Adds the states of a parameter to {@code states}, where a failure finds them. */
    private static void allocate(
            Device device,
            OptimizerOptions options,
            Parameter parameter,
            List<ParameterState> states) {
        StateFormat format = options.formatOf(parameter);
        DType dtype = format == StateFormat.F32 ? DType.F32 : DType.U8;
        List<Tensor> codes = new ArrayList<>();
        List<Tensor> absmax = new ArrayList<>();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment stateBytes = arena.allocate(C_LONG);
            MemorySegment absmaxBytes = arena.allocate(C_LONG);
            for (int slot = 0; slot < tarpon_optim_tensor.SLOTS; slot++) {
                NativeOptimizer.readStateBytes(
                        options.rule().id(),
                        format.id(),
                        flags(parameter),
                        parameter.value().size(),
                        slot,
                        stateBytes,
                        absmaxBytes);
                addZeros(device, dtype, stateBytes.get(C_LONG, 0), codes);
                addZeros(device, DType.F32, absmaxBytes.get(C_LONG, 0), absmax);
            }
        } catch (RuntimeException | Error exception) {
            codes.forEach(Tensor::close);
            absmax.forEach(Tensor::close);
            throw exception;
        }
        states.add(new ParameterState(parameter, format, codes, absmax));
    }

    private static void addZeros(Device device, DType dtype, long bytes, List<Tensor> tensors) {
        if (bytes == 0) {
            return; // the rule has no such slot
        }
        Tensor tensor = device.allocate(dtype, bytes / dtype.bytes());
        tensors.add(tensor);
        try (Arena arena = Arena.ofConfined()) {
            tensor.copyFrom(arena.allocate(bytes, dtype.bytes()));
        }
    }

    private static NativeOptimizer plan(
            Device device,
            OptimizerOptions options,
            List<ParameterGroup> groups,
            List<ParameterState> states) {
        List<Tensor> operands = new ArrayList<>();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment array = tarpon_optim_tensor.allocateArray(states.size(), arena);
            long index = 0;
            for (ParameterGroup group : groups) {
                for (int i = 0; i < group.parameters().size(); i++, index++) {
                    MemorySegment struct =
                            array.asSlice(
                                    index * tarpon_optim_tensor.layout().byteSize(),
                                    tarpon_optim_tensor.layout());
                    tarpon_optim_tensor.lr_factor(struct, group.lrFactor());
                    tarpon_optim_tensor.decay_factor(struct, group.decayFactor());
                    describe(states.get(Math.toIntExact(index)), struct, operands);
                }
            }
            MemorySegment description = tarpon_optim_desc.allocate(arena);
            tarpon_optim_desc.rule(description, options.rule().id());
            tarpon_optim_desc.tensor_count(description, states.size());
            tarpon_optim_desc.tensors(description, array);
            if (options.variant() != null) {
                tarpon_optim_desc.variant(description, arena.allocateFrom(options.variant()));
            }
            String name =
                    "Optimizer %s of %d parameters on %s"
                            .formatted(options.rule(), states.size(), device.info().spec());
            return NativeOptimizer.create(
                    device, name, description, operands.toArray(Tensor[]::new));
        }
    }

    private static void describe(
            ParameterState state, MemorySegment struct, List<Tensor> operands) {
        Parameter parameter = state.parameter();
        Tensor value = parameter.value();
        long[] shape = value.shape();
        tarpon_optim_tensor.flags(struct, flags(parameter));
        tarpon_optim_tensor.state_format(struct, state.format().id());
        tarpon_optim_tensor.n(struct, value.size());
        tarpon_optim_tensor.columns(struct, shape[shape.length - 1]);
        tarpon_optim_tensor.param_dtype(struct, value.dtype().id());
        tarpon_optim_tensor.param(struct, pointer(value, operands));
        tarpon_optim_tensor.grad_dtype(struct, parameter.gradient().dtype().id());
        tarpon_optim_tensor.grad(struct, pointer(parameter.gradient(), operands));
        if (parameter.copy() != null) {
            tarpon_optim_tensor.copy_dtype(struct, parameter.copy().dtype().id());
            tarpon_optim_tensor.copy(struct, pointer(parameter.copy(), operands));
        }
        for (int slot = 0; slot < state.states().size(); slot++) {
            tarpon_optim_tensor.state(struct, slot, pointer(state.states().get(slot), operands));
        }
        for (int slot = 0; slot < state.absmax().size(); slot++) {
            tarpon_optim_tensor.absmax(struct, slot, pointer(state.absmax().get(slot), operands));
        }
    }

    private static MemorySegment pointer(Tensor tensor, List<Tensor> operands) {
        operands.add(tensor);
        return MemorySegment.ofAddress(tensor.address());
    }

    private static int flags(Parameter parameter) {
        return parameter.momentum() ? tarpon_optim_h.TARPON_TENSOR_MOMENTUM : 0;
    }

    /** The rule of the steps. */
    public UpdateRule rule() {
        return rule;
    }

    /** The numbers of the steps to come, for all groups. */
    public Hyperparameters hyperparameters() {
        return hyperparameters;
    }

    /** Sets the learning rate, and queues a step of all parameters. */
    public void step(double lr, Stream stream) {
        hyperparameters.lr(lr);
        step(stream);
    }

    /**
     * Queues a step of all parameters with the {@link #hyperparameters} as they are. On the CPU it
     * is done when this returns. A gradient that is not finite is skipped and counted; see {@link
     * Hyperparameters#skipNonfinite}. On another stream than the step before, this waits for that
     * one first.
     *
     * @throws IllegalStateException if a parameter, its gradient or this optimizer is closed
     * @throws TarponException if a hyperparameter is out of range
     */
    public void step(Stream stream) {
        plan.step(hyperparameters.args(), stream);
    }

    /**
     * Sophia-G: queues h = beta2 * h + (1 - beta2) * hessianScale * g * g, where the gradients are
     * those of a loss on labels drawn from the model's own output. Parameters, m and the step count
     * stay.
     *
     * @throws TarponException if the rule is another
     */
    public void refreshHessian(Stream stream) {
        plan.refreshHessian(hyperparameters.args(), stream);
    }

    /** Waits for the steps that are queued, and says what they were. */
    public OptimizerCounters counters() {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment counters = tarpon_optim_counters.allocate(arena);
            plan.readCounters(counters);
            return new OptimizerCounters(
                    tarpon_optim_counters.step(counters),
                    tarpon_optim_counters.skipped_steps(counters),
                    tarpon_optim_counters.skipped_blocks(counters),
                    tarpon_optim_counters.grad_norm(counters));
        }
    }

    /** Puts counters back; resuming needs this and the {@link #states}. */
    public void restore(OptimizerCounters values) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment counters = tarpon_optim_counters.allocate(arena);
            tarpon_optim_counters.step(counters, values.step());
            tarpon_optim_counters.skipped_steps(counters, values.skippedSteps());
            tarpon_optim_counters.skipped_blocks(counters, values.skippedBlocks());
            tarpon_optim_counters.grad_norm(counters, values.gradNorm());
            plan.writeCounters(counters);
        }
    }

    /** The states of all parameters, in the order of the groups. */
    public List<ParameterState> states() {
        return states;
    }

    /**
     * Writes states, counters and hyperparameters to a safetensors file, after the steps that are
     * queued. What the tensors and the metadata are called is in kernels-cu/optim/README.md. The
     * file is written beside an older one and takes its place when it is complete and on disk.
     *
     * <p>Parameters and the groups' factors are the caller's and not saved.
     *
     * @throws IOException if it cannot be written; an older file stays then
     */
    public void save(Path file) throws IOException {
        synchronized (plan) { // no step in between
            StateFile.save(this, file);
        }
    }

    /**
     * Takes states, counters and hyperparameters from a file that {@link #save} wrote, on whatever
     * device. Everything in it is compared with this optimizer first; a file that does not match
     * changes nothing.
     *
     * @throws FormatException if the file is damaged, or the rule, a parameter's name, shape or
     *     state format is another than here; with both values
     * @throws IOException if it cannot be read
     */
    public void load(Path file) throws IOException {
        synchronized (plan) {
            StateFile.load(this, file);
        }
    }

    /**
     * Takes states and the step count from the state of a bitsandbytes optimizer that was saved as
     * safetensors, one tensor an entry:
     *
     * <pre>{@code
     * save_file({f"{name}.{key}": torch.as_tensor(value).clone()
     *            for name, p in model.named_parameters()
     *            for key, value in optimizer.state[p].items()}, file)
     * }</pre>
     *
     * <p>Parameters' names, shapes and state formats are those of this optimizer; 8-bit states are
     * in blocks of 256 and by the same maps (RMSprop's and Adagrad's are not). Hyperparameters are
     * not in such a file. A file that does not match changes nothing.
     *
     * @throws FormatException if something does not match, with both values
     * @throws IOException if the file cannot be read
     */
    public void loadBitsandbytes(Path file) throws IOException {
        loadBitsandbytes(file, UnaryOperator.identity());
    }

    /**
     * The same where the file names parameters differently, such as by their index.
     *
     * @param keys from a parameter's name to what stands before ".state1"
     * @throws FormatException if something does not match, with both values
     * @throws IOException if the file cannot be read
     */
    public void loadBitsandbytes(Path file, UnaryOperator<String> keys) throws IOException {
        synchronized (plan) {
            BitsandbytesFile.load(this, file, keys);
        }
    }

    /** What all states take on the device, absmax included. */
    public long stateBytes() {
        return states.stream()
                .flatMap(
                        state ->
                                java.util.stream.Stream.concat(
                                        state.states().stream(), state.absmax().stream()))
                .mapToLong(Tensor::sizeBytes)
                .sum();
    }

    /** What the plan keeps on the device beside parameters, gradients and states. */
    public long workspaceBytes() {
        return workspaceBytes;
    }

    /** The name of the kernel in use, such as "cpu_avx512". */
    public String variant() {
        return variant;
    }

    /** Frees the plan and the states, after work that is queued. Idempotent. */
    @Override
    public void close() {
        plan.close();
        states.forEach(Optimizer::close);
    }

    private static void close(ParameterState state) {
        state.states().forEach(Tensor::close);
        state.absmax().forEach(Tensor::close);
    }

    /** Such as "Optimizer ADAMW of 12 parameters on cpu:0". */
    @Override
    public String toString() {
        return plan.toString();
    }
}
