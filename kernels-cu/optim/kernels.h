// What the optimizers' kernels are given; plans on GPUs (native/src/cuda/optim_plan.cc) build it
// once and pass it by value.
#pragma once

#include <cstdint>
#include <vector>

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

// What a thread block measures at a time for Scale: so many columns of a matrix.
inline constexpr int kStripColumns = 32;

// The chunks, and what Lamb and Scale measure of each tensor before its update, in the order of the
// tensors: chunks again, or strips of kStripColumns columns.
struct WorkList {
    std::vector<Chunk> chunks, measures;
    std::vector<int64_t> first_chunk;  // of each tensor, and the count of chunks
};

// Chunks and measures are numbered together in 32 bits, with room for a number to each block of
// threads that finds no more.
inline constexpr int64_t kMaxWork = (int64_t{1} << 31) - (int64_t{1} << 24);

inline int64_t chunk_count(int64_t elems) {
    return (block_count(elems) + kChunkBlocks - 1) / kChunkBlocks;
}
TARPON_HOST_DEVICE int64_t strip_count(int64_t columns) {
    return (columns + kStripColumns - 1) / kStripColumns;
}

// How much work a step of these tensors is; a list is made of no more than kMaxWork.
inline int64_t work_count(Rule rule, const std::vector<TensorEntry> &tensors) {
    int64_t count = 0;
    for (const TensorEntry &t : tensors) {
        count += chunk_count(t.elems);
        if (rule == Rule::kLamb) count += chunk_count(t.elems);
        if (rule == Rule::kScale) count += strip_count(t.columns);
    }
    return count;
}

inline WorkList make_work_list(Rule rule, const std::vector<TensorEntry> &tensors) {
    WorkList list;
    auto add = [](std::vector<Chunk> &to, size_t tensor, int64_t count) {
        for (int64_t i = 0; i < count; ++i)
            to.push_back({int32_t(tensor), int32_t(i)});
    };
    for (size_t i = 0; i < tensors.size(); ++i) {
        list.first_chunk.push_back(int64_t(list.chunks.size()));
        add(list.chunks, i, chunk_count(tensors[i].elems));
        if (rule == Rule::kScale) add(list.measures, i, strip_count(tensors[i].columns));
    }
    list.first_chunk.push_back(int64_t(list.chunks.size()));
    if (rule == Rule::kLamb) list.measures = list.chunks;
    return list;
}

// The result of the measuring kernels for the update that follows, in device memory.
struct StepState {
    int64_t step;
    double clip;
    int32_t skip;            // a gradient was not finite
    int32_t not_finite;      // set by any thread block, cleared by the last
    int32_t ticket;          // thread blocks that are done; the last puts it back to zero
    int32_t skipped_blocks;  // by the update under way; prepare_kernel adds it to the control
    int32_t next_item;       // of measured_step_kernel's; prepare_kernel puts it back to zero
};

// Sums of squares of one chunk.
struct alignas(8) ChunkSums {
    double grad, weight, direction;
};

// Device memory of a plan.
struct PlanMemory {
    const TensorEntry *tensors;
    const Chunk *chunks;
    const Chunk *measures;
    const int64_t *first_chunk;  // of each tensor, and the count of chunks
    const CodeMap *maps;         // kStateMaps of them
    Coefficients *coefficients;  // of each tensor, for the step under way
    double *weight_norms;        // likewise, and
    double *grad_norms;
    ChunkSums *sums;    // of each chunk
    int32_t *progress;  // of each tensor: measures that are done, or kMeasured
    StepState *state;
    Control *control;
    int64_t chunk_count;
    int64_t measure_count;
    int64_t tensor_count;
};

// All of a tensor is measured, and what its update needs to know can be read.
inline constexpr int32_t kMeasured = 0x7fffffff;

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
