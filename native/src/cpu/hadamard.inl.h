// The Hadamard transform over any vector type, compiled once an instruction set by hadamard_*.cc.
// Everything is in an unnamed namespace, so that each copy stays in its own file.
//
// A vector type V has kLanes lanes and enough registers for kRadix vectors of data:
//   load(const T *), load(const T *, count), store(T *, reg), store(T *, reg, count): conversion
//     from and to binary32; count < kLanes leaves the rest zero, or unwritten;
//   add, sub, mul; butterfly<h>(reg): lane i becomes v[i] + v[i + h] where bit h of i is clear,
//     and v[i - h] - v[i] where it is set.
//
// A row is transformed in passes over memory, each as many butterfly stages as registers allow: 4
// within vectors and 4 across them in the first pass of AVX-512 (256 points), 4 in each later one.
// The stages go by rising stride, as in hadamard/ref.h, so every instruction set gives equal bits.
#pragma once

#include "cpu/hadamard_kernel.h"

namespace tarpon::cpu {
namespace {

// The largest row: 128 KiB in binary32, on the stack of the thread that transforms it.
constexpr int64_t kMaxRowElems = 32768;

template <class V, class T>
struct Hadamard {
    using Reg = typename V::Reg;
    static constexpr int kLanes = V::kLanes;
    static constexpr int kRadix = V::kRadix;

    static int lanes_of(int64_t left) { return left < kLanes ? static_cast<int>(left) : kLanes; }

    // Stages of strides 1, 2, ... below `size` within a vector.
    template <int kStride = 1>
    static Reg lane_stages(Reg v, int64_t size) {
        if constexpr (kStride < kLanes) {
            if (size > kStride)
                v = lane_stages<2 * kStride>(V::template butterfly<kStride>(v), size);
        }
        return v;
    }

    // Stages across kCount vectors.
    template <int kCount>
    static void vector_stages(Reg (&v)[kCount]) {
#pragma GCC unroll 16
        for (int h = 1; h < kCount; h *= 2) {
#pragma GCC unroll 16
            for (int i = 0; i < kCount; ++i) {
                if (i & h) continue;
                const Reg a = v[i], b = v[i + h];
                v[i] = V::add(a, b);
                v[i + h] = V::sub(a, b);
            }
        }
    }

    // The first pass over `count` elements in blocks of kCount vectors; Out is float for a scratch
    // row, T for the result. Every pass multiplies by a scale, which is 1 for
    // all but the last: that costs less than telling them apart.
    template <int kCount, class Out>
    static void first_pass(const T *x, Out *y, int64_t count, float scale) {
        for (int64_t i = 0; i < count; i += kCount * kLanes) {
            Reg v[kCount];
#pragma GCC unroll 16
            for (int j = 0; j < kCount; ++j)
                v[j] = lane_stages(V::load(x + i + j * kLanes), kLanes);
            vector_stages(v);
#pragma GCC unroll 16
            for (int j = 0; j < kCount; ++j)
                V::store(y + i + j * kLanes, V::mul(v[j], scale));
        }
    }

    // kCount-point transforms of elements `stride` apart, over `count` elements.
    template <int kCount, class Out>
    static void stride_pass(const float *row, Out *y, int64_t count, int64_t stride, float scale) {
        for (int64_t block = 0; block < count; block += kCount * stride) {
            for (int64_t i = block; i < block + stride; i += kLanes) {
                Reg v[kCount];
#pragma GCC unroll 16
                for (int j = 0; j < kCount; ++j)
                    v[j] = V::load(row + i + j * stride);
                vector_stages(v);
#pragma GCC unroll 16
                for (int j = 0; j < kCount; ++j)
                    V::store(y + i + j * stride, V::mul(v[j], scale));
            }
        }
    }

    template <class Out>
    static void stride_pass(int64_t radix, const float *row, Out *y, int64_t count, int64_t stride,
                            float scale) {
        static_assert(kRadix == 8 || kRadix == 16);
        if (radix == 2) return stride_pass<2>(row, y, count, stride, scale);
        if (radix == 4) return stride_pass<4>(row, y, count, stride, scale);
        if (radix == 8) return stride_pass<8>(row, y, count, stride, scale);
        return stride_pass<kRadix>(row, y, count, stride, scale);
    }

    template <class Out>
    static void first_pass(int64_t radix, const T *x, Out *y, int64_t count, float scale) {
        if (radix == 1) return first_pass<1>(x, y, count, scale);
        if (radix == 2) return first_pass<2>(x, y, count, scale);
        if (radix == 4) return first_pass<4>(x, y, count, scale);
        if (radix == 8) return first_pass<8>(x, y, count, scale);
        return first_pass<kRadix>(x, y, count, scale);
    }

    // Transforms shorter than a vector, which hold several whole ones; the last may be short.
    template <class Out>
    static void short_pass(const T *x, Out *y, int64_t count, int64_t power, float scale) {
        for (int64_t i = 0; i < count; i += kLanes) {
            const int lanes = lanes_of(count - i);
            const Reg v = lane_stages(V::load(x + i, lanes), power);
            V::store(y + i, V::mul(v, scale), lanes);
        }
    }

    // y = (B (x) I) row, scaled: the base matrix over elements `power` apart.
    static void base_pass(const float *row, T *y, const HadamardRows &r) {
        for (int64_t column = 0; column < r.power; column += kLanes) {
            const int lanes = lanes_of(r.power - column);
            for (int i = 0; i < r.base; ++i) {
                const uint32_t negative = r.matrix[i];
                Reg sum = V::load(row + column, lanes);
                if (negative & 1) sum = V::mul(sum, -1.0f);
                for (int j = 1; j < r.base; ++j) {
                    const Reg v = V::load(row + j * r.power + column, lanes);
                    sum = negative >> j & 1 ? V::sub(sum, v) : V::add(sum, v);
                }
                V::store(y + i * r.power + column, V::mul(sum, r.scale), lanes);
            }
        }
    }

    // All stages of the power of two over one row of `count` elements, through `row`; the last pass
    // writes `y` (which may be `row`) and applies `scale`.
    template <class Out>
    static void long_row(const T *x, float *row, Out *y, int64_t count, int64_t power,
                         float scale) {
        first_pass(kRadix, x, row, count, 1.0f);
        int64_t stride = kRadix * kLanes;
        for (; power / stride > kRadix; stride *= kRadix)
            stride_pass(kRadix, row, row, count, stride, 1.0f);
        stride_pass(power / stride, row, y, count, stride, scale);
    }

    static void run(const HadamardRows &r) noexcept {
        const T *x = static_cast<const T *>(r.x);
        T *y = static_cast<T *>(r.y);
        const int64_t n = r.base * r.power;
        const bool fits_registers = r.power <= kRadix * kLanes;
        if (r.base == 1 && r.power < kLanes) return short_pass(x, y, r.rows * n, n, r.scale);
        if (r.base == 1 && fits_registers) {
            return first_pass(r.power / kLanes, x, y, r.rows * n, r.scale);
        }
        alignas(64) float row[kMaxRowElems];
        for (int64_t i = 0; i < r.rows; ++i, x += n, y += n) {
            if (r.base == 1) {
                long_row(x, row, y, n, r.power, r.scale);
                continue;
            }
            if (r.power < kLanes) {
                short_pass(x, row, n, r.power, 1.0f);
            } else if (fits_registers) {
                first_pass(r.power / kLanes, x, row, n, 1.0f);
            } else {
                long_row(x, row, row, n, r.power, 1.0f);
            }
            base_pass(row, y, r);
        }
    }
};

}  // namespace
}  // namespace tarpon::cpu
