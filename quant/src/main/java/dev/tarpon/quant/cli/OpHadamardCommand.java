package dev.tarpon.quant.cli;

import dev.tarpon.Device;
import dev.tarpon.quant.op.HadamardOp;

import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

import java.io.IOException;
import java.util.concurrent.Callable;

/** {@code op hadamard}. */
@Command(
        name = "hadamard",
        mixinStandardHelpOptions = true,
        description = {
            "Transform rows by the orthonormal Hadamard matrix of their length.",
            "",
            "Reads x [rows, n] in F32, F16 or BF16; n is 2^k, 12*2^k, 20*2^k or 28*2^k, 2..32768.",
            "Writes y [rows, n] in the type of x. The transform is its own inverse."
        })
final class OpHadamardCommand implements Callable<Integer> {
    @Mixin private OpCommand.RunDevice device;
    @Mixin private OpCommand.Files files;

    @Override
    public Integer call() throws IOException {
        try (Device opened = device.open()) {
            HadamardOp.run(opened, files.in(), files.out());
        }
        return ExitCode.OK;
    }
}
