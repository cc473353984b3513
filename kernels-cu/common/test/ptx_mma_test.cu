// The matrix multiplications of ptx.cuh on small integers, of which every product and sum is exact:
// results must be bit-equal to a plain loop, on the simulator and on a GPU. Fragments are laid out by
// the hand-typed figures, not by layout.h.
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
using testing::DeviceBuffer;
using testing::Random;

// Puts the accumulators' 16x8 values into registers, and checks them coming back.
template <class Value>
std::vector<Value> scatter_c(const Value (&c)[16][8]) {
    std::vector<Value> regs(128);
    for (int m = 0; m < 16; ++m) {
        for (int n = 0; n < 8; ++n) {
            const auto [thread, reg] = figures::parse(figures::kMmaC[m], n);
            regs[size_t(4 * thread + reg)] = c[m][n];
        }
    }
    return regs;
}

template <class Value>
void check_d(const std::vector<Value> &regs, const Value (&expected)[16][8], const char *what) {
    for (int m = 0; m < 16; ++m) {
        for (int n = 0; n < 8; ++n) {
            const auto [thread, reg] = figures::parse(figures::kMmaC[m], n);
            CHECK_EQ(regs[size_t(4 * thread + reg)], expected[m][n], "%s: D(%d, %d)", what, m, n);
        }
    }
}

template <class Value, int kRows, int kCols>
void fill(Value (&matrix)[kRows][kCols], Random &random, int limit) {
    for (auto &row : matrix) {
        for (Value &value : row)
            value = Value(random.integer(-limit, limit));
    }
}

// d = a * b + c by a plain loop.
template <class Value, int kK>
void multiply(const Value (&a)[16][kK], const Value (&b)[kK][8], const Value (&c)[16][8],
              Value (&d)[16][8]) {
    for (int m = 0; m < 16; ++m) {
        for (int n = 0; n < 8; ++n) {
            d[m][n] = c[m][n];
            for (int k = 0; k < kK; ++k)
                d[m][n] += a[m][k] * b[k][n];
        }
    }
}

// Adds a 16-bit value to the half of a register that holds element `index` of its row or column.
template <class T>
void put_half(std::vector<uint32_t> &regs, int regs_per_thread, figures::Holder at, int index,
              float value) {
    regs[size_t(regs_per_thread * at.thread + at.reg)] |= uint32_t(from_float<T>(value).bits)
                                                          << (16 * (index % 2));
}
void put_byte(std::vector<uint32_t> &regs, int regs_per_thread, figures::Holder at, int index,
              int value) {
    regs[size_t(regs_per_thread * at.thread + at.reg)] |= uint32_t(uint8_t(value))
                                                          << (8 * (index % 4));
}

// ---- m16n8k16, 16-bit -------------------------------------------------------------------------

template <class T>
TARPON_KERNEL void mma_kernel(const uint32_t *a, const uint32_t *b, const float *c, float *d) {
    const int lane = lane_id();
    uint32_t a_regs[4], b_regs[2];
    float acc[4];
    for (int i = 0; i < 4; ++i)
        a_regs[i] = ld_global(&a[lane * 4 + i]);
    for (int i = 0; i < 2; ++i)
        b_regs[i] = ld_global(&b[lane * 2 + i]);
    for (int i = 0; i < 4; ++i)
        acc[i] = ld_global(&c[lane * 4 + i]);
    mma_m16n8k16<T>(acc, a_regs, b_regs);
    for (int i = 0; i < 4; ++i)
        st_global(&d[lane * 4 + i], acc[i]);
}

template <class T>
void check_mma(uint64_t seed) {
    Random random(seed);
    float a[16][16], b[16][8], c[16][8], expected[16][8];
    fill(a, random, 15);
    fill(b, random, 15);
    fill(c, random, 1000);
    multiply(a, b, c, expected);
    std::vector<uint32_t> a_regs(128), b_regs(64);
    for (int k = 0; k < 16; ++k) {
        for (int m = 0; m < 16; ++m) {
            put_half<T>(a_regs, 4, figures::parse(figures::kMmaA[m], k / 2), k, a[m][k]);
        }
        for (int n = 0; n < 8; ++n) {
            put_half<T>(b_regs, 2, figures::parse(figures::kMmaB[k / 2], n), k, b[k][n]);
        }
    }
    DeviceBuffer<uint32_t> device_a(a_regs), device_b(b_regs);
    DeviceBuffer<float> device_c(scatter_c(c)), d(128);
    run(mma_kernel<T>, 1, 32, 0, device_a.data(), device_b.data(), device_c.data(), d.data());
    check_d(d.to_host(), expected, "m16n8k16");
}

TARPON_TEST(test_ptx_mma_m16n8k16) {
    testing::require_device();
    for (uint64_t seed = 1; seed <= 4; ++seed) {
        check_mma<half_t>(seed);
        check_mma<bf16_t>(seed);
    }
}

// ---- m16n8k32, bytes --------------------------------------------------------------------------

TARPON_KERNEL void mma_s8_kernel(const uint32_t *a, const uint32_t *b, const int32_t *c,
                                 int32_t *d) {
    const int lane = lane_id();
    uint32_t a_regs[4], b_regs[2];
    int32_t acc[4];
    for (int i = 0; i < 4; ++i)
        a_regs[i] = ld_global(&a[lane * 4 + i]);
    for (int i = 0; i < 2; ++i)
        b_regs[i] = ld_global(&b[lane * 2 + i]);
    for (int i = 0; i < 4; ++i)
        acc[i] = ld_global(&c[lane * 4 + i]);
    mma_m16n8k32_s8(acc, a_regs, b_regs);
    for (int i = 0; i < 4; ++i)
        st_global(&d[lane * 4 + i], acc[i]);
}

TARPON_TEST(test_ptx_mma_m16n8k32_s8) {
    testing::require_device();
    for (uint64_t seed = 1; seed <= 4; ++seed) {
        Random random(seed);
        int32_t a[16][32], b[32][8], c[16][8], expected[16][8];
        fill(a, random, 127);
        fill(b, random, 127);
        fill(c, random, 1'000'000);
        a[3][5] = b[5][2] = -128;
        multiply(a, b, c, expected);
        std::vector<uint32_t> a_regs(128), b_regs(64);
        for (int k = 0; k < 32; ++k) {
            for (int m = 0; m < 16; ++m) {
                put_byte(a_regs, 4, figures::parse(figures::kMmaA[m], k / 4), k, a[m][k]);
            }
            for (int n = 0; n < 8; ++n) {
                put_byte(b_regs, 2, figures::parse(figures::kMmaB[k / 4], n), k, b[k][n]);
            }
        }
        DeviceBuffer<uint32_t> device_a(a_regs), device_b(b_regs);
        DeviceBuffer<int32_t> device_c(scatter_c(c)), d(128);
        run(mma_s8_kernel, 1, 32, 0, device_a.data(), device_b.data(), device_c.data(), d.data());
        check_d(d.to_host(), expected, "m16n8k32 s8");
    }
}

// ---- m16n8k32, sparse -------------------------------------------------------------------------

template <class T, int kSelector>
TARPON_KERNEL void mma_sp_kernel(const uint32_t *a, const uint32_t *b, const uint32_t *metadata,
                                 const float *c, float *d) {
    const int lane = lane_id();
    uint32_t a_regs[4], b_regs[4];
    float acc[4];
    for (int i = 0; i < 4; ++i)
        a_regs[i] = ld_global(&a[lane * 4 + i]);
    for (int i = 0; i < 4; ++i)
        b_regs[i] = ld_global(&b[lane * 4 + i]);
    for (int i = 0; i < 4; ++i)
        acc[i] = ld_global(&c[lane * 4 + i]);
    mma_sp_m16n8k32<T, kSelector>(acc, a_regs, b_regs, ld_global(&metadata[lane]));
    for (int i = 0; i < 4; ++i)
        st_global(&d[lane * 4 + i], acc[i]);
}

// The six ways to keep two of four columns.
constexpr int kPairs[6][2] = {{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}};

template <class T, int kSelector>
void check_mma_sp(uint64_t seed) {
    Random random(seed);
    float a[16][32] = {}, b[32][8], c[16][8], expected[16][8];
    fill(b, random, 15);
    fill(c, random, 1000);
    // The other selector's metadata names columns that would give something else.
    std::vector<uint32_t> a_regs(128), b_regs(128), metadata(32, 0xeeeeeeeeu);
    for (int m = 0; m < 16; ++m) {
        for (int chunk = 0; chunk < 8; ++chunk) {
            const auto &pair = kPairs[random.integer(0, 5)];
            const auto [thread, bit] =
                figures::parse(figures::kMmaSparseMetadata[m], 2 * kSelector + chunk / 4);
            const int shift = bit + 4 * (chunk % 4);
            metadata[size_t(thread)] &= ~(15u << shift);
            metadata[size_t(thread)] |= uint32_t(pair[0] | pair[1] << 2) << shift;
            for (int i = 0; i < 2; ++i) {
                const auto value = float(random.integer(1, 15));
                a[m][4 * chunk + pair[i]] = value;
                put_half<T>(a_regs, 4, figures::parse(figures::kMmaA[m], chunk), i, value);
            }
        }
    }
    for (int k = 0; k < 32; ++k) {
        for (int n = 0; n < 8; ++n) {
            put_half<T>(b_regs, 4, figures::parse(figures::kMmaSparseB[k / 2], n), k, b[k][n]);
        }
    }
    multiply(a, b, c, expected);
    DeviceBuffer<uint32_t> device_a(a_regs), device_b(b_regs), device_metadata(metadata);
    DeviceBuffer<float> device_c(scatter_c(c)), d(128);
    run(mma_sp_kernel<T, kSelector>, 1, 32, 0, device_a.data(), device_b.data(),
        device_metadata.data(), device_c.data(), d.data());
    check_d(d.to_host(), expected, kSelector ? "sparse, selector 1" : "sparse, selector 0");
}

TARPON_TEST(test_ptx_mma_sp_m16n8k32) {
    testing::require_device();
    for (uint64_t seed = 1; seed <= 4; ++seed) {
        check_mma_sp<half_t, 0>(seed);
        check_mma_sp<half_t, 1>(seed);
        check_mma_sp<bf16_t, 0>(seed);
        check_mma_sp<bf16_t, 1>(seed);
    }
}

}  // namespace
}  // namespace tarpon::conformance
