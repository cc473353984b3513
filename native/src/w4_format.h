// The linear family's descriptions in the words of kernels-cu/w4_gemm.
#pragma once

#include "backend.h"
#include "w4_gemm/prepare.h"

namespace tarpon {

// What decides the kernel format; shape and pointers are the caller's to fill in.
inline w4_gemm::PlainWeights w4_types(const LinearProblem &problem) {
    using namespace w4_gemm;
    constexpr CodeType kCodes[] = {CodeType::kInt4, CodeType::kInt8, CodeType::kFp8E4m3};
    constexpr ZeroType kZeros[] = {ZeroType::kSymmetric, ZeroType::kInteger, ZeroType::kFloat};
    constexpr ScaleType kScales[] = {ScaleType::kF16, ScaleType::kBF16, ScaleType::kF32};
    PlainWeights out{};
    out.n = problem.n;
    out.k = problem.k;
    out.groups = problem.groups;
    out.group_size = problem.group_size;
    out.code_type = kCodes[problem.weight_type];
    out.zero_type = kZeros[problem.zero_type];
    out.scale_type = kScales[problem.scale_type];
    out.sparse = problem.sparsity == TARPON_SPARSITY_2_4;
    return out;
}

}  // namespace tarpon
