package dev.tarpon.quant.train;

import dev.tarpon.quant.llama.LlamaConfig;
import dev.tarpon.quant.llama.LlamaNames;

import java.util.Map;

/**
 * The loss of a Llama model in fp64, written from the formulas one token and one head at a time and
 * sharing no code with the model under test.
 */
final class ReferenceLlama {
    private final LlamaConfig config;
    private final Map<String, double[]> parameters;

    /** Parameters by name, row-major; the caller may change them between calls. */
    ReferenceLlama(LlamaConfig config, Map<String, double[]> parameters) {
        this.config = config;
        this.parameters = parameters;
    }

    /** Mean loss over all tokens of sequences that lie end to end. */
    double loss(int[] tokens, int[] targets, int context) {
        double sum = 0;
        for (int at = 0; at < tokens.length; at += context) {
            double[][] logits = logits(tokens, at, context);
            for (int t = 0; t < context; t++) {
                double total = 0;
                for (double logit : logits[t]) {
                    total += Math.exp(logit);
                }
                sum += Math.log(total) - logits[t][targets[at + t]];
            }
        }
        return sum / tokens.length;
    }

    private double[][] logits(int[] tokens, int at, int context) {
        int hidden = config.hidden();
        double[][] x = new double[context][hidden];
        for (int t = 0; t < context; t++) {
            System.arraycopy(
                    parameters.get(LlamaNames.EMBEDDING), tokens[at + t] * hidden, x[t], 0, hidden);
        }
        for (int layer = 0; layer < config.layers(); layer++) {
            add(x, attention(layer, norm(x, LlamaNames.INPUT_NORM.of(layer))));
            add(x, feedForward(layer, norm(x, LlamaNames.POST_ATTENTION_NORM.of(layer))));
        }
        return linear(norm(x, LlamaNames.FINAL_NORM), LlamaNames.OUTPUT);
    }

    private static void add(double[][] x, double[][] y) {
        for (int t = 0; t < x.length; t++) {
            for (int i = 0; i < x[t].length; i++) {
                x[t][i] += y[t][i];
            }
        }
    }

    private double[][] norm(double[][] x, String name) {
        double[] w = parameters.get(name);
        double[][] y = new double[x.length][w.length];
        for (int t = 0; t < x.length; t++) {
            double squares = 0;
            for (double value : x[t]) {
                squares += value * value;
            }
            double inverse = 1 / Math.sqrt(squares / w.length + config.rmsNormEpsilon());
            for (int i = 0; i < w.length; i++) {
                y[t][i] = x[t][i] * inverse * w[i];
            }
        }
        return y;
    }

    private double[][] linear(double[][] x, String name) {
        double[] w = parameters.get(name);
        int in = x[0].length;
        int out = w.length / in;
        double[][] y = new double[x.length][out];
        for (int t = 0; t < x.length; t++) {
            for (int o = 0; o < out; o++) {
                for (int i = 0; i < in; i++) {
                    y[t][o] += x[t][i] * w[o * in + i];
                }
            }
        }
        return y;
    }

    private double[][] attention(int layer, double[][] x) {
        double[][] q = linear(x, LlamaNames.QUERY.of(layer));
        double[][] k = linear(x, LlamaNames.KEY.of(layer));
        double[][] v = linear(x, LlamaNames.VALUE.of(layer));
        int width = config.headDim();
        double[][] y = new double[x.length][config.queryWidth()];
        for (int head = 0; head < config.queryHeads(); head++) {
            int from = head * width;
            int kvFrom = head / config.groupHeads() * width;
            for (int t = 0; t < x.length; t++) {
                double[] weights = new double[t + 1];
                double total = 0;
                for (int s = 0; s <= t; s++) {
                    double score = rotatedProduct(q[t], from, k[s], kvFrom, t - s);
                    weights[s] = Math.exp(score / Math.sqrt(width));
                    total += weights[s];
                }
                for (int s = 0; s <= t; s++) {
                    for (int i = 0; i < width; i++) {
                        y[t][from + i] += weights[s] / total * v[s][kvFrom + i];
                    }
                }
            }
        }
        return linear(y, LlamaNames.ATTENTION_OUTPUT.of(layer));
    }

    /** As complex numbers: the real part of q conj(k) turned by the distance of the positions. */
    private double rotatedProduct(double[] q, int qFrom, double[] k, int kFrom, int distance) {
        int half = config.headDim() / 2;
        double sum = 0;
        for (int i = 0; i < half; i++) {
            double angle = distance * Math.pow(config.ropeTheta(), -(double) i / half);
            double qr = q[qFrom + i];
            double qi = q[qFrom + half + i];
            double kr = k[kFrom + i];
            double ki = k[kFrom + half + i];
            double real = qr * kr + qi * ki;
            double imaginary = qi * kr - qr * ki;
            sum += real * Math.cos(angle) - imaginary * Math.sin(angle);
        }
        return sum;
    }

    private double[][] feedForward(int layer, double[][] x) {
        double[][] gate = linear(x, LlamaNames.GATE.of(layer));
        double[][] up = linear(x, LlamaNames.UP.of(layer));
        for (int t = 0; t < x.length; t++) {
            for (int i = 0; i < up[t].length; i++) {
                up[t][i] *= gate[t][i] / (1 + Math.exp(-gate[t][i]));
            }
        }
        return linear(up, LlamaNames.DOWN.of(layer));
    }
}
