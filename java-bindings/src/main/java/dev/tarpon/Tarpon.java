package dev.tarpon;

import static dev.tarpon.ffi.tarpon_h.C_INT;

import dev.tarpon.ffi.LibraryUnavailableException;
import dev.tarpon.ffi.NativeLibrary;
import dev.tarpon.ffi.tarpon_h;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * What is there: the native library and the devices.
 *
 * <p>The library is loaded at the first call: the file named by the system property {@code
 * dev.tarpon.library.path}, or else the one in the jar {@code tarpon-native:linux-x86_64},
 * extracted to {@code $XDG_CACHE_HOME/tarpon} or {@code ~/.cache/tarpon}. If that fails, {@link
 * #isAvailable} is false and every other call, here and elsewhere, is a {@link TarponException}
 * with status UNSUPPORTED and the original cause. All methods are thread-safe.
 */
public final class Tarpon {
    private static final int REASON_BYTES = 4096;

    private Tarpon() {}

    /** Whether the native library is loaded. */
    public static boolean isAvailable() {
        return NativeLibrary.failure().isEmpty();
    }

    /** Why the native library is not loaded; empty if it is. */
    public static Optional<String> unavailableReason() {
        return NativeLibrary.failure().map(Throwable::getMessage);
    }

    /** The file that the native library was loaded from. */
    public static String libraryPath() {
        return requireLibrary().path().toString();
    }

    /** The version of the native library, such as "0.1.0". */
    public static String version() {
        requireLibrary();
        return NativeStrings.read(tarpon_h.tarpon_version());
    }

    /** The version of the native library's interface, which this Java library has checked. */
    public static int abiVersion() {
        requireLibrary();
        return tarpon_h.tarpon_abi_version();
    }

    /** How many devices of a kind can be opened; 0 if {@link #unavailableReason(DeviceKind)}. */
    public static int deviceCount(DeviceKind kind) {
        Objects.requireNonNull(kind, "kind");
        requireLibrary();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment count = arena.allocate(C_INT);
            TarponException.check(tarpon_h.tarpon_device_count(kind.id(), count));
            return count.get(C_INT, 0);
        }
    }

    /** Why there is no device of a kind, and what would change that; empty if there is one. */
    public static Optional<String> unavailableReason(DeviceKind kind) {
        Objects.requireNonNull(kind, "kind");
        requireLibrary();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment text = arena.allocate(REASON_BYTES);
            TarponException.check(
                    tarpon_h.tarpon_device_unavailable_reason(kind.id(), text, REASON_BYTES));
            return Optional.of(text.getString(0)).filter(reason -> !reason.isEmpty());
        }
    }

    /**
     * All devices that can be opened. Opens each for a moment, which takes a while on a GPU; one
     * that refuses, such as a GPU that is too old, is left out, and {@link Device#open} says why.
     */
    public static List<DeviceInfo> devices() {
        List<DeviceInfo> devices = new ArrayList<>();
        for (DeviceKind kind : DeviceKind.values()) {
            int count = deviceCount(kind);
            for (int ordinal = 0; ordinal < count; ordinal++) {
                try (Device device = Device.open(kind, ordinal)) {
                    devices.add(device.info());
                } catch (TarponException exception) {
                    if (exception.status() != Status.DEVICE_UNAVAILABLE) {
                        throw exception;
                    }
                }
            }
        }
        return List.copyOf(devices);
    }

    /** The library, or an exception of its own for each call with the one cause. */
    static NativeLibrary requireLibrary() {
        try {
            return NativeLibrary.get();
        } catch (LibraryUnavailableException failure) {
            throw new TarponException(
                    Status.UNSUPPORTED,
                    "Tarpon's native library is not available: " + failure.getMessage(),
                    failure);
        }
    }
}
