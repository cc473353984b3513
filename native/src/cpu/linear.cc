// The plan of a CPU linear layer. The layout of packed weights and activations is drawn in
// linear_kernel.h; README.md has the picture and the measurements behind the constants.
#include "cpu/linear.h"

#include <algorithm>
#include <cstring>

#include "cpu/device.h"
#include "cpu/linear_kernel.h"
#include "cpu/memory.h"

namespace tarpon::cpu {
namespace {

constexpr uint8_t kZeroCode = 8;

// Packed activations up to this size live on the caller's stack, so that decoding needs no
// workspace: one row of up to 8192 inputs, whatever its dtype.
constexpr size_t kStackBytes = 32 << 10;

// Rows are taken in blocks whose packed activations stay in L2 (256 KiB leaves room for the panel
// in the smallest L2 of AVX-512 processors, 1 MiB) while panel after panel passes by.
constexpr int64_t kRowBlockBytes = 256 << 10;

// Below this many words packing takes less time than waking the workers.
constexpr int64_t kSerialPackWords = 16 << 10;

constexpr int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

struct Panel {
    int64_t first_column;
    int vectors;
    size_t codes_offset;   // bytes from the start of the codes
    size_t scales_offset;  // binary16 from the start of the scales
};

// m rows cut into the fewest tiles of at most max_rows, as even as possible.
struct Tiling {
    int64_t tiles, base, extra;

    Tiling(int64_t m, int max_rows)
        : tiles(ceil_div(m, max_rows)), base(m / tiles), extra(m % tiles) {}
    int64_t first_row(int64_t tile) const { return tile * base + std::min(tile, extra); }
    int rows(int64_t tile) const { return static_cast<int>(base + (tile < extra)); }
};

class PanelLinear final : public LinearPlan {
  public:
    PanelLinear(ThreadPool &pool, const LinearKernel &kernel, const LinearProblem &problem,
                const uint8_t *codes, const uint16_t *scales);

    size_t workspace_bytes(int64_t m) const override;
    tarpon_status run(const LinearArgs &args) const noexcept override;
    uint64_t weights_bytes() const override { return memory_bytes_; }

  private:
    struct Job;

    void cut_panels();
    void pack_panel(const Panel &panel, const uint8_t *codes, const uint16_t *scales) const;
    // Bytes of m packed rows; false if that overflows.
    bool packed_bytes(int64_t m, size_t *out) const noexcept;
    int64_t words_per_row() const {
        return units_ * kernel_.words_per_unit +
               ceil_div(units_, kStepUnits) * kernel_.words_per_step;
    }
    uint8_t *codes() const { return static_cast<uint8_t *>(memory_.get()); }
    uint16_t *scales() const { return reinterpret_cast<uint16_t *>(codes() + codes_bytes_); }

    ThreadPool &pool_;
    const LinearKernel &kernel_;
    const LinearProblem problem_;
    const int64_t units_;
    const int step_units_;
    const int64_t steps_per_group_;
    const size_t elem_bytes_;
    std::vector<Panel> panels_;
    size_t codes_bytes_ = 0;
    size_t memory_bytes_ = 0;
    Memory memory_;
};

PanelLinear::PanelLinear(ThreadPool &pool, const LinearKernel &kernel, const LinearProblem &problem,
                         const uint8_t *codes, const uint16_t *scales)
    : pool_(pool),
      kernel_(kernel),
      problem_(problem),
      units_(ceil_div(problem.k, kUnitRows)),
      step_units_(
          static_cast<int>(std::min<int64_t>(ceil_div(problem.group_size, kUnitRows), kStepUnits))),
      steps_per_group_(ceil_div(problem.group_size, step_units_ * kUnitRows)),
      elem_bytes_(problem.activation_dtype == TARPON_F32 ? 4 : 2) {
    cut_panels();
    memory_ = allocate_memory(memory_bytes_);
    struct PackJob {
        const PanelLinear *plan;
        const uint8_t *codes;
        const uint16_t *scales;
    } job{this, codes, scales};
    pool_.run(
        static_cast<int64_t>(panels_.size()),
        [](const void *context, int64_t i) noexcept {
            const auto &job = *static_cast<const PackJob *>(context);
            job.plan->pack_panel(job.plan->panels_[static_cast<size_t>(i)], job.codes, job.scales);
        },
        &job);
}

// The widest panels that still give every thread two or more to work on; a narrow rest at the end.
void PanelLinear::cut_panels() {
    const int64_t vectors = ceil_div(problem_.n, kLanes);
    int width = kMaxPanelVectors;
    while (width > 1 && vectors < int64_t{2} * width * pool_.thread_count())
        width /= 2;
    size_t scales_elems = 0;
    for (int64_t v = 0; v < vectors; v += width) {
        while (width > vectors - v)
            width /= 2;
        panels_.push_back({v * kLanes, width, codes_bytes_, scales_elems});
        codes_bytes_ += static_cast<size_t>(units_ * width * kUnitBytes);
        scales_elems += static_cast<size_t>(problem_.groups * width * kLanes);
    }
    memory_bytes_ = codes_bytes_ + scales_elems * sizeof(uint16_t);
}

void PanelLinear::pack_panel(const Panel &panel, const uint8_t *codes,
                             const uint16_t *scales) const {
    const int64_t n = problem_.n;
    const int64_t width = panel.vectors * kLanes;
    const int64_t columns = std::min(width, n - panel.first_column);
    uint8_t *unit = this->codes() + panel.codes_offset;
    for (int64_t u = 0; u < units_; ++u, unit += width * 4) {
        for (int64_t c = 0; c < width; ++c) {
            uint32_t lane = 0;
            for (int i = 0; i < kUnitRows; ++i) {
                const int64_t row = u * kUnitRows + i;
                const bool inside = row < problem_.k && c < columns;
                const uint32_t code = inside ? codes[row * n + panel.first_column + c] : kZeroCode;
                lane |= code << (16 * (i % 2) + 4 * (i / 2));
            }
            std::memcpy(unit + 4 * c, &lane, sizeof lane);
        }
    }
    uint16_t *out = this->scales() + panel.scales_offset;
    for (int64_t g = 0; g < problem_.groups; ++g, out += width) {
        const uint16_t *row = scales + g * n + panel.first_column;
        for (int64_t c = 0; c < width; ++c)
            out[c] = c < columns ? row[c] : uint16_t{0};
    }
}

bool PanelLinear::packed_bytes(int64_t m, size_t *out) const noexcept {
    const auto row_bytes = static_cast<size_t>(words_per_row()) * sizeof(uint32_t);
    return !__builtin_mul_overflow(static_cast<size_t>(std::max<int64_t>(m, 0)), row_bytes, out);
}

size_t PanelLinear::workspace_bytes(int64_t m) const {
    size_t bytes;
    // An m whose workspace is beyond size_t has no x in memory either; no allocator grants this.
    if (!packed_bytes(m, &bytes)) return SIZE_MAX;
    return bytes <= kStackBytes ? 0 : bytes;
}

// What the threads of one run share.
struct PanelLinear::Job {
    const PanelLinear &plan;
    const LinearArgs &args;
    uint32_t *packed;
    Tiling tiling;
    int64_t tiles_per_block;

    void pack(int64_t tile) const noexcept {
        const PanelLinear &p = plan;
        const int64_t row = tiling.first_row(tile);
        const auto *x = static_cast<const char *>(args.x) +
                        static_cast<size_t>(row * p.problem_.k) * p.elem_bytes_;
        p.kernel_.pack_tile(x, p.problem_.k, p.units_, tiling.rows(tile),
                            packed + row * p.words_per_row());
    }

    // Task i: panel i % panels of the row block i / panels. Consecutive tasks share activations.
    void multiply(int64_t i) const noexcept {
        const PanelLinear &p = plan;
        const auto panel_count = static_cast<int64_t>(p.panels_.size());
        const Panel &panel = p.panels_[static_cast<size_t>(i % panel_count)];
        const int64_t first_tile = i / panel_count * tiles_per_block;
        const int64_t last_tile = std::min(first_tile + tiles_per_block, tiling.tiles);
        TileArgs t{};
        t.codes = p.codes() + panel.codes_offset;
        t.scales = p.scales() + panel.scales_offset;
        t.units = p.units_;
        t.step_units = p.step_units_;
        t.steps_per_group = p.steps_per_group_;
        t.vectors = panel.vectors;
        t.y_stride_elems = p.problem_.n;
        t.columns = static_cast<int>(
            std::min<int64_t>(panel.vectors * kLanes, p.problem_.n - panel.first_column));
        for (int64_t tile = first_tile; tile < last_tile; ++tile) {
            const int64_t row = tiling.first_row(tile);
            t.rows = tiling.rows(tile);
            t.activations = packed + row * p.words_per_row();
            t.y = static_cast<char *>(args.y) +
                  static_cast<size_t>(row * p.problem_.n + panel.first_column) * p.elem_bytes_;
            p.kernel_.run_tile(t);
        }
    }
};

tarpon_status PanelLinear::run(const LinearArgs &args) const noexcept {
    if (args.m < 0) {
        return set_error(TARPON_ERROR_INVALID_ARGUMENT, "m is %lld; it must be >= 0",
                         static_cast<long long>(args.m));
    }
    if (args.m == 0) return TARPON_OK;
    if (args.residual) {
        return set_error(TARPON_ERROR_UNSUPPORTED, "linear run: this kernel adds no residual");
    }
    const size_t needed = workspace_bytes(args.m);
    if (args.workspace_bytes < needed || (needed > 0 && !args.workspace)) {
        return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                         "workspace is %p of %zu bytes; m = %lld needs %zu bytes", args.workspace,
                         args.workspace_bytes, static_cast<long long>(args.m), needed);
    }
    alignas(64) uint32_t stack[kStackBytes / sizeof(uint32_t)];
    auto *packed = needed > 0 ? static_cast<uint32_t *>(args.workspace) : stack;

    const Tiling tiling(args.m, kernel_.max_rows);
    const int64_t tile_bytes = kernel_.max_rows * words_per_row() * 4;
    const int64_t tiles_per_block = std::max<int64_t>(kRowBlockBytes / tile_bytes, 1);
    const Job job{*this, args, packed, tiling, tiles_per_block};
    if (args.m * words_per_row() <= kSerialPackWords) {
        for (int64_t tile = 0; tile < tiling.tiles; ++tile)
            job.pack(tile);
    } else {
        pool_.run(
            tiling.tiles,
            [](const void *context, int64_t i) noexcept {
                static_cast<const Job *>(context)->pack(i);
            },
            &job);
    }
    pool_.run(
        ceil_div(tiling.tiles, tiles_per_block) * static_cast<int64_t>(panels_.size()),
        [](const void *context, int64_t i) noexcept {
            static_cast<const Job *>(context)->multiply(i);
        },
        &job);
    return TARPON_OK;
}

// ---- Variants ---------------------------------------------------------------------------------

using FindKernel = const LinearKernel *(*)(tarpon_dtype);

// Scales change between steps only, which are whole units; int8 activations have steps of 128.
bool group_fits_steps(const LinearProblem &problem) {
    if (problem.groups == 1 || problem.group_size % kStepRows == 0) return true;
    return problem.arithmetic == TARPON_ARITHMETIC_EXACT && problem.group_size < kStepRows &&
           problem.group_size % kUnitRows == 0;
}

bool plain_format(const LinearProblem &problem) {
    return problem.zero_type == TARPON_ZERO_SYMMETRIC && problem.scale_type == TARPON_SCALE_F16 &&
           problem.sparsity == TARPON_SPARSITY_NONE && problem.mode == TARPON_LINEAR_FAST &&
           !problem.permuted && !problem.has_bias;
}

template <Isa kIsa, tarpon_linear_arithmetic kArithmetic, FindKernel kFind>
LinearVariant variant(const char *name, const char *needs) {
    return {name, needs,
            [](const Device &device, const LinearProblem &problem) {
                return static_cast<const CpuDevice &>(device).isa() >= kIsa &&
                       problem.weight_type == TARPON_WEIGHT_INT4 && plain_format(problem) &&
                       problem.arithmetic == kArithmetic && group_fits_steps(problem) &&
                       kFind(problem.activation_dtype) != nullptr;
            },
            [](Device &device, const LinearProblem &problem,
               const LinearWeights &weights) -> std::unique_ptr<LinearPlan> {
                return std::make_unique<PanelLinear>(
                    static_cast<CpuDevice &>(device).pool(), *kFind(problem.activation_dtype),
                    problem, weights.codes, static_cast<const uint16_t *>(weights.scales));
            }};
}

}  // namespace

const std::vector<LinearVariant> &linear_variants() {
    constexpr auto kExact = TARPON_ARITHMETIC_EXACT;
    constexpr auto kInt8 = TARPON_ARITHMETIC_INT8_ACTIVATIONS;
    static const std::vector<LinearVariant> variants = {
        variant<Isa::kAvx512Bf16, kExact, avx512_bf16_linear_kernel>(
            "cpu_avx512_bf16",
            "AVX-512 F/BW/DQ/VL and AVX512_BF16; int4, F16 or BF16, group 32, 64, 128*i or -1"),
        variant<Isa::kAvx512, kExact, avx512_linear_kernel>(
            "cpu_avx512", "AVX-512 F/BW/DQ/VL; int4, F32, F16 or BF16, group 32, 64, 128*i or -1"),
        variant<Isa::kAvx2, kExact, avx2_linear_kernel>(
            "cpu_avx2", "AVX2, FMA, F16C; int4, F32, F16 or BF16, group 32, 64, 128*i or -1"),
        variant<Isa::kScalar, kExact, scalar_linear_kernel>(
            "cpu_scalar", "any x86-64; int4, F32, F16 or BF16, group 32, 64, 128*i or -1"),
        variant<Isa::kAvx512Vnni, kInt8, avx512_vnni_int8_linear_kernel>(
            "cpu_avx512_vnni_int8",
            "AVX-512 F/BW/DQ/VL and AVX512_VNNI; int4 with int8 activations, F32, F16 or BF16, "
            "group 128*i or -1"),
        variant<Isa::kScalar, kInt8, scalar_int8_linear_kernel>(
            "cpu_scalar_int8",
            "any x86-64; int4 with int8 activations, F32, F16 or BF16, group 128*i or -1"),
    };
    return variants;
}

}  // namespace tarpon::cpu
