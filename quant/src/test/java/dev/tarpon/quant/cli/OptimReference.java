package dev.tarpon.quant.cli;

import dev.tarpon.CodeMap;

import java.util.function.DoubleUnaryOperator;

/**
 * The optimizers in double, each written from its paper or from PyTorch's documentation, with
 * states rounded as their formats say: apart from the library in every line.
 */
final class OptimReference {
    static final double LR = 0.01;
    static final double BETA1 = 0.8;
    static final double BETA2 = 0.97;
    static final double BETA3 = 0.95;
    static final double ALPHA = 2;
    static final double MOMENTUM = 0.7;
    static final double EPS = 1e-6;
    static final double DECAY = 0.05;
    static final double ETA = 0.02;
    static final double GAMMA = 0.05;
    static final double HESSIAN_SCALE = 3;
    static final int HESSIAN_EVERY = 2;

    private final String rule;
    private final String format;
    private final int columns;
    final double[] p;
    final double[][] state;
    private int steps;

    /**
     * Starts with states of zeros.
     *
     * @param columns of scale's matrix
     * @param slots the states that the rule has
     */
    OptimReference(String rule, String format, float[] start, int columns, int slots) {
        this.rule = rule;
        this.format = format;
        this.columns = columns;
        this.p = new double[start.length];
        for (int i = 0; i < p.length; i++) {
            p[i] = start[i];
        }
        this.state = new double[slots][start.length];
    }

    /** Whether a slot's dynamic map is the unsigned one. */
    static boolean isSecondMoment(String rule, int slot) {
        return switch (rule) {
            case "rmsprop", "adagrad" -> true;
            case "ademamix" -> slot == 2;
            default -> slot == 1;
        };
    }

    void step(float[] g) {
        int t = ++steps;
        double bias1 = 1 - Math.pow(BETA1, t);
        double bias2 = 1 - Math.pow(BETA2, t);
        if (rule.equals("sophiag") && (t - 1) % HESSIAN_EVERY == 0) {
            for (int i = 0; i < p.length; i++) {
                state[1][i] =
                        BETA2 * state[1][i] + (1 - BETA2) * HESSIAN_SCALE * g[i] * (double) g[i];
            }
            round(1);
        }
        double[] r = new double[p.length];
        double lars = ETA * norm(p, 0, 1) / (norm(widen(g), 0, 1) + DECAY * norm(p, 0, 1));
        for (int i = 0; i < p.length; i++) {
            double coupled = g[i] + DECAY * p[i];
            r[i] =
                    switch (rule) {
                        case "adam" -> adam(i, coupled, bias1, bias2);
                        case "adamw", "lamb" -> adam(i, g[i], bias1, bias2);
                        case "sgd" -> mean(0, i, MOMENTUM, 1, coupled);
                        case "rmsprop" ->
                                coupled
                                        / (Math.sqrt(mean(0, i, BETA2, 1 - BETA2, square(coupled)))
                                                + EPS);
                        case "adagrad" ->
                                coupled / (Math.sqrt(mean(0, i, 1, 1, square(coupled))) + EPS);
                        case "lion" -> {
                            double sign = Math.signum(BETA1 * state[0][i] + (1 - BETA1) * g[i]);
                            mean(0, i, BETA2, 1 - BETA2, g[i]);
                            yield sign;
                        }
                        case "ademamix" -> {
                            double fast = mean(0, i, BETA1, 1 - BETA1, g[i]) / bias1;
                            double slow = mean(1, i, BETA3, 1 - BETA3, g[i]);
                            double v = mean(2, i, BETA2, 1 - BETA2, square(g[i])) / bias2;
                            yield (fast + ALPHA * slow) / (Math.sqrt(v) + EPS);
                        }
                        case "lars" -> mean(0, i, MOMENTUM, LR * lars, coupled) / LR;
                        case "adabelief" -> {
                            double m = mean(0, i, BETA1, 1 - BETA1, g[i]);
                            double s = mean(1, i, BETA2, 1 - BETA2, square(g[i] - m)) + EPS;
                            state[1][i] = s;
                            yield m / bias1 / (Math.sqrt(s / bias2) + EPS);
                        }
                        case "sophiag" ->
                                Math.clamp(
                                        mean(0, i, BETA1, 1 - BETA1, g[i])
                                                / Math.max(GAMMA * state[1][i], EPS),
                                        -1.0,
                                        1.0);
                        case "scale" ->
                                state.length == 0 ? g[i] : mean(0, i, BETA1, 1 - BETA1, g[i]);
                        default -> throw new IllegalArgumentException(rule);
                    };
        }
        move(r);
        for (int slot = 0; slot < state.length; slot++) {
            if (!rule.equals("sophiag") || slot == 0) {
                round(slot);
            }
        }
    }

    /** Turns directions into steps, with decoupled decay where the rule has it. */
    private void move(double[] r) {
        double trust = 1;
        if (rule.equals("lamb")) {
            for (int i = 0; i < p.length; i++) {
                r[i] += DECAY * p[i];
            }
            trust = norm(p, 0, 1) / norm(r, 0, 1);
        }
        double[] directions = r.clone();
        boolean decoupled =
                switch (rule) {
                    case "adamw", "lion", "ademamix", "adabelief", "sophiag", "scale" -> true;
                    default -> false;
                };
        for (int i = 0; i < p.length; i++) {
            if (rule.equals("scale")) {
                directions[i] /= norm(r, i % columns, columns);
            }
            p[i] = p[i] * (decoupled ? 1 - LR * DECAY : 1) - LR * trust * directions[i];
        }
    }

    private double adam(int i, double g, double bias1, double bias2) {
        double m = mean(0, i, BETA1, 1 - BETA1, g) / bias1;
        double v = mean(1, i, BETA2, 1 - BETA2, square(g)) / bias2;
        return m / (Math.sqrt(v) + EPS);
    }

    private double mean(int slot, int i, double decay, double rest, double value) {
        return state[slot][i] = decay * state[slot][i] + rest * value;
    }

    private static double square(double x) {
        return x * x;
    }

    private static double[] widen(float[] values) {
        double[] wide = new double[values.length];
        for (int i = 0; i < wide.length; i++) {
            wide[i] = values[i];
        }
        return wide;
    }

    private static double norm(double[] values, int first, int stride) {
        double sum = 0;
        for (int i = first; i < values.length; i += stride) {
            sum += values[i] * values[i];
        }
        return Math.sqrt(sum);
    }

    private void round(int slot) {
        switch (format) {
            case "32bit" -> {}
            case "8bit" ->
                    roundDynamic(
                            state[slot],
                            (isSecondMoment(rule, slot)
                                            ? CodeMap.DYNAMIC_UNSIGNED
                                            : CodeMap.DYNAMIC_SIGNED)
                                    .codebook());
            case "fp8" -> roundFp8(state[slot]);
            default -> throw new IllegalArgumentException(format);
        }
    }

    private static void roundDynamic(double[] values, float[] map) {
        for (int begin = 0; begin < values.length; begin += 256) {
            int end = Math.min(values.length, begin + 256);
            double absmax = largest(values, begin, end);
            roundTo(values, begin, end, map, absmax == 0 ? 1 : absmax, x -> x, x -> x);
        }
    }

    /** COAT: the group's range is stretched to E4M3's by a power in sixteenths. */
    private static void roundFp8(double[] values) {
        float[] map = CodeMap.FP8_E4M3.codebook();
        for (int begin = 0; begin < values.length; begin += 128) {
            int end = Math.min(values.length, begin + 128);
            double absmax = largest(values, begin, end);
            double smallest = absmax;
            for (int i = begin; i < end; i++) {
                smallest = values[i] == 0 ? smallest : Math.min(smallest, Math.abs(values[i]));
            }
            double span = Math.log(absmax / smallest);
            double power = Math.floor(16 * Math.log(448 * 448 / 2.0) / span) / 16;
            double k = Math.clamp(power, 1 / 16.0, 16.0);
            roundTo(
                    values,
                    begin,
                    end,
                    map,
                    absmax,
                    x -> Math.copySign(Math.pow(Math.abs(x), k), x),
                    x -> Math.copySign(Math.pow(Math.abs(x), 1 / k), x));
        }
    }

    private static double largest(double[] values, int begin, int end) {
        double largest = 0;
        for (int i = begin; i < end; i++) {
            largest = Math.max(largest, Math.abs(values[i]));
        }
        return largest;
    }

    private static void roundTo(
            double[] values,
            int begin,
            int end,
            float[] map,
            double absmax,
            DoubleUnaryOperator expand,
            DoubleUnaryOperator contract) {
        for (int i = begin; i < end; i++) {
            double x = expand.applyAsDouble(values[i] / absmax);
            double nearest = 0;
            for (float level : map) {
                if (Math.abs(level - x) < Math.abs(nearest - x)) {
                    nearest = level;
                }
            }
            values[i] = contract.applyAsDouble(nearest) * absmax;
        }
    }
}
