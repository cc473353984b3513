package dev.tarpon.quant.cli;

import dev.tarpon.optim.StateFormat;
import dev.tarpon.optim.UpdateRule;
import dev.tarpon.quant.train.OptimizerNumbers;

import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.stream.Collectors;

/** The optimizer and its numbers, as {@code op optim-step} and {@code train} take them. */
final class OptimizerFlags {
    @Spec(Spec.Target.MIXEE)
    private CommandSpec spec;

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
            description =
                    "Format of the states: 8bit, 32bit or, for adam and adamw, fp8. Default: 8bit.")
    private StateFormat state;

    @Option(
            names = "--lr",
            paramLabel = "X",
            description =
                    "The learning rate; of train the highest, which falls along a cosine to a"
                            + " tenth. Default: one that suits the optimizer.")
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

    @Option(
            names = "--momentum",
            paramLabel = "X",
            description =
                    "sgd, lars: the momentum. Default: 0.9, but 0 for op optim-step's sgd, as in"
                            + " PyTorch.")
    private Double momentum;

    @Option(names = "--eps", paramLabel = "X", description = "Added to the denominator.")
    private Double eps;

    @Option(
            names = "--weight-decay",
            paramLabel = "X",
            description =
                    "Weight decay; decoupled but for adam, sgd, rmsprop, adagrad and lars. train"
                            + " decays matrices only. Default: PyTorch's or the paper's; for"
                            + " train's adamw 0.1.")
    private Double weightDecay;

    @Option(names = "--trust-coefficient", paramLabel = "X", description = "lars: eta.")
    private Double trustCoefficient;

    @Option(names = "--gamma", paramLabel = "X", description = "sophiag: gamma.")
    private Double gamma;

    @Option(names = "--nesterov", description = "sgd: Nesterov's momentum.")
    private boolean nesterov;

    @Option(names = "--stochastic-states", description = "Round 8-bit states stochastically.")
    private boolean stochasticStates;

    @Option(
            names = {"--max-grad-norm", "--clip"},
            paramLabel = "NORM",
            description =
                    "Clip the norm over all gradients; 0 does not. Default: 1 for train, 0 for op"
                            + " optim-step.")
    private Double maxGradNorm;

    @Option(
            names = "--hessian-every",
            paramLabel = "K",
            defaultValue = "10",
            description =
                    "sophiag: refreshes h at every K-th step, the first included; op optim-step"
                            + " takes the step's own gradient, and 0 for never. Default: 10.")
    private int hessianEvery;

    UpdateRule rule() {
        return rule;
    }

    StateFormat state() {
        return state;
    }

    /** The learning rate, or null. */
    Double lr() {
        return lr;
    }

    /** The largest norm, or null. */
    Double maxGradNorm() {
        return maxGradNorm;
    }

    int hessianEvery() {
        return hessianEvery;
    }

    /** The numbers; says on standard error which of them the optimizer does not use. */
    OptimizerNumbers numbers() {
        if (rule == UpdateRule.RMSPROP && alpha != null && beta2 != null) {
            throw new ParameterException(
                    spec.commandLine(), "--alpha and --beta2 are the same for rmsprop");
        }
        for (String option : unused()) {
            spec.commandLine().getErr().printf("note: %s is not used by %s%n", option, name(rule));
        }
        spec.commandLine().getErr().flush();
        return new OptimizerNumbers(
                beta1,
                beta2,
                beta3,
                alpha,
                momentum,
                eps,
                weightDecay,
                trustCoefficient,
                gamma,
                nesterov,
                stochasticStates);
    }

    private List<String> unused() {
        Set<String> used = usedBy(rule);
        List<String> unused = new ArrayList<>();
        for (var option : spec.commandLine().getParseResult().matchedOptions()) {
            String name = option.longestName();
            if (NUMBERS.contains(name) && !used.contains(name)) {
                unused.add(name);
            }
        }
        return unused;
    }

    private static final Set<String> NUMBERS =
            Set.of(
                    "--beta1",
                    "--beta2",
                    "--beta3",
                    "--alpha",
                    "--momentum",
                    "--eps",
                    "--trust-coefficient",
                    "--gamma",
                    "--nesterov",
                    "--hessian-every",
                    "--hessian-scale",
                    "--scale-momentum");

    private static Set<String> usedBy(UpdateRule rule) {
        return switch (rule) {
            case ADAM, ADAMW, LAMB, ADABELIEF -> Set.of("--beta1", "--beta2", "--eps");
            case SGD -> Set.of("--momentum", "--nesterov");
            case RMSPROP -> Set.of("--beta2", "--alpha", "--eps");
            case ADAGRAD -> Set.of("--eps");
            case LION -> Set.of("--beta1", "--beta2");
            case ADEMAMIX -> Set.of("--beta1", "--beta2", "--beta3", "--alpha", "--eps");
            case LARS -> Set.of("--momentum", "--trust-coefficient");
            case SOPHIAG ->
                    Set.of(
                            "--beta1",
                            "--beta2",
                            "--eps",
                            "--gamma",
                            "--hessian-every",
                            "--hessian-scale");
            case SCALE -> Set.of("--beta1", "--scale-momentum");
        };
    }

    /** A rule's name on the command line. */
    static String name(UpdateRule rule) {
        return rule.name().toLowerCase(Locale.ROOT);
    }

    /** The name of a rule, in any case. */
    static final class RuleConverter implements ITypeConverter<UpdateRule> {
        @Override
        public UpdateRule convert(String value) {
            for (UpdateRule rule : UpdateRule.values()) {
                if (rule.name().equalsIgnoreCase(value)) {
                    return rule;
                }
            }
            String names =
                    Arrays.stream(UpdateRule.values())
                            .map(OptimizerFlags::name)
                            .collect(Collectors.joining(", "));
            throw new TypeConversionException("'%s' is not one of %s".formatted(value, names));
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
