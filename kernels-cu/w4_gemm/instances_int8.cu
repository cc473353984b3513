#include "w4_gemm/instances.cuh"

namespace tarpon::w4_gemm {

template const Kernel &kernel<Int8Symmetric>(Activation, bool, int);
template const Kernel &kernel<Int8Float>(Activation, bool, int);
template const Kernel &kernel<Fp8E4m3>(Activation, bool, int);

}  // namespace tarpon::w4_gemm
