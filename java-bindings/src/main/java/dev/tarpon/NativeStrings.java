package dev.tarpon;

import java.lang.foreign.MemorySegment;

/** C strings of static or thread-local storage. */
final class NativeStrings {
    private NativeStrings() {}

    /** The NUL-terminated UTF-8 string at an address that C returned. */
    static String read(MemorySegment address) {
        return address.reinterpret(Long.MAX_VALUE).getString(0);
    }
}
