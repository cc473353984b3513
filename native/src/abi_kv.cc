// extern "C" of the Hadamard transform and the KV cache: check pointers, call, return a status.
#include "abi_guard.h"
#include "hadamard.h"

using tarpon::abi::impl_or_null;

extern "C" {

tarpon_status tarpon_hadamard_run(tarpon_device *device, const void *x, void *y, int64_t rows,
                                  int64_t n, tarpon_dtype dtype, tarpon_stream *stream) {
    if (!device) return tarpon::set_error(TARPON_ERROR_INVALID_ARGUMENT, "device is NULL");
    return tarpon::hadamard_run(*device->impl, x, y, rows, n, dtype, impl_or_null(stream));
}

}  // extern "C"
