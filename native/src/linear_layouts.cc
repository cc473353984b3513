// PLAIN, MARLIN, GPTQ and AWQ to plain order. GGUF is in linear_gguf.cc.
#include "linear_layouts.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "registry.h"
#include "w4_gemm/pack.h"

namespace tarpon {
namespace {

// Eight 4-bit values of an AWQ word, low to high, are of these columns: its kernel takes even and
// odd ones in pairs of halves.
constexpr int kAwqColumn[8] = {0, 2, 4, 6, 1, 3, 5, 7};

const char *layout_name(tarpon_weight_layout layout) {
    switch (layout) {
        case TARPON_LAYOUT_PLAIN:
            return "plain";
        case TARPON_LAYOUT_MARLIN:
            return "MARLIN";
        case TARPON_LAYOUT_GPTQ:
            return "GPTQ";
        case TARPON_LAYOUT_GPTQ_V2:
            return "GPTQ v2";
        case TARPON_LAYOUT_AWQ:
            return "AWQ";
    }
    const GgufType *type = gguf_type(layout);
    return type ? type->name : "unknown";
}

std::string describe(const LinearFormat &format) {
    return std::string(weight_type_name(format.weight_type)) + ", " +
           zero_type_name(format.zero_type) + ", scales " + scale_type_name(format.scale_type);
}

[[noreturn]] void refuse_format(const LinearPart &part, const LinearFormat &format,
                                const char *holds) {
    fail(TARPON_ERROR_INVALID_ARGUMENT, "%slayout %s holds weights that are %s; desc describes %s",
         part.name, layout_name(part.weights.layout), holds, describe(format).c_str());
}

void check_size(const LinearPart &part, const char *field, const void *data, size_t given,
                size_t expected) {
    if (!data && expected > 0) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "%s%s is NULL; %s order takes %zu bytes", part.name,
             field, layout_name(part.weights.layout), expected);
    }
    if (data && expected == 0) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "%s%s is not NULL; %s order takes none here", part.name,
             field, layout_name(part.weights.layout));
    }
    if (given == expected) return;
    fail(TARPON_ERROR_INVALID_ARGUMENT,
         "%s%s_bytes is %zu; %s order with in_features %lld, out_features %lld and %lld scale "
         "group(s) takes %zu",
         part.name, field, given, layout_name(part.weights.layout), ll{part.shape.k},
         ll{part.shape.n}, ll{part.shape.groups}, expected);
}

void check_multiple(const LinearPart &part, const char *feature, int64_t value, int64_t unit) {
    if (value % unit == 0) return;
    fail(TARPON_ERROR_INVALID_ARGUMENT, "%s is %lld; %s order takes multiples of %lld", feature,
         ll{value}, layout_name(part.weights.layout), ll{unit});
}

// Zero points in words of a checkpoint: present for INTEGER, and allowed for SYMMETRIC, where
// unpacking checks that they are the middle that symmetric codes have.
size_t expected_packed_zeros(const LinearPart &part, const LinearFormat &format) {
    const bool given = part.weights.zeros != nullptr;
    if (format.zero_type == TARPON_ZERO_SYMMETRIC && !given) return 0;
    const int64_t per_word = 32 / format.bits();
    check_multiple(part, "out_features", part.shape.n, per_word);
    return static_cast<size_t>(part.shape.groups * (part.shape.n / per_word)) * 4;
}

struct Sizes {
    size_t qweight, scales, zeros;
};

Sizes expected_sizes(const LinearPart &part, const LinearFormat &format) {
    const auto [n, k, group_size, groups] = part.shape;
    const auto scale_count = static_cast<size_t>(groups * n);
    switch (part.weights.layout) {
        case TARPON_LAYOUT_PLAIN:
            return {static_cast<size_t>(n * k), scale_count * format.scale_bytes(),
                    scale_count * format.zero_bytes()};
        case TARPON_LAYOUT_MARLIN: {
            if (format.weight_type != TARPON_WEIGHT_INT4 ||
                format.zero_type != TARPON_ZERO_SYMMETRIC ||
                format.scale_type != TARPON_SCALE_F16) {
                refuse_format(part, format, "INT4, SYMMETRIC, scales F16");
            }
            const auto size = w4_gemm::marlin_size(n, k, groups);
            return {4 * size.qweight_words, 2 * size.scales_elems, 0};
        }
        case TARPON_LAYOUT_GPTQ:
        case TARPON_LAYOUT_GPTQ_V2: {
            if (format.weight_type == TARPON_WEIGHT_FP8_E4M3 ||
                format.zero_type == TARPON_ZERO_FLOAT) {
                refuse_format(part, format, "INT4 or INT8, SYMMETRIC or INTEGER");
            }
            const int64_t per_word = 32 / format.bits();
            check_multiple(part, "in_features", k, per_word);
            return {static_cast<size_t>(k / per_word * n) * 4, scale_count * format.scale_bytes(),
                    expected_packed_zeros(part, format)};
        }
        case TARPON_LAYOUT_AWQ: {
            if (format.weight_type != TARPON_WEIGHT_INT4 || format.zero_type == TARPON_ZERO_FLOAT) {
                refuse_format(part, format, "INT4, SYMMETRIC or INTEGER");
            }
            check_multiple(part, "out_features", n, 8);
            return {static_cast<size_t>(k * (n / 8)) * 4, scale_count * format.scale_bytes(),
                    expected_packed_zeros(part, format)};
        }
    }
    const GgufType *type = gguf_type(part.weights.layout);
    if (!type) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "%slayout is %d; it must be TARPON_LAYOUT_PLAIN (0), _MARLIN (1), _GPTQ (2), "
             "_GPTQ_V2 (3), _AWQ (4), _GGUF_Q4_0 (5), _GGUF_Q4_1 (6), _GGUF_Q8_0 (7) or "
             "_GGUF_Q4_K (8)",
             part.name, part.weights.layout);
    }
    const LinearFormat &own = type->format;
    if (format.weight_type != own.weight_type || format.zero_type != own.zero_type ||
        format.scale_type != own.scale_type) {
        refuse_format(part, format, describe(own).c_str());
    }
    check_multiple(part, "in_features", k, type->block_inputs);
    if (group_size != 32) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "desc->group_size stands for groups of %lld inputs; %s blocks have groups of 32",
             ll{group_size}, type->name);
    }
    return {static_cast<size_t>(n * (k / type->block_inputs) * type->block_bytes), 0, 0};
}

void check_zero_points(const char *name, const uint8_t *zeros, const LinearShape &shape,
                       const LinearFormat &format) {
    for (int64_t i = 0; i < shape.groups * shape.n; ++i) {
        if (zeros[i] > format.max_code()) {
            fail(TARPON_ERROR_INVALID_ARGUMENT,
                 "%szeros[%lld, %lld] is %d; a zero point of %s weights is 0..%d", name,
                 ll{i / shape.n}, ll{i % shape.n}, zeros[i], weight_type_name(format.weight_type),
                 format.max_code());
        }
    }
}

void copy_rows(const void *source, void *out, int64_t rows, size_t row_bytes, size_t stride_bytes) {
    for (int64_t r = 0; r < rows; ++r) {
        std::memcpy(static_cast<char *>(out) + static_cast<size_t>(r) * stride_bytes,
                    static_cast<const char *>(source) + static_cast<size_t>(r) * row_bytes,
                    row_bytes);
    }
}

void copy_scales(const LinearPart &part, const LinearFormat &format, const PlainPart &out) {
    const size_t size = format.scale_bytes();
    copy_rows(part.weights.scales, out.scales, part.shape.groups,
              static_cast<size_t>(part.shape.n) * size, static_cast<size_t>(out.stride) * size);
}

void unpack_plain(const LinearPart &part, const LinearFormat &format, const PlainPart &out) {
    const auto [n, k, group_size, groups] = part.shape;
    const auto *codes = static_cast<const uint8_t *>(part.weights.qweight);
    check_codes(part.name, codes, k, n, format);
    for (int64_t r = 0; r < k; ++r)
        std::memcpy(out.codes.row(r), codes + r * n, static_cast<size_t>(n));
    copy_scales(part, format, out);
    if (format.zero_type == TARPON_ZERO_SYMMETRIC) return;
    if (format.zero_type == TARPON_ZERO_INTEGER) {
        check_zero_points(part.name, static_cast<const uint8_t *>(part.weights.zeros), part.shape,
                          format);
    }
    const size_t size = format.zero_bytes();
    copy_rows(part.weights.zeros, out.zeros, groups, static_cast<size_t>(n) * size,
              static_cast<size_t>(out.stride) * size);
}

void unpack_marlin(const LinearPart &part, const LinearFormat &, const PlainPart &out) {
    const auto [n, k, group_size, groups] = part.shape;
    std::vector<uint8_t> codes(static_cast<size_t>(n * k));
    std::vector<uint16_t> scales(static_cast<size_t>(n * groups));
    w4_gemm::marlin_unpack(static_cast<const int32_t *>(part.weights.qweight),
                           static_cast<const uint16_t *>(part.weights.scales), n, k, groups,
                           codes.data(), scales.data());
    for (int64_t r = 0; r < k; ++r)
        std::memcpy(out.codes.row(r), codes.data() + r * n, static_cast<size_t>(n));
    copy_rows(scales.data(), out.scales, groups, static_cast<size_t>(n) * 2,
              static_cast<size_t>(out.stride) * 2);
}

// Words need not be aligned in the caller's memory: a mapped file's may not be.
uint32_t load_word(const void *words, int64_t i) {
    uint32_t word;
    std::memcpy(&word, static_cast<const char *>(words) + 4 * i, sizeof word);
    return word;
}

// Zero points packed along N, `columns` places to a word: value i of a word is of column order[i]
// (null: i), and `offset` is added, modulo the range.
void unpack_zeros(const LinearPart &part, const LinearFormat &format, const int *order, int offset,
                  const PlainPart &out) {
    const auto [n, k, group_size, groups] = part.shape;
    if (!part.weights.zeros) return;
    const int bits = format.bits(), per_word = 32 / bits, mask = format.max_code();
    for (int64_t g = 0; g < groups; ++g) {
        for (int64_t c = 0; c < n; c += per_word) {
            const uint32_t word = load_word(part.weights.zeros, (g * n + c) / per_word);
            for (int i = 0; i < per_word; ++i) {
                const int64_t column = c + (order ? order[i] : i);
                const int zero = (static_cast<int>(word >> (bits * i)) + offset) & mask;
                if (format.zero_type == TARPON_ZERO_INTEGER) {
                    static_cast<uint8_t *>(out.zeros)[g * out.stride + column] =
                        static_cast<uint8_t>(zero);
                } else if (zero != format.symmetric_zero()) {
                    fail(TARPON_ERROR_INVALID_ARGUMENT,
                         "%szeros has the zero point %d in group %lld, column %lld; SYMMETRIC %s "
                         "weights have %d everywhere: describe these with zero_type INTEGER",
                         part.name, zero, ll{g}, ll{column}, weight_type_name(format.weight_type),
                         format.symmetric_zero());
                }
            }
        }
    }
}

void unpack_gptq(const LinearPart &part, const LinearFormat &format, const PlainPart &out) {
    const auto [n, k, group_size, groups] = part.shape;
    const int bits = format.bits(), per_word = 32 / bits, mask = format.max_code();
    for (int64_t r = 0; r < k; ++r) {
        uint8_t *row = out.codes.row(r);
        const int shift = bits * static_cast<int>(r % per_word);
        for (int64_t c = 0; c < n; ++c) {
            const uint32_t word = load_word(part.weights.qweight, r / per_word * n + c);
            row[c] = static_cast<uint8_t>(static_cast<int>(word >> shift) & mask);
        }
    }
    copy_scales(part, format, out);
    unpack_zeros(part, format, nullptr, part.weights.layout == TARPON_LAYOUT_GPTQ ? 1 : 0, out);
}

void unpack_awq(const LinearPart &part, const LinearFormat &format, const PlainPart &out) {
    const auto [n, k, group_size, groups] = part.shape;
    for (int64_t r = 0; r < k; ++r) {
        uint8_t *row = out.codes.row(r);
        for (int64_t c = 0; c < n; c += 8) {
            const uint32_t word = load_word(part.weights.qweight, (r * n + c) / 8);
            for (int i = 0; i < 8; ++i)
                row[c + kAwqColumn[i]] = static_cast<uint8_t>(word >> (4 * i) & 15);
        }
    }
    copy_scales(part, format, out);
    unpack_zeros(part, format, kAwqColumn, 0, out);
}

}  // namespace

void check_layout(const LinearPart &part, const LinearFormat &format) {
    const tarpon_linear_weights &w = part.weights;
    const Sizes sizes = expected_sizes(part, format);
    check_size(part, "qweight", w.qweight, w.qweight_bytes, sizes.qweight);
    check_size(part, "scales", w.scales, w.scales_bytes, sizes.scales);
    check_size(part, "zeros", w.zeros, w.zeros_bytes, sizes.zeros);
    if (w.g_idx && (w.layout == TARPON_LAYOUT_MARLIN || gguf_type(w.layout))) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "%sg_idx is not NULL; %s order has no act-order (PLAIN, GPTQ, GPTQ_V2 and AWQ have)",
             part.name, layout_name(w.layout));
    }
}

void unpack_layout(const LinearPart &part, const LinearFormat &format, const PlainPart &out) {
    switch (part.weights.layout) {
        case TARPON_LAYOUT_PLAIN:
            unpack_plain(part, format, out);
            break;
        case TARPON_LAYOUT_MARLIN:
            unpack_marlin(part, format, out);
            break;
        case TARPON_LAYOUT_GPTQ:
        case TARPON_LAYOUT_GPTQ_V2:
            unpack_gptq(part, format, out);
            break;
        case TARPON_LAYOUT_AWQ:
            unpack_awq(part, format, out);
            break;
        default:
            unpack_gguf(part, out);
    }
    const auto [n, k, group_size, groups] = part.shape;
    const std::string scales = std::string(part.name) + "scales";
    check_finite(scales.c_str(), out.scales, format.scale_type, groups, n, out.stride);
    if (format.zero_type == TARPON_ZERO_FLOAT) {
        const std::string zeros = std::string(part.name) + "zeros";
        check_finite(zeros.c_str(), out.zeros, format.scale_type, groups, n, out.stride);
    }
    if (format.sparsity == TARPON_SPARSITY_2_4) {
        check_sparsity(part.name, out.codes.data, k, n, out.codes.stride);
    }
}

void check_codes(const char *name, const uint8_t *codes, int64_t rows, int64_t columns,
                 const LinearFormat &format) {
    if (format.weight_type == TARPON_WEIGHT_INT8) return;
    const bool int4 = format.weight_type == TARPON_WEIGHT_INT4;
    int64_t at = -1;
    if (int4) {
        at = w4_gemm::find_invalid_code(codes, rows * columns);
    } else {
        for (int64_t i = 0; i < rows * columns && at < 0; ++i)
            if ((codes[i] & 0x7f) == 0x7f) at = i;
    }
    if (at < 0) return;
    fail(TARPON_ERROR_INVALID_ARGUMENT, "%scodes[%lld, %lld] is %d; %s", name, ll{at / columns},
         ll{at % columns}, codes[at], int4 ? "a 4-bit code is 0..15" : "this e4m3 code is NaN");
}

void check_finite(const char *name, const void *values, tarpon_scale_type type, int64_t rows,
                  int64_t columns, int64_t stride) {
    for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < columns; ++c) {
            const float value = load_scale(values, type, r * stride + c);
            if (std::isfinite(value)) continue;
            fail(TARPON_ERROR_INVALID_ARGUMENT, "%s[%lld, %lld] is not finite (%g)", name, ll{r},
                 ll{c}, static_cast<double>(value));
        }
    }
}

void check_sparsity(const char *name, const uint8_t *codes, int64_t k, int64_t n, int64_t stride) {
    std::vector<uint8_t> nonzero(static_cast<size_t>(n));
    for (int64_t k0 = 0; k0 < k; k0 += 4) {
        std::fill(nonzero.begin(), nonzero.end(), uint8_t{0});
        for (int64_t r = k0; r < k && r < k0 + 4; ++r) {
            for (int64_t c = 0; c < n; ++c)
                nonzero[static_cast<size_t>(c)] += codes[r * stride + c] != w4_gemm::kZeroCode;
        }
        for (int64_t c = 0; c < n; ++c) {
            const int count = nonzero[static_cast<size_t>(c)];
            if (count <= 2) continue;
            fail(TARPON_ERROR_INVALID_ARGUMENT,
                 "%scodes[%lld..%lld, %lld]: %d weights are not zero (code 8); 2:4 sparse weights "
                 "have at most two of every four inputs",
                 name, ll{k0}, ll{k0 + 3}, ll{c}, count);
        }
    }
}

}  // namespace tarpon
