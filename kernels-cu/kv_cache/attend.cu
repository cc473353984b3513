// Launches attention: a kernel each for two modes and four head sizes, and for 64 and 128 another
// with two tiles of query rows; widths and element types are chosen inside. Compiled by nvcc and, for
// the simulator, by g++.
#include "common/launch.cuh"
#include "kv_cache/attend_kernel.h"
#include "kv_cache/config.h"
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

cudaError_t prepare_attend(const Format &format, int max_query_rows, bool has_recent) {
    for (const int rows : {1, max_query_rows}) {
        const AttendKernel k = kernel(format, rows);
        const size_t bytes = k.storage_bytes + size_t(stages_bytes(format, rows, has_recent));
        const cudaError_t status = prepare(k.function, bytes);
        if (status != cudaSuccess) return status;
    }
    return cudaSuccess;
}

cudaError_t attend(AttendParams params, int64_t groups, cudaStream_t stream) {
    const Format &f = params.plan.format;
    const int query_rows = params.queries * params.group;
    const AttendKernel k = kernel(f, query_rows);
    const int room = stages_bytes(f, query_rows, params.recent_items > 0);
    if (f.scheme == Scheme::kTarpon) {
        params.code_stage = code_stage(f);
        params.recent_stage = recent_stage(f, room);
    } else {
        params.code_stage = turned_stage(f, f.v_bits);
        params.recent_stage = turned_stage(f, 16);
    }
    params.ticket = new_ticket();
    const int64_t blocks = groups * (params.splits + params.recent_items);
    return launch(k.function, unsigned(blocks), kKernelThreads, k.storage_bytes + size_t(room),
                  stream, params);
}

}  // namespace tarpon::kv_cache
