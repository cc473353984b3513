package dev.tarpon.quant.kvreport;

import dev.tarpon.Device;
import dev.tarpon.kv.KvCalibration;
import dev.tarpon.kv.KvMode;
import dev.tarpon.quant.kv.KeyStatistics;
import dev.tarpon.quant.kv.KvFormat;

import java.util.Arrays;
import java.util.List;
import java.util.function.BiFunction;
import java.util.function.Function;

/**
 * Errors of a scheme at a width over a model's layers and texts.
 *
 * @param scheme which
 * @param bits of a code, of keys and of values
 * @param bitsPerValue with all metadata, and with the sinks that the library's modes keep
 * @param keyError relative squared error of the keys after rotary positions
 * @param valueError relative squared error of the values
 * @param outputError relative error of attention's outputs, a ratio of root mean squares
 */
public record SchemeErrors(
        Scheme scheme,
        int bits,
        double bitsPerValue,
        double keyError,
        double valueError,
        double outputError) {

    /** Sums of squared errors and of squares. */
    private static final class Sum {
        double error;
        double square;

        void add(float[] got, float[] want) {
            for (int i = 0; i < want.length; i++) {
                add(got[i], want[i]);
            }
        }

        void add(double[] got, double[] want) {
            for (int i = 0; i < want.length; i++) {
                add(got[i], want[i]);
            }
        }

        private void add(double got, double want) {
            error += (got - want) * (got - want);
            square += want * want;
        }

        double relative() {
            return error / square;
        }
    }

    /**
     * Measures every scheme at a width.
     *
     * @param layers of each layer the texts it is measured on
     * @param calibration of each layer's cache in a mode
     * @param sinkTokens first tokens that the library's modes keep in 16 bits, where they do not
     *     find sinks by massive activations
     */
    public static List<SchemeErrors> measure(
            Device device,
            List<List<LayerData>> layers,
            BiFunction<Integer, KvMode, KvCalibration> calibration,
            int bits,
            int sinkTokens) {
        return Arrays.stream(Scheme.values())
                .map(
                        scheme ->
                                measure(
                                        layers,
                                        scheme,
                                        bits,
                                        layer ->
                                                coder(
                                                        device,
                                                        scheme,
                                                        bits,
                                                        sinkTokens,
                                                        scheme.mode() == null
                                                                ? KvCalibration.NONE
                                                                : calibration.apply(
                                                                        layer, scheme.mode()))))
                .toList();
    }

    private static Function<LayerData, Coded> coder(
            Device device, Scheme scheme, int bits, int sinkTokens, KvCalibration calibration) {
        return data ->
                switch (scheme) {
                    case PLAIN -> PeerSchemes.plain(data, bits);
                    case KIVI -> PeerSchemes.kivi(data, bits);
                    case QUAROT -> PeerSchemes.quarot(device, data, bits);
                    case ROTATEKV, TARPON ->
                            LibrarySchemes.roundTrip(
                                    device,
                                    data,
                                    new KvFormat(scheme.mode(), bits, sinkTokens),
                                    calibration);
                    case ROTATEKV_MASSIVE ->
                            LibrarySchemes.roundTrip(
                                    device,
                                    data,
                                    KvFormat.ofMassiveSinks(scheme.mode(), bits),
                                    calibration);
                };
    }

    private static SchemeErrors measure(
            List<List<LayerData>> layers,
            Scheme scheme,
            int bits,
            Function<Integer, Function<LayerData, Coded>> coders) {
        Sum keys = new Sum();
        Sum values = new Sum();
        Sum outputs = new Sum();
        double bitsSum = 0;
        long tokens = 0;
        for (int layer = 0; layer < layers.size(); layer++) {
            Function<LayerData, Coded> coder = coders.apply(layer);
            for (LayerData data : layers.get(layer)) {
                Coded coded = coder.apply(data);
                float[] exact = data.turned(data.k());
                keys.add(coded.keys(), exact);
                values.add(coded.values(), data.v());
                outputs.add(
                        data.attend(coded.keys(), coded.values()), data.attend(exact, data.v()));
                bitsSum += coded.bits() * data.tokens();
                tokens += data.tokens();
            }
        }
        return new SchemeErrors(
                scheme,
                bits,
                bitsSum / tokens,
                keys.relative(),
                values.relative(),
                Math.sqrt(outputs.relative()));
    }

    /** Statistics of a layer's keys over texts that it is not measured on. */
    public static KeyStatistics statistics(List<LayerData> texts) {
        LayerData first = texts.getFirst();
        var statistics = new KeyStatistics(first.keyValueHeads(), first.headDim());
        texts.forEach(data -> statistics.add(data.k()));
        return statistics;
    }
}
