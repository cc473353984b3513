package dev.tarpon.quant.cli;

import dev.tarpon.Device;
import dev.tarpon.Status;
import dev.tarpon.TarponException;
import dev.tarpon.optim.Hyperparameters;
import dev.tarpon.quant.op.OptimStepOp;
import dev.tarpon.quant.op.OptimStepOptions;
import dev.tarpon.quant.train.OptimizerNumbers;

import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

import java.io.IOException;
import java.util.concurrent.Callable;
import java.util.function.DoubleFunction;

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
                    + " (U8 or F32 [n]) and, for states of a byte, absmax1, ... F32: one a block of"
                    + " 256, or for fp8 the largest magnitude and the power of each group of"
                    + " 128.",
            "A number that the optimizer does not use is named and ignored."
        })
final class OpOptimStepCommand implements Callable<Integer> {
    @Spec private CommandSpec spec;

    @Mixin private OptimizerFlags optimizer;

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

    @Option(names = "--seed", paramLabel = "SEED", description = "Seed of stochastic rounding.")
    private Long seed;

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

    @Mixin private OpCommand.RunDevice device;
    @Mixin private OpCommand.Files files;

    @Override
    public Integer call() throws IOException {
        OptimizerNumbers numbers = optimizer.numbers();
        if (optimizer.hessianEvery() < 0) {
            throw new ParameterException(
                    spec.commandLine(),
                    "--hessian-every %d: it must be >= 0".formatted(optimizer.hessianEvery()));
        }
        OptimStepOptions options =
                new OptimStepOptions(
                        optimizer.rule(),
                        optimizer.state(),
                        scaleMomentum,
                        optimizer.hessianEvery(),
                        h -> fill(h, numbers));
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

    private void fill(Hyperparameters h, OptimizerNumbers numbers) {
        numbers.apply(optimizer.rule(), h);
        set(optimizer.lr(), h::lr);
        set(optimizer.maxGradNorm(), h::maxGradNorm);
        set(hessianScale, h::hessianScale);
        set(gradMultiplier, h::gradMultiplier);
        if (seed != null) {
            h.seed(seed);
        }
        h.skipNonfinite(skipNonfinite).stochasticParameters(stochasticParams);
    }

    private static void set(Double value, DoubleFunction<Hyperparameters> setter) {
        if (value != null) {
            setter.apply(value);
        }
    }
}
