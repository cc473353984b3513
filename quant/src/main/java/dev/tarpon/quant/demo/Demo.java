package dev.tarpon.quant.demo;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.QuantizedWeights;
import dev.tarpon.quant.model.BertConfig;
import dev.tarpon.quant.model.BertEncoder;
import dev.tarpon.quant.model.BertWeights;
import dev.tarpon.quant.model.FloatLinear;
import dev.tarpon.quant.model.LinearRuntime;
import dev.tarpon.quant.model.WeightQuantizer;
import dev.tarpon.quant.tokenizer.WordPieceTokenizer;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Consumer;

/**
 * Embeds sentences with all-MiniLM-L6-v2 three times: with the original fp32 weights, with its
 * linear layers quantised to 4 bits through the library, and in fp32 with what the 4-bit weights
 * stand for. The second against the third shows that the kernels are faithful, against the first
 * what the quantisation costs.
 */
public final class Demo {
    /** How many steps {@link #run} reports. */
    public static final int STEPS = 5;

    private final Device device;
    private final DType activation;
    private final int groupSize;
    private final int repeats;
    private final Consumer<String> listener;

    /**
     * A demo on an open device.
     *
     * @param repeats timed runs of each kind, of which the fastest counts
     * @param listener called with the name of each step when it begins
     */
    public Demo(
            Device device,
            DType activation,
            int groupSize,
            int repeats,
            Consumer<String> listener) {
        this.device = device;
        this.activation = activation;
        this.groupSize = groupSize;
        this.repeats = repeats;
        this.listener = listener;
    }

    private record Run(float[][] embeddings, double seconds) {}

    /** Runs it. */
    public DemoResult run(Path model, Path tokenizer, List<SentencePairs.Pair> pairs)
            throws IOException {
        listener.accept("reading the model");
        BertWeights weights = BertWeights.fromOnnx(model, BertConfig.ALL_MINILM_L6_V2);
        List<int[]> sentences = tokens(WordPieceTokenizer.load(tokenizer), pairs);

        listener.accept("embedding with fp32 weights");
        Run original;
        long floatBytes;
        int linearCount;
        try (var encoder = new BertEncoder(weights, (name, matrix) -> new FloatLinear(matrix))) {
            original = timed(encoder, sentences);
            floatBytes = encoder.linearWeightBytes();
            linearCount = encoder.linearCount();
        }

        listener.accept("quantising " + linearCount + " linear layers");
        long begin = System.nanoTime();
        Map<String, QuantizedWeights> quantized = new LinkedHashMap<>();
        weights.matrices()
                .forEach(
                        (name, matrix) ->
                                quantized.put(name, WeightQuantizer.quantize(matrix, groupSize)));
        double quantizeSeconds = (System.nanoTime() - begin) / 1e9;

        listener.accept("embedding with 4-bit weights on " + device.info().spec());
        Run fourBit;
        long quantizedBytes;
        try (var runtime = new LinearRuntime(device, activation);
                var encoder =
                        new BertEncoder(
                                weights, (name, matrix) -> runtime.linear(quantized.get(name)))) {
            fourBit = timed(encoder, sentences);
            quantizedBytes = encoder.linearWeightBytes();
        }

        listener.accept("embedding with the dequantised weights");
        float[][] dequantized;
        try (var encoder =
                new BertEncoder(
                        weights,
                        (name, matrix) ->
                                new FloatLinear(WeightQuantizer.dequantize(quantized.get(name))))) {
            dequantized = encoder.embed(sentences);
        }
        return new DemoResult(
                device.info(),
                activation.name().toLowerCase(Locale.ROOT),
                groupSize,
                linearCount,
                floatBytes,
                quantizedBytes,
                quantizeSeconds,
                sentences.stream().mapToInt(ids -> ids.length).sum(),
                original.seconds(),
                fourBit.seconds(),
                pairs,
                Agreement.cosines(fourBit.embeddings(), dequantized),
                Agreement.cosines(fourBit.embeddings(), original.embeddings()),
                Agreement.pairSimilarities(original.embeddings()),
                Agreement.pairSimilarities(fourBit.embeddings()));
    }

    private static List<int[]> tokens(
            WordPieceTokenizer tokenizer, List<SentencePairs.Pair> pairs) {
        List<int[]> sentences = new ArrayList<>();
        for (SentencePairs.Pair pair : pairs) {
            sentences.add(tokenizer.encode(pair.first()));
            sentences.add(tokenizer.encode(pair.second()));
        }
        return sentences;
    }

    /** The fastest of the repeats, after one that warms up unless only one is asked for. */
    private Run timed(BertEncoder encoder, List<int[]> sentences) {
        if (repeats > 1) {
            encoder.embed(sentences);
        }
        float[][] embeddings = null;
        double best = Double.POSITIVE_INFINITY;
        for (int i = 0; i < repeats; i++) {
            long begin = System.nanoTime();
            embeddings = encoder.embed(sentences);
            best = Math.min(best, (System.nanoTime() - begin) / 1e9);
        }
        return new Run(embeddings, best);
    }
}
