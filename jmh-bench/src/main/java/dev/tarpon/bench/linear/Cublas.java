package dev.tarpon.bench.linear;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.util.List;
import java.util.Optional;

/**
 * The three functions of cuBLAS that a half-precision product needs, from whichever version is
 * installed. Their signatures and constants are the same in cuBLAS 12 and 13 (cublas_api.h).
 */
final class Cublas {
    static final int OP_N = 0;
    static final int R_16F = 2;
    static final int R_16BF = 14;
    static final int COMPUTE_32F = 68;
    static final int GEMM_DEFAULT = -1;

    private static final List<String> LIBRARIES = List.of("libcublas.so.13", "libcublas.so.12");
    private static final Optional<SymbolLookup> LOOKUP = load();

    private final MethodHandle create = function("cublasCreate_v2", JAVA_LONG);
    private final MethodHandle destroy = function("cublasDestroy_v2", JAVA_LONG);
    private final MethodHandle gemmEx =
            Linker.nativeLinker()
                    .downcallHandle(
                            LOOKUP.orElseThrow().findOrThrow("cublasGemmEx"),
                            FunctionDescriptor.of(
                                    JAVA_INT, JAVA_LONG, JAVA_INT, JAVA_INT, JAVA_INT, JAVA_INT,
                                    JAVA_INT, ADDRESS, JAVA_LONG, JAVA_INT, JAVA_INT, JAVA_LONG,
                                    JAVA_INT, JAVA_INT, ADDRESS, JAVA_LONG, JAVA_INT, JAVA_INT,
                                    JAVA_INT, JAVA_INT));

    static Optional<String> unavailableReason() {
        return LOOKUP.isPresent()
                ? Optional.empty()
                : Optional.of("none of " + String.join(", ", LIBRARIES) + " could be loaded");
    }

    private static Optional<SymbolLookup> load() {
        for (String library : LIBRARIES) {
            try {
                return Optional.of(SymbolLookup.libraryLookup(library, Arena.global()));
            } catch (IllegalArgumentException absent) {
                // The next version may be there; unavailableReason() names all that were tried.
            }
        }
        return Optional.empty();
    }

    private static MethodHandle function(String name, MemoryLayout argument) {
        return Linker.nativeLinker()
                .downcallHandle(
                        LOOKUP.orElseThrow().findOrThrow(name),
                        FunctionDescriptor.of(JAVA_INT, argument));
    }

    /** A new cublasHandle_t on the current device's primary context and default stream. */
    long createHandle() {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(JAVA_LONG);
            check("cublasCreate", (int) create.invokeExact(out.address()));
            return out.get(JAVA_LONG, 0);
        } catch (Throwable failure) {
            throw rethrow(failure);
        }
    }

    void destroyHandle(long handle) {
        try {
            check("cublasDestroy", (int) destroy.invokeExact(handle));
        } catch (Throwable failure) {
            throw rethrow(failure);
        }
    }

    /**
     * c [n, m] = a [k, m] * b [n, k] of cuBLAS's column-major matrices, none of them transposed.
     */
    void gemm(long handle, int m, int n, int k, int type, Scalars scalars, long a, long b, long c) {
        try {
            int status =
                    (int)
                            gemmEx.invokeExact(
                                    handle,
                                    OP_N,
                                    OP_N,
                                    m,
                                    n,
                                    k,
                                    scalars.one,
                                    a,
                                    type,
                                    m,
                                    b,
                                    type,
                                    k,
                                    scalars.zero,
                                    c,
                                    type,
                                    m,
                                    COMPUTE_32F,
                                    GEMM_DEFAULT);
            check("cublasGemmEx", status);
        } catch (Throwable failure) {
            throw rethrow(failure);
        }
    }

    private static void check(String function, int status) {
        if (status != 0) {
            throw new IllegalStateException(function + " returned cublasStatus_t " + status);
        }
    }

    private static RuntimeException rethrow(Throwable failure) {
        if (failure instanceof Error error) {
            throw error;
        }
        return failure instanceof RuntimeException known ? known : new RuntimeException(failure);
    }

    /** alpha = 1 and beta = 0 in host memory. */
    static final class Scalars {
        private final MemorySegment one;
        private final MemorySegment zero;

        Scalars(Arena arena) {
            one = arena.allocateFrom(JAVA_FLOAT, 1f);
            zero = arena.allocateFrom(JAVA_FLOAT, 0f);
        }
    }
}
