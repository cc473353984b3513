// Checks the import of GGUF blocks against ggml: blocks that ggml's own quantisers write, of random
// and of awkward rows, and blocks of random bytes, must stand for the same weights, bit by bit, as
// by ggml's to_float. Run: cpu_linear_ggml_blocks; built where CMake is given TARPON_GGML_DIR.
// With --fixture it prints a few blocks and their values for native/test/linear_ggml_blocks.h,
// which keeps the comparison where there is no ggml.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "cpu_linear_ggml.h"
#include "tarpon.h"
#include "types.h"

namespace tarpon::bench {
namespace {

constexpr int64_t kInputs = 512;
constexpr int kRowsOfAKind = 200;

struct BlockType {
    const char *name;
    ggml_type type;
    tarpon_weight_layout layout;
    int halves;  // that a block begins with: scale, minimum
    int fixture_blocks;
};
constexpr BlockType kTypes[] = {
    {"Q4_0", GGML_TYPE_Q4_0, TARPON_LAYOUT_GGUF_Q4_0, 1, 2},
    {"Q4_1", GGML_TYPE_Q4_1, TARPON_LAYOUT_GGUF_Q4_1, 2, 2},
    {"Q8_0", GGML_TYPE_Q8_0, TARPON_LAYOUT_GGUF_Q8_0, 1, 2},
    {"Q4_K", GGML_TYPE_Q4_K, TARPON_LAYOUT_GGUF_Q4_K, 2, 1},
};

using Random = std::mt19937;

float normal(Random &random) {
    return std::normal_distribution<float>()(random);
}

// What a row of weights may look like.
struct Kind {
    const char *name;
    float (*weight)(Random &random, int64_t i);
};
constexpr Kind kKinds[] = {
    {"normal", [](Random &random, int64_t) { return 0.02f * normal(random); }},
    {"zeros", [](Random &, int64_t) { return 0.0f; }},
    {"constant", [](Random &, int64_t) { return -0.37f; }},
    {"all positive", [](Random &random, int64_t) { return 3.0f + normal(random) * 0.01f; }},
    {"all negative", [](Random &random, int64_t) { return -5.0f - std::fabs(normal(random)); }},
    {"an outlier", [](Random &random, int64_t i) { return i % 32 == 7 ? 900.f : normal(random); }},
    {"subnormal scales", [](Random &random, int64_t) { return 1e-6f * normal(random); }},
    {"scales that vanish", [](Random &random, int64_t) { return 1e-12f * normal(random); }},
    {"large", [](Random &random, int64_t) { return 60000.0f * std::tanh(normal(random)); }},
    {"alternating", [](Random &, int64_t i) { return i % 2 ? 1.0f : -1.0f; }},
    {"negative zeros", [](Random &, int64_t i) { return i % 3 ? -0.0f : 0.5f; }},
    {"every magnitude",
     [](Random &random, int64_t i) { return std::ldexp(normal(random), int(i % 32) - 20); }},
};

// The weights [rows, kInputs] that Tarpon makes of blocks; false if it refuses them.
bool import(const BlockType &type, const std::vector<uint8_t> &blocks, int64_t rows,
            std::vector<float> *values) {
    tarpon_linear_desc desc{};
    desc.struct_size = sizeof desc;
    desc.in_features = kInputs;
    desc.out_features = rows;
    tarpon_linear_weights weights{};
    weights.struct_size = sizeof weights;
    weights.layout = type.layout;
    weights.qweight = blocks.data();
    weights.qweight_bytes = blocks.size();
    std::vector<float> transposed(static_cast<size_t>(rows * kInputs));
    if (tarpon_linear_desc_for_layout(type.layout, &desc) != TARPON_OK ||
        tarpon_weights_dequantize(&desc, &weights, transposed.data()) != TARPON_OK) {
        return false;
    }
    values->resize(transposed.size());
    for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = 0; i < kInputs; ++i) {
            (*values)[static_cast<size_t>(r * kInputs + i)] =
                transposed[static_cast<size_t>(i * rows + r)];
        }
    }
    return true;
}

// Compares blocks of rows; returns whether all is well.
bool check(const BlockType &type, const char *kind, const std::vector<uint8_t> &blocks) {
    const auto rows = static_cast<int64_t>(blocks.size() / ggml_row_size(type.type, kInputs));
    const std::vector<float> expected = ggml_values(type.type, blocks, rows * kInputs);
    const bool finite = std::all_of(expected.begin(), expected.end(),
                                    [](float value) { return std::isfinite(value); });
    std::vector<float> got;
    const bool taken = import(type, blocks, rows, &got);
    if (!taken || !finite) {
        // Only scales that overflowed binary16 may be refused, and they must be.
        const bool right = !taken && !finite;
        std::printf("%s, %s: %s%s\n", type.name, kind, right ? "refused, as it must be" : "WRONG: ",
                    right   ? ""
                    : taken ? "infinite scales were taken"
                            : tarpon_last_error());
        return right;
    }
    for (size_t i = 0; i < expected.size(); ++i) {
        if (std::memcmp(&got[i], &expected[i], sizeof(float)) == 0) continue;
        std::printf("%s, %s: WRONG: row %zu input %zu is %a, by ggml %a\n", type.name, kind,
                    i / kInputs, i % kInputs, static_cast<double>(got[i]),
                    static_cast<double>(expected[i]));
        return false;
    }
    std::printf("%s, %s: %zu weights agree\n", type.name, kind, expected.size());
    return true;
}

// Random bytes, but finite scales.
std::vector<uint8_t> random_blocks(const BlockType &type, int64_t rows, Random &random) {
    std::vector<uint8_t> blocks(ggml_row_size(type.type, kInputs) * static_cast<size_t>(rows));
    for (uint8_t &byte : blocks)
        byte = static_cast<uint8_t>(random());
    const size_t block_bytes = ggml_type_size(type.type);
    for (size_t block = 0; block < blocks.size(); block += block_bytes) {
        for (int h = 0; h < type.halves; ++h) {
            uint8_t &upper = blocks[block + 2 * static_cast<size_t>(h) + 1];
            if ((upper & 0x7c) == 0x7c) upper ^= 0x40;
        }
    }
    return blocks;
}

int check_all() {
    bool right = true;
    for (const BlockType &type : kTypes) {
        Random random(11);
        for (const Kind &kind : kKinds) {
            std::vector<float> weights;
            for (int64_t i = 0; i < kRowsOfAKind * kInputs; ++i)
                weights.push_back(kind.weight(random, i));
            right &= check(type, kind.name, ggml_blocks(type.type, weights, kRowsOfAKind, kInputs));
        }
        right &= check(type, "random bytes", random_blocks(type, 20 * kRowsOfAKind, random));
    }
    // Beyond binary16: ggml writes an infinite scale.
    right &= check(kTypes[2], "beyond binary16",
                   ggml_blocks(GGML_TYPE_Q8_0, std::vector<float>(kInputs, 1e9f), 1, kInputs));
    std::printf("%s\n", right ? "all agree" : "DIFFERENCES");
    return right ? 0 : 1;
}

void print_fixture() {
    std::printf("// Written by cpu_linear_ggml_blocks --fixture with ggml %s (%s).\n",
                ggml_version(), ggml_commit());
    for (const BlockType &type : kTypes) {
        Random random(5);
        const int64_t count = type.fixture_blocks * ggml_blck_size(type.type);
        std::vector<float> weights;
        for (int64_t i = 0; i < count; ++i)
            weights.push_back(0.1f * normal(random) + (i >= count / 2 ? 0.05f : 0.0f));
        const std::vector<uint8_t> blocks = ggml_blocks(type.type, weights, 1, count);
        const std::vector<float> values = ggml_values(type.type, blocks, count);
        std::string name = type.name;
        name.erase(std::remove(name.begin(), name.end(), '_'), name.end());
        std::printf("inline constexpr uint8_t k%sBlocks[] = {\n", name.c_str());
        for (uint8_t byte : blocks)
            std::printf("0x%02x,", byte);
        std::printf("};\n// Bits of binary32.\ninline constexpr uint32_t k%sValues[] = {\n",
                    name.c_str());
        for (float value : values) {
            uint32_t bits;
            std::memcpy(&bits, &value, sizeof bits);
            std::printf("0x%08x,", bits);
        }
        std::printf("};\n");
    }
}

}  // namespace
}  // namespace tarpon::bench

int main(int argc, char **argv) {
    if (argc == 2 && std::strcmp(argv[1], "--fixture") == 0) {
        tarpon::bench::print_fixture();
        return 0;
    }
    if (argc != 1) {
        std::fprintf(stderr, "usage: cpu_linear_ggml_blocks [--fixture]\n");
        return 2;
    }
    return tarpon::bench::check_all();
}
