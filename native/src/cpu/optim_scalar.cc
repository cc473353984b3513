// The optimizers for any x86-64, one float at a time: the reference for the wide kernels.
#include <algorithm>
#include <cstring>

#include "cpu/optim_kernel.h"
#include "cpu/optim_repeat.h"
#include "optim/codec.h"
#include "optim/rules.h"

namespace tarpon::cpu {
namespace {

#include "cpu/optim_block.inl.h"

struct ScalarLanes {
    using F = float;
    using Wide = float;
    static constexpr int kWidth = 1;

    static F load(const float *p) { return *p; }
    static void store(float *p, F x) { *p = x; }
    static Wide load_wide(const float *p) { return *p; }
    static Wide joined(const F *values) { return *values; }

    template <class T>
    static void widen(const T *source, int64_t n, float *out) {
        for (int64_t i = 0; i < n; ++i)
            out[i] = to_float(source[i]);
    }
    template <class T>
    static void narrow(const float *source, int64_t n, T *out) {
        for (int64_t i = 0; i < n; ++i)
            out[i] = from_float<T>(source[i]);
    }

    static void decode_64(MapKind kind, const uint8_t *codes, float factor, float *out) {
        for (int i = 0; i < kPad; ++i)
            out[i] = decode(code_map(kind), codes[i]) * factor;
    }
    static void encode_64(MapKind kind, const float *values, float factor, uint8_t *codes) {
        for (int i = 0; i < kPad; ++i)
            codes[i] = static_cast<uint8_t>(encode(code_map(kind), values[i] * factor));
    }
    static void decode_fp8_64(const uint8_t *codes, Fp8Group group, float *out) {
        // Memory of zeros is a legal initial state.
        const float power = group.power > 0 ? 1.0f / group.power : 1.0f;
        for (int i = 0; i < kPad; ++i) {
            const float value = decode(code_map(MapKind::kFp8E4M3), codes[i]);
            out[i] = lanes::signed_power(value, power) * group.absmax;
        }
    }
    static void expand_fp8_64(const float *values, Fp8Group group, float *out) {
        const float inverse = reciprocal_absmax(group.absmax);
        for (int i = 0; i < kPad; ++i)
            out[i] = lanes::signed_power(values[i] * inverse, group.power);
    }
    static void encode_fp8_64(const float *values, Fp8Group group, uint8_t *codes) {
        float powers[kPad];
        expand_fp8_64(values, group, powers);
        encode_64(MapKind::kFp8E4M3, powers, 1.0f, codes);
    }
    static void encode_stochastic_64(MapKind kind, const float *values, float factor, RandomKey key,
                                     int64_t index, uint8_t *codes) {
        for (int i = 0; i < kPad; ++i) {
            codes[i] = static_cast<uint8_t>(
                encode_stochastic(code_map(kind), values[i] * factor, random_bits(key, index + i)));
        }
    }
    static void round_to_bf16_64(const float *values, RandomKey key, int64_t index, float *out) {
        for (int i = 0; i < kPad; ++i)
            out[i] = to_float(bf16_stochastic(values[i], random_bits(key, index + i)));
    }

    class Largest {
      public:
        void add(float x) { bits_ = std::max(bits_, lanes::as_bits(x) & 0x7fffffffu); }
        void add(const Largest &other) { bits_ = std::max(bits_, other.bits_); }
        uint32_t bits() const { return bits_; }
        bool all_below(float multiplier, float limit) const {
            return lanes::as_float(bits_) * multiplier < limit;
        }

      private:
        uint32_t bits_ = 0;
    };
    class Smallest {
      public:
        // Zero wraps to the largest number and never wins.
        void add(float x) { below_ = std::min(below_, (lanes::as_bits(x) & 0x7fffffffu) - 1); }
        void add(const Smallest &other) { below_ = std::min(below_, other.below_); }
        uint32_t bits() const { return below_ + 1; }

      private:
        uint32_t below_ = ~0u;
    };
    class Sum {
      public:
        void add(int64_t i, F x) {
            sums_[i % 16] = __builtin_fma(double(x), double(x), sums_[i % 16]);
        }
        double total() const {
            double sums[16];
            std::copy(sums_, sums_ + 16, sums);
            for (int half = 8; half > 0; half /= 2) {
                for (int i = 0; i < half; ++i)
                    sums[i] += sums[i + half];
            }
            return sums[0];
        }

      private:
        double sums_[16] = {};
    };
};

constexpr OptimKernel kKernel = make_kernel<ScalarLanes>();

}  // namespace

const OptimKernel &scalar_optim_kernel() {
    return kKernel;
}

}  // namespace tarpon::cpu
