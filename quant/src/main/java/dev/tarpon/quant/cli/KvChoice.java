package dev.tarpon.quant.cli;

import dev.tarpon.kv.KvMode;
import dev.tarpon.quant.kv.KvFormat;
import dev.tarpon.quant.kv.MassiveActivations;
import dev.tarpon.quant.kv.ModelCalibration;
import dev.tarpon.quant.kv.SinkPolicy;
import dev.tarpon.quant.llama.LlamaConfig;

import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** The cache of a model that generates. */
final class KvChoice {
    private static final String MASSIVE = "massive";

    @Spec(Spec.Target.MIXEE)
    private CommandSpec spec;

    @Option(
            names = "--kv-bits",
            paramLabel = "K,V",
            defaultValue = "2,2",
            split = ",",
            description =
                    "Bits of an element of keys and of values, each 2, 3, 4, 8 or 16; one number is"
                            + " for both. Default: 2,2.")
    private List<Integer> bits;

    @Option(
            names = "--kv-mode",
            paramLabel = "MODE",
            defaultValue = "tarpon",
            converter = KvFlags.ModeConverter.class,
            description = "tarpon or rotatekv. Default: tarpon.")
    private KvMode mode;

    @Option(
            names = "--sinks",
            paramLabel = "N|massive",
            description =
                    "Tokens that are kept in 16 bits as attention sinks: the first N, or up to 20"
                        + " of each layer that have massive activations, wherever they are."
                        + " Default: the first ones, as many as the calibration says, or 4; in mode"
                        + " rotatekv massive.")
    private String sinks;

    @Option(
            names = "--window",
            paramLabel = "N",
            defaultValue = "0",
            description = "Last tokens that are kept in 16 bits. Default: 0.")
    private int window;

    @Option(
            names = "--calibration",
            paramLabel = "FILE",
            description =
                    "A file of ./tarpon calibrate-kv. Default: "
                            + CalibrateKvCommand.FILE
                            + " in MODEL, if it is there.")
    private Path calibration;

    /** The format; what no device has is a usage error. */
    KvFormat format(ModelCalibration calibrated) {
        if (bits.isEmpty() || bits.size() > 2) {
            throw usage("--kv-bits has %d numbers; one or two are possible".formatted(bits.size()));
        }
        for (int one : bits) {
            if (!KvFlags.BITS.contains(one)) {
                throw usage("--kv-bits %d: 2, 3, 4, 8 or 16".formatted(one));
            }
        }
        if (window < 0 || window > 1024) {
            throw usage("--window %d: 0 to 1024".formatted(window));
        }
        boolean massive = sinks == null ? mode == KvMode.ROTATEKV : sinks.equals(MASSIVE);
        return new KvFormat(
                mode,
                bits.getFirst(),
                bits.getLast(),
                massive ? MassiveActivations.ENTRIES : firstSinks(calibrated),
                window,
                massive ? SinkPolicy.MASSIVE : SinkPolicy.FIRST);
    }

    private int firstSinks(ModelCalibration calibrated) {
        if (sinks == null) {
            return calibrated == null ? 4 : calibrated.sinkTokens();
        }
        if (!sinks.matches("[0-9]{1,3}") || Integer.parseInt(sinks) > 256) {
            throw usage("--sinks %s: 0 to 256, or %s".formatted(sinks, MASSIVE));
        }
        return Integer.parseInt(sinks);
    }

    private ParameterException usage(String message) {
        return new ParameterException(spec.commandLine(), message);
    }

    /** The calibration of a model; null if there is none. */
    ModelCalibration calibration(Path model, LlamaConfig config) throws IOException {
        Path file = calibration == null ? model.resolve(CalibrateKvCommand.FILE) : calibration;
        if (calibration == null && !Files.exists(file)) {
            return null;
        }
        ModelCalibration loaded = ModelCalibration.load(file);
        loaded.requireLayer(config.layers() - 1, config.keyValueHeads(), config.headDim());
        loaded.source().requireModel(model.toString(), Models.sha256(model));
        return loaded;
    }
}
