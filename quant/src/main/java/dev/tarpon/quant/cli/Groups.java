package dev.tarpon.quant.cli;

import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;

/** The group sizes that the library has. */
final class Groups {
    private Groups() {}

    /** A usage error for any other. */
    static void require(CommandSpec spec, int group) {
        if (group != 32 && group != 64 && group != 128 && group != -1) {
            throw new ParameterException(
                    spec.commandLine(),
                    "--group %d: only 32, 64, 128 and -1 (one scale a column) are supported"
                            .formatted(group));
        }
    }
}
