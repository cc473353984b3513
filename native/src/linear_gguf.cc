// GGUF's blocks to plain order, so that (code - bias) * scale, or code * scale + minimum, in
// binary32 is what ggml's own dequantisation gives, bit for bit. Facts of the formats:
// ggml-common.h and ggml-quants.c of ggml-org/ggml.
//
//   Q4_0   half d; uint8 qs[16]              input i < 16 in the low nibble of qs[i], i + 16 in the
//                                            high one; weight (q - 8) * d
//   Q4_1   half d, m; uint8 qs[16]           likewise; q * d + m
//   Q8_0   half d; int8 qs[32]               q * d
//   Q4_K   half d, dmin; uint8 s[12], qs[128]: 256 inputs in eight groups of 32. Groups 2j and 2j+1
//          are the low and high nibbles of qs[32j..32j+31]; weight q * (d * sc) - dmin * mn with
//          6-bit sc and mn of each group packed into s. Both products are exact in binary32.
#include <cstring>

#include "linear_layouts.h"

namespace tarpon {
namespace {

constexpr int kGroup = 32;

float load_half(const uint8_t *p) {
    uint16_t bits;
    std::memcpy(&bits, p, sizeof bits);
    return to_float(half_t{bits});
}

// What a group of 32 inputs of one output has.
struct Group {
    uint8_t codes[kGroup];
    float scale, minimum;
};

void split_nibbles(const uint8_t *bytes, uint8_t *low, uint8_t *high, int count) {
    for (int i = 0; i < count; ++i) {
        low[i] = bytes[i] & 15;
        high[i] = bytes[i] >> 4;
    }
}

void decode_q4_0(const uint8_t *block, Group *group) {
    group->scale = load_half(block);
    split_nibbles(block + 2, group->codes, group->codes + 16, 16);
}

void decode_q4_1(const uint8_t *block, Group *group) {
    group->scale = load_half(block);
    group->minimum = load_half(block + 2);
    split_nibbles(block + 4, group->codes, group->codes + 16, 16);
}

void decode_q8_0(const uint8_t *block, Group *group) {
    group->scale = load_half(block);
    for (int i = 0; i < kGroup; ++i)
        group->codes[i] = block[2 + i] ^ 0x80;  // two's complement to a bias of 128
}

void decode_q4_k(const uint8_t *block, Group *groups) {
    const float d = load_half(block), dmin = load_half(block + 2);
    const uint8_t *s = block + 4, *qs = block + 16;
    for (int j = 0; j < 8; ++j) {
        // Groups 0..3 have their six bits together; 4..7 have four in s[8..11] and two on top of
        // those of groups 0..3.
        const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        const int minimum = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
        groups[j].scale = d * static_cast<float>(scale);
        groups[j].minimum = -(dmin * static_cast<float>(minimum));
    }
    for (int j = 0; j < 4; ++j)
        split_nibbles(qs + kGroup * j, groups[2 * j].codes, groups[2 * j + 1].codes, kGroup);
}

constexpr int kMaxGroups = 8;     // of a block
constexpr int64_t kColumns = 64;  // outputs decoded together, so that rows are written in runs

struct Decoder {
    tarpon_weight_layout layout;
    GgufType type;
    void (*decode)(const uint8_t *block, Group *groups);
};

constexpr LinearFormat kSymmetric4{TARPON_WEIGHT_INT4, TARPON_ZERO_SYMMETRIC, TARPON_SCALE_F16};
constexpr LinearFormat kFloat4{TARPON_WEIGHT_INT4, TARPON_ZERO_FLOAT, TARPON_SCALE_F16};
constexpr LinearFormat kSymmetric8{TARPON_WEIGHT_INT8, TARPON_ZERO_SYMMETRIC, TARPON_SCALE_F16};
constexpr LinearFormat kFloat4Wide{TARPON_WEIGHT_INT4, TARPON_ZERO_FLOAT, TARPON_SCALE_F32};

constexpr Decoder kDecoders[] = {
    {TARPON_LAYOUT_GGUF_Q4_0, {"GGUF Q4_0", 32, 18, kSymmetric4}, decode_q4_0},
    {TARPON_LAYOUT_GGUF_Q4_1, {"GGUF Q4_1", 32, 20, kFloat4}, decode_q4_1},
    {TARPON_LAYOUT_GGUF_Q8_0, {"GGUF Q8_0", 32, 34, kSymmetric8}, decode_q8_0},
    {TARPON_LAYOUT_GGUF_Q4_K, {"GGUF Q4_K", 256, 144, kFloat4Wide}, decode_q4_k},
};

const Decoder *decoder(tarpon_weight_layout layout) {
    for (const Decoder &decoder : kDecoders)
        if (decoder.layout == layout) return &decoder;
    return nullptr;
}

}  // namespace

const GgufType *gguf_type(tarpon_weight_layout layout) {
    const Decoder *found = decoder(layout);
    return found ? &found->type : nullptr;
}

void unpack_gguf(const LinearPart &part, const PlainPart &out) {
    const Decoder &format = *decoder(part.weights.layout);
    const auto [n, k, group_size, groups] = part.shape;
    const auto *blocks = static_cast<const uint8_t *>(part.weights.qweight);
    const int64_t blocks_per_row = k / format.type.block_inputs;
    const int group_count = static_cast<int>(format.type.block_inputs / kGroup);
    Group decoded[kColumns][kMaxGroups];
    for (int64_t n0 = 0; n0 < n; n0 += kColumns) {
        const int64_t columns = n - n0 < kColumns ? n - n0 : kColumns;
        for (int64_t b = 0; b < blocks_per_row; ++b) {
            for (int64_t c = 0; c < columns; ++c) {
                const int64_t block = (n0 + c) * blocks_per_row + b;
                format.decode(blocks + block * format.type.block_bytes, decoded[c]);
            }
            for (int g = 0; g < group_count; ++g) {
                const int64_t group = b * group_count + g, k0 = group * kGroup;
                for (int i = 0; i < kGroup; ++i) {
                    uint8_t *row = out.codes.row(k0 + i) + n0;
                    for (int64_t c = 0; c < columns; ++c)
                        row[c] = decoded[c][g].codes[i];
                }
                for (int64_t c = 0; c < columns; ++c) {
                    const int64_t at = group * out.stride + n0 + c;
                    // Exact: scale and minimum came from this type, or the type is binary32.
                    store_scale(out.scales, format.type.format.scale_type, at, decoded[c][g].scale);
                    if (out.zeros) {
                        store_scale(out.zeros, format.type.format.scale_type, at,
                                    decoded[c][g].minimum);
                    }
                }
            }
        }
    }
}

}  // namespace tarpon
