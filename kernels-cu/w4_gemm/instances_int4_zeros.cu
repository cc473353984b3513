#include "w4_gemm/instances.cuh"

namespace tarpon::w4_gemm {

template const Kernel &kernel<Int4Integer>(Activation, bool, int);
template const Kernel &kernel<Int4Float>(Activation, bool, int);

}  // namespace tarpon::w4_gemm
