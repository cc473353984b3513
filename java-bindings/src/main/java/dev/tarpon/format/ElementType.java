package dev.tarpon.format;

import java.util.Locale;
import java.util.Optional;

/** Element types of tensors in files, named as safetensors names them. */
public enum ElementType {
    BOOL(1),
    U8(1),
    I8(1),
    F8_E4M3(1),
    F8_E5M2(1),
    F8_E8M0(1),
    U16(2),
    I16(2),
    F16(2),
    BF16(2),
    U32(4),
    I32(4),
    F32(4),
    U64(8),
    I64(8),
    F64(8);

    private final int bytes;

    ElementType(int bytes) {
        this.bytes = bytes;
    }

    /** Size of one element in bytes. */
    public int bytes() {
        return bytes;
    }

    /** Whether {@link HostTensor#toFloats()} can read it: F16, BF16 or F32. */
    public boolean isFloat() {
        return this == F16 || this == BF16 || this == F32;
    }

    /** The type with this exact safetensors name. */
    public static Optional<ElementType> ofName(String name) {
        for (ElementType type : values()) {
            if (type.name().equals(name)) {
                return Optional.of(type);
            }
        }
        return Optional.empty();
    }

    /** The name in lower case, as command lines and messages write it. */
    public String label() {
        return name().toLowerCase(Locale.ROOT);
    }
}
