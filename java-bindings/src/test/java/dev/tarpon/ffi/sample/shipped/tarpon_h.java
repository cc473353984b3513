package dev.tarpon.ffi.sample.shipped;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.ValueLayout;

/** In the shape of the hand-written binding. */
public final class tarpon_h {
    public static final int TARPON_OK = 0;
    public static final int TARPON_SAMPLE_LIMIT = 7;

    private tarpon_h() {}

    static final class tarpon_sample_run {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(
                        ValueLayout.JAVA_INT, ValueLayout.ADDRESS, ValueLayout.JAVA_LONG);
    }

    static final class tarpon_sample_close {
        static final FunctionDescriptor DESC = FunctionDescriptor.ofVoid(ValueLayout.ADDRESS);
    }
}
