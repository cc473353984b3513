// The plan of a CPU linear layer: packs activations and shares out the work. README.md has the
// measurements behind the constants.
#include <algorithm>

#include "cpu/linear.h"
#include "cpu/linear_weights.h"

namespace tarpon::cpu {
namespace {

// Packed activations up to this size live on the caller's stack, so that decoding needs no
// workspace: one row of up to 8192 inputs, whatever its dtype, and its steps' headers.
constexpr size_t kStackBytes = 34 << 10;

// Rows are taken in blocks whose packed activations stay in L2 (256 KiB leaves room for the panel
// in the smallest L2 of AVX-512 processors, 1 MiB) while panel after panel passes by.
constexpr int64_t kRowBlockBytes = 256 << 10;

// Below this many words packing takes less time than waking the workers.
constexpr int64_t kSerialPackWords = 16 << 10;

constexpr int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

constexpr int64_t round_up(int64_t a, int64_t b) {
    return ceil_div(a, b) * b;
}

// m rows cut into the fewest tiles of at most max_rows, as even as possible.
struct Tiling {
    int64_t tiles, base, extra;

    Tiling(int64_t m, int max_rows)
        : tiles(ceil_div(m, max_rows)), base(m / tiles), extra(m % tiles) {}
    int64_t first_row(int64_t tile) const { return tile * base + std::min(tile, extra); }
    int rows(int64_t tile) const { return static_cast<int>(base + (tile < extra)); }
};

// How a row of inputs is cut up for a kernel.
struct Steps {
    int step_units;
    int64_t steps_per_group, units, count;

    Steps(const LinearProblem &problem, const LinearKernel &kernel) {
        const int64_t group_units = ceil_div(problem.group_size, kUnitRows);
        step_units = static_cast<int>(std::min<int64_t>(group_units, kStepUnits));
        // A single group may go on into padding.
        if (problem.groups == 1) {
            step_units = static_cast<int>(round_up(step_units, kernel.unit_multiple));
        }
        steps_per_group = ceil_div(problem.group_size, step_units * kUnitRows);
        units =
            round_up(ceil_div(problem.k, kUnitRows), std::min(step_units, kernel.unit_multiple));
        count = ceil_div(units, step_units);
    }
};

class PanelLinear final : public LinearPlan {
  public:
    PanelLinear(ThreadPool &pool, const LinearKernel &kernel, const LinearProblem &problem,
                const LinearWeights &weights)
        : pool_(pool),
          kernel_(kernel),
          problem_(problem),
          steps_(problem, kernel),
          weights_(pool, problem, weights, steps_.units),
          elem_bytes_(problem.activation_dtype == TARPON_F32 ? 4 : 2),
          header_words_(problem.arithmetic == TARPON_ARITHMETIC_EXACT && !weights_.has_offsets()
                            ? 0
                            : steps_.count * kernel.words_per_step),
          packed_words_(steps_.units * kernel.words_per_unit) {}

    size_t workspace_bytes(int64_t m) const override;
    tarpon_status run(const LinearArgs &args) const noexcept override;
    uint64_t weights_bytes() const override { return weights_.bytes(); }

  private:
    struct Job;

    ThreadPool &pool_;
    const LinearKernel &kernel_;
    const LinearProblem problem_;
    const Steps steps_;
    const PackedWeights weights_;
    const size_t elem_bytes_;
    const int64_t header_words_, packed_words_;  // of a row
};

size_t PanelLinear::workspace_bytes(int64_t m) const {
    const auto row_bytes = static_cast<size_t>(packed_words_ + header_words_) * sizeof(uint32_t);
    size_t bytes;
    // An m whose workspace is beyond size_t has no x in memory either; no allocator grants this.
    if (__builtin_mul_overflow(static_cast<size_t>(std::max<int64_t>(m, 0)), row_bytes, &bytes)) {
        return SIZE_MAX;
    }
    return bytes <= kStackBytes ? 0 : bytes;
}

// What the threads of one run share.
struct PanelLinear::Job {
    const PanelLinear &plan;
    const LinearArgs &args;
    uint32_t *packed, *headers;  // headers follow the packed rows; null if there are none
    Tiling tiling;
    int64_t tiles_per_block;

    uint32_t *headers_of(int64_t row) const {
        return headers ? headers + row * plan.header_words_ : nullptr;
    }

    void pack(int64_t tile) const noexcept {
        const PanelLinear &p = plan;
        const int64_t row = tiling.first_row(tile);
        const auto *x = static_cast<const char *>(args.x) +
                        static_cast<size_t>(row * p.problem_.k) * p.elem_bytes_;
        p.kernel_.pack_tile({x, p.problem_.k, p.weights_.permutation(), p.steps_.units,
                             p.steps_.step_units, tiling.rows(tile), packed + row * p.packed_words_,
                             headers_of(row)});
    }

    // Task i: panel i % panels of the row block i / panels. Consecutive tasks share activations.
    void multiply(int64_t i) const noexcept {
        const PanelLinear &p = plan;
        const auto panel_count = static_cast<int64_t>(p.weights_.panels().size());
        const Panel &panel = p.weights_.panels()[static_cast<size_t>(i % panel_count)];
        const int64_t n = p.problem_.n;
        const int64_t first_tile = i / panel_count * tiles_per_block;
        const int64_t last_tile = std::min(first_tile + tiles_per_block, tiling.tiles);
        TileArgs t{};
        t.codes = p.weights_.codes(panel);
        t.scales = p.weights_.scales(panel);
        t.units = p.steps_.units;
        t.step_units = p.steps_.step_units;
        t.steps_per_group = p.steps_.steps_per_group;
        t.vectors = panel.vectors;
        t.bias = p.weights_.bias(panel);
        t.y_stride_elems = n;
        t.columns =
            static_cast<int>(std::min<int64_t>(panel.vectors * kLanes, n - panel.first_column));
        for (int64_t tile = first_tile; tile < last_tile; ++tile) {
            const int64_t row = tiling.first_row(tile);
            const size_t y_offset =
                static_cast<size_t>(row * n + panel.first_column) * p.elem_bytes_;
            t.rows = tiling.rows(tile);
            t.activations = packed + row * p.packed_words_;
            t.headers = headers_of(row);
            t.y = static_cast<char *>(args.y) + y_offset;
            t.residual =
                args.residual ? static_cast<const char *>(args.residual) + y_offset : nullptr;
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
    const size_t needed = workspace_bytes(args.m);
    if (args.workspace_bytes < needed || (needed > 0 && !args.workspace)) {
        return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                         "workspace is %p of %zu bytes; m = %lld needs %zu bytes", args.workspace,
                         args.workspace_bytes, static_cast<long long>(args.m), needed);
    }
    alignas(64) uint32_t stack[kStackBytes / sizeof(uint32_t)];
    auto *packed = needed > 0 ? static_cast<uint32_t *>(args.workspace) : stack;
    auto *headers = header_words_ > 0 ? packed + args.m * packed_words_ : nullptr;

    const Tiling tiling(args.m, kernel_.max_rows);
    const int64_t tile_bytes = kernel_.max_rows * packed_words_ * 4;
    const int64_t tiles_per_block = std::max<int64_t>(kRowBlockBytes / tile_bytes, 1);
    const Job job{*this, args, packed, headers, tiling, tiles_per_block};
    if (args.m * packed_words_ <= kSerialPackWords) {
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
        ceil_div(tiling.tiles, tiles_per_block) * static_cast<int64_t>(weights_.panels().size()),
        [](const void *context, int64_t i) noexcept {
            static_cast<const Job *>(context)->multiply(i);
        },
        &job);
    return TARPON_OK;
}

}  // namespace

std::unique_ptr<LinearPlan> make_linear_plan(ThreadPool &pool, const LinearKernel &kernel,
                                             const LinearProblem &problem,
                                             const LinearWeights &weights) {
    return std::make_unique<PanelLinear>(pool, kernel, problem, weights);
}

}  // namespace tarpon::cpu
