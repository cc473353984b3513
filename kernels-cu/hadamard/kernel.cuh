// The transform's kernels; launched by launch.cu. All keep the order of operations of ref.h, so
// that they agree with it and with the CPU bit for bit.
#pragma once

#include "common/launch.cuh"
#include "common/ptx.cuh"
#include "hadamard/config.h"
#include "hadamard/elements.cuh"

namespace tarpon::hadamard {

template <class T>
struct Params {
    const T *x;  // [rows, n]
    T *y;        // likewise; may be x
    int64_t rows;
    int base, power;
    float scale;
    bool aligned;               // x and y are multiples of 16 bytes
    uint32_t matrix[kMaxBase];  // rows of the base matrix; unused for base 1
};

// Butterflies of strides kStride, 2 * kStride, ... below kEnd between a thread's kCount own values.
template <int kStride, int kEnd, int kCount>
TARPON_DEVICE void register_stages(float *v) {
    TARPON_UNROLL
    for (int h = kStride; h < kEnd; h *= 2) {
        TARPON_UNROLL
        for (int pair = 0; pair < kCount / 2; ++pair) {
            const int i = pair / h * (2 * h) + pair % h;
            const float a = v[i], b = v[i + h];
            v[i] = a + b;
            v[i + h] = a - b;
        }
    }
}

// [warp] One stage between lanes `mask` apart: v + other where the lane's bit is clear, other - v
// where it is set. The product with +-1 is exact.
template <int kCount>
TARPON_DEVICE void lane_stage(float *v, int mask) {
    const float sign = ptx::lane_id() & mask ? -1.0f : 1.0f;
    TARPON_UNROLL
    for (int i = 0; i < kCount; ++i)
        v[i] = sign * v[i] + ptx::shfl_xor(v[i], mask);
}

// Sizes up to 256: the rows are one flat array, eight elements a thread, and a warp holds one row,
// several, or (n = 2, 4) a thread does.
template <class T>
TARPON_KERNEL void TARPON_LAUNCH_BOUNDS(kFlatThreads, 2) sm80_hadamard_flat_kernel(Params<T> p) {
    constexpr int kBlockElems = kFlatThreads * kVectorElems;
    const int n = p.power;
    const int64_t total = p.rows * n;
    for (int64_t first = int64_t(ptx::block_idx()) * kBlockElems; first < total;
         first += int64_t(ptx::grid_dim()) * kBlockElems) {
        const int64_t at = first + ptx::thread_idx() * kVectorElems;
        float v[kVectorElems] = {};
        const bool whole = at + kVectorElems <= total;
        if (whole) {
            load_vector(p.x + at, p.aligned, v);
        } else {
            TARPON_UNROLL
            for (int i = 0; i < kVectorElems; ++i)
                if (at + i < total) v[i] = to_float(ptx::ld_global(p.x + at + i));
        }
        register_stages<1, 2, kVectorElems>(v);
        if (n > 2) register_stages<2, 4, kVectorElems>(v);
        if (n > 4) register_stages<4, 8, kVectorElems>(v);
        for (int mask = 1; mask * kVectorElems < n; mask *= 2)
            lane_stage<kVectorElems>(v, mask);
        TARPON_UNROLL
        for (int i = 0; i < kVectorElems; ++i)
            v[i] *= p.scale;
        if (whole) {
            store_run<kVectorElems>(p.y + at, p.aligned, v);
        } else {
            TARPON_UNROLL
            for (int i = 0; i < kVectorElems; ++i)
                if (at + i < total) ptx::st_global(p.y + at + i, from_float<T>(v[i]));
        }
    }
}

// The exchange between the warps of a row. Before, thread (warp, lane) holds chunk c, element k at
//     v[8c + k]:  warp * kWarpElems + c * 256 + lane * 8 + k;
// after, thread t holds the run k of each warp w at
//     v[w * kRunElems + k]:  w * kWarpElems + t * kRunElems + k.
//
// With kRounds = kChunks rounds, round r moves the elements whose chunk number XOR the upper bits
// of their warp is r: that is one chunk of every thread's old elements, and as many of its new
// ones, so the registers it frees take what it reads. Which chunk depends on the warp, while
// registers want fixed numbers: permuting the chunks before and after settles that.
template <class Config>
struct Exchange {
    static constexpr int kRounds = Config::kRounds;
    static constexpr int kWarpsPerRound = Config::kWarps / kRounds;

    struct Storage {
        float elems[Config::kExchangeElems];
    };

    // Quads (16 bytes) are permuted so that eight lanes that write every other quad hit all banks.
    static TARPON_DEVICE int swizzle(int i) {
        const int quad = i / 4;
        return (quad ^ (quad >> 3 & 1)) * 4 + i % 4;
    }

    // Chunk c of v becomes chunk c ^ x; x is the same in all lanes of a warp.
    static TARPON_DEVICE void permute_chunks(float *v, int x) {
        TARPON_UNROLL
        for (int bit = 1; bit < kRounds; bit *= 2) {
            TARPON_UNROLL
            for (int i = 0; i < Config::kElems; ++i) {
                const int j = i ^ bit * kVectorElems;
                if (j < i) continue;
                const float low = x & bit ? v[j] : v[i], high = x & bit ? v[i] : v[j];
                v[i] = low, v[j] = high;
            }
        }
    }

    static TARPON_DEVICE void write_chunk(Storage &storage, int at, const float *v) {
        TARPON_UNROLL
        for (int i = 0; i < kVectorElems; i += 4) {
            ptx::st_shared(reinterpret_cast<f32x4 *>(&storage.elems[swizzle(at + i)]),
                           f32x4{v[i], v[i + 1], v[i + 2], v[i + 3]});
        }
    }

    static TARPON_DEVICE void read_run(const Storage &storage, int at, float *v) {
        const float *from = &storage.elems[swizzle(at)];
        if constexpr (Config::kRunElems == 4) {
            const f32x4 q = ptx::ld_shared(reinterpret_cast<const f32x4 *>(from));
            v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
        } else if constexpr (Config::kRunElems == 2) {
            const f32x2 q = ptx::ld_shared(reinterpret_cast<const f32x2 *>(from));
            v[0] = q.x, v[1] = q.y;
        } else {
            static_assert(Config::kRunElems == 1);
            v[0] = ptx::ld_shared(from);
        }
    }

    static TARPON_DEVICE void run(Storage &storage, float *v) {
        constexpr int kStride = Config::kWarpElems / kRounds;  // a warp's elements in one round
        const int warp = ptx::warp_id(), lane = ptx::lane_id();
        const int run = ptx::thread_idx() * Config::kRunElems;  // within a warp's elements
        const int old_part = warp / kWarpsPerRound, new_part = run / kStride;
        if constexpr (kRounds > 1) permute_chunks(v, old_part);
        TARPON_UNROLL
        for (int round = 0; round < kRounds; ++round) {
            float *part = v + round * (Config::kElems / kRounds);
            ptx::sync_threads();  // the storage is free: all have read the last round, or row
            TARPON_UNROLL
            for (int c = 0; c < Config::kChunks / kRounds; ++c) {
                write_chunk(storage, warp * kStride + c * kWarpChunkElems + lane * kVectorElems,
                            part + c * kVectorElems);
            }
            ptx::sync_threads();
            const int first_warp = (round ^ new_part) * kWarpsPerRound;
            TARPON_UNROLL
            for (int w = 0; w < kWarpsPerRound; ++w) {
                read_run(storage, (first_warp + w) * kStride + run % kStride,
                         part + w * Config::kRunElems);
            }
        }
        if constexpr (kRounds > 1) permute_chunks(v, new_part);
    }
};

// Sizes 512 to 32768: a block a row at a time. Strides 1..4 lie within a thread's vector, 8..128
// between lanes, then between a thread's chunks, then between warps.
template <class Config, class T>
TARPON_KERNEL void TARPON_LAUNCH_BOUNDS(Config::kThreads, 1) sm80_hadamard_row_kernel(Params<T> p) {
    for (int64_t row = ptx::block_idx(); row < p.rows; row += ptx::grid_dim()) {
        const T *x = p.x + row * Config::kSize;
        T *y = p.y + row * Config::kSize;
        const int first = ptx::warp_id() * Config::kWarpElems + ptx::lane_id() * kVectorElems;
        float v[Config::kElems];
        TARPON_UNROLL
        for (int c = 0; c < Config::kChunks; ++c)
            load_vector(x + first + c * kWarpChunkElems, p.aligned, v + c * kVectorElems);
        TARPON_UNROLL
        for (int c = 0; c < Config::kChunks; ++c)
            register_stages<1, kVectorElems, kVectorElems>(v + c * kVectorElems);
        TARPON_UNROLL
        for (int mask = 1; mask < 32; mask *= 2)
            lane_stage<Config::kElems>(v, mask);
        register_stages<kVectorElems, Config::kElems, Config::kElems>(v);
        if constexpr (Config::kWarps > 1) {
            Exchange<Config>::run(shared_storage<typename Exchange<Config>::Storage>(), v);
            register_stages<Config::kRunElems, Config::kElems, Config::kElems>(v);
        }
        TARPON_UNROLL
        for (int i = 0; i < Config::kElems; ++i)
            v[i] *= p.scale;
        if constexpr (Config::kWarps > 1) {
            const int run = ptx::thread_idx() * Config::kRunElems;
            TARPON_UNROLL
            for (int w = 0; w < Config::kWarps; ++w) {
                store_run<Config::kRunElems>(y + w * Config::kWarpElems + run, p.aligned,
                                             v + w * Config::kRunElems);
            }
        } else {
            TARPON_UNROLL
            for (int c = 0; c < Config::kChunks; ++c) {
                store_run<kVectorElems>(y + first + c * kWarpChunkElems, p.aligned,
                                        v + c * kVectorElems);
            }
        }
    }
}

// kCount-point butterflies between elements `stride` apart of `total` padded floats.
template <int kCount>
TARPON_DEVICE void shared_stages(float *elems, int total, int stride) {
    for (int item = ptx::thread_idx(); item < total / kCount; item += kBaseThreads) {
        const int first = item / stride * (stride * kCount) + item % stride;
        float v[kCount];
        TARPON_UNROLL
        for (int i = 0; i < kCount; ++i)
            v[i] = ptx::ld_shared(elems + padded_index(first + i * stride));
        register_stages<1, kCount, kCount>(v);
        TARPON_UNROLL
        for (int i = 0; i < kCount; ++i)
            ptx::st_shared(elems + padded_index(first + i * stride), v[i]);
    }
    ptx::sync_threads();
}

// Sizes with a base matrix: rows in shared memory as binary32, up to four stages a pass over them,
// then the base matrix a column a thread.
template <int kBase, class T>
TARPON_KERNEL void TARPON_LAUNCH_BOUNDS(kBaseThreads, 1) sm80_hadamard_base_kernel(Params<T> p) {
    auto *elems = &shared_storage<float>();
    const int n = kBase * p.power;
    const int block_rows = base_rows_per_block(n);
    for (int64_t row = int64_t(ptx::block_idx()) * block_rows; row < p.rows;
         row += int64_t(ptx::grid_dim()) * block_rows) {
        const int rows = p.rows - row < block_rows ? int(p.rows - row) : block_rows;
        const int total = rows * n;
        const T *x = p.x + row * n;
        T *y = p.y + row * n;
        ptx::sync_threads();  // all have read the last rows
        for (int i = ptx::thread_idx(); i < total; i += kBaseThreads)
            ptx::st_shared(elems + padded_index(i), to_float(ptx::ld_global(x + i)));
        ptx::sync_threads();
        for (int stride = 1; stride < p.power;) {
            const int left = p.power / stride;
            if (left == 2) {
                shared_stages<2>(elems, total, stride);
            } else if (left == 4) {
                shared_stages<4>(elems, total, stride);
            } else if (left == 8) {
                shared_stages<8>(elems, total, stride);
            } else {
                shared_stages<16>(elems, total, stride);
            }
            stride *= left < 16 ? left : 16;
        }
        for (int item = ptx::thread_idx(); item < rows * p.power; item += kBaseThreads) {
            const int first = item / p.power * n + item % p.power;
            float v[kBase];
            TARPON_UNROLL
            for (int j = 0; j < kBase; ++j)
                v[j] = ptx::ld_shared(elems + padded_index(first + j * p.power));
            for (int i = 0; i < kBase; ++i) {
                const uint32_t negative = p.matrix[i];
                float sum = negative & 1 ? -v[0] : v[0];
                TARPON_UNROLL
                for (int j = 1; j < kBase; ++j)
                    sum += negative >> j & 1 ? -v[j] : v[j];
                ptx::st_global(y + first + i * p.power, from_float<T>(sum * p.scale));
            }
        }
    }
}

}  // namespace tarpon::hadamard
