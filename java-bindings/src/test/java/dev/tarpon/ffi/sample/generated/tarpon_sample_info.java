package dev.tarpon.ffi.sample.generated;

import java.lang.foreign.GroupLayout;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.ValueLayout;

/** In the shape of jextract's output. */
public class tarpon_sample_info {
    tarpon_sample_info() {}

    private static final GroupLayout $LAYOUT =
            MemoryLayout.structLayout(
                            tarpon_h.C_INT.withName("struct_size"),
                            MemoryLayout.paddingLayout(4),
                            tarpon_h.C_LONG.withName("bytes"),
                            MemoryLayout.sequenceLayout(16, ValueLayout.JAVA_BYTE).withName("name"))
                    .withName("tarpon_sample_info");

    public static final GroupLayout layout() {
        return $LAYOUT;
    }
}
