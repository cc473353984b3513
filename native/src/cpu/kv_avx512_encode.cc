// What append does with vectors of a head, in AVX-512: QK-norm, RoPE, codes with their scale, and
// binary16. The same operations in the same order as kernels-cu/kv_cache/scheme.h, whose bits these must be; that
// header is not included, since its functions would be compiled for AVX-512 here and linked for
// everybody.
#include <immintrin.h>

#include "cpu/kv_kernel.h"

namespace tarpon::cpu {
namespace {

constexpr float kLargestHalf = 65504.0f;

uint16_t to_half(float x) {
    x = x > kLargestHalf ? kLargestHalf : x < -kLargestHalf ? -kLargestHalf : x;
    return static_cast<uint16_t>(
        _mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(x), _MM_FROUND_TO_NEAREST_INT), 0));
}

float from_half(uint16_t bits) {
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
}

float square_root(float x) {
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
}

// Halves onto halves, as spread() adds its 16 sums.
float add_halves(__m512 x) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

__m512 clamp_codes(__m512 code, float top) {
    return _mm512_min_ps(_mm512_max_ps(code, _mm512_setzero_ps()), _mm512_set1_ps(top));
}

void store_codes(__m512 code, float top, uint8_t *codes) {
    _mm_storeu_si128(reinterpret_cast<__m128i *>(codes),
                     _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(clamp_codes(code, top))));
}

// What grid_code() makes of 16 values, before it becomes a whole number; half is that of the levels.
__m512 grid_codes(const float *x, __m512 inverse, float half) {
    const __m512 quotient = _mm512_mul_ps(_mm512_loadu_ps(x), inverse);
    return _mm512_add_ps(_mm512_roundscale_ps(quotient, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC),
                         _mm512_set1_ps(half));
}

float grid_inverse(uint16_t step) {
    const float value = from_half(step);
    return value > 0 ? 1.0f / value : 0.0f;
}

// The sums of grid_fit() for one step.
struct GridFit {
    __m512 dots = _mm512_setzero_ps(), squares = _mm512_setzero_ps();

    void add(const float *x, __m512 inverse, float half) {
        const __m512 code = clamp_codes(grid_codes(x, inverse, half), 2 * half - 1);
        const __m512 level = _mm512_sub_ps(code, _mm512_set1_ps(half - 0.5f));
        dots = _mm512_add_ps(dots, _mm512_mul_ps(_mm512_loadu_ps(x), level));
        squares = _mm512_fmadd_ps(level, level, squares);  // exact
    }
};

// choose_grid() and grid_code(). Both steps are tried side by side and the better one is picked
// without a branch, which nothing could predict.
void encode_grid(const KvEncodeArgs &a) {
    __m512 sums = _mm512_setzero_ps(), most = _mm512_setzero_ps();
    for (int i = 0; i < a.count; i += 16) {
        const __m512 x = _mm512_loadu_ps(a.x + i);
        sums = _mm512_add_ps(sums, _mm512_mul_ps(x, x));
        most = _mm512_max_ps(most, _mm512_abs_ps(x));
    }
    const float half = static_cast<float>(1 << (a.bits - 1));
    const float mean_square = add_halves(sums) / static_cast<float>(a.count);
    // That of the largest value, and up to 4 bits the clipping one.
    const int steps = a.bits <= 4 ? 2 : 1;
    float inverse[2] = {grid_inverse(to_half(_mm512_reduce_max_ps(most) / half)), 0};
    if (steps > 1) inverse[1] = grid_inverse(to_half(a.grid_step * square_root(mean_square)));
    GridFit fits[2];
    for (int i = 0; i < a.count; i += 16) {
        fits[0].add(a.x + i, _mm512_set1_ps(inverse[0]), half);
        if (steps > 1) fits[1].add(a.x + i, _mm512_set1_ps(inverse[1]), half);
    }
    float gain[2] = {0, -1}, scale[2] = {};
    for (int i = 0; i < steps; ++i) {
        const float dot = add_halves(fits[i].dots), square = add_halves(fits[i].squares);
        gain[i] = dot > 0 ? dot * dot / square : 0.0f;
        scale[i] = dot > 0 ? dot / square : 0.0f;
    }
    const int better = gain[1] > gain[0];
    *a.scale = to_half(scale[better]);
    const __m512 chosen = _mm512_set1_ps(inverse[better]);
    for (int i = 0; i < a.count; i += 16)
        store_codes(grid_codes(a.x + i, chosen, half), 2 * half - 1, a.codes + i);
}

// asymmetric_range(), stored_range() and asymmetric_code().
void encode_range(const KvEncodeArgs &a) {
    __m512 least = _mm512_loadu_ps(a.x), most = least;
    for (int i = 16; i < a.count; i += 16) {
        least = _mm512_min_ps(least, _mm512_loadu_ps(a.x + i));
        most = _mm512_max_ps(most, _mm512_loadu_ps(a.x + i));
    }
    const float low = _mm512_reduce_min_ps(least) * a.clip,
                high = _mm512_reduce_max_ps(most) * a.clip;
    const float top = static_cast<float>((1 << a.bits) - 1), scale = (high - low) / top;
    const auto nearest = [](__m512 x) {
        return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    };
    const float zero = scale > 0 ? _mm512_cvtss_f32(nearest(_mm512_set1_ps(-low / scale))) : 0.0f;
    *a.scale = to_half(scale);
    *a.zero = to_half(zero);
    const __m512 divisor = _mm512_set1_ps(scale), offset = _mm512_set1_ps(from_half(*a.zero));
    for (int i = 0; i < a.count; i += 16) {
        __m512 level = _mm512_setzero_ps();
        if (scale > 0) {
            level =
                _mm512_add_ps(nearest(_mm512_div_ps(_mm512_loadu_ps(a.x + i), divisor)), offset);
        }
        store_codes(level, top, a.codes + i);
    }
}

void load_halves(const uint16_t *from, int count, float *to) {
    for (int i = 0; i < count; i += 16) {
        _mm512_storeu_ps(
            to + i,
            _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from + i))));
    }
}

void load_bfloats(const uint16_t *from, int count, float *to) {
    for (int i = 0; i < count; i += 16) {
        const __m512i wide =
            _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from + i)));
        _mm512_storeu_si512(to + i, _mm512_slli_epi32(wide, 16));
    }
}

void norm(const float *weight, float eps, int count, float *x) {
    __m512 sums = _mm512_setzero_ps();
    for (int i = 0; i < count; i += 16) {
        const __m512 v = _mm512_loadu_ps(x + i);
        sums = _mm512_add_ps(sums, _mm512_mul_ps(v, v));
    }
    const float mean_square = add_halves(sums) / static_cast<float>(count);
    const __m512 factor = _mm512_set1_ps(1.0f / square_root(mean_square + eps));
    for (int i = 0; i < count; i += 16) {
        _mm512_storeu_ps(x + i, _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), factor),
                                              _mm512_loadu_ps(weight + i)));
    }
}

__mmask16 first_lanes(int count) {
    return static_cast<__mmask16>(count >= 16 ? 0xffff : (1 << count) - 1);
}

void rope(const float *cos, const float *sin, int pairs, bool half, float *x) {
    if (half) {
        for (int i = 0; i < pairs; i += 16) {
            const __mmask16 lanes = first_lanes(pairs - i);
            const __m512 c = _mm512_maskz_loadu_ps(lanes, cos + i),
                         s = _mm512_maskz_loadu_ps(lanes, sin + i);
            const __m512 a = _mm512_maskz_loadu_ps(lanes, x + i),
                         b = _mm512_maskz_loadu_ps(lanes, x + pairs + i);
            _mm512_mask_storeu_ps(x + i, lanes,
                                  _mm512_sub_ps(_mm512_mul_ps(a, c), _mm512_mul_ps(b, s)));
            _mm512_mask_storeu_ps(x + pairs + i, lanes,
                                  _mm512_add_ps(_mm512_mul_ps(b, c), _mm512_mul_ps(a, s)));
        }
        return;
    }
    // Angles twice each; in the first channel of a pair what the second adds is taken off.
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    for (int i = 0; i < pairs; i += 8) {
        const __mmask16 lanes = first_lanes(2 * (pairs - i)), angles = first_lanes(pairs - i);
        const auto load = [&](const float *from) {
            return _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(angles & 0xff, from + i));
        };
        const __m512 c = load(cos), s = load(sin), v = _mm512_maskz_loadu_ps(lanes, x + 2 * i);
        const __m512 own = _mm512_mul_ps(v, c),
                     other = _mm512_mul_ps(_mm512_permute_ps(v, 0xb1), s);
        _mm512_mask_storeu_ps(x + 2 * i, lanes,
                              _mm512_mask_sub_ps(_mm512_add_ps(own, other), 0x5555, own, other));
    }
}

void store_halves(const float *from, int count, uint16_t *to) {
    for (int i = 0; i < count; i += 16) {
        const __m512 x =
            _mm512_min_ps(_mm512_max_ps(_mm512_loadu_ps(from + i), _mm512_set1_ps(-kLargestHalf)),
                          _mm512_set1_ps(kLargestHalf));
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(to + i),
                            _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
}

}  // namespace

const KvEncodeKernels kAvx512EncodeKv{encode_grid,  encode_range, load_halves, load_bfloats,
                                      store_halves, norm,         rope};

}  // namespace tarpon::cpu
