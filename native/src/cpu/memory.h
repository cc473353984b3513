// Host memory for weights and buffers: aligned, and in huge pages where that pays.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace tarpon::cpu {

struct FreeMemory {
    void operator()(void *address) const noexcept;
};
using Memory = std::unique_ptr<void, FreeMemory>;

// At least size_bytes (> 0) of uninitialised memory aligned to 256 bytes. From 2 MiB up it is
// aligned to that and huge pages are asked for: streaming weights through 4 KiB pages costs a tenth
// of the memory bandwidth. Throws OUT_OF_MEMORY with the size.
Memory allocate_memory(size_t size_bytes);

}  // namespace tarpon::cpu
