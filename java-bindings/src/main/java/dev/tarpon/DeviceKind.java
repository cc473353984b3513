package dev.tarpon;

import dev.tarpon.ffi.tarpon_h;

import java.util.Locale;

/** Where operations run. */
public enum DeviceKind {
    /** The processors of this process; always there. */
    CPU(tarpon_h.TARPON_DEVICE_CPU),
    /** The CUDA kernels on a simulator in host memory; for tests, slow and strict. */
    SIM(tarpon_h.TARPON_DEVICE_SIM),
    /** An NVIDIA GPU of compute capability 8.0 or newer. */
    CUDA(tarpon_h.TARPON_DEVICE_CUDA);

    private final int id;

    DeviceKind(int id) {
        this.id = id;
    }

    /** The constant in tarpon.h. */
    public int id() {
        return id;
    }

    /** The name in device specifications: "cpu", "sim" or "cuda". */
    @Override
    public String toString() {
        return name().toLowerCase(Locale.ROOT);
    }

    static DeviceKind of(int id) {
        for (DeviceKind kind : values()) {
            if (kind.id == id) {
                return kind;
            }
        }
        throw new AssertionError("unknown device kind " + id);
    }
}
