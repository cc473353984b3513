// The Hadamard transform on the host: validation, and what a device's implementation gets.
#pragma once

#include "backend.h"

namespace tarpon {

// tarpon_hadamard_run() behind its NULL check of the device. Hot: neither throws nor allocates.
tarpon_status hadamard_run(Device &device, const void *x, void *y, int64_t rows, int64_t n,
                           tarpon_dtype dtype, const Stream *stream) noexcept;

}  // namespace tarpon
