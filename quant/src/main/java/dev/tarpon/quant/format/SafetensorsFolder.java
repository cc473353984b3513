package dev.tarpon.quant.format;

import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.Names;
import dev.tarpon.format.SafetensorsFile;

import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeSet;

/**
 * All safetensors files of a folder as one: the shards of a checkpoint. Thread-safe; tensors must
 * not be used after {@link #close()}.
 */
public final class SafetensorsFolder implements AutoCloseable {
    private final List<SafetensorsFile> files = new ArrayList<>();
    private final Map<String, HostTensor> tensors = new LinkedHashMap<>();
    private final Map<String, String> metadata = new LinkedHashMap<>();

    private SafetensorsFolder() {}

    /**
     * Opens every file whose name ends in .safetensors, in the order of their names.
     *
     * @throws FormatException if there is none, one is damaged, or two have a tensor of one name
     */
    public static SafetensorsFolder open(Path folder) throws IOException {
        var paths = new TreeSet<Path>();
        try (DirectoryStream<Path> found = Files.newDirectoryStream(folder, "*.safetensors")) {
            found.forEach(paths::add);
        }
        if (paths.isEmpty()) {
            throw new FormatException(folder.toString(), "has no *.safetensors file");
        }
        var result = new SafetensorsFolder();
        try {
            for (Path path : paths) {
                result.add(path);
            }
        } catch (Throwable failure) {
            result.close();
            throw failure;
        }
        return result;
    }

    private void add(Path path) throws IOException {
        SafetensorsFile file = SafetensorsFile.open(path);
        files.add(file);
        metadata.putAll(file.metadata());
        for (HostTensor tensor : file.tensors()) {
            if (tensors.put(tensor.name(), tensor) != null) {
                throw new FormatException(
                        path.toString(),
                        "tensor %s is in another file of the folder, too"
                                .formatted(Names.quote(tensor.name())));
            }
        }
    }

    /** All tensors, file after file. */
    public Collection<HostTensor> tensors() {
        return Collections.unmodifiableCollection(tensors.values());
    }

    /** The tensor of a name. */
    public Optional<HostTensor> find(String name) {
        return Optional.ofNullable(tensors.get(name));
    }

    /** The headers' metadata; of a key that several have, the last file's. */
    public Map<String, String> metadata() {
        return Collections.unmodifiableMap(metadata);
    }

    @Override
    public void close() {
        files.forEach(SafetensorsFile::close);
    }
}
