#include <immintrin.h>

#include "cpu_roof_kernels.h"

namespace tarpon::bench {

uint64_t read_sse2(const char *data, size_t bytes) {
    __m128i sum[8] = {};
    for (size_t i = 0; i < bytes; i += 128) {
        const auto *lines = reinterpret_cast<const __m128i *>(data + i);
        for (int j = 0; j < 8; ++j)
            sum[j] = _mm_or_si128(sum[j], _mm_load_si128(lines + j));
    }
    for (int j = 1; j < 8; ++j)
        sum[0] = _mm_or_si128(sum[0], sum[j]);
    return static_cast<uint64_t>(_mm_cvtsi128_si64(sum[0]));
}

double fma_f32_avx2(int64_t iterations) {
    constexpr int kChains = 12;
    __m256 acc[kChains] = {};
    const __m256 zero = _mm256_setzero_ps();
    for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
        for (int c = 0; c < kChains; ++c) {
            acc[c] = _mm256_fmadd_ps(zero, zero, acc[c]);
            __asm__ volatile("" : "+x"(acc[c]));
        }
    }
    return static_cast<double>(iterations) * kChains * 8 * 2;
}

}  // namespace tarpon::bench
