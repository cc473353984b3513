package dev.tarpon.ffi.sample.generated;

import java.lang.foreign.AddressLayout;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.ValueLayout;

/** In the shape of jextract's output. */
public class tarpon_h {
    tarpon_h() {}

    public static final ValueLayout.OfInt C_INT = ValueLayout.JAVA_INT;
    public static final ValueLayout.OfLong C_LONG = ValueLayout.JAVA_LONG;
    public static final AddressLayout C_POINTER =
            ValueLayout.ADDRESS.withTargetLayout(
                    MemoryLayout.sequenceLayout(Long.MAX_VALUE, ValueLayout.JAVA_BYTE));

    private static final int TARPON_OK = (int) 0L;

    public static int TARPON_OK() {
        return TARPON_OK;
    }

    private static final int TARPON_SAMPLE_LIMIT = (int) 7L;

    public static int TARPON_SAMPLE_LIMIT() {
        return TARPON_SAMPLE_LIMIT;
    }

    private static class tarpon_sample_run {
        public static final FunctionDescriptor DESC =
                FunctionDescriptor.of(tarpon_h.C_INT, tarpon_h.C_POINTER, tarpon_h.C_LONG);
    }

    public static FunctionDescriptor tarpon_sample_run$descriptor() {
        return tarpon_sample_run.DESC;
    }

    private static class tarpon_sample_close {
        public static final FunctionDescriptor DESC = FunctionDescriptor.ofVoid(tarpon_h.C_POINTER);
    }

    public static FunctionDescriptor tarpon_sample_close$descriptor() {
        return tarpon_sample_close.DESC;
    }
}
