package dev.tarpon.quant.cli;

import dev.tarpon.format.HostTensor;
import dev.tarpon.format.Names;
import dev.tarpon.format.SafetensorsFile;
import dev.tarpon.format.Shapes;
import dev.tarpon.quant.convert.ModelSource;
import dev.tarpon.quant.format.GgufFile;
import dev.tarpon.quant.format.GgufTensor;
import dev.tarpon.quant.format.OnnxFile;
import dev.tarpon.quant.format.OnnxLinears;
import dev.tarpon.quant.format.SafetensorsFolder;

import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collection;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;

/** Lists what a model file holds. */
@Command(
        name = "inspect",
        mixinStandardHelpOptions = true,
        description = {
            "List the tensors and metadata of a safetensors, ONNX or GGUF file, or of a folder's"
                    + " safetensors files.",
            "",
            "The whole header is checked: a file that this command lists is well-formed. For ONNX,"
                    + " anonymous weights of linear layers are shown with the layer they belong to."
        },
        footerHeading = "%nExample:%n",
        footer = "  ./tarpon inspect model.safetensors")
final class InspectCommand implements Callable<Integer> {
    @Spec private CommandSpec spec;

    @Parameters(
            paramLabel = "FILE",
            description = "A .safetensors, .onnx or .gguf file, or a folder.")
    private Path file;

    @Override
    public Integer call() throws IOException {
        if (Files.isDirectory(file)) {
            try (SafetensorsFolder folder = SafetensorsFolder.open(file)) {
                print(folder.tensors(), folder.metadata(), Map.of());
            }
        } else if (GgufFile.isGguf(file)) {
            try (GgufFile gguf = GgufFile.open(file)) {
                printMetadata(gguf.metadata());
                var table = new Table().row("name", "type", "shape", "bytes", "");
                long total = 0;
                for (GgufTensor tensor : gguf.tensors()) {
                    long bytes = tensor.data().byteSize();
                    addRow(table, tensor.name(), tensor.type().name(), tensor.shape(), bytes, "");
                    total += bytes;
                }
                printTensors(table, gguf.tensors().size(), total);
            }
        } else if (ModelSource.isOnnx(file)) {
            try (OnnxFile onnx = OnnxFile.open(file)) {
                Map<String, String> layers = new HashMap<>();
                for (OnnxLinears.Weight weight : OnnxLinears.find(onnx)) {
                    if (!weight.name().equals(weight.weight().name())) {
                        layers.put(weight.weight().name(), weight.name());
                    }
                }
                print(onnx.initializers(), onnx.metadata(), layers);
            }
        } else {
            try (SafetensorsFile safetensors = SafetensorsFile.open(file)) {
                print(safetensors.tensors(), safetensors.metadata(), Map.of());
            }
        }
        return ExitCode.OK;
    }

    private void print(
            Collection<HostTensor> tensors,
            Map<String, String> metadata,
            Map<String, String> layers) {
        printMetadata(metadata);
        var table = new Table().row("name", "type", "shape", "bytes", "");
        long total = 0;
        for (HostTensor tensor : tensors) {
            String layer = layers.get(tensor.name());
            long bytes = tensor.data().byteSize();
            addRow(
                    table,
                    tensor.name(),
                    tensor.type().name(),
                    tensor.shape(),
                    bytes,
                    layer == null ? "" : "= " + Names.printable(layer));
            total += bytes;
        }
        printTensors(table, tensors.size(), total);
    }

    private void printMetadata(Map<String, String> metadata) {
        if (!metadata.isEmpty()) {
            PrintWriter out = spec.commandLine().getOut();
            var table = new Table();
            metadata.forEach(
                    (key, value) -> table.row(Names.printable(key), Names.printable(value)));
            out.println("Metadata");
            table.print(out, "  ");
        }
    }

    private static void addRow(
            Table table, String name, String type, long[] shape, long bytes, String note) {
        table.row(Names.printable(name), type, Shapes.text(shape), Long.toString(bytes), note);
    }

    private void printTensors(Table table, int count, long bytes) {
        PrintWriter out = spec.commandLine().getOut();
        out.println("Tensors");
        table.print(out, "  ");
        out.printf(Locale.ROOT, "%d tensors, %s%n", count, Units.bytes(bytes));
    }
}
