// Packs weights into panels; see linear_kernel.h.
#include "cpu/linear_weights.h"

#include <algorithm>
#include <cstring>

#include "types.h"

namespace tarpon::cpu {
namespace {

int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

// What is subtracted from a code; also the code of weight 0, for padding.
uint8_t code_bias(tarpon_weight_type type) {
    return type == TARPON_WEIGHT_INT4 ? 8 : type == TARPON_WEIGHT_INT8 ? 128 : 0;
}

float scale_at(const void *scales, int64_t i, tarpon_scale_type type) {
    if (type == TARPON_SCALE_F32) return static_cast<const float *>(scales)[i];
    const uint16_t bits = static_cast<const uint16_t *>(scales)[i];
    return type == TARPON_SCALE_F16 ? to_float(half_t{bits}) : to_float(bf16_t{bits});
}

float bias_at(const void *bias, int64_t i, tarpon_dtype dtype) {
    if (dtype == TARPON_F32) return static_cast<const float *>(bias)[i];
    const uint16_t bits = static_cast<const uint16_t *>(bias)[i];
    return dtype == TARPON_F16 ? to_float(half_t{bits}) : to_float(bf16_t{bits});
}

// The row of a unit whose 8-bit code is byte i of lane c's 8: linear_kernel.h.
constexpr int kByteRow[kUnitRows] = {0, 4, 1, 5, 2, 6, 3, 7};

}  // namespace

PackedWeights::PackedWeights(ThreadPool &pool, const LinearProblem &problem,
                             const LinearWeights &weights, int64_t units)
    : problem_(problem),
      units_(units),
      unit_bytes_(problem.weight_type == TARPON_WEIGHT_INT4 ? kVectorBytes : 2 * kVectorBytes),
      scale_bytes_(problem.scale_type == TARPON_SCALE_F32 ? 4 : 2) {
    cut_panels(pool.thread_count());
    find_two_levels(pool, weights);
    allocate(weights);
    struct PackJob {
        const PackedWeights &packed;
        const LinearWeights &weights;
    } job{*this, weights};
    pool.run(
        static_cast<int64_t>(panels_.size()),
        [](const void *context, int64_t i) noexcept {
            const auto &job = *static_cast<const PackJob *>(context);
            const Panel &panel = job.packed.panels_[static_cast<size_t>(i)];
            job.packed.pack_codes(panel, job.weights);
            if (job.packed.scale_codes_) {
                job.packed.pack_factors(panel);
            } else {
                job.packed.pack_scales(panel, job.weights);
            }
        },
        &job);
    scale_factors_.reset();
    minimum_factors_.reset();
    if (bias_) pack_bias(weights.bias);
    if (permutation_) {
        std::copy(weights.permutation, weights.permutation + problem.k, permutation_);
    }
}

PanelScales PackedWeights::scales(const Panel &panel) const {
    PanelScales scales{};
    scales.scale_type = problem_.scale_type;
    if (scale_codes_) {
        scales.factors = {scale_codes_ + panel.scales_index, minimum_codes_ + panel.scales_index,
                          super_scales_ + panel.super_index, super_minimums_ + panel.super_index};
        return scales;
    }
    scales.scales = scales_ + panel.scales_index * scale_bytes_;
    if (zeros_) scales.zeros = zeros_ + panel.scales_index;
    if (offsets_) scales.offsets = offsets_ + panel.scales_index;
    return scales;
}

void PackedWeights::find_two_levels(ThreadPool &pool, const LinearWeights &weights) {
    if (problem_.zero_type != TARPON_ZERO_FLOAT || problem_.scale_type != TARPON_SCALE_F32 ||
        problem_.groups < kSuperGroups) {
        return;
    }
    const auto find = [&](const void *values) {
        return find_factors(pool, static_cast<const float *>(values), problem_.groups, problem_.n);
    };
    scale_factors_ = find(weights.scales);
    if (scale_factors_) minimum_factors_ = find(weights.zeros);
}

// The widest panels that still give every thread two or more to work on; a narrow rest at the end.
void PackedWeights::cut_panels(int thread_count) {
    const int64_t vectors = ceil_div(problem_.n, kLanes);
    int width = kMaxPanelVectors;
    while (width > 1 && vectors < int64_t{2} * width * thread_count)
        width /= 2;
    for (int64_t v = 0; v < vectors; v += width) {
        while (width > vectors - v)
            width /= 2;
        panels_.push_back({v * kLanes, width, codes_bytes_, scales_count_, super_count_});
        codes_bytes_ += static_cast<size_t>(units_ * width) * unit_bytes_;
        scales_count_ += static_cast<size_t>(problem_.groups * width * kLanes);
        super_count_ +=
            static_cast<size_t>(ceil_div(problem_.groups, kSuperGroups) * width * kLanes);
    }
}

void PackedWeights::allocate(const LinearWeights &weights) {
    const auto columns = static_cast<size_t>(ceil_div(problem_.n, kLanes) * kLanes);
    size_t end = 0;
    auto part = [&](bool wanted, size_t bytes) {
        const size_t start = end;
        if (wanted) end += (bytes + 63) / 64 * 64;
        return start;
    };
    const bool integer = problem_.zero_type == TARPON_ZERO_INTEGER;
    const bool factored = minimum_factors_.has_value();
    const bool minimum = problem_.zero_type == TARPON_ZERO_FLOAT && !factored;
    const size_t codes = part(true, codes_bytes_);
    const size_t scales = part(!factored, scales_count_ * scale_bytes_);
    const size_t scale_codes = part(factored, scales_count_);
    const size_t minimum_codes = part(factored, scales_count_);
    const size_t super_scales = part(factored, super_count_ * sizeof(uint16_t));
    const size_t super_minimums = part(factored, super_count_ * sizeof(uint16_t));
    const size_t zeros = part(integer, scales_count_);
    const size_t offsets = part(minimum, scales_count_ * sizeof(float));
    const size_t bias = part(weights.bias, columns * sizeof(float));
    const size_t permutation =
        part(weights.permutation, static_cast<size_t>(problem_.k) * sizeof(int32_t));
    bytes_ = end;
    memory_ = allocate_memory(bytes_);
    auto *base = static_cast<uint8_t *>(memory_.get());
    codes_ = base + codes;
    if (factored) {
        scale_codes_ = base + scale_codes;
        minimum_codes_ = base + minimum_codes;
        super_scales_ = reinterpret_cast<uint16_t *>(base + super_scales);
        super_minimums_ = reinterpret_cast<uint16_t *>(base + super_minimums);
    } else {
        scales_ = base + scales;
    }
    if (integer) zeros_ = base + zeros;
    if (minimum) offsets_ = reinterpret_cast<float *>(base + offsets);
    if (weights.bias) bias_ = reinterpret_cast<float *>(base + bias);
    if (weights.permutation) permutation_ = reinterpret_cast<int32_t *>(base + permutation);
}

void PackedWeights::pack_codes(const Panel &panel, const LinearWeights &weights) const {
    const int64_t n = problem_.n;
    const int64_t width = panel.vectors * kLanes;
    const int64_t columns = std::min(width, n - panel.first_column);
    const uint8_t padding = code_bias(problem_.weight_type);
    uint8_t *unit = codes_ + panel.codes_offset;
    for (int64_t u = 0; u < units_; ++u) {
        for (int64_t c = 0; c < width; ++c) {
            uint8_t codes[kUnitRows];
            for (int i = 0; i < kUnitRows; ++i) {
                const int64_t row = u * kUnitRows + i;
                const bool inside = row < problem_.k && c < columns;
                codes[i] = inside ? weights.codes[row * n + panel.first_column + c] : padding;
            }
            uint8_t *vector = unit + static_cast<size_t>(c / kLanes) * unit_bytes_;
            uint8_t *lane = vector + c % kLanes * 4;
            if (problem_.weight_type == TARPON_WEIGHT_INT4) {
                for (int i = 0; i < 4; ++i)
                    lane[i] =
                        static_cast<uint8_t>(codes[kByteRow[i]] | codes[kByteRow[4 + i]] << 4);
            } else if (problem_.weight_type == TARPON_WEIGHT_FP8_E4M3) {
                for (int i = 0; i < kUnitRows; ++i)
                    vector[(i / 2 * kLanes + c % kLanes) * 2 + i % 2] = codes[i];
            } else if (problem_.arithmetic == TARPON_ARITHMETIC_EXACT) {
                for (int i = 0; i < kUnitRows; ++i)
                    vector[i * kLanes + c % kLanes] = static_cast<uint8_t>(codes[i] ^ 128);
            } else {
                for (int i = 0; i < kUnitRows; ++i)
                    lane[i / 4 * kVectorBytes + i % 4] = codes[kByteRow[i]];
            }
        }
        unit += static_cast<size_t>(panel.vectors) * unit_bytes_;
    }
}

void PackedWeights::pack_scales(const Panel &panel, const LinearWeights &weights) const {
    const int64_t width = panel.vectors * kLanes;
    const int64_t columns = std::min(width, problem_.n - panel.first_column);
    const auto *scales = static_cast<const uint8_t *>(weights.scales);
    const float bias = code_bias(problem_.weight_type);
    size_t out = panel.scales_index;
    for (int64_t g = 0; g < problem_.groups; ++g) {
        for (int64_t c = 0; c < width; ++c, ++out) {
            const int64_t in = g * problem_.n + panel.first_column + c;
            const bool inside = c < columns;
            uint8_t *scale = scales_ + out * scale_bytes_;
            if (inside) {
                std::memcpy(scale, scales + static_cast<size_t>(in) * scale_bytes_, scale_bytes_);
            } else {
                std::memset(scale, 0, scale_bytes_);
            }
            if (zeros_) zeros_[out] = inside ? static_cast<const uint8_t *>(weights.zeros)[in] : 0;
            if (!offsets_) continue;
            const double minimum = inside ? scale_at(weights.zeros, in, problem_.scale_type) : 0.0;
            const double shift =
                inside ? double{bias} * scale_at(weights.scales, in, problem_.scale_type) : 0.0;
            offsets_[out] = static_cast<float>(minimum + shift);
        }
    }
}

void PackedWeights::pack_factors(const Panel &panel) const {
    const int64_t n = problem_.n, width = panel.vectors * kLanes;
    const int64_t columns = std::min(width, n - panel.first_column);
    // One row of one array: the panel's columns of [.., n], and zeros.
    const auto copy = [&](const auto &from, int64_t row, auto *to) {
        const auto first = from.begin() + row * n + panel.first_column;
        std::fill(std::copy(first, first + columns, to), to + width, 0);
    };
    for (int64_t g = 0; g < problem_.groups; ++g) {
        const size_t out = panel.scales_index + static_cast<size_t>(g * width);
        copy(scale_factors_->codes, g, scale_codes_ + out);
        copy(minimum_factors_->codes, g, minimum_codes_ + out);
    }
    for (int64_t g = 0; g < ceil_div(problem_.groups, kSuperGroups); ++g) {
        const size_t out = panel.super_index + static_cast<size_t>(g * width);
        copy(scale_factors_->super, g, super_scales_ + out);
        copy(minimum_factors_->super, g, super_minimums_ + out);
    }
}

void PackedWeights::pack_bias(const void *bias) const {
    const int64_t columns = ceil_div(problem_.n, kLanes) * kLanes;
    for (int64_t c = 0; c < columns; ++c)
        bias_[c] = c < problem_.n ? bias_at(bias, c, problem_.activation_dtype) : 0.0f;
}

}  // namespace tarpon::cpu
