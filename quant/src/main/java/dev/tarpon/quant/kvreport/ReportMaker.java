package dev.tarpon.quant.kvreport;

import dev.tarpon.Device;
import dev.tarpon.kv.KvCalibration;
import dev.tarpon.kv.KvMode;
import dev.tarpon.quant.generate.CachedAttention;
import dev.tarpon.quant.generate.LlamaDecoder;
import dev.tarpon.quant.generate.PlainAttention;
import dev.tarpon.quant.kv.CalibrationSource;
import dev.tarpon.quant.kv.KeyStatistics;
import dev.tarpon.quant.kv.KvFormat;
import dev.tarpon.quant.kv.ModelCalibration;
import dev.tarpon.quant.llama.LlamaConfig;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;

/** Measures what a report shows. */
public final class ReportMaker {
    /** Widths of the tables. */
    public static final int[] BITS = {2, 3, 4};

    private final Device device;
    private final Consumer<String> listener;

    /**
     * A maker.
     *
     * @param device where the library's cache is
     * @param listener called with the name of each step when it begins
     */
    public ReportMaker(Device device, Consumer<String> listener) {
        this.device = device;
        this.listener = listener;
    }

    /** Schemes on keys and values of all-MiniLM-L6-v2. */
    public KvReport.Section bert(Path model, Path tokenizer) throws IOException {
        listener.accept("running all-MiniLM-L6-v2");
        BertData.Layers layers = BertData.of(model, tokenizer);
        List<ModelCalibration.Layer> statistics = new ArrayList<>();
        for (List<LayerData> texts : layers.calibration()) {
            KeyStatistics keys = SchemeErrors.statistics(texts);
            float[] rotated = keys.rotatedMean(device);
            statistics.add(
                    new ModelCalibration.Layer(
                            keys.mean(), keys.deviation(), rotated, KeyStatistics.order(rotated)));
        }
        LayerData first = layers.measured().getFirst().getFirst();
        var calibration =
                new ModelCalibration(
                        first.keyValueHeads(),
                        first.headDim(),
                        statistics,
                        new float[0][],
                        new CalibrationSource("", "other passages", "", 0, 0, ""));
        return section(
                "Keys and values of all-MiniLM-L6-v2 on real sentences",
                "%d layers; %d tokens in %d passages of the demo's sentences, calibrated on other"
                                .formatted(
                                        layers.measured().size(),
                                        layers.measured().getFirst().stream()
                                                .mapToInt(LayerData::tokens)
                                                .sum(),
                                        layers.measured().getFirst().size())
                        + " passages; no tokens in 16 bits but massive sinks. Two of the model's"
                        + " heads of 32 channels count as one.",
                layers.measured(),
                calibration,
                0);
    }

    /** Schemes on keys and values of a language model. */
    public KvReport.Section llama(
            LlamaDecoder decoder, int[] text, String note, ModelCalibration calibration) {
        listener.accept("running the language model");
        List<List<LayerData>> layers = LlamaData.of(decoder, text, decoder.config().positions());
        return section(
                "Keys and values of the language model on held-out text",
                note,
                layers,
                calibration,
                calibration.sinkTokens());
    }

    private KvReport.Section section(
            String title,
            String note,
            List<List<LayerData>> layers,
            ModelCalibration calibration,
            int sinkTokens) {
        List<SchemeErrors> rows = new ArrayList<>();
        for (int bits : BITS) {
            listener.accept("measuring schemes at " + bits + " bits");
            rows.addAll(
                    SchemeErrors.measure(device, layers, calibration::forCache, bits, sinkTokens));
        }
        return new KvReport.Section(title, note, rows);
    }

    /**
     * A language model over 16-bit caches and those of both modes.
     *
     * @param decoder with the linear layers that it generates with
     * @param text held-out text, of whole windows
     */
    public List<KvReport.PredictionRow> predictions(
            LlamaDecoder decoder, int[] text, ModelCalibration calibration) {
        List<KvReport.PredictionRow> rows = new ArrayList<>();
        listener.accept("predicting over fp32 keys and values");
        Prediction exact = exact(decoder, text);
        Run half = run(decoder, text, KvFormat.HALF, calibration);
        long tokens = text.length;
        LlamaConfig config = decoder.config();
        rows.add(
                new KvReport.PredictionRow(
                        "fp32 in plain Java",
                        "",
                        32,
                        2 * tokens * config.keyValueWidth() * config.layers() * Float.BYTES,
                        exact.perplexity(),
                        exact.agreement(half.prediction())));
        rows.add(half.row("16 bits", "", half.prediction()));
        for (KvMode mode : KvMode.values()) {
            Scheme scheme = mode == KvMode.TARPON ? Scheme.TARPON : Scheme.ROTATEKV;
            for (int bits : new int[] {4, 3, 2}) {
                KvFormat format = new KvFormat(mode, bits, calibration.sinkTokens());
                rows.add(
                        run(decoder, text, format, calibration)
                                .row(format.label(), scheme.label(), half.prediction()));
            }
        }
        for (int bits : new int[] {4, 3, 2}) {
            KvFormat format = KvFormat.ofMassiveSinks(KvMode.ROTATEKV, bits);
            rows.add(
                    run(decoder, text, format, calibration)
                            .row(
                                    format.label(),
                                    Scheme.ROTATEKV_MASSIVE.label(),
                                    half.prediction()));
        }
        var mixed = new KvFormat(KvMode.TARPON, 4, 2, calibration.sinkTokens(), 0);
        rows.add(run(decoder, text, mixed, calibration).row(mixed.label(), "", half.prediction()));
        return rows;
    }

    /** A prediction and the cache it was made over. */
    private record Run(Prediction prediction, double bitsPerValue, long bytes) {
        KvReport.PredictionRow row(String label, String series, Prediction half) {
            return new KvReport.PredictionRow(
                    label,
                    series,
                    bitsPerValue,
                    bytes,
                    prediction.perplexity(),
                    prediction.agreement(half));
        }
    }

    private Run run(
            LlamaDecoder decoder, int[] text, KvFormat format, ModelCalibration calibration) {
        listener.accept("predicting over " + format.label());
        int window = decoder.config().positions();
        int windows = text.length / window;
        try (var cache = attention(decoder, format, calibration, windows)) {
            Prediction prediction = Prediction.of(decoder, text, windows, window, cache);
            double kept = (cache.meanSinks() + format.windowTokens()) / (window - 1);
            double pages = cache.bitsPerValue();
            return new Run(prediction, pages + (16 - pages) * kept, cache.usedBytes());
        }
    }

    private CachedAttention attention(
            LlamaDecoder decoder, KvFormat format, ModelCalibration calibration, int windows) {
        // 16 bits need no calibration, and are what others are compared with.
        return new CachedAttention(
                device,
                decoder.config(),
                format,
                layer ->
                        format.equals(KvFormat.HALF)
                                ? KvCalibration.NONE
                                : calibration.forCache(layer, format.mode()),
                windows,
                decoder.config().positions());
    }

    private static Prediction exact(LlamaDecoder decoder, int[] text) {
        int window = decoder.config().positions();
        int windows = text.length / window;
        try (var attention = new PlainAttention(decoder.config(), windows, window)) {
            return Prediction.of(decoder, text, windows, window, attention);
        }
    }
}
