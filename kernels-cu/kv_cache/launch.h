// The cache's kernels on one device: what native/src/cuda/kv.cc calls. Plain C++; append.cu and
// attend.cu are behind it, for a GPU and for the simulator.
#pragma once

#include <cuda_runtime.h>

#include "kv_cache/kernels.h"

namespace tarpon::kv_cache {

// Cold: gives append the shared memory that it needs on the current device.
cudaError_t prepare_append(const Format &format);

// Cold: gives attention its shared memory on the current device. query_rows: as attend() will have,
// queries times heads of a group.
cudaError_t prepare_attend(const Format &format, int max_query_rows, bool has_recent);

// Hot: one launch each, tokens >= 1. params.tile: select_append() of config.h.
cudaError_t append(const AppendParams &params, cudaStream_t stream);
cudaError_t dequantize(const DequantizeParams &params, cudaStream_t stream);

// Hot: one launch of `groups` (sequences * kv heads * row_blocks) * (splits + recent_items) blocks,
// at most 2^31 - 1. Fills in the stages and the ticket.
cudaError_t attend(AttendParams params, int64_t groups, cudaStream_t stream);

}  // namespace tarpon::kv_cache
