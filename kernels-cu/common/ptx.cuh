// Every device operation that kernels use: what it does, its PTX, and its body on the simulator,
// side by side. The only file with PTX in it.
//
// A kernel file is one source for two worlds: nvcc compiles it for a GPU, and g++ (-x c++) for the
// simulator in kernels-cu/sim, which checks what hardware leaves undefined. For that
//   - data in shared and global memory is read and written through the functions below: an access
//     by plain dereference is right on a GPU but unseen by the simulator's checks, which then take
//     the bytes for uninitialised;
//   - lanes of a warp reach the operations marked [warp] together, all 32 of them;
//   - a block's size is a multiple of 32.
// TARPON_WHERE is the caller's source position, which the simulator's reports name; it is empty on
// a GPU. common/test/ptx_conformance_test.cu runs every function here in both worlds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "common/layout.h"
#include "common/types.h"

#ifdef __CUDACC__
#define TARPON_GPU_OR_SIM(gpu, sim) gpu
#define TARPON_WHERE_ONLY
#define TARPON_WHERE
#else
#include <source_location>

#include "sim/device_ops.h"
#define TARPON_GPU_OR_SIM(gpu, sim) sim
#define TARPON_WHERE_ONLY std::source_location where = std::source_location::current()
#define TARPON_WHERE , std::source_location where = std::source_location::current()
#endif

namespace tarpon::ptx {

inline constexpr uint32_t kAllLanes = 0xffffffffu;

// ---- Where a thread is ------------------------------------------------------------------------

TARPON_DEVICE int thread_idx() {
    return TARPON_GPU_OR_SIM(int(threadIdx.x), sim::thread_idx());
}
TARPON_DEVICE int block_idx() {
    return TARPON_GPU_OR_SIM(int(blockIdx.x), sim::block_idx(0));
}
TARPON_DEVICE int block_idx_y() {
    return TARPON_GPU_OR_SIM(int(blockIdx.y), sim::block_idx(1));
}
TARPON_DEVICE int block_idx_z() {
    return TARPON_GPU_OR_SIM(int(blockIdx.z), sim::block_idx(2));
}
TARPON_DEVICE int block_dim() {
    return TARPON_GPU_OR_SIM(int(blockDim.x), sim::block_dim());
}
TARPON_DEVICE int grid_dim() {
    return TARPON_GPU_OR_SIM(int(gridDim.x), sim::grid_dim(0));
}
TARPON_DEVICE int grid_dim_y() {
    return TARPON_GPU_OR_SIM(int(gridDim.y), sim::grid_dim(1));
}
TARPON_DEVICE int lane_id() {
    return thread_idx() % layout::kWarpLanes;
}
TARPON_DEVICE int warp_id() {
    return thread_idx() / layout::kWarpLanes;
}

// ---- Barriers ---------------------------------------------------------------------------------

// All threads of the block meet; what each wrote before is visible to all after.
TARPON_DEVICE void sync_threads(TARPON_WHERE_ONLY) {
#ifdef __CUDACC__
    __syncthreads();
#else
    sim::sync_threads(where);
#endif
}

// [warp] The lanes of a warp meet; what each wrote before is visible to the others after. Shuffles,
// ldmatrix and mma do not promise that, so a lane that reads what another lane wrote needs this.
TARPON_DEVICE void sync_warp(TARPON_WHERE_ONLY) {
#ifdef __CUDACC__
    __syncwarp();
#else
    sim::sync_warp(where);
#endif
}

// Some warps of the block meet: barrier `id` (1..15; 0 belongs to sync_threads) opens when
// `threads` (a multiple of 32, all lanes of each warp) have arrived, and is ready for reuse.
TARPON_DEVICE void named_barrier_sync(int id, int threads TARPON_WHERE) {
#ifdef __CUDACC__
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#else
    sim::named_barrier(id, threads, true, where);
#endif
}

// The same without waiting: a producer announces that its writes are done.
TARPON_DEVICE void named_barrier_arrive(int id, int threads TARPON_WHERE) {
#ifdef __CUDACC__
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#else
    sim::named_barrier(id, threads, false, where);
#endif
}

// ---- Memory -----------------------------------------------------------------------------------

#ifdef __CUDACC__
TARPON_DEVICE uint32_t shared_address(const void *pointer) {
    return uint32_t(__cvta_generic_to_shared(pointer));
}
#endif

template <class T>
inline constexpr bool kIsAccess = std::is_trivially_copyable_v<T> &&
                                  (sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4 ||
                                   sizeof(T) == 8 || sizeof(T) == 16);

// One access of 1, 2, 4, 8 or 16 bytes, aligned to its size.
template <class T>
TARPON_DEVICE T ld_global(const T *pointer TARPON_WHERE) {
    static_assert(kIsAccess<T>);
    return TARPON_GPU_OR_SIM(*pointer, sim::ld_global(pointer, where));
}

// For data that nobody writes while the kernel runs: may go through the read-only cache.
template <class T>
TARPON_DEVICE T ld_global_nc(const T *pointer TARPON_WHERE) {
    static_assert(kIsAccess<T>);
#ifdef __CUDACC__
    if constexpr (sizeof(T) == 16) {
        const uint4 v = __ldg(reinterpret_cast<const uint4 *>(pointer));
        return *reinterpret_cast<const T *>(&v);
    } else if constexpr (sizeof(T) == 8) {
        const uint2 v = __ldg(reinterpret_cast<const uint2 *>(pointer));
        return *reinterpret_cast<const T *>(&v);
    } else if constexpr (sizeof(T) == 4) {
        const uint32_t v = __ldg(reinterpret_cast<const uint32_t *>(pointer));
        return *reinterpret_cast<const T *>(&v);
    } else if constexpr (sizeof(T) == 2) {
        const unsigned short v = __ldg(reinterpret_cast<const unsigned short *>(pointer));
        return *reinterpret_cast<const T *>(&v);
    } else {
        const unsigned char v = __ldg(reinterpret_cast<const unsigned char *>(pointer));
        return *reinterpret_cast<const T *>(&v);
    }
#else
    return sim::ld_global(pointer, where);
#endif
}

template <class T>
TARPON_DEVICE void st_global(T *pointer, std::type_identity_t<T> value TARPON_WHERE) {
    static_assert(kIsAccess<T>);
    TARPON_GPU_OR_SIM(*pointer = value, sim::st_global(pointer, value, where));
}

template <class T>
TARPON_DEVICE T ld_shared(const T *pointer TARPON_WHERE) {
    static_assert(kIsAccess<T>);
    return TARPON_GPU_OR_SIM(*pointer, sim::ld_shared(pointer, where));
}

template <class T>
TARPON_DEVICE void st_shared(T *pointer, std::type_identity_t<T> value TARPON_WHERE) {
    static_assert(kIsAccess<T>);
    TARPON_GPU_OR_SIM(*pointer = value, sim::st_shared(pointer, value, where));
}

// ---- Asynchronous copies from global to shared memory -----------------------------------------

// Starts copying kBytes (4, 8 or 16; both addresses aligned to it). The last kBytes - src_bytes
// bytes are written as zero and not read, so src_bytes = 0 makes a zero-filled row of a pointer
// that must not be read. The thread that copied sees the bytes after its cp_async_wait, the others
// after a barrier behind that.
template <int kBytes>
TARPON_DEVICE void cp_async(void *smem, const void *gmem, int src_bytes = kBytes TARPON_WHERE) {
    static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
#ifdef __CUDACC__
    if constexpr (kBytes == 16) {  // .cg: past L1, since shared memory is where it is reused
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(smem)),
                     "l"(gmem), "r"(src_bytes)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(smem)),
                     "l"(gmem), "n"(kBytes), "r"(src_bytes)
                     : "memory");
    }
#else
    sim::cp_async(smem, gmem, kBytes, src_bytes, where);
#endif
}

TARPON_DEVICE void cp_async_16(void *smem, const void *gmem, int src_bytes = 16 TARPON_WHERE) {
#ifdef __CUDACC__
    cp_async<16>(smem, gmem, src_bytes);
#else
    sim::cp_async(smem, gmem, 16, src_bytes, where);
#endif
}

// A cache policy for data that is read once: it leaves the L2 before anything else does.
TARPON_DEVICE uint64_t create_policy_evict_first() {
#ifdef __CUDACC__
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
#else
    return 1;
#endif
}

// cp_async_16 under a cache policy.
TARPON_DEVICE void cp_async_16_hint(void *smem, const void *gmem, int src_bytes,
                                    [[maybe_unused]] uint64_t policy TARPON_WHERE) {
#ifdef __CUDACC__
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(
                     shared_address(smem)),
                 "l"(gmem), "r"(src_bytes), "l"(policy)
                 : "memory");
#else
    sim::cp_async(smem, gmem, 16, src_bytes, where);
#endif
}

// Closes the group of the copies started since the last commit (an empty group counts too).
TARPON_DEVICE void cp_async_commit() {
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    sim::cp_async_commit();
#endif
}

// Waits until at most kPendingGroups of this thread's newest groups are under way.
template <int kPendingGroups>
TARPON_DEVICE void cp_async_wait(TARPON_WHERE_ONLY) {
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group %0;" ::"n"(kPendingGroups) : "memory");
#else
    sim::cp_async_wait(kPendingGroups, where);
#endif
}

// ---- Matrix fragments -------------------------------------------------------------------------

// [warp] Loads 8x8 matrices of 16-bit elements: lane 8j + r gives the address of the 16-byte row r
// of matrix j (_x2 uses lanes 0..15 only); register j receives layout::Ldmatrix::element of it.
TARPON_DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void *smem_row TARPON_WHERE) {
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(smem_row))
                 : "memory");
#else
    sim::ldmatrix(r, 4, false, smem_row, where);
#endif
}

TARPON_DEVICE void ldmatrix_x2(uint32_t (&r)[2], const void *smem_row TARPON_WHERE) {
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(smem_row))
                 : "memory");
#else
    sim::ldmatrix(r, 2, false, smem_row, where);
#endif
}

// The same, every matrix transposed.
TARPON_DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], const void *smem_row TARPON_WHERE) {
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(smem_row))
                 : "memory");
#else
    sim::ldmatrix(r, 4, true, smem_row, where);
#endif
}

TARPON_DEVICE void ldmatrix_x2_trans(uint32_t (&r)[2], const void *smem_row TARPON_WHERE) {
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(smem_row))
                 : "memory");
#else
    sim::ldmatrix(r, 2, true, smem_row, where);
#endif
}

// [warp] d += a * b for a 16x16 tile a and a 16x8 tile b of T, in fp32 (layout::MmaM16N8K16).
template <class T>
TARPON_DEVICE void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4],
                                const uint32_t (&b)[2] TARPON_WHERE) {
    static_assert(std::is_same_v<T, half_t> || std::is_same_v<T, bf16_t>);
#ifdef __CUDACC__
    if constexpr (std::is_same_v<T, half_t>) {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
            "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    } else {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
            "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
#else
    sim::mma_m16n8k16<T>(d, a, b, where);
#endif
}

// [warp] d += a * b for a 16x32 tile a and a 32x8 tile b of signed bytes, in 32-bit integers that
// wrap around (layout::MmaM16N8K32S8).
TARPON_DEVICE void mma_m16n8k32_s8(int32_t (&d)[4], const uint32_t (&a)[4],
                                   const uint32_t (&b)[2] TARPON_WHERE) {
#ifdef __CUDACC__
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    sim::mma_m16n8k32_s8(d, a, b, where);
#endif
}

// [warp] d += a * b for a 16x32 tile a with two of every four columns kept, and a 32x8 tile b, in
// fp32. The two positions of a chunk are in increasing order. kSelector: which lanes' metadata
// counts (layout::MmaSparseM16N8K32).
template <class T, int kSelector>
TARPON_DEVICE void mma_sp_m16n8k32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4],
                                   uint32_t metadata TARPON_WHERE) {
    static_assert(std::is_same_v<T, half_t> || std::is_same_v<T, bf16_t>);
    static_assert(kSelector == 0 || kSelector == 1);
#ifdef __CUDACC__
    if constexpr (std::is_same_v<T, half_t>) {
        asm volatile(
            "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 "
            "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, %13;"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]),
              "r"(b[3]), "r"(metadata), "n"(kSelector));
    } else {
        asm volatile(
            "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.bf16.bf16.f32 "
            "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, %13;"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]),
              "r"(b[3]), "r"(metadata), "n"(kSelector));
    }
#else
    sim::mma_sp_m16n8k32<T>(d, a, b, metadata, kSelector, where);
#endif
}

// ---- Exchange between lanes -------------------------------------------------------------------

// [warp] The value of lane lane_id() ^ mask.
template <class T>
TARPON_DEVICE T shfl_xor(T value, int mask TARPON_WHERE) {
    static_assert(sizeof(T) == 4);
    return TARPON_GPU_OR_SIM(__shfl_xor_sync(kAllLanes, value, mask),
                             sim::shuffle(sim::Shuffle::kXor, value, mask, where));
}

// [warp] The value of lane lane_id() + delta; the own value where that is beyond the warp.
template <class T>
TARPON_DEVICE T shfl_down(T value, int delta TARPON_WHERE) {
    static_assert(sizeof(T) == 4);
    return TARPON_GPU_OR_SIM(__shfl_down_sync(kAllLanes, value, unsigned(delta)),
                             sim::shuffle(sim::Shuffle::kDown, value, delta, where));
}

// [warp] The value of lane src_lane % 32.
template <class T>
TARPON_DEVICE T shfl(T value, int src_lane TARPON_WHERE) {
    static_assert(sizeof(T) == 4);
    return TARPON_GPU_OR_SIM(__shfl_sync(kAllLanes, value, src_lane),
                             sim::shuffle(sim::Shuffle::kIndex, value, src_lane, where));
}

// [warp] Bit i: whether the predicate of lane i holds.
TARPON_DEVICE uint32_t ballot(bool predicate TARPON_WHERE) {
    return TARPON_GPU_OR_SIM(__ballot_sync(kAllLanes, predicate), sim::ballot(predicate, where));
}

// [warp] Transposes an 8x8 matrix of 16-bit elements: register and result lie as one register of
// ldmatrix (layout::Ldmatrix::element).
TARPON_DEVICE uint32_t movmatrix_trans(uint32_t matrix TARPON_WHERE) {
#ifdef __CUDACC__
    uint32_t result;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(matrix));
    return result;
#else
    // Half h of lane 4g + m is element (2m + h, g): half g % 2 of lane 4 * (2m + h) + g / 2.
    const int lane = lane_id(), source = 8 * (lane % 4) + lane / 8, shift = 16 * (lane / 4 % 2);
    const uint32_t low = sim::shuffle(sim::Shuffle::kIndex, matrix, source, where);
    const uint32_t high = sim::shuffle(sim::Shuffle::kIndex, matrix, source + 4, where);
    return (low >> shift & 0xffff) | (high >> shift & 0xffff) << 16;
#endif
}

// ---- Bits -------------------------------------------------------------------------------------

// Bitwise function of three words: bit 4a + 2b + c of kLut is the result for bits a, b, c. Write
// kLut as the function of 0xf0, 0xcc and 0xaa: (a & b) | c is (0xf0 & 0xcc) | 0xaa.
template <int kLut>
TARPON_DEVICE uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
    static_assert(kLut >= 0 && kLut < 256);
#ifdef __CUDACC__
    uint32_t result;
    asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(result) : "r"(a), "r"(b), "r"(c), "n"(kLut));
    return result;
#else
    return sim::lop3(a, b, c, kLut);
#endif
}

// Byte permute: byte i of the result is byte (selector nibble i) % 8 of {b, a} (a holds bytes
// 0..3); bit 3 of a nibble replicates that byte's sign instead.
TARPON_DEVICE uint32_t prmt(uint32_t a, uint32_t b, uint32_t selector) {
#ifdef __CUDACC__
    uint32_t result;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(selector));
    return result;
#else
    return sim::prmt(a, b, selector);
#endif
}

// ---- Packed pairs of half_t or bf16_t in one register -----------------------------------------
// Each result is rounded once, to nearest even. sm_80 has no bf16x2 add or multiply, so those are
// fused multiply-adds by 1 and onto -0, which round the same.

template <class T>
TARPON_DEVICE uint32_t fma2(uint32_t a, uint32_t b, uint32_t c) {
#ifdef __CUDACC__
    uint32_t d;
    if constexpr (std::is_same_v<T, half_t>) {
        asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    } else {
        asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    }
    return d;
#else
    return sim::fma2<T>(a, b, c);
#endif
}

template <class T>
TARPON_DEVICE uint32_t mul2(uint32_t a, uint32_t b) {
#ifdef __CUDACC__
    if constexpr (std::is_same_v<T, half_t>) {
        uint32_t d;
        asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
        return d;
    }
#endif
    return fma2<T>(a, b, 0x80008000u);
}

template <class T>
TARPON_DEVICE uint32_t add2(uint32_t a, uint32_t b) {
    constexpr uint32_t kOne = std::is_same_v<T, half_t> ? 0x3c003c00u : 0x3f803f80u;
    return fma2<T>(a, kOne, b);
}

template <class T>
TARPON_DEVICE uint32_t sub2(uint32_t a, uint32_t b) {
#ifdef __CUDACC__
    if constexpr (std::is_same_v<T, half_t>) {
        uint32_t d;
        asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
        return d;
    }
#endif
    constexpr uint32_t kMinusOne = std::is_same_v<T, half_t> ? 0xbc00bc00u : 0xbf80bf80u;
    return fma2<T>(b, kMinusOne, a);
}

template <class T>
TARPON_DEVICE uint32_t pack2(float lo, float hi) {
#ifdef __CUDACC__
    uint32_t d;
    if constexpr (std::is_same_v<T, half_t>) {
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
    } else {
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
    }
    return d;
#else
    return from_float<T>(lo).bits | uint32_t(from_float<T>(hi).bits) << 16;
#endif
}

template <class T>
TARPON_DEVICE void unpack2(uint32_t pair, float &lo, float &hi) {
    lo = to_float(T{uint16_t(pair)});
    hi = to_float(T{uint16_t(pair >> 16)});
}

// ---- Order between blocks ---------------------------------------------------------------------
// A lock: the owner writes its data, every warp passes a sync_threads, then one thread does
// st_release or red_release_add; the next owner's thread spins on ld_acquire, then sync_threads.
// On the simulator ld_acquire lets the other threads and blocks run. It may look at memory that
// nobody has written, since a protocol may wait for a value that garbage cannot be; one that takes
// fresh memory for zeros fails on the simulator's poison.

TARPON_DEVICE int32_t ld_acquire(const int32_t *pointer TARPON_WHERE) {
#ifdef __CUDACC__
    int32_t value;
    asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(pointer) : "memory");
    return value;
#else
    return sim::ld_acquire(pointer, where);
#endif
}

TARPON_DEVICE void st_release(int32_t *pointer, int32_t value TARPON_WHERE) {
#ifdef __CUDACC__
    asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(pointer), "r"(value) : "memory");
#else
    sim::st_release(pointer, value, where);
#endif
}

TARPON_DEVICE void red_release_add(int32_t *pointer, int32_t value TARPON_WHERE) {
#ifdef __CUDACC__
    asm volatile("red.release.gpu.global.add.s32 [%0], %1;" ::"l"(pointer), "r"(value) : "memory");
#else
    sim::atomic_add(pointer, value, where);
#endif
}

// Relaxed; returns the value before.
TARPON_DEVICE int32_t atomic_add(int32_t *pointer, int32_t value TARPON_WHERE) {
    return TARPON_GPU_OR_SIM(atomicAdd(pointer, value), sim::atomic_add(pointer, value, where));
}

// Orders what this thread saw and did before against what it does after, for the whole GPU.
TARPON_DEVICE void fence_acq_rel_gpu() {
#ifdef __CUDACC__
    asm volatile("fence.acq_rel.gpu;" ::: "memory");
#endif
}

}  // namespace tarpon::ptx
