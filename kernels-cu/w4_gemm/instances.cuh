// The kernels of one format, by tile. Included by the instances_*.cu, a few formats each, so that
// they compile side by side; launch.cu sees the declarations only.
#pragma once

#include "w4_gemm/kernels.h"
#include "w4_gemm/sm80.cuh"

namespace tarpon::w4_gemm {

namespace detail {

template <class Format, bool kGrouped, class T, class Tile>
constexpr Kernel kernel_of() {
    if constexpr (has_kernel<Format, Tile>() && (kGrouped || Format::kUngrouped)) {
        using Config = Sm80Config<Tile, Format, kGrouped>;
        return {sm80_w4_gemm_kernel<Config, T>, Config::kThreads, sizeof(SharedStorage<Config, T>)};
    } else {
        return {};
    }
}

#define TARPON_W4_GEMM_KERNEL(m, k, n, warp_n) \
    kernel_of<Format, kGrouped, T, Sm80Tile<m, k, n, warp_n>>(),
template <class Format, bool kGrouped, class T>
constexpr Kernel kKernels[] = {TARPON_W4_GEMM_SM80_TILES(TARPON_W4_GEMM_KERNEL)};
#undef TARPON_W4_GEMM_KERNEL

}  // namespace detail

template <class Format>
const Kernel &kernel(Activation activation, bool grouped, int tile) {
    if (activation == Activation::kF16) {
        return grouped ? detail::kKernels<Format, true, half_t>[tile]
                       : detail::kKernels<Format, false, half_t>[tile];
    }
    return grouped ? detail::kKernels<Format, true, bf16_t>[tile]
                   : detail::kKernels<Format, false, bf16_t>[tile];
}

}  // namespace tarpon::w4_gemm
