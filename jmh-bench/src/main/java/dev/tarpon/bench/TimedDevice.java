package dev.tarpon.bench;

import dev.tarpon.Device;
import dev.tarpon.DeviceKind;
import dev.tarpon.DeviceOptions;
import dev.tarpon.Tarpon;

import java.util.Optional;

/**
 * A device that benchmarks may be run on: "cpu" or "cuda:N". The simulator is none, since it says
 * nothing about speed.
 */
public record TimedDevice(String name) {
    /**
     * GPU runs are queued this many at a time, so that one synchronisation is not what is timed.
     */
    private static final int GPU_RUNS_PER_SYNCHRONIZATION = 64;

    public TimedDevice {
        if (!name.matches("cpu|cuda(:\\d{1,4})?")) {
            throw new IllegalArgumentException(
                    "device \"" + name + "\" cannot be timed: use cpu or cuda:N");
        }
    }

    public DeviceKind kind() {
        return name.equals("cpu") ? DeviceKind.CPU : DeviceKind.CUDA;
    }

    /** The N of "cuda:N"; 0 where none is given. */
    public int ordinal() {
        int colon = name.indexOf(':');
        return colon < 0 ? 0 : Integer.parseInt(name.substring(colon + 1));
    }

    /** Why nothing can run on it here; empty if it is there. */
    public Optional<String> unavailableReason() {
        if (ordinal() < Tarpon.deviceCount(kind())) {
            return Optional.empty();
        }
        return Optional.of(
                Tarpon.unavailableReason(kind()).orElse("device " + name + " is not there"));
    }

    /**
     * @param threads of a CPU, 0 for all
     */
    public Device open(int threads) {
        return Device.open(kind(), ordinal(), new DeviceOptions(threads));
    }

    public int runsPerInvocation() {
        return kind() == DeviceKind.CPU ? 1 : GPU_RUNS_PER_SYNCHRONIZATION;
    }
}
