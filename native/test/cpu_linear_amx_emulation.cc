// Tiles in plain C++, after the operation sections of Intel SDM volume 2. Compiled for AVX-512, as
// the kernels around them are: see linear_kernel.h for what that forbids here.
#include "cpu_linear_amx_emulation.h"

#include "cpu/linear_amx.inl.h"

namespace tarpon::cpu {
namespace {

long instruction_count = 0, fault_count = 0;

struct TileState {
    bool configured = false;
    TileConfig config;
    uint8_t data[kTiles][kAmxRows][kAmxRowBytes];
};
thread_local TileState state;

void count(bool valid) {
    __atomic_fetch_add(&instruction_count, 1, __ATOMIC_RELAXED);
    if (!valid) __atomic_fetch_add(&fault_count, 1, __ATOMIC_RELAXED);
}

// A subnormal counts as a zero of its sign.
float flushed(float value) {
    return __builtin_fabsf(value) < 0x1p-126f ? __builtin_copysignf(0.0f, value) : value;
}

float bf16_at(const uint8_t *row, int i) {
    uint16_t bits;
    __builtin_memcpy(&bits, row + 2 * i, sizeof bits);
    return flushed(__builtin_bit_cast(float, uint32_t{bits} << 16));
}

template <class T>
T lane(const uint8_t *row, int i) {
    T value;
    __builtin_memcpy(&value, row + 4 * i, sizeof value);
    return value;
}

template <class T>
void set_lane(uint8_t *row, int i, T value) {
    __builtin_memcpy(row + 4 * i, &value, sizeof value);
}

struct EmulatedTiles {
    static void configure(const TileConfig &config) {
        bool valid = config.palette == 1 && config.start_row == 0;
        for (int i = 0; i < 16; ++i) {
            valid = valid && config.rows[i] <= kAmxRows && config.row_bytes[i] <= kAmxRowBytes;
            valid = valid && (config.rows[i] == 0) == (config.row_bytes[i] == 0);
            valid = valid && (i < kTiles || config.rows[i] == 0);
        }
        count(valid);
        state.configured = valid;
        state.config = config;
        __builtin_memset(state.data, 0, sizeof state.data);
    }
    static void release() {
        count(state.configured);
        state.configured = false;
    }
    template <int kTile>
    static void zero() {
        count(usable(kTile));
        __builtin_memset(state.data[kTile], 0, sizeof state.data[kTile]);
    }
    // Rows and columns beyond the configured ones become 0.
    template <int kTile>
    static void load(const void *data, int64_t stride_bytes) {
        zero<kTile>();
        for (int r = 0; r < state.config.rows[kTile]; ++r) {
            __builtin_memcpy(state.data[kTile][r],
                             static_cast<const uint8_t *>(data) + r * stride_bytes,
                             state.config.row_bytes[kTile]);
        }
    }
    template <int kTile>
    static void store(void *data, int64_t stride_bytes) {
        count(usable(kTile));
        for (int r = 0; r < state.config.rows[kTile]; ++r) {
            __builtin_memcpy(static_cast<uint8_t *>(data) + r * stride_bytes, state.data[kTile][r],
                             state.config.row_bytes[kTile]);
        }
    }
    template <int kC, int kA, int kB>
    static void dot_bf16() {
        count(fit(kC, kA, kB));
        for (int m = 0; m < state.config.rows[kC]; ++m) {
            for (int n = 0; n < state.config.row_bytes[kC] / 4; ++n) {
                float even = 0.0f, odd = 0.0f;
                for (int k = 0; k < state.config.row_bytes[kA] / 4; ++k) {
                    const uint8_t *a = state.data[kA][m], *b = state.data[kB][k];
                    even = flushed(__builtin_fmaf(bf16_at(a, 2 * k), bf16_at(b, 2 * n), even));
                    odd =
                        flushed(__builtin_fmaf(bf16_at(a, 2 * k + 1), bf16_at(b, 2 * n + 1), odd));
                }
                uint8_t *c = state.data[kC][m];
                const float sum = flushed(even + odd);
                set_lane(c, n, flushed(flushed(lane<float>(c, n)) + sum));
            }
        }
    }
    template <int kC, int kA, int kB>
    static void dot_int8() {
        count(fit(kC, kA, kB));
        for (int m = 0; m < state.config.rows[kC]; ++m) {
            for (int n = 0; n < state.config.row_bytes[kC] / 4; ++n) {
                uint8_t *c = state.data[kC][m];
                auto sum = lane<int32_t>(c, n);
                for (int k = 0; k < state.config.row_bytes[kA]; ++k) {
                    const auto a = static_cast<int8_t>(state.data[kA][m][k]);
                    sum += a * state.data[kB][k / 4][4 * n + k % 4];
                }
                set_lane(c, n, sum);
            }
        }
    }

  private:
    static bool usable(int tile) { return state.configured && state.config.rows[tile] > 0; }
    static bool fit(int c, int a, int b) {
        const TileConfig &t = state.config;
        return usable(c) && usable(a) && usable(b) && t.rows[c] == t.rows[a] &&
               t.row_bytes[a] == 4 * t.rows[b] && t.row_bytes[b] == t.row_bytes[c];
    }
};

}  // namespace

const LinearKernel *emulated_amx_kernel(tarpon_weight_type type, tarpon_dtype dtype) {
    return amx_exact_kernel<EmulatedTiles>(type, dtype);
}

const LinearKernel *emulated_amx_int8_kernel(tarpon_weight_type type, tarpon_dtype dtype) {
    return amx_int8_kernel<EmulatedTiles>(type, dtype);
}

EmulatedTileCounts emulated_tile_counts() {
    return {__atomic_load_n(&instruction_count, __ATOMIC_RELAXED),
            __atomic_load_n(&fault_count, __ATOMIC_RELAXED)};
}

}  // namespace tarpon::cpu
