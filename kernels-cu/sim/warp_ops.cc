// What a warp computes together, through the fragment maps of common/layout.h, and the bit and pair
// arithmetic of single lanes.
#include <bit>
#include <cmath>
#include <cstring>

#include "common/layout.h"
#include "sim/engine.h"

namespace tarpon::sim {

void fail_shared(const char *operation, const SharedFault &fault, size_t bytes, Where where);

namespace {

template <class T>
T &argument(Warp &warp, int lane) {
    return *static_cast<T *>(warp.arguments[lane]);
}

// ---- Shuffles ---------------------------------------------------------------------------------

struct ShuffleCall {
    uint32_t value;
    int operand;
    uint32_t result;
};

template <Shuffle kKind>
void complete_shuffle(Warp &warp) {
    for (int lane = 0; lane < 32; ++lane) {
        auto &call = argument<ShuffleCall>(warp, lane);
        const int operand = call.operand & 31;
        int source = operand;
        if (kKind == Shuffle::kXor) source = lane ^ operand;
        if (kKind == Shuffle::kDown) source = lane + operand < 32 ? lane + operand : lane;
        call.result = argument<ShuffleCall>(warp, source).value;
    }
}

const WarpOp kShuffleOps[] = {{"shfl_xor", complete_shuffle<Shuffle::kXor>},
                              {"shfl_down", complete_shuffle<Shuffle::kDown>},
                              {"shfl", complete_shuffle<Shuffle::kIndex>}};

struct BallotCall {
    bool predicate;
    uint32_t result;
};

const WarpOp kBallot = {"ballot", [](Warp &warp) {
                            uint32_t votes = 0;
                            for (int lane = 0; lane < 32; ++lane) {
                                votes |= uint32_t(argument<BallotCall>(warp, lane).predicate)
                                         << lane;
                            }
                            for (int lane = 0; lane < 32; ++lane) {
                                argument<BallotCall>(warp, lane).result = votes;
                            }
                        }};

// ---- ldmatrix ---------------------------------------------------------------------------------

struct LdmatrixCall {
    const void *row;
    uint32_t *regs;
};

template <int kMatrices, bool kTranspose>
void complete_ldmatrix(Warp &warp) {
    const Access access = {warp.index, kManyLanes, &warp.clock, warp.op_where};
    for (int matrix = 0; matrix < kMatrices; ++matrix) {
        uint16_t elements[8][8];
        for (int r = 0; r < 8; ++r) {
            const int lane = layout::Ldmatrix::address_lane(matrix, r);
            const void *row = argument<LdmatrixCall>(warp, lane).row;
            const SharedFault fault = warp.block->shared.load(row, sizeof elements[r], access);
            if (fault.kind != SharedFault::kNone) {
                const std::string operation = "ldmatrix, row " + std::to_string(r) + " of matrix " +
                                              std::to_string(matrix) + " (the address of lane " +
                                              std::to_string(lane) + ")";
                fail_shared(operation.c_str(), fault, sizeof elements[r], warp.op_where);
            }
            std::memcpy(elements[r], row, sizeof elements[r]);
        }
        for (int lane = 0; lane < 32; ++lane) {
            uint32_t value = 0;
            for (int half = 0; half < 2; ++half) {
                const auto [row, col] = kTranspose ? layout::Ldmatrix::element_trans(lane, half)
                                                   : layout::Ldmatrix::element(lane, half);
                value |= uint32_t(elements[row][col]) << (16 * half);
            }
            argument<LdmatrixCall>(warp, lane).regs[matrix] = value;
        }
    }
}

const WarpOp kLdmatrixX2[] = {{"ldmatrix_x2", complete_ldmatrix<2, false>},
                              {"ldmatrix_x2_trans", complete_ldmatrix<2, true>}};
const WarpOp kLdmatrixX4[] = {{"ldmatrix_x4", complete_ldmatrix<4, false>},
                              {"ldmatrix_x4_trans", complete_ldmatrix<4, true>}};

// ---- mma --------------------------------------------------------------------------------------

struct MmaCall {
    float *d;
    const uint32_t *a;
    const uint32_t *b;
};

template <class T>
float half_of(uint32_t pair, int half) {
    return to_float(T{uint16_t(pair >> (16 * half))});
}

// Products of 16-bit values are exact in fp32; their sum is formed in fp64 and rounded once, which
// is closer than any tensor core, whose order and truncation are not documented.
template <class T>
void complete_mma_m16n8k16(Warp &warp) {
    using Map = layout::MmaM16N8K16;
    float a[Map::kM][Map::kK];
    float b[Map::kK][Map::kN];
    for (int lane = 0; lane < 32; ++lane) {
        const auto &call = argument<MmaCall>(warp, lane);
        for (int half = 0; half < 2; ++half) {
            for (int reg = 0; reg < Map::kRegsA; ++reg) {
                const auto [m, k] = Map::a(lane, reg, half);
                a[m][k] = half_of<T>(call.a[reg], half);
            }
            for (int reg = 0; reg < Map::kRegsB; ++reg) {
                const auto [k, n] = Map::b(lane, reg, half);
                b[k][n] = half_of<T>(call.b[reg], half);
            }
        }
    }
    double sum[Map::kM][Map::kN] = {};
    for (int m = 0; m < Map::kM; ++m) {
        for (int k = 0; k < Map::kK; ++k) {
            for (int n = 0; n < Map::kN; ++n)
                sum[m][n] += double(a[m][k]) * double(b[k][n]);
        }
    }
    for (int lane = 0; lane < 32; ++lane) {
        float *d = argument<MmaCall>(warp, lane).d;
        for (int reg = 0; reg < Map::kRegsC; ++reg) {
            const auto [m, n] = Map::c(lane, reg);
            d[reg] = float(double(d[reg]) + sum[m][n]);
        }
    }
}

template <class T>
constexpr WarpOp kMmaM16N8K16 = {"mma_m16n8k16", complete_mma_m16n8k16<T>};

// ---- Pairs ------------------------------------------------------------------------------------

// The nearest double that has its last bit set wherever it is not exact ("round to odd"), so that
// a second rounding to a format at least two bits shorter gives what one rounding would have given.
double add_round_odd(double x, double y) {
    const double sum = x + y;
    if (!std::isfinite(sum)) return sum;
    const double y_part = sum - x;
    const double error = (x - (sum - y_part)) + (y - y_part);
    const auto bits = std::bit_cast<uint64_t>(sum);
    if (error == 0 || bits & 1) return sum;
    const bool away_from_zero = (error > 0) == (sum > 0);
    return std::bit_cast<double>(away_from_zero ? bits + 1 : bits - 1);
}

float to_float_round_odd(double value) {
    float nearest = float(value);
    if (std::isnan(value) || double(nearest) == value) return nearest;
    if (std::fabs(double(nearest)) > std::fabs(value)) nearest = std::nextafter(nearest, 0.0f);
    return std::bit_cast<float>(std::bit_cast<uint32_t>(nearest) | 1);
}

template <class T>
uint16_t fma_once(uint16_t a, uint16_t b, uint16_t c) {
    const double product = double(to_float(T{a})) * double(to_float(T{b}));  // exact
    return from_float<T>(to_float_round_odd(add_round_odd(product, to_float(T{c})))).bits;
}

}  // namespace

uint32_t shuffle_bits(Shuffle kind, uint32_t value, int operand, Where where) {
    ShuffleCall call = {value, operand, 0};
    rendezvous(kShuffleOps[int(kind)], &call, where);
    return call.result;
}

uint32_t ballot(bool predicate, Where where) {
    BallotCall call = {predicate, 0};
    rendezvous(kBallot, &call, where);
    return call.result;
}

void ldmatrix(uint32_t *regs, int matrices, bool transpose, const void *row, Where where) {
    LdmatrixCall call = {row, regs};
    rendezvous((matrices == 2 ? kLdmatrixX2 : kLdmatrixX4)[transpose], &call, where);
}

template <class T>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where) {
    MmaCall call = {d, a, b};
    rendezvous(kMmaM16N8K16<T>, &call, where);
}
template void mma_m16n8k16<half_t>(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[2],
                                   Where);
template void mma_m16n8k16<bf16_t>(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[2],
                                   Where);

uint32_t lop3(uint32_t a, uint32_t b, uint32_t c, int lut) {
    uint32_t result = 0;
    for (int term = 0; term < 8; ++term) {
        if (!(lut >> term & 1)) continue;
        result |= (term & 4 ? a : ~a) & (term & 2 ? b : ~b) & (term & 1 ? c : ~c);
    }
    return result;
}

uint32_t prmt(uint32_t a, uint32_t b, uint32_t selector) {
    const uint64_t bytes = uint64_t(b) << 32 | a;
    uint32_t result = 0;
    for (int i = 0; i < 4; ++i) {
        const uint32_t nibble = selector >> (4 * i) & 15;
        uint32_t byte = uint32_t(bytes >> (8 * (nibble & 7))) & 0xff;
        if (nibble & 8) byte = byte & 0x80 ? 0xff : 0;
        result |= byte << (8 * i);
    }
    return result;
}

template <class T>
uint32_t fma2(uint32_t a, uint32_t b, uint32_t c) {
    const uint32_t low = fma_once<T>(uint16_t(a), uint16_t(b), uint16_t(c));
    const uint32_t high = fma_once<T>(uint16_t(a >> 16), uint16_t(b >> 16), uint16_t(c >> 16));
    return low | high << 16;
}
template uint32_t fma2<half_t>(uint32_t, uint32_t, uint32_t);
template uint32_t fma2<bf16_t>(uint32_t, uint32_t, uint32_t);

}  // namespace tarpon::sim
