package dev.tarpon;

import dev.tarpon.ffi.tarpon_h;

/** What kind of failure the native library reports; the values of {@code tarpon_status}. */
public enum Status {
    /** Success; never the status of an exception. */
    OK(tarpon_h.TARPON_OK),
    /** A size or value is out of range, or shapes disagree. */
    INVALID_ARGUMENT(tarpon_h.TARPON_ERROR_INVALID_ARGUMENT),
    /** A legal request that no kernel of this build and device serves. */
    UNSUPPORTED(tarpon_h.TARPON_ERROR_UNSUPPORTED),
    /** Host or device memory is exhausted. */
    OUT_OF_MEMORY(tarpon_h.TARPON_ERROR_OUT_OF_MEMORY),
    /** The device is not there. */
    DEVICE_UNAVAILABLE(tarpon_h.TARPON_ERROR_DEVICE_UNAVAILABLE),
    /** The CUDA runtime, real or simulated, reported an error. */
    CUDA(tarpon_h.TARPON_ERROR_CUDA),
    /** A defect in Tarpon. */
    INTERNAL(tarpon_h.TARPON_ERROR_INTERNAL);

    private final int id;

    Status(int id) {
        this.id = id;
    }

    /** The constant in tarpon.h. */
    public int id() {
        return id;
    }

    /** The status with a constant of tarpon.h; INTERNAL for one that this version does not know. */
    static Status of(int id) {
        for (Status status : values()) {
            if (status.id == id) {
                return status;
            }
        }
        return INTERNAL;
    }
}
