// Names for messages, and the choice of a kernel variant (registry.cc).
#pragma once

#include "backend.h"

namespace tarpon {

const char *device_kind_name(tarpon_device_kind kind);
const char *dtype_name(tarpon_dtype dtype);

// The first variant of the device's ordered table that supports the problem, or the one that
// forced_name (if not null) names. Throws with the table if there is none.
const LinearVariant &choose_linear_variant(const Device &device, const LinearProblem &problem,
                                           const char *forced_name);

}  // namespace tarpon
