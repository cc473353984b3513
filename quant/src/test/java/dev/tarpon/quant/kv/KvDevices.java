package dev.tarpon.quant.kv;

import dev.tarpon.Device;
import dev.tarpon.DeviceKind;
import dev.tarpon.Status;
import dev.tarpon.Tarpon;
import dev.tarpon.TarponException;
import dev.tarpon.kv.KvCache;
import dev.tarpon.kv.KvCacheOptions;
import dev.tarpon.kv.KvMode;

import org.junit.jupiter.api.Assumptions;

import java.util.Arrays;

/** Devices for tests of the cache; one that is not there, or has no such mode, skips by name. */
public final class KvDevices {
    private KvDevices() {}

    /** An open device, for mode TARPON. */
    public static Device open(String spec) {
        return open(spec, KvMode.TARPON);
    }

    /** An open device. GPUs need not have mode ROTATEKV; whatever is there must have the other. */
    public static Device open(String spec, KvMode mode) {
        DeviceKind kind =
                Arrays.stream(DeviceKind.values())
                        .filter(candidate -> candidate.toString().equals(spec))
                        .findFirst()
                        .orElseThrow();
        String reason = Tarpon.unavailableReason(kind).orElse("");
        Assumptions.assumeTrue(reason.isEmpty(), () -> "device " + spec + ": " + reason);
        Device device = Device.open(spec);
        try (KvCache cache =
                KvCache.create(
                        device,
                        KvCacheOptions.builder(64, 1, 1).mode(mode).maxTokens(64).build())) {
            return device;
        } catch (TarponException e) {
            device.close();
            Assumptions.assumeTrue(
                    e.status() != Status.UNSUPPORTED
                            || kind == DeviceKind.CPU
                            || mode == KvMode.TARPON,
                    () -> "device " + spec + ": " + e.getMessage());
            throw e;
        }
    }
}
