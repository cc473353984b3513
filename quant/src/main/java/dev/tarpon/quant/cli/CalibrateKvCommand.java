package dev.tarpon.quant.cli;

import dev.tarpon.Device;
import dev.tarpon.format.FormatException;
import dev.tarpon.quant.generate.LlamaDecoder;
import dev.tarpon.quant.kv.ByteText;
import dev.tarpon.quant.kv.CalibrationSource;
import dev.tarpon.quant.kv.Calibrator;
import dev.tarpon.quant.kv.ModelCalibration;
import dev.tarpon.quant.llama.LlamaWeights;
import dev.tarpon.quant.model.FloatLinear;

import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.Locale;
import java.util.concurrent.Callable;

/** Statistics of a model's keys, for its cache. */
@Command(
        name = "calibrate-kv",
        mixinStandardHelpOptions = true,
        description = {
            "Collect what a KV cache wants to know of a model's keys.",
            "",
            "Runs a model of ./tarpon train in fp32 over a text and collects, for each layer, the"
                    + " mean of the keys before rotary positions (mode tarpon), the order of the"
                    + " rotated channels (mode rotatekv), and which positions carry massive"
                    + " activations, which a cache should keep in 16 bits. Writes a small"
                    + " safetensors file that says what it was calibrated on; evaluations on the"
                    + " same text refuse it."
        },
        footerHeading = "%nExamples:%n",
        footer = {
            "  ./tarpon calibrate-kv quant/target/train/model --text book.txt",
            "  ./tarpon generate quant/target/train/model    uses the file beside the model"
        })
final class CalibrateKvCommand implements Callable<Integer> {
    /** Where generate looks for it. */
    static final String FILE = "kv-calibration.safetensors";

    @Spec private CommandSpec spec;

    @Parameters(
            paramLabel = "MODEL",
            description = "A folder with config.json and model.safetensors.")
    private Path model;

    @Option(
            names = "--text",
            paramLabel = "FILE",
            required = true,
            description =
                    "A UTF-8 text like those that the model will see, but none that it is evaluated"
                            + " on; blank lines separate its documents.")
    private Path text;

    @Option(
            names = {"-o", "--out"},
            paramLabel = "FILE",
            description = "Default: " + FILE + " in MODEL.")
    private Path out;

    @Option(
            names = "--tokens",
            paramLabel = "N",
            defaultValue = "32768",
            description = "How many tokens of the text to run, at most. Default: 32768.")
    private int tokens;

    @Override
    public Integer call() throws IOException {
        if (tokens < 1) {
            throw new ParameterException(
                    spec.commandLine(), "--tokens %d: it must be >= 1".formatted(tokens));
        }
        LlamaWeights weights = Models.load(model);
        ModelCalibration calibration =
                calibrate(weights, Models.sha256(model), ByteText.read(text), tokens);
        Path target = out == null ? model.resolve(FILE) : out;
        calibration.save(target);
        print(calibration, target);
        return ExitCode.OK;
    }

    /** Runs the text, or its beginning. */
    static ModelCalibration calibrate(
            LlamaWeights weights, String modelSha256, ByteText text, int atMost)
            throws IOException {
        int window = weights.config().positions();
        int[] ids = text.tokens(atMost);
        if (ids.length < window) {
            throw new FormatException(
                    text.name(),
                    "%d tokens are fewer than one window of the model, %d"
                            .formatted(ids.length, window));
        }
        int windows = ids.length / window;
        var source =
                new CalibrationSource(
                        "",
                        text.name(),
                        text.sha256(),
                        (long) windows * window,
                        window,
                        modelSha256);
        try (var device = Device.open("cpu");
                var decoder = new LlamaDecoder(weights, FloatLinear::new);
                Progress progress = Progress.start("Calibrating", windows)) {
            var calibrator = new Calibrator(decoder);
            calibrator.run(ids, window, done -> progress.step());
            return calibrator.result(device, source);
        }
    }

    private void print(ModelCalibration calibration, Path target) {
        PrintWriter out = spec.commandLine().getOut();
        CalibrationSource source = calibration.source();
        out.printf(
                "%d tokens of %s, in windows of %d%n",
                source.tokens(), source.text(), source.window());
        Table table = new Table().row("layer", "largest mean", "in deviations", "means kept");
        for (int i = 0; i < calibration.layers().size(); i++) {
            float[] mean = calibration.layers().get(i).keyMean();
            float[] deviation = calibration.layers().get(i).keyDeviation();
            int largest = 0;
            for (int c = 1; c < mean.length; c++) {
                if (Math.abs(mean[c]) > Math.abs(mean[largest])) {
                    largest = c;
                }
            }
            table.row(
                    Integer.toString(i),
                    String.format(Locale.ROOT, "%.2f", mean[largest]),
                    String.format(
                            Locale.ROOT, "%.1f", Math.abs(mean[largest]) / deviation[largest]),
                    "%d of %d".formatted(calibration.meansKept(i), mean.length));
        }
        table.print(out, "  ");
        int sinks = calibration.sinkTokens();
        out.println(
                sinks == 0
                        ? "attention sinks: none; no position has massive activations"
                        : "attention sinks: the first " + sinks + " tokens");
        out.println("written: " + target.toAbsolutePath());
    }
}
