// The Hadamard transform for any x86-64: a vector is one float.
#include "cpu/hadamard.inl.h"
#include "types.h"

namespace tarpon::cpu {
namespace {

struct ScalarVector {
    using Reg = float;
    static constexpr int kLanes = 1;
    static constexpr int kRadix = 8;

    template <class T>
    static Reg load(const T *p, int = 1) {
        return to_float(*p);
    }
    template <class T>
    static void store(T *p, Reg v, int = 1) {
        *p = from_float<T>(v);
    }
    static Reg add(Reg a, Reg b) { return a + b; }
    static Reg sub(Reg a, Reg b) { return a - b; }
    static Reg mul(Reg a, float b) { return a * b; }
};

}  // namespace

const HadamardKernels kScalarHadamard{{Hadamard<ScalarVector, float>::run,
                                       Hadamard<ScalarVector, half_t>::run,
                                       Hadamard<ScalarVector, bf16_t>::run}};

}  // namespace tarpon::cpu
