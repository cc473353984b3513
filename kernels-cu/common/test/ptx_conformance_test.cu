// Every memory, barrier and warp operation of ptx.cuh against the PTX manual; one source, run on
// the simulator (ptx_conformance_test_sim) and on a GPU (ptx_conformance_test_cuda). Arithmetic of
// single lanes is in ptx_arithmetic_test.cu, multiplications are in ptx_mma_test.cu. Fragments are
// laid out by the hand-typed figures, not by layout.h.
#include <cstring>
#include <vector>

#include "common/launch.cuh"
#include "common/ptx.cuh"
#include "common/test/ptx_figures.h"
#include "common/test/ptx_testing.h"
#include "testing/device_buffer.h"
#include "testing/random.h"
#include "testing/test.h"

namespace tarpon::conformance {
namespace {

using namespace tarpon::ptx;
using testing::check_cuda;
using testing::DeviceBuffer;
using testing::Random;

constexpr int kLanes = 32;

// ---- Position ---------------------------------------------------------------------------------

TARPON_KERNEL void position_kernel(int *out) {
    const int block = block_idx() + grid_dim() * (block_idx_y() + grid_dim_y() * block_idx_z());
    int *row = out + 9 * (block * block_dim() + thread_idx());
    const int values[9] = {thread_idx(),  warp_id(),     lane_id(),  block_dim(), block_idx(),
                           block_idx_y(), block_idx_z(), grid_dim(), grid_dim_y()};
    for (int i = 0; i < 9; ++i)
        st_global(&row[i], values[i]);
}

TARPON_TEST(test_ptx_position) {
    testing::require_device();
    constexpr int kGrid[3] = {3, 2, 2}, kThreads = 96;
    DeviceBuffer<int> out(9 * 12 * kThreads);
    run(position_kernel, dim3(kGrid[0], kGrid[1], kGrid[2]), kThreads, 0, out.data());
    const auto values = out.to_host();
    for (int block = 0; block < 12; ++block) {
        for (int t = 0; t < kThreads; ++t) {
            const int expected[9] = {t,         t / 32,    t % 32,
                                     kThreads,  block % 3, block / 3 % 2,
                                     block / 6, kGrid[0],  kGrid[1]};
            for (int i = 0; i < 9; ++i) {
                CHECK_EQ(values[size_t(9 * (block * kThreads + t) + i)], expected[i],
                         "block %d thread %d value %d", block, t, i);
            }
        }
    }
}

// ---- Plain accesses ---------------------------------------------------------------------------

template <class T>
struct AccessStorage {
    T values[64];
};

// Global -> shared -> the neighbour's place in global, by both kinds of global load.
template <class T>
TARPON_KERNEL void access_kernel(const T *in, T *out) {
    auto &storage = shared_storage<AccessStorage<T>>();
    const int t = thread_idx();
    st_shared(&storage.values[t], ld_global(&in[t]));
    sync_threads();
    st_global(&out[t], ld_shared(&storage.values[t ^ 33]));
    st_global(&out[64 + t], ld_global_nc(&in[64 + t]));
}

template <class T>
void check_access() {
    Random random(sizeof(T));
    std::vector<T> in(128);
    for (size_t i = 0; i < in.size() * sizeof(T); ++i) {
        reinterpret_cast<unsigned char *>(in.data())[i] = uint8_t(random.bits());
    }
    DeviceBuffer<T> device_in(in), out(128);
    run(access_kernel<T>, 1, 64, sizeof(AccessStorage<T>), device_in.data(), out.data());
    const auto values = out.to_host();
    for (size_t i = 0; i < 128; ++i) {
        const size_t source = i < 64 ? i ^ 33 : i;
        CHECK(std::memcmp(&values[i], &in[source], sizeof(T)) == 0, "%zu bytes, element %zu",
              sizeof(T), i);
    }
    CHECK(out.guards_intact());
}

TARPON_TEST(test_ptx_accesses_of_every_size) {
    testing::require_device();
    check_access<uint8_t>();
    check_access<half_t>();
    check_access<float>();
    check_access<u32x2>();
    check_access<u32x4>();
}

// ---- cp.async ---------------------------------------------------------------------------------

constexpr int kCopySlots = 64;

struct CopyStorage {
    alignas(16) uint8_t bytes[kCopySlots * 16];
};

// Slot t: kBytes bytes of which t % (kBytes + 1) are read, the rest zero-filled.
template <int kBytes, bool kHint>
TARPON_KERNEL void copy_kernel(const uint8_t *in, uint8_t *out) {
    auto &storage = shared_storage<CopyStorage>();
    const int t = thread_idx();
    const int src_bytes = t % (kBytes + 1);
    if constexpr (kHint) {
        cp_async_16_hint(&storage.bytes[t * 16], in + t * 16, src_bytes,
                         create_policy_evict_first());
    } else if constexpr (kBytes == 16) {
        cp_async_16(&storage.bytes[t * 16], in + t * 16, src_bytes);
    } else {
        cp_async<kBytes>(&storage.bytes[t * 16], in + t * 16, src_bytes);
    }
    cp_async_commit();
    cp_async_wait<0>();
    sync_threads();
    for (int i = 0; i < kBytes; ++i) {
        const int from = (t ^ 32) * 16 + i;  // a slot that another warp copied
        st_global(&out[from], ld_shared(&storage.bytes[from]));
    }
}

template <int kBytes, bool kHint = false>
void check_copy() {
    std::vector<uint8_t> in(kCopySlots * 16);
    for (size_t i = 0; i < in.size(); ++i)
        in[i] = uint8_t(i * 37 + 11);
    DeviceBuffer<uint8_t> device_in(in), out(in.size());
    run(copy_kernel<kBytes, kHint>, 1, kCopySlots, sizeof(CopyStorage), device_in.data(),
        out.data());
    const auto values = out.to_host();
    for (int t = 0; t < kCopySlots; ++t) {
        for (int i = 0; i < kBytes; ++i) {
            const auto at = size_t(t * 16 + i);
            const uint8_t expected = i < t % (kBytes + 1) ? in[at] : uint8_t(0);
            CHECK_EQ(int(values[at]), int(expected), "copy of %d, slot %d byte %d", kBytes, t, i);
        }
    }
}

TARPON_TEST(test_ptx_cp_async_fills_with_zeros) {
    testing::require_device();
    check_copy<4>();
    check_copy<8>();
    check_copy<16>();
    check_copy<16, true>();
}

// Reads nothing through a pointer of which no byte is asked for.
TARPON_KERNEL void copy_nothing_kernel(uint32_t *out) {
    auto &storage = shared_storage<CopyStorage>();
    const int t = thread_idx();
    cp_async_16(&storage.bytes[t * 16], out, 0);
    cp_async_commit();
    cp_async_wait<0>();
    st_global(&out[t], ld_shared(reinterpret_cast<const uint32_t *>(&storage.bytes[t * 16])));
}

TARPON_TEST(test_ptx_cp_async_of_nothing) {
    testing::require_device();
    DeviceBuffer<uint32_t> out(kLanes);
    run(copy_nothing_kernel, 1, kLanes, sizeof(CopyStorage), out.data());
    for (uint32_t value : out.to_host())
        CHECK_EQ(value, 0u);
}

// Four groups; the wait for all but two lets the first two be read.
TARPON_KERNEL void copy_groups_kernel(const uint32_t *in, uint32_t *out) {
    auto &storage = shared_storage<CopyStorage>();
    auto *words = reinterpret_cast<uint32_t *>(storage.bytes);
    const int t = thread_idx();
    for (int group = 0; group < 4; ++group) {
        cp_async<4>(&words[group * kLanes + t], in + group * kLanes + t);
        cp_async_commit();
    }
    cp_async_wait<2>();
    for (int group = 0; group < 2; ++group) {
        st_global(&out[group * kLanes + t], ld_shared(&words[group * kLanes + t]));
    }
    cp_async_wait<0>();
    for (int group = 2; group < 4; ++group) {
        st_global(&out[group * kLanes + t], ld_shared(&words[group * kLanes + t]));
    }
}

TARPON_TEST(test_ptx_cp_async_groups_arrive_in_order) {
    testing::require_device();
    std::vector<uint32_t> in(4 * kLanes);
    for (size_t i = 0; i < in.size(); ++i)
        in[i] = uint32_t(i) * 2654435761u;
    DeviceBuffer<uint32_t> device_in(in), out(in.size());
    run(copy_groups_kernel, 1, kLanes, sizeof(CopyStorage), device_in.data(), out.data());
    const auto values = out.to_host();
    for (size_t i = 0; i < in.size(); ++i)
        CHECK_EQ(values[i], in[i], "word %zu", i);
}

// ---- ldmatrix ---------------------------------------------------------------------------------

struct LdmatrixStorage {
    alignas(16) uint16_t rows[32][8];
};

// Row r of matrix m lies in slot (8m + r) * 5 % 32, its elements are 64m + 8r + c.
TARPON_KERNEL void ldmatrix_kernel(uint32_t *out) {
    auto &storage = shared_storage<LdmatrixStorage>();
    const int lane = lane_id();
    const int slot = lane * 5 % 32;
    for (int c = 0; c < 8; ++c)
        st_shared(&storage.rows[slot][c], uint16_t(8 * lane + c));
    sync_warp();
    uint32_t x4[4], x2[2], x4_trans[4], x2_trans[2];
    ldmatrix_x4(x4, storage.rows[slot]);
    ldmatrix_x2(x2, storage.rows[slot]);
    ldmatrix_x4_trans(x4_trans, storage.rows[slot]);
    ldmatrix_x2_trans(x2_trans, storage.rows[slot]);
    for (int i = 0; i < 4; ++i)
        st_global(&out[i * kLanes + lane], x4[i]);
    for (int i = 0; i < 4; ++i)
        st_global(&out[(4 + i) * kLanes + lane], x4_trans[i]);
    for (int i = 0; i < 2; ++i)
        st_global(&out[(8 + i) * kLanes + lane], x2[i]);
    for (int i = 0; i < 2; ++i)
        st_global(&out[(10 + i) * kLanes + lane], x2_trans[i]);
}

TARPON_TEST(test_ptx_ldmatrix) {
    testing::require_device();
    DeviceBuffer<uint32_t> out(12 * kLanes);
    run(ldmatrix_kernel, 1, kLanes, sizeof(LdmatrixStorage), out.data());
    const auto values = out.to_host();
    struct Kind {
        const char *name;
        int first, matrices;
        bool trans;
    };
    const Kind kinds[] = {{"x4", 0, 4, false},
                          {"x4.trans", 4, 4, true},
                          {"x2", 8, 2, false},
                          {"x2.trans", 10, 2, true}};
    for (const auto &kind : kinds) {
        for (int m = 0; m < kind.matrices; ++m) {
            for (int r = 0; r < 8; ++r) {
                for (int c = 0; c < 8; ++c) {
                    const int thread = figures::parse(figures::kLdmatrix[r], c / 2).thread;
                    const uint32_t pair = values[size_t((kind.first + m) * kLanes + thread)];
                    const int element = int(pair >> (16 * (c % 2)) & 0xffff);
                    const int lane = figures::kLdmatrixAddress[m][kind.trans ? c : r];
                    CHECK_EQ(element, 8 * lane + (kind.trans ? r : c), "%s matrix %d (%d, %d)",
                             kind.name, m, r, c);
                }
            }
        }
    }
}

// ---- Exchange between lanes -------------------------------------------------------------------

// Element (r, c) is 100 * r + c.
TARPON_KERNEL void movmatrix_kernel(uint32_t *out) {
    const int lane = lane_id();
    const layout::Coord low = layout::Ldmatrix::element(lane, 0),
                        high = layout::Ldmatrix::element(lane, 1);
    const uint32_t matrix = uint32_t(100 * low.row + low.col) | uint32_t(100 * high.row + high.col)
                                                                    << 16;
    st_global(&out[lane], movmatrix_trans(matrix));
}

TARPON_TEST(test_ptx_movmatrix_trans) {
    testing::require_device();
    DeviceBuffer<uint32_t> out(kLanes);
    run(movmatrix_kernel, 1, kLanes, 0, out.data());
    const auto values = out.to_host();
    for (int lane = 0; lane < kLanes; ++lane) {
        for (int half = 0; half < 2; ++half) {
            const layout::Coord at = layout::Ldmatrix::element_trans(lane, half);
            CHECK_EQ(values[size_t(lane)] >> (16 * half) & 0xffff, uint32_t(100 * at.row + at.col),
                     "lane %d, half %d", lane, half);
        }
    }
}

// 32 masks, 32 deltas and 33 source lanes (the last wraps), then a ballot.
TARPON_KERNEL void shuffle_kernel(int *out) {
    const int lane = lane_id();
    const int value = 1000 + lane;
    for (int i = 0; i < 32; ++i)
        st_global(&out[i * kLanes + lane], shfl_xor(value, i));
    for (int i = 0; i < 32; ++i)
        st_global(&out[(32 + i) * kLanes + lane], shfl_down(value, i));
    for (int i = 0; i < 33; ++i)
        st_global(&out[(64 + i) * kLanes + lane], shfl(value, i));
    st_global(&out[97 * kLanes + lane], shfl(value, (lane + 7) % 32));
    st_global(&out[98 * kLanes + lane], int(shfl_xor(float(lane) + 0.5f, 1) * 2));
    st_global(&out[99 * kLanes + lane], int(ballot(lane % 3 == 0)));
}

TARPON_TEST(test_ptx_shuffles_and_ballot) {
    testing::require_device();
    DeviceBuffer<int> out(100 * kLanes);
    run(shuffle_kernel, 1, kLanes, 0, out.data());
    const auto values = out.to_host();
    const auto at = [&](int row, int lane) { return values[size_t(row * kLanes + lane)]; };
    for (int lane = 0; lane < kLanes; ++lane) {
        for (int i = 0; i < 32; ++i) {
            CHECK_EQ(at(i, lane), 1000 + (lane ^ i), "xor %d, lane %d", i, lane);
            CHECK_EQ(at(32 + i, lane), 1000 + (lane + i < 32 ? lane + i : lane), "down %d, lane %d",
                     i, lane);
            CHECK_EQ(at(64 + i, lane), 1000 + i, "from %d, lane %d", i, lane);
        }
        CHECK_EQ(at(96, lane), 1000, "from 32, lane %d", lane);
        CHECK_EQ(at(97, lane), 1000 + (lane + 7) % 32, "rotate, lane %d", lane);
        CHECK_EQ(at(98, lane), 2 * (lane ^ 1) + 1, "float, lane %d", lane);
        CHECK_EQ(uint32_t(at(99, lane)), 0x49249249u, "ballot, lane %d", lane);
    }
}

// ---- Barriers ---------------------------------------------------------------------------------

struct BarrierStorage {
    int slots[128];
};

// Warps 0 and 1 exchange through barrier 1 while warps 2 and 3 do through barrier 2; then warp 0
// produces for warp 3, which waits where warp 0 only arrives.
TARPON_KERNEL void named_barrier_kernel(int *out) {
    auto &storage = shared_storage<BarrierStorage>();
    const int t = thread_idx();
    const int pair = warp_id() / 2;
    st_shared(&storage.slots[t], 10 * t);
    named_barrier_sync(1 + pair, 64);
    st_global(&out[t], ld_shared(&storage.slots[t ^ 32]));
    sync_threads();
    if (warp_id() == 0) {
        st_shared(&storage.slots[t], 7 * t);
        named_barrier_arrive(3, 64);
    } else if (warp_id() == 3) {
        named_barrier_sync(3, 64);
        st_global(&out[128 + lane_id()], ld_shared(&storage.slots[31 - lane_id()]));
    }
}

TARPON_TEST(test_ptx_named_barriers) {
    testing::require_device();
    DeviceBuffer<int> out(160);
    run(named_barrier_kernel, 1, 128, sizeof(BarrierStorage), out.data());
    const auto values = out.to_host();
    for (int t = 0; t < 128; ++t)
        CHECK_EQ(values[size_t(t)], 10 * (t ^ 32), "thread %d", t);
    for (int lane = 0; lane < 32; ++lane) {
        CHECK_EQ(values[size_t(128 + lane)], 7 * (31 - lane), "lane %d", lane);
    }
}

// ---- Order between blocks ---------------------------------------------------------------------

// Blocks pass a running sum on, each waiting for its predecessor; the last resets the lock.
TARPON_KERNEL void chain_kernel(int32_t *lock, int32_t *sum, int32_t *tickets, int32_t *arrivals) {
    const int me = block_idx();
    if (thread_idx() == 0) {
        st_global(&tickets[me], atomic_add(arrivals, 1));
        while (ld_acquire(lock) != me) {
        }
    }
    sync_threads();
    if (thread_idx() < 4) {
        const int32_t before = me == 0 ? 0 : ld_global(&sum[thread_idx()]);
        st_global(&sum[thread_idx()], before + me + thread_idx());
    }
    sync_threads();
    fence_acq_rel_gpu();
    if (thread_idx() == 0) {
        if (me + 1 == grid_dim()) {
            st_release(lock, 0);
        } else {
            red_release_add(lock, 1);
        }
    }
}

TARPON_TEST(test_ptx_blocks_pass_a_lock_on) {
    testing::require_device();
    constexpr int kBlocks = 6;
    DeviceBuffer<int32_t> sum(4), tickets(kBlocks);
    DeviceBuffer<int32_t> lock(std::vector<int32_t>{0}), arrivals(std::vector<int32_t>{0});
    for (int repeat = 1; repeat <= 3; ++repeat) {  // the lock is left as it was found
        run(chain_kernel, kBlocks, 64, 0, lock.data(), sum.data(), tickets.data(), arrivals.data());
        const auto sums = sum.to_host();
        for (int i = 0; i < 4; ++i) {
            CHECK_EQ(sums[size_t(i)], kBlocks * (kBlocks - 1) / 2 + kBlocks * i, "sum %d", i);
        }
        CHECK_EQ(lock.to_host()[0], 0);
        CHECK_EQ(arrivals.to_host()[0], repeat * kBlocks);
        uint32_t seen = 0;
        for (int32_t ticket : tickets.to_host())
            seen |= 1u << (ticket % kBlocks);
        CHECK_EQ(seen, (1u << kBlocks) - 1);
    }
}

// ---- Launches ---------------------------------------------------------------------------------

struct LargeStorage {
    uint32_t words[80 * 1024 / 4];
};

TARPON_KERNEL void large_kernel(uint32_t *out) {
    auto &storage = shared_storage<LargeStorage>();
    constexpr int kWords = sizeof(LargeStorage) / 4;
    for (int i = thread_idx(); i < kWords; i += block_dim())
        st_shared(&storage.words[i], 3u * i);
    sync_threads();
    const int mirrored = kWords - 1 - thread_idx();
    st_global(&out[thread_idx()], ld_shared(&storage.words[mirrored]));
}

TARPON_TEST(test_launch_needs_prepare_above_48_kib) {
    testing::require_device();
    DeviceBuffer<uint32_t> out(64);
    const cudaError_t refused =
        launch(large_kernel, 1, 64, sizeof(LargeStorage), nullptr, out.data());
    CHECK_EQ(refused, cudaErrorInvalidValue);
    (void)cudaGetLastError();
    check_cuda(prepare(large_kernel, sizeof(LargeStorage)), "prepare");
    run(large_kernel, 1, 64, sizeof(LargeStorage), out.data());
    const auto values = out.to_host();
    for (uint32_t t = 0; t < 64; ++t) {
        CHECK_EQ(values[t], 3 * (uint32_t(sizeof(LargeStorage) / 4) - 1 - t), "thread %u", t);
    }
    CHECK(prepare(large_kernel, size_t(1) << 20) != cudaSuccess);  // no device has 1 MiB
    (void)cudaGetLastError();
}

}  // namespace
}  // namespace tarpon::conformance
