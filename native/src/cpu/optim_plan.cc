// The optimizers' plan on the CPU. A step is at most three passes: the gradients' norm where it is
// wanted, the norms of trust ratios and columns where the rule has them, and the update. Every sum
// is taken chunk by chunk and added up in the chunks' order, so that results do not depend on the
// number of threads.
#include "cpu/optim_plan.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "cpu/device.h"
#include "cpu/memory.h"
#include "cpu/optim_kernel.h"
#include "optim/codec.h"

namespace tarpon::cpu {
namespace {

using namespace tarpon::optim;

// What a thread takes at a time: 64 blocks of 256 elements, 256 KiB or more of memory traffic.
constexpr int64_t kChunkBlocks = 64;
// Columns of a matrix that a thread sums over all rows: four cache lines of each row.
constexpr int64_t kStripColumns = 64;

struct Chunk {
    int32_t tensor;
    int64_t first, last;  // blocks
};

struct Strip {
    int32_t tensor;
    int64_t first, last;  // columns
};

template <class Body>
void parallel_for(ThreadPool &pool, int64_t count, const Body &body) noexcept {
    pool.run(
        count,
        [](const void *context, int64_t i) noexcept { (*static_cast<const Body *>(context))(i); },
        &body);
}

float load_elem(const void *tensor, Dtype dtype, int64_t i) {
    switch (dtype) {
        case Dtype::kF32:
            return static_cast<const float *>(tensor)[i];
        case Dtype::kF16:
            return to_float(static_cast<const half_t *>(tensor)[i]);
        case Dtype::kBF16:
            break;
    }
    return to_float(static_cast<const bf16_t *>(tensor)[i]);
}

// Scale's signed state, an element at a time: columns cut across its blocks.
float load_momentum(const TensorEntry &t, int64_t i) {
    if (t.format == StateFormat::kF32) return static_cast<const float *>(t.state[0])[i];
    const uint8_t code = static_cast<const uint8_t *>(t.state[0])[i];
    return code_map(MapKind::kDynamicSigned).value[code] * t.absmax[0][i / kBlockElems];
}

class CpuOptim final : public OptimPlan {
  public:
    CpuOptim(ThreadPool &pool, const OptimKernel &kernel, const OptimProblem &problem);

    tarpon_status step(const StepScalars &scalars, const Stream *) noexcept override;
    tarpon_status refresh_hessian(const StepScalars &scalars, const Stream *) noexcept override;
    Control read_control(Stream *) const override { return control_; }
    void write_control(const Control &control, Stream *) override { control_ = control; }
    uint64_t workspace_bytes() const override;

  private:
    // False if a gradient is not finite. Fills grad_squares_ and the control's norm.
    bool measure_gradients(const StepScalars &s) noexcept;
    // The weights' or the directions' squares of each tensor, into out.
    void measure_weights(std::vector<double> &out) noexcept;
    void measure_directions(std::vector<double> &out) noexcept;
    void measure_columns() noexcept;
    void sum_strip(const Strip &strip) noexcept;
    void derive(const StepScalars &s, double clip) noexcept;
    void update(const StepScalars &s, bool hessian) noexcept;
    void add_up(std::vector<double> &out) const noexcept;

    ThreadPool &pool_;
    const OptimKernel &kernel_;
    const Rule rule_;
    std::vector<TensorEntry> tensors_;
    std::vector<Chunk> chunks_;
    std::vector<Strip> strips_;
    std::vector<float> inverse_norms_;
    std::vector<Coefficients> coefficients_;  // by tensor
    std::vector<double> grad_squares_, weight_squares_, direction_squares_;
    std::vector<double> chunk_sums_;
    std::vector<uint8_t> chunk_finite_;
    Control control_{};
};

CpuOptim::CpuOptim(ThreadPool &pool, const OptimKernel &kernel, const OptimProblem &problem)
    : pool_(pool), kernel_(kernel), rule_(problem.rule), tensors_(problem.tensors) {
    std::vector<size_t> norms_at;
    for (size_t i = 0; i < tensors_.size(); ++i) {
        const TensorEntry &t = tensors_[i];
        const auto index = static_cast<int32_t>(i);
        const int64_t blocks = block_count(t.elems);
        for (int64_t b = 0; b < blocks; b += kChunkBlocks)
            chunks_.push_back({index, b, std::min(b + kChunkBlocks, blocks)});
        norms_at.push_back(inverse_norms_.size());
        if (rule_ != Rule::kScale) continue;
        inverse_norms_.resize(inverse_norms_.size() + static_cast<size_t>(t.columns + kBlockElems));
        for (int64_t c = 0; c < t.columns; c += kStripColumns)
            strips_.push_back({index, c, std::min(c + kStripColumns, t.columns)});
    }
    if (rule_ == Rule::kScale) {
        for (size_t i = 0; i < tensors_.size(); ++i)
            tensors_[i].inverse_norms = inverse_norms_.data() + norms_at[i];
    }
    coefficients_.resize(tensors_.size());
    grad_squares_.resize(tensors_.size());
    weight_squares_.resize(tensors_.size());
    direction_squares_.resize(tensors_.size());
    chunk_sums_.resize(chunks_.size());
    chunk_finite_.resize(chunks_.size());
}

uint64_t CpuOptim::workspace_bytes() const {
    return tensors_.size() * (sizeof(TensorEntry) + sizeof(Coefficients) + 3 * sizeof(double)) +
           chunks_.size() * (sizeof(Chunk) + sizeof(double) + 1) + strips_.size() * sizeof(Strip) +
           inverse_norms_.size() * sizeof(float);
}

void CpuOptim::add_up(std::vector<double> &out) const noexcept {
    std::fill(out.begin(), out.end(), 0.0);
    for (size_t i = 0; i < chunks_.size(); ++i)
        out[static_cast<size_t>(chunks_[i].tensor)] += chunk_sums_[i];
}

bool CpuOptim::measure_gradients(const StepScalars &s) noexcept {
    const float multiplier =
        s.device_grad_multiplier ? *s.device_grad_multiplier : float(s.grad_multiplier);
    parallel_for(pool_, static_cast<int64_t>(chunks_.size()), [&](int64_t i) {
        const auto at = static_cast<size_t>(i);
        const Chunk &chunk = chunks_[at];
        const GradSum sum = kernel_.grad_sum(tensors_[static_cast<size_t>(chunk.tensor)],
                                             multiplier, chunk.first, chunk.last);
        chunk_sums_[at] = sum.squares;
        chunk_finite_[at] = sum.finite;
    });
    add_up(grad_squares_);
    double total = 0;
    for (double squares : grad_squares_)
        total += squares;
    control_.grad_norm = std::sqrt(total);
    return std::find(chunk_finite_.begin(), chunk_finite_.end(), 0) == chunk_finite_.end();
}

void CpuOptim::measure_weights(std::vector<double> &out) noexcept {
    parallel_for(pool_, static_cast<int64_t>(chunks_.size()), [&](int64_t i) {
        const Chunk &chunk = chunks_[static_cast<size_t>(i)];
        chunk_sums_[static_cast<size_t>(i)] = kernel_.weight_squares(
            tensors_[static_cast<size_t>(chunk.tensor)], chunk.first, chunk.last);
    });
    add_up(out);
}

void CpuOptim::measure_directions(std::vector<double> &out) noexcept {
    parallel_for(pool_, static_cast<int64_t>(chunks_.size()), [&](int64_t i) {
        const Chunk &chunk = chunks_[static_cast<size_t>(i)];
        const auto tensor = static_cast<size_t>(chunk.tensor);
        Coefficients c = coefficients_[tensor];
        c.step_size = 1;
        chunk_sums_[static_cast<size_t>(i)] =
            kernel_.direction_squares(tensors_[tensor], c, chunk.first, chunk.last);
    });
    add_up(out);
}

// Row by row, so that memory is read in order within a strip's rows.
void CpuOptim::sum_strip(const Strip &strip) noexcept {
    const TensorEntry &t = tensors_[static_cast<size_t>(strip.tensor)];
    const Coefficients &c = coefficients_[static_cast<size_t>(strip.tensor)];
    double sums[kStripColumns] = {};
    const int64_t rows = t.elems / t.columns;
    for (int64_t row = 0; row < rows; ++row) {
        for (int64_t column = strip.first; column < strip.last; ++column) {
            const int64_t i = row * t.columns + column;
            float x = load_elem(t.grad, t.grad_dtype, i) * c.grad_multiplier;
            if (t.update == Update::kScaleMomentum) {
                x = std::fma(c.beta1, load_momentum(t, i), c.rest1 * x);
            }
            sums[column - strip.first] += double(x) * double(x);
        }
    }
    auto *norms = const_cast<float *>(t.inverse_norms);
    for (int64_t column = strip.first; column < strip.last; ++column) {
        const double norm = std::sqrt(sums[column - strip.first]);
        const bool usable = norm >= 1e-30 && std::isfinite(norm);
        // Repeated past the end, so that a block can read on from any column.
        const float inverse = usable ? float(1 / norm) : 0.0f;
        for (int64_t at = column; at < t.columns + kBlockElems; at += t.columns)
            norms[at] = inverse;
    }
}

void CpuOptim::measure_columns() noexcept {
    parallel_for(pool_, static_cast<int64_t>(strips_.size()),
                 [&](int64_t i) { sum_strip(strips_[static_cast<size_t>(i)]); });
}

void CpuOptim::derive(const StepScalars &s, double clip) noexcept {
    for (size_t i = 0; i < tensors_.size(); ++i) {
        const TensorEntry &t = tensors_[i];
        const double decay = s.weight_decay * t.decay_factor;
        double trust = 1;
        if (rule_ == Rule::kLars) {
            trust = lars_trust(std::sqrt(weight_squares_[i]), std::sqrt(grad_squares_[i]) * clip,
                               decay, s.trust_coefficient);
        } else if (rule_ == Rule::kLamb) {
            trust = lamb_trust(std::sqrt(weight_squares_[i]), std::sqrt(direction_squares_[i]));
        }
        coefficients_[i] =
            derive_coefficients(rule_, s, control_.step + 1, t.lr_factor, decay, clip, trust);
    }
}

void CpuOptim::update(const StepScalars &s, bool hessian) noexcept {
    const Rounding rounding{s.seed, control_.step + 1, s.stochastic_params, s.stochastic_states};
    std::atomic<int64_t> skipped{0};
    parallel_for(pool_, static_cast<int64_t>(chunks_.size()), [&](int64_t i) {
        const Chunk &chunk = chunks_[static_cast<size_t>(i)];
        const auto tensor = static_cast<size_t>(chunk.tensor);
        const TensorEntry &t = tensors_[tensor];
        const Update kind = hessian ? Update::kSophiaHessian : t.update;
        const int64_t blocks = kernel_.step[static_cast<int>(kind)](
            t, coefficients_[tensor], rounding, chunk.first, chunk.last);
        if (blocks > 0) skipped.fetch_add(blocks, std::memory_order_relaxed);
    });
    control_.skipped_blocks += skipped.load();
}

tarpon_status CpuOptim::step(const StepScalars &s, const Stream *) noexcept {
    double clip = 1;
    if (s.skip_nonfinite || s.max_grad_norm > 0 || rule_ == Rule::kLars) {
        const bool finite = measure_gradients(s);
        if (!finite) {
            ++control_.skipped_steps;
            return TARPON_OK;
        }
        clip = clip_factor(control_.grad_norm, s.max_grad_norm);
    }
    if (rule_ == Rule::kLars || rule_ == Rule::kLamb) measure_weights(weight_squares_);
    if (rule_ == Rule::kLamb) {
        std::fill(direction_squares_.begin(), direction_squares_.end(), 0.0);
        derive(s, clip);
        measure_directions(direction_squares_);
    }
    derive(s, clip);
    if (rule_ == Rule::kScale) measure_columns();
    update(s, false);
    ++control_.step;
    return TARPON_OK;
}

tarpon_status CpuOptim::refresh_hessian(const StepScalars &s, const Stream *) noexcept {
    derive(s, 1);
    update(s, true);
    return TARPON_OK;
}

enum class Width { kScalar, kAvx2, kAvx512 };

bool serves(Isa isa, Width width) {
    switch (width) {
        case Width::kScalar:
            return true;
        case Width::kAvx2:
            return isa >= Isa::kAvx2;
        case Width::kAvx512:
            break;
    }
    return isa >= Isa::kAvx512 && avx512_optim_supported();
}

const OptimKernel &kernel_of(Width width) {
    switch (width) {
        case Width::kScalar:
            return scalar_optim_kernel();
        case Width::kAvx2:
            return avx2_optim_kernel();
        case Width::kAvx512:
            break;
    }
    return avx512_optim_kernel();
}

const OptimKernel &best_kernel(Isa isa) {
    for (Width width : {Width::kAvx512, Width::kAvx2}) {
        if (serves(isa, width)) return kernel_of(width);
    }
    return scalar_optim_kernel();
}

BlockwiseJob job_of(const BlockwiseArgs &args) {
    return {&code_map(args.map), args.values, args.dtype, args.elems,
            args.block_elems,    args.codes,  args.absmax};
}

using BlockwiseKernel = void (*)(const BlockwiseJob &, int64_t, int64_t) noexcept;

void run_blockwise(BlockwiseKernel kernel, ThreadPool &pool, const BlockwiseArgs &args) noexcept {
    const BlockwiseJob job = job_of(args);
    const int64_t blocks = (args.elems + args.block_elems - 1) / args.block_elems;
    const int64_t per_task = kChunkBlocks * kBlockElems / args.block_elems;
    parallel_for(pool, (blocks + per_task - 1) / per_task, [&](int64_t i) {
        kernel(job, i * per_task, std::min((i + 1) * per_task, blocks));
    });
}

template <Width kWidth>
OptimVariant variant(const char *name, const char *needs) {
    return {name, needs,
            [](const Device &device, const OptimProblem &) {
                return serves(static_cast<const CpuDevice &>(device).isa(), kWidth);
            },
            [](Device &device, const OptimProblem &problem) -> std::unique_ptr<OptimPlan> {
                return std::make_unique<CpuOptim>(static_cast<CpuDevice &>(device).pool(),
                                                  kernel_of(kWidth), problem);
            }};
}

}  // namespace

bool avx512_optim_supported() {
    return isa_supported(Isa::kAvx512) && __builtin_cpu_supports("avx512vbmi");
}

const std::vector<OptimVariant> &optim_variants() {
    static const std::vector<OptimVariant> variants = {
        variant<Width::kAvx512>("cpu_avx512",
                                "AVX-512 F/BW/DQ/VL and VBMI; all rules, formats and dtypes"),
        variant<Width::kAvx2>("cpu_avx2", "AVX2, FMA, F16C; all rules, formats and dtypes"),
        variant<Width::kScalar>("cpu_scalar", "any x86-64; all rules, formats and dtypes"),
    };
    return variants;
}

void run_quantize(Isa isa, ThreadPool &pool, const BlockwiseArgs &args) noexcept {
    run_blockwise(best_kernel(isa).quantize, pool, args);
}

void run_dequantize(Isa isa, ThreadPool &pool, const BlockwiseArgs &args) noexcept {
    run_blockwise(best_kernel(isa).dequantize, pool, args);
}

}  // namespace tarpon::cpu
