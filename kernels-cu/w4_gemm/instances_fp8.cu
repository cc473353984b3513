#include "w4_gemm/instances.cuh"

namespace tarpon::w4_gemm {

template const Kernel &kernel<Fp8E4m3>(Activation, bool, int);

}  // namespace tarpon::w4_gemm
