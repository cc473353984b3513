package dev.tarpon.quant.kvreport;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.Hadamard;
import dev.tarpon.Stream;
import dev.tarpon.Tensor;

/** Other schemes as quantise and dequantise, written from their papers. */
final class PeerSchemes {
    /** Values that share a scale. */
    private static final int GROUP = 128;

    private PeerSchemes() {}

    static Coded plain(LayerData data, int bits) {
        float[] keys = data.turned(data.k());
        float[] values = data.v().clone();
        perToken(keys, data.width(), bits, false);
        perToken(values, data.width(), bits, false);
        return new Coded(keys, values, perTokenBits(data, bits));
    }

    static Coded kivi(LayerData data, int bits) {
        float[] keys = data.turned(data.k());
        float[] values = data.v().clone();
        int width = data.width();
        double ranges = 0;
        for (int t = 0; t < data.tokens(); t += GROUP) {
            int count = Math.min(GROUP, data.tokens() - t);
            for (int c = 0; c < width; c++) {
                quantise(keys, t * width + c, count, width, bits, false);
                ranges++;
            }
        }
        perToken(values, width, bits, false);
        double keyBits = bits + 32 * ranges / keys.length;
        return new Coded(keys, values, (keyBits + perTokenBits(data, bits)) / 2);
    }

    static Coded quarot(Device device, LayerData data, int bits) {
        float[] keys = rotated(device, data.turned(data.k()), data.headDim());
        float[] values = rotated(device, data.v(), data.headDim());
        perToken(keys, data.width(), bits, true);
        perToken(values, data.width(), bits, true);
        return new Coded(
                rotated(device, keys, data.headDim()),
                rotated(device, values, data.headDim()),
                perTokenBits(data, bits));
    }

    private static float[] rotated(Device device, float[] x, int headDim) {
        try (Stream stream = device.createStream();
                Tensor rows = device.allocate(DType.F32, x.length / headDim, headDim)) {
            rows.copyFrom(x);
            Hadamard.transform(rows, rows, stream);
            return rows.toFloatArray();
        }
    }

    private static double perTokenBits(LayerData data, int bits) {
        return bits + 32.0 * Math.ceilDiv(data.width(), GROUP) / data.width();
    }

    private static void perToken(float[] x, int width, int bits, boolean zeroPoint) {
        for (int at = 0; at < x.length; at += width) {
            for (int c = 0; c < width; c += GROUP) {
                quantise(x, at + c, Math.min(GROUP, width - c), 1, bits, zeroPoint);
            }
        }
    }

    /** Codes some values with one range, from minimum to maximum. */
    private static void quantise(
            float[] x, int at, int count, int stride, int bits, boolean zeroPoint) {
        float low = Float.POSITIVE_INFINITY;
        float high = Float.NEGATIVE_INFINITY;
        for (int i = 0; i < count; i++) {
            low = Math.min(low, x[at + i * stride]);
            high = Math.max(high, x[at + i * stride]);
        }
        int top = (1 << bits) - 1;
        float scale = half((high - low) / top);
        if (scale == 0) {
            return; // a constant, or so close to one that binary16 has no scale for it
        }
        // With a minimum the lowest value is on the grid, with a zero point 0 is.
        float offset = zeroPoint ? (float) Math.rint(-low / scale) : -half(low) / scale;
        for (int i = 0; i < count; i++) {
            float code = (float) Math.rint(x[at + i * stride] / scale + offset);
            x[at + i * stride] = (Math.clamp(code, 0, top) - offset) * scale;
        }
    }

    private static float half(float x) {
        return Float.float16ToFloat(Float.floatToFloat16(x));
    }
}
