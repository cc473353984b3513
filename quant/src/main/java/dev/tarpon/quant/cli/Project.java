package dev.tarpon.quant.cli;

import java.nio.file.Path;

/** Where things lie in the repository; the launcher script says where that is. */
final class Project {
    private Project() {}

    /** The repository's root: the property tarpon.root, or the working directory. */
    static Path root() {
        return Path.of(System.getProperty("tarpon.root", "")).toAbsolutePath();
    }

    /** The folder that the build puts the demo's model in. */
    static Path models() {
        String property = System.getProperty("dev.tarpon.models.path");
        return property == null ? root().resolve("quant/target/models") : Path.of(property);
    }
}
