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
#define TARPON_ABI_VERSION 2

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
    TARPON_DEVICE_CPU = 0, /* this process's processors; always there */
    TARPON_DEVICE_SIM = 1, /* the CUDA kernels on a host simulator; for tests, slow and strict */
    TARPON_DEVICE_CUDA = 2 /* an NVIDIA GPU, compute capability 8.0 or newer */
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
 * group_size is 32, 64, 128 or -1.
 * K = in_features, N = out_features.
 *
 * MARLIN order, the format of IST-DASLab's packer: qweight int32 [Kp/16, 2*Np], scales binary16
 * [G, Np], with Kp and Np the next multiples of 16 and 64; padding weights are zero (code 8),
 * padding scales are zero. Scales are permuted for the kernel's fragments: each 64 columns by an
 * 8x8 transpose, but with one group over K (group_size -1, or K <= group_size) each 32 columns in
 * the per-channel order. For the sizes that the original packer takes the bits are the same.
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

/* The codes. A weight is made of its code by the zero type: see there. */
typedef int32_t tarpon_weight_type;
enum {
    TARPON_WEIGHT_INT4 = 0,    /* 0..15 */
    TARPON_WEIGHT_INT8 = 1,    /* 0..255 */
    TARPON_WEIGHT_FP8_E4M3 = 2 /* the bits of an e4m3 number (OCP "fn"); NaN is refused */
};

/* SYMMETRIC is the only one of FP8_E4M3 and of sparse weights. */
typedef int32_t tarpon_zero_type;
enum {
    /* weight = (code - 8) * scale, (code - 128) * scale, or e4m3(code) * scale */
    TARPON_ZERO_SYMMETRIC = 0,
    /* weight = (code - zero) * scale, zero uint8 [G, N] in the range of codes */
    TARPON_ZERO_INTEGER = 1,
    /* weight = code * scale + minimum, minimum [G, N] of the scales' type (GGUF's Q4_1 and Q4_K;
     * HQQ with minimum = -zero * scale) */
    TARPON_ZERO_FLOAT = 2
};

/* The type of scales and minimums. */
typedef int32_t tarpon_scale_type;
enum { TARPON_SCALE_F16 = 0, TARPON_SCALE_BF16 = 1, TARPON_SCALE_F32 = 2 };

typedef int32_t tarpon_sparsity;
enum {
    TARPON_SPARSITY_NONE = 0,
    /* 2:4: of each four weights of a column, inputs 4i..4i+3, at most two are not zero. INT4. */
    TARPON_SPARSITY_2_4 = 1
};

/*
 * What y may depend on beside x and W. Both give the same bits every time on one device.
 * DETERMINISTIC is batch-invariant too: row i of y has the same bits whatever the other rows are
 * and however many; it costs speed, see the README.
 */
typedef int32_t tarpon_linear_mode;
enum { TARPON_LINEAR_FAST = 0, TARPON_LINEAR_DETERMINISTIC = 1 };

/*
 * How weights come. K, N: in and out features of the part; G = ceil(K / group_size), or 1 if
 * group_size is -1. All layouts but PLAIN and MARLIN are those of checkpoints, byte by byte.
 */
typedef int32_t tarpon_weight_layout;
enum {
    TARPON_LAYOUT_PLAIN = 0,  /* codes uint8 [K, N]; scales [G, N]; zeros [G, N] */
    TARPON_LAYOUT_MARLIN = 1, /* as tarpon_marlin_pack() makes; INT4, SYMMETRIC, SCALE_F16 */
    /* qweight int32 [K*bits/32, N], row r of codes in bits bits*(r % (32/bits)); zeros int32
     * [G, N*bits/32], each stored as zero - 1 modulo 2^bits, so that the largest value is zero 0;
     * scales [G, N]; g_idx int32 [K] or NULL. INT4 or INT8; INTEGER, or SYMMETRIC with zeros NULL
     * or all the middle of the codes, which is checked. */
    TARPON_LAYOUT_GPTQ = 2,
    TARPON_LAYOUT_GPTQ_V2 = 3, /* the same, with zeros stored as they are */
    /* qweight int32 [K, N/8], bits 4i of word c hold column 8c + {0,2,4,6,1,3,5,7}[i]; zeros int32
     * [G, N/8] likewise; scales [G, N]. INT4; INTEGER, or SYMMETRIC as for GPTQ. */
    TARPON_LAYOUT_AWQ = 4,
    /* GGUF: qweight holds the blocks of N rows of K inputs; scales and zeros are NULL. */
    TARPON_LAYOUT_GGUF_Q4_0 = 5, /* INT4, SYMMETRIC, SCALE_F16, group 32 */
    TARPON_LAYOUT_GGUF_Q4_1 = 6, /* INT4, FLOAT, SCALE_F16, group 32 */
    TARPON_LAYOUT_GGUF_Q8_0 = 7, /* INT8, SYMMETRIC, SCALE_F16, group 32 */
    TARPON_LAYOUT_GGUF_Q4_K = 8  /* INT4, FLOAT, SCALE_F32, group 32 */
};

/*
 * What a layer computes with. EXACT: activations as they are given. INT8_ACTIVATIONS: each row's
 * inputs are rounded to int8, 128 at a time (or a group of 32 or 64), by the scale max|x| / 127;
 * products are summed in integers and the sums scaled in binary32; two to four times the arithmetic
 * rate on CPUs with int8 dot products, for an error of about 0.7% of y (normally distributed x) on
 * top of the weights'. Inputs that share a scale and of which one is not finite give NaN.
 */
typedef int32_t tarpon_linear_arithmetic;
enum {
    TARPON_ARITHMETIC_EXACT = 0,
    TARPON_ARITHMETIC_INT8_ACTIVATIONS = 1 /* CPU only; INT4 and INT8 */
};

typedef struct tarpon_linear_desc {
    uint32_t struct_size; /* sizeof(tarpon_linear_desc) */
    tarpon_weight_type weight_type;
    int64_t in_features;           /* K >= 1 */
    int64_t out_features;          /* N >= 1, of all parts together */
    int32_t group_size;            /* input rows that share a scale: 32, 64, 128; -1 for all */
    tarpon_dtype activation_dtype; /* of x, y, bias, residual: F16, BF16; F32 on the CPU too */
    /* NULL lets the library choose; a name as in tarpon_linear_info forces one, for tests. */
    const char *variant;
    tarpon_linear_arithmetic arithmetic;
    tarpon_zero_type zero_type;
    tarpon_scale_type scale_type;
    tarpon_sparsity sparsity;
    tarpon_linear_mode mode;
    int32_t reserved; /* 0 */
} tarpon_linear_desc;

/*
 * Weights in host memory; they are packed and copied at create and not referenced afterwards. All
 * sizes are checked: they are exactly what shape, types and layout ask for.
 */
typedef struct tarpon_linear_weights {
    uint32_t struct_size; /* sizeof(tarpon_linear_weights) */
    tarpon_weight_layout layout;
    const void *qweight; /* codes, words or blocks, by layout */
    size_t qweight_bytes;
    const void *scales; /* of scale_type */
    size_t scales_bytes;
    const void *zeros; /* by zero_type and layout; NULL if there are none */
    size_t zeros_bytes;
    const void *bias; /* activation_dtype [N], added to y; or NULL */
    size_t bias_bytes;
    /* int32 [K]: the group of each input row (act-order), or NULL for r / group_size. Every group
     * must have group_size rows, the last what is left; all parts of a plan the same. Not for
     * MARLIN and GGUF; with sparsity in order only. */
    const int32_t *g_idx;
    size_t g_idx_bytes;
    int64_t out_features; /* N of this part; 0 if it is the only one */
} tarpon_linear_weights;

typedef struct tarpon_linear_info {
    uint32_t struct_size;   /* sizeof(tarpon_linear_info), set by the caller */
    int32_t reserved;       /* 0 */
    uint64_t weights_bytes; /* what the plan keeps on the device, padding included */
    char variant[64];       /* name of the kernel variant, such as "cpu_avx512" */
} tarpon_linear_info;

/*
 * Weights on the host, in any format and layout. desc describes them; its variant, arithmetic and
 * mode are not used, and weights->bias is not read. These functions are pure, thread-safe and run
 * on the calling thread; after a failure the contents of output arrays are unspecified.
 */

/*
 * Writes what a layout fixes into *out_desc, whose struct_size the caller has set: weight_type,
 * zero_type, scale_type, sparsity and group_size of a GGUF layout; the rest stays. Other layouts
 * hold several formats and are TARPON_ERROR_INVALID_ARGUMENT.
 */
TARPON_API tarpon_status tarpon_linear_desc_for_layout(tarpon_weight_layout layout,
                                                       tarpon_linear_desc *out_desc);

/*
 * Any layout to plain order. out_codes: uint8 [K, N], rows in the order of the inputs (so that
 * weights->g_idx still belongs to them); out_scales: [G, N] of scale_type; out_zeros: [G, N], uint8
 * (INTEGER) or of scale_type (FLOAT), NULL if SYMMETRIC. Every check of tarpon_linear_create().
 */
TARPON_API tarpon_status tarpon_weights_unpack(const tarpon_linear_desc *desc,
                                               const tarpon_linear_weights *weights,
                                               uint8_t *out_codes, void *out_scales,
                                               void *out_zeros);

/*
 * out_weight: float [K, N], rows in the order of the inputs, each weight rounded to binary32 once:
 * exact with scales of 16 bits and no minimum, and the value of ggml's formula for GGUF blocks.
 */
TARPON_API tarpon_status tarpon_weights_dequantize(const tarpon_linear_desc *desc,
                                                   const tarpon_linear_weights *weights,
                                                   float *out_weight);

/*
 * Round-to-nearest quantisation to plain order. weight is [N, K] as torch.nn.Linear keeps it, of
 * dtype F32, F16 or BF16; outputs as of tarpon_weights_unpack(). Over each group of a column's
 * inputs, with S the codes' largest value (15 or 255), scales and minimums rounded to scale_type,
 * and codes rounded half to even and clamped:
 *   SYMMETRIC  scale = max|w| / (S / 2), or max|w| / 448 for e4m3; code = w / scale + (S + 1) / 2
 *   INTEGER    scale = (max(w, 0) - min(w, 0)) / S; zero = -min(w, 0) / scale;
 *              code = w / scale + zero
 *   FLOAT      minimum = min w; scale = (max w - min w) / S; code = (w - minimum) / scale
 * INT4, SYMMETRIC, SCALE_F16 is tarpon_w4_quantize(), bit for bit. A scale of 0 gives codes of
 * weight 0 (FLOAT: of the minimum). A weight that is not finite, or a scale or minimum that
 * overflows, is an error that names the weight. With sparsity 2:4 the weight must have the pattern:
 * see tarpon_prune_2_4().
 */
TARPON_API tarpon_status tarpon_weights_quantize(const tarpon_linear_desc *desc, const void *weight,
                                                 tarpon_dtype weight_dtype, uint8_t *out_codes,
                                                 void *out_scales, void *out_zeros);

/*
 * Magnitude pruning to 2:4: of each four weights of a row of weight [N, K], inputs 4i..4i+3, the two
 * of largest magnitude stay and the others become +0; of equal magnitudes the first ones stay.
 * Fewer than four at the end of a row are treated alike. out_weight may be weight, otherwise they
 * must not overlap. dtype F32, F16 or BF16, of both. A weight that is not finite is an error that
 * names it, and nothing is written.
 */
TARPON_API tarpon_status tarpon_prune_2_4(const void *weight, tarpon_dtype weight_dtype, int64_t n,
                                          int64_t k, void *out_weight);

/*
 * Validates, chooses a kernel, packs the weights for it and copies them to the device. Cold: may
 * allocate and synchronise. A combination that no kernel serves is TARPON_ERROR_UNSUPPORTED, with
 * the list of those that are.
 */
TARPON_API tarpon_status tarpon_linear_create(tarpon_device *device, const tarpon_linear_desc *desc,
                                              const tarpon_linear_weights *weights,
                                              tarpon_linear **out_linear);

/*
 * Several linears of one input as one plan, such as Q, K and V, or gate and up: parts[i] has
 * parts[i].out_features columns of y, in order, and desc->out_features is their sum. One run
 * computes all of them. part_count is 1..64; layouts and biases may differ, what desc says and
 * g_idx may not.
 */
TARPON_API tarpon_status tarpon_linear_create_fused(tarpon_device *device,
                                                    const tarpon_linear_desc *desc,
                                                    const tarpon_linear_weights *parts,
                                                    int32_t part_count, tarpon_linear **out_linear);

/*
 * Stores how many bytes of device memory a run with up to m rows needs as workspace (may be 0).
 * It never shrinks as m grows, so the largest m serves all smaller ones.
 */
TARPON_API tarpon_status tarpon_linear_workspace_bytes(const tarpon_linear *linear, int64_t m,
                                                       size_t *out_bytes);

/*
 * y[M, N] = x[M, K] * W[K, N] + bias, accumulated in binary32, both x and y in activation_dtype and
 * in device memory, aligned to their element size; they must not overlap. m may be 0: nothing is
 * done. workspace: at least tarpon_linear_workspace_bytes(m) bytes of device memory aligned to 256
 * bytes, contents arbitrary, exclusive to this run until it completes; NULL if 0 bytes are needed.
 * stream may be NULL: the device's default stream. Queues the work and returns (on the CPU: does
 * it); allocates nothing, synchronises nothing, and can be captured in a CUDA graph.
 */
TARPON_API tarpon_status tarpon_linear_run(const tarpon_linear *linear, const void *x, void *y,
                                           int64_t m, void *workspace, size_t workspace_bytes,
                                           tarpon_stream *stream);

/*
 * tarpon_linear_run() with y = x * W + bias + residual, summed in binary32 and rounded once.
 * residual: [M, N] of activation_dtype; y itself, or apart from it; NULL: as tarpon_linear_run().
 */
TARPON_API tarpon_status tarpon_linear_run_residual(const tarpon_linear *linear, const void *x,
                                                    const void *residual, void *y, int64_t m,
                                                    void *workspace, size_t workspace_bytes,
                                                    tarpon_stream *stream);

/* Fills *out_info, whose struct_size the caller has set. */
TARPON_API tarpon_status tarpon_linear_get_info(const tarpon_linear *linear,
                                                tarpon_linear_info *out_info);

/*
 * What a GPU would launch for y[m, N] = x[m, K] * W of this description, and why: the tiles and
 * grids that its cost model weighs, cheapest first, with predicted times, as lines of text. No GPU
 * need be present: compute_capability is 10 * major + minor (80, 86, 89, 90, 100, 120 have figures
 * of their own), processor_count that of its SMs, or 0 for a product of that architecture (A100,
 * RTX 3090, RTX 4090, H200, B200, RTX 5090). desc->variant is ignored.
 * Stores what capacity_bytes holds, terminated (nothing if it is 0; out_text may then be NULL), and
 * in *out_bytes, which may be NULL, the size of the whole text with its terminator. Thread-safe.
 */
TARPON_API tarpon_status tarpon_linear_explain(const tarpon_linear_desc *desc, int64_t m,
                                               int32_t compute_capability, int32_t processor_count,
                                               char *out_text, size_t capacity_bytes,
                                               size_t *out_bytes);

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
 * A GPU with less than 116 KiB of shared memory a block (sm_86, sm_89, sm_120) returns
 * TARPON_ERROR_UNSUPPORTED for n = 28672; all else runs on every device.
 */
TARPON_API tarpon_status tarpon_hadamard_run(tarpon_device *device, const void *x, void *y,
                                             int64_t rows, int64_t n, tarpon_dtype dtype,
                                             tarpon_stream *stream);

/* ---- Block-wise quantisation --------------------------------------------------------------- */
/*
 * n values are cut into blocks of block_size (64, 128, 256, 512, 1024, 2048 or 4096; the last may
 * be shorter), each kept as codes and one absmax: value = map[code] * absmax. The code is that of
 * the value nearest to x * (1 / absmax), in binary32; an x on the (rounded) middle between two
 * values takes the lower one. All devices give equal bits. Zeros stay zeros. A block with a NaN has
 * absmax NaN and one with an infinity absmax infinity, so that neither goes unnoticed; a block
 * whose absmax is below 2^-126 is stored as zeros.
 * Source: Dettmers et al., "8-bit Optimizers via Block-wise Quantization", section 2.
 */

typedef int32_t tarpon_code_map;
enum {
    TARPON_MAP_DYNAMIC_SIGNED = 0,   /* dynamic tree map of 256 values; code 127 is 0 */
    TARPON_MAP_DYNAMIC_UNSIGNED = 1, /* for x >= 0; code 0 is 0; negative x become 0 */
    TARPON_MAP_LINEAR_INT8 = 2,      /* two's complement -127..127, value = code / 127 */
    TARPON_MAP_FP8_E4M3 = 3,         /* value = e4m3(code) / 448 */
    TARPON_MAP_DYNAMIC4 = 4,         /* signed dynamic map of 16 values; code 7 is 0 */
    TARPON_MAP_NF4 = 5               /* NormalFloat4 (Dettmers et al., "QLoRA"); code 7 is 0 */
};

/*
 * The value of each of the 256 codes; the 16 of a 4-bit map, then zeros. Codes that are never
 * written: 128 of LINEAR_INT8 reads as -1, 127 and 255 of FP8_E4M3 as NaN.
 */
TARPON_API tarpon_status tarpon_code_map_values(tarpon_code_map map, float out_values[256]);

/*
 * x: n >= 0 elements of dtype (F32, F16, BF16). codes: n bytes, or (n + 1) / 2 for a 4-bit map, two
 * codes a byte, the first in the high half. absmax: ceil(n / block_size) floats. All in device
 * memory, aligned to their element size, not overlapping. stream may be NULL: the device's default
 * stream. Stateless: allocates nothing, synchronises nothing, can be captured in a CUDA graph;
 * thread-safe. A device without kernels for it returns TARPON_ERROR_UNSUPPORTED; the CPU has all.
 */
TARPON_API tarpon_status tarpon_blockwise_quantize(tarpon_device *device, const void *x,
                                                   tarpon_dtype dtype, int64_t n,
                                                   tarpon_code_map map, int64_t block_size,
                                                   uint8_t *codes, float *absmax,
                                                   tarpon_stream *stream);

/* y[i] = map[codes[i]] * absmax[i / block_size], rounded to dtype. Otherwise as quantize. */
TARPON_API tarpon_status tarpon_blockwise_dequantize(tarpon_device *device, const uint8_t *codes,
                                                     const float *absmax, int64_t n,
                                                     tarpon_code_map map, int64_t block_size,
                                                     void *y, tarpon_dtype dtype,
                                                     tarpon_stream *stream);

/* ---- Optimizers ---------------------------------------------------------------------------- */
/*
 * A plan holds the addresses of all tensors of a model; one call steps them all. Parameters,
 * gradients and states are the caller's memory, so that saving an optimizer is copying its states
 * and absmax to the host and reading its counters, and resuming is putting them back: it goes on bit
 * for bit, on any device, since the bytes are the same on all. Formulas, with their sources, and the
 * layout of saved states are in kernels-cu/optim/README.md.
 *
 * 8-bit states are blocks of 256 with the dynamic maps; the absmax is that of the updated states,
 * and the parameter is updated from the states before they are rounded. Memory of zeros is the
 * initial state in every format.
 */

typedef int32_t tarpon_optim_rule;
enum {                             /* states: slots 0, 1, 2 */
       TARPON_OPTIM_ADAM = 0,      /* m, v; weight decay is part of the gradient */
       TARPON_OPTIM_ADAMW = 1,     /* m, v; decoupled weight decay, applied first */
       TARPON_OPTIM_SGD = 2,       /* momentum; Nesterov's with TARPON_STEP_NESTEROV */
       TARPON_OPTIM_RMSPROP = 3,   /* v, decaying by beta2 */
       TARPON_OPTIM_ADAGRAD = 4,   /* sum of squares */
       TARPON_OPTIM_LION = 5,      /* m */
       TARPON_OPTIM_ADEMAMIX = 6,  /* fast m, slow m, v */
       TARPON_OPTIM_LAMB = 7,      /* m, v; trust ratio of each tensor */
       TARPON_OPTIM_LARS = 8,      /* momentum; trust ratio of each tensor */
       TARPON_OPTIM_ADABELIEF = 9, /* m, s */
       TARPON_OPTIM_SOPHIAG = 10,  /* m, h; h by tarpon_optim_refresh_hessian() */
       TARPON_OPTIM_SCALE = 11     /* none; m for tensors with TARPON_TENSOR_MOMENTUM */
};

typedef int32_t tarpon_state_format;
enum {
    TARPON_STATE_F32 = 0,
    TARPON_STATE_DYNAMIC8 = 1, /* a byte an element, a float a block of 256 */
    /* Adam and AdamW: E4M3 with dynamic-range expansion, two floats a group of 128 (COAT). */
    TARPON_STATE_FP8 = 2
};

/* A policy that pays: tensors smaller than this, and embeddings, keep F32 states. */
#define TARPON_OPTIM_MIN_QUANTIZED_ELEMS 4096

enum {                            /* tarpon_optim_tensor.flags */
       TARPON_TENSOR_MOMENTUM = 1 /* SCALE: this tensor, the model's last layer, has a state */
};

typedef struct tarpon_optim_tensor {
    uint32_t struct_size; /* sizeof(tarpon_optim_tensor), the same in all of an array */
    int32_t flags;
    tarpon_dtype param_dtype; /* F32, F16, BF16 */
    tarpon_dtype grad_dtype;  /* likewise; need not be that of the parameter */
    tarpon_dtype copy_dtype;  /* of copy, if that is not NULL */
    tarpon_state_format state_format;
    int64_t n;           /* elements, 1 .. 2^40 */
    int64_t columns;     /* SCALE: of the row-major [n / columns, columns] matrix; else ignored */
    double lr_factor;    /* of the step's lr: 1 for all ordinary tensors, 0 freezes one */
    double decay_factor; /* of the step's weight_decay: 1 for weights, 0 for biases and norms */
    void *param;
    const void *grad;
    void *copy;       /* NULL, or n elements that receive the rounded parameter (fp32 masters) */
    void *state[3];   /* by slot; sizes from tarpon_optim_state_bytes(); NULL for absent slots */
    float *absmax[3]; /* likewise */
} tarpon_optim_tensor;

typedef struct tarpon_optim_desc {
    uint32_t struct_size; /* sizeof(tarpon_optim_desc) */
    tarpon_optim_rule rule;
    int64_t tensor_count; /* 1 .. 2^20 */
    const tarpon_optim_tensor
        *tensors; /* copied at create; in host memory, addresses in device's */
    /* NULL lets the library choose; a name as in tarpon_optim_info forces one, for tests. */
    const char *variant;
} tarpon_optim_desc;

enum { /* tarpon_optim_step_args.flags */
       TARPON_STEP_NESTEROV = 1,
       /* A gradient that is not finite skips the whole step; costs a pass over the gradients,
        * unless max_grad_norm asks for one anyway. Without it only its block of 256 elements is
        * skipped. */
       TARPON_STEP_SKIP_NONFINITE = 2,
       TARPON_STEP_STOCHASTIC_PARAMS = 4, /* BF16 parameters and copies round stochastically */
       TARPON_STEP_STOCHASTIC_STATES = 8  /* so do 8-bit states */
};

/*
 * Numbers of a step; those that a rule does not use are ignored. tarpon_optim_default_args() fills
 * them. device_lr and device_grad_multiplier let a captured CUDA graph be replayed with new values.
 */
typedef struct tarpon_optim_step_args {
    uint32_t struct_size; /* sizeof(tarpon_optim_step_args) */
    int32_t flags;
    double lr;
    double beta1;    /* decay of the first moment; Lion: of the direction */
    double beta2;    /* decay of the second moment (RMSprop's alpha); Lion: of m */
    double beta3;    /* AdEMAMix: decay of the slow moment */
    double alpha;    /* AdEMAMix: weight of the slow moment */
    double momentum; /* SGD, LARS */
    double eps;      /* > 0 */
    double weight_decay;
    double trust_coefficient; /* LARS: eta */
    double gamma;             /* Sophia-G */
    double hessian_scale;     /* Sophia-G's refresh: the factor of g * g, a count of tokens */
    double grad_multiplier;   /* > 0: the gradient is multiplied by it (1 / loss scale) */
    double max_grad_norm;     /* clips the norm over all tensors' gradients; 0: does not */
    uint64_t seed;            /* of stochastic rounding */
    const float *device_lr;   /* NULL, or device memory that replaces lr */
    const float *device_grad_multiplier; /* likewise for grad_multiplier */
} tarpon_optim_step_args;

/* Counters; in device memory, so that no step waits for the host. */
typedef struct tarpon_optim_counters {
    uint32_t struct_size;   /* sizeof(tarpon_optim_counters), set by the caller */
    int32_t reserved;       /* 0 */
    int64_t step;           /* steps taken; skipped ones do not count */
    int64_t skipped_steps;  /* for a gradient that was not finite */
    int64_t skipped_blocks; /* likewise, where TARPON_STEP_SKIP_NONFINITE was not given */
    double grad_norm;       /* of the last step that measured it, before clipping */
} tarpon_optim_counters;

typedef struct tarpon_optim_info {
    uint32_t struct_size;     /* sizeof(tarpon_optim_info), set by the caller */
    int32_t reserved;         /* 0 */
    uint64_t workspace_bytes; /* what the plan keeps on the device beside the caller's tensors */
    char variant[64];         /* such as "cpu_avx512" */
} tarpon_optim_info;

typedef struct tarpon_optim tarpon_optim;

/*
 * Stores the sizes in bytes of slot 0, 1 or 2 of a tensor of n elements and of its absmax; 0 and 0
 * for a slot that the rule does not have. flags: those of the tensor.
 */
TARPON_API tarpon_status tarpon_optim_state_bytes(tarpon_optim_rule rule,
                                                  tarpon_state_format format, int32_t flags,
                                                  int64_t n, int32_t slot, size_t *out_state_bytes,
                                                  size_t *out_absmax_bytes);

/* Fills *out_args, whose struct_size the caller has set, with PyTorch's or the paper's defaults. */
TARPON_API tarpon_status tarpon_optim_default_args(tarpon_optim_rule rule,
                                                   tarpon_optim_step_args *out_args);

/*
 * Validates and copies the list. Cold: may allocate and synchronise. The step count is 0. The
 * tensors' memory must stay valid until the plan is destroyed. A combination that no kernel serves
 * is TARPON_ERROR_UNSUPPORTED, with the list of those that are.
 */
TARPON_API tarpon_status tarpon_optim_create(tarpon_device *device, const tarpon_optim_desc *desc,
                                             tarpon_optim **out_optim);

/*
 * One step of all tensors: queues the work and returns (on the CPU: does it); allocates nothing,
 * synchronises nothing, and can be captured in a CUDA graph. stream may be NULL. Unlike runs of
 * other plans, steps of one plan must not overlap: they change it and its tensors.
 * A gradient whose unscaled magnitude is 2^60 or more counts as not finite.
 */
TARPON_API tarpon_status tarpon_optim_step(tarpon_optim *optim, const tarpon_optim_step_args *args,
                                           tarpon_stream *stream);

/*
 * Sophia-G: h = beta2 * h + (1 - beta2) * hessian_scale * g * g, g being the gradients of a loss on
 * labels that were drawn from the model's own output. Parameters, m and the step count stay.
 */
TARPON_API tarpon_status tarpon_optim_refresh_hessian(tarpon_optim *optim,
                                                      const tarpon_optim_step_args *args,
                                                      tarpon_stream *stream);

/* Waits for the stream's work and fills *out_counters, whose struct_size the caller has set. */
TARPON_API tarpon_status tarpon_optim_get_counters(const tarpon_optim *optim,
                                                   tarpon_optim_counters *out_counters,
                                                   tarpon_stream *stream);

/* Puts the counters back, in stream order: resuming needs this and the states. */
TARPON_API tarpon_status tarpon_optim_set_counters(tarpon_optim *optim,
                                                   const tarpon_optim_counters *counters,
                                                   tarpon_stream *stream);

/* Fills *out_info, whose struct_size the caller has set. */
TARPON_API tarpon_status tarpon_optim_get_info(const tarpon_optim *optim,
                                               tarpon_optim_info *out_info);

/* Frees the plan; the tensors are the caller's. Work that uses it must have completed. */
TARPON_API void tarpon_optim_destroy(tarpon_optim *optim);

/* ---- KV cache in 2 to 16 bits ---------------------------------------------------------------- */
/*
 * Keys and values of attention, rotated by a Hadamard matrix and stored in 2, 3, 4, 8 or 16 bits in
 * pages that the engine owns. A plan (tarpon_kv) holds the shape, the tables of RoPE and what was
 * calibrated; it has no tokens in it, and one plan serves every layer of its shape and calibration.
 * Memory, page tables and sequence lengths are the engine's and given to each call.
 *
 * Pages: page_count pages of tarpon_kv_info.page_bytes each, contiguous, for one layer; the format
 * is documented byte by byte in kernels-cu/kv_cache/README.md and versioned. Token j of a sequence
 * lies in page page_table[row, j / page_tokens] at place j % page_tokens.
 *
 * Recent store: up to sink_tokens sinks and the last window_tokens tokens of each sequence are also
 * kept in 16 bits, in a block of tarpon_kv_info.recent_bytes a sequence, and attended from there. A
 * sequence may be shortened by up to 8 tokens (rejected speculation) and continue; the next append
 * overwrites what was there.
 *
 * Sinks are the first sink_tokens of a sequence, or stand where sink_positions says: a list a row,
 * [batch, sink_tokens], of rising positions, and negative numbers behind the last. Entry i is kept
 * in place i of the store. A sequence's list may grow at its end and changes in no other way; a
 * position must be in it when its token is appended, and entries past the end of the sequence are
 * of no effect until then. The list 0, 1, .. sink_tokens - 1 gives the bits that NULL gives. On the
 * CPU a list that does not rise, or has a position of max_tokens or more, is an error that names
 * row and entries.
 *
 * Snapshots: pages and recent store are plain bytes without addresses, and every device of every
 * machine reads them alike. A copy of them, with the lengths, the page table and the lists of
 * sinks, is a snapshot; a plan of equal description, calibration and format_version continues from
 * it.
 *
 * append(), attend() and dequantize() only: allocate nothing, synchronise nothing, can be captured
 * in a graph. Arrays are in device memory. One append and any number of attends may not overlap on
 * the same pages; otherwise plans are thread-safe.
 *
 * Devices: all have both modes, all widths and head sizes. On CUDA, and on the simulator, the numbers
 * in arrays are not checked, since they are in device memory: slots, positions, rows, lengths, tables,
 * indices and lists of sinks in range are the caller's duty.
 */

typedef struct tarpon_kv tarpon_kv;

typedef int32_t tarpon_kv_mode;
enum {
    /* Rotation after RoPE, calibrated mean taken off, symmetric grid, a scale a token and head. */
    TARPON_KV_MODE_TARPON = 0,
    /*
     * Su et al., "RotateKV" (IJCAI 2025): keys rotated before RoPE over groups of four heads (the
     * largest of 4, 2, 1 that divides kv_heads), the layer's channels reordered, keys and values
     * coded between minimum and maximum (times 0.8 at 2 bits) with a zero point, a scale for each
     * token and 128 channels of a head (all of a smaller head). Attention turns every key back,
     * which costs several times what the other mode does: for comparison with the publication.
     */
    TARPON_KV_MODE_ROTATEKV = 1
};

typedef int32_t tarpon_rope_layout;
enum {
    TARPON_ROPE_HALF = 0,       /* channels i and i + rope_dim/2 turn together (Llama, NeoX) */
    TARPON_ROPE_INTERLEAVED = 1 /* channels 2i and 2i + 1 (GPT-J) */
};

typedef struct tarpon_kv_desc {
    uint32_t struct_size; /* sizeof(tarpon_kv_desc) */
    tarpon_kv_mode mode;
    int32_t head_dim; /* 64, 96, 128 or 256 */
    int32_t q_heads;  /* 1 to 16 times kv_heads */
    int32_t kv_heads;
    int32_t page_tokens;    /* 64 or 128 */
    int32_t k_bits, v_bits; /* 2, 3, 4, 8 or 16 */
    int32_t sink_tokens;    /* most sinks of a sequence: 0..256 */
    int32_t window_tokens;  /* 0..1024 */
    tarpon_dtype dtype;     /* of q, k, v and o: F32, F16 or BF16 */
    int32_t rope_dim;       /* channels that turn, the first ones of a head: 0 (none)..head_dim */
    tarpon_rope_layout rope_layout;
    int32_t max_tokens;     /* longest sequence */
    int32_t sliding_window; /* keys that a query sees, itself included; 0: all */
    int32_t reserved;       /* 0 */
    double rope_theta;      /* base of the frequencies, such as 10000; > 1 */
    double rope_scaling;    /* positions are divided by it; 1 for none */
    double score_scale;     /* of q.k; 0: 1/sqrt(head_dim) */
    double softcap;         /* scores become softcap * tanh(score / softcap); 0: off */
} tarpon_kv_desc;

typedef struct tarpon_kv_info {
    uint32_t struct_size;   /* sizeof(tarpon_kv_info), set by the caller */
    int32_t format_version; /* of the pages: 1 in mode TARPON, 2 in mode ROTATEKV */
    uint64_t page_bytes;    /* of one page of one layer, a multiple of 64 */
    uint64_t recent_bytes;  /* of one sequence's recent store, a multiple of 64; 0 for none */
    double bits_per_value;  /* of the pages, scales and zero points included */
    char variant[64];       /* name of the kernel variant, such as "cpu_avx512" */
} tarpon_kv_info;

/*
 * What a model brings along, all in host memory and copied; NULL or zero for what it has not.
 *
 * k_mean: the mean of the keys before RoPE over tokens of a calibration text. Only channels far
 * from zero matter, and pairs of zeros cost nothing in attention, so small means are best set to
 * zero. k_order: a permutation; channel c of the stored key (of all heads one after the other) is
 * channel k_order[c] of the rotated key, in order of rising sums over a calibration text; NULL: as
 * they come. q_norm, k_norm: weights of RMSNorm over each head of queries and keys before RoPE
 * (Qwen3), x * weight / sqrt(mean(x^2) + norm_eps); k_mean and k_order are of keys after it.
 */
typedef struct tarpon_kv_calibration {
    uint32_t struct_size;   /* sizeof(tarpon_kv_calibration) */
    float norm_eps;         /* >= 0; of q_norm and k_norm */
    const float *k_mean;    /* [kv_heads, head_dim]; mode TARPON only */
    const int32_t *k_order; /* [kv_heads * head_dim]; mode ROTATEKV only */
    const float *q_norm;    /* [head_dim] */
    const float *k_norm;    /* [head_dim] */
} tarpon_kv_calibration;

typedef struct tarpon_kv_append_args {
    uint32_t struct_size; /* sizeof(tarpon_kv_append_args) */
    int32_t reserved;     /* 0 */
    const void *k;        /* [tokens, kv_heads, head_dim] before RoPE, dtype, finite */
    const void *v;        /* likewise */
    int64_t tokens;
    /* [tokens], where each goes: page * page_tokens + place in the page; negative: nowhere. */
    const int64_t *slots;
    const int32_t *positions; /* [tokens], 0..max_tokens-1: its index in its sequence */
    const int32_t *rows;      /* [tokens]: which row of the batch its sequence is */
    int64_t batch;
    const int32_t *lengths;      /* [batch]: tokens of each sequence after this append */
    const int32_t *recent_index; /* [batch]: block of each row in recent; NULL: row r has block r */
    void *pages;                 /* aligned to 64 bytes */
    int64_t page_count;
    void *recent;                  /* aligned to 64 bytes; NULL if recent_bytes is 0 */
    const int32_t *sink_positions; /* [batch, sink_tokens], see above; NULL: the first tokens */
} tarpon_kv_append_args;

typedef struct tarpon_kv_attend_args {
    uint32_t struct_size; /* sizeof(tarpon_kv_attend_args) */
    int32_t queries;      /* of each sequence, its last tokens: 1..8 */
    const void *q;        /* [batch, queries, q_heads, head_dim] before RoPE, dtype */
    void *o;              /* likewise; not q */
    int64_t batch;
    const int32_t *page_table; /* [batch, table_stride]; not read behind a sequence's end */
    int64_t table_stride;
    const int32_t *lengths;      /* [batch]: tokens of each sequence, the queries' own included */
    int64_t max_length;          /* at least every length */
    const int32_t *recent_index; /* as in append */
    const void *pages;
    int64_t page_count;
    const void *recent;
    void *workspace; /* tarpon_kv_workspace_bytes(), aligned to 64 bytes, exclusive to this run */
    size_t workspace_bytes;
    const int32_t *sink_positions; /* as in append */
} tarpon_kv_attend_args;

typedef struct tarpon_kv_dequantize_args {
    uint32_t struct_size; /* sizeof(tarpon_kv_dequantize_args) */
    int32_t reserved;     /* 0 */
    float *k;             /* [tokens, kv_heads, head_dim] after RoPE, un-rotated, mean restored */
    float *v;             /* likewise, un-rotated */
    int64_t tokens;
    const int64_t *slots;     /* as in append; what a negative one would give is left as it is */
    const int32_t *positions; /* as in append */
    const int32_t *rows;      /* as in append */
    int64_t batch;
    const int32_t *lengths;      /* [batch]: tokens of each sequence */
    const int32_t *recent_index; /* as in append */
    const void *pages;
    int64_t page_count;
    const void *recent;            /* NULL: sinks and window are read from the pages, too */
    const int32_t *sink_positions; /* as in append */
} tarpon_kv_dequantize_args;

/*
 * calibration may be NULL. Cold; copies what it needs. A mean in mode ROTATEKV, an order in mode
 * TARPON or one that is no permutation, and numbers that are not finite are errors that name them.
 */
TARPON_API tarpon_status tarpon_kv_create(tarpon_device *device, const tarpon_kv_desc *desc,
                                          const tarpon_kv_calibration *calibration,
                                          tarpon_kv **out_kv);

TARPON_API tarpon_status tarpon_kv_get_info(const tarpon_kv *kv, tarpon_kv_info *out_info);

/* Stores the workspace that attend() needs; it never shrinks as any of the three grows. */
TARPON_API tarpon_status tarpon_kv_workspace_bytes(const tarpon_kv *kv, int64_t batch,
                                                   int32_t queries, int64_t max_length,
                                                   size_t *out_bytes);

/*
 * Transforms, codes and stores tokens, of a prompt or of a step.
 * Codes are the same on every device, bit for bit. On the CPU a slot, position, row or block out of
 * range is an error that names it, and nothing is written.
 */
TARPON_API tarpon_status tarpon_kv_append(const tarpon_kv *kv, const tarpon_kv_append_args *args,
                                          tarpon_stream *stream);

/*
 * o = softmax(q . K) V for the last `queries` tokens of each sequence, causal: query i of a row
 * stands at position lengths[row] - queries + i and sees no later key. A row of length 0, and a
 * query before the start of its sequence, gets zeros. Reads the codes where they lie; the same run
 * to run and for any number of threads. On the CPU a length or page out of range is an error that
 * names it.
 */
TARPON_API tarpon_status tarpon_kv_attend(const tarpon_kv *kv, const tarpon_kv_attend_args *args,
                                          tarpon_stream *stream);

/*
 * Reads tokens back as the model would see them: what attend() works with, in plain coordinates.
 * For inspection and tests; on the CPU what is out of range is an error that names it.
 */
TARPON_API tarpon_status tarpon_kv_dequantize(const tarpon_kv *kv,
                                              const tarpon_kv_dequantize_args *args,
                                              tarpon_stream *stream);

/* Frees the plan, not the pages. Work that uses it must have completed. */
TARPON_API void tarpon_kv_destroy(tarpon_kv *kv);

#ifdef __cplusplus
}
#endif

#endif /* TARPON_H_ */
