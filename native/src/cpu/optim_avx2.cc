// The optimizers for AVX2 with FMA and F16C, eight floats at a time.
#include "cpu/optim_vector_avx2.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "cpu/optim_kernel.h"
#include "cpu/optim_repeat.h"
#include "optim/codec.h"
#include "optim/rules.h"

namespace tarpon::cpu {
namespace {

using F = F32x8;

#include "cpu/optim_codes.inl.h"
#include "cpu/optim_lanes.inl.h"

#include "cpu/optim_block.inl.h"

constexpr OptimKernel kKernel = make_kernel<VectorLanes>();

}  // namespace

const OptimKernel &avx2_optim_kernel() {
    return kKernel;
}

}  // namespace tarpon::cpu
