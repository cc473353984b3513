// A few microseconds' measurement of one instruction; see isa.h, bf16_dot_is_fast().
#pragma once

namespace tarpon::cpu {

// Time of one vdpbf16ps (32 products) over that of two vfmadd231ps (32 products), the best of a
// few tries. 0.5 on Zen 4, about 2 on Sapphire Rapids. Requires AVX512_BF16.
double bf16_dot_to_fma_time();

}  // namespace tarpon::cpu
