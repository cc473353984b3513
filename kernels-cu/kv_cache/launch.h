// The cache's kernels on one device: what native/src/cuda/kv.cc calls. Plain C++; append.cu and
// attend.cu are behind it, for a GPU and for the simulator.
#pragma once

#include <cuda_runtime.h>

#include "kv_cache/config.h"
#include "kv_cache/kernels.h"

namespace tarpon::kv_cache {

// Cold: gives append the shared memory that it needs on the current device.
cudaError_t prepare_append(const Format &format);

// How attention runs on a GPU: select_attend() of config.h for the kernel that takes these rows.
// query_rows: queries times heads of a group.
AttendTuning tune_attend(const Format &format, int query_rows, bool has_recent,
                         const DeviceLimits &device);

// Cold: the current device's limits.
cudaError_t device_limits(int ordinal, DeviceLimits *out);

// Cold: lets attention of these rows have the shared memory of its tuning on the current device.
cudaError_t prepare_attend(const Format &format, int query_rows, const AttendTuning &tuning);

// Hot: one launch each, tokens >= 1. params.tile: select_append() of config.h.
cudaError_t append(const AppendParams &params, cudaStream_t stream);
cudaError_t dequantize(const DequantizeParams &params, cudaStream_t stream);

// Hot: one launch of `groups` (sequences * kv heads * row_blocks) * (splits + recent_items) blocks,
// at most 2^31 - 1. tuning: that of params.queries * params.group rows. Fills in stages and ticket.
cudaError_t attend(AttendParams params, const AttendTuning &tuning, int64_t groups,
                   cudaStream_t stream);

}  // namespace tarpon::kv_cache
