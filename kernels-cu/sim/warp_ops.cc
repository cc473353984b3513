// What lanes of a warp exchange: shuffles, ballots, and matrices from shared memory through the maps
// of common/layout.h. The multiplications are in mma.cc.
#include <cstring>

#include "common/layout.h"
#include "sim/engine.h"

namespace tarpon::sim {

void fail_shared(const char *operation, const SharedFault &fault, size_t bytes, Where where);

namespace {

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

}  // namespace tarpon::sim
