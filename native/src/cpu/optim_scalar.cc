// The optimizers for any x86-64, one float at a time: the reference for the wide kernels.
#include <algorithm>
#include <cstring>

#include "cpu/optim_kernel.h"
#include "optim/codec.h"
#include "optim/rules.h"

namespace tarpon::cpu {
namespace {

#include "cpu/optim_block.inl.h"

struct ScalarLanes {
    using F = float;
    static constexpr int kWidth = 1;

    static F load(const float *p) { return *p; }
    static void store(float *p, F x) { *p = x; }

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

    static void decode(const CodeMap &map, const uint8_t *codes, int64_t n, float factor,
                       float *out) {
        for (int64_t i = 0; i < n; ++i)
            out[i] = optim::decode(map, codes[i]) * factor;
    }
    static void encode(const CodeMap &map, const float *values, int64_t n, float factor,
                       uint8_t *codes) {
        for (int64_t i = 0; i < n; ++i)
            codes[i] = static_cast<uint8_t>(optim::encode(map, values[i] * factor));
    }

    using Key = uint32_t;
    static Key larger_key(Key key, F x) { return std::max(key, lanes::as_bits(x) & 0x7fffffffu); }
    static uint32_t largest_of(Key key) { return key; }

    static uint32_t largest_key(const float *values, int64_t n) {
        uint32_t largest = 0;
        for (int64_t i = 0; i < n; ++i)
            largest = std::max(largest, lanes::as_bits(values[i]) & 0x7fffffffu);
        return largest;
    }
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
