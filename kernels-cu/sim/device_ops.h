// What the host bodies of common/ptx.cuh call: the operations of a simulated thread.
//
// Implemented in memory_ops.cc (checked accesses), barriers.cc, warp_ops.cc, mma.cc and lane_ops.cc.
// All of it runs on the fiber of the calling thread. A violation does not return: the launch ends
// with a report (control.h) and the sticky error cudaErrorLaunchFailure.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <source_location>

#include "common/types.h"

namespace tarpon::sim {

using Where = std::source_location;

// Where the running thread is in the grid.
struct Position {
    int thread_idx;
    int block_dim;
    int block_idx[3];
    int grid_dim[3];
};
// The running thread; null outside kernels. Launches are serialised, so this is one for all.
extern const Position *current_position;

inline int thread_idx() {
    return current_position->thread_idx;
}
inline int block_dim() {
    return current_position->block_dim;
}
inline int block_idx(int axis) {
    return current_position->block_idx[axis];
}
inline int grid_dim(int axis) {
    return current_position->grid_dim[axis];
}

// ---- Barriers and order -----------------------------------------------------------------------
void sync_threads(Where where);
void sync_warp(Where where);
void named_barrier(int id, int threads, bool wait, Where where);
int32_t ld_acquire(const int32_t *pointer, Where where);
void st_release(int32_t *pointer, int32_t value, Where where);
int32_t atomic_add(int32_t *pointer, int32_t value, Where where);

// ---- Memory -----------------------------------------------------------------------------------
// The running block's shared memory; fails if the launch gave it less than `storage_bytes`.
void *shared_memory(size_t storage_bytes);

void check_global_bounds(const char *operation, const void *pointer, size_t bytes, Where where);
// Bounds, alignment, initialisation and (shared memory) races; then the caller moves the bytes.
void check_global_load(const char *operation, const void *pointer, size_t bytes, Where where);
void check_global_store(const char *operation, void *pointer, size_t bytes, Where where);
void check_shared_load(const void *pointer, size_t bytes, Where where);
void check_shared_store(void *pointer, size_t bytes, Where where);

template <class T>
T copy_out(const T *pointer) {
    T value;
    std::memcpy(&value, pointer, sizeof(T));
    return value;
}

template <class T>
T ld_global(const T *pointer, Where where) {
    check_global_load("ld_global", pointer, sizeof(T), where);
    return copy_out(pointer);
}
template <class T>
void st_global(T *pointer, T value, Where where) {
    check_global_store("st_global", pointer, sizeof(T), where);
    std::memcpy(pointer, &value, sizeof(T));
}
template <class T>
T ld_shared(const T *pointer, Where where) {
    check_shared_load(pointer, sizeof(T), where);
    return copy_out(pointer);
}
template <class T>
void st_shared(T *pointer, T value, Where where) {
    check_shared_store(pointer, sizeof(T), where);
    std::memcpy(pointer, &value, sizeof(T));
}

void cp_async(void *smem, const void *gmem, int bytes, int src_bytes, Where where);
void cp_async_commit();
void cp_async_wait(int pending_groups, Where where);

// ---- Operations of a warp ---------------------------------------------------------------------
enum class Shuffle { kXor, kDown, kIndex };
uint32_t shuffle_bits(Shuffle kind, uint32_t value, int operand, Where where);
uint32_t ballot(bool predicate, Where where);
void ldmatrix(uint32_t *regs, int matrices, bool transpose, const void *row, Where where);
template <class T>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where);
void mma_m16n8k32_s8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where);
template <class T>
void mma_sp_m16n8k32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4],
                     uint32_t metadata, int selector, Where where);

template <class T>
T shuffle(Shuffle kind, T value, int operand, Where where) {
    return std::bit_cast<T>(shuffle_bits(kind, std::bit_cast<uint32_t>(value), operand, where));
}

// ---- Arithmetic of one lane -------------------------------------------------------------------
uint32_t lop3(uint32_t a, uint32_t b, uint32_t c, int lut);
uint32_t prmt(uint32_t a, uint32_t b, uint32_t selector);
template <class T>
uint32_t fma2(uint32_t a, uint32_t b, uint32_t c);

}  // namespace tarpon::sim
