// What every backend of the KV cache shares on the host: the tables of RoPE, where tokens are
// attended from, the check of lists of sinks, and reading tokens back in plain coordinates. Linked
// into the simulator's plug-in, too.
#include <algorithm>

#include "kv_cache.h"
#include "status.h"

namespace tarpon {

using namespace kv_cache;

namespace {

void load_halves(const uint16_t *from, int count, float *to) {
    for (int i = 0; i < count; ++i)
        to[i] = to_float(half_t{from[i]});
}

// Keys of all heads before RoPE, mode rotatekv: only all of a rotation's heads give any one of
// them.
void recover_rotatekv_keys(const KvProblem &problem, const uint8_t *page, int place, float *keys) {
    const Format &f = problem.format;
    const int group = rotatekv_group_heads(f.kv_heads) * f.head_dim;
    for (int head = 0; head < f.kv_heads; ++head) {
        float stored[kMaxHeadDim];
        load_key(page + int64_t{head} * block_layout(f).bytes, f, place, stored);
        for (int i = 0; i < f.head_dim; ++i)
            keys[problem.k_order[head * f.head_dim + i]] = stored[i];
    }
    for (int i = 0; i < f.kv_heads * f.head_dim; i += group)
        hadamard::transform_reference(keys + i, group);
}

}  // namespace

KvTables::KvTables(const KvProblem &problem) {
    const RopeRule &rule = problem.rope;
    const auto fill = [&](std::vector<CosSin> &table, int count, int64_t stride) {
        table.reserve(size_t(count) * rule.pairs);
        for (int i = 0; i < count; ++i) {
            for (int pair = 0; pair < rule.pairs; ++pair) {
                table.push_back(
                    rope_table_entry(rule.theta, rule.scaling, rule.pairs, i * stride, pair));
            }
        }
    };
    constexpr int digit = kRopeDigit;
    fill(low, digit, 1);
    fill(high, (problem.max_tokens + digit - 1) / digit, digit);
    view = {low.data(), high.data(), rule.pairs, rule.layout};
}

KvSinks::KvSinks(const KvProblem &problem, const int32_t *sink_positions, int64_t row)
    : positions(sink_positions ? sink_positions + row * problem.sink_tokens : nullptr),
      count(problem.sink_tokens) {
    while (positions && count > 0 && positions[count - 1] < 0)
        --count;
}

int KvSinks::before(int64_t position) const {
    if (!positions) return static_cast<int>(std::clamp<int64_t>(position, 0, count));
    return static_cast<int>(std::lower_bound(positions, positions + count, position) - positions);
}

int KvSinks::place(int64_t position) const {
    const int place = before(position);
    return place < count && this->position(place) == position ? place : -1;
}

int KvSinks::leading() const {
    // Positions rise, so one that equals its place has none but such before it.
    int low = 0, high = count;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (position(middle) == middle)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int64_t kv_recent_entry(const KvProblem &problem, const KvSinks &sinks, int64_t position,
                        int64_t length) {
    const int place = sinks.place(position);
    if (place >= 0) return place;
    if (position < length - problem.window_tokens) return -1;
    return problem.sink_tokens + position % kv_ring_tokens(problem);
}

void kv_dequantize_token(const KvProblem &problem, const KvTables &tables,
                         const tarpon_kv_dequantize_args &a, int64_t token) noexcept {
    const Format &f = problem.format;
    const int64_t slot = a.slots[token], channels = int64_t{f.kv_heads} * f.head_dim;
    if (slot < 0) return;
    const int position = a.positions[token], row = a.rows[token];
    const int place = static_cast<int>(slot % f.page_tokens);
    const uint8_t *page =
        static_cast<const uint8_t *>(a.pages) + slot / f.page_tokens * page_bytes(f);
    const KvSinks sinks(problem, a.sink_positions, row);
    const int64_t entry = a.recent ? kv_recent_entry(problem, sinks, position, a.lengths[row]) : -1;
    const uint16_t *recent = nullptr;
    if (entry >= 0) {
        recent = static_cast<const uint16_t *>(a.recent) +
                 (a.recent_index ? a.recent_index[row] : row) * kv_recent_elems(problem) +
                 entry * kv_recent_entry_elems(problem);
    }
    float *keys = a.k + token * channels, *values = a.v + token * channels;
    if (problem.rotatekv() && !recent) recover_rotatekv_keys(problem, page, place, keys);
    for (int head = 0; head < f.kv_heads; ++head) {
        float *k = keys + head * f.head_dim, *v = values + head * f.head_dim;
        const uint8_t *block = page + int64_t{head} * block_layout(f).bytes;
        if (recent) {
            load_halves(recent + int64_t{2} * head * f.head_dim, f.head_dim, k);
            load_halves(recent + (int64_t{2} * head + 1) * f.head_dim, f.head_dim, v);
        } else {
            if (!problem.rotatekv()) load_key(block, f, place, k);
            load_value(block, f, place, v);
        }
        hadamard::transform_reference(v, f.head_dim);
        if (problem.rotatekv()) {
            if (!recent) rope(tables.view, position, k);
            continue;
        }
        hadamard::transform_reference(k, f.head_dim);
        if (const float *mean = problem.mean(head)) {
            float turned[kMaxHeadDim];
            std::copy_n(mean, f.head_dim, turned);
            rope(tables.view, position, turned);
            for (int i = 0; i < f.head_dim; ++i)
                k[i] += turned[i];
        }
    }
}

tarpon_status check_kv_sinks(const KvProblem &problem, const char *call,
                             const int32_t *sink_positions, int64_t batch) noexcept {
    const int count = problem.sink_tokens;
    for (int64_t row = 0; sink_positions && row < batch; ++row) {
        const int32_t *list = sink_positions + row * count;
        for (int i = 0; i < count; ++i) {
            if (list[i] >= problem.max_tokens) {
                return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                                 "kv %s: sink_positions[%lld, %d] is %d; max_tokens is %d", call,
                                 static_cast<long long>(row), i, list[i], problem.max_tokens);
            }
            if (i == 0 || list[i] < 0 || (list[i - 1] >= 0 && list[i - 1] < list[i])) continue;
            return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                             "kv %s: sink_positions[%lld, %d] is %d after %d; a row's positions "
                             "must rise, and negative numbers be behind them",
                             call, static_cast<long long>(row), i, list[i], list[i - 1]);
        }
    }
    return TARPON_OK;
}

}  // namespace tarpon
