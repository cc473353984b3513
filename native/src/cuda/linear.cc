// Linear plans on GPUs. Compiled twice, as backend.cc is: with cudart and with the simulated
// runtime.
#include "cuda/linear.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <bit>

#include "cuda/cuda_check.h"
#include "cuda/device_guard.h"
#include "w4_format.h"
#include "w4_gemm/launch.h"

namespace tarpon::gpu {
namespace {

// Sizes that the kernels index with 32 bits.
constexpr int64_t kMaxFeatures = int64_t{1} << 30;

// Choices are made at create for up to this many rows, in steps of 8: all tiles have a multiple of 8
// rows, so that m and m rounded up to 8 give the same partition.
constexpr int64_t kTabulatedRows = 1024;
constexpr int64_t kRowStep = 8;

// Device memory with the lifetime of a plan; none for no contents.
class DeviceMemory {
  public:
    template <class T>
    DeviceMemory(Device &device, const std::vector<T> &contents)
        : device_(device), bytes_(contents.size() * sizeof(T)) {
        if (bytes_ == 0) return;
        address_ = device.allocate(bytes_);
        try {
            device.copy_to_device(address_, contents.data(), bytes_, nullptr);
        } catch (...) {
            device.free(address_);
            throw;
        }
    }
    ~DeviceMemory() {
        if (address_) device_.free(address_);
    }
    DeviceMemory(const DeviceMemory &) = delete;
    DeviceMemory &operator=(const DeviceMemory &) = delete;

    template <class T = void>
    const T *address() const {
        return static_cast<const T *>(address_);
    }
    size_t bytes() const { return bytes_; }

  private:
    Device &device_;
    size_t bytes_;
    void *address_ = nullptr;
};

w4_gemm::PlainWeights plain_weights(const LinearProblem &problem, const LinearWeights &weights) {
    w4_gemm::PlainWeights out = w4_types(problem);
    out.codes = weights.codes;
    out.scales = weights.scales;
    out.zeros = weights.zeros;
    return out;
}

// The bias in binary32, padded to units of columns; nothing if there is none.
std::vector<float> padded_bias(const LinearProblem &problem, const void *bias) {
    std::vector<float> out;
    if (!bias) return out;
    out.resize(static_cast<size_t>(w4_gemm::marlin_size(problem.n, 1, 1).n_padded));
    for (size_t i = 0; i < static_cast<size_t>(problem.n); ++i) {
        out[i] = problem.activation_dtype == TARPON_F16
                     ? to_float(static_cast<const half_t *>(bias)[i])
                     : to_float(static_cast<const bf16_t *>(bias)[i]);
    }
    return out;
}

std::vector<int32_t> permutation_of(const LinearProblem &problem, const int32_t *permutation) {
    if (!permutation) return {};
    return {permutation, permutation + problem.k};
}

class Sm80Linear final : public LinearPlan {
  public:
    Sm80Linear(Device &device, const LinearProblem &problem, const LinearWeights &weights)
        : Sm80Linear(device, problem, weights,
                     w4_gemm::prepare_weights(plain_weights(problem, weights))) {}

    size_t workspace_bytes(int64_t m) const override { return m <= 0 ? 0 : decision(m).workspace; }

    tarpon_status run(const LinearArgs &args) const noexcept override {
        const size_t needed = workspace_bytes(args.m);
        if (args.workspace_bytes < needed || (needed > 0 && !args.workspace)) {
            return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                             "workspace is %p of %zu bytes; a run with m = %lld needs %zu",
                             args.workspace, args.workspace_bytes, static_cast<long long>(args.m),
                             needed);
        }
        return on_device(ordinal_, [&] { return launch(args); });
    }

    uint64_t weights_bytes() const override {
        return qweight_.bytes() + metadata_.bytes() + scales_.bytes() + zeros_.bytes() +
               column_scale_.bytes() + bias_.bytes() + permutation_.bytes();
    }

  private:
    Sm80Linear(Device &device, const LinearProblem &problem, const LinearWeights &weights,
               const w4_gemm::PreparedWeights &prepared)
        : problem_(problem),
          format_(prepared.format),
          qweight_(device, prepared.qweight),
          scales_(device, prepared.scales),
          zeros_(device, prepared.zeros),
          metadata_(device, prepared.metadata),
          column_scale_(device, prepared.column_scale),
          bias_(device, padded_bias(problem, weights.bias)),
          permutation_(device, permutation_of(problem, weights.permutation)),
          activation_(problem.activation_dtype == TARPON_F16 ? w4_gemm::Activation::kF16
                                                             : w4_gemm::Activation::kBF16),
          max_rows_(w4_gemm::max_rows(gemm(1))) {
        tarpon_device_info info{};
        device.info(info);
        ordinal_ = info.ordinal;
        props_ = {info.processor_count, info.compute_capability};
        for (size_t i = 0; i < table_.size(); ++i) {
            table_[i] = decide(static_cast<int64_t>(i + 1) * kRowStep);
        }
        DeviceGuard guard(ordinal_);
        check_cuda(
            w4_gemm::prepare(activation_, format_, w4_gemm::is_grouped(format_, problem.groups)),
            "cudaFuncSetAttribute");
    }

    w4_gemm::Problem gemm(int64_t m) const {
        return {m,          problem_.n,
                problem_.k, problem_.groups,
                format_,    problem_.mode == TARPON_LINEAR_DETERMINISTIC};
    }

    // What a run of m rows takes: a launch, or the first of several that share a workspace.
    struct Decision {
        w4_gemm::Choice choice;
        size_t workspace;
    };

    Decision decide(int64_t m) const {
        const w4_gemm::Problem launch = gemm(std::min(m, max_rows_));
        return {w4_gemm::select(launch, props_),
                static_cast<size_t>(w4_gemm::workspace_bytes(launch, props_))};
    }
    // Deciding takes a few microseconds: nothing beside a product of many rows, too much beside one
    // of few.
    Decision decision(int64_t m) const {
        return m <= kTabulatedRows ? table_[static_cast<size_t>((m - 1) / kRowStep)] : decide(m);
    }

    // One launch, or several of max_rows_ rows that take the workspace in turns.
    tarpon_status launch(const LinearArgs &args) const {
        constexpr int64_t kElemBytes = 2;
        const w4_gemm::Weights weights{problem_.n,
                                       problem_.k,
                                       problem_.groups,
                                       problem_.group_size,
                                       format_,
                                       qweight_.address(),
                                       scales_.address(),
                                       zeros_.address(),
                                       metadata_.address(),
                                       column_scale_.address<float>(),
                                       bias_.address<float>(),
                                       permutation_.address<int32_t>()};
        auto *x = static_cast<const unsigned char *>(args.x);
        auto *residual = static_cast<const unsigned char *>(args.residual);
        auto *y = static_cast<unsigned char *>(args.y);
        auto *stream = args.stream ? static_cast<cudaStream_t>(args.stream->native_handle())
                                   : cudaStream_t{nullptr};
        for (int64_t row = 0; row < args.m; row += max_rows_) {
            const int64_t rows = std::min(args.m - row, max_rows_);
            const int64_t y_offset = kElemBytes * row * problem_.n;
            const w4_gemm::Operands operands{x + kElemBytes * row * problem_.k,
                                             residual ? residual + y_offset : nullptr, y + y_offset,
                                             rows, args.workspace};
            const cudaError_t status =
                w4_gemm::run(weights, activation_, decision(rows).choice, operands, stream);
            if (status != cudaSuccess) return cuda_status(status, "launch of sm80_w4_gemm_kernel");
        }
        return TARPON_OK;
    }

    LinearProblem problem_;
    w4_gemm::FormatId format_;
    DeviceMemory qweight_, scales_, zeros_, metadata_, column_scale_, bias_, permutation_;
    w4_gemm::Activation activation_;
    int64_t max_rows_;
    int ordinal_ = 0;
    w4_gemm::DeviceProps props_{};
    std::array<Decision, kTabulatedRows / kRowStep> table_;
};

// A warp's slab of rows lies in one group, and groups are counted by shifts.
bool group_fits_slabs(const LinearProblem &problem) {
    return problem.groups == 1 || (problem.group_size >= w4_gemm::kMinGroupSize &&
                                   std::has_single_bit(static_cast<uint64_t>(problem.group_size)));
}

bool has_format(const LinearProblem &problem) {
    const bool symmetric = problem.zero_type == TARPON_ZERO_SYMMETRIC;
    if (problem.sparsity == TARPON_SPARSITY_2_4) {
        return problem.weight_type == TARPON_WEIGHT_INT4 && symmetric;
    }
    return problem.weight_type != TARPON_WEIGHT_FP8_E4M3 || symmetric;
}

bool sm80_supports(const Device &device, const LinearProblem &problem) {
    tarpon_device_info info{};
    device.info(info);
    return info.compute_capability >= 80 && has_format(problem) &&
           problem.arithmetic == TARPON_ARITHMETIC_EXACT &&
           (problem.activation_dtype == TARPON_F16 || problem.activation_dtype == TARPON_BF16) &&
           group_fits_slabs(problem) && problem.n <= kMaxFeatures && problem.k <= kMaxFeatures;
}

std::unique_ptr<LinearPlan> create_sm80(Device &device, const LinearProblem &problem,
                                        const LinearWeights &weights) {
    return std::make_unique<Sm80Linear>(device, problem, weights);
}

}  // namespace

const std::vector<LinearVariant> &linear_variants() {
    static const std::vector<LinearVariant> variants = {
        {"sm80_mma",
         "compute capability 8.0 or newer; INT4 or INT8 with SYMMETRIC, INTEGER or FLOAT zeros, "
         "FP8_E4M3; 2:4 sparse INT4 SYMMETRIC; scales F16, BF16 or F32; group 32, 64, 128 or -1; "
         "F16, BF16; FAST or "
         "DETERMINISTIC; bias, residual, g_idx; up to 2^30 features",
         sm80_supports, create_sm80},
    };
    return variants;
}

}  // namespace tarpon::gpu
