#include "cuda/hadamard.h"

#include "cuda/cuda_check.h"
#include "hadamard/launch.h"

namespace tarpon::gpu {
namespace {

template <class T>
cudaError_t launch_rows(const HadamardArgs &args) noexcept {
    const auto stream =
        static_cast<cudaStream_t>(args.stream ? args.stream->native_handle() : nullptr);
    return hadamard::run(static_cast<const T *>(args.x), static_cast<T *>(args.y), args.rows,
                         args.base, args.power, args.scale, stream);
}

}  // namespace

cudaError_t prepare_hadamard() noexcept {
    return hadamard::prepare_device();
}

tarpon_status run_hadamard(const HadamardArgs &args, size_t max_shared_bytes) noexcept {
    const size_t shared_bytes = static_cast<size_t>(hadamard::shared_bytes(args.base, args.power));
    if (shared_bytes > max_shared_bytes) {
        return set_error(TARPON_ERROR_UNSUPPORTED,
                         "hadamard: n = %d * %d needs %zu bytes of shared memory a block, and this "
                         "device has %zu; smaller sizes and powers of two fit",
                         args.base, args.power, shared_bytes, max_shared_bytes);
    }
    const cudaError_t status = args.dtype == TARPON_F32   ? launch_rows<float>(args)
                               : args.dtype == TARPON_F16 ? launch_rows<half_t>(args)
                                                          : launch_rows<bf16_t>(args);
    return cuda_status(status, "the launch of the Hadamard kernel");
}

}  // namespace tarpon::gpu
