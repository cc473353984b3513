// The fiber switch, its stacks, and what AddressSanitizer has to know about both.
#include "sim/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef __x86_64__
#error "the simulator's fiber switch is written for x86-64"
#endif

// void tarpon_sim_switch(void **save_stack_pointer, void *new_stack_pointer)
// System V ABI: rbx, rbp and r12-r15 belong to the caller; kernels do not touch mxcsr.
asm(R"(
    .text
    .p2align 4
    .globl tarpon_sim_switch
    .hidden tarpon_sim_switch
    .type tarpon_sim_switch, @function
tarpon_sim_switch:
    .cfi_startproc
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .cfi_endproc
    .size tarpon_sim_switch, .-tarpon_sim_switch
)");

extern "C" void tarpon_sim_switch(void **save_stack_pointer, void *new_stack_pointer);

namespace tarpon::sim {
namespace {

constexpr size_t kPageBytes = 4096;
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStackBytes = 256 * 1024;  // red zones around every variable
#else
constexpr size_t kStackBytes = 64 * 1024;
#endif
constexpr size_t kStrideBytes = kStackBytes + kPageBytes;
constexpr int kSavedRegisters = 6;

}  // namespace

StackSlab::StackSlab(int stacks) : stacks_(stacks) {
    void *memory = mmap(nullptr, stacks * kStrideBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<unsigned char *>(memory);
    for (int i = 0; i < stacks; ++i) {
        if (mprotect(memory_ + i * kStrideBytes, kPageBytes, PROT_NONE) != 0) {
            munmap(memory, stacks * kStrideBytes);
            throw std::bad_alloc();
        }
    }
}

StackSlab::~StackSlab() {
    munmap(memory_, stacks_ * kStrideBytes);
}

void StackSlab::prepare(Fiber &fiber, int index, void (*entry)()) {
    unsigned char *low = memory_ + index * kStrideBytes + kPageBytes;
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(low, kStackBytes);  // what an abandoned fiber left behind
#endif
    // As if `entry` had been called: a return address (null, nobody returns) 8 below a multiple of
    // 16, under it what the switch pops.
    auto *top = reinterpret_cast<void **>(low + kStackBytes);
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(entry);
    for (int i = 0; i < kSavedRegisters; ++i)
        *--top = nullptr;
    fiber = {top, low, kStackBytes, nullptr};
}

void switch_fiber(Fiber &from, Fiber &to) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&from.sanitizer_stack, to.stack_low, to.stack_bytes);
#endif
    tarpon_sim_switch(&from.stack_pointer, to.stack_pointer);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(from.sanitizer_stack, nullptr, nullptr);
#endif
}

void enter_fiber([[maybe_unused]] Fiber &host) {
#ifdef __SANITIZE_ADDRESS__
    const void *low = nullptr;
    size_t bytes = 0;
    __sanitizer_finish_switch_fiber(nullptr, &low, &bytes);
    // The first fiber of a launch comes from the host's stack; the others from another fiber, but
    // the host's bounds are known by then.
    if (!host.stack_low) {
        host.stack_low = low;
        host.stack_bytes = bytes;
    }
#endif
}

}  // namespace tarpon::sim
