package dev.tarpon.quant.train;

import dev.tarpon.Device;
import dev.tarpon.format.FormatException;
import dev.tarpon.optim.OptimizerCounters;
import dev.tarpon.optim.UpdateRule;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Optional;

/**
 * A run: steps, measurements on held-out text, checkpoints.
 *
 * <p>What a step computes depends on the options, on the parameters and states before it and on its
 * number alone. So a run that was killed and goes on from a checkpoint ends with the same bits as
 * one that was not.
 */
public final class Training implements AutoCloseable {
    /** A periodic measurement takes this part of the tokens that the last one takes. */
    private static final int PERIODIC_FRACTION = 8;

    /** Hears how a run goes. */
    public interface Listener {
        /** A step is done; its windows had this loss in nats a token. */
        default void onStep(int step, double loss) {}

        /** Held-out text was measured; rate in tokens a second since the last time. */
        default void onMeasurement(int step, double training, double heldOut, double rate) {}
    }

    /**
     * What came out.
     *
     * @param heldOutLoss nats a token
     * @param stateBytes what the optimizer's states took
     * @param skippedSteps steps that a gradient which was not finite kept from happening
     */
    public record Result(double heldOutLoss, long stateBytes, long skippedSteps) {
        /** The mean number of tokens that the model hesitates between. */
        public double perplexity() {
            return Math.exp(heldOutLoss);
        }
    }

    private final TrainingOptions options;
    private final Windows training;
    private final Windows heldOut;
    private final TrainableLlama model;
    private final ModelOptimizer optimizer;
    private final Checkpoints checkpoints;
    private final int checkpointEvery;
    private LossHistory history = new LossHistory();

    /**
     * Makes a run with weights from the seed.
     *
     * @param checkpoints the folder for them, or null for none
     * @param checkpointEvery steps between two of them
     */
    public Training(
            Device device,
            TrainingOptions options,
            TextCorpus corpus,
            Path checkpoints,
            int checkpointEvery)
            throws FormatException {
        this.options = options;
        this.checkpoints = checkpoints == null ? null : new Checkpoints(checkpoints);
        this.checkpointEvery = checkpointEvery;
        int sequences = options.sequences();
        int context = options.context();
        training = new Windows("training text", corpus.training(), sequences, context);
        heldOut = new Windows("held-out text", corpus.heldOut(), sequences, context);
        model = new TrainableLlama(options.model(), sequences, context);
        model.initialize(options.seed());
        optimizer = new ModelOptimizer(device, model, options.optimizer(), options.seed());
    }

    /** The newest checkpoint in a folder of checkpoints. */
    public static Optional<Path> latestCheckpoint(Path folder) throws IOException {
        return new Checkpoints(folder).latest();
    }

    /** What the run of a checkpoint computes. */
    public static TrainingOptions optionsOf(Path checkpoint) throws IOException {
        return Checkpoints.read(checkpoint).options();
    }

    /** Goes on from a checkpoint, which has to be of a run with the same options. */
    public void resume(Path checkpoint) throws IOException {
        Checkpoints.Run run = Checkpoints.read(checkpoint);
        if (!run.options().equals(options)) {
            throw new FormatException(
                    checkpoint.toString(),
                    "is of a run with %s, not %s".formatted(run.options(), options));
        }
        Checkpoints.restore(checkpoint, model, optimizer);
        history = run.history();
    }

    /** How many steps are done. */
    public int stepsDone() {
        return history.steps();
    }

    /** How the run went so far, as a picture. */
    public String lossCurve() {
        return LossCurve.svg(history);
    }

    /** Writes the model in Hugging Face's layout. */
    public void saveModel(Path folder) throws IOException {
        model.weights().save(folder);
    }

    /**
     * Takes all steps that are left, and measures on held-out text.
     *
     * @throws IOException if a checkpoint cannot be written
     * @throws ArithmeticException if the loss is no longer finite
     */
    public Result run(Listener listener) throws IOException {
        long began = System.nanoTime();
        long stepsSince = 0;
        while (history.steps() < options.steps()) {
            double loss = step(history.steps());
            history.training().add(loss);
            int step = history.steps();
            stepsSince++;
            listener.onStep(step, loss);
            if (step % options.evaluateEvery() == 0 && step < options.steps()) {
                double seconds = (System.nanoTime() - began) * 1e-9;
                double measured = measure(options.heldOutTokens() / PERIODIC_FRACTION);
                history.heldOut().add(new LossHistory.Measurement(step, measured));
                double recent = history.recentTraining(options.evaluateEvery());
                listener.onMeasurement(
                        step, recent, measured, stepsSince * model.tokens() / seconds);
                began = System.nanoTime();
                stepsSince = 0;
            }
            if (checkpoints != null && (step % checkpointEvery == 0 || step == options.steps())) {
                checkpoints.save(new Checkpoints.Run(options, history), model, optimizer);
            }
        }
        double last = measure(options.heldOutTokens());
        history.heldOut().add(new LossHistory.Measurement(history.steps(), last));
        OptimizerCounters counters = optimizer.counters();
        return new Result(last, optimizer.stateBytes(), counters.skippedSteps());
    }

    private double step(int step) {
        OptimizerSettings settings = options.optimizer();
        training.random(options.seed(), step);
        if (settings.rule() == UpdateRule.SOPHIAG && step % settings.hessianEvery() == 0) {
            model.sampledGradients(training.tokens, Windows.mix(~options.seed(), step));
            optimizer.refreshHessian();
        }
        double loss = model.lossAndGradients(training.tokens, training.targets);
        double rate = options.learningRate().at(step);
        if (!Double.isFinite(loss)) {
            throw new ArithmeticException(
                    "the loss of step %d is %s at a learning rate of %s; a smaller --lr helps"
                            .formatted(step + 1, loss, rate));
        }
        optimizer.step(rate);
        return loss;
    }

    /** The mean loss over windows that cover the held-out text evenly, about so many tokens. */
    private double measure(int tokens) {
        int passes = Math.ceilDiv(tokens, model.tokens());
        double sum = 0;
        for (int pass = 0; pass < passes; pass++) {
            heldOut.even(pass, passes);
            sum += model.loss(heldOut.tokens, heldOut.targets);
        }
        return sum / passes;
    }

    /** Frees what is on the device. */
    @Override
    public void close() {
        optimizer.close();
    }
}
