// The linear family on the host: plans, and the host operations on weights that are not quantisers
// (those are in linear_quantize.cc). Cold code: it throws tarpon::Error, which abi_linear.cc turns
// into a status.
#include "linear.h"

#include <cmath>

#include "linear_layouts.h"
#include "linear_weights.h"
#include "registry.h"
#include "w4_gemm/pack.h"

namespace tarpon {
namespace {

LinearProblem checked_problem(const tarpon_linear_desc &desc, const LinearParts &parts) {
    check_enum("mode", desc.mode, TARPON_LINEAR_DETERMINISTIC,
               "TARPON_LINEAR_FAST (0) or _DETERMINISTIC (1)");
    check_enum("arithmetic", desc.arithmetic, TARPON_ARITHMETIC_INT8_ACTIVATIONS,
               "TARPON_ARITHMETIC_EXACT (0) or _INT8_ACTIVATIONS (1)");
    if (desc.reserved != 0) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "desc->reserved is %d; it must be 0", desc.reserved);
    }
    LinearProblem problem{};
    problem.n = parts.shape().n;
    problem.k = parts.shape().k;
    problem.group_size = parts.shape().group_size;
    problem.groups = parts.shape().groups;
    problem.weight_type = desc.weight_type;
    problem.activation_dtype = desc.activation_dtype;
    problem.arithmetic = desc.arithmetic;
    problem.zero_type = desc.zero_type;
    problem.scale_type = desc.scale_type;
    problem.sparsity = desc.sparsity;
    problem.mode = desc.mode;
    problem.has_bias = parts.has_bias();
    problem.permuted = !parts.permutation().empty();
    return problem;
}

// Plain order of all parts, as backends take it.
struct PlainStorage {
    std::vector<uint8_t> codes;
    std::vector<float> scales, zeros;  // room for [G, N] of any scale type, aligned for each

    PlainStorage(const LinearParts &parts, bool permuted) {
        const auto [n, k, group_size, groups] = parts.shape();
        codes.resize(static_cast<size_t>(n * k));
        scales.resize(floats(groups * n, parts.format().scale_bytes()));
        zeros.resize(floats(groups * n, parts.format().zero_bytes()));
        parts.unpack(codes.data(), scales.data(), zeros.empty() ? nullptr : zeros.data(), permuted);
    }

  private:
    static size_t floats(int64_t elems, size_t elem_bytes) {
        return (static_cast<size_t>(elems) * elem_bytes + sizeof(float) - 1) / sizeof(float);
    }
};

}  // namespace

std::unique_ptr<LinearPlan> create_linear(Device &device, const tarpon_linear_desc &desc,
                                          const std::vector<tarpon_linear_weights> &parts,
                                          const char **out_variant) {
    const LinearParts checked(desc, parts);
    const LinearProblem problem = checked_problem(desc, checked);
    const LinearVariant &variant = choose_linear_variant(device, problem, desc.variant);
    const PlainStorage plain(checked, true);
    const std::vector<char> bias = checked.bias();
    LinearWeights weights{plain.codes.data(), plain.scales.data()};
    if (!plain.zeros.empty()) weights.zeros = plain.zeros.data();
    if (problem.has_bias) weights.bias = bias.data();
    if (problem.permuted) weights.permutation = checked.permutation().data();
    *out_variant = variant.name;
    return variant.create(device, problem, weights);
}

void weights_unpack(const tarpon_linear_desc &desc, const tarpon_linear_weights &weights,
                    uint8_t *out_codes, void *out_scales, void *out_zeros) {
    const LinearParts parts(desc, {weights});
    check_outputs(parts.format(), out_scales, out_zeros);
    parts.unpack(out_codes, out_scales, out_zeros, false);
}

void weights_dequantize(const tarpon_linear_desc &desc, const tarpon_linear_weights &weights,
                        float *out_weight) {
    const LinearParts parts(desc, {weights});
    const LinearFormat &format = parts.format();
    const PlainStorage plain(parts, false);
    const int64_t n = parts.shape().n;
    float value[256];  // of a code, exact
    for (int code = 0; code < 256; ++code) {
        value[code] = format.weight_type == TARPON_WEIGHT_FP8_E4M3
                          ? e4m3_value(static_cast<uint8_t>(code))
                          : static_cast<float>(code);
    }
    // Of the group that is being read.
    std::vector<float> scale(static_cast<size_t>(n)), zero(static_cast<size_t>(n));
    int64_t loaded = -1;
    for (int64_t r = 0; r < parts.shape().k; ++r) {
        const int64_t group = parts.group_of(r);
        for (int64_t c = 0; c < n && group != loaded; ++c) {
            const int64_t at = group * n + c;
            const auto i = static_cast<size_t>(c);
            scale[i] = load_scale(plain.scales.data(), format.scale_type, at);
            if (format.zero_type == TARPON_ZERO_FLOAT) {
                zero[i] = load_scale(plain.zeros.data(), format.scale_type, at);
            } else if (format.zero_type == TARPON_ZERO_INTEGER) {
                zero[i] = reinterpret_cast<const uint8_t *>(plain.zeros.data())[at];
            } else {
                zero[i] = static_cast<float>(format.symmetric_zero());
            }
        }
        loaded = group;
        const uint8_t *codes = plain.codes.data() + r * n;
        float *out = out_weight + r * n;
        for (int64_t c = 0; c < n; ++c) {
            const auto i = static_cast<size_t>(c);
            out[c] = format.zero_type == TARPON_ZERO_FLOAT
                         ? std::fma(value[codes[c]], scale[i], zero[i])
                         : (value[codes[c]] - zero[i]) * scale[i];
        }
    }
}

void desc_for_layout(tarpon_weight_layout layout, tarpon_linear_desc &desc) {
    const GgufType *type = gguf_type(layout);
    if (!type) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "layout is %d; only TARPON_LAYOUT_GGUF_Q4_0 (5), _Q4_1 (6), _Q8_0 (7) and _Q4_K (8) "
             "have a format of their own",
             layout);
    }
    desc.weight_type = type->format.weight_type;
    desc.zero_type = type->format.zero_type;
    desc.scale_type = type->format.scale_type;
    desc.sparsity = type->format.sparsity;
    desc.group_size = 32;
}

void w4_dequantize(const uint8_t *codes, const uint16_t *scales, int64_t n, int64_t k,
                   int32_t group_size, float *out_weight) {
    const LinearShape shape = checked_shape(n, k, group_size);
    check_codes("", codes, k, n, {});
    for (int64_t row = 0; row < k; ++row) {
        const uint16_t *row_scales = scales + row / shape.group_size * n;
        for (int64_t column = 0; column < n; ++column) {
            const int code = codes[row * n + column];
            out_weight[row * n + column] =
                static_cast<float>(code - 8) * to_float(half_t{row_scales[column]});
        }
    }
}

void marlin_size_bytes(int64_t n, int64_t k, int32_t group_size, size_t *out_qweight_bytes,
                       size_t *out_scales_bytes) {
    const LinearShape shape = checked_shape(n, k, group_size);
    const auto size = w4_gemm::marlin_size(n, k, shape.groups);
    *out_qweight_bytes = 4 * size.qweight_words;
    *out_scales_bytes = 2 * size.scales_elems;
}

void marlin_pack(const uint8_t *codes, const uint16_t *scales, int64_t n, int64_t k,
                 int32_t group_size, int32_t *out_qweight, uint16_t *out_scales_packed) {
    const LinearShape shape = checked_shape(n, k, group_size);
    check_codes("", codes, k, n, {});
    w4_gemm::marlin_pack(codes, scales, n, k, shape.groups, out_qweight, out_scales_packed);
}

void marlin_unpack(const int32_t *qweight, const uint16_t *scales_packed, int64_t n, int64_t k,
                   int32_t group_size, uint8_t *out_codes, uint16_t *out_scales) {
    const LinearShape shape = checked_shape(n, k, group_size);
    w4_gemm::marlin_unpack(qweight, scales_packed, n, k, shape.groups, out_codes, out_scales);
}

}  // namespace tarpon
