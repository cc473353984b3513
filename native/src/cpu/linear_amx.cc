// The linear kernels of AMX, on the processor's tiles. In assembly, because GCC 12's intrinsics take
// the numbers of tiles as literals only, and tell the compiler of 8 of the 64 bytes that
// _tile_loadconfig reads.
#include "cpu/linear_amx.inl.h"

namespace tarpon::cpu {
namespace {

struct HardwareTiles {
    static void configure(const TileConfig &config) {
        __asm__ volatile("ldtilecfg %0" : : "m"(config));
    }
    static void release() { __asm__ volatile("tilerelease"); }

    template <int kTile>
    static void zero() {
        __asm__ volatile("tilezero %%tmm%c0" : : "i"(kTile));
    }
    template <int kTile>
    static void load(const void *data, int64_t stride_bytes) {
        __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2"
                         :
                         : "r"(data), "r"(stride_bytes), "i"(kTile)
                         : "memory");
    }
    template <int kTile>
    static void store(void *data, int64_t stride_bytes) {
        __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)"
                         :
                         : "r"(data), "r"(stride_bytes), "i"(kTile)
                         : "memory");
    }
    template <int kC, int kA, int kB>
    static void dot_bf16() {
        __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
    }
    // A is signed, B unsigned.
    template <int kC, int kA, int kB>
    static void dot_int8() {
        __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
    }
};

}  // namespace

const LinearKernel *amx_linear_kernel(tarpon_weight_type type, tarpon_dtype dtype) {
    return amx_exact_kernel<HardwareTiles>(type, dtype);
}

const LinearKernel *amx_int8_linear_kernel(tarpon_weight_type type, tarpon_dtype dtype) {
    return amx_int8_kernel<HardwareTiles>(type, dtype);
}

}  // namespace tarpon::cpu
