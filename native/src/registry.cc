// The devices of this build, by kind, and the choice of a kernel variant from an ordered table.
#include "registry.h"

#include "linear_format.h"

namespace tarpon {
namespace {

std::string describe(const LinearProblem &problem) {
    std::string text = std::string("weights ") + weight_type_name(problem.weight_type) + ", " +
                       zero_type_name(problem.zero_type) + ", scales " +
                       scale_type_name(problem.scale_type) + ", group_size " +
                       std::to_string(problem.group_size) + ", in_features " +
                       std::to_string(problem.k) + ", out_features " + std::to_string(problem.n) +
                       ", activations " + dtype_name(problem.activation_dtype);
    if (problem.arithmetic == TARPON_ARITHMETIC_INT8_ACTIVATIONS) text += " as int8";
    if (problem.sparsity == TARPON_SPARSITY_2_4) text += ", 2:4 sparse";
    if (problem.mode == TARPON_LINEAR_DETERMINISTIC) text += ", deterministic";
    if (problem.permuted) text += ", act-order";
    if (problem.has_bias) text += ", bias";
    return text;
}

}  // namespace

Backend &backend(tarpon_device_kind kind) {
    switch (kind) {
        case TARPON_DEVICE_CPU:
            return cpu_backend();
        case TARPON_DEVICE_SIM:
            return sim_backend();
        case TARPON_DEVICE_CUDA:
            return cuda_backend();
    }
    fail(TARPON_ERROR_INVALID_ARGUMENT,
         "device kind is %d; it must be TARPON_DEVICE_CPU (0), _SIM (1) or _CUDA (2)", kind);
}

const LinearVariant &choose_linear_variant(const Device &device, const LinearProblem &problem,
                                           const char *forced_name) {
    std::string offered;
    bool known = false;
    for (const LinearVariant &variant : device.linear_variants()) {
        offered += std::string("\n  ") + variant.name + ": " + variant.needs;
        if (forced_name && std::string(forced_name) != variant.name) continue;
        known = true;
        if (variant.supports(device, problem)) return variant;
    }
    tarpon_device_info info{};
    info.struct_size = sizeof info;
    device.info(info);
    if (forced_name && !known) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "linear: variant \"%s\" does not exist on device %s:%d; there are:%s", forced_name,
             device_kind_name(info.kind), info.ordinal, offered.c_str());
    }
    fail(TARPON_ERROR_UNSUPPORTED,
         "linear: no kernel%s%s serves %s on device %s:%d (%s); there are:%s",
         forced_name ? " variant " : "", forced_name ? forced_name : "", describe(problem).c_str(),
         device_kind_name(info.kind), info.ordinal, info.isa, offered.c_str());
}

}  // namespace tarpon
