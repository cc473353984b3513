// What a kind of device (cpu, sim, cuda) provides to the rest of the library.
//
// abi.cc and the families know devices only through these interfaces. The CPU backend is in
// src/cpu. The GPU backend is in src/cuda and is compiled twice: against cudart into libtarpon.so,
// and by g++ against the simulated runtime of kernels-cu/sim into libtarpon-sim.so, a plug-in for
// tests that registry.cc loads from beside the library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "status.h"
#include "tarpon.h"

namespace tarpon {

class Stream {
  public:
    virtual ~Stream() = default;
    virtual void synchronize() = 0;
    // The cudaStream_t; null on the CPU and for CUDA's default stream.
    virtual void *native_handle() const = 0;
};

// What a run of a linear plan gets. Bounds and alignment of the pointers are the caller's duty
// (tarpon.h); m and workspace_bytes are checked by the plan.
struct LinearArgs {
    const void *x;  // [m, K] activation_dtype
    void *y;        // [m, N] activation_dtype
    int64_t m;
    void *workspace;
    size_t workspace_bytes;
    const Stream *stream;            // null: the device's default stream
    const void *residual = nullptr;  // [m, N] activation_dtype, y itself or apart from it; or null
};

// The validated description of a linear layer (see linear.h).
struct LinearProblem {
    int64_t n, k;
    int64_t group_size;  // K for per-channel scales
    int64_t groups;      // ceil(K / group_size)
    tarpon_weight_type weight_type;
    tarpon_dtype activation_dtype;
    tarpon_linear_arithmetic arithmetic = TARPON_ARITHMETIC_EXACT;
    tarpon_zero_type zero_type = TARPON_ZERO_SYMMETRIC;
    tarpon_scale_type scale_type = TARPON_SCALE_F16;
    tarpon_sparsity sparsity = TARPON_SPARSITY_NONE;
    tarpon_linear_mode mode = TARPON_LINEAR_FAST;
    bool has_bias = false;  // LinearWeights.bias is not null
    bool permuted = false;  // inputs are gathered: LinearWeights.permutation is not null
};

// The weights of a layer in plain order, in host memory, during create() only.
struct LinearWeights {
    const uint8_t *codes;         // [K, N]
    const void *scales;           // [groups, N] of scale_type
    const void *zeros = nullptr;  // uint8 or minimums of scale_type, [groups, N]; null if symmetric
    const void *bias = nullptr;   // [N] of activation_dtype, or null
    // [K]: row r of codes is of input permutation[r]; null: identity.
    const int32_t *permutation = nullptr;
};

// An immutable, packed linear layer on one device. run() is hot: it neither throws nor allocates.
class LinearPlan {
  public:
    virtual ~LinearPlan() = default;
    virtual size_t workspace_bytes(int64_t m) const = 0;
    virtual tarpon_status run(const LinearArgs &args) const noexcept = 0;
    virtual uint64_t weights_bytes() const = 0;
};

class Device;

// A checked call of tarpon_hadamard_run(): rows >= 1 transforms of n = base * power points each.
struct HadamardArgs {
    const void *x;  // [rows, n] dtype
    void *y;        // likewise; x itself, or apart from it
    int64_t rows;
    int base;            // 1, 12, 20 or 28 (kernels-cu/hadamard/matrix.h)
    int power;           // a power of two
    float scale;         // 1/sqrt(n)
    tarpon_dtype dtype;  // F32, F16 or BF16
    const Stream *stream;
};

// One kernel variant of the linear family. Registries are ordered: the first that supports the
// problem wins, unless the caller forces one by name.
struct LinearVariant {
    const char *name;   // "cpu_avx512", "sm80_mma"
    const char *needs;  // for error messages: "AVX-512 F/BW/VL; fp32, fp16, bf16; group 128 or -1"
    bool (*supports)(const Device &device, const LinearProblem &problem);
    std::unique_ptr<LinearPlan> (*create)(Device &device, const LinearProblem &problem,
                                          const LinearWeights &weights);
};

struct KvProblem;  // kv_cache.h
class KvPlan;

struct BlockwiseArgs;  // optim.h
struct OptimProblem;
class OptimPlan;

// One kernel variant of the optimizers; ordered and forced as those of the linear family.
struct OptimVariant {
    const char *name;   // "cpu_avx512"
    const char *needs;  // for error messages
    bool (*supports)(const Device &device, const OptimProblem &problem);
    std::unique_ptr<OptimPlan> (*create)(Device &device, const OptimProblem &problem);
};

class Device {
  public:
    virtual ~Device() = default;
    virtual void info(tarpon_device_info &out) const = 0;

    // Device memory aligned to 256 bytes; throws OUT_OF_MEMORY with the size.
    virtual void *allocate(size_t size_bytes) = 0;
    virtual void free(void *address) noexcept = 0;
    // Both return when the host memory may be reused or read.
    virtual void copy_to_device(void *dst, const void *host_src, size_t bytes, Stream *stream) = 0;
    virtual void copy_to_host(void *host_dst, const void *src, size_t bytes, Stream *stream) = 0;

    virtual std::unique_ptr<Stream> create_stream() = 0;
    virtual std::unique_ptr<Stream> wrap_stream(void *native_handle) = 0;

    virtual const std::vector<LinearVariant> &linear_variants() const = 0;

    // Empty on a device without kernels for them.
    virtual const std::vector<OptimVariant> &optim_variants() const {
        static const std::vector<OptimVariant> none;
        return none;
    }
    // Hot: neither throws nor allocates. Devices without kernels for them keep these answers.
    virtual tarpon_status blockwise_quantize(const BlockwiseArgs &) noexcept {
        return set_error(TARPON_ERROR_UNSUPPORTED,
                         "blockwise_quantize: this device has no kernel for it; the CPU device "
                         "has all maps, dtypes and block sizes");
    }
    virtual tarpon_status blockwise_dequantize(const BlockwiseArgs &) noexcept {
        return set_error(TARPON_ERROR_UNSUPPORTED,
                         "blockwise_dequantize: this device has no kernel for it; the CPU device "
                         "has all maps, dtypes and block sizes");
    }

    // Hot: neither throws nor allocates.
    virtual tarpon_status hadamard(const HadamardArgs &args) noexcept = 0;

    // A plan of the KV cache. Devices without kernels for it keep this answer.
    virtual std::unique_ptr<KvPlan> create_kv(const KvProblem &) {
        fail(TARPON_ERROR_UNSUPPORTED,
             "the KV cache has no kernels for this device; the CPU device (TARPON_DEVICE_CPU) has "
             "all widths and head sizes");
    }
};

class Backend {
  public:
    virtual ~Backend() = default;
    virtual int device_count() = 0;
    // Empty if device_count() > 0.
    virtual std::string unavailable_reason() = 0;
    virtual std::unique_ptr<Device> open(int ordinal, const tarpon_device_options &options) = 0;
};

// The backend of a kind; never null (an unavailable kind has a backend that says why). Thread-safe.
Backend &backend(tarpon_device_kind kind);

Backend &cpu_backend();   // src/cpu/device.cc
Backend &cuda_backend();  // src/cuda/backend.cc, or src/cuda/absent.cc in a build without nvcc
Backend &sim_backend();   // src/sim_plugin.cc: loads libtarpon-sim.so

// The one symbol of the simulator plug-in. `build_id` must equal the host library's, since C++
// interfaces cross the boundary; runs, which do not throw, store their errors in `error_storage`.
using SimPluginEntry = Backend *(*)(const char *build_id, ErrorStorage error_storage);
inline constexpr const char *kSimPluginSymbol = "tarpon_sim_plugin";

}  // namespace tarpon
