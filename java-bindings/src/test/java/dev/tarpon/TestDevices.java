package dev.tarpon;

import org.junit.jupiter.api.Assumptions;

import java.util.Arrays;
import java.util.Optional;
import java.util.stream.Stream;

/**
 * The devices that tests run on; one that is not there is skipped, with its name and the reason.
 */
public final class TestDevices {
    private TestDevices() {}

    /** For {@code @MethodSource}: every kind, present or not. */
    public static Stream<String> all() {
        return Arrays.stream(DeviceKind.values()).map(DeviceKind::toString);
    }

    public static Device open(String spec) {
        DeviceKind kind =
                Arrays.stream(DeviceKind.values())
                        .filter(candidate -> candidate.toString().equals(spec))
                        .findFirst()
                        .orElseThrow();
        Optional<String> reason = Tarpon.unavailableReason(kind);
        Assumptions.assumeTrue(reason.isEmpty(), () -> spec + " is not there: " + reason.get());
        return Device.open(spec);
    }
}
