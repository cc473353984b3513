package dev.tarpon.quant.generate;

import dev.tarpon.format.Shapes;
import dev.tarpon.quant.llama.LlamaConfig;
import dev.tarpon.quant.llama.LlamaWeights;

import java.util.LinkedHashMap;
import java.util.Random;

/** A small seeded model: random, but with attention and logits of realistic spread. */
public final class TinyLlama {
    public static final LlamaConfig CONFIG =
            new LlamaConfig(256, 128, 192, 2, 4, 2, 64, 256, 10000, 1e-5, true);

    private TinyLlama() {}

    public static LlamaWeights weights(long seed) {
        var random = new Random(seed);
        var parameters = new LinkedHashMap<String, float[]>();
        CONFIG.parameterShapes()
                .forEach(
                        (name, shape) -> {
                            float[] values = new float[Math.toIntExact(Shapes.elements(shape))];
                            boolean norm = shape.length == 1;
                            // Keys and queries louder, so that attention is not flat.
                            double gain =
                                    name.contains("q_proj") || name.contains("k_proj") ? 2 : 1;
                            double sigma = norm ? 0.1 : gain / Math.sqrt(shape[1]);
                            for (int i = 0; i < values.length; i++) {
                                values[i] =
                                        (float) ((norm ? 1 : 0) + sigma * random.nextGaussian());
                            }
                            parameters.put(name, values);
                        });
        return new LlamaWeights(CONFIG, parameters);
    }

    /** Seeded tokens. */
    public static int[] tokens(long seed, int count) {
        return new Random(seed).ints(count, 0, CONFIG.vocabulary()).toArray();
    }
}
