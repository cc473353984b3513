// Instantiates the W4 GEMM kernels and launches them. Compiled twice: by nvcc for GPUs and by g++
// for the simulator.
#include "w4_gemm/launch.h"

#include <atomic>
#include <bit>

#include "w4_gemm/sm80.cuh"

namespace tarpon::w4_gemm {
namespace {

struct Kernel {
    void (*function)(Params);
    unsigned threads;
    size_t shared_bytes;
};

template <class Tile, bool kGrouped, class T>
constexpr Kernel kernel_of() {
    using Config = Sm80Config<Tile, Int4Symmetric, kGrouped>;
    return {sm80_w4_gemm_kernel<Config, T>, Config::kThreads, sizeof(SharedStorage<Config, T>)};
}

// By index of kSm80Tiles. 5 tiles x 2 types x grouped or not = 20 kernels.
#define TARPON_W4_GEMM_KERNEL(m, k, n, warp_n) kernel_of<Sm80Tile<m, k, n, warp_n>, kGrouped, T>(),
template <bool kGrouped, class T>
constexpr Kernel kKernels[] = {TARPON_W4_GEMM_SM80_TILES(TARPON_W4_GEMM_KERNEL)};
#undef TARPON_W4_GEMM_KERNEL

const Kernel &kernel(Activation activation, bool grouped, int tile) {
    if (activation == Activation::kF16) {
        return grouped ? kKernels<true, half_t>[tile] : kKernels<false, half_t>[tile];
    }
    return grouped ? kKernels<true, bf16_t>[tile] : kKernels<false, bf16_t>[tile];
}

// A number that no other launch of this process gets, mixed (splitmix64) so that it does not look
// like anything that arbitrary workspace contents are likely to hold.
Flag new_ticket() {
    static std::atomic<uint64_t> count{0};
    uint64_t z = (count.fetch_add(1, std::memory_order_relaxed) + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return std::bit_cast<Flag>(z ^ (z >> 31));
}

bool is_vector_aligned(const void *address, int64_t row_elems) {
    return reinterpret_cast<uintptr_t>(address) % 16 == 0 && row_elems % 8 == 0;
}

}  // namespace

cudaError_t prepare(Activation activation, bool grouped) {
    for (int tile = 0; tile < static_cast<int>(kSm80Tiles.size()); ++tile) {
        const Kernel &k = kernel(activation, grouped, tile);
        const cudaError_t status = tarpon::prepare(k.function, k.shared_bytes);
        if (status != cudaSuccess) return status;
    }
    return cudaSuccess;
}

cudaError_t run(const Weights &weights, Activation activation, const Choice &choice,
                const Operands &operands, cudaStream_t stream) {
    const TileShape &tile = kSm80Tiles[static_cast<size_t>(choice.tile)];
    const Partition work = partition({operands.m, weights.n, weights.k, weights.groups}, tile);
    auto *flags = static_cast<Flag *>(operands.workspace);
    auto *partials = static_cast<unsigned char *>(operands.workspace) + flags_bytes(choice.grid);
    Params p{};
    p.x = operands.x;
    p.qweight = static_cast<const Words *>(weights.qweight);
    p.scales = static_cast<const half_t *>(weights.scales);
    p.y = operands.y;
    p.flags = flags;
    p.partials = reinterpret_cast<Floats *>(partials);
    p.ticket = new_ticket();
    p.total_tiles = static_cast<int>(work.total());
    p.stripe_tiles = choice.stripe_tiles;
    p.m = static_cast<int>(operands.m);
    p.n = static_cast<int>(weights.n);
    p.k = static_cast<int>(weights.k);
    p.k_units = static_cast<int>(ceil_div(weights.k, kUnitK));
    p.n_units = static_cast<int>(ceil_div(weights.n, kUnitN));
    p.k_tiles = static_cast<int>(work.k_tiles);
    p.m_blocks = static_cast<int>(ceil_div(operands.m, tile.block_m));
    p.groups = static_cast<int>(weights.groups);
    p.group_shift = std::countr_zero(static_cast<uint64_t>(weights.group_size));
    p.x_vectors = is_vector_aligned(operands.x, weights.k);
    p.y_vectors = is_vector_aligned(operands.y, weights.n);
    const Kernel &k = kernel(activation, weights.groups > 1, choice.tile);
    return launch(k.function, static_cast<unsigned>(choice.grid), k.threads, k.shared_bytes, stream,
                  p);
}

}  // namespace tarpon::w4_gemm
