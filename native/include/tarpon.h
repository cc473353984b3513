/*
 * Tarpon: quantised kernels for NVIDIA GPUs and CPUs, behind one C ABI.
 *
 * This is the only public header of libtarpon. It is plain C11, it includes nothing of CUDA, and
 * jextract can read it. A program opens a device, creates a plan for an operation once, and runs
 * the plan as often as it likes:
 *
 *     tarpon_device *device;
 *     tarpon_device_open(TARPON_DEVICE_CPU, 0, NULL, &device);
 *     tarpon_linear *linear;
 *     tarpon_linear_create(device, &desc, &weights, &linear);      // cold: validates, packs, copies
 *     tarpon_linear_run(linear, x, y, m, NULL, 0, NULL);           // hot: no allocation, no sync
 *
 * Conventions
 *   - Every function that can fail returns a tarpon_status; TARPON_OK is 0. On failure output
 *     parameters are left as they were, and tarpon_last_error() describes the failure, with the
 *     offending values, to the thread that made the call.
 *   - Nothing here prints, exits, throws or installs signal handlers.
 *   - Structs that callers fill begin with struct_size = sizeof(the struct); a library that knows
 *     a newer struct reads only what the caller has, one that knows an older struct refuses a
 *     larger one whose extra bytes are not zero. Zero-initialise them.
 *   - Matrices are row-major and contiguous. Sizes are int64_t counts of elements unless the name
 *     ends in _bytes.
 *   - A device may be used from any number of threads. A plan is immutable: concurrent runs of one
 *     plan are allowed as long as each has its own y and workspace. Handles must not be destroyed
 *     while a call that uses them is under way; a device must outlive everything made from it.
 *   - A handle must not be used after it was destroyed; destroying NULL is a no-op.
 */
#ifndef TARPON_H_
#define TARPON_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(TARPON_BUILDING_LIBRARY)
#define TARPON_API __attribute__((visibility("default")))
#else
#define TARPON_API
#endif

/* ---- Versions ---------------------------------------------------------------------------- */

/* The version of this header, as MAJOR.MINOR.PATCH. */
#define TARPON_VERSION_MAJOR 0
#define TARPON_VERSION_MINOR 1
#define TARPON_VERSION_PATCH 0

/* Changes whenever a symbol, signature, struct layout or constant changes incompatibly. */
#define TARPON_ABI_VERSION 1

/* The version of the loaded library, "MAJOR.MINOR.PATCH"; static storage, never NULL. */
TARPON_API const char *tarpon_version(void);

/* The ABI version of the loaded library; compare with TARPON_ABI_VERSION. Cannot fail. */
TARPON_API int32_t tarpon_abi_version(void);

/* ---- Status ------------------------------------------------------------------------------ */

typedef int32_t tarpon_status;
enum {
    TARPON_OK = 0,
    /* A pointer is NULL, a size or enum value is out of range, shapes disagree, misalignment. */
    TARPON_ERROR_INVALID_ARGUMENT = 1,
    /* A legal request that no kernel of this build and device serves; the message lists what is. */
    TARPON_ERROR_UNSUPPORTED = 2,
    /* Host or device memory is exhausted. */
    TARPON_ERROR_OUT_OF_MEMORY = 3,
    /* The device kind or ordinal is not there; the message says why and what would help. */
    TARPON_ERROR_DEVICE_UNAVAILABLE = 4,
    /* The CUDA runtime (real or simulated) reported an error. */
    TARPON_ERROR_CUDA = 5,
    /* A defect in Tarpon; please report it with the message. */
    TARPON_ERROR_INTERNAL = 6
};

/* The name of a status, such as "TARPON_ERROR_CUDA"; static storage, never NULL. */
TARPON_API const char *tarpon_status_name(tarpon_status status);

/*
 * What went wrong in the last failed call on the calling thread; "" if none has failed yet.
 * Thread-local storage, valid until the thread's next failing call; successes leave it as it is.
 */
TARPON_API const char *tarpon_last_error(void);

/* ---- Element types ----------------------------------------------------------------------- */

typedef int32_t tarpon_dtype;
enum {
    TARPON_F32 = 0,  /* IEEE binary32 */
    TARPON_F16 = 1,  /* IEEE binary16 */
    TARPON_BF16 = 2, /* bfloat16: the upper half of binary32 */
    TARPON_U8 = 3,
    TARPON_I32 = 4
};

/* ---- Devices ----------------------------------------------------------------------------- */

typedef int32_t tarpon_device_kind;
enum {
    TARPON_DEVICE_CPU = 0,  /* this process's processors; always there */
    TARPON_DEVICE_SIM = 1,  /* the CUDA kernels on a host simulator; for tests, slow and strict */
    TARPON_DEVICE_CUDA = 2  /* an NVIDIA GPU, compute capability 8.0 or newer */
};

typedef struct tarpon_device tarpon_device;
typedef struct tarpon_stream tarpon_stream;
typedef struct tarpon_buffer tarpon_buffer;

typedef struct tarpon_device_options {
    uint32_t struct_size; /* sizeof(tarpon_device_options) */
    /* CPU: worker threads, the caller's included; 0 = one for each processor this process may use. */
    int32_t thread_count;
} tarpon_device_options;

typedef struct tarpon_device_info {
    uint32_t struct_size; /* sizeof(tarpon_device_info), set by the caller */
    tarpon_device_kind kind;
    int32_t ordinal;
    int32_t compute_capability; /* 10 * major + minor for SIM and CUDA, such as 90; 0 for CPU */
    int32_t processor_count;    /* streaming multiprocessors, or threads this device uses on CPU */
    int32_t reserved;           /* 0 */
    uint64_t memory_bytes;      /* total memory of the device */
    char name[128];             /* such as "NVIDIA H200", NUL-terminated */
    char isa[64];               /* what kernels are chosen for: "sm_90", "avx512_bf16", "scalar" */
} tarpon_device_info;

/*
 * Stores in *out_count how many devices of a kind can be opened, 0 if the kind is unavailable.
 * Fails only for an unknown kind or a NULL pointer.
 */
TARPON_API tarpon_status tarpon_device_count(tarpon_device_kind kind, int32_t *out_count);

/*
 * Why tarpon_device_count() is 0 for a kind, and what would change it: this build has no CUDA, no
 * driver, driver too old, no GPU, architecture not built, simulator not found. Stores at most
 * capacity_bytes, NUL included (truncated if longer); "" if the kind is available.
 */
TARPON_API tarpon_status tarpon_device_unavailable_reason(tarpon_device_kind kind, char *out_text,
                                                          size_t capacity_bytes);

/*
 * Opens device `ordinal` of a kind. options may be NULL. On the CPU the instruction set is the
 * best that the processor has; the environment variable TARPON_CPU_ISA forces one of those listed
 * in its error message. Close with tarpon_device_close().
 */
TARPON_API tarpon_status tarpon_device_open(tarpon_device_kind kind, int32_t ordinal,
                                            const tarpon_device_options *options,
                                            tarpon_device **out_device);

/* Fills *out_info, whose struct_size the caller has set. */
TARPON_API tarpon_status tarpon_device_get_info(const tarpon_device *device,
                                                tarpon_device_info *out_info);

/* Frees the handle. Everything made from the device must have been destroyed before. */
TARPON_API void tarpon_device_close(tarpon_device *device);

/* ---- Streams ----------------------------------------------------------------------------- */

/*
 * Creates a stream. On CUDA it is a non-blocking stream; on the CPU a run has finished when it
 * returns, so that all streams behave as one in-order stream per calling thread.
 */
TARPON_API tarpon_status tarpon_stream_create(tarpon_device *device, tarpon_stream **out_stream);

/*
 * Wraps a raw CUstream (cudaStream_t) of the caller's, which must outlive the handle and stays
 * the caller's. NULL is the CUDA default stream. On the CPU only NULL is accepted.
 */
TARPON_API tarpon_status tarpon_stream_wrap(tarpon_device *device, void *cu_stream,
                                            tarpon_stream **out_stream);

/* Blocks until all work queued on the stream is done, and reports its errors. */
TARPON_API tarpon_status tarpon_stream_synchronize(tarpon_stream *stream);

/* Frees the handle, and the CUDA stream too unless it was wrapped. */
TARPON_API void tarpon_stream_destroy(tarpon_stream *stream);

/* ---- Memory ------------------------------------------------------------------------------ */

/*
 * Allocates size_bytes of device memory (> 0), aligned to 256 bytes, contents undefined. On the
 * CPU this is host memory. Operations take plain addresses, so foreign memory of the same device
 * (cuMemAlloc, another library's tensor, any host memory on the CPU) needs no buffer at all.
 */
TARPON_API tarpon_status tarpon_buffer_create(tarpon_device *device, size_t size_bytes,
                                              tarpon_buffer **out_buffer);

/* A buffer over memory of the caller's, which must outlive the handle and stays the caller's. */
TARPON_API tarpon_status tarpon_buffer_wrap(tarpon_device *device, void *address, size_t size_bytes,
                                            tarpon_buffer **out_buffer);

/* The device address; NULL only for NULL. */
TARPON_API void *tarpon_buffer_address(const tarpon_buffer *buffer);

TARPON_API size_t tarpon_buffer_size_bytes(const tarpon_buffer *buffer);

/* Frees the handle, and the memory too unless it was wrapped. */
TARPON_API void tarpon_buffer_destroy(tarpon_buffer *buffer);

/*
 * Copies host memory to device memory, in stream order (stream may be NULL: the device's default
 * stream), and returns when the source may be reused. size_bytes may be 0.
 */
TARPON_API tarpon_status tarpon_copy_to_device(tarpon_device *device, void *device_dst,
                                               const void *host_src, size_t size_bytes,
                                               tarpon_stream *stream);

/* Copies device memory to host memory, in stream order, and returns when the data is there. */
TARPON_API tarpon_status tarpon_copy_to_host(tarpon_device *device, void *host_dst,
                                             const void *device_src, size_t size_bytes,
                                             tarpon_stream *stream);

/* ---- 4-bit weights on the host ------------------------------------------------------------ */
/*
 * Plain order, the exchange format: codes uint8 [K, N], each 0..15, weight = (code - 8) * scale;
 * scales binary16 [G, N], where G = ceil(K / group_size), or 1 if group_size is -1 (per channel).
 * K = in_features, N = out_features.
 *
 * MARLIN order, the format of IST-DASLab's packer: qweight int32 [Kp/16, 2*Np], scales binary16
 * [G, Np], with Kp and Np the next multiples of 16 and 64; padding weights are zero (code 8),
 * padding scales are zero. Scales are permuted for the kernel's fragments: each 64 columns by an 8x8
 * transpose, but with one group over K (group_size -1, or K <= group_size) each 32 columns in the
 * per-channel order. For the sizes that the original packer takes the bits are the same.
 * Source: Frantar et al., "MARLIN: Mixed-Precision Auto-Regressive Parallel Inference on Large
 * Language Models", section 3; see kernels-cu/w4_gemm/README.md for the drawing.
 *
 * These functions are pure, thread-safe and run on the calling thread.
 */

/*
 * Symmetric round-to-nearest quantisation. weight is [N, K] as torch.nn.Linear keeps it, of dtype
 * F32, F16 or BF16; scale = binary16(max|w| * 2/15) over each group of a column's input rows,
 * code = clamp(round_half_even(w / scale) + 8, 0, 15), the quotient rounded to binary16 first if
 * the weight is F16, as the original MARLIN packer does. A group of zeros has scale 0 and codes 8.
 * A weight that is not finite, or a scale that overflows binary16, is an error that names it.
 * out_codes: uint8 [K, N]; out_scales: binary16 [G, N].
 */
TARPON_API tarpon_status tarpon_w4_quantize(const void *weight, tarpon_dtype weight_dtype,
                                            int64_t n, int64_t k, int32_t group_size,
                                            uint8_t *out_codes, uint16_t *out_scales);

/* out_weight: float [K, N], the exact product (code - 8) * scale. */
TARPON_API tarpon_status tarpon_w4_dequantize(const uint8_t *codes, const uint16_t *scales,
                                              int64_t n, int64_t k, int32_t group_size,
                                              float *out_weight);

/* Sizes of the MARLIN order: *out_qweight_bytes of int32, *out_scales_bytes of binary16. */
TARPON_API tarpon_status tarpon_marlin_size(int64_t n, int64_t k, int32_t group_size,
                                            size_t *out_qweight_bytes, size_t *out_scales_bytes);

/* Plain order to MARLIN order. A code over 15 is an error that names its place. */
TARPON_API tarpon_status tarpon_marlin_pack(const uint8_t *codes, const uint16_t *scales, int64_t n,
                                            int64_t k, int32_t group_size, int32_t *out_qweight,
                                            uint16_t *out_scales_packed);

/* MARLIN order to plain order: the exact inverse of tarpon_marlin_pack(). */
TARPON_API tarpon_status tarpon_marlin_unpack(const int32_t *qweight, const uint16_t *scales_packed,
                                              int64_t n, int64_t k, int32_t group_size,
                                              uint8_t *out_codes, uint16_t *out_scales);

/* ---- Linear: y = x * W with quantised W --------------------------------------------------- */

typedef struct tarpon_linear tarpon_linear;

typedef int32_t tarpon_weight_type;
enum {
    TARPON_WEIGHT_INT4_SYMMETRIC = 0 /* 4-bit codes, weight = (code - 8) * scale */
};

typedef int32_t tarpon_weight_layout;
enum {
    TARPON_LAYOUT_PLAIN = 0, /* codes uint8 [K, N], scales binary16 [G, N] */
    TARPON_LAYOUT_MARLIN = 1 /* qweight int32 and scales binary16 as tarpon_marlin_pack() makes */
};

typedef struct tarpon_linear_desc {
    uint32_t struct_size; /* sizeof(tarpon_linear_desc) */
    tarpon_weight_type weight_type;
    int64_t in_features;           /* K >= 1 */
    int64_t out_features;          /* N >= 1 */
    int32_t group_size;            /* input rows that share a scale: 128, or -1 for all of them */
    tarpon_dtype activation_dtype; /* of x and y: F16, BF16; F32 on the CPU too */
    /* NULL lets the library choose; a name as in tarpon_linear_info forces one, for tests. */
    const char *variant;
} tarpon_linear_desc;

/* Weights in host memory; they are packed and copied at create and not referenced afterwards. */
typedef struct tarpon_linear_weights {
    uint32_t struct_size; /* sizeof(tarpon_linear_weights) */
    tarpon_weight_layout layout;
    const void *qweight;  /* uint8 codes or int32 words, by layout */
    size_t qweight_bytes; /* exactly the size that shape and layout ask for */
    const void *scales;   /* binary16 */
    size_t scales_bytes;  /* likewise */
} tarpon_linear_weights;

typedef struct tarpon_linear_info {
    uint32_t struct_size;   /* sizeof(tarpon_linear_info), set by the caller */
    int32_t reserved;       /* 0 */
    uint64_t weights_bytes; /* what the plan keeps on the device, padding included */
    char variant[64];       /* name of the kernel variant, such as "cpu_avx512" */
} tarpon_linear_info;

/*
 * Validates, chooses a kernel, packs the weights for it and copies them to the device. Cold: may
 * allocate and synchronise. A combination that no kernel serves is TARPON_ERROR_UNSUPPORTED, with
 * the list of those that are.
 */
TARPON_API tarpon_status tarpon_linear_create(tarpon_device *device, const tarpon_linear_desc *desc,
                                              const tarpon_linear_weights *weights,
                                              tarpon_linear **out_linear);

/*
 * Stores how many bytes of device memory a run with up to m rows needs as workspace (may be 0).
 * It never shrinks as m grows, so the largest m serves all smaller ones.
 */
TARPON_API tarpon_status tarpon_linear_workspace_bytes(const tarpon_linear *linear, int64_t m,
                                                       size_t *out_bytes);

/*
 * y[M, N] = x[M, K] * W[K, N], accumulated in binary32, both x and y in activation_dtype and in
 * device memory, aligned to their element size; they must not overlap. m may be 0: nothing is
 * done. workspace: at least tarpon_linear_workspace_bytes(m) bytes of device memory aligned to 256
 * bytes, contents arbitrary, exclusive to this run until it completes; NULL if 0 bytes are needed.
 * stream may be NULL: the device's default stream. Queues the work and returns (on the CPU: does
 * it); allocates nothing, synchronises nothing, and can be captured in a CUDA graph.
 */
TARPON_API tarpon_status tarpon_linear_run(const tarpon_linear *linear, const void *x, void *y,
                                           int64_t m, void *workspace, size_t workspace_bytes,
                                           tarpon_stream *stream);

/* Fills *out_info, whose struct_size the caller has set. */
TARPON_API tarpon_status tarpon_linear_get_info(const tarpon_linear *linear,
                                                tarpon_linear_info *out_info);

/* Frees the plan and its weights. Work that uses them must have completed. */
TARPON_API void tarpon_linear_destroy(tarpon_linear *linear);

/* ---- Hadamard transform -------------------------------------------------------------------- */

/*
 * y[r, :] = H x[r, :] for each of `rows` rows of n elements, H the orthonormal Hadamard matrix of
 * order n: H = B (x) S / sqrt(n), S Sylvester's matrix of the largest power of two p that leaves a
 * base of 1, 12, 20 or 28 in n = base * p, and B a symmetric base matrix (Paley's second
 * construction). So H is symmetric and its own inverse at every size.
 *
 * n is 2^k, 12*2^k, 20*2^k or 28*2^k, and 2..32768. dtype is F32, F16 or BF16, of x and y.
 * Sums are in binary32 by rising stride and rounded to dtype once, so that all devices give equal
 * bits for the same finite input; with binary32 input beyond 3.4e38 / n they may overflow.
 *
 * x and y: [rows, n] in device memory, aligned to their element size; y may be x, otherwise they
 * must not overlap. rows may be 0. stream may be NULL: the device's default stream. Stateless: it
 * allocates nothing, synchronises nothing and can be captured in a CUDA graph; thread-safe.
 * A device that has no kernel for it returns TARPON_ERROR_UNSUPPORTED; the CPU has all.
 */
TARPON_API tarpon_status tarpon_hadamard_run(tarpon_device *device, const void *x, void *y,
                                             int64_t rows, int64_t n, tarpon_dtype dtype,
                                             tarpon_stream *stream);

#ifdef __cplusplus
}
#endif

#endif /* TARPON_H_ */
