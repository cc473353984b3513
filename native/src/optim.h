// The optimizer family: block-wise quantisation and fused steps. optim.cc validates what a caller
// describes; devices provide the rest through these interfaces (backend.h).
#pragma once

#include <memory>
#include <vector>

#include "backend.h"
#include "optim/config.h"
#include "optim/maps.h"

namespace tarpon {

// A checked call of tarpon_blockwise_quantize() or _dequantize().
struct BlockwiseArgs {
    optim::MapKind map;
    optim::Dtype dtype;
    void *values;  // read by quantize, written by dequantize
    uint8_t *codes;
    float *absmax;
    int64_t elems;
    int64_t block_elems;
    const Stream *stream;
};

// What a plan is made from. Each entry is complete except for inverse_norms, which the device's
// plan points into its workspace.
struct OptimProblem {
    optim::Rule rule;
    std::vector<optim::TensorEntry> tensors;
};

// The tensors of a model, on one device, with the counters of their optimizer. step() and
// refresh_hessian() are hot: they neither throw nor allocate. One call at a time.
class OptimPlan {
  public:
    virtual ~OptimPlan() = default;
    virtual tarpon_status step(const optim::StepScalars &scalars,
                               const Stream *stream) noexcept = 0;
    // SophiaG: the gradients are those of sampled labels.
    virtual tarpon_status refresh_hessian(const optim::StepScalars &scalars,
                                          const Stream *stream) noexcept = 0;
    virtual optim::Control read_control(Stream *stream) const = 0;
    virtual void write_control(const optim::Control &control, Stream *stream) = 0;
    virtual uint64_t workspace_bytes() const = 0;
};

std::unique_ptr<OptimPlan> create_optim(Device &device, const tarpon_optim_desc &desc,
                                        const char **out_variant, optim::Rule *out_rule);

// The numbers of a step, checked for the rule; throws with the offending one.
optim::StepScalars checked_scalars(optim::Rule rule, const tarpon_optim_step_args &args);

// PyTorch's defaults, or those of the rule's paper.
tarpon_optim_step_args default_step_args(tarpon_optim_rule rule);

// Bytes of a slot of a tensor; 0 and 0 for a slot that the rule does not have.
void optim_state_bytes(tarpon_optim_rule rule, tarpon_state_format format, int32_t tensor_flags,
                       int64_t elems, int32_t slot, size_t *out_state_bytes,
                       size_t *out_absmax_bytes);

BlockwiseArgs checked_blockwise(const void *values, tarpon_dtype dtype, int64_t elems,
                                tarpon_code_map map, int64_t block_size, const void *codes,
                                const float *absmax, const Stream *stream);

const float *code_map_values(tarpon_code_map map);

}  // namespace tarpon
