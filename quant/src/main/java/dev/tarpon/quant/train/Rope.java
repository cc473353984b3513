package dev.tarpon.quant.train;

/**
 * Rotary positions in the half layout: elements i and i + headDim / 2 of every head turn by
 * position * theta^(-2 i / headDim) (Su et al., "RoFormer"; the layout of Hugging Face's Llama).
 */
final class Rope {
    private final int headDim;
    private final float[][] cosines;
    private final float[][] sines;

    Rope(int headDim, int positions, double theta) {
        this.headDim = headDim;
        int pairs = headDim / 2;
        cosines = new float[positions][pairs];
        sines = new float[positions][pairs];
        for (int i = 0; i < pairs; i++) {
            double frequency = Math.pow(theta, -2.0 * i / headDim);
            for (int position = 0; position < positions; position++) {
                cosines[position][i] = (float) Math.cos(position * frequency);
                sines[position][i] = (float) Math.sin(position * frequency);
            }
        }
    }

    /** Turns all heads of all rows, in place; row t is at position t % context of its sequence. */
    void forward(float[][] x, int context) {
        turn(x, context, 1);
    }

    /** Turns back, which is the gradient's way through a rotation. */
    void backward(float[][] x, int context) {
        turn(x, context, -1);
    }

    private void turn(float[][] x, int context, float direction) {
        int half = headDim / 2;
        Rows.forBlocks(
                x.length,
                (block, from, to) -> {
                    for (int t = from; t < to; t++) {
                        float[] row = x[t];
                        float[] cos = cosines[t % context];
                        float[] sin = sines[t % context];
                        for (int head = 0; head < row.length; head += headDim) {
                            for (int i = 0; i < half; i++) {
                                float low = row[head + i];
                                float high = row[head + half + i];
                                float s = direction * sin[i];
                                row[head + i] = low * cos[i] - high * s;
                                row[head + half + i] = high * cos[i] + low * s;
                            }
                        }
                    }
                });
    }
}
