package dev.tarpon.quant.kv;

import dev.tarpon.Device;
import dev.tarpon.DeviceKind;
import dev.tarpon.Tarpon;

import org.junit.jupiter.api.Assumptions;

import java.util.Arrays;

/** Devices for tests of the cache; one that is not there skips by name. */
public final class KvDevices {
    private KvDevices() {}

    /** An open device. */
    public static Device open(String spec) {
        DeviceKind kind =
                Arrays.stream(DeviceKind.values())
                        .filter(candidate -> candidate.toString().equals(spec))
                        .findFirst()
                        .orElseThrow();
        String reason = Tarpon.unavailableReason(kind).orElse("");
        Assumptions.assumeTrue(reason.isEmpty(), () -> "device " + spec + ": " + reason);
        return Device.open(spec);
    }
}
