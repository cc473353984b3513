// Checked accesses of the running thread, and its asynchronous copies.
#include <algorithm>
#include <bit>
#include <cstring>

#include "sim/engine.h"
#include "sim/global_memory.h"

namespace tarpon::sim {
namespace {

Access access_of(const Thread &thread, Where where) {
    return {thread.warp->index, thread.lane, &thread.warp->clock, where};
}

std::string count(size_t bytes) {
    return std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes");
}

Allocation &find_global(const char *operation, const void *pointer, size_t bytes, Where where) {
    Allocation *allocation = global_memory().find(pointer, bytes);
    if (!allocation) {
        const SharedMemory &shared = engine().current().block->shared;
        engine().fail(operation, where,
                      "out of bounds: an access of " + count(bytes) + " to global memory",
                      shared.contains(pointer, 0) ? "the address is in shared memory"
                                                  : global_memory().describe(pointer));
    }
    if (uintptr_t(pointer) % bytes) {
        engine().fail(operation, where,
                      "misaligned: an access of " + count(bytes) + " to global memory",
                      global_memory().describe(pointer));
    }
    return *allocation;
}

void check_written(const char *operation, const Allocation &allocation, const void *pointer,
                   size_t bytes, Where where) {
    if (!allocation.written) return;
    const size_t offset = uintptr_t(pointer) - uintptr_t(allocation.data);
    const unsigned char *written = &allocation.written[offset];
    const unsigned char *empty = std::find(written, written + bytes, 0);
    if (empty == written + bytes) return;
    engine().fail(operation, where, "uninitialised: a read of global memory nobody has written",
                  "byte " + std::to_string(offset + size_t(empty - written)) +
                      " of an allocation of " + count(allocation.bytes));
}

}  // namespace

void fail_shared(const char *operation, const SharedFault &fault, size_t bytes, Where where) {
    Block &block = *engine().current().block;
    const std::string byte = "at byte " + std::to_string(ptrdiff_t(fault.offset)) + " of " +
                             count(block.shared.bytes()) + " of shared memory";
    const auto other = [&] {
        const Thread &first = block.threads[32 * fault.other_warp];
        if (fault.other_lane != kManyLanes) return describe((&first)[fault.other_lane]);
        return "lanes of warp " + std::to_string(fault.other_warp);
    };
    std::string what, details;
    switch (fault.kind) {
        case SharedFault::kNone:
            return;
        case SharedFault::kOutside:
            what = "out of bounds: an access of " + count(bytes) + " " + byte;
            break;
        case SharedFault::kMisaligned:
            what = "misaligned: an access of " + count(bytes) + " " + byte;
            break;
        case SharedFault::kUninitialised:
            what = "uninitialised: a read of what nobody has written, " + byte;
            break;
        case SharedFault::kInFlight:
            what = "asynchronous copy still under way: its destination was touched " + byte +
                   ", before its cp_async_wait";
            break;
        case SharedFault::kWriteRace:
            what = "race: no barrier since another thread wrote, " + byte;
            details = other() + " wrote it at " + place(fault.other);
            break;
        case SharedFault::kReadRace:
            what = "race: no barrier since another thread read, " + byte;
            details = other() + " read it";
            break;
    }
    engine().fail(operation, where, what, details);
}

void check_global_bounds(const char *operation, const void *pointer, size_t bytes, Where where) {
    find_global(operation, pointer, bytes, where);
}

void check_global_load(const char *operation, const void *pointer, size_t bytes, Where where) {
    Allocation &allocation = find_global(operation, pointer, bytes, where);
    allocation.traffic.bytes_read += bytes;
    check_written(operation, allocation, pointer, bytes, where);
}

void check_global_store(const char *operation, void *pointer, size_t bytes, Where where) {
    Allocation &allocation = find_global(operation, pointer, bytes, where);
    engine().note_progress();
    allocation.traffic.bytes_written += bytes;
    if (!allocation.written) return;
    std::memset(&allocation.written[uintptr_t(pointer) - uintptr_t(allocation.data)], 1, bytes);
}

void check_shared_load(const void *pointer, size_t bytes, Where where) {
    Thread &thread = engine().current();
    const SharedFault fault = thread.block->shared.load(pointer, bytes, access_of(thread, where));
    if (fault.kind != SharedFault::kNone) fail_shared("ld_shared", fault, bytes, where);
}

void check_shared_store(void *pointer, size_t bytes, Where where) {
    Thread &thread = engine().current();
    const SharedFault fault = thread.block->shared.store(pointer, bytes, access_of(thread, where));
    if (fault.kind != SharedFault::kNone) fail_shared("st_shared", fault, bytes, where);
}

void *shared_memory(size_t storage_bytes) {
    SharedMemory &shared = engine().current().block->shared;
    if (storage_bytes > shared.bytes()) {
        engine().fail("shared_storage", engine().launch().where,
                      "out of bounds: the kernel's shared storage has " + count(storage_bytes) +
                          ", the launch gave it " + std::to_string(shared.bytes()));
    }
    return shared.data();
}

void cp_async(void *smem, const void *gmem, int bytes, int src_bytes, Where where) {
    Thread &thread = engine().current();
    if (src_bytes < 0 || src_bytes > bytes) {
        engine().fail(
            "cp_async", where,
            "src_bytes = " + std::to_string(src_bytes) + " of a copy of " + count(size_t(bytes)));
    }
    if (src_bytes > 0) {
        Allocation *source = global_memory().find(gmem, size_t(src_bytes));
        if (!source) {
            engine().fail(
                "cp_async", where,
                "out of bounds: a copy reads " + count(size_t(src_bytes)) + " of global memory",
                global_memory().describe(gmem));
        }
        if (uintptr_t(gmem) % uintptr_t(bytes)) {
            engine().fail("cp_async", where,
                          "misaligned: a copy of " + count(size_t(bytes)) + " from global memory",
                          global_memory().describe(gmem));
        }
        source->traffic.bytes_read += size_t(src_bytes);
        check_written("cp_async", *source, gmem, size_t(src_bytes), where);
    }
    const SharedFault fault =
        thread.block->shared.begin_copy(smem, size_t(bytes), access_of(thread, where));
    if (fault.kind != SharedFault::kNone) fail_shared("cp_async", fault, size_t(bytes), where);
    thread.copies.push_back({smem, gmem, bytes, src_bytes, thread.open_group, where});
}

void cp_async_commit() {
    ++engine().current().open_group;
}

void cp_async_wait(int pending_groups, Where) {
    Thread &thread = engine().current();
    auto arrived = thread.copies.begin();
    for (; arrived != thread.copies.end(); ++arrived) {
        if (arrived->group + uint32_t(pending_groups) >= thread.open_group) break;
        thread.block->shared.finish_copy(arrived->smem, arrived->gmem, size_t(arrived->src_bytes),
                                         size_t(arrived->bytes), access_of(thread, arrived->where));
    }
    thread.copies.erase(thread.copies.begin(), arrived);
}

}  // namespace tarpon::sim
