// The beginning of attention: what a block has to do, and its query rows made ready for the tensor
// core. A query row r of a kv head is query r / group and head r % group of the group. A block takes
// one kv head, or in mode rotatekv those whose keys are rotated together, a warp each.
#pragma once

#include "kv_cache/fragments.cuh"
#include "kv_cache/vector.cuh"

namespace tarpon::kv_cache {

template <int kHeadDim_, int kRowTiles_, Scheme kScheme>
struct AttendConfig {
    static constexpr int kHeadDim = kHeadDim_;
    static constexpr int kRowTiles = kRowTiles_;
    static constexpr int kRows = 4 * kRowTiles;
    static constexpr int kPairs = kHeadDim / 8;      // words of B operands of a row tile, a lane
    static constexpr int kOutTiles = kHeadDim / 16;  // of 16 channels
    static constexpr bool kTurnsKeys = kScheme == Scheme::kRotatekv;
    static constexpr int kMaxHeads = kTurnsKeys ? kKernelWarps : 1;  // kv heads of a block
    static constexpr int kMeanPairs = kTurnsKeys ? 1 : kHeadDim / 2;
    static constexpr int kValueGroups = kTurnsKeys && kHeadDim > kGroupChannels ? 2 : 1;
    static constexpr int kBlocksPerProcessor = register_blocks(kScheme, kHeadDim, kRowTiles);

    static TARPON_DEVICE int heads(const AttendParams &p) {
        return kTurnsKeys ? p.plan.rotation_heads : 1;
    }
};

// Score of query row r and a key with scale s, from the dot product with its codes:
// (dot * dot_factor - dot_offset) * s + constant, and what the mean's pairs add. Keys that the row
// sees: low .. high - 1.
struct RowRule {
    float dot_factor, dot_offset, constant;
    int low, high;
};

template <class Config>
struct AttendStorage {
    RowRule rules[Config::kMaxHeads][Config::kRows];
    float tops[kKernelWarps][Config::kRows];
    float sums[kKernelWarps][Config::kRows];
    float vectors[kKernelWarps][Config::kHeadDim];
    PairMean turning[Config::kRows][Config::kMeanPairs];  // coefficients of cosine and sine
    // B operands. Column n < 4 of a row tile is row n rounded to binary16, column n + 4 what that
    // rounding took away: the sum of both is as good as fp32, and costs nothing up to four rows.
    uint32_t queries[Config::kMaxHeads][Config::kRowTiles][Config::kPairs][32];
    alignas(128) unsigned char stages[128];  // and on, as many as the launch gives
};

// What a block attends: keys [begin, end) of the pages' codes, or sinks and window [end, length) from
// the recent store; and its chunks of them.
struct Work {
    int row, kv_head, first_row, rows;  // sequence; the first kv head; query rows of each
    int length, begin, end;
    // Sinks of the sequence; where they stand, or null if they are its first tokens.
    int sinks;
    const int32_t *sink_positions;
    bool recent;
    int chunk, chunk_end;

    TARPON_DEVICE int position(const AttendParams &p, int r) const {
        return length - p.queries + (first_row + r) / p.group;
    }
    TARPON_DEVICE int low(const AttendParams &p, int r) const {
        const int low = p.sliding_window > 0 ? position(p, r) + 1 - p.sliding_window : 0;
        return low > 0 ? low : 0;
    }
    // Index of the first element in q and o of a row of the block's head number `head`.
    TARPON_DEVICE int64_t element(const AttendParams &p, int head, int r) const {
        const int query = (first_row + r) / p.group, member = (first_row + r) % p.group;
        return ((int64_t{row} * p.queries + query) * p.q_heads + (kv_head + head) * p.group +
                member) *
               p.plan.format.head_dim;
    }
};

// A run of at most kChunkTokens keys: `first` and on; those in [low, high) count. They are numbers
// of sinks, or positions.
struct Chunk {
    int first, low, high;
    bool sinks;
};

TARPON_DEVICE int chunks_of(int tokens) {
    return (tokens + kChunkTokens - 1) / kChunkTokens;
}

TARPON_DEVICE int warp_sum(int x) {
    TARPON_UNROLL
    for (int mask = 16; mask > 0; mask /= 2)
        x += ptx::shfl_xor(x, mask);
    return x;
}

// [warp] Fills in the sinks. Returns how many of them are the first tokens, which are no work for
// the codes; of the others a chunk masks those that it meets (hidden_keys).
TARPON_DEVICE int find_sinks(const AttendParams &p, Work &w) {
    const int most = p.plan.sink_tokens;
    w.sink_positions = nullptr;
    w.sinks = w.length < most ? w.length : most;
    if (!p.sink_positions) return w.sinks;
    const int32_t *positions = p.sink_positions + int64_t{w.row} * most;
    int seen = 0, leading = 0;
    TARPON_NO_UNROLL
    for (int i = ptx::lane_id(); i < most; i += 32) {
        const int position = ptx::ld_global_nc(&positions[i]);
        const bool is_seen = position >= 0 && position < w.length;
        seen += is_seen;
        leading += is_seen && position == i;  // positions rise: all before it are leading, too
    }
    w.sinks = warp_sum(seen);
    leading = warp_sum(leading);
    if (leading < w.sinks) w.sink_positions = positions;
    return leading;
}

// [warp] Bit i: the key first + i is a sink, and attended elsewhere.
TARPON_DEVICE uint32_t hidden_keys(const Work &w, const Chunk &chunk) {
    if (!w.sink_positions || chunk.sinks) return 0;
    uint32_t hidden = 0;
    TARPON_NO_UNROLL
    for (int i = ptx::lane_id(); i < w.sinks; i += 32) {
        const int at = ptx::ld_global_nc(&w.sink_positions[i]) - chunk.first;
        if (at >= 0 && at < kChunkTokens) hidden |= 1u << at;
    }
    TARPON_UNROLL
    for (int mask = 16; mask > 0; mask /= 2)
        hidden |= ptx::shfl_xor(hidden, mask);
    return hidden;
}

// Where a key of a chunk stands in its sequence; one that does not count, anywhere.
TARPON_DEVICE int key_position(const Work &w, const Chunk &chunk, int key) {
    if (!w.sink_positions || !chunk.sinks || key >= chunk.high) return key;
    return ptx::ld_global_nc(&w.sink_positions[key]);
}

// [warp]
template <class Config>
TARPON_DEVICE Work find_work(const AttendParams &p) {
    Work w;
    const int items = p.splits + p.recent_items, heads = Config::heads(p);
    const int blocks = p.plan.format.kv_heads / heads;
    const int group = ptx::block_idx() / items, item = ptx::block_idx() % items;
    w.first_row = group % p.row_blocks * Config::kRows;
    w.kv_head = group / p.row_blocks % blocks * heads;
    w.row = group / p.row_blocks / blocks;
    const int all_rows = p.queries * p.group;
    w.rows = all_rows - w.first_row < Config::kRows ? all_rows - w.first_row : Config::kRows;
    w.length = ptx::ld_global_nc(&p.lengths[w.row]);
    w.begin = find_sinks(p, w);
    const int window = w.length - p.plan.window_tokens;
    w.end = window > w.begin ? window : w.begin;
    w.recent = item >= p.splits;
    if (w.recent) {
        const int chunks = chunks_of(w.sinks) + chunks_of(w.length - w.end);
        w.chunk = (item - p.splits) * kRecentChunksPerItem;
        w.chunk_end =
            w.chunk + kRecentChunksPerItem < chunks ? w.chunk + kRecentChunksPerItem : chunks;
        return w;
    }
    // No row of the block sees keys before its first row's window or behind its last row.
    const int low = w.low(p, 0), high = w.position(p, w.rows - 1) + 1;
    w.begin = low > w.begin ? low : w.begin;
    w.end = high < w.end ? high : w.end;
    const int first = w.begin / kChunkTokens;
    const int chunks = w.end > w.begin ? chunks_of(w.end) - first : 0;
    const int per_split = (chunks + p.splits - 1) / p.splits;
    w.chunk = first + item * per_split;
    w.chunk_end = w.chunk + per_split < first + chunks ? w.chunk + per_split : first + chunks;
    return w;
}

TARPON_DEVICE Chunk chunk_at(const Work &w, int chunk) {
    if (!w.recent) return {chunk * kChunkTokens, w.begin, w.end, false};
    const int sink_chunks = chunks_of(w.sinks);
    if (chunk < sink_chunks) return {chunk * kChunkTokens, 0, w.sinks, true};
    return {w.end + (chunk - sink_chunks) * kChunkTokens, w.end, w.length, false};
}

// ---- Query rows -------------------------------------------------------------------------------

TARPON_DEVICE float warp_sum(float x) {
    TARPON_UNROLL
    for (int mask = 16; mask > 0; mask /= 2)
        x += ptx::shfl_xor(x, mask);
    return x;
}

// [warp] The mean's share of a score is q . R_j(mean): over pairs, a sum of
// first * cos(angle_j) + second * sin(angle_j), and a constant. `row` is the query after RoPE.
template <class Config>
TARPON_DEVICE float mean_terms(const AttendParams &p, int kv_head, const float *row,
                               PairMean *turning) {
    const int lane = ptx::lane_id(), at = kv_head * p.pair_stride;
    const RopeTables &rope = p.plan.rope;
    for (int n = lane; n < ptx::ld_global_nc(&p.mean_pair_counts[kv_head]); n += 32) {
        const int pair = ptx::ld_global_nc(&p.mean_pairs[at + n]);
        const PairMean mean = ptx::ld_global_nc(&p.pair_means[at + n]);
        const float first = ptx::ld_shared(&row[rope_first(rope, pair)]);
        const float second = ptx::ld_shared(&row[rope_second(rope, pair)]);
        ptx::st_shared(&turning[n], {first * mean.first + second * mean.second,
                                     second * mean.first - first * mean.second});
    }
    float constant = 0;
    for (int i = 2 * rope.pairs + lane; p.plan.mean && i < Config::kHeadDim; i += 32) {
        constant += ptx::ld_shared(&row[i]) *
                    ptx::ld_global_nc(&p.plan.mean[int64_t{kv_head} * Config::kHeadDim + i]);
    }
    return warp_sum(constant);
}

// [warp] Row r of the block's head number `head` into storage: B operands in the order of the keys,
// and its rule. Rows that are not there, and queries before the start of their sequence, become
// zeros.
template <class Config>
TARPON_DEVICE void prepare_row(const AttendParams &p, const Work &w, int head, int r,
                               AttendStorage<Config> &storage) {
    constexpr int kHeadDim = Config::kHeadDim;
    using Head = HeadVector<kHeadDim>;
    float *row = storage.vectors[ptx::warp_id()];
    // Keys that have been turned back lie as those of 16 bits do.
    const int lane = ptx::lane_id(),
              bits = w.recent || Config::kTurnsKeys ? 16 : p.plan.format.k_bits;
    const bool there = r < w.rows && w.position(p, r) >= 0;
    float x[Head::kElems] = {};
    if (there) {
        load_vector<kHeadDim>(p.q, p.plan.element, w.element(p, head, r), p.vectors, x);
        norm_vector<kHeadDim>(p.plan.q_norm, p.plan.norm_eps, row, x);
        turn_vector<kHeadDim>(p.plan.rope, w.position(p, r), row, x);
    }
    TARPON_UNROLL
    for (int i = 0; i < Head::kElems; ++i)
        x[i] *= p.q_scale;
    share_vector<kHeadDim>(row, x);
    float constant = 0;
    if constexpr (!Config::kTurnsKeys) {
        constant = mean_terms<Config>(p, w.kv_head, row, storage.turning[r]);
        ptx::sync_warp();
        rotate_vector<kHeadDim>(p.plan, x);
        share_vector<kHeadDim>(row, x);
    }
    const float absmax = shared_spread<kHeadDim>(row).absmax;
    ptx::sync_warp();
    // The largest magnitude becomes 2^14 .. 2^15: codes take up to 2^6 from their channels.
    constexpr int kLargestExponent = 14, kLeastExponent = -100;
    int exponent = absmax > 0 ? ilogbf(absmax) : 0;
    exponent = exponent < kLeastExponent ? kLeastExponent : exponent;
    float sum = 0;
    TARPON_UNROLL
    for (int i = 0; i < Head::kElems; ++i) {
        x[i] *= ldexpf(1.0f, kLargestExponent - exponent);
        sum += x[i];
    }
    sum = warp_sum(sum);
    share_vector<kHeadDim>(row, x);
    auto &operands = storage.queries[head][r / 4];
    for (int i = lane; i < 4 * Config::kPairs; i += 32) {
        const int pair = i / 4, m = i % 4;
        float values[2];
        TARPON_UNROLL
        for (int half = 0; half < 2; ++half) {
            const KChannel at = k_channel(kHeadDim, bits, pair, m, half);
            values[half] = ptx::ld_shared(&row[at.channel]) * ldexpf(1.0f, -at.shift);
        }
        const uint32_t rounded = ptx::pack2<half_t>(values[0], values[1]);
        float low, high;
        ptx::unpack2<half_t>(rounded, low, high);
        ptx::st_shared(&operands[pair][4 * (r % 4) + m], rounded);
        ptx::st_shared(&operands[pair][4 * (r % 4 + 4) + m],
                       ptx::pack2<half_t>(values[0] - low, values[1] - high));
    }
    if (lane == 0) {
        const float unit = ldexpf(1.0f, exponent - kLargestExponent);
        RowRule *rule = &storage.rules[head][r];
        ptx::st_shared(&rule->dot_factor, bits == 16 ? unit : unit * 0x1p24f);
        ptx::st_shared(&rule->dot_offset,
                       bits == 16 ? 0.0f : 0.5f * float((1 << bits) - 1) * sum * unit);
        ptx::st_shared(&rule->constant, constant);
        ptx::st_shared(&rule->low, there ? w.low(p, r) : 0);
        ptx::st_shared(&rule->high, there ? w.position(p, r) + 1 : 0);
    }
    ptx::sync_warp();
}

}  // namespace tarpon::kv_cache
