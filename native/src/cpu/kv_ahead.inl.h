// Memory that is read soon, asked for while a kernel works on what is there. Sequences' pages lie
// anywhere, and a processor's own prefetcher does not follow from one to the next; asked for all at
// once it would be more than a core has buffers for. Each file has its own copy (anonymous
// namespace).
#pragma once

#include "cpu/kv_kernel.h"

namespace tarpon::cpu {
namespace {

inline KvAhead part_of(const KvAhead &ahead, int i, int parts) {
    const int lines = ahead.end - ahead.begin;
    return {ahead.blocks, ahead.block_lines, ahead.begin + lines * i / parts,
            ahead.begin + lines * (i + 1) / parts};
}

// Asks for all of it, for the level-2 cache: level 1 has no room for a whole split. Always inline,
// because GCC takes a function that only prefetches for one without effect and drops the call.
__attribute__((always_inline)) inline void fetch(const KvAhead &ahead) {
    if (ahead.begin == ahead.end) return;
    int block = ahead.begin / ahead.block_lines, line = ahead.begin % ahead.block_lines;
    for (int left = ahead.end - ahead.begin; left > 0; --left) {
        __builtin_prefetch(ahead.blocks[block] + 64 * line, 0, 2);
        if (++line == ahead.block_lines) line = 0, ++block;
    }
}

// The pages of a call for values.
inline int value_pages(const KvValueArgs &a) {
    return (a.first_token + a.tokens + a.page_tokens - 1) / a.page_tokens;
}

}  // namespace
}  // namespace tarpon::cpu
