// The inner loops of cpu_roofs.cc, compiled for the instruction sets that they measure.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tarpon::bench {

// Reads [data, data + bytes), a multiple of 512 aligned to 64, and returns its bitwise or.
uint64_t read_sse2(const char *data, size_t bytes);
uint64_t read_avx512(const char *data, size_t bytes);

// Each runs `iterations` rounds of independent multiply-adds and returns the operations done.
double fma_f32_avx2(int64_t iterations);
double fma_f32_avx512(int64_t iterations);
double dot_bf16_avx512(int64_t iterations);
double dot_int8_avx512(int64_t iterations);
// Tiles in 2 x 2 products, read from 512 KiB: out of L1, and in L2 after the first rounds.
double tiles_bf16_amx(int64_t iterations);
double tiles_int8_amx(int64_t iterations);

}  // namespace tarpon::bench
