package dev.tarpon.quant.cli;

import dev.tarpon.Device;
import dev.tarpon.kv.RopeLayout;
import dev.tarpon.quant.op.KvOps;
import dev.tarpon.quant.op.KvOptions;

import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

import java.io.IOException;
import java.nio.file.Path;
import java.util.concurrent.Callable;

/** {@code op kv-roundtrip} and {@code op kv-attend}. */
final class OpKvCommands {
    private OpKvCommands() {}

    /** What both are told beside the format. */
    static final class Numbers {
        @Mixin private KvFlags flags;

        @Option(
                names = "--rope-theta",
                paramLabel = "X",
                defaultValue = "10000",
                description = "Base of the rotary frequencies, over all channels. Default: 10000.")
        private double ropeTheta;

        @Option(
                names = "--rope-layout",
                paramLabel = "LAYOUT",
                defaultValue = "half",
                converter = KvFlags.LayoutConverter.class,
                description =
                        "Channels that turn together: half (i and i + head_dim/2) or interleaved"
                                + " (2i and 2i + 1). Default: half.")
        private RopeLayout ropeLayout;

        @Option(
                names = "--page-tokens",
                paramLabel = "N",
                defaultValue = "64",
                description = "Tokens of a page: 64 or 128. Default: 64.")
        private int pageTokens;

        @Option(
                names = "--calibration",
                paramLabel = "FILE",
                description = "A file of ./tarpon calibrate-kv, instead of tensors of the input.")
        private Path calibration;

        @Option(
                names = "--layer",
                paramLabel = "N",
                defaultValue = "0",
                description = "Whose calibration in that file. Default: 0.")
        private int layer;

        KvOptions options() {
            return new KvOptions(
                    flags.format(),
                    flags.sinkPositions(),
                    ropeTheta,
                    ropeLayout,
                    pageTokens,
                    calibration,
                    layer);
        }
    }

    @Command(
            name = "kv-roundtrip",
            mixinStandardHelpOptions = true,
            description = {
                "Store keys and values in a cache and read them back.",
                "",
                "Reads k and v [tokens, kv_heads, head_dim] in F32, F16 or BF16, k before rotary"
                    + " positions; token t stands at position t. Optional: k_mean F32 [kv_heads,"
                    + " head_dim] (mode tarpon), k_order I32 [kv_heads * head_dim] (mode rotatekv),"
                    + " or calibration [tokens, kv_heads, head_dim], keys of another text, of which"
                    + " both are made.",
                "Writes k_dequantised (after rotary positions, un-rotated, mean put back) and"
                    + " v_dequantised F32, and bits_per_value F32 [1] with all scales, zero points"
                    + " and tokens in 16 bits."
            })
    static final class RoundTrip implements Callable<Integer> {
        @Mixin private OpCommand.RunDevice device;
        @Mixin private OpCommand.Files files;
        @Mixin private Numbers numbers;

        @Override
        public Integer call() throws IOException {
            KvOptions options = numbers.options();
            try (Device opened = device.open()) {
                KvOps.roundTrip(opened, files.in(), files.out(), options);
            }
            return ExitCode.OK;
        }
    }

    @Command(
            name = "kv-attend",
            mixinStandardHelpOptions = true,
            description = {
                "Attend over keys and values in a cache.",
                "",
                "Reads what kv-roundtrip reads, and q [queries, q_heads, head_dim] of the type of"
                        + " k, before rotary positions, standing at the last positions; q_heads is"
                        + " 1 to 16 times kv_heads.",
                "Writes o [queries, q_heads, head_dim] in the type of q: causal softmax attention"
                        + " with scores divided by sqrt(head_dim); and bits_per_value F32 [1]."
            })
    static final class Attend implements Callable<Integer> {
        @Mixin private OpCommand.RunDevice device;
        @Mixin private OpCommand.Files files;
        @Mixin private Numbers numbers;

        @Override
        public Integer call() throws IOException {
            KvOptions options = numbers.options();
            try (Device opened = device.open()) {
                KvOps.attend(opened, files.in(), files.out(), options);
            }
            return ExitCode.OK;
        }
    }
}
