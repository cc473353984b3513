// What decode attention does with one stretch of keys and values: scores, exponentials, weighted
// values, for the queries that share them. Called by kv_attend.cc.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/kv_ahead.inl.h"
#include "cpu/kv_plan.h"

namespace tarpon::cpu {

using namespace kv_cache;

namespace {

constexpr int kRecentTokens = 1280;  // sinks and window at most
constexpr int kMaxHeadsATask = 4;
constexpr int kMaxPages = kKvSplitTokens / 64 + 1;  // of a split
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
// Of scores: whole tiles before and behind the split.
constexpr int64_t kScoreStride = kKvSplitTokens + 2 * kKvTile;

}  // namespace

// Adds the mean's share to scores of `count` tokens from `position` on. Scores have room for a
// multiple of 16; positions go on by one.
void KvCpuPlan::add_mean(const float *queries, int rows, int kv_head, int64_t position, int count,
                         float *scores, int64_t stride) const noexcept {
    const std::vector<int32_t> &pairs = mean_pairs_[kv_head];
    const int head_dim = problem_.format.head_dim, pair_count = static_cast<int>(pairs.size());
    const bool constant = !problem_.k_mean.empty() && 2 * rope_.pairs < head_dim;
    if (pair_count == 0 && !constant) return;
    for (int t = 0; t < count; t += kKvSteps) {
        float cos[kMaxHeadDim / 2], sin[kMaxHeadDim / 2];
        for (int i = 0; i < pair_count; ++i) {
            const CosSin angle = rope_angle(rope_, static_cast<int>(position + t), pairs[i]);
            cos[i] = angle.cos;
            sin[i] = angle.sin;
        }
        const int tiles = (std::min(kKvSteps, count - t) + kKvTile - 1) / kKvTile;
        kernels_.mean({queries + head_dim, queries + head_dim + pair_count, queries + 2 * head_dim,
                       query_stride(), rows, pair_count, pairs.data(), cos, sin, step_cos_.data(),
                       step_sin_.data(), tiles, scores + t, stride});
    }
}

// Caps scores [begin, end); the others of `count` are of keys that the query does not see.
void KvCpuPlan::mask_scores(float *scores, int count, int begin, int end) const noexcept {
    const float cap = static_cast<float>(problem_.attention.softcap);
    std::fill(scores, scores + begin, kMinusInfinity);
    for (int t = begin; cap > 0 && t < end; ++t)
        scores[t] = cap * std::tanh(scores[t] / cap);
    std::fill(scores + end, scores + count, kMinusInfinity);
}

// Scores of [first, end) for the stretch's one head, straight from the codes; `first` begins a
// tile.
void KvCpuPlan::score_codes(const Stretch &stretch, int64_t first, int64_t end, float *scores,
                            const KvAhead &ahead) const noexcept {
    const Format &f = problem_.format;
    const int head = stretch.first_head;
    const float *queries = stretch.queries(head);
    constexpr int kTiles = 2;  // of a call
    const int count = static_cast<int>(end - first);
    const int calls = (count + kTiles * kKvTile - 1) / (kTiles * kKvTile);
    stretch.for_pages(first, end, [&](int64_t token, int64_t stop) {
        const int last = static_cast<int>((stop - 1) % f.page_tokens) / kKvTile;
        const uint8_t *block = stretch.page(token) + int64_t{head} * layout_.bytes;
        float *to = scores + (token - first);
        for (int tile = static_cast<int>(token % f.page_tokens) / kKvTile; tile <= last;
             tile += kTiles, to += kTiles * kKvTile) {
            const int call = static_cast<int>(to - scores) / (kTiles * kKvTile);
            if (has_scales(f.k_bits)) fetch(part_of(ahead, call, calls));
            kernels_.score[kv_width_index(f.k_bits)](
                {block + layout_.k_codes,
                 reinterpret_cast<const uint16_t *>(block + layout_.k_scales), f.head_dim,
                 f.page_tokens, tile, std::min(kTiles, last + 1 - tile), queries,
                 queries + packed_offset(), query_stride(), stretch.rows, to, kScoreStride});
        }
    });
    add_mean(queries, stretch.rows, head, first, count, scores, kScoreStride);
}

// The same for all heads of a rotation, mode rotatekv: their keys are turned back tile by tile.
void KvCpuPlan::score_turned(const Stretch &stretch, int64_t first, int64_t end, float *scores,
                             const KvAhead &ahead) const noexcept {
    const Format &f = problem_.format;
    alignas(64) float keys[kMaxHeadsATask * kMaxHeadDim * kKvTile];
    const int channels = stretch.heads * f.head_dim;
    const hadamard::Size rotation = hadamard::decompose(channels);
    const int tile_bytes = 4 * kKvTile * k_plane_words(f.head_dim, f.k_bits == 3 ? 2 : f.k_bits);
    const int tiles = static_cast<int>(end - first + kKvTile - 1) / kKvTile;
    for (int64_t token = first; token < end; token += kKvTile) {
        fetch(part_of(ahead, static_cast<int>(token - first) / kKvTile, tiles));
        float cos[kMaxHeadDim / 2], sin[kMaxHeadDim / 2];
        for (int pair = 0; pair < rope_.pairs; ++pair) {
            const CosSin angle = rope_angle(rope_, static_cast<int>(token), pair);
            cos[pair] = angle.cos;
            sin[pair] = angle.sin;
        }
        kernels_.turn[kv_width_index(f.k_bits)](
            {stretch.page(token),
             static_cast<int>(token % f.page_tokens) / kKvTile,
             &places_[int64_t{stretch.first_head} * f.head_dim],
             channels,
             f.head_dim,
             tile_bytes,
             4 * kKvTile * k_plane_words(f.head_dim, 1),
             range_bytes_.data(),
             static_cast<int>(range_bytes_.size() / 2),
             rotation.power,
             rotation.base,
             hadamard::base_rows(rotation.base),
             static_cast<float>(1.0 / std::sqrt(static_cast<double>(channels))),
             rope_.pairs,
             pair_channels_.data(),
             cos,
             sin,
             step_cos_.data(),
             step_sin_.data(),
             keys});
        for (int h = 0; h < stretch.heads; ++h) {
            kernels_.dot({keys + h * f.head_dim * kKvTile, f.head_dim, stretch.rows,
                          stretch.queries(stretch.first_head + h), query_stride(),
                          scores + h * kKvRows * kScoreStride + (token - first), kScoreStride});
        }
    }
}

// Adds the values of [begin, end), weighted, to the partial results of one head.
void KvCpuPlan::add_values(const Stretch &stretch, int kv_head, int64_t begin, int64_t end,
                           const float *probabilities, float *const *partials,
                           const KvAhead &ahead) const noexcept {
    const Format &f = problem_.format;
    const int channels = group_channels(f), rows = stretch.rows;
    const int place = static_cast<int>(begin % f.page_tokens);
    alignas(64) float weights[kKvRows][kKvSplitTokens];
    const uint8_t *blocks[kMaxPages], *codes[kMaxPages];
    int pages = 0;
    stretch.for_pages(begin, end, [&](int64_t token, int64_t) {
        blocks[pages] = stretch.page(token) + int64_t{kv_head} * layout_.bytes;
        codes[pages] = blocks[pages] + layout_.v_codes;
        ++pages;
    });
    for (int group = 0; group < scale_groups(f); ++group) {
        float offsets[kKvRows] = {};
        KvValueArgs values{codes,
                           f.head_dim,
                           f.page_tokens,
                           group * channels,
                           channels,
                           place,
                           static_cast<int>(end - begin),
                           probabilities,
                           kScoreStride,
                           rows,
                           partials[0] + group * channels,
                           rows > 1 ? partials[1] - partials[0] : 0,
                           part_of(ahead, group, scale_groups(f))};
        if (has_scales(f.v_bits)) {
            int page = 0;
            stretch.for_pages(begin, end, [&](int64_t token, int64_t stop) {
                const uint8_t *block = blocks[page++];
                const int at = scale_index(f, group, static_cast<int>(token % f.page_tokens));
                const auto plane = [&](int offset) {
                    return reinterpret_cast<const uint16_t *>(block + offset) + at;
                };
                kernels_.weight({plane(layout_.v_scales),
                                 problem_.rotatekv() ? plane(layout_.v_zeros) : nullptr,
                                 static_cast<float>(1 << (f.v_bits - 1)) - 0.5f,
                                 static_cast<int>(stop - token), rows,
                                 probabilities + (token - begin), kScoreStride,
                                 weights[0] + (token - begin), kKvSplitTokens, offsets});
            });
            values.w = weights[0];
            values.w_stride = kKvSplitTokens;
        }
        kernels_.value[kv_width_index(f.v_bits)](values);
        for (int r = 0; problem_.rotatekv() && r < rows; ++r) {
            for (int i = 0; i < channels; ++i)
                partials[r][group * channels + i] += offsets[r];
        }
    }
}

// Keys [begin, end) of the codes, at most kKvSplitTokens.
void KvCpuPlan::attend_codes(const Stretch &stretch, int64_t begin, int64_t end,
                             const KvAhead &ahead) const noexcept {
    const int head_dim = problem_.format.head_dim;
    alignas(64) float scores[kMaxHeadsATask][kKvRows][kScoreStride];
    const int64_t first = begin / kKvTile * kKvTile;
    const int count = static_cast<int>(end - first);
    const KvSinks &sinks = stretch.sinks;
    const int sinks_begin = sinks.before(begin), sinks_end = sinks.before(end);
    KvAhead for_scores = ahead, for_values = ahead;
    for_scores.end = for_values.begin = ahead.begin + (ahead.end - ahead.begin) * 2 / 5;
    if (problem_.rotatekv()) {
        score_turned(stretch, first, end, scores[0][0], for_scores);
    } else {
        score_codes(stretch, first, end, scores[0][0], for_scores);
    }
    for (int h = 0; h < stretch.heads; ++h) {
        const int head = stretch.first_head + h;
        float *partials[kKvRows];
        for (int r = 0; r < stretch.rows; ++r) {
            const int query_row = stretch.first_query_row + r;
            const int64_t low = std::max(begin, stretch.job.low(stretch.row, query_row)) - first;
            const int64_t high = std::min(end, stretch.job.high(stretch.row, query_row)) - first;
            const int seen = static_cast<int>(std::clamp<int64_t>(low, 0, count));
            mask_scores(scores[h][r], count, seen,
                        static_cast<int>(std::clamp<int64_t>(high, seen, count)));
            for (int i = sinks_begin; i < sinks_end; ++i)
                scores[h][r][sinks.position(i) - first] = kMinusInfinity;
            float *partial = partials[r] = stretch.partial(head, r);
            std::fill_n(partial, head_dim, 0.0f);
            partial[head_dim + 1] = kernels_.exponentials(scores[h][r], count, &partial[head_dim]);
        }
        add_values(stretch, head, begin, end, &scores[h][0][begin - first], partials,
                   part_of(for_values, h, stretch.heads));
    }
}

// The tokens of the 16-bit store: sinks, and those of [window_begin, length) that are none.
void KvCpuPlan::attend_recent(const Stretch &stretch, int kv_head, int64_t window_begin,
                              int64_t length) const noexcept {
    const int head_dim = problem_.format.head_dim, rows = stretch.rows;
    const tarpon_kv_attend_args &args = *stretch.job.args;
    alignas(64) float scores[kKvRows][kRecentTokens + 2 * kKvTile];
    constexpr int64_t stride = kRecentTokens + 2 * kKvTile;
    const float *queries = stretch.queries(kv_head);
    const int64_t index = args.recent_index ? args.recent_index[stretch.row] : stretch.row;
    const uint16_t *store = static_cast<const uint16_t *>(args.recent) +
                            index * kv_recent_elems(problem_) + int64_t{2} * kv_head * head_dim;
    const auto entry = [&](int64_t token) {
        return store + kv_recent_entry(problem_, stretch.sinks, token, length) *
                           kv_recent_entry_elems(problem_);
    };
    float *partials[kKvRows];
    for (int r = 0; r < rows; ++r) {
        partials[r] = stretch.partial(kv_head, r);
        std::fill_n(partials[r], head_dim, 0.0f);
        partials[r][head_dim] = kMinusInfinity;
        partials[r][head_dim + 1] = 0;
    }
    const int64_t acc_stride = rows > 1 ? partials[1] - partials[0] : 0;

    // Rising positions of sinks and window, and where in `scores` their first is.
    struct Range {
        int64_t tokens[kRecentTokens];
        int count, at;

        int before(int64_t position) const {
            return static_cast<int>(std::lower_bound(tokens, tokens + count, position) - tokens);
        }
    } sinks, window;
    sinks.at = 0;
    sinks.count = stretch.sinks.before(length);
    for (int i = 0; i < sinks.count; ++i)
        sinks.tokens[i] = stretch.sinks.position(i);
    window.at = (sinks.count + kKvTile - 1) / kKvTile * kKvTile;
    window.count = 0;
    int next_sink = sinks.before(window_begin);
    for (int64_t token = window_begin; token < length; ++token) {
        if (next_sink < sinks.count && sinks.tokens[next_sink] == token)
            ++next_sink;
        else
            window.tokens[window.count++] = token;
    }

    for (const Range *range : {&sinks, &window}) {
        for (int begin = 0, end; begin < range->count; begin = end) {
            // A run of consecutive positions, as add_mean() takes them. What that adds behind the
            // run is overwritten by the next one.
            for (end = begin;
                 end < range->count && range->tokens[end] == range->tokens[begin] + (end - begin);
                 ++end) {
                kernels_.half_scores({entry(range->tokens[end]), head_dim, rows, queries,
                                      query_stride(), &scores[0][range->at + end], stride, nullptr,
                                      0});
            }
            add_mean(queries, rows, kv_head, range->tokens[begin], end - begin,
                     &scores[0][range->at + begin], stride);
        }
    }
    for (int r = 0; r < rows; ++r) {
        const int query_row = stretch.first_query_row + r;
        const int64_t low = stretch.job.low(stretch.row, query_row),
                      high = stretch.job.high(stretch.row, query_row);
        const auto finish = [&](const Range &range, float *out_top) {
            float *of_range = scores[r] + range.at;
            const int begin = range.before(low);
            mask_scores(of_range, range.count, begin, std::max(begin, range.before(high)));
            return kernels_.exponentials(of_range, range.count, out_top);
        };
        // One softmax over both ranges: the smaller top is brought to the larger.
        float sink_top, window_top, *partial = partials[r];
        const float sink_sum = finish(sinks, &sink_top), window_sum = finish(window, &window_top);
        const float top = std::max(sink_top, window_top);
        if (top == kMinusInfinity) continue;
        const float sink_factor = std::exp(sink_top - top),
                    window_factor = std::exp(window_top - top);
        for (int t = 0; t < sinks.count; ++t)
            scores[r][t] *= sink_factor;
        for (int t = 0; t < window.count; ++t)
            scores[r][window.at + t] *= window_factor;
        partial[head_dim] = top;
        partial[head_dim + 1] = sink_sum * sink_factor + window_sum * window_factor;
    }
    for (const Range *range : {&sinks, &window}) {
        for (int i = 0; i < range->count; ++i) {
            kernels_.half_values({entry(range->tokens[i]) + head_dim, head_dim, rows, nullptr, 0,
                                  &scores[0][range->at + i], stride, partials[0], acc_stride});
        }
    }
}

// Positions of a row whose codes some query sees: behind the sinks it starts with, before the
// window.
KvCpuPlan::CodeRange KvCpuPlan::code_range(const AttendJob &job, int64_t row) const noexcept {
    const int64_t length = job.args->lengths[row];
    const KvSinks sinks(problem_, job.args->sink_positions, row);
    const int64_t sinks_end = std::min<int64_t>(length, sinks.leading());
    const int64_t window_begin = std::max(sinks_end, length - problem_.window_tokens);
    return {std::max(sinks_end, job.low(row, 0)), window_begin};
}

// The blocks of the task that follows a split, which as a rule the same thread takes. Returns how
// many.
int KvCpuPlan::blocks_ahead(const AttendJob &job, int64_t row, int head, int64_t split,
                            const uint8_t **blocks) const noexcept {
    const Format &f = problem_.format;
    CodeRange range = code_range(job, row);
    int64_t begin = std::max(range.begin, (split + 1) * kKvSplitTokens);
    if (begin >= range.end) {
        head += heads_a_task();
        if (head == f.kv_heads) {
            head = 0;
            if (++row == job.args->batch) return 0;
            range = code_range(job, row);
        }
        begin = range.begin;
    }
    const int64_t end = std::min(range.end, (begin / kKvSplitTokens + 1) * kKvSplitTokens);
    int count = 0;
    for (int64_t token = begin / f.page_tokens * f.page_tokens; token < end;
         token += f.page_tokens) {
        blocks[count++] = job.page(row, token) + int64_t{head} * layout_.bytes;
    }
    return count;
}

void KvCpuPlan::attend_split(const AttendJob &job, int64_t row, int first_head,
                             int split) const noexcept {
    const int head_dim = problem_.format.head_dim, heads = heads_a_task();
    const int64_t length = job.args->lengths[row];
    const KvSinks sinks(problem_, job.args->sink_positions, row);
    const CodeRange range = code_range(job, row);
    const uint8_t *blocks[kMaxPages];
    KvAhead ahead{blocks, heads * layout_.bytes / 64, 0, 0};
    if (split < job.splits)
        ahead.end = blocks_ahead(job, row, first_head, split, blocks) * ahead.block_lines;
    for (int first = 0; first < job.query_rows; first += kKvRows) {
        const Stretch stretch{
            job,  row, sinks, first_head, heads, first, std::min(kKvRows, job.query_rows - first),
            split};
        int64_t low = length, high = 0;
        for (int r = 0; r < stretch.rows; ++r) {
            low = std::min(low, job.low(row, first + r));
            high = std::max(high, job.high(row, first + r));
        }
        if (split == job.splits && length > 0) {
            for (int h = 0; h < heads; ++h)
                attend_recent(stretch, first_head + h, range.end, length);
            continue;
        }
        const int64_t begin = std::max({range.begin, low, int64_t{split} * kKvSplitTokens});
        const int64_t end = std::min({range.end, high, int64_t{split + 1} * kKvSplitTokens});
        if (split < job.splits && begin < end) {
            attend_codes(stretch, begin, end, ahead);
            ahead.end = ahead.begin;  // once is enough
            continue;
        }
        for (int h = 0; h < heads; ++h) {
            for (int r = 0; r < stretch.rows; ++r) {
                float *partial = stretch.partial(first_head + h, r);
                partial[head_dim] = kMinusInfinity;
                partial[head_dim + 1] = 0;
            }
        }
    }
}

}  // namespace tarpon::cpu
