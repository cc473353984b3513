// What the optimizers' kernels are given; plans on GPUs (native/src/cuda/optim_plan.cc) build it
// once and pass it by value.
#pragma once

#include <cstdint>

#include "optim/codec.h"
#include "optim/config.h"
#include "optim/maps.h"

namespace tarpon::optim {

// A thread block's share of the work: kChunkBlocks blocks of one tensor.
inline constexpr int kChunkBlocks = 64;

struct alignas(8) Chunk {
    int32_t tensor;
    int32_t index;  // within the tensor: blocks from index * kChunkBlocks on
};

// Columns of a matrix that a thread block of measure_columns_kernel sums.
inline constexpr int kStripColumns = 32;

// The result of the measuring kernels for the update that follows, in device memory.
struct StepState {
    int64_t step;
    double clip;
    int32_t skip;            // a gradient was not finite
    int32_t not_finite;      // set by any thread block, cleared by the last
    int32_t ticket;          // thread blocks that are done; the last puts it back to zero
    int32_t skipped_blocks;  // by the update under way; prepare_kernel adds it to the control
};

// Sums of squares of one chunk.
struct alignas(8) ChunkSums {
    double grad, weight, direction;
};

// Device memory of a plan.
struct PlanMemory {
    const TensorEntry *tensors;
    const Chunk *chunks;
    const int64_t *first_chunk;  // of each tensor, and the count of chunks
    const CodeMap *maps;         // kStateMaps of them
    Coefficients *coefficients;  // of each tensor, for the step under way
    double *weight_norms;        // likewise, and
    double *grad_norms;
    ChunkSums *sums;  // of each chunk
    StepState *state;
    Control *control;
    int64_t chunk_count;
    int64_t tensor_count;
};

// The maps of states, in the order of PlanMemory::maps.
inline constexpr MapKind kStateMapKinds[] = {MapKind::kDynamicSigned, MapKind::kDynamicUnsigned,
                                             MapKind::kFp8E4M3};
inline constexpr int kStateMaps = 3;

struct StepParams {
    PlanMemory memory;
    StepScalars scalars;
    Rule rule;
    int32_t measure_grads, measure_weights;  // by prepare_kernel
    int32_t hessian;                         // Sophia's refresh: no step is counted
};

// A call of the block-wise operations.
struct BlockwiseParams {
    const CodeMap *map;
    void *values;
    uint8_t *codes;
    float *absmax;
    int64_t elems, block_elems, blocks;
    Dtype dtype;
};

}  // namespace tarpon::optim
