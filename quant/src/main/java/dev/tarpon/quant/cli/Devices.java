package dev.tarpon.quant.cli;

import dev.tarpon.Device;

import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;

/** Opens the device of a --device option. */
final class Devices {
    private Devices() {}

    /** The device; a usage error if the text is no device, whatever this machine has. */
    static Device open(CommandSpec spec, String device) {
        try {
            return Device.open(device);
        } catch (IllegalArgumentException e) {
            throw new ParameterException(
                    spec.commandLine(), "--device %s: %s".formatted(device, e.getMessage()), e);
        }
    }
}
