// Launches attention: a kernel each for two modes and four head sizes, and for 64 and 128 another
// with two tiles of query rows; widths and element types are chosen inside. Compiled by nvcc and, for
// the simulator, by g++.
#include "common/launch.cuh"
#include "kv_cache/attend_kernel.h"
#include "kv_cache/launch.h"

namespace tarpon::kv_cache {
namespace {

AttendKernel kernel(const Format &f, int query_rows) {
    const int tiles = row_tiles(f.head_dim, query_rows);
    switch (f.head_dim) {
        case 64:
            return attend_kernel_64(f.scheme, tiles);
        case 96:
            return attend_kernel_96(f.scheme);
        case 128:
            return attend_kernel_128(f.scheme, tiles);
        default:
            return attend_kernel_256(f.scheme);
    }
}

}  // namespace

AttendTuning tune_attend(const Format &format, int query_rows, bool has_recent,
                         const DeviceLimits &device) {
    return select_attend(format, query_rows, has_recent,
                         int(kernel(format, query_rows).storage_bytes), device);
}

cudaError_t device_limits(int ordinal, DeviceLimits *out) {
    const struct {
        cudaDeviceAttr attribute;
        int *value;
    } wanted[] = {{cudaDevAttrMultiProcessorCount, &out->processors},
                  {cudaDevAttrMaxSharedMemoryPerMultiprocessor, &out->shared_per_processor},
                  {cudaDevAttrMaxSharedMemoryPerBlockOptin, &out->shared_per_block}};
    for (const auto &w : wanted) {
        const cudaError_t status = cudaDeviceGetAttribute(w.value, w.attribute, ordinal);
        if (status != cudaSuccess) return status;
    }
    return cudaSuccess;
}

cudaError_t prepare_attend(const Format &format, int query_rows, const AttendTuning &tuning) {
    const AttendKernel k = kernel(format, query_rows);
    return prepare(k.function, k.storage_bytes + size_t(tuning.stage_bytes));
}

cudaError_t attend(AttendParams params, const AttendTuning &tuning, int64_t groups,
                   cudaStream_t stream) {
    const AttendKernel k = kernel(params.plan.format, params.queries * params.group);
    params.code_stage = tuning.code;
    params.recent_stage = tuning.recent;
    params.ticket = new_ticket();
    const int64_t blocks = groups * (params.splits + params.recent_items);
    return launch(k.function, unsigned(blocks), kKernelThreads,
                  k.storage_bytes + size_t(tuning.stage_bytes), stream, params);
}

}  // namespace tarpon::kv_cache
