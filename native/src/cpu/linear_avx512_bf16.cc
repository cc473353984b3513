// The linear kernels of AVX512_BF16: vdpbf16ps multiplies two pairs of bfloat16 a lane. bfloat16
// activations go in as they are. A binary16 activation has 11 significant bits, which two bfloat16
// of 8 hold exactly: the value is split, and both parts are multiplied. binary32 would need three
// parts, more work than two FMAs: cpu_avx512 serves it.
#include "cpu/linear_avx512.inl.h"

namespace tarpon::cpu {
namespace {

__m512bh as_bf16(__m512i pairs) {
    return (__m512bh)pairs;
}

__m512bh broadcast(uint32_t pair) {
    return as_bf16(_mm512_set1_epi32(static_cast<int>(pair)));
}

// Arithmetic and packer.
struct Bf16Arithmetic {
    using Elem = Bf16;
    static constexpr int kWords = 1;
    struct Weights {
        __m512i pairs;
    };
    template <class Codes>
    static Weights weights(const Codes &codes, const uint8_t *unit, int j) {
        return {codes.pairs(unit, j)};
    }
    static __m512 multiply_add(const Weights &w, const uint32_t *a, __m512 sum) {
        return _mm512_dpbf16_ps(sum, as_bf16(w.pairs), broadcast(a[0]));
    }
    static void pack(const void *x, int64_t count, uint32_t out[16]) {
        const __mmask32 mask = lane_mask(count) | uint32_t{lane_mask(count - 16)} << 16;
        _mm512_store_si512(out, _mm512_maskz_loadu_epi16(mask, x));
    }
};

// Arithmetic and packer.
struct SplitF16Arithmetic {
    using Elem = F16;
    static constexpr int kWords = 2;
    struct Weights {
        __m512i pairs;
    };
    template <class Codes>
    static Weights weights(const Codes &codes, const uint8_t *unit, int j) {
        return {codes.pairs(unit, j)};
    }
    static __m512 multiply_add(const Weights &w, const uint32_t *a, __m512 sum) {
        sum = _mm512_dpbf16_ps(sum, as_bf16(w.pairs), broadcast(a[0]));
        return _mm512_dpbf16_ps(sum, as_bf16(w.pairs), broadcast(a[1]));
    }
    // 8 pairs: the upper and the lower parts, alternating.
    static __m512i split(__m512 x) {
        const auto upper = (__m256i)_mm512_cvtneps_pbh(x);
        const __m512 upper_value =
            _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(upper), 16));
        const __m512 rest = _mm512_sub_ps(x, upper_value);
        // inf - inf is NaN; an infinity is all in its upper part.
        const __mmask16 finite = _mm512_cmp_ps_mask(rest, rest, _CMP_ORD_Q);
        const auto lower = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_mov_ps(finite, rest));
        const __m512i interleave =
            _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        return _mm512_permutex2var_epi32(_mm512_castsi256_si512(upper), interleave,
                                         _mm512_castsi256_si512(lower));
    }
    static void pack(const void *x, int64_t count, uint32_t out[2 * 16]) {
        _mm512_store_si512(out, split(F16::load(x, 0, lane_mask(count))));
        _mm512_store_si512(out + 16, split(F16::load(x, 16, lane_mask(count - 16))));
    }
};

}  // namespace

const LinearKernel *avx512_bf16_linear_kernel(tarpon_weight_type type, tarpon_dtype dtype) {
    switch (dtype) {
        case TARPON_F16:
            return kernel_for<SplitF16Arithmetic, SplitF16Arithmetic>(type);
        case TARPON_BF16:
            return kernel_for<Bf16Arithmetic, Bf16Arithmetic>(type);
    }
    return nullptr;
}

}  // namespace tarpon::cpu
