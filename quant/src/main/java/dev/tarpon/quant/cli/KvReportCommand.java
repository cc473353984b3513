package dev.tarpon.quant.cli;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.DeviceKind;
import dev.tarpon.format.AtomicFile;
import dev.tarpon.quant.generate.LlamaDecoder;
import dev.tarpon.quant.kvreport.KvReport;
import dev.tarpon.quant.kvreport.ReportMaker;
import dev.tarpon.quant.kvreport.SchemeErrors;
import dev.tarpon.quant.model.FloatLinear;
import dev.tarpon.quant.model.LinearRuntime;
import dev.tarpon.quant.model.WeightQuantizer;

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
        KvEvaluation evaluation =
                model == null ? null : KvEvaluation.read(model, text, calibration, tokens);
        KvReport result;
        try (Device opened = Devices.open(spec, device);
                Progress progress = Progress.start("Report", model == null ? 4 : 17)) {
            var maker =
                    new ReportMaker(
                            opened,
                            step -> {
                                progress.describe(step);
                                progress.step();
                            });
            result = measure(opened, maker, evaluation);
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

    private static KvReport measure(Device opened, ReportMaker maker, KvEvaluation evaluation)
            throws IOException {
        List<KvReport.Section> sections = new ArrayList<>();
        sections.add(
                maker.bert(
                        KvEvaluation.fetched(DemoCommand.MODEL_FILE),
                        KvEvaluation.fetched("all-minilm-l6-v2-tokenizer.json")));
        List<KvReport.PredictionRow> predictions = List.of();
        String note = "";
        if (evaluation != null) {
            sections.add(schemes(maker, evaluation));
            predictions = predictions(opened, maker, evaluation);
            note =
                    "%d tokens of %s Linear layers in 4 bits, group %d, in every row. Agreement is"
                                    .formatted(
                                            evaluation.tokens().length,
                                            evaluation.describe(),
                                            GROUP)
                            + " with the 16-bit cache.";
        }
        String where =
                "%s (%s, %s)"
                        .formatted(opened.info().spec(), opened.info().name(), opened.info().isa());
        return new KvReport(where, sections, predictions, note);
    }

    private static KvReport.Section schemes(ReportMaker maker, KvEvaluation evaluation) {
        int window = evaluation.weights().config().positions();
        int most = Math.min(evaluation.tokens().length, SCHEME_WINDOWS * window);
        try (var decoder = new LlamaDecoder(evaluation.weights(), FloatLinear::new)) {
            String note =
                    "%d layers; %d tokens of %s"
                            .formatted(decoder.config().layers(), most, evaluation.describe());
            return maker.llama(
                    decoder,
                    Arrays.copyOf(evaluation.tokens(), most),
                    note,
                    evaluation.calibration());
        }
    }

    private static List<KvReport.PredictionRow> predictions(
            Device opened, ReportMaker maker, KvEvaluation evaluation) {
        DType activation = opened.info().kind() == DeviceKind.CPU ? DType.F32 : DType.F16;
        try (var runtime = new LinearRuntime(opened, activation);
                var decoder =
                        new LlamaDecoder(
                                evaluation.weights(),
                                matrix ->
                                        runtime.linear(WeightQuantizer.quantize(matrix, GROUP)))) {
            return maker.predictions(decoder, evaluation.tokens(), evaluation.calibration());
        }
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
