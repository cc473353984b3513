// Matrix multiplications of a warp: fragments are gathered into plain matrices through the maps of
// common/layout.h, multiplied, and scattered back.
#include "common/layout.h"
#include "sim/engine.h"

namespace tarpon::sim {
namespace {

template <class Accumulator>
struct MmaCall {
    Accumulator *d;
    const uint32_t *a;
    const uint32_t *b;
    uint32_t metadata;
    int selector;
};
using FloatCall = MmaCall<float>;
using IntCall = MmaCall<int32_t>;

template <class T>
float half_of(uint32_t pair, int half) {
    return to_float(T{uint16_t(pair >> (16 * half))});
}

int8_t byte_of(uint32_t word, int byte) {
    return int8_t(word >> (8 * byte));
}

template <class Map, class T>
void gather_b(Warp &warp, float (&b)[Map::kK][Map::kN]) {
    for (int lane = 0; lane < 32; ++lane) {
        const uint32_t *regs = argument<FloatCall>(warp, lane).b;
        for (int reg = 0; reg < Map::kRegsB; ++reg) {
            for (int half = 0; half < 2; ++half) {
                const auto [k, n] = Map::b(lane, reg, half);
                b[k][n] = half_of<T>(regs[reg], half);
            }
        }
    }
}

// Products of 16-bit values are exact in fp32; their sum is formed in fp64 and rounded once, which
// is closer than any tensor core, whose order and truncation are not documented.
template <class Map>
void multiply_add(Warp &warp, const float (&a)[Map::kM][Map::kK],
                  const float (&b)[Map::kK][Map::kN]) {
    double sum[Map::kM][Map::kN] = {};
    for (int m = 0; m < Map::kM; ++m) {
        for (int k = 0; k < Map::kK; ++k) {
            for (int n = 0; n < Map::kN; ++n)
                sum[m][n] += double(a[m][k]) * double(b[k][n]);
        }
    }
    for (int lane = 0; lane < 32; ++lane) {
        float *d = argument<FloatCall>(warp, lane).d;
        for (int reg = 0; reg < Map::kRegsC; ++reg) {
            const auto [m, n] = Map::c(lane, reg);
            d[reg] = float(double(d[reg]) + sum[m][n]);
        }
    }
}

template <class T>
void complete_m16n8k16(Warp &warp) {
    using Map = layout::MmaM16N8K16;
    float a[Map::kM][Map::kK], b[Map::kK][Map::kN];
    for (int lane = 0; lane < 32; ++lane) {
        const uint32_t *regs = argument<FloatCall>(warp, lane).a;
        for (int reg = 0; reg < Map::kRegsA; ++reg) {
            for (int half = 0; half < 2; ++half) {
                const auto [m, k] = Map::a(lane, reg, half);
                a[m][k] = half_of<T>(regs[reg], half);
            }
        }
    }
    gather_b<Map, T>(warp, b);
    multiply_add<Map>(warp, a, b);
}

// The column of A at which a kept value stands.
int kept_column(Warp &warp, int m, int kept) {
    using Map = layout::MmaSparseM16N8K32;
    const int chunk = kept / 2;
    const int selector = argument<FloatCall>(warp, 0).selector;
    const auto [lane, shift] = Map::metadata(m, chunk, selector);
    const uint32_t bits = argument<FloatCall>(warp, lane).metadata >> shift;
    const uint32_t first = bits & 3, second = bits >> 2 & 3;
    if (first >= second) {
        engine().fail("mma_sp_m16n8k32", warp.op_where,
                      "the metadata of a chunk names columns " + std::to_string(first) + " and " +
                          std::to_string(second) + ", which must increase",
                      "row " + std::to_string(m) + ", chunk " + std::to_string(chunk) + ": bits " +
                          std::to_string(shift) + ".. of lane " + std::to_string(lane));
    }
    return 4 * chunk + int(kept % 2 ? second : first);
}

template <class T>
void complete_sp_m16n8k32(Warp &warp) {
    using Map = layout::MmaSparseM16N8K32;
    float a[Map::kM][Map::kK] = {}, b[Map::kK][Map::kN];
    for (int lane = 0; lane < 32; ++lane) {
        const uint32_t *regs = argument<FloatCall>(warp, lane).a;
        for (int reg = 0; reg < Map::kRegsA; ++reg) {
            for (int half = 0; half < 2; ++half) {
                const auto [m, kept] = Map::a(lane, reg, half);
                a[m][kept_column(warp, m, kept)] = half_of<T>(regs[reg], half);
            }
        }
    }
    gather_b<Map, T>(warp, b);
    multiply_add<Map>(warp, a, b);
}

void complete_m16n8k32_s8(Warp &warp) {
    using Map = layout::MmaM16N8K32S8;
    int32_t a[Map::kM][Map::kK], b[Map::kK][Map::kN];
    for (int lane = 0; lane < 32; ++lane) {
        const auto &call = argument<IntCall>(warp, lane);
        for (int byte = 0; byte < 4; ++byte) {
            for (int reg = 0; reg < Map::kRegsA; ++reg) {
                const auto [m, k] = Map::a(lane, reg, byte);
                a[m][k] = byte_of(call.a[reg], byte);
            }
            for (int reg = 0; reg < Map::kRegsB; ++reg) {
                const auto [k, n] = Map::b(lane, reg, byte);
                b[k][n] = byte_of(call.b[reg], byte);
            }
        }
    }
    for (int lane = 0; lane < 32; ++lane) {
        int32_t *d = argument<IntCall>(warp, lane).d;
        for (int reg = 0; reg < Map::kRegsC; ++reg) {
            const auto [m, n] = Map::c(lane, reg);
            auto sum = uint32_t(d[reg]);  // unsigned, since it wraps around
            for (int k = 0; k < Map::kK; ++k)
                sum += uint32_t(a[m][k] * b[k][n]);
            d[reg] = int32_t(sum);
        }
    }
}

template <class T>
constexpr WarpOp kM16N8K16 = {"mma_m16n8k16", complete_m16n8k16<T>};
template <class T>
constexpr WarpOp kSpM16N8K32 = {"mma_sp_m16n8k32", complete_sp_m16n8k32<T>};
constexpr WarpOp kM16N8K32S8 = {"mma_m16n8k32_s8", complete_m16n8k32_s8};

}  // namespace

template <class T>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where) {
    FloatCall call = {d, a, b, 0, 0};
    rendezvous(kM16N8K16<T>, &call, where);
}
template void mma_m16n8k16<half_t>(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[2],
                                   Where);
template void mma_m16n8k16<bf16_t>(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[2],
                                   Where);

void mma_m16n8k32_s8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where) {
    IntCall call = {d, a, b, 0, 0};
    rendezvous(kM16N8K32S8, &call, where);
}

template <class T>
void mma_sp_m16n8k32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4],
                     uint32_t metadata, int selector, Where where) {
    FloatCall call = {d, a, b, metadata, selector};
    rendezvous(kSpM16N8K32<T>, &call, where);
}
template void mma_sp_m16n8k32<half_t>(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[4],
                                      uint32_t, int, Where);
template void mma_sp_m16n8k32<bf16_t>(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[4],
                                      uint32_t, int, Where);

}  // namespace tarpon::sim
