package dev.tarpon.quant.cli;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.DeviceKind;
import dev.tarpon.format.AtomicFile;
import dev.tarpon.quant.demo.Demo;
import dev.tarpon.quant.demo.DemoReport;
import dev.tarpon.quant.demo.DemoResult;
import dev.tarpon.quant.demo.SentencePairs;

import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

import java.io.IOException;
import java.io.PrintWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;

/** The main job on a real model. */
@Command(
        name = "demo",
        mixinStandardHelpOptions = true,
        description = {
            "Quantise all-MiniLM-L6-v2 to 4 bits and see how well its sentence embeddings agree.",
            "",
            "The 36 linear layers of this trained model (6 transformer layers, 22.7 million"
                + " parameters, from Maven Central) are quantised round to nearest and run through"
                + " the library on the chosen device. Real sentence pairs are embedded with the"
                + " original fp32 weights, with the 4-bit weights, and in fp32 with what the 4-bit"
                + " weights stand for.",
            "",
            "Exit code 5 if a sentence's cosine with the dequantised run is under 0.9995 (the"
                + " kernels must be faithful), or if, at group 128 and with 32 or more pairs, the"
                + " mean cosine with the original is under 0.94 (what round-to-nearest gives on"
                + " this model)."
        },
        footerHeading = "%nExamples:%n",
        footer = {
            "  ./tarpon demo",
            "  ./tarpon demo --device cuda",
            "  ./tarpon demo --group -1 --report per-channel.html",
            "  ./tarpon demo --device sim               the CUDA kernels without a GPU; slow"
        })
final class DemoCommand implements Callable<Integer> {
    static final String MODEL_FILE = "all-minilm-l6-v2.onnx";
    private static final String TOKENIZER_FILE = "all-minilm-l6-v2-tokenizer.json";
    private static final int SIMULATED_PAIRS = 4;
    private static final int REPEATS = 5;

    /** What x and y of a linear layer are on the device. */
    enum Activation {
        F32,
        F16,
        BF16
    }

    @Spec private CommandSpec spec;

    @Option(
            names = "--device",
            paramLabel = "DEVICE",
            defaultValue = "cpu",
            description = "Where the 4-bit layers run: cpu, sim, cuda or cuda:N. Default: cpu.")
    private String device;

    @Option(
            names = "--group",
            paramLabel = "SIZE",
            defaultValue = "128",
            description =
                    "Input features that share a scale: 32, 64, 128, or -1 for all. Default: 128.")
    private int group;

    @Option(
            names = "--activation",
            paramLabel = "TYPE",
            description =
                    "Type of the layers' inputs and outputs on the device: f32 (cpu only), f16 or"
                            + " bf16. Default: f32 on cpu, f16 elsewhere.")
    private Activation activation;

    @Option(
            names = "--pairs",
            paramLabel = "COUNT",
            description =
                    "Use only the first COUNT sentence pairs. Default: all of them, but 4 on sim.")
    private Integer pairs;

    @Option(
            names = "--report",
            paramLabel = "FILE",
            description = "Where to write the report. Default: quant/target/tarpon-demo.html.")
    private Path report;

    @Override
    public Integer call() throws IOException {
        Groups.require(spec, group);
        Path model = modelFile(MODEL_FILE);
        Path tokenizer = modelFile(TOKENIZER_FILE);
        DemoResult result;
        try (Device opened = Devices.open(spec, device);
                Progress progress = Progress.start("Demo", Demo.STEPS)) {
            boolean simulated = opened.info().kind() == DeviceKind.SIM;
            var demo =
                    new Demo(
                            opened,
                            activationType(opened.info().kind()),
                            group,
                            simulated ? 1 : REPEATS,
                            step -> {
                                progress.describe(step);
                                progress.step();
                            });
            result = demo.run(model, tokenizer, choosePairs(simulated));
        }
        PrintWriter out = spec.commandLine().getOut();
        print(out, result);
        Path written = writeReport(result);
        out.printf("%nReport: %s%n", written);
        return verdict(out, result);
    }

    private Path modelFile(String name) throws IOException {
        Path file = Project.models().resolve(name);
        if (!Files.exists(file)) {
            throw new NoSuchFileException(
                    file.toString(),
                    null,
                    "the build fetches it from Maven Central: ./mvnw -DskipTests package");
        }
        return file;
    }

    private DType activationType(DeviceKind kind) {
        Activation chosen = activation;
        if (chosen == null) {
            chosen = kind == DeviceKind.CPU ? Activation.F32 : Activation.F16;
        }
        return DType.valueOf(chosen.name());
    }

    private List<SentencePairs.Pair> choosePairs(boolean simulated) throws IOException {
        List<SentencePairs.Pair> all = SentencePairs.load();
        if (pairs == null) {
            return simulated ? all.subList(0, SIMULATED_PAIRS) : all;
        }
        if (pairs < 1 || pairs > all.size()) {
            throw new ParameterException(
                    spec.commandLine(),
                    "--pairs %d: there are 1 to %d".formatted(pairs, all.size()));
        }
        return all.subList(0, pairs);
    }

    private static void print(PrintWriter out, DemoResult result) {
        double[] faithful = result.toDequantized();
        double[] original = result.toFloat();
        out.printf(
                "all-MiniLM-L6-v2: %d linear layers in 4 bits, group %d, on %s (%s, %s)%n%n",
                result.linearCount(),
                result.groupSize(),
                result.device().spec(),
                result.device().name(),
                result.device().isa());
        new Table()
                .row("", "fp32", "4-bit", "")
                .row(
                        "linear weights",
                        Units.shortBytes(result.floatBytes()),
                        Units.shortBytes(result.quantizedBytes()),
                        format(
                                "%.2fx smaller",
                                (double) result.floatBytes() / result.quantizedBytes()))
                .row(
                        "%d sentences, %d tokens"
                                .formatted(2 * result.pairs().size(), result.tokens()),
                        Units.seconds(result.floatSeconds()),
                        Units.seconds(result.quantizedSeconds()),
                        "best run; fp32 is plain Java, 4-bit "
                                + result.activation()
                                + " through the library")
                .row("quantising", "", Units.seconds(result.quantizeSeconds()), "")
                .print(out, "  ");
        out.println();
        new Table()
                .row("agreement of the 4-bit embeddings", "min", "mean", "")
                .row(
                        "cosine with fp32 on the same dequantised weights",
                        format("%.6f", DemoResult.min(faithful)),
                        format("%.6f", DemoResult.mean(faithful)),
                        format("every sentence must reach %.4f", DemoResult.FAITHFUL_COSINE))
                .row(
                        "cosine with the original fp32 model",
                        format("%.4f", DemoResult.min(original)),
                        format("%.4f", DemoResult.mean(original)),
                        result.isBounded()
                                ? format(
                                        "the mean must reach %.2f", DemoResult.EXPECTED_MEAN_COSINE)
                                : format(
                                        "bounded at group 128 and %d pairs only",
                                        DemoResult.BOUNDED_PAIRS))
                .row(
                        "Spearman correlation of pair similarities",
                        "",
                        result.pairs().size() < 2 ? "-" : format("%.4f", result.spearman()),
                        "original fp32 against 4-bit, %d pairs".formatted(result.pairs().size()))
                .print(out, "  ");
    }

    private Path writeReport(DemoResult result) throws IOException {
        Path target = report;
        if (target == null) {
            target = Project.root().resolve("quant/target/tarpon-demo.html");
            Files.createDirectories(target.getParent());
        }
        byte[] html = DemoReport.html(result).getBytes(StandardCharsets.UTF_8);
        AtomicFile.write(
                target,
                channel -> {
                    ByteBuffer buffer = ByteBuffer.wrap(html);
                    while (buffer.hasRemaining()) {
                        channel.write(buffer);
                    }
                });
        return target.toAbsolutePath();
    }

    private int verdict(PrintWriter out, DemoResult result) {
        PrintWriter err = spec.commandLine().getErr();
        if (!result.isFaithful()) {
            err.printf(
                    Locale.ROOT,
                    "tarpon: a sentence agrees with the dequantised run to %.6f only; %.4f is"
                            + " needed%n",
                    DemoResult.min(result.toDequantized()),
                    DemoResult.FAITHFUL_COSINE);
            return ExitCode.BELOW_BOUND;
        }
        if (!result.isAsExpected()) {
            err.printf(
                    Locale.ROOT,
                    "tarpon: the mean agreement with the original is %.4f; %.2f is needed%n",
                    DemoResult.mean(result.toFloat()),
                    DemoResult.EXPECTED_MEAN_COSINE);
            return ExitCode.BELOW_BOUND;
        }
        out.println("The kernels are faithful to the 4-bit weights.");
        return ExitCode.OK;
    }

    private static String format(String pattern, Object... values) {
        return String.format(Locale.ROOT, pattern, values);
    }
}
