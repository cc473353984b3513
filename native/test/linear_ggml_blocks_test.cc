// GGUF blocks that ggml wrote become the weights that ggml makes of them, bit by bit. The blocks
// are kept in linear_ggml_blocks.h; native/bench/cpu_linear_ggml_blocks.cc compares many more where
// there is a ggml. Run alone: linear_ggml_blocks_test [part of a test's name].
#include "linear_ggml_blocks.h"

#include <cstring>
#include <vector>

#include "tarpon.h"
#include "testing/test.h"

namespace tarpon::test {
namespace {

// One row of blocks.
template <size_t kBytes, size_t kInputs>
void check_blocks(tarpon_weight_layout layout, const uint8_t (&blocks)[kBytes],
                  const uint32_t (&values)[kInputs]) {
    tarpon_linear_desc desc{};
    desc.struct_size = sizeof desc;
    desc.in_features = kInputs;
    desc.out_features = 1;
    REQUIRE(tarpon_linear_desc_for_layout(layout, &desc) == TARPON_OK, "%s", tarpon_last_error());
    tarpon_linear_weights weights{};
    weights.struct_size = sizeof weights;
    weights.layout = layout;
    weights.qweight = blocks;
    weights.qweight_bytes = kBytes;
    std::vector<float> imported(kInputs);
    REQUIRE(tarpon_weights_dequantize(&desc, &weights, imported.data()) == TARPON_OK, "%s",
            tarpon_last_error());
    for (size_t i = 0; i < kInputs; ++i) {
        uint32_t bits;
        std::memcpy(&bits, &imported[i], sizeof bits);
        CHECK_EQ(bits, values[i], "input %zu", i);
    }
}

TARPON_TEST(test_linear_ggml_blocks_q4_0) {
    check_blocks(TARPON_LAYOUT_GGUF_Q4_0, kQ40Blocks, kQ40Values);
}
TARPON_TEST(test_linear_ggml_blocks_q4_1) {
    check_blocks(TARPON_LAYOUT_GGUF_Q4_1, kQ41Blocks, kQ41Values);
}
TARPON_TEST(test_linear_ggml_blocks_q8_0) {
    check_blocks(TARPON_LAYOUT_GGUF_Q8_0, kQ80Blocks, kQ80Values);
}
TARPON_TEST(test_linear_ggml_blocks_q4_k) {
    check_blocks(TARPON_LAYOUT_GGUF_Q4_K, kQ4KBlocks, kQ4KValues);
}

}  // namespace
}  // namespace tarpon::test
