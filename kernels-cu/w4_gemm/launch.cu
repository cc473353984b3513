// Launches the W4 GEMM kernels that instances_*.cu compile. Compiled twice: by nvcc for GPUs and by
// g++ for the simulator.
#include "w4_gemm/launch.h"

#include "w4_gemm/kernels.h"
#include "w4_gemm/sm80_stage.cuh"

namespace tarpon::w4_gemm {
namespace {

const Kernel &kernel_of(FormatId format, Activation activation, bool grouped, int tile) {
    switch (format) {
#define TARPON_W4_GEMM_CASE(name) \
    case FormatId::k##name:       \
        return kernel<name>(activation, grouped, tile);
        TARPON_W4_GEMM_FORMATS(TARPON_W4_GEMM_CASE)
#undef TARPON_W4_GEMM_CASE
    }
    static constexpr Kernel kNone{};
    return kNone;
}

bool is_vector_aligned(const void *address, int64_t row_elems) {
    return reinterpret_cast<uintptr_t>(address) % 16 == 0 && row_elems % 8 == 0;
}

}  // namespace

cudaError_t prepare(Activation activation, FormatId format, bool grouped) {
    for (int tile = 0; tile < kTileCount; ++tile) {
        const Kernel &k = kernel_of(format, activation, grouped, tile);
        if (!k.function) continue;
        const cudaError_t status = tarpon::prepare(k.function, k.shared_bytes);
        if (status != cudaSuccess) return status;
    }
    return cudaSuccess;
}

cudaError_t run(const Weights &weights, Activation activation, const Choice &choice,
                const Operands &operands, cudaStream_t stream) {
    const bool grouped = is_grouped(weights.format, weights.groups);
    const Kernel &k = kernel_of(weights.format, activation, grouped, choice.tile);
    if (!k.function) return cudaErrorInvalidValue;
    const TileShape &tile = tile_shape(weights.format, grouped, choice.tile);
    const Partition work = partition(
        {operands.m, weights.n, weights.k, weights.groups, weights.format, choice.deterministic},
        tile);
    auto *flags = static_cast<Ticket *>(operands.workspace);
    auto *partials = static_cast<unsigned char *>(operands.workspace) + flags_bytes(choice.grid);
    Params p{};
    p.x = operands.x;
    p.gather = weights.permutation;
    p.qweight = static_cast<const Words *>(weights.qweight);
    p.scales = weights.scales;
    p.metadata = static_cast<const Words *>(weights.metadata);
    p.zeros = static_cast<const uint8_t *>(weights.zeros);
    p.column_scale = weights.column_scale;
    p.bias = weights.bias;
    p.residual = operands.residual;
    p.y = operands.y;
    p.flags = flags;
    p.partials = reinterpret_cast<Floats *>(partials);
    p.ticket = new_ticket();
    p.total_tiles = static_cast<int>(work.total());
    p.stripe_tiles = choice.stripe_tiles;
    p.m = static_cast<int>(operands.m);
    p.n = static_cast<int>(weights.n);
    p.k = static_cast<int>(weights.k);
    p.k_units = static_cast<int>(
        ceil_div(weights.k, traits(weights.format).sparse ? kSparseUnitK : kUnitK));
    p.n_units = static_cast<int>(ceil_div(weights.n, kUnitN));
    p.k_tiles = static_cast<int>(work.k_tiles);
    p.m_blocks = static_cast<int>(ceil_div(operands.m, tile.block_m));
    p.run_tiles = static_cast<int>(work.run_tiles);
    p.groups = static_cast<int>(weights.groups);
    // One group: a shift that leaves nothing of any row's number.
    p.group_shift =
        weights.groups == 1 ? 31 : std::countr_zero(static_cast<uint64_t>(weights.group_size));
    p.x_vectors = !p.gather && is_vector_aligned(operands.x, weights.k);
    p.y_vectors = is_vector_aligned(operands.y, weights.n) &&
                  (!operands.residual || is_vector_aligned(operands.residual, weights.n));
    return launch(k.function, static_cast<unsigned>(choice.grid), k.threads, k.shared_bytes, stream,
                  p);
}

}  // namespace tarpon::w4_gemm
