package dev.tarpon;

/**
 * How a device is opened.
 *
 * @param threadCount CPU: worker threads, the caller's included; 0 means one for each processor
 *     that this process may use. Other devices ignore it.
 */
public record DeviceOptions(int threadCount) {
    /** One thread for each processor. */
    public static final DeviceOptions DEFAULT = new DeviceOptions(0);

    public DeviceOptions {
        if (threadCount < 0) {
            throw new IllegalArgumentException(
                    "threadCount is %d; it must be >= 0".formatted(threadCount));
        }
    }
}
