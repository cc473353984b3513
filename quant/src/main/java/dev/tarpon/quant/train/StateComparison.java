package dev.tarpon.quant.train;

import dev.tarpon.Device;
import dev.tarpon.optim.StateFormat;
import dev.tarpon.optim.UpdateRule;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/**
 * The same run with each format of the optimizer's states, over several seeds. Within a seed all
 * formats have the same weights to begin with, the same windows and the same held-out text.
 */
public final class StateComparison {
    /** Where a comparison's text comes from; the seed decides what is held out. */
    @FunctionalInterface
    public interface Corpus {
        TextCorpus split(TrainingOptions options) throws IOException;
    }

    /** Hears how the comparison goes. */
    public interface Listener extends Training.Listener {
        /** A run begins. */
        void onRun(long seed, StateFormat format);

        /** A run has ended. */
        void onResult(long seed, StateFormat format, Training.Result result);
    }

    /**
     * What one format came to.
     *
     * @param format of the states
     * @param losses held-out loss in nats a token, of each seed
     * @param stateBytes what the states took
     */
    public record Row(StateFormat format, List<Double> losses, long stateBytes) {
        /** Copies the list. */
        public Row {
            losses = List.copyOf(losses);
        }

        /** The mean over the seeds. */
        public double mean() {
            return losses.stream().mapToDouble(Double::doubleValue).average().orElseThrow();
        }
    }

    private StateComparison() {}

    /** The formats that a rule has, F32 first. */
    public static List<StateFormat> formats(UpdateRule rule) {
        return rule == UpdateRule.ADAM || rule == UpdateRule.ADAMW
                ? List.of(StateFormat.F32, StateFormat.DYNAMIC8, StateFormat.FP8)
                : List.of(StateFormat.F32, StateFormat.DYNAMIC8);
    }

    /**
     * Runs every format with the options' seed and the seeds behind it.
     *
     * @return a row for each of {@link #formats}
     */
    public static List<Row> run(
            Device device, TrainingOptions options, int seeds, Corpus corpus, Listener listener)
            throws IOException {
        List<StateFormat> formats = formats(options.optimizer().rule());
        List<List<Double>> losses = new ArrayList<>();
        long[] bytes = new long[formats.size()];
        formats.forEach(format -> losses.add(new ArrayList<>()));
        for (int n = 0; n < seeds; n++) {
            long seed = options.seed() + n;
            TrainingOptions seeded = options.with(seed, options.optimizer());
            TextCorpus text = corpus.split(seeded);
            for (int f = 0; f < formats.size(); f++) {
                StateFormat format = formats.get(f);
                TrainingOptions each = seeded.with(seed, options.optimizer().withState(format));
                listener.onRun(seed, format);
                try (var training = new Training(device, each, text, null, 1)) {
                    Training.Result result = training.run(listener);
                    listener.onResult(seed, format, result);
                    losses.get(f).add(result.heldOutLoss());
                    bytes[f] = result.stateBytes();
                }
            }
        }
        List<Row> rows = new ArrayList<>();
        for (int f = 0; f < formats.size(); f++) {
            rows.add(new Row(formats.get(f), losses.get(f), bytes[f]));
        }
        return rows;
    }
}
