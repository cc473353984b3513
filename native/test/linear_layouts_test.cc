// Layouts of checkpoints to plain order: against tensors of the original tools, against encoders
// that are written here from the formats' definitions, and against blocks typed by hand. No device
// is needed. Alone: ctest -R linear_layouts
#include <cstring>

#include "format_layer.h"
#include "testing/golden.h"
#include "testing/test.h"

namespace tarpon::test {
namespace {

using ll = long long;

struct Plain {
    std::vector<uint8_t> codes;
    std::vector<char> scales, zeros;
    std::vector<float> weight;
};

Plain unpack(const tarpon_linear_desc &desc, const tarpon_linear_weights &weights,
             const FormatLayer &sizes) {
    Plain out;
    out.codes.resize(sizes.codes.size());
    out.scales.resize(sizes.scales.size());
    out.zeros.resize(sizes.zeros.size());
    out.weight.resize(sizes.codes.size());
    REQUIRE(tarpon_weights_unpack(&desc, &weights, out.codes.data(), out.scales.data(),
                                  out.zeros.empty() ? nullptr : out.zeros.data()) == TARPON_OK,
            "%s", tarpon_last_error());
    REQUIRE(tarpon_weights_dequantize(&desc, &weights, out.weight.data()) == TARPON_OK, "%s",
            tarpon_last_error());
    return out;
}

// Everything as in `layer`, and each weight its binary64 value rounded once.
void check_plain(const Plain &got, const FormatLayer &layer, const std::string &where) {
    for (int64_t i = 0; i < layer.k * layer.n; ++i) {
        const ll row = i / layer.n, column = i % layer.n;
        if (!CHECK_EQ(int{got.codes[i]}, int{layer.codes[i]}, "%s code [%lld, %lld]", where.c_str(),
                      row, column))
            return;
        if (!CHECK_EQ(got.weight[i], static_cast<float>(layer.weight(row, column)),
                      "%s weight [%lld, %lld]", where.c_str(), row, column))
            return;
    }
    CHECK(got.scales == layer.scales, "%s: scales differ", where.c_str());
    CHECK(got.zeros == layer.zeros, "%s: zeros differ", where.c_str());
}

// ---- Encoders, from the formats' definitions

void set_bits(std::vector<uint32_t> &words, int64_t word, int shift, int value) {
    words[word] |= static_cast<uint32_t>(value) << shift;
}

std::vector<uint32_t> gptq_codes(const FormatLayer &layer) {
    const int bits = layer.format.max_code() == 15 ? 4 : 8, per_word = 32 / bits;
    std::vector<uint32_t> words(layer.k / per_word * layer.n);
    for (int64_t r = 0; r < layer.k; ++r) {
        for (int64_t c = 0; c < layer.n; ++c)
            set_bits(words, r / per_word * layer.n + c, bits * static_cast<int>(r % per_word),
                     layer.codes[r * layer.n + c]);
    }
    return words;
}

// Zero point of group g and column c; the middle if symmetric.
int zero_point(const FormatLayer &layer, int64_t g, int64_t c) {
    if (layer.zeros.empty()) return (layer.format.max_code() + 1) / 2;
    return static_cast<uint8_t>(layer.zeros[g * layer.n + c]);
}

std::vector<uint32_t> gptq_zeros(const FormatLayer &layer, int offset) {
    const int bits = layer.format.max_code() == 15 ? 4 : 8, per_word = 32 / bits;
    std::vector<uint32_t> words(layer.groups * (layer.n / per_word));
    for (int64_t g = 0; g < layer.groups; ++g) {
        for (int64_t c = 0; c < layer.n; ++c)
            set_bits(words, (g * layer.n + c) / per_word, bits * static_cast<int>(c % per_word),
                     (zero_point(layer, g, c) - offset) & layer.format.max_code());
    }
    return words;
}

// A column's place among the eight of its word.
int awq_place(int64_t column) {
    constexpr int kPlace[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    return kPlace[column % 8];
}

std::vector<uint32_t> awq_codes(const FormatLayer &layer) {
    std::vector<uint32_t> words(layer.k * layer.n / 8);
    for (int64_t i = 0; i < layer.k * layer.n; ++i)
        set_bits(words, i / 8, 4 * awq_place(i), layer.codes[i]);
    return words;
}

std::vector<uint32_t> awq_zeros(const FormatLayer &layer) {
    std::vector<uint32_t> words(layer.groups * layer.n / 8);
    for (int64_t i = 0; i < layer.groups * layer.n; ++i)
        set_bits(words, i / 8, 4 * awq_place(i), zero_point(layer, i / layer.n, i % layer.n));
    return words;
}

// `layer` in a layout whose codes and zeros are words.
struct Packed {
    std::vector<uint32_t> codes, zeros;
    tarpon_linear_weights weights;

    Packed(const FormatLayer &layer, tarpon_weight_layout layout, bool with_zeros)
        : weights(layer.weights()) {
        weights.layout = layout;
        codes = layout == TARPON_LAYOUT_AWQ ? awq_codes(layer) : gptq_codes(layer);
        weights.qweight = codes.data();
        weights.qweight_bytes = 4 * codes.size();
        weights.zeros = nullptr;
        weights.zeros_bytes = 0;
        if (!with_zeros) return;
        zeros = layout == TARPON_LAYOUT_AWQ ? awq_zeros(layer)
                                            : gptq_zeros(layer, layout == TARPON_LAYOUT_GPTQ);
        weights.zeros = zeros.data();
        weights.zeros_bytes = 4 * zeros.size();
    }
    Packed(const Packed &) = delete;
};

const char *layout_name(tarpon_weight_layout layout) {
    return layout == TARPON_LAYOUT_AWQ ? "AWQ" : layout == TARPON_LAYOUT_GPTQ ? "GPTQ" : "GPTQ v2";
}

// Every zero point from 0 to the largest is among them, also where v1's stored value wraps.
TARPON_TEST(test_linear_layouts_gptq_and_awq_words) {
    for (tarpon_weight_type type : {TARPON_WEIGHT_INT4, TARPON_WEIGHT_INT8}) {
        for (tarpon_weight_layout layout :
             {TARPON_LAYOUT_GPTQ, TARPON_LAYOUT_GPTQ_V2, TARPON_LAYOUT_AWQ}) {
            if (layout == TARPON_LAYOUT_AWQ && type == TARPON_WEIGHT_INT8) continue;
            for (tarpon_zero_type zero : {TARPON_ZERO_SYMMETRIC, TARPON_ZERO_INTEGER}) {
                for (int32_t group : {-1, 32, 64, 128}) {
                    for (tarpon_scale_type scale : {TARPON_SCALE_F16, TARPON_SCALE_F32}) {
                        const Format format{type, zero, scale, group};
                        FormatLayer layer =
                            make_format_layer(format, 88, 200, Values::kRandom, 7 + group);
                        const std::string name =
                            std::string(layout_name(layout)) + " " + format.name();
                        if (zero == TARPON_ZERO_INTEGER) {
                            layer.zeros[0] = 0;
                            layer.zeros[1] = static_cast<char>(format.max_code());
                            layer.zeros[2] = 1;
                        }
                        const Packed packed(layer, layout, zero == TARPON_ZERO_INTEGER);
                        check_plain(unpack(layer.desc(TARPON_F16), packed.weights, layer), layer,
                                    name);
                        if (zero == TARPON_ZERO_INTEGER) continue;
                        const Packed stored(layer, layout, true);
                        check_plain(unpack(layer.desc(TARPON_F16), stored.weights, layer), layer,
                                    name + " with stored zeros");
                    }
                }
            }
        }
    }
}

TARPON_TEST(test_linear_layouts_act_order_keeps_the_order_of_inputs) {
    const Format format{TARPON_WEIGHT_INT4, TARPON_ZERO_INTEGER, TARPON_SCALE_F16, 64};
    FormatLayer layer = make_format_layer(format, 16, 160, Values::kRandom, 3);
    for (int64_t r = 0; r < layer.k; ++r)  // 64, 64 and 32 inputs, interleaved
        layer.g_idx.push_back(static_cast<int32_t>(r % 5 == 4 ? 2 : r % 5 / 2));
    const Packed packed(layer, TARPON_LAYOUT_GPTQ, true);
    check_plain(unpack(layer.desc(TARPON_F16), packed.weights, layer), layer, "act-order");
}

// ---- Golden tensors of the original tools

void check_golden(const char *family, const char *zeros_name, tarpon_weight_layout layout,
                  tarpon_zero_type zero_type) {
    for (const auto &[k, n] : {std::pair<int64_t, int64_t>{128, 256}, {256, 512}}) {
        for (int32_t group : {-1, 128}) {
            const std::string name =
                testing::format("%s_k%lld_n%lld_g%d", family, ll{k}, ll{n}, group);
            const testing::GoldenFile file(name + ".safetensors");
            FormatLayer layer{{TARPON_WEIGHT_INT4, zero_type, TARPON_SCALE_F16, group},
                              n,
                              k,
                              group == -1 ? 1 : k / group,
                              file.get<uint8_t>("codes"),
                              file.get<char>("scales"),
                              {},
                              {},
                              {}};
            if (zero_type == TARPON_ZERO_INTEGER) layer.zeros = file.get<char>("zeros");
            if (layout != TARPON_LAYOUT_AWQ) layer.g_idx = file.get<int32_t>("g_idx");
            const auto qweight = file.get<int32_t>("qweight"),
                       zeros = file.get<int32_t>(zeros_name);
            tarpon_linear_weights weights = layer.weights();
            weights.layout = layout;
            weights.qweight = qweight.data();
            weights.qweight_bytes = 4 * qweight.size();
            weights.zeros = zeros.data();
            weights.zeros_bytes = 4 * zeros.size();
            const Plain plain = unpack(layer.desc(TARPON_F16), weights, layer);
            check_plain(plain, layer, name);
            const auto dequantised = file.get<half_t>("w_dequant_fp16");
            for (int64_t i = 0; i < k * n; ++i) {
                if (!CHECK_EQ(from_float<half_t>(plain.weight[i]).bits, dequantised[i].bits,
                              "%s weight [%lld, %lld]", name.c_str(), ll{i / n}, ll{i % n}))
                    break;
            }
        }
    }
}

TARPON_TEST(test_linear_layouts_golden_gptq_sym) {
    check_golden("gptq_sym", "qzeros", TARPON_LAYOUT_GPTQ, TARPON_ZERO_SYMMETRIC);
    check_golden("gptq_sym", "qzeros_v2", TARPON_LAYOUT_GPTQ_V2, TARPON_ZERO_SYMMETRIC);
}
TARPON_TEST(test_linear_layouts_golden_gptq_asym) {
    check_golden("gptq_asym", "qzeros", TARPON_LAYOUT_GPTQ, TARPON_ZERO_INTEGER);
    check_golden("gptq_asym", "qzeros_v2", TARPON_LAYOUT_GPTQ_V2, TARPON_ZERO_INTEGER);
}
TARPON_TEST(test_linear_layouts_golden_gptq_actorder) {
    check_golden("gptq_actorder", "qzeros", TARPON_LAYOUT_GPTQ, TARPON_ZERO_INTEGER);
    check_golden("gptq_actorder", "qzeros_v2", TARPON_LAYOUT_GPTQ_V2, TARPON_ZERO_INTEGER);
}
TARPON_TEST(test_linear_layouts_golden_awq) {
    check_golden("awq_gemm", "qzeros", TARPON_LAYOUT_AWQ, TARPON_ZERO_INTEGER);
}

// ---- GGUF

tarpon_linear_desc gguf_desc(tarpon_weight_layout layout, int64_t n, int64_t k) {
    tarpon_linear_desc desc{};
    desc.struct_size = sizeof desc;
    desc.in_features = k;
    desc.out_features = n;
    desc.activation_dtype = TARPON_F16;
    REQUIRE(tarpon_linear_desc_for_layout(layout, &desc) == TARPON_OK, "%s", tarpon_last_error());
    return desc;
}

tarpon_linear_weights gguf_weights(tarpon_weight_layout layout,
                                   const std::vector<uint8_t> &blocks) {
    tarpon_linear_weights weights{};
    weights.struct_size = sizeof weights;
    weights.layout = layout;
    weights.qweight = blocks.data();
    weights.qweight_bytes = blocks.size();
    return weights;
}

void append_half(std::vector<uint8_t> &out, const void *bits) {
    const auto *bytes = static_cast<const uint8_t *>(bits);
    out.insert(out.end(), bytes, bytes + 2);
}

// Blocks of 32 inputs of `layer`, row of outputs after row.
std::vector<uint8_t> encode_blocks(const FormatLayer &layer, tarpon_weight_layout layout) {
    std::vector<uint8_t> out;
    for (int64_t c = 0; c < layer.n; ++c) {
        for (int64_t g = 0; g < layer.groups; ++g) {
            const auto code = [&](int i) { return layer.codes[(32 * g + i) * layer.n + c]; };
            append_half(out, &layer.scales[2 * (g * layer.n + c)]);
            if (layout == TARPON_LAYOUT_GGUF_Q4_1)
                append_half(out, &layer.zeros[2 * (g * layer.n + c)]);
            if (layout == TARPON_LAYOUT_GGUF_Q8_0) {
                for (int i = 0; i < 32; ++i)
                    out.push_back(static_cast<uint8_t>(static_cast<int8_t>(code(i) - 128)));
            } else {
                for (int i = 0; i < 16; ++i)
                    out.push_back(static_cast<uint8_t>(code(i) + 16 * code(i + 16)));
            }
        }
    }
    return out;
}

TARPON_TEST(test_linear_layouts_gguf_blocks_of_32) {
    struct Case {
        tarpon_weight_layout layout;
        Format format;
    };
    const Case cases[] = {
        {TARPON_LAYOUT_GGUF_Q4_0,
         {TARPON_WEIGHT_INT4, TARPON_ZERO_SYMMETRIC, TARPON_SCALE_F16, 32}},
        {TARPON_LAYOUT_GGUF_Q4_1, {TARPON_WEIGHT_INT4, TARPON_ZERO_FLOAT, TARPON_SCALE_F16, 32}},
        {TARPON_LAYOUT_GGUF_Q8_0,
         {TARPON_WEIGHT_INT8, TARPON_ZERO_SYMMETRIC, TARPON_SCALE_F16, 32}},
    };
    for (const Case &c : cases) {
        for (int64_t n : {1, 64, 130}) {
            const FormatLayer layer = make_format_layer(c.format, n, 160, Values::kRandom, 11 + n);
            const tarpon_linear_desc desc = gguf_desc(c.layout, n, 160);
            CHECK_EQ(desc.weight_type, c.format.weight_type);
            CHECK_EQ(desc.zero_type, c.format.zero_type);
            CHECK_EQ(desc.scale_type, c.format.scale_type);
            CHECK_EQ(desc.group_size, 32);
            const auto blocks = encode_blocks(layer, c.layout);
            const Plain plain = unpack(desc, gguf_weights(c.layout, blocks), layer);
            check_plain(plain, layer, c.format.name() + testing::format(" n %lld", ll{n}));
            // ggml's formula in binary32, operation by operation.
            for (int64_t i = 0; i < 160 * n; ++i) {
                const int64_t at = i / n / 32 * n + i % n;
                const float d = load(layer.scales.data(), TARPON_F16, at);
                float want = static_cast<float>(layer.codes[i] - 8) * d;
                if (c.layout == TARPON_LAYOUT_GGUF_Q4_1) {
                    const float product = static_cast<float>(layer.codes[i]) * d;
                    want = product + load(layer.zeros.data(), TARPON_F16, at);
                } else if (c.layout == TARPON_LAYOUT_GGUF_Q8_0) {
                    want = static_cast<float>(layer.codes[i] - 128) * d;
                }
                if (!CHECK_EQ(plain.weight[i], want, "%s [%lld, %lld]", c.format.name().c_str(),
                              ll{i / n}, ll{i % n}))
                    break;
            }
        }
    }
}

// One super-block of Q4_K in parts, and its encoding as ggml's quantiser packs it.
struct Q4K {
    half_t d, dmin;
    int scale[8], minimum[8];  // six bits each
    int code[256];

    void append(std::vector<uint8_t> &out) const {
        append_half(out, &d);
        append_half(out, &dmin);
        uint8_t s[12] = {};
        for (int j = 0; j < 8; ++j) {
            if (j < 4) {
                s[j] = static_cast<uint8_t>(s[j] | scale[j]);
                s[j + 4] = static_cast<uint8_t>(s[j + 4] | minimum[j]);
            } else {
                s[j + 4] = static_cast<uint8_t>(scale[j] % 16 + minimum[j] % 16 * 16);
                s[j - 4] = static_cast<uint8_t>(s[j - 4] | scale[j] / 16 * 64);
                s[j] = static_cast<uint8_t>(s[j] | minimum[j] / 16 * 64);
            }
        }
        out.insert(out.end(), s, s + 12);
        for (int chunk = 0; chunk < 4; ++chunk) {
            for (int i = 0; i < 32; ++i)
                out.push_back(
                    static_cast<uint8_t>(code[64 * chunk + i] + 16 * code[64 * chunk + 32 + i]));
        }
    }
};

TARPON_TEST(test_linear_layouts_gguf_q4_k) {
    const int64_t n = 67, k = 512;
    testing::Random random(5);
    std::vector<Q4K> super(n * k / 256);
    std::vector<uint8_t> blocks;
    for (Q4K &q : super) {
        q.d = from_float<half_t>(static_cast<float>(random.uniform(1e-5, 1e-3)));
        q.dmin = from_float<half_t>(static_cast<float>(random.uniform(1e-5, 1e-2)));
        for (int j = 0; j < 8; ++j) {
            q.scale[j] = static_cast<int>(random.integer(0, 63));
            q.minimum[j] = static_cast<int>(random.integer(0, 63));
        }
        for (int &code : q.code)
            code = static_cast<int>(random.integer(0, 15));
        q.append(blocks);
    }
    REQUIRE(blocks.size() == super.size() * 144);
    const tarpon_linear_desc desc = gguf_desc(TARPON_LAYOUT_GGUF_Q4_K, n, k);
    const Format format{desc.weight_type, desc.zero_type, desc.scale_type, desc.group_size};
    const FormatLayer sizes = make_format_layer(format, n, k, Values::kRandom, 1);
    const Plain plain = unpack(desc, gguf_weights(TARPON_LAYOUT_GGUF_Q4_K, blocks), sizes);
    for (int64_t r = 0; r < k; ++r) {
        for (int64_t c = 0; c < n; ++c) {
            const Q4K &q = super[c * (k / 256) + r / 256];
            const int group = static_cast<int>(r % 256 / 32), code = q.code[r % 256];
            // Operation by operation in binary32, as ggml computes it.
            const float d1 = to_float(q.d) * static_cast<float>(q.scale[group]);
            const float m1 = to_float(q.dmin) * static_cast<float>(q.minimum[group]);
            const float product = d1 * static_cast<float>(code);
            const float want = product - m1;
            const double exact = double{to_float(q.d)} * q.scale[group] * code -
                                 double{to_float(q.dmin)} * q.minimum[group];
            if (!CHECK_EQ(plain.weight[r * n + c], want, "weight [%lld, %lld]", ll{r}, ll{c}) ||
                !CHECK_EQ(want, static_cast<float>(exact), "[%lld, %lld]", ll{r}, ll{c}) ||
                !CHECK_EQ(int{plain.codes[r * n + c]}, code, "code [%lld, %lld]", ll{r}, ll{c}))
                return;
        }
    }
}

// Bytes and weights typed by hand.
TARPON_TEST(test_linear_layouts_gguf_by_hand) {
    float weight[256];
    std::vector<uint8_t> q4_0 = {0x00, 0x38};  // 0.5
    for (int i = 0; i < 16; ++i)
        q4_0.push_back(static_cast<uint8_t>(i << 4 | (15 - i)));
    tarpon_linear_desc desc = gguf_desc(TARPON_LAYOUT_GGUF_Q4_0, 1, 32);
    tarpon_linear_weights weights = gguf_weights(TARPON_LAYOUT_GGUF_Q4_0, q4_0);
    REQUIRE(tarpon_weights_dequantize(&desc, &weights, weight) == TARPON_OK);
    CHECK_EQ(weight[0], 3.5f);    // low nibble 15
    CHECK_EQ(weight[15], -4.0f);  // low nibble 0
    CHECK_EQ(weight[16], -4.0f);  // high nibble 0
    CHECK_EQ(weight[31], 3.5f);

    std::vector<uint8_t> q8_0 = {0x00, 0xc0};  // -2
    q8_0.resize(34, 0x80);                     // -128
    q8_0[2] = 0x7f;
    q8_0[33] = 0xff;
    desc = gguf_desc(TARPON_LAYOUT_GGUF_Q8_0, 1, 32);
    weights = gguf_weights(TARPON_LAYOUT_GGUF_Q8_0, q8_0);
    REQUIRE(tarpon_weights_dequantize(&desc, &weights, weight) == TARPON_OK);
    CHECK_EQ(weight[0], -254.0f);
    CHECK_EQ(weight[1], 256.0f);
    CHECK_EQ(weight[31], 2.0f);

    // d = 1, dmin = 0.25; group 0: scale 1, minimum 4; group 5: scale 0b10'0011, minimum 0b01'1000.
    std::vector<uint8_t> q4_k(144, 0);
    q4_k[1] = 0x3c;
    q4_k[3] = 0x34;
    q4_k[4 + 0] = 1;
    q4_k[4 + 4] = 4;
    q4_k[4 + 1] = 0x80;  // upper two bits of group 5's scale
    q4_k[4 + 5] = 0x40;  // and of its minimum
    q4_k[4 + 9] = 0x83;
    q4_k[16 + 7] = 0x05;       // input 7: 5; input 39: 0
    q4_k[16 + 2 * 32] = 0x21;  // input 128: 1; input 160: 2
    desc = gguf_desc(TARPON_LAYOUT_GGUF_Q4_K, 1, 256);
    weights = gguf_weights(TARPON_LAYOUT_GGUF_Q4_K, q4_k);
    REQUIRE(tarpon_weights_dequantize(&desc, &weights, weight) == TARPON_OK);
    CHECK_EQ(weight[7], 4.0f);     // 5 * 1 - 0.25 * 4
    CHECK_EQ(weight[0], -1.0f);    // -0.25 * 4
    CHECK_EQ(weight[39], 0.0f);    // group 1 has neither
    CHECK_EQ(weight[160], 64.0f);  // 2 * 35 - 0.25 * 24
    CHECK_EQ(weight[161], -6.0f);
}

// ---- What is refused

struct Request {
    FormatLayer layer;
    std::vector<uint32_t> words;
    tarpon_linear_desc desc;
    tarpon_linear_weights weights;

    explicit Request(const Format &format, int64_t n = 64, int64_t k = 256)
        : layer(make_format_layer(format, n, k, Values::kRandom, 1)),
          desc(layer.desc(TARPON_F16)),
          weights(layer.weights()) {}
    Request(const Request &) = delete;
};

constexpr Format kInteger{TARPON_WEIGHT_INT4, TARPON_ZERO_INTEGER};
constexpr Format kFloat{TARPON_WEIGHT_INT4, TARPON_ZERO_FLOAT};
constexpr Format kE4m3{TARPON_WEIGHT_FP8_E4M3, TARPON_ZERO_SYMMETRIC};
constexpr Format kSparse{TARPON_WEIGHT_INT4, TARPON_ZERO_SYMMETRIC, TARPON_SCALE_F16, 128,
                         TARPON_SPARSITY_2_4};

TARPON_TEST(test_linear_layouts_refuse_what_does_not_fit) {
    struct Case {
        const char *what;
        Format format;
        void (*spoil)(Request &);
        const char *fragment;
    };
    const Case cases[] = {
        {"zero type 3", kInteger, [](Request &r) { r.desc.zero_type = 3; }, "zero_type is 3"},
        {"scale type -1", kInteger, [](Request &r) { r.desc.scale_type = -1; }, "scale_type is -1"},
        {"sparsity 2", kInteger, [](Request &r) { r.desc.sparsity = 2; }, "sparsity is 2"},
        {"e4m3 with zeros", kInteger,
         [](Request &r) { r.desc.weight_type = TARPON_WEIGHT_FP8_E4M3; }, "FP8_E4M3"},
        {"sparse with zeros", kInteger, [](Request &r) { r.desc.sparsity = TARPON_SPARSITY_2_4; },
         "2:4"},
        {"no zeros", kInteger, [](Request &r) { r.weights.zeros = nullptr; }, "zeros is NULL"},
        {"zeros too short", kInteger, [](Request &r) { r.weights.zeros_bytes -= 1; },
         "zeros_bytes is 127"},
        {"zeros nobody asked for", kE4m3,
         [](Request &r) {
             r.weights.zeros = r.layer.codes.data();
             r.weights.zeros_bytes = 128;
         },
         "zeros is not NULL"},
        {"zero point 16", kInteger, [](Request &r) { r.layer.zeros[64 + 7] = 16; },
         "zeros[1, 7] is 16"},
        {"code 16", kFloat, [](Request &r) { r.layer.codes[64 * 2 + 3] = 16; },
         "codes[2, 3] is 16"},
        {"NaN code", kE4m3, [](Request &r) { r.layer.codes[64 * 2 + 3] = 0xff; },
         "codes[2, 3] is 255"},
        {"infinite minimum", kFloat,
         [](Request &r) {
             const uint16_t inf = 0x7c00;
             std::memcpy(&r.layer.zeros[2 * 5], &inf, 2);
         },
         "zeros[0, 5] is not finite"},
        {"dense weights", kSparse,
         [](Request &r) {
             for (int64_t row = 4; row < 8; ++row)
                 r.layer.codes[row * 64 + 9] = row == 6 ? 8 : 1;
         },
         "codes[4..7, 9]: 3"},
        {"bias of another size", kInteger,
         [](Request &r) {
             r.weights.bias = r.layer.codes.data();
             r.weights.bias_bytes = 127;
         },
         "of 127 bytes"},
        {"a group too many", kInteger,
         [](Request &r) {
             r.layer.g_idx.assign(256, 0);
             r.weights = r.layer.weights();
         },
         "g_idx[128] is 0"},
        {"a group that is not there", kInteger,
         [](Request &r) {
             r.layer.g_idx.assign(256, 2);
             r.weights = r.layer.weights();
         },
         "there are 2 groups"},
        {"g_idx too short", kInteger,
         [](Request &r) {
             r.layer.g_idx.assign(255, 0);
             r.weights = r.layer.weights();
         },
         "of 1020 bytes"},
        {"sparse act-order", kSparse,
         [](Request &r) {
             for (int i = 0; i < 256; ++i)
                 r.layer.g_idx.push_back(i % 2);
             r.weights = r.layer.weights();
         },
         "2:4"},
        {"part of another size", kInteger, [](Request &r) { r.weights.out_features = 32; },
         "add up to 32"},
        {"part too wide", kInteger, [](Request &r) { r.weights.out_features = 65; }, "is 65"},
        {"MARLIN with zeros", kInteger, [](Request &r) { r.weights.layout = TARPON_LAYOUT_MARLIN; },
         "INT4, SYMMETRIC"},
        {"GPTQ of e4m3", kE4m3, [](Request &r) { r.weights.layout = TARPON_LAYOUT_GPTQ; },
         "INT4 or INT8"},
        {"AWQ with minimums", kFloat, [](Request &r) { r.weights.layout = TARPON_LAYOUT_AWQ; },
         "SYMMETRIC or INTEGER"},
        {"GPTQ with K 252", kInteger,
         [](Request &r) {
             r.weights.layout = TARPON_LAYOUT_GPTQ;
             r.desc.in_features = 252;
         },
         "in_features is 252"},
        {"AWQ with N 60", kInteger,
         [](Request &r) {
             r.weights.layout = TARPON_LAYOUT_AWQ;
             r.desc.out_features = r.weights.out_features = 60;
         },
         "out_features is 60"},
        {"GPTQ too short", kInteger, [](Request &r) { r.weights.layout = TARPON_LAYOUT_GPTQ; },
         "takes 8192"},
        {"Q4_0 of another format", kInteger,
         [](Request &r) { r.weights.layout = TARPON_LAYOUT_GGUF_Q4_0; }, "INTEGER"},
        {"Q4_0 with groups of 128",
         {TARPON_WEIGHT_INT4, TARPON_ZERO_SYMMETRIC},
         [](Request &r) { r.weights.layout = TARPON_LAYOUT_GGUF_Q4_0; },
         "groups of 128"},
        {"Q4_K with K 224",
         {TARPON_WEIGHT_INT4, TARPON_ZERO_FLOAT, TARPON_SCALE_F32, 32},
         [](Request &r) {
             r.weights.layout = TARPON_LAYOUT_GGUF_Q4_K;
             r.desc.in_features = 224;
         },
         "multiples of 256"},
        {"layout 9", kInteger, [](Request &r) { r.weights.layout = 9; }, "layout is 9"},
    };
    for (const Case &c : cases) {
        Request request(c.format);
        c.spoil(request);
        std::vector<float> weight(64 * 256);
        const tarpon_status status =
            tarpon_weights_dequantize(&request.desc, &request.weights, weight.data());
        CHECK_EQ(std::string(tarpon_status_name(status)),
                 std::string("TARPON_ERROR_INVALID_ARGUMENT"), "%s: %s", c.what,
                 tarpon_last_error());
        CHECK(std::strstr(tarpon_last_error(), c.fragment) != nullptr,
              "%s: \"%s\" does not contain \"%s\"", c.what, tarpon_last_error(), c.fragment);
    }
}

TARPON_TEST(test_linear_layouts_symmetric_checkpoints_must_be_symmetric) {
    const Format format{TARPON_WEIGHT_INT4, TARPON_ZERO_INTEGER};
    FormatLayer layer = make_format_layer(format, 64, 256, Values::kRandom, 1);
    std::fill(layer.zeros.begin(), layer.zeros.end(), 8);
    layer.zeros[64 + 3] = 9;
    const Packed packed(layer, TARPON_LAYOUT_GPTQ, true);
    tarpon_linear_desc desc = layer.desc(TARPON_F16);
    desc.zero_type = TARPON_ZERO_SYMMETRIC;
    std::vector<float> weight(64 * 256);
    CHECK_EQ(tarpon_weights_dequantize(&desc, &packed.weights, weight.data()),
             TARPON_ERROR_INVALID_ARGUMENT);
    CHECK(std::strstr(tarpon_last_error(), "zero point 9 in group 1, column 3") != nullptr, "%s",
          tarpon_last_error());
}

TARPON_TEST(test_linear_layouts_outputs_belong_to_the_format) {
    Request request(kInteger);
    std::vector<uint8_t> codes(64 * 256), zeros(128);
    std::vector<uint16_t> scales(128);
    CHECK_EQ(tarpon_weights_unpack(&request.desc, &request.weights, codes.data(), scales.data(),
                                   nullptr),
             TARPON_ERROR_INVALID_ARGUMENT);
    CHECK(std::strstr(tarpon_last_error(), "out_zeros") != nullptr, "%s", tarpon_last_error());
    CHECK_EQ(tarpon_weights_unpack(&request.desc, &request.weights, nullptr, scales.data(),
                                   zeros.data()),
             TARPON_ERROR_INVALID_ARGUMENT);
    CHECK(std::strstr(tarpon_last_error(), "out_codes is NULL") != nullptr, "%s",
          tarpon_last_error());
    tarpon_linear_desc desc{};
    desc.struct_size = sizeof desc;
    CHECK_EQ(tarpon_linear_desc_for_layout(TARPON_LAYOUT_GPTQ, &desc),
             TARPON_ERROR_INVALID_ARGUMENT);
    CHECK(std::strstr(tarpon_last_error(), "layout is 2") != nullptr, "%s", tarpon_last_error());
}

}  // namespace
}  // namespace tarpon::test
