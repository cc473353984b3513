// Loading and storing runs of consecutive elements as floats, by the widest access that alignment
// allows.
#pragma once

#include "common/ptx.cuh"

namespace tarpon::hadamard {

struct alignas(8) f32x2 {
    float x, y;
};
struct alignas(16) f32x4 {
    float x, y, z, w;
};

// Eight elements. `aligned`: p is a multiple of 16 bytes.
template <class T>
TARPON_DEVICE void load_vector(const T *p, bool aligned, float *v) {
    if (!aligned) {
        TARPON_UNROLL
        for (int i = 0; i < 8; ++i)
            v[i] = to_float(ptx::ld_global(p + i));
    } else if constexpr (sizeof(T) == 4) {
        TARPON_UNROLL
        for (int i = 0; i < 8; i += 4) {
            const f32x4 q = ptx::ld_global(reinterpret_cast<const f32x4 *>(p + i));
            v[i] = q.x, v[i + 1] = q.y, v[i + 2] = q.z, v[i + 3] = q.w;
        }
    } else {
        const u32x4 q = ptx::ld_global(reinterpret_cast<const u32x4 *>(p));
        ptx::unpack2<T>(q.x, v[0], v[1]);
        ptx::unpack2<T>(q.y, v[2], v[3]);
        ptx::unpack2<T>(q.z, v[4], v[5]);
        ptx::unpack2<T>(q.w, v[6], v[7]);
    }
}

// kCount elements (1, 2, 4 or 8). `aligned`: p is a multiple of kCount elements.
template <int kCount, class T>
TARPON_DEVICE void store_run(T *p, bool aligned, const float *v) {
    if (!aligned || kCount == 1) {
        TARPON_UNROLL
        for (int i = 0; i < kCount; ++i)
            ptx::st_global(p + i, from_float<T>(v[i]));
    } else if constexpr (sizeof(T) == 4 && kCount == 2) {
        ptx::st_global(reinterpret_cast<f32x2 *>(p), f32x2{v[0], v[1]});
    } else if constexpr (sizeof(T) == 4 && kCount >= 4) {
        TARPON_UNROLL
        for (int i = 0; i < kCount; i += 4) {
            ptx::st_global(reinterpret_cast<f32x4 *>(p + i),
                           f32x4{v[i], v[i + 1], v[i + 2], v[i + 3]});
        }
    } else if constexpr (kCount == 2) {
        ptx::st_global(reinterpret_cast<uint32_t *>(p), ptx::pack2<T>(v[0], v[1]));
    } else if constexpr (kCount == 4) {
        ptx::st_global(reinterpret_cast<u32x2 *>(p),
                       u32x2{ptx::pack2<T>(v[0], v[1]), ptx::pack2<T>(v[2], v[3])});
    } else if constexpr (kCount == 8) {
        ptx::st_global(reinterpret_cast<u32x4 *>(p),
                       u32x4{ptx::pack2<T>(v[0], v[1]), ptx::pack2<T>(v[2], v[3]),
                             ptx::pack2<T>(v[4], v[5]), ptx::pack2<T>(v[6], v[7])});
    }
}

}  // namespace tarpon::hadamard
