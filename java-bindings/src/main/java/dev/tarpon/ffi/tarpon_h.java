package dev.tarpon.ffi;

import java.lang.foreign.AddressLayout;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;

/**
 * The binding of what all families in tarpon.h share: versions, status, element types, devices,
 * streams and memory. It is written by hand in the shape that jextract generates: a nested class
 * for each function with its descriptor and its static final handle, linked when it is first
 * called. The Maven profile {@code jextract} compares it with jextract's own output, and
 * BindingTest with what a C compiler says. Each family has a class of its own in the same shape.
 *
 * <p>Two things differ from jextract's output, on purpose. Pointers carry no target layout, since
 * nothing here dereferences them. And calls on a hot path, such as {@link
 * tarpon_linear_h#tarpon_linear_run}, take addresses as {@code long}: a segment of a shared arena
 * costs 2 to 10 times the call itself. No call is linked as {@code critical}: a launch may block,
 * and must not hold up the garbage collector.
 *
 * <p>Internal to Tarpon; programs use the package {@code dev.tarpon}.
 */
public final class tarpon_h {
    public static final ValueLayout.OfByte C_CHAR = ValueLayout.JAVA_BYTE;
    public static final ValueLayout.OfInt C_INT = ValueLayout.JAVA_INT;
    public static final ValueLayout.OfLong C_LONG = ValueLayout.JAVA_LONG;
    public static final ValueLayout.OfFloat C_FLOAT = ValueLayout.JAVA_FLOAT;
    public static final ValueLayout.OfDouble C_DOUBLE = ValueLayout.JAVA_DOUBLE;
    public static final AddressLayout C_POINTER = ValueLayout.ADDRESS;

    public static final int TARPON_VERSION_MAJOR = 0;
    public static final int TARPON_VERSION_MINOR = 1;
    public static final int TARPON_VERSION_PATCH = 0;
    public static final int TARPON_ABI_VERSION = 2;

    public static final int TARPON_OK = 0;
    public static final int TARPON_ERROR_INVALID_ARGUMENT = 1;
    public static final int TARPON_ERROR_UNSUPPORTED = 2;
    public static final int TARPON_ERROR_OUT_OF_MEMORY = 3;
    public static final int TARPON_ERROR_DEVICE_UNAVAILABLE = 4;
    public static final int TARPON_ERROR_CUDA = 5;
    public static final int TARPON_ERROR_INTERNAL = 6;

    public static final int TARPON_F32 = 0;
    public static final int TARPON_F16 = 1;
    public static final int TARPON_BF16 = 2;
    public static final int TARPON_U8 = 3;
    public static final int TARPON_I32 = 4;

    public static final int TARPON_DEVICE_CPU = 0;
    public static final int TARPON_DEVICE_SIM = 1;
    public static final int TARPON_DEVICE_CUDA = 2;

    private tarpon_h() {}

    static MethodHandle downcall(String name, FunctionDescriptor descriptor) {
        MemorySegment address =
                NativeLibrary.get()
                        .symbols()
                        .find(name)
                        .orElseThrow(() -> new UnsatisfiedLinkError("libtarpon has no " + name));
        return Linker.nativeLinker().downcallHandle(address, descriptor);
    }

    /** The same descriptor with every pointer passed as a {@code long}. */
    static FunctionDescriptor withLongAddresses(FunctionDescriptor descriptor) {
        MemoryLayout[] arguments =
                descriptor.argumentLayouts().stream()
                        .map(layout -> layout instanceof AddressLayout ? C_LONG : layout)
                        .toArray(MemoryLayout[]::new);
        return FunctionDescriptor.of(descriptor.returnLayout().orElseThrow(), arguments);
    }

    /** What a downcall handle throws is a defect of the binding: C cannot throw. */
    static AssertionError unexpected(Throwable throwable) {
        if (throwable instanceof Error error) {
            throw error;
        }
        if (throwable instanceof RuntimeException exception) {
            throw exception; // such as IllegalStateException for a segment whose arena is closed
        }
        return new AssertionError("a downcall cannot throw", throwable);
    }

    /** {@code const char *tarpon_version(void)}. */
    public static MemorySegment tarpon_version() {
        try {
            return (MemorySegment) tarpon_version.HANDLE.invokeExact();
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_version {
        static final FunctionDescriptor DESC = FunctionDescriptor.of(C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_version", DESC);
    }

    /** {@code int32_t tarpon_abi_version(void)}. */
    public static int tarpon_abi_version() {
        try {
            return (int) tarpon_abi_version.HANDLE.invokeExact();
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_abi_version {
        static final FunctionDescriptor DESC = FunctionDescriptor.of(C_INT);
        static final MethodHandle HANDLE = downcall("tarpon_abi_version", DESC);
    }

    /** {@code const char *tarpon_status_name(tarpon_status status)}. */
    public static MemorySegment tarpon_status_name(int status) {
        try {
            return (MemorySegment) tarpon_status_name.HANDLE.invokeExact(status);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_status_name {
        static final FunctionDescriptor DESC = FunctionDescriptor.of(C_POINTER, C_INT);
        static final MethodHandle HANDLE = downcall("tarpon_status_name", DESC);
    }

    /** {@code const char *tarpon_last_error(void)}. */
    public static MemorySegment tarpon_last_error() {
        try {
            return (MemorySegment) tarpon_last_error.HANDLE.invokeExact();
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_last_error {
        static final FunctionDescriptor DESC = FunctionDescriptor.of(C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_last_error", DESC);
    }

    /** {@code tarpon_status tarpon_device_count(tarpon_device_kind kind, int32_t *out_count)}. */
    public static int tarpon_device_count(int kind, MemorySegment out_count) {
        try {
            return (int) tarpon_device_count.HANDLE.invokeExact(kind, out_count);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_device_count {
        static final FunctionDescriptor DESC = FunctionDescriptor.of(C_INT, C_INT, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_device_count", DESC);
    }

    /**
     * {@code tarpon_status tarpon_device_unavailable_reason(tarpon_device_kind kind, char
     * *out_text, size_t capacity_bytes)}.
     */
    public static int tarpon_device_unavailable_reason(
            int kind, MemorySegment out_text, long capacity_bytes) {
        try {
            return (int)
                    tarpon_device_unavailable_reason.HANDLE.invokeExact(
                            kind, out_text, capacity_bytes);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_device_unavailable_reason {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_INT, C_POINTER, C_LONG);
        static final MethodHandle HANDLE = downcall("tarpon_device_unavailable_reason", DESC);
    }

    /**
     * {@code tarpon_status tarpon_device_open(tarpon_device_kind kind, int32_t ordinal, const
     * tarpon_device_options *options, tarpon_device **out_device)}.
     */
    public static int tarpon_device_open(
            int kind, int ordinal, MemorySegment options, MemorySegment out_device) {
        try {
            return (int) tarpon_device_open.HANDLE.invokeExact(kind, ordinal, options, out_device);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_device_open {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_INT, C_INT, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_device_open", DESC);
    }

    /**
     * {@code tarpon_status tarpon_device_get_info(const tarpon_device *device, tarpon_device_info
     * *out_info)}.
     */
    public static int tarpon_device_get_info(MemorySegment device, MemorySegment out_info) {
        try {
            return (int) tarpon_device_get_info.HANDLE.invokeExact(device, out_info);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_device_get_info {
        static final FunctionDescriptor DESC = FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_device_get_info", DESC);
    }

    /** {@code void tarpon_device_close(tarpon_device *device)}. */
    public static void tarpon_device_close(MemorySegment device) {
        try {
            tarpon_device_close.HANDLE.invokeExact(device);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_device_close {
        static final FunctionDescriptor DESC = FunctionDescriptor.ofVoid(C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_device_close", DESC);
    }

    /**
     * {@code tarpon_status tarpon_stream_create(tarpon_device *device, tarpon_stream
     * **out_stream)}.
     */
    public static int tarpon_stream_create(MemorySegment device, MemorySegment out_stream) {
        try {
            return (int) tarpon_stream_create.HANDLE.invokeExact(device, out_stream);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_stream_create {
        static final FunctionDescriptor DESC = FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_stream_create", DESC);
    }

    /**
     * {@code tarpon_status tarpon_stream_wrap(tarpon_device *device, void *cu_stream, tarpon_stream
     * **out_stream)}.
     */
    public static int tarpon_stream_wrap(
            MemorySegment device, MemorySegment cu_stream, MemorySegment out_stream) {
        try {
            return (int) tarpon_stream_wrap.HANDLE.invokeExact(device, cu_stream, out_stream);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_stream_wrap {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_stream_wrap", DESC);
    }

    /** {@code tarpon_status tarpon_stream_synchronize(tarpon_stream *stream)}. */
    public static int tarpon_stream_synchronize(MemorySegment stream) {
        try {
            return (int) tarpon_stream_synchronize.HANDLE.invokeExact(stream);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_stream_synchronize {
        static final FunctionDescriptor DESC = FunctionDescriptor.of(C_INT, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_stream_synchronize", DESC);
    }

    /** {@code void tarpon_stream_destroy(tarpon_stream *stream)}. */
    public static void tarpon_stream_destroy(MemorySegment stream) {
        try {
            tarpon_stream_destroy.HANDLE.invokeExact(stream);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_stream_destroy {
        static final FunctionDescriptor DESC = FunctionDescriptor.ofVoid(C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_stream_destroy", DESC);
    }

    /**
     * {@code tarpon_status tarpon_buffer_create(tarpon_device *device, size_t size_bytes,
     * tarpon_buffer **out_buffer)}.
     */
    public static int tarpon_buffer_create(
            MemorySegment device, long size_bytes, MemorySegment out_buffer) {
        try {
            return (int) tarpon_buffer_create.HANDLE.invokeExact(device, size_bytes, out_buffer);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_buffer_create {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_LONG, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_buffer_create", DESC);
    }

    /**
     * {@code tarpon_status tarpon_buffer_wrap(tarpon_device *device, void *address, size_t
     * size_bytes, tarpon_buffer **out_buffer)}.
     */
    public static int tarpon_buffer_wrap(
            MemorySegment device,
            MemorySegment address,
            long size_bytes,
            MemorySegment out_buffer) {
        try {
            return (int)
                    tarpon_buffer_wrap.HANDLE.invokeExact(device, address, size_bytes, out_buffer);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_buffer_wrap {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER, C_LONG, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_buffer_wrap", DESC);
    }

    /** {@code void *tarpon_buffer_address(const tarpon_buffer *buffer)}. */
    public static MemorySegment tarpon_buffer_address(MemorySegment buffer) {
        try {
            return (MemorySegment) tarpon_buffer_address.HANDLE.invokeExact(buffer);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_buffer_address {
        static final FunctionDescriptor DESC = FunctionDescriptor.of(C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_buffer_address", DESC);
    }

    /** {@code size_t tarpon_buffer_size_bytes(const tarpon_buffer *buffer)}. */
    public static long tarpon_buffer_size_bytes(MemorySegment buffer) {
        try {
            return (long) tarpon_buffer_size_bytes.HANDLE.invokeExact(buffer);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_buffer_size_bytes {
        static final FunctionDescriptor DESC = FunctionDescriptor.of(C_LONG, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_buffer_size_bytes", DESC);
    }

    /** {@code void tarpon_buffer_destroy(tarpon_buffer *buffer)}. */
    public static void tarpon_buffer_destroy(MemorySegment buffer) {
        try {
            tarpon_buffer_destroy.HANDLE.invokeExact(buffer);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_buffer_destroy {
        static final FunctionDescriptor DESC = FunctionDescriptor.ofVoid(C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_buffer_destroy", DESC);
    }

    /**
     * {@code tarpon_status tarpon_copy_to_device(tarpon_device *device, void *device_dst, const
     * void *host_src, size_t size_bytes, tarpon_stream *stream)}.
     */
    public static int tarpon_copy_to_device(
            MemorySegment device,
            MemorySegment device_dst,
            MemorySegment host_src,
            long size_bytes,
            MemorySegment stream) {
        try {
            return (int)
                    tarpon_copy_to_device.HANDLE.invokeExact(
                            device, device_dst, host_src, size_bytes, stream);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_copy_to_device {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER, C_POINTER, C_LONG, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_copy_to_device", DESC);
    }

    /**
     * {@code tarpon_status tarpon_copy_to_host(tarpon_device *device, void *host_dst, const void
     * *device_src, size_t size_bytes, tarpon_stream *stream)}.
     */
    public static int tarpon_copy_to_host(
            MemorySegment device,
            MemorySegment host_dst,
            MemorySegment device_src,
            long size_bytes,
            MemorySegment stream) {
        try {
            return (int)
                    tarpon_copy_to_host.HANDLE.invokeExact(
                            device, host_dst, device_src, size_bytes, stream);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_copy_to_host {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER, C_POINTER, C_LONG, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_copy_to_host", DESC);
    }
}
