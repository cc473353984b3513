#include "cpu/memory.h"

#include <sys/mman.h>

#include <cstdlib>

#include "status.h"

namespace tarpon::cpu {
namespace {

constexpr size_t kAlignment = 256;
constexpr size_t kHugePageBytes = size_t{2} << 20;

}  // namespace

void FreeMemory::operator()(void *address) const noexcept {
    std::free(address);
}

Memory allocate_memory(size_t size_bytes) {
    const bool huge = size_bytes >= kHugePageBytes;
    void *address = nullptr;
    if (posix_memalign(&address, huge ? kHugePageBytes : kAlignment, size_bytes) != 0) {
        fail(TARPON_ERROR_OUT_OF_MEMORY, "cannot allocate %zu bytes of host memory", size_bytes);
    }
    // Only advice: a kernel without transparent huge pages refuses it, and nothing is lost.
    if (huge) madvise(address, size_bytes, MADV_HUGEPAGE);
    return Memory(address);
}

}  // namespace tarpon::cpu
