#include <immintrin.h>

#include "cpu_roof_kernels.h"

namespace tarpon::bench {
namespace {

constexpr int kChains = 24;

}  // namespace

uint64_t read_avx512(const char *data, size_t bytes) {
    __m512i sum[4] = {};
    for (size_t i = 0; i < bytes; i += 256) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
            sum[j] = _mm512_or_si512(sum[j], _mm512_load_si512(data + i + 64 * j));
        }
    }
    for (int j = 1; j < 4; ++j)
        sum[0] = _mm512_or_si512(sum[0], sum[j]);
    return static_cast<uint64_t>(_mm512_reduce_or_epi64(sum[0]));
}

double fma_f32_avx512(int64_t iterations) {
    __m512 acc[kChains] = {};
    const __m512 zero = _mm512_setzero_ps();
    for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 24
        for (int c = 0; c < kChains; ++c) {
            acc[c] = _mm512_fmadd_ps(zero, zero, acc[c]);
            __asm__ volatile("" : "+v"(acc[c]));
        }
    }
    return static_cast<double>(iterations) * kChains * 16 * 2;
}

double dot_bf16_avx512(int64_t iterations) {
    __m512 acc[kChains] = {};
    const auto zero = (__m512bh)_mm512_setzero_si512();
    for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 24
        for (int c = 0; c < kChains; ++c) {
            acc[c] = _mm512_dpbf16_ps(acc[c], zero, zero);
            __asm__ volatile("" : "+v"(acc[c]));
        }
    }
    return static_cast<double>(iterations) * kChains * 32 * 2;
}

double dot_int8_avx512(int64_t iterations) {
    __m512i acc[kChains] = {};
    const __m512i zero = _mm512_setzero_si512();
    for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 24
        for (int c = 0; c < kChains; ++c) {
            acc[c] = _mm512_dpbusd_epi32(acc[c], zero, zero);
            __asm__ volatile("" : "+v"(acc[c]));
        }
    }
    return static_cast<double>(iterations) * kChains * 64 * 2;
}

}  // namespace tarpon::bench
