// Tells what the GPU kernels of the linear family would launch and why; needs no GPU.
#include <algorithm>

#include "linear.h"
#include "linear_format.h"
#include "w4_format.h"
#include "w4_gemm/explain.h"

namespace tarpon {

std::string explain_linear(const tarpon_linear_desc &desc, int64_t m, int32_t compute_capability,
                           int32_t processor_count) {
    constexpr int64_t kMaxFeatures = int64_t{1} << 30;
    const LinearFormat format = checked_format(desc);
    const LinearShape shape = checked_shape(desc.out_features, desc.in_features, desc.group_size);
    check_enum("mode", desc.mode, TARPON_LINEAR_DETERMINISTIC,
               "TARPON_LINEAR_FAST (0) or _DETERMINISTIC (1)");
    if (m < 1) fail(TARPON_ERROR_INVALID_ARGUMENT, "m is %lld; it must be >= 1", ll{m});
    if (compute_capability < 80) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "compute_capability is %d; it must be 80 or more (10 * major + minor)",
             compute_capability);
    }
    if (processor_count < 0) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "processor_count is %d; it must be >= 0",
             processor_count);
    }
    if (shape.n > kMaxFeatures || shape.k > kMaxFeatures) {
        fail(TARPON_ERROR_UNSUPPORTED,
             "explained are layers of up to 2^30 features; out_features is %lld, in_features %lld",
             ll{shape.n}, ll{shape.k});
    }
    LinearProblem problem{};
    problem.n = shape.n;
    problem.k = shape.k;
    problem.groups = shape.groups;
    problem.weight_type = format.weight_type;
    problem.zero_type = format.zero_type;
    problem.scale_type = format.scale_type;
    problem.sparsity = format.sparsity;
    // A plan looks at the scales; those of bfloat16 fit those of the kernels in practice.
    const bool narrow = format.scale_type != TARPON_SCALE_F32;
    w4_gemm::Problem launch{m,
                            shape.n,
                            shape.k,
                            shape.groups,
                            w4_gemm::choose_format(w4_types(problem), narrow),
                            desc.mode == TARPON_LINEAR_DETERMINISTIC};
    launch.m = std::min(m, w4_gemm::max_rows(launch));
    const int sm_count =
        processor_count ? processor_count : w4_gemm::arch_model(compute_capability).sm_count;
    return w4_gemm::explain(launch, {sm_count, compute_capability});
}

}  // namespace tarpon
