// The linear kernels of AVX-512 F/BW/DQ/VL: every dtype through binary32 FMAs.
#include "cpu/linear_avx512.inl.h"

namespace tarpon::cpu {
namespace {

// Two FMAs a pair. A bfloat16 is the upper half of a binary32.
struct FmaArithmetic {
    static constexpr int kWords = 2;
    struct Weights {
        __m512 even, odd;
    };
    static Weights weights(__m512i pairs) {
        return {_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)),
                _mm512_castsi512_ps(
                    _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000))))};
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
    static void pack(const void *row, int64_t i, int64_t k, uint32_t out[2 * 16]) {
        _mm512_store_ps(out, T::load(row, i, lane_mask(k - i)));
        _mm512_store_ps(out + 16, T::load(row, i + 16, lane_mask(k - i - 16)));
    }
};

}  // namespace

const LinearKernel *avx512_linear_kernel(tarpon_dtype dtype) {
    switch (dtype) {
        case TARPON_F32:
            return &kLinearKernel<FmaArithmetic, Packer<F32>>;
        case TARPON_F16:
            return &kLinearKernel<FmaArithmetic, Packer<F16>>;
        case TARPON_BF16:
            return &kLinearKernel<FmaArithmetic, Packer<Bf16>>;
    }
    return nullptr;
}

}  // namespace tarpon::cpu
