// How attention is cut into blocks, splits and stages: pure, testable without a GPU.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kv_cache/kernels.h"

namespace tarpon::kv_cache {

inline constexpr int64_t round_up(int64_t value, int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

// Query rows (queries times heads of a group) of a block: tiles of four, since each row takes two
// of the eight columns of an mma tile (query.cuh). A head_dim of 256 leaves registers for one tile,
// and one of 96 is too rare for a kernel of its own.
TARPON_LAYOUT int row_tiles(int head_dim, int query_rows) {
    return query_rows > 4 && (head_dim == 64 || head_dim == 128) ? 2 : 1;
}

// ---- Stages -----------------------------------------------------------------------------------

inline constexpr int kRowPadBytes = 16;  // of rows of binary16, so that ldmatrix hits all banks

// Bytes of a chunk's plane of codes of `width` bits.
TARPON_LAYOUT int plane_bytes(int head_dim, int width) {
    return kChunkTokens * head_dim * width / 8;
}
TARPON_LAYOUT int half_rows_bytes(int head_dim) {
    return kChunkTokens * (2 * head_dim + kRowPadBytes);
}

inline constexpr int kScalePlaneBytes = 2 * kChunkTokens;

// Fills in where the values are, from v_codes on: `groups` scales a token, and zero points if
// `zeros`.
TARPON_LAYOUT void place_values(StageLayout &s, int head_dim, int v_bits, int groups, bool zeros) {
    const int scale_bytes = has_scales(v_bits) ? groups * kScalePlaneBytes : 0;
    s.v_upper = s.v_codes + (v_bits == 16 ? half_rows_bytes(head_dim)
                                          : plane_bytes(head_dim, v_bits == 3 ? 2 : v_bits));
    s.v_scales = s.v_upper + (v_bits == 3 ? plane_bytes(head_dim, 1) : 0);
    s.v_zeros = s.v_scales + scale_bytes;
    s.bytes = s.v_zeros + (zeros ? scale_bytes : 0);
    s.bytes = (s.bytes + 127) / 128 * 128;  // slots begin at a multiple of all banks
}

// Offsets for widths of K and V; `k_rows`: K is rows of binary16, as in the recent store.
TARPON_LAYOUT StageLayout stage_offsets(int head_dim, int k_bits, int v_bits, bool k_rows) {
    StageLayout s{};
    s.k_upper =
        k_rows ? half_rows_bytes(head_dim) : plane_bytes(head_dim, k_bits == 3 ? 2 : k_bits);
    s.k_scales = s.k_upper + (k_bits == 3 ? plane_bytes(head_dim, 1) : 0);
    s.v_codes = s.k_scales + (has_scales(k_bits) ? kScalePlaneBytes : 0);
    place_values(s, head_dim, v_bits, 1, false);
    return s;
}

// Mode rotatekv: a warp's keys, turned back, as floats [head_dim][16 tokens], and when they have
// been scored the values of its chunk. The last bytes hold the padding of values of 16 bits.
TARPON_LAYOUT int turned_bytes(int head_dim) {
    return half_rows_bytes(head_dim);
}
constexpr StageLayout turned_stage(const Format &f, int v_bits) {
    StageLayout s{};
    place_values(s, f.head_dim, v_bits, scale_groups(f), true);
    s.warps = kKernelWarps, s.slots = 1;
    return s;
}

// The stages of codes in `room` bytes: as many warps as fit with two slots each, and then more slots.
// warps is 0 if there is no room for that.
constexpr StageLayout code_stage(const Format &f, int room) {
    StageLayout s = stage_offsets(f.head_dim, f.k_bits, f.v_bits, false);
    for (int warps = kKernelWarps; warps >= 1; warps /= 2) {
        for (int slots = 4; slots >= 2; --slots) {
            if (warps * slots * s.bytes > room) continue;
            s.warps = warps, s.slots = slots;
            return s;
        }
    }
    return s;
}

// The stages of the recent store in what room there is.
constexpr StageLayout recent_stage(const Format &f, int room) {
    StageLayout s = stage_offsets(f.head_dim, 16, 16, true);
    const int stages = room / s.bytes;
    s.warps = std::clamp(stages / 2, 1, kKernelWarps);
    s.slots = std::clamp(stages / s.warps, 1, 4);
    return s;
}

// ---- Attention on a GPU -----------------------------------------------------------------------

// What of a GPU decides how its processors are filled.
struct DeviceLimits {
    int processors;
    int shared_per_processor;  // bytes of shared memory of a processor,
    int shared_per_block;      // and those that a block may have of them
};
inline constexpr int kReservedSharedBytes = 1024;  // that each block takes of a processor's

struct AttendTuning {
    StageLayout code, recent;
    int stage_bytes;           // of shared memory, for either
    int blocks_per_processor;  // that run at a time; 0: not even one has room
};

// In `room` bytes for the stages of a block.
constexpr AttendTuning tune_block(const Format &f, int query_rows, bool has_recent, int room) {
    if (f.scheme == Scheme::kRotatekv) {
        return {turned_stage(f, f.v_bits), turned_stage(f, 16),
                kKernelWarps * turned_bytes(f.head_dim), 0};
    }
    const StageLayout code = code_stage(f, room);
    // The warps add up their results in the same place, and sinks and window need a stage, too.
    const int sums = kKernelWarps * 4 * row_tiles(f.head_dim, query_rows) * f.head_dim * 4;
    const int recent = has_recent ? stage_offsets(f.head_dim, 16, 16, true).bytes : 0;
    const int bytes = std::max({code.warps * code.slots * code.bytes, sums, recent});
    return {code, recent_stage(f, bytes), bytes, 0};
}

// Blocks of a processor share its memory: the fewer, the more stages each has. Chosen is what has
// most warps attending on a processor, then most bytes under way to it: what hides the latency of
// memory. `storage_bytes`: what a block keeps beside its stages.
constexpr AttendTuning select_attend(const Format &f, int query_rows, bool has_recent,
                                     int storage_bytes, const DeviceLimits &device) {
    AttendTuning best{};
    int most_warps = 0, most_bytes = 0;
    const int tiles = row_tiles(f.head_dim, query_rows);
    for (int blocks = register_blocks(f.scheme, f.head_dim, tiles); blocks >= 1; --blocks) {
        const int room = std::min(device.shared_per_processor / blocks - kReservedSharedBytes,
                                  device.shared_per_block) -
                         storage_bytes;
        AttendTuning tuning = tune_block(f, query_rows, has_recent, room);
        if (tuning.code.warps == 0 || tuning.stage_bytes > room) continue;
        tuning.blocks_per_processor = blocks;
        const int warps = blocks * tuning.code.warps;
        const int bytes = warps * (tuning.code.slots - 1) * tuning.code.bytes;
        if (warps > most_warps || (warps == most_warps && bytes > most_bytes)) {
            best = tuning;
            most_warps = warps, most_bytes = bytes;
        }
    }
    return best;
}

// ---- Append -----------------------------------------------------------------------------------

// Whole tiles of all heads share their angles and fill whole sectors of the page. Where they would
// leave processors idle a block takes fewer heads, and then fewer tokens.
constexpr AppendTile select_append(int64_t tokens, int kv_heads, int processors) {
    AppendTile tile{kAppendTokens, kv_heads};
    const auto blocks = [&] {
        return (tokens + tile.tokens - 1) / tile.tokens *
               ((kv_heads + tile.heads - 1) / tile.heads);
    };
    while (tile.heads > 1 && blocks() < 4 * processors)
        tile.heads = (tile.heads + 1) / 2;
    while (tile.tokens > 2 && blocks() < 4 * processors)
        tile.tokens /= 2;
    return tile;
}

// ---- Splits -----------------------------------------------------------------------------------

// The keys of a sequence are cut into equal runs, so that few sequences fill the device and long
// ones do not outlast the others. The cut depends on shapes and device alone, never on timing.
inline constexpr int kMinSplitTokens = 256;
inline constexpr int kMaxSplitTokens = 8192;  // unless that takes more than kMaxSplits
inline constexpr int kMaxSplits = 64;

constexpr int64_t splits_at_most(int64_t max_length, int64_t tokens) {
    return std::clamp<int64_t>((max_length + tokens - 1) / tokens, 1, kMaxSplits);
}

// `groups`: blocks of query rows over all sequences and kv heads; `resident_blocks`: those that the
// device runs at a time.
constexpr int select_splits(int64_t groups, int64_t max_length, int resident_blocks) {
    const int64_t wanted = (resident_blocks + groups - 1) / groups;
    return int(std::max(std::min(wanted, splits_at_most(max_length, kMinSplitTokens)),
                        splits_at_most(max_length, kMaxSplitTokens)));
}

// Blocks that no selection for as many groups, or fewer, and such a length, or a shorter one, and
// whatever tuning, exceeds: groups * select_splits() itself may shrink as groups grow.
constexpr int64_t blocks_bound(int64_t groups, int64_t max_length, int processors,
                               int recent_items) {
    const int64_t spread = std::min(groups * splits_at_most(max_length, kMinSplitTokens),
                                    groups + int64_t{kMaxBlocksPerProcessor} * processors);
    return std::max(spread, groups * splits_at_most(max_length, kMaxSplitTokens)) +
           groups * recent_items;
}

// Chunks of sinks and window that a block attends.
inline constexpr int kRecentChunksPerItem = 16;

constexpr int recent_chunks(int tokens) {
    return (tokens + kChunkTokens - 1) / kChunkTokens;
}
constexpr int recent_items(int sink_tokens, int window_tokens) {
    return (recent_chunks(sink_tokens) + recent_chunks(window_tokens) + kRecentChunksPerItem - 1) /
           kRecentChunksPerItem;
}

constexpr int64_t partial_floats(int head_dim, int query_rows) {
    return int64_t{4} * row_tiles(head_dim, query_rows) * (head_dim + 2);
}

constexpr size_t flags_bytes(int64_t blocks) {
    return size_t(round_up(blocks * int64_t{sizeof(Ticket)}, 64));
}

// `heads`: kv heads of a block, 1 in mode tarpon.
constexpr size_t attend_workspace_bytes(int64_t blocks, int heads, int head_dim, int query_rows) {
    return flags_bytes(blocks) + size_t(4 * blocks * heads * partial_floats(head_dim, query_rows));
}

}  // namespace tarpon::kv_cache
