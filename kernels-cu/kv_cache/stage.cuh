// A warp's copies of chunks of keys and values in shared memory, several ahead of their use. What
// is behind a sequence's end is not read, and zero in the copy: pages may hold anything there.
#pragma once

#include "kv_cache/query.cuh"

namespace tarpon::kv_cache {

TARPON_DEVICE int clamp_bytes(int bytes) {
    return bytes < 0 ? 0 : bytes > 16 ? 16 : bytes;
}

// K codes of `width` bits of the first `valid` tokens of a chunk.
template <int kHeadDim>
TARPON_DEVICE void copy_key_plane(uint8_t *to, const uint8_t *from, int width, int valid) {
    const int tile_pieces = kHeadDim * width / 8;
    for (int i = ptx::lane_id(); i < 2 * tile_pieces; i += 32) {
        const int first_token = (i >= tile_pieces ? kTileTokens : 0) + 4 * (i % 4);
        ptx::cp_async_16(to + 16 * i, from + 16 * i, clamp_bytes(4 * (valid - first_token)));
    }
}

// The first `valid_bytes` of `bytes`.
TARPON_DEVICE void copy_bytes(uint8_t *to, const uint8_t *from, int bytes, int valid_bytes) {
    for (int at = 16 * ptx::lane_id(); at < bytes; at += 512)
        ptx::cp_async_16(to + at, from + at, clamp_bytes(valid_bytes - at));
}

// V codes of `width` bits, permuted as v_is_swizzled() says.
template <int kHeadDim>
TARPON_DEVICE void copy_value_plane(uint8_t *to, const uint8_t *from, int width, int valid) {
    const int row_bytes = kHeadDim * width / 8;
    if (!v_is_swizzled(kHeadDim, width))
        return copy_bytes(to, from, kChunkTokens * row_bytes, valid * row_bytes);
    for (int at = 16 * ptx::lane_id(); at < kChunkTokens * row_bytes; at += 512) {
        const int four = at / (4 * row_bytes) % 4;
        ptx::cp_async_16(to + (at ^ four << 5), from + at, clamp_bytes(valid * row_bytes - at));
    }
}

// Bits of the first `count` tokens of a chunk.
TARPON_DEVICE uint32_t first_tokens(int count) {
    return count >= kChunkTokens ? 0xffffffffu : (1u << count) - 1;
}

// Rows of binary16: row_of(token) for the tokens whose bit is set in `there`, zeros for the others.
template <int kHeadDim, class RowOf>
TARPON_DEVICE void copy_half_rows(uint8_t *to, uint32_t there, RowOf row_of) {
    constexpr int kPieces = kHeadDim / 8;
    for (int i = ptx::lane_id(); i < kChunkTokens * kPieces; i += 32) {
        const int token = i / kPieces, piece = i % kPieces;
        const bool is_there = there >> token & 1;
        const half_t *from = row_of(is_there ? token : 0) + 8 * piece;
        ptx::cp_async_16(to + half_row(token) * (2 * kHeadDim + kRowPadBytes) + 16 * piece, from,
                         is_there ? 16 : 0);
    }
}

// The values of a chunk of the pages' codes: `place` in the page is that of its first token.
template <class Config>
TARPON_DEVICE void copy_values(const PlanParams &plan, const uint8_t *block, int place, int valid,
                               const StageLayout &s, uint8_t *slot) {
    constexpr int kHeadDim = Config::kHeadDim;
    const Format &f = plan.format;
    const uint8_t *values = block + plan.layout.v_codes;
    if (f.v_bits == 16) {
        const auto *rows = reinterpret_cast<const half_t *>(values) + place * kHeadDim;
        copy_half_rows<kHeadDim>(slot + s.v_codes, first_tokens(valid),
                                 [&](int token) { return rows + token * kHeadDim; });
        return;
    }
    const int width = code_width(f.v_bits);
    copy_value_plane<kHeadDim>(slot + s.v_codes, values + place * kHeadDim * width / 8, width,
                               valid);
    if (f.v_bits == 3) {
        copy_value_plane<kHeadDim>(slot + s.v_upper,
                                   values + (2 * f.page_tokens + place) * kHeadDim / 8, 1, valid);
    }
    TARPON_UNROLL
    for (int group = 0; group < Config::kValueGroups; ++group) {
        const int from = 2 * scale_index(f, group, place), to = group * kScalePlaneBytes;
        copy_bytes(slot + s.v_scales + to, block + plan.layout.v_scales + from, kScalePlaneBytes,
                   2 * valid);
        if constexpr (Config::kTurnsKeys)
            copy_bytes(slot + s.v_zeros + to, block + plan.layout.v_zeros + from, kScalePlaneBytes,
                       2 * valid);
    }
}

// A head's block of a page.
TARPON_DEVICE const uint8_t *head_block(const AttendParams &p, int page, int kv_head) {
    return p.pages +
           (int64_t{page} * p.plan.format.kv_heads + kv_head) * int64_t{p.plan.layout.bytes};
}

// A chunk of the pages' codes. All of it lies in one page.
template <class Config>
TARPON_DEVICE void copy_codes(const AttendParams &p, const Work &w, int first, int page,
                              const StageLayout &s, uint8_t *slot) {
    constexpr int kHeadDim = Config::kHeadDim;
    const Format &f = p.plan.format;
    const BlockLayout &layout = p.plan.layout;
    const uint8_t *block = head_block(p, page, w.kv_head);
    const int place = first % f.page_tokens, valid = w.length - first;
    const uint8_t *keys = block + layout.k_codes;
    const int k_width = code_width(f.k_bits);
    copy_key_plane<kHeadDim>(slot + s.k_codes, keys + place * kHeadDim * k_width / 8, k_width,
                             valid);
    if (f.k_bits == 3) {
        copy_key_plane<kHeadDim>(slot + s.k_upper,
                                 keys + (2 * f.page_tokens + place) * kHeadDim / 8, 1, valid);
    }
    if (f.k_bits < 16) {
        copy_bytes(slot + s.k_scales, block + layout.k_scales + 2 * place, kScalePlaneBytes,
                   2 * valid);
    }
    copy_values<Config>(p.plan, block, place, valid, s, slot);
}

// The recent store's keys of one head of a sequence, an entry a token; values are head_dim further.
struct RecentRows {
    const half_t *first;
    int64_t entry_elems;
    int sink_tokens, ring_tokens;

    TARPON_DEVICE RecentRows(const AttendParams &p, const Work &w, int kv_head)
        : entry_elems(int64_t{2} * p.plan.format.kv_heads * p.plan.format.head_dim),
          sink_tokens(p.plan.sink_tokens),
          ring_tokens(p.plan.ring_tokens) {
        const int64_t sequence = p.recent_index ? ptx::ld_global_nc(&p.recent_index[w.row]) : w.row;
        first = p.recent + sequence * (sink_tokens + ring_tokens) * entry_elems +
                int64_t{2} * kv_head * p.plan.format.head_dim;
    }
    TARPON_DEVICE const half_t *key(const Chunk &chunk, int token) const {
        const int at = chunk.first + token;
        return first + (chunk.sinks ? at : sink_tokens + at % ring_tokens) * entry_elems;
    }
};

// [warp] The tokens of a chunk that the store has: the ring has no sinks.
TARPON_DEVICE uint32_t recent_tokens(const Work &w, const Chunk &chunk) {
    return first_tokens(chunk.high - chunk.first) & ~hidden_keys(w, chunk);
}

// [warp] A chunk of sinks or of the window.
template <int kHeadDim>
TARPON_DEVICE void copy_recent(const AttendParams &p, const Work &w, const Chunk &chunk,
                               const StageLayout &s, uint8_t *slot) {
    const RecentRows rows(p, w, w.kv_head);
    const uint32_t there = recent_tokens(w, chunk);
    copy_half_rows<kHeadDim>(slot + s.k_codes, there,
                             [&](int token) { return rows.key(chunk, token); });
    copy_half_rows<kHeadDim>(slot + s.v_codes, there,
                             [&](int token) { return rows.key(chunk, token) + kHeadDim; });
}

// Waits until all but the newest `pending` groups of copies have arrived; at most 3.
TARPON_DEVICE void wait_for_copies(int pending) {
    switch (pending) {
        case 0:
            return ptx::cp_async_wait<0>();
        case 1:
            return ptx::cp_async_wait<1>();
        case 2:
            return ptx::cp_async_wait<2>();
        default:
            return ptx::cp_async_wait<3>();
    }
}

// A warp's chunks in turn: fetch() starts the next copy, slot(n) is where the n-th chunk arrives.
template <class Config>
class ChunkQueue {
  public:
    TARPON_DEVICE ChunkQueue(const AttendParams &p, const Work &w, uint8_t *stages)
        : p_(p), w_(w), stage_(w.recent ? p.recent_stage : p.code_stage) {
        slots_ = stages + ptx::warp_id() * stage_.slots * stage_.bytes;
        next_ = ptx::warp_id() < stage_.warps ? w.chunk + ptx::warp_id() : w.chunk_end;
        chunk_ = next_;
        look_up();
    }

    TARPON_DEVICE bool done() const { return chunk_ >= w_.chunk_end; }
    TARPON_DEVICE Chunk chunk() const { return chunk_at(w_, chunk_); }
    TARPON_DEVICE const StageLayout &stage() const { return stage_; }
    TARPON_DEVICE const uint8_t *slot() const { return slots_ + slot_ * stage_.bytes; }

    // Starts the copies of the first chunks, but one for which there is a slot.
    TARPON_DEVICE void start() {
        for (int i = 0; i + 1 < stage_.slots; ++i)
            fetch();
    }
    // The chunk arrives; the slot of the one before is filled anew.
    TARPON_DEVICE void wait() {
        fetch();
        wait_for_copies(stage_.slots - 1);
        ptx::sync_warp();
    }
    // All lanes are done with the chunk.
    TARPON_DEVICE void advance() {
        ptx::sync_warp();
        chunk_ += stage_.warps;
        slot_ = slot_ + 1 == stage_.slots ? 0 : slot_ + 1;
    }

  private:
    // The page of the next chunk, ahead of its use: a load before copies that depend on it. Table
    // entries behind the last chunk are not read.
    TARPON_DEVICE void look_up() {
        if (w_.recent || next_ >= w_.chunk_end) return;
        const int index = next_ * kChunkTokens / p_.plan.format.page_tokens;
        page_ = ptx::ld_global_nc(&p_.page_table[w_.row * p_.table_stride + index]);
    }
    TARPON_DEVICE void fetch() {
        if (next_ < w_.chunk_end) {
            uint8_t *slot = slots_ + fetch_slot_ * stage_.bytes;
            if (w_.recent) {
                copy_recent<Config::kHeadDim>(p_, w_, chunk_at(w_, next_), stage_, slot);
            } else {
                copy_codes<Config>(p_, w_, next_ * kChunkTokens, page_, stage_, slot);
            }
            next_ += stage_.warps;
            look_up();
        }
        ptx::cp_async_commit();  // an empty group at the end keeps the count of pending ones right
        fetch_slot_ = fetch_slot_ + 1 == stage_.slots ? 0 : fetch_slot_ + 1;
    }

    const AttendParams &p_;
    const Work &w_;
    const StageLayout stage_;
    uint8_t *slots_;
    int chunk_, next_, page_ = 0, slot_ = 0, fetch_slot_ = 0;
};

}  // namespace tarpon::kv_cache
