package dev.tarpon.quant.op;

import dev.tarpon.Device;
import dev.tarpon.Hadamard;
import dev.tarpon.Stream;
import dev.tarpon.Tarpon;
import dev.tarpon.Tensor;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.SafetensorsWriter;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;

/** The Hadamard transform from one safetensors file to another. */
public final class HadamardOp {
    private HadamardOp() {}

    /** hadamard: y [rows, n] = H x for each row of x [rows, n], in the type of x. */
    public static void run(Device device, Path in, Path out) throws IOException {
        try (TensorInputs inputs = TensorInputs.open(in);
                Arena arena = Arena.ofConfined()) {
            HostTensor x = inputs.matrix("x", OpTensors.FLOATS);
            SafetensorsWriter writer =
                    new SafetensorsWriter()
                            .metadata("op", "hadamard")
                            .metadata("tarpon", Tarpon.version())
                            .metadata("device", device.info().spec());
            if (x.elements() == 0) {
                writer.add(x.renamed("y")).write(out);
                return;
            }
            try (Stream stream = device.createStream();
                    Tensor rows = OpTensors.upload(device, x)) {
                OpTensors.named(inputs, "x", () -> Hadamard.transform(rows, rows, stream));
                writer.add(OpTensors.download(arena, "y", rows, stream)).write(out);
            }
        }
    }
}
