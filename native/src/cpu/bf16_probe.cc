// Compiled with AVX512_BF16 enabled; called only where the processor has it.
#include "cpu/bf16_probe.h"

#include <immintrin.h>

#include <cstdint>

namespace tarpon::cpu {
namespace {

// Twelve independent chains hide the latency (6 cycles at most two a cycle).
constexpr int kChains = 12;
constexpr int kIterations = 200;
constexpr int kTries = 15;

uint64_t time_bf16_dot() {
    __m512 acc[kChains] = {};
    const __m512i zero = _mm512_setzero_si512();
    const uint64_t start = __rdtsc();
    for (int i = 0; i < kIterations; ++i) {
#pragma GCC unroll 12
        for (int c = 0; c < kChains; ++c) {
            acc[c] = _mm512_dpbf16_ps(acc[c], (__m512bh)zero, (__m512bh)zero);
            __asm__ volatile("" : "+v"(acc[c]));
        }
    }
    return __rdtsc() - start;
}

uint64_t time_two_fma() {
    __m512 acc[kChains] = {};
    const __m512 zero = _mm512_setzero_ps();
    const uint64_t start = __rdtsc();
    for (int i = 0; i < 2 * kIterations; ++i) {
#pragma GCC unroll 12
        for (int c = 0; c < kChains; ++c) {
            acc[c] = _mm512_fmadd_ps(zero, zero, acc[c]);
            __asm__ volatile("" : "+v"(acc[c]));
        }
    }
    return __rdtsc() - start;
}

}  // namespace

double bf16_dot_to_fma_time() {
    // The best of several interleaved tries: interrupts and frequency steps only ever add time.
    uint64_t dot = UINT64_MAX, fma = UINT64_MAX;
    for (int i = 0; i < kTries; ++i) {
        const uint64_t d = time_bf16_dot(), f = time_two_fma();
        if (d < dot) dot = d;
        if (f < fma) fma = f;
    }
    return static_cast<double>(dot) / static_cast<double>(fma);
}

}  // namespace tarpon::cpu
