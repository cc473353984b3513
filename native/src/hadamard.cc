#include "hadamard.h"

#include <cmath>

#include "hadamard/matrix.h"
#include "registry.h"

namespace tarpon {
namespace {

// Bounds rows * n * element size far below int64; more memory than any device has.
constexpr int64_t kMaxElems = int64_t{1} << 48;

}  // namespace

tarpon_status hadamard_run(Device &device, const void *x, void *y, int64_t rows, int64_t n,
                           tarpon_dtype dtype, const Stream *stream) noexcept {
    using ll = long long;
    if (dtype != TARPON_F32 && dtype != TARPON_F16 && dtype != TARPON_BF16) {
        return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                         "hadamard: dtype is %d (%s); it must be F32 (0), F16 (1) or BF16 (2)",
                         dtype, dtype_name(dtype));
    }
    const hadamard::Size size = hadamard::decompose(n);
    if (size.base == 0) {
        return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                         "hadamard: n is %lld; it must be 2^k, 12*2^k, 20*2^k or 28*2^k, and "
                         "2..%lld",
                         ll{n}, ll{hadamard::kMaxSize});
    }
    if (rows < 0 || rows > kMaxElems / n) {
        return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                         "hadamard: rows is %lld; it must be 0..%lld for n = %lld", ll{rows},
                         ll{kMaxElems / n}, ll{n});
    }
    if (rows == 0) return TARPON_OK;
    const uintptr_t elem_bytes = dtype == TARPON_F32 ? 4 : 2;
    const auto from = reinterpret_cast<uintptr_t>(x), to = reinterpret_cast<uintptr_t>(y);
    if (!x || !y || from % elem_bytes != 0 || to % elem_bytes != 0) {
        return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                         "hadamard: x is %p and y is %p; neither may be NULL, and both must be "
                         "aligned to %d bytes",
                         x, y, static_cast<int>(elem_bytes));
    }
    const uintptr_t distance = from < to ? to - from : from - to;
    if (distance != 0 && distance < static_cast<uintptr_t>(rows * n) * elem_bytes) {
        return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                         "hadamard: x (%p) and y (%p) overlap, with %lld rows of %lld elements; "
                         "they must be the same or apart",
                         x, y, ll{rows}, ll{n});
    }
    const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(n)));
    return device.hadamard({x, y, rows, size.base, size.power, scale, dtype, stream});
}

}  // namespace tarpon
