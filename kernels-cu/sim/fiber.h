// Fibers: the threads of a simulated block, switched by hand on one host thread.
//
// A switch saves the six callee-saved registers and swaps stack pointers, 5-10 ns; swapcontext
// costs 200-400 ns for a system call that saves a signal mask nobody changes. Used by scheduler.cc.
#pragma once

#include <cstddef>

namespace tarpon::sim {

struct Fiber {
    void *stack_pointer = nullptr;
    // Of the stack it runs on; for the host's own stack filled in by the first switch away from it.
    const void *stack_low = nullptr;
    size_t stack_bytes = 0;
    void *sanitizer_stack = nullptr;  // AddressSanitizer's shadow of the stack while switched away
};

// The stacks of one block, each with a page below it that must not be touched: an overflow ends in
// a fault at its source instead of in a neighbour's variables.
class StackSlab {
  public:
    explicit StackSlab(int stacks);
    ~StackSlab();
    StackSlab(const StackSlab &) = delete;
    StackSlab &operator=(const StackSlab &) = delete;

    int stacks() const { return stacks_; }
    // Makes `fiber` start in `entry` (which must not return) on stack `index`.
    void prepare(Fiber &fiber, int index, void (*entry)());

  private:
    int stacks_;
    unsigned char *memory_;
};

// Leaves `from` and continues `to`; returns when something switches back to `from`.
void switch_fiber(Fiber &from, Fiber &to);
// To be called first by an entry function; `host` is the fiber of the host's own stack.
void enter_fiber(Fiber &host);

}  // namespace tarpon::sim
