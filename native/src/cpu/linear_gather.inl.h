// The inputs that a packer reads, in the order of the codes' rows. In an anonymous namespace, see
// linear_kernel.h.
#pragma once

#include "cpu/linear_kernel.h"

namespace tarpon::cpu {
namespace {

// Inputs first..first + count of a row (fewer at k), in sequence: in the row itself, or gathered
// into buffer[count] if they are permuted. The element type stands for its bits only.
template <class Elem>
const Elem *inputs_in_order(const PackArgs &args, int row, int64_t first, int count, Elem *buffer) {
    const Elem *x = static_cast<const Elem *>(args.x) + row * args.k;
    if (!args.permutation) return x + first;
    for (int i = 0; i < count && first + i < args.k; ++i)
        buffer[i] = x[args.permutation[first + i]];
    return buffer;
}

}  // namespace
}  // namespace tarpon::cpu
