package dev.tarpon.quant.cli;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.DeviceKind;
import dev.tarpon.kv.KvCalibration;
import dev.tarpon.quant.generate.Agreement;
import dev.tarpon.quant.generate.ByteDecoder;
import dev.tarpon.quant.generate.CacheSnapshot;
import dev.tarpon.quant.generate.CachedAttention;
import dev.tarpon.quant.generate.Generator;
import dev.tarpon.quant.generate.LlamaDecoder;
import dev.tarpon.quant.generate.Sampler;
import dev.tarpon.quant.kv.ByteText;
import dev.tarpon.quant.kv.KvFormat;
import dev.tarpon.quant.kv.ModelCalibration;
import dev.tarpon.quant.kv.SinkPolicy;
import dev.tarpon.quant.llama.LlamaConfig;
import dev.tarpon.quant.llama.LlamaWeights;
import dev.tarpon.quant.model.LinearRuntime;
import dev.tarpon.quant.model.WeightQuantizer;

import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

import java.io.IOException;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;

/** Text from a model with quantised weights and a quantised cache. */
@Command(
        name = "generate",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = {
            "Generate text with 4-bit linear layers and a quantised KV cache.",
            "",
            "Runs a model of ./tarpon train through the library on the chosen device, streams the"
                    + " text, and compares with a 16-bit cache: at how many places both find the"
                    + " same token likeliest, and what the caches take."
        },
        footerHeading = "%nExamples:%n",
        footer = {
            "  ./tarpon generate quant/target/train/model --prompt 'Mr President, '",
            "  ./tarpon generate quant/target/train/model --kv-bits 4,2 --temperature 0.8",
            "  ./tarpon generate quant/target/train/model --tokens 60 --save-cache"
                    + " half.safetensors",
            "  ./tarpon generate quant/target/train/model --tokens 60 --load-cache half.safetensors"
        })
final class GenerateCommand implements Callable<Integer> {
    @Spec private CommandSpec spec;

    @Parameters(
            paramLabel = "MODEL",
            description = "A folder with config.json and model.safetensors.")
    private Path model;

    @Option(
            names = "--prompt",
            paramLabel = "TEXT",
            description =
                    "What the text begins with; with --load-cache, what follows the cache's text."
                            + " Default: nothing.")
    private String prompt;

    @Option(
            names = "--tokens",
            paramLabel = "N",
            description = "How many to generate. Default: as many as the model has room for.")
    private Integer tokens;

    @Option(
            names = "--device",
            paramLabel = "DEVICE",
            defaultValue = "cpu",
            description = "cpu, sim, cuda or cuda:N. Default: cpu.")
    private String device;

    @Mixin private KvChoice choice;

    @Option(
            names = "--group",
            paramLabel = "SIZE",
            defaultValue = "64",
            description =
                    "Input features of a linear layer that share a scale: 32, 64, 128, or -1 for"
                            + " all. Default: 64.")
    private int group;

    @Option(
            names = "--temperature",
            paramLabel = "X",
            defaultValue = "0",
            description = "0 takes the likeliest token, 1 draws as the model says. Default: 0.")
    private double temperature;

    @Option(
            names = "--seed",
            paramLabel = "N",
            defaultValue = "1",
            description = "Of the draws. Default: 1.")
    private long seed;

    @Option(
            names = "--save-cache",
            paramLabel = "FILE",
            description = "Write the cache and the text to a file, to go on from.")
    private Path saveCache;

    @Option(
            names = "--load-cache",
            paramLabel = "FILE",
            description = "Go on from such a file: the text becomes what it would have been.")
    private Path loadCache;

    @Option(names = "--no-comparison", description = "Leave out the run with a 16-bit cache.")
    private boolean noComparison;

    @Override
    public Integer call() throws IOException {
        Groups.require(spec, group);
        Sampler sampler = sampler();
        LlamaWeights weights = Models.load(model);
        ModelCalibration calibration = choice.calibration(model, weights.config());
        try (Device opened = Devices.open(spec, device);
                var runtime = new LinearRuntime(opened, activation(opened));
                var decoder =
                        new LlamaDecoder(
                                weights,
                                matrix ->
                                        runtime.linear(WeightQuantizer.quantize(matrix, group)))) {
            run(opened, decoder, calibration, sampler);
        }
        return ExitCode.OK;
    }

    private Sampler sampler() {
        try {
            return new Sampler(temperature, seed);
        } catch (IllegalArgumentException e) {
            throw new ParameterException(spec.commandLine(), "--temperature: " + e.getMessage());
        }
    }

    private static DType activation(Device device) {
        return device.info().kind() == DeviceKind.CPU ? DType.F32 : DType.F16;
    }

    private void run(
            Device opened, LlamaDecoder decoder, ModelCalibration calibration, Sampler sampler)
            throws IOException {
        LlamaConfig config = decoder.config();
        KvFormat format = choice.format(calibration);
        try (var attention = attention(opened, config, format, calibration)) {
            int[] given = given(attention, calibration);
            int count = count(config, given.length);
            Generator.Result result = stream(decoder, attention, sampler, given, count);
            if (saveCache != null) {
                CacheSnapshot.save(saveCache, attention, result.tokens(), identity(calibration));
            }
            describe(opened, decoder, attention, format, calibration, result);
            if (!noComparison) {
                compare(opened, decoder, attention.usedBytes(), result);
            }
        }
    }

    private static CachedAttention attention(
            Device device, LlamaConfig config, KvFormat format, ModelCalibration calibration) {
        return new CachedAttention(
                device,
                config,
                format,
                layer ->
                        calibration == null
                                ? KvCalibration.NONE
                                : calibration.forCache(layer, format.mode()),
                1,
                config.positions());
    }

    /** What a snapshot belongs to. */
    private Map<String, String> identity(ModelCalibration calibration) throws IOException {
        return Map.of(
                "model_sha256", Models.sha256(model),
                "linear_group", Integer.toString(group),
                "calibration_sha256", calibration == null ? "none" : calibration.sha256());
    }

    /** The text so far: a snapshot's, or the start of a document, and then the prompt. */
    private int[] given(CachedAttention attention, ModelCalibration calibration)
            throws IOException {
        int[] before =
                loadCache == null
                        ? new int[] {ByteText.DOCUMENT_START}
                        : CacheSnapshot.load(loadCache, attention, identity(calibration));
        byte[] bytes = (prompt == null ? "" : prompt).getBytes(StandardCharsets.UTF_8);
        int[] given = Arrays.copyOf(before, before.length + bytes.length);
        for (int i = 0; i < bytes.length; i++) {
            given[before.length + i] = bytes[i] & 0xff;
        }
        return given;
    }

    private int count(LlamaConfig config, int given) {
        // The last token is chosen, but not run.
        int room = config.positions() - given + 1;
        int count = tokens == null ? room : tokens;
        if (count < 1 || count > room) {
            throw new ParameterException(
                    spec.commandLine(),
                    "%d tokens are given, and %d are asked for; the model has %d positions"
                            .formatted(given, count, config.positions()));
        }
        return count;
    }

    private Generator.Result stream(
            LlamaDecoder decoder,
            CachedAttention attention,
            Sampler sampler,
            int[] given,
            int count) {
        PrintWriter out = spec.commandLine().getOut();
        var decoded = new ByteDecoder();
        // Behind a loaded cache only what is new is shown; the caller has the rest.
        int shown = loadCache == null ? 1 : given.length;
        for (int i = shown; i < given.length; i++) {
            out.print(decoded.add(given[i]));
        }
        out.flush();
        Generator.Result result =
                new Generator(decoder, attention, sampler)
                        .run(
                                given,
                                count,
                                token -> {
                                    out.print(decoded.add(token));
                                    out.flush();
                                });
        out.println(decoded.finish());
        out.println();
        return result;
    }

    private void describe(
            Device opened,
            LlamaDecoder decoder,
            CachedAttention attention,
            KvFormat format,
            ModelCalibration calibration,
            Generator.Result result) {
        PrintWriter out = spec.commandLine().getOut();
        print(
                out,
                "%d tokens at %.0f tokens/s, after %d at %.0f tokens/s, on %s (%s)%n",
                result.generated(),
                result.tokensPerSecond(),
                result.promptTokens(),
                result.promptTokens() / result.promptSeconds(),
                opened.info().spec(),
                opened.info().isa());
        print(
                out,
                "linear layers: 4 bits, group %d, %s%n",
                group,
                Units.shortBytes(decoder.linearWeightBytes()));
        print(
                out,
                "cache: %s, %s and a window of %d in 16 bits, %.3f bits a value in pages, %s%n",
                format.label(),
                format.sinks() == SinkPolicy.FIRST
                        ? format.sinkTokens() + " sinks"
                        : "%.1f sinks a layer".formatted(attention.meanSinks()),
                format.windowTokens(),
                attention.bitsPerValue(),
                attention.variant());
        out.println(
                calibration == null
                        ? "calibration: none; ./tarpon calibrate-kv makes one"
                        : "calibration: on " + calibration.source().text());
    }

    private void compare(
            Device opened, LlamaDecoder decoder, long cacheBytes, Generator.Result result) {
        PrintWriter out = spec.commandLine().getOut();
        LlamaConfig config = decoder.config();
        try (var half = attention(opened, config, KvFormat.HALF, null)) {
            Agreement agreement = Agreement.of(result, decoder, half);
            print(
                    out,
                    "16-bit cache on the same text: the same likeliest token at %d of %d places"
                            + " (%s)%n",
                    agreement.equal(),
                    agreement.positions(),
                    agreement.firstDifference() < 0
                            ? "no difference"
                            : "the first difference is token " + agreement.firstDifference());
            print(
                    out,
                    "cache bytes: %s against %s, %.2fx smaller%n",
                    Units.shortBytes(cacheBytes),
                    Units.shortBytes(half.usedBytes()),
                    (double) half.usedBytes() / cacheBytes);
        }
    }

    private static void print(PrintWriter out, String pattern, Object... values) {
        out.printf(Locale.ROOT, pattern, values);
    }
}
