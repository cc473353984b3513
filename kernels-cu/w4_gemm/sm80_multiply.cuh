// One stage of the sm80 kernel: from shared memory to fragments, and through the tensor core into
// accumulators.
#pragma once

#include "w4_gemm/dequant.cuh"
#include "w4_gemm/sm80_stage.cuh"

namespace tarpon::w4_gemm {

// ---- Shared memory to registers -----------------------------------------------------------------

// The scales of a lane's accumulators: one for each of the eighths of its warp's columns.
template <class Config>
using Scales = Pack<half_t, Config::kWarpN / 8>[Config::kTransposed ? 1 : 2];

struct None {};

// What a warp multiplies in one stage: its slab of 32 rows of W.
template <class Config, class T>
struct Fragments {
    static constexpr int kWords = Config::Format::kBits / 4;  // of one 16x16 tile
    static constexpr int kRegsX = Config::kTransposed && !Config::kSparse ? 2 : 4;
    uint32_t x[Config::kSlabSteps][Config::kTilesM][kRegsX];
    uint32_t qweight[Config::kSlabSteps][Config::kTilesN][kWords];
    std::conditional_t<Config::kScalesInRegisters, Scales<Config>, None> scales;
    // A word for each two tiles of W^T (sparse_pack.h).
    std::conditional_t<Config::kSparse, Pack<uint32_t, Config::kTilesN / 2>, None> metadata;
    // A byte for each column that the lane's weights lie in, lane / 4 + 8 i.
    std::conditional_t<Config::Format::kZeros, Pack<uint32_t, Config::kTilesN / 2>, None> zeros;
};

// Scales and zero points of 64 columns are in MARLIN's order for groups: position 8i + j holds
// column i + 8j. This is where the warp's part of a lane's `i` begins.
template <class Config>
TARPON_DEVICE int in_unit(int i) {
    return Config::kWarpN / 8 * (warp_n<Config>() % (64 / Config::kWarpN)) + 8 * i;
}

// The scales of the columns that a lane's accumulators hold.
template <class Config>
TARPON_DEVICE void load_lane_scales(Scales<Config> &scales, const half_t *unit) {
    using Row = Pack<half_t, Config::kWarpN / 8>;
    const auto load = [&](int i) {
        return ptx::ld_shared(reinterpret_cast<const Row *>(unit + in_unit<Config>(i)));
    };
    if constexpr (Config::kTransposed) {
        scales[0] = load(ptx::lane_id() / 4);
    } else {
        TARPON_UNROLL
        for (int i = 0; i < 2; ++i)
            scales[i] = load(2 * (ptx::lane_id() % 4) + i);
    }
}

template <class Config, class T>
TARPON_DEVICE void load_fragments(Fragments<Config, T> &f, const Stage<Config, T> &stage,
                                  const Params &p) {
    constexpr int kChunksPerRow = Config::kBlockK / 8;
    const int lane = ptx::lane_id();
    const int slab_chunk = warp_k<Config>() * Config::kSlabK / 8;
    const auto row_address = [&](int row, int chunk) {
        return stage.x + 8 * (row * kChunksPerRow +
                              layout::swizzle_chunk<kChunksPerRow>(row, slab_chunk + chunk));
    };
    if constexpr (Config::kTransposed) {
        // Four matrices of 8 rows of x by 8 of k: x^T fragments of all steps.
        TARPON_UNROLL
        for (int m = 0; m < Config::kTilesM; ++m) {
            uint32_t r[4];
            ptx::ldmatrix_x4(r, row_address(8 * m + lane % 8, lane / 8));
            TARPON_UNROLL
            for (int i = 0; i < 4; ++i)
                f.x[i / f.kRegsX][m][i % f.kRegsX] = r[i];
        }
    } else {
        TARPON_UNROLL
        for (int step = 0; step < Config::kSlabSteps; ++step) {
            TARPON_UNROLL
            for (int m = 0; m < Config::kTilesM; ++m) {
                ptx::ldmatrix_x4(f.x[step][m],
                                 row_address(16 * m + lane % 16, 2 * step + lane / 16));
            }
        }
    }
    constexpr int kWarpsPerUnit = 64 / Config::kWarpN;
    const int unit_n = warp_n<Config>() / kWarpsPerUnit;
    // A unit's words lie as [part][lane][4]; a tile has one word (4 bits) or two, adjacent.
    constexpr int kLaneWords = Config::kTilesN * Config::Format::kBits / 4;
    constexpr int kAccess = kLaneWords < 4 ? kLaneWords : 4;
    const int first_word = kLaneWords * (warp_n<Config>() % kWarpsPerUnit);
    TARPON_UNROLL
    for (int step = 0; step < Config::kSlabSteps; ++step) {
        const auto &unit = stage.qweight[warp_k<Config>() * Config::kSlabSteps + step][unit_n];
        TARPON_UNROLL
        for (int i = 0; i < kLaneWords; i += kAccess) {
            const int word = first_word + i;
            const auto words = ptx::ld_shared(reinterpret_cast<const Pack<uint32_t, kAccess> *>(
                &unit[word / 4][lane].v[word % 4]));
            TARPON_UNROLL
            for (int j = 0; j < kAccess; ++j)
                (&f.qweight[step][0][0])[i + j] = words.v[j];
        }
    }
    if constexpr (Config::kSparse) {
        const int unit = warp_k<Config>() * (Config::kBlockN / kUnitN) + unit_n;
        const auto *words = reinterpret_cast<const uint32_t *>(stage.metadata) +
                            kMetadataWords * (32 * unit + lane) +
                            Config::kTilesN / 2 * (warp_n<Config>() % kWarpsPerUnit);
        f.metadata = ptx::ld_shared(reinterpret_cast<const decltype(f.metadata) *>(words));
    }
    const int row = warp_k<Config>() * Config::kSlabK >> p.group_shift;
    if constexpr (Config::kScalesInRegisters) {
        load_lane_scales<Config>(f.scales, &stage.scales[row][64 * unit_n]);
    }
    if constexpr (Config::Format::kZeros) {
        const uint8_t *unit = &stage.zeros[row][64 * unit_n];
        f.zeros = ptx::ld_shared(
            reinterpret_cast<const decltype(f.zeros) *>(unit + in_unit<Config>(lane / 4)));
    }
}

// ---- Registers to accumulators ------------------------------------------------------------------

// Fragment [m][t] of the warp: 16 rows by 8 columns 8t .. 8t+7 of y, or transposed, 16 columns
// 16t .. 16t+15 by 8 rows.
template <class Config>
using Accumulators = float[Config::kTilesM][Config::kTilesAcc][4];

// How one slab's sums become part of the accumulators: by scales in registers, or by scales (and
// offsets, which meet the sums of x) in shared memory.
template <class Config, class T>
class Scaling {
    using Scale = typename Config::Format::Scale;
    static constexpr bool kOffsets = Config::Format::kOffsets;

  public:
    TARPON_DEVICE Scaling(const Fragments<Config, T> &f, const Stage<Config, T> &stage,
                          const Params &p)
        : f_(f) {
        if constexpr (Config::kScalesInShared) {
            const int row = warp_k<Config>() * Config::kSlabK >> p.group_shift;
            scales_ = &stage.scales[row][warp_n<Config>() * Config::kWarpN];
        }
        if constexpr (kOffsets) sum_x();
    }

    // acc[m] of fragment t of every row tile.
    template <int kTiles>
    TARPON_DEVICE void add(Accumulators<Config> &acc, const float (&sums)[kTiles][4], int t) const {
        float scale[2], offset[2];
        load(t, scale, offset);
        TARPON_UNROLL
        for (int m = 0; m < kTiles; ++m) {
            TARPON_UNROLL
            for (int i = 0; i < 4; ++i) {
                // Of the four, columns of W alternate, or rows of W^T come in pairs.
                const int column = Config::kTransposed ? i / 2 : i % 2;
                acc[m][t][i] += scale[column] * sums[m][i];
                if constexpr (kOffsets) acc[m][t][i] += offset[column] * x_[m][i];
            }
        }
    }

  private:
    TARPON_DEVICE void load(int t, float (&scale)[2], [[maybe_unused]] float (&offset)[2]) const {
        if constexpr (Config::kScalesInRegisters) {
            TARPON_UNROLL
            for (int i = 0; i < 2; ++i) {
                scale[i] =
                    to_float(Config::kTransposed ? f_.scales[0].v[2 * t + i] : f_.scales[i].v[t]);
            }
        } else {
            Scale both[2];
            if constexpr (Config::kTransposed) {
                TARPON_UNROLL
                for (int i = 0; i < 2; ++i)
                    both[i] = ptx::ld_shared(scales_ + 16 * t + 8 * i + ptx::lane_id() / 4);
            } else {
                const auto pair = ptx::ld_shared(reinterpret_cast<const Pack<Scale, 2> *>(
                    scales_ + 8 * t + 2 * (ptx::lane_id() % 4)));
                both[0] = pair.v[0], both[1] = pair.v[1];
            }
            TARPON_UNROLL
            for (int i = 0; i < 2; ++i) {
                if constexpr (kOffsets) {
                    scale[i] = both[i].scale, offset[i] = both[i].offset;
                } else {
                    scale[i] = both[i];
                }
            }
        }
    }

    // The sums of the slab's x over K, for each element of a fragment: a product with ones.
    TARPON_DEVICE void sum_x() {
        constexpr uint32_t kOne = std::is_same_v<T, half_t> ? 0x3c003c00 : 0x3f803f80;
        TARPON_UNROLL
        for (int m = 0; m < Config::kTilesM; ++m) {
            TARPON_UNROLL
            for (int i = 0; i < 4; ++i)
                x_[m][i] = 0;
            TARPON_UNROLL
            for (int step = 0; step < Config::kSlabSteps; ++step) {
                if constexpr (Config::kTransposed) {
                    ptx::mma_m16n8k16<T>(x_[m], {kOne, kOne, kOne, kOne}, f_.x[step][m]);
                } else {
                    ptx::mma_m16n8k16<T>(x_[m], f_.x[step][m], {kOne, kOne});
                }
            }
        }
    }

    const Fragments<Config, T> &f_;
    const Scale *scales_;
    float x_[kOffsets ? Config::kTilesM : 1][4];
};

// d += 16 columns of W, as rows of W^T, times 8 rows of x.
template <class Config, class T>
TARPON_DEVICE void multiply_transposed(float (&d)[4], const uint32_t (&w_t)[4],
                                       const Fragments<Config, T> &f, int step, int m, int tile) {
    if constexpr (!Config::kSparse) {
        ptx::mma_m16n8k16<T>(d, w_t, f.x[step][m]);
    } else if (tile % 2 == 0) {
        ptx::mma_sp_m16n8k32<T, 0>(d, w_t, f.x[step][m], f.metadata.v[tile / 2]);
    } else {
        ptx::mma_sp_m16n8k32<T, 1>(d, w_t, f.x[step][m], f.metadata.v[tile / 2]);
    }
}

// acc += slab of x * slab of W. Small integers (or e4m3 numbers) go into the tensor core; a slab
// lies in one group, so its sum is scaled in fp32 before it joins the others.
template <class Config, class T>
TARPON_DEVICE void multiply(Accumulators<Config> &acc, const Fragments<Config, T> &f,
                            const Stage<Config, T> &stage, const Params &p) {
    using Dequant = Dequant<typename Config::Format, T>;
    const Scaling<Config, T> scaling(f, stage, p);
    TARPON_UNROLL
    for (int tile = 0; tile < Config::kTilesN; ++tile) {
        typename Dequant::Zeros zeros;
        if constexpr (Config::Format::kZeros) zeros = Dequant::zeros(f.zeros.v[tile / 2], tile % 2);
        uint32_t w[Config::kSlabSteps][4];
        TARPON_UNROLL
        for (int step = 0; step < Config::kSlabSteps; ++step) {
            Dequant::run(f.qweight[step][tile], zeros, w[step]);
        }
        if constexpr (Config::kTransposed) {
            float sums[Config::kTilesM][4] = {};
            TARPON_UNROLL
            for (int step = 0; step < Config::kSlabSteps; ++step) {
                // The two column halves of W are the two row halves of W^T.
                const uint32_t w_t[4] = {w[step][0], w[step][2], w[step][1], w[step][3]};
                TARPON_UNROLL
                for (int m = 0; m < Config::kTilesM; ++m) {
                    multiply_transposed<Config, T>(Config::kGrouped ? sums[m] : acc[m][tile], w_t,
                                                   f, step, m, tile);
                }
            }
            if constexpr (Config::kGrouped) scaling.add(acc, sums, tile);
        } else {
            TARPON_UNROLL
            for (int half = 0; half < 2; ++half) {
                const int t = 2 * tile + half;
                float sums[Config::kTilesM][4] = {};
                TARPON_UNROLL
                for (int step = 0; step < Config::kSlabSteps; ++step) {
                    const uint32_t b[2] = {w[step][2 * half], w[step][2 * half + 1]};
                    TARPON_UNROLL
                    for (int m = 0; m < Config::kTilesM; ++m) {
                        ptx::mma_m16n8k16<T>(Config::kGrouped ? sums[m] : acc[m][t], f.x[step][m],
                                             b);
                    }
                }
                if constexpr (Config::kGrouped) scaling.add(acc, sums, t);
            }
        }
    }
}

}  // namespace tarpon::w4_gemm
