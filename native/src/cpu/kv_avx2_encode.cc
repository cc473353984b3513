// What append does with vectors of a head, in AVX2: as kv_avx512_encode.cc, with the 16 partial sums
// of scheme.h in two registers. Products are rounded before they are added, as there.
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

__m256 nearest(__m256 x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

__m256 absolute(__m256 x) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

// Halves onto halves.
template <class Combine>
float reduce(__m256 x, Combine combine) {
    const __m128 four = combine(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = combine(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(combine(two, _mm_movehdup_ps(two)));
}

float least_of(__m256 x) {
    return reduce(x, [](__m128 a, __m128 b) { return _mm_min_ps(a, b); });
}

float most_of(__m256 x) {
    return reduce(x, [](__m128 a, __m128 b) { return _mm_max_ps(a, b); });
}

// Sums of channels equal modulo 16, and their sum as spread() adds them.
struct Sums {
    __m256 part[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};

    void add(int i, __m256 x) { part[i / 8 % 2] = _mm256_add_ps(part[i / 8 % 2], x); }
    float total() const {
        return reduce(_mm256_add_ps(part[0], part[1]),
                      [](__m128 a, __m128 b) { return _mm_add_ps(a, b); });
    }
};

__m256 clamp_codes(__m256 code, float top) {
    return _mm256_min_ps(_mm256_max_ps(code, _mm256_setzero_ps()), _mm256_set1_ps(top));
}

void store_codes(__m256 code, float top, uint8_t *codes) {
    const __m256i whole = _mm256_cvtps_epi32(clamp_codes(code, top));
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i *>(codes), _mm_packus_epi16(words, words));
}

// What grid_code() makes of eight values, before it becomes a whole number.
__m256 grid_codes(__m256 x, float inverse, float half) {
    return _mm256_add_ps(_mm256_floor_ps(_mm256_mul_ps(x, _mm256_set1_ps(inverse))),
                         _mm256_set1_ps(half));
}

float grid_inverse(uint16_t step) {
    const float value = from_half(step);
    return value > 0 ? 1.0f / value : 0.0f;
}

// choose_grid() and grid_code().
void encode_grid(const KvEncodeArgs &a) {
    Sums squares;
    __m256 most = _mm256_setzero_ps();
    for (int i = 0; i < a.count; i += 8) {
        const __m256 x = _mm256_loadu_ps(a.x + i);
        squares.add(i, _mm256_mul_ps(x, x));
        most = _mm256_max_ps(most, absolute(x));
    }
    const float half = static_cast<float>(1 << (a.bits - 1));
    const float mean_square = squares.total() / static_cast<float>(a.count);
    // That of the largest value, and up to 4 bits the clipping one.
    const int steps = a.bits <= 4 ? 2 : 1;
    const float inverse[2] = {grid_inverse(to_half(most_of(most) / half)),
                              grid_inverse(to_half(a.grid_step * square_root(mean_square)))};
    float gain[2] = {0, -1}, scale[2] = {};
    for (int step = 0; step < steps; ++step) {
        Sums dots, levels;
        for (int i = 0; i < a.count; i += 8) {
            const __m256 x = _mm256_loadu_ps(a.x + i);
            const __m256 code = clamp_codes(grid_codes(x, inverse[step], half), 2 * half - 1);
            const __m256 level = _mm256_sub_ps(code, _mm256_set1_ps(half - 0.5f));
            dots.add(i, _mm256_mul_ps(x, level));
            levels.add(i, _mm256_mul_ps(level, level));
        }
        const float dot = dots.total(), square = levels.total();
        gain[step] = dot > 0 ? dot * dot / square : 0.0f;
        scale[step] = dot > 0 ? dot / square : 0.0f;
    }
    const int better = gain[1] > gain[0];
    *a.scale = to_half(scale[better]);
    for (int i = 0; i < a.count; i += 8) {
        store_codes(grid_codes(_mm256_loadu_ps(a.x + i), inverse[better], half), 2 * half - 1,
                    a.codes + i);
    }
}

// asymmetric_range(), stored_range() and asymmetric_code().
void encode_range(const KvEncodeArgs &a) {
    __m256 least = _mm256_loadu_ps(a.x), most = least;
    for (int i = 8; i < a.count; i += 8) {
        least = _mm256_min_ps(least, _mm256_loadu_ps(a.x + i));
        most = _mm256_max_ps(most, _mm256_loadu_ps(a.x + i));
    }
    const float low = least_of(least) * a.clip, high = most_of(most) * a.clip;
    const float top = static_cast<float>((1 << a.bits) - 1), scale = (high - low) / top;
    const float zero = scale > 0 ? _mm256_cvtss_f32(nearest(_mm256_set1_ps(-low / scale))) : 0.0f;
    *a.scale = to_half(scale);
    *a.zero = to_half(zero);
    const __m256 divisor = _mm256_set1_ps(scale), offset = _mm256_set1_ps(from_half(*a.zero));
    for (int i = 0; i < a.count; i += 8) {
        __m256 level = _mm256_setzero_ps();
        if (scale > 0) {
            level =
                _mm256_add_ps(nearest(_mm256_div_ps(_mm256_loadu_ps(a.x + i), divisor)), offset);
        }
        store_codes(level, top, a.codes + i);
    }
}

__m128i load_eight(const uint16_t *from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i *>(from));
}

void load_halves(const uint16_t *from, int count, float *to) {
    for (int i = 0; i < count; i += 8)
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(load_eight(from + i)));
}

void load_bfloats(const uint16_t *from, int count, float *to) {
    for (int i = 0; i < count; i += 8) {
        const __m256i wide = _mm256_cvtepu16_epi32(load_eight(from + i));
        _mm256_storeu_ps(to + i, _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
    }
}

void store_halves(const float *from, int count, uint16_t *to) {
    for (int i = 0; i < count; i += 8) {
        const __m256 x =
            _mm256_min_ps(_mm256_max_ps(_mm256_loadu_ps(from + i), _mm256_set1_ps(-kLargestHalf)),
                          _mm256_set1_ps(kLargestHalf));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(to + i),
                         _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
}

void norm(const float *weight, float eps, int count, float *x) {
    Sums squares;
    for (int i = 0; i < count; i += 8) {
        const __m256 v = _mm256_loadu_ps(x + i);
        squares.add(i, _mm256_mul_ps(v, v));
    }
    const float mean_square = squares.total() / static_cast<float>(count);
    const __m256 factor = _mm256_set1_ps(1.0f / square_root(mean_square + eps));
    for (int i = 0; i < count; i += 8) {
        _mm256_storeu_ps(x + i, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + i), factor),
                                              _mm256_loadu_ps(weight + i)));
    }
}

// Whole vectors of channel halves; what is left, and interleaved pairs, one by one.
void rope(const float *cos, const float *sin, int pairs, bool half, float *x) {
    int pair = 0;
    for (; half && pair + 8 <= pairs; pair += 8) {
        const __m256 c = _mm256_loadu_ps(cos + pair), s = _mm256_loadu_ps(sin + pair);
        float *first = x + pair, *second = x + pairs + pair;
        const __m256 a = _mm256_loadu_ps(first), b = _mm256_loadu_ps(second);
        _mm256_storeu_ps(first, _mm256_sub_ps(_mm256_mul_ps(a, c), _mm256_mul_ps(b, s)));
        _mm256_storeu_ps(second, _mm256_add_ps(_mm256_mul_ps(b, c), _mm256_mul_ps(a, s)));
    }
    for (; pair < pairs; ++pair) {
        float &first = x[half ? pair : 2 * pair], &second = x[half ? pair + pairs : 2 * pair + 1];
        const float a = first, b = second;
        first = a * cos[pair] - b * sin[pair];
        second = b * cos[pair] + a * sin[pair];
    }
}

}  // namespace

const KvEncodeKernels kAvx2EncodeKv{encode_grid,  encode_range, load_halves, load_bfloats,
                                    store_halves, norm,         rope};

}  // namespace tarpon::cpu
