// Names for messages, and the choice of a kernel variant (registry.cc).
#pragma once

#include "backend.h"

namespace tarpon {

inline const char *device_kind_name(tarpon_device_kind kind) {
    switch (kind) {
        case TARPON_DEVICE_CPU:
            return "cpu";
        case TARPON_DEVICE_SIM:
            return "sim";
        case TARPON_DEVICE_CUDA:
            return "cuda";
    }
    return "unknown";
}

inline const char *dtype_name(tarpon_dtype dtype) {
    switch (dtype) {
        case TARPON_F32:
            return "F32";
        case TARPON_F16:
            return "F16";
        case TARPON_BF16:
            return "BF16";
        case TARPON_U8:
            return "U8";
        case TARPON_I32:
            return "I32";
    }
    return "of no known dtype";
}

// The first variant of the device's ordered table that supports the problem, or the one that
// forced_name (if not null) names. Throws with the table if there is none.
const LinearVariant &choose_linear_variant(const Device &device, const LinearProblem &problem,
                                           const char *forced_name);

}  // namespace tarpon
