#include "w4_gemm/instances.cuh"

namespace tarpon::w4_gemm {

template const Kernel &kernel<Int4Sparse>(Activation, bool, int);

}  // namespace tarpon::w4_gemm
