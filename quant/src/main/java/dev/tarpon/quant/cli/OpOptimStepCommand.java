package dev.tarpon.quant.cli;

import dev.tarpon.Device;
import dev.tarpon.Status;
import dev.tarpon.TarponException;
import dev.tarpon.optim.Hyperparameters;
import dev.tarpon.optim.StateFormat;
import dev.tarpon.optim.UpdateRule;
import dev.tarpon.quant.op.OptimStepOp;
import dev.tarpon.quant.op.OptimStepOptions;

import picocli.CommandLine.Command;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;

import java.io.IOException;
import java.util.Arrays;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.function.DoubleFunction;
import java.util.stream.Collectors;

/** {@code op optim-step}. Numbers that are not given are PyTorch's or the paper's defaults. */
@Command(
        name = "optim-step",
        mixinStandardHelpOptions = true,
        description = {
            "Step an optimizer over recorded gradients.",
            "",
            "Reads param with n elements (scale: the matrix [n/columns, columns]) and grads [T, n],"
                    + " each in F32, F16 or BF16.",
            "Writes after T steps param, and for each state of the optimizer state1, state2, state3"
                    + " (U8 or F32 [n]) and absmax1, ... F32."
        })
final class OpOptimStepCommand implements Callable<Integer> {
    @Spec private CommandSpec spec;

    @Option(
            names = "--optimizer",
            paramLabel = "NAME",
            defaultValue = "adamw",
            converter = RuleConverter.class,
            description =
                    "adam, adamw, sgd, rmsprop, adagrad, lion, ademamix, lamb, lars, adabelief,"
                            + " sophiag or scale. Default: adamw.")
    private UpdateRule rule;

    @Option(
            names = "--state",
            paramLabel = "FORMAT",
            defaultValue = "8bit",
            converter = FormatConverter.class,
            description = "8bit, 32bit or, for adam and adamw, fp8. Default: 8bit.")
    private StateFormat stateFormat;

    @Option(names = "--lr", paramLabel = "X", description = "The learning rate.")
    private Double lr;

    @Option(
            names = "--beta1",
            paramLabel = "X",
            description = "Decay of the first moment; lion: weight of m in the direction.")
    private Double beta1;

    @Option(
            names = "--beta2",
            paramLabel = "X",
            description = "Decay of the second moment; lion: decay of m.")
    private Double beta2;

    @Option(
            names = "--beta3",
            paramLabel = "X",
            description = "ademamix: decay of the slow moment.")
    private Double beta3;

    @Option(
            names = "--alpha",
            paramLabel = "X",
            description =
                    "ademamix: weight of the slow moment; rmsprop: smoothing constant, the same as"
                            + " --beta2.")
    private Double alpha;

    @Option(names = "--momentum", paramLabel = "X", description = "sgd, lars: the momentum.")
    private Double momentum;

    @Option(names = "--eps", paramLabel = "X", description = "Added to the denominator.")
    private Double eps;

    @Option(
            names = "--weight-decay",
            paramLabel = "X",
            description = "Weight decay; decoupled but for adam, sgd, rmsprop, adagrad and lars.")
    private Double weightDecay;

    @Option(names = "--trust-coefficient", paramLabel = "X", description = "lars: eta.")
    private Double trustCoefficient;

    @Option(names = "--gamma", paramLabel = "X", description = "sophiag: gamma.")
    private Double gamma;

    @Option(
            names = "--hessian-scale",
            paramLabel = "X",
            description = "sophiag: factor of g * g in a refresh, a count of tokens.")
    private Double hessianScale;

    @Option(
            names = "--grad-multiplier",
            paramLabel = "X",
            description = "Gradients are multiplied by it, such as 1 / loss scale.")
    private Double gradMultiplier;

    @Option(
            names = "--max-grad-norm",
            paramLabel = "X",
            description = "Clips the norm of the gradient; 0 does not.")
    private Double maxGradNorm;

    @Option(
            names = "--hessian-every",
            paramLabel = "K",
            defaultValue = "10",
            description =
                    "sophiag: refreshes h from the gradient of each K-th step, the first included;"
                            + " 0 for never. Default: 10.")
    private int hessianEvery;

    @Option(names = "--seed", paramLabel = "SEED", description = "Seed of stochastic rounding.")
    private Long seed;

    @Option(names = "--nesterov", description = "sgd: Nesterov's momentum.")
    private boolean nesterov;

    @Option(
            names = "--scale-momentum",
            description = "scale: the parameter is the model's last layer and has a state.")
    private boolean scaleMomentum;

    @Option(
            names = "--skip-nonfinite",
            description =
                    "A gradient that is not finite skips its step; otherwise its block of 256"
                            + " elements.")
    private boolean skipNonfinite;

    @Option(names = "--stochastic-params", description = "Round a BF16 parameter stochastically.")
    private boolean stochasticParams;

    @Option(names = "--stochastic-states", description = "Round 8-bit states stochastically.")
    private boolean stochasticStates;

    @Mixin private OpCommand.RunDevice device;
    @Mixin private OpCommand.Files files;

    @Override
    public Integer call() throws IOException {
        if (rule == UpdateRule.RMSPROP && alpha != null && beta2 != null) {
            throw new ParameterException(
                    spec.commandLine(), "--alpha and --beta2 are the same for rmsprop");
        }
        if (hessianEvery < 0) {
            throw new ParameterException(
                    spec.commandLine(),
                    "--hessian-every %d: it must be >= 0".formatted(hessianEvery));
        }
        OptimStepOptions options =
                new OptimStepOptions(rule, stateFormat, scaleMomentum, hessianEvery, this::fill);
        try (Device opened = device.open()) {
            OptimStepOp.run(opened, files.in(), files.out(), options);
        } catch (TarponException e) {
            // Tensors are checked before; what is left to refuse is the command line.
            if (e.status() == Status.INVALID_ARGUMENT || e.status() == Status.UNSUPPORTED) {
                throw new ParameterException(
                        spec.commandLine(), "optim-step is refused: " + e.getMessage(), e);
            }
            throw e;
        }
        return ExitCode.OK;
    }

    private void fill(Hyperparameters h) {
        if (rule == UpdateRule.RMSPROP) {
            set(alpha, h::beta2);
        } else {
            set(alpha, h::alpha);
        }
        set(lr, h::lr);
        set(beta1, h::beta1);
        set(beta2, h::beta2);
        set(beta3, h::beta3);
        set(momentum, h::momentum);
        set(eps, h::eps);
        set(weightDecay, h::weightDecay);
        set(trustCoefficient, h::trustCoefficient);
        set(gamma, h::gamma);
        set(hessianScale, h::hessianScale);
        set(gradMultiplier, h::gradMultiplier);
        set(maxGradNorm, h::maxGradNorm);
        if (seed != null) {
            h.seed(seed);
        }
        h.nesterov(nesterov).skipNonfinite(skipNonfinite);
        h.stochasticParameters(stochasticParams).stochasticStates(stochasticStates);
    }

    private static void set(Double value, DoubleFunction<Hyperparameters> setter) {
        if (value != null) {
            setter.apply(value);
        }
    }

    /** The name of a rule, in any case. */
    static final class RuleConverter implements ITypeConverter<UpdateRule> {
        @Override
        public UpdateRule convert(String value) {
            return Arrays.stream(UpdateRule.values())
                    .filter(rule -> rule.name().equalsIgnoreCase(value))
                    .findFirst()
                    .orElseThrow(
                            () ->
                                    new TypeConversionException(
                                            "'%s' is not one of %s"
                                                    .formatted(
                                                            value,
                                                            Arrays.stream(UpdateRule.values())
                                                                    .map(
                                                                            rule ->
                                                                                    rule.name()
                                                                                            .toLowerCase(
                                                                                                    Locale
                                                                                                            .ROOT))
                                                                    .collect(
                                                                            Collectors.joining(
                                                                                    ", ")))));
        }
    }

    /** 8bit, 32bit or fp8. */
    static final class FormatConverter implements ITypeConverter<StateFormat> {
        @Override
        public StateFormat convert(String value) {
            return switch (value.toLowerCase(Locale.ROOT)) {
                case "8bit" -> StateFormat.DYNAMIC8;
                case "32bit" -> StateFormat.F32;
                case "fp8" -> StateFormat.FP8;
                default ->
                        throw new TypeConversionException(
                                "'%s' is not one of 8bit, 32bit, fp8".formatted(value));
            };
        }
    }
}
