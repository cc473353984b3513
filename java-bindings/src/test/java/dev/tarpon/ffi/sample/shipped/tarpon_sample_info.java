package dev.tarpon.ffi.sample.shipped;

import java.lang.foreign.GroupLayout;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.ValueLayout;

/** In the shape of the hand-written binding. */
public final class tarpon_sample_info {
    private static final GroupLayout LAYOUT =
            MemoryLayout.structLayout(
                    ValueLayout.JAVA_INT.withName("struct_size"),
                    MemoryLayout.paddingLayout(4),
                    ValueLayout.JAVA_LONG.withName("bytes"),
                    MemoryLayout.sequenceLayout(16, ValueLayout.JAVA_BYTE).withName("name"));

    private tarpon_sample_info() {}

    public static GroupLayout layout() {
        return LAYOUT;
    }
}
