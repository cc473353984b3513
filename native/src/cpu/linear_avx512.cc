// The linear kernels of AVX-512 F/BW/DQ/VL: every dtype through binary32 FMAs.
#include "cpu/linear_avx512.inl.h"

namespace tarpon::cpu {

const LinearKernel *avx512_linear_kernel(tarpon_dtype dtype) {
    switch (dtype) {
        case TARPON_F32:
            return &kLinearKernel<FmaArithmetic<F32>>;
        case TARPON_F16:
            return &kLinearKernel<FmaArithmetic<F16>>;
        case TARPON_BF16:
            return &kLinearKernel<FmaArithmetic<Bf16>>;
    }
    return nullptr;
}

}  // namespace tarpon::cpu
