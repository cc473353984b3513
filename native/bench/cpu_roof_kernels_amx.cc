// The peak of AMX tile products with operands from L2. In assembly: see src/cpu/linear_amx.cc.
#include <cstring>

#include "cpu_roof_kernels.h"

namespace tarpon::bench {
namespace {

constexpr int kTileBytes = 1024;
constexpr int kBufferTiles = 512;
alignas(64) thread_local unsigned char buffer[kBufferTiles * kTileBytes];

// All eight tiles of 16 rows of 64 bytes.
struct alignas(64) Config {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

enum class Product { kBf16, kInt8 };

// C in tiles 0..3, A in 4 and 5, B in 6 and 7.
template <Product kProduct>
double run(int64_t iterations) {
    constexpr int kSteps = kBufferTiles / 4;
    const Config config;
    const int64_t stride = 64;
    std::memset(buffer, 0, sizeof buffer);
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
    for (int64_t i = 0; i < iterations; ++i) {
        for (int step = 0; step < kSteps; ++step) {
            const unsigned char *tiles = buffer + step * 4 * kTileBytes;
            __asm__ volatile(
                "tileloadd (%0,%1,1), %%tmm4\n\t"
                "tileloadd 1024(%0,%1,1), %%tmm5\n\t"
                "tileloadd 2048(%0,%1,1), %%tmm6\n\t"
                "tileloadd 3072(%0,%1,1), %%tmm7"
                :
                : "r"(tiles), "r"(stride)
                : "memory");
            if constexpr (kProduct == Product::kBf16) {
                __asm__ volatile(
                    "tdpbf16ps %tmm6, %tmm4, %tmm0\n\ttdpbf16ps %tmm7, %tmm4, %tmm1\n\t"
                    "tdpbf16ps %tmm6, %tmm5, %tmm2\n\ttdpbf16ps %tmm7, %tmm5, %tmm3");
            } else {
                __asm__ volatile(
                    "tdpbsud %tmm6, %tmm4, %tmm0\n\ttdpbsud %tmm7, %tmm4, %tmm1\n\t"
                    "tdpbsud %tmm6, %tmm5, %tmm2\n\ttdpbsud %tmm7, %tmm5, %tmm3");
            }
        }
    }
    __asm__ volatile("tilerelease");
    const double inputs = kProduct == Product::kBf16 ? 32 : 64;
    return static_cast<double>(iterations) * kSteps * 4 * 16 * 16 * inputs * 2;
}

}  // namespace

double tiles_bf16_amx(int64_t iterations) {
    return run<Product::kBf16>(iterations);
}

double tiles_int8_amx(int64_t iterations) {
    return run<Product::kInt8>(iterations);
}

}  // namespace tarpon::bench
