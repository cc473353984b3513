// What a lane of the optimizers' kernels loads and stores: eight consecutive elements of a tensor,
// as floats, whatever their type. A block of 256 elements is one warp's work.
#pragma once

#include <cstring>

#include "common/ptx.cuh"
#include "optim/codec.h"
#include "optim/config.h"

namespace tarpon::optim {

inline constexpr int kLaneElems = kBlockElems / layout::kWarpLanes;
inline constexpr int kGroupLanes = kFp8GroupElems / kLaneElems;  // lanes that share an FP8 group

struct alignas(16) f32x4 {
    float x, y, z, w;
};

// Where a lane's elements are: n of them from `at` on, all kLaneElems unless the tensor ends.
struct LaneSpan {
    int64_t at;
    int n;

    TARPON_DEVICE LaneSpan(int64_t elems, int64_t block) {
        at = block * kBlockElems + ptx::lane_id() * kLaneElems;
        const int64_t left = elems - at;
        n = left <= 0 ? 0 : left < kLaneElems ? int(left) : kLaneElems;
    }
};

template <class T>
TARPON_DEVICE bool is_aligned(const T *pointer, int bytes) {
    return reinterpret_cast<uint64_t>(pointer) % uint64_t(bytes) == 0;
}

template <class T>
TARPON_DEVICE float element(const T *pointer) {
    return to_float(ptx::ld_global(pointer));
}

TARPON_DEVICE float load_element(const void *tensor, Dtype dtype, int64_t i) {
    if (dtype == Dtype::kF32) return element(static_cast<const float *>(tensor) + i);
    if (dtype == Dtype::kF16) return element(static_cast<const half_t *>(tensor) + i);
    return element(static_cast<const bf16_t *>(tensor) + i);
}

template <class T>
TARPON_DEVICE void load_pairs(const T *p, float (&v)[kLaneElems]) {
    const u32x4 q = ptx::ld_global(reinterpret_cast<const u32x4 *>(p));
    ptx::unpack2<T>(q.x, v[0], v[1]);
    ptx::unpack2<T>(q.y, v[2], v[3]);
    ptx::unpack2<T>(q.z, v[4], v[5]);
    ptx::unpack2<T>(q.w, v[6], v[7]);
}

template <class T>
TARPON_DEVICE void store_pairs(T *p, const float (&v)[kLaneElems]) {
    ptx::st_global(reinterpret_cast<u32x4 *>(p),
                   u32x4{ptx::pack2<T>(v[0], v[1]), ptx::pack2<T>(v[2], v[3]),
                         ptx::pack2<T>(v[4], v[5]), ptx::pack2<T>(v[6], v[7])});
}

// Elements past the end are zeros.
TARPON_DEVICE void load_lane(const void *tensor, Dtype dtype, LaneSpan span,
                             float (&v)[kLaneElems]) {
    const auto *bytes =
        static_cast<const unsigned char *>(tensor) + span.at * (dtype == Dtype::kF32 ? 4 : 2);
    if (span.n == kLaneElems && is_aligned(bytes, 16)) {
        if (dtype == Dtype::kF32) {
            const auto *p = reinterpret_cast<const f32x4 *>(bytes);
            const f32x4 a = ptx::ld_global(p), b = ptx::ld_global(p + 1);
            v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
            v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
        } else if (dtype == Dtype::kF16) {
            load_pairs(reinterpret_cast<const half_t *>(bytes), v);
        } else {
            load_pairs(reinterpret_cast<const bf16_t *>(bytes), v);
        }
        return;
    }
    TARPON_UNROLL
    for (int i = 0; i < kLaneElems; ++i)
        v[i] = i < span.n ? load_element(tensor, dtype, span.at + i) : 0.0f;
}

TARPON_DEVICE void store_lane(void *tensor, Dtype dtype, LaneSpan span,
                              const float (&v)[kLaneElems]) {
    auto *bytes = static_cast<unsigned char *>(tensor) + span.at * (dtype == Dtype::kF32 ? 4 : 2);
    if (span.n == kLaneElems && is_aligned(bytes, 16)) {
        if (dtype == Dtype::kF32) {
            auto *p = reinterpret_cast<f32x4 *>(bytes);
            ptx::st_global(p, f32x4{v[0], v[1], v[2], v[3]});
            ptx::st_global(p + 1, f32x4{v[4], v[5], v[6], v[7]});
        } else if (dtype == Dtype::kF16) {
            store_pairs(reinterpret_cast<half_t *>(bytes), v);
        } else {
            store_pairs(reinterpret_cast<bf16_t *>(bytes), v);
        }
        return;
    }
    TARPON_UNROLL
    for (int i = 0; i < kLaneElems; ++i) {
        if (i >= span.n) continue;
        if (dtype == Dtype::kF32) {
            ptx::st_global(static_cast<float *>(tensor) + span.at + i, v[i]);
        } else if (dtype == Dtype::kF16) {
            ptx::st_global(static_cast<half_t *>(tensor) + span.at + i, from_float<half_t>(v[i]));
        } else {
            ptx::st_global(static_cast<bf16_t *>(tensor) + span.at + i, from_float<bf16_t>(v[i]));
        }
    }
}

// Eight codes, one a byte.
TARPON_DEVICE void load_codes(const uint8_t *codes, LaneSpan span, uint32_t (&code)[kLaneElems]) {
    const uint8_t *p = codes + span.at;
    if (span.n == kLaneElems && is_aligned(p, 8)) {
        const u32x2 words = ptx::ld_global(reinterpret_cast<const u32x2 *>(p));
        TARPON_UNROLL
        for (int i = 0; i < kLaneElems; ++i)
            code[i] = ((i < 4 ? words.x : words.y) >> (8 * (i % 4))) & 255u;
        return;
    }
    TARPON_UNROLL
    for (int i = 0; i < kLaneElems; ++i)
        code[i] = i < span.n ? uint32_t(ptx::ld_global(p + i)) : 0u;
}

TARPON_DEVICE void store_codes(uint8_t *codes, LaneSpan span, const uint32_t (&code)[kLaneElems]) {
    uint8_t *p = codes + span.at;
    if (span.n == kLaneElems && is_aligned(p, 8)) {
        u32x2 words{0, 0};
        TARPON_UNROLL
        for (int i = 0; i < 4; ++i) {
            words.x |= code[i] << (8 * i);
            words.y |= code[4 + i] << (8 * i);
        }
        ptx::st_global(reinterpret_cast<u32x2 *>(p), words);
        return;
    }
    TARPON_UNROLL
    for (int i = 0; i < kLaneElems; ++i) {
        if (i < span.n) ptx::st_global(p + i, uint8_t(code[i]));
    }
}

// [warp] The largest or smallest key among aligned groups of `lanes` lanes (a power of two).
TARPON_DEVICE uint32_t largest_among(uint32_t key, int lanes) {
    for (int mask = lanes / 2; mask > 0; mask /= 2) {
        const uint32_t other = ptx::shfl_xor(key, mask);
        key = other > key ? other : key;
    }
    return key;
}
TARPON_DEVICE uint32_t smallest_among(uint32_t key, int lanes) {
    for (int mask = lanes / 2; mask > 0; mask /= 2) {
        const uint32_t other = ptx::shfl_xor(key, mask);
        key = other < key ? other : key;
    }
    return key;
}

TARPON_DEVICE uint64_t double_bits(double x) {
#ifdef __CUDACC__
    return uint64_t(__double_as_longlong(x));
#else
    return std::bit_cast<uint64_t>(x);
#endif
}
TARPON_DEVICE double double_from(uint64_t bits) {
#ifdef __CUDACC__
    return __longlong_as_double(int64_t(bits));
#else
    return std::bit_cast<double>(bits);
#endif
}

// [warp] The sum over all lanes, the same in all of them and in every run.
TARPON_DEVICE double warp_sum(double value) {
    for (int mask = layout::kWarpLanes / 2; mask > 0; mask /= 2) {
        const uint64_t bits = double_bits(value);
        const uint32_t low = ptx::shfl_xor(uint32_t(bits), mask);
        const uint32_t high = ptx::shfl_xor(uint32_t(bits >> 32), mask);
        value += double_from(uint64_t(high) << 32 | low);
    }
    return value;
}

TARPON_DEVICE uint32_t magnitude_bits(float x) {
    return lanes::as_bits(x) & 0x7fffffffu;
}

// Copies a structure out of device memory, and into it, in words of its alignment.
template <class T>
using WordOf = std::conditional_t<alignof(T) % 8 == 0, uint64_t, uint32_t>;

template <class T>
TARPON_DEVICE T load_struct(const T *source) {
    constexpr int kWords = int(sizeof(T) / sizeof(WordOf<T>));
    WordOf<T> words[kWords];
    TARPON_UNROLL
    for (int i = 0; i < kWords; ++i)
        words[i] = ptx::ld_global(reinterpret_cast<const WordOf<T> *>(source) + i);
    T out;
    memcpy(&out, words, sizeof out);
    return out;
}

template <class T>
TARPON_DEVICE void store_struct(T *target, const T &value) {
    constexpr int kWords = int(sizeof(T) / sizeof(WordOf<T>));
    WordOf<T> words[kWords];
    memcpy(words, &value, sizeof value);
    TARPON_UNROLL
    for (int i = 0; i < kWords; ++i)
        ptx::st_global(reinterpret_cast<WordOf<T> *>(target) + i, words[i]);
}

}  // namespace tarpon::optim
