// The linear kernels of AVX-512 F/BW/DQ/VL: every dtype through binary32 FMAs.
#include "cpu/linear_avx512.inl.h"

namespace tarpon::cpu {
namespace {

// Two FMAs a pair.
struct FmaArithmetic {
    static constexpr int kWords = 2;
    using Weights = FloatPair;
    template <class Codes>
    static Weights weights(const Codes &codes, const uint8_t *unit, int j) {
        return codes.floats(unit, j);
    }
    static __m512 multiply_add(const Weights &w, const uint32_t *a, __m512 sum) {
        const auto *values = reinterpret_cast<const float *>(a);
        sum = _mm512_fmadd_ps(w.even, _mm512_set1_ps(values[0]), sum);
        return _mm512_fmadd_ps(w.odd, _mm512_set1_ps(values[1]), sum);
    }
};

template <class T>
struct Packer {
    using Elem = T;
    static constexpr int kWords = FmaArithmetic::kWords;
    static void pack(const void *x, int64_t count, uint32_t out[2 * 16]) {
        _mm512_store_ps(out, T::load(x, 0, lane_mask(count)));
        _mm512_store_ps(out + 16, T::load(x, 16, lane_mask(count - 16)));
    }
};

}  // namespace

const LinearKernel *avx512_linear_kernel(tarpon_weight_type type, tarpon_dtype dtype) {
    switch (dtype) {
        case TARPON_F32:
            return kernel_for<FmaArithmetic, Packer<F32>>(type);
        case TARPON_F16:
            return kernel_for<FmaArithmetic, Packer<F16>>(type);
        case TARPON_BF16:
            return kernel_for<FmaArithmetic, Packer<Bf16>>(type);
    }
    return nullptr;
}

}  // namespace tarpon::cpu
