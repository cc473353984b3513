// Decode attention on the CPU. Queries are prepared (RoPE, rotation, the mean's share), then every
// sequence and kv head attends its keys in splits of fixed size, so that the result does not depend
// on the number of threads, and a last pass merges the splits by their log-sum-exp.
//
// Rows of queries that share a kv head are q-heads of the group times query tokens; "query row" r is
// query token r / group and member r % group.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/kv_plan.h"

namespace tarpon::cpu {

using namespace kv_cache;

namespace {

constexpr int kSplitTokens = 512;
constexpr int kRecentTokens = 1280;  // sinks and window at most
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

int width_index(int bits) {
    return bits == 2 ? 0 : bits == 3 ? 1 : bits == 4 ? 2 : bits == 8 ? 3 : 4;
}

void store_elem(void *data, tarpon_dtype dtype, int64_t i, float value) {
    switch (dtype) {
        case TARPON_F16:
            static_cast<half_t *>(data)[i] = from_float<half_t>(value);
            break;
        case TARPON_BF16:
            static_cast<bf16_t *>(data)[i] = from_float<bf16_t>(value);
            break;
        default:
            static_cast<float *>(data)[i] = value;
    }
}

int64_t splits_for(int64_t max_length) {
    return (max_length + kSplitTokens - 1) / kSplitTokens;
}

}  // namespace

struct KvCpuPlan::AttendJob {
    const KvCpuPlan *plan;
    const tarpon_kv_attend_args *args;
    int query_rows;   // of a kv head
    int64_t splits;   // of codes; one more is for the 16-bit tokens
    float *queries;   // [batch][kv_heads][query_rows] of query_stride
    float *partials;  // [batch][kv_heads][query_rows][splits + 1] of partial_stride

    float *query(int64_t row, int kv_head, int query_row) const {
        const int heads = plan->problem_.format.kv_heads;
        return queries + ((row * heads + kv_head) * query_rows + query_row) * plan->query_stride();
    }
    float *partial(int64_t row, int kv_head, int query_row, int64_t split) const {
        const int heads = plan->problem_.format.kv_heads;
        const int64_t index = (row * heads + kv_head) * query_rows + query_row;
        return partials + (index * (splits + 1) + split) * plan->partial_stride();
    }
    // Index of a query row's first element in q and o.
    int64_t elem(int64_t row, int kv_head, int query_row) const {
        const KvProblem &p = plan->problem_;
        const int group = plan->group(), query = query_row / group;
        const int64_t head = int64_t{kv_head} * group + query_row % group;
        return ((row * args->queries + query) * p.q_heads + head) * p.format.head_dim;
    }
    int64_t position(int64_t row, int query_row) const {
        return args->lengths[row] - args->queries + query_row / plan->group();
    }
    // Keys that a query row sees: [low, high).
    int64_t low(int64_t row, int query_row) const {
        const int window = plan->problem_.attention.sliding_window;
        return window > 0 ? std::max<int64_t>(0, position(row, query_row) + 1 - window) : 0;
    }
    int64_t high(int64_t row, int query_row) const { return position(row, query_row) + 1; }
};

size_t KvCpuPlan::workspace_bytes(int64_t batch, int queries, int64_t max_length) const {
    const int64_t rows = batch * queries * problem_.q_heads;
    return sizeof(float) *
           static_cast<size_t>(rows *
                               (query_stride() + (splits_for(max_length) + 1) * partial_stride()));
}

void KvCpuPlan::prepare_queries(const AttendJob &job, int64_t row, int kv_head) const noexcept {
    const int head_dim = problem_.format.head_dim;
    const float scale = static_cast<float>(problem_.attention.scale);
    for (int r = 0; r < job.query_rows; ++r) {
        const int64_t position = job.position(row, r);
        if (position < 0) continue;
        float *q = job.query(row, kv_head, r);
        const int64_t from = job.elem(row, kv_head, r);
        for (int i = 0; i < head_dim; ++i)
            q[i] = load_elem(job.args->q, problem_.dtype, from + i);
        if (!problem_.q_norm.empty())
            rms_norm(problem_.q_norm.data(), problem_.norm_eps, head_dim, q);
        rope(rope_, static_cast<int>(position), q);
        for (int i = 0; i < head_dim; ++i)
            q[i] *= scale;
        if (!problem_.k_mean.empty()) {
            // q . R_j(mean) = sum over pairs of a cos(angle_j) + b sin(angle_j), and a constant.
            const float *mean = problem_.mean(kv_head);
            const auto &pairs = mean_pairs_[kv_head];
            float *a = q + head_dim, *b = a + pairs.size(), &constant = q[2 * head_dim];
            for (size_t i = 0; i < pairs.size(); ++i) {
                const int first = rope_first(rope_, pairs[i]),
                          second = rope_second(rope_, pairs[i]);
                a[i] = q[first] * mean[first] + q[second] * mean[second];
                b[i] = q[second] * mean[first] - q[first] * mean[second];
            }
            constant = 0;
            for (int i = 2 * rope_.pairs; i < head_dim; ++i)
                constant += q[i] * mean[i];
        }
        rotate(q);
    }
}

// Adds the mean's share to scores of `count` tokens from `position` on. Scores have room for a
// multiple of 16; positions go on by one.
void KvCpuPlan::add_mean(const float *queries, int rows, int kv_head, int64_t position, int count,
                         float *scores, int64_t stride) const noexcept {
    const std::vector<int32_t> &pairs = mean_pairs_[kv_head];
    const int head_dim = problem_.format.head_dim, pair_count = static_cast<int>(pairs.size());
    const bool constant = !problem_.k_mean.empty() && 2 * rope_.pairs < head_dim;
    if (pair_count == 0 && !constant) return;
    for (int t = 0; t < count; t += kKvTile) {
        float cos[kMaxHeadDim / 2], sin[kMaxHeadDim / 2];
        for (int i = 0; i < pair_count; ++i) {
            const CosSin angle = rope_angle(rope_, static_cast<int>(position + t), pairs[i]);
            cos[i] = angle.cos;
            sin[i] = angle.sin;
        }
        kernels_.mean({queries + head_dim, queries + head_dim + pair_count, queries + 2 * head_dim,
                       query_stride(), rows, pair_count, pairs.data(), cos, sin, step_cos_.data(),
                       step_sin_.data(), scores + t, stride});
    }
}

// Scores of tokens `first` and on become exponentials, those outside [low, high) zero. Returns their
// sum and stores the largest score, or minus infinity and 0 if there is none.
float KvCpuPlan::finish_scores(float *scores, int64_t first, int count, int64_t low, int64_t high,
                               float *out_top) const noexcept {
    const float cap = static_cast<float>(problem_.attention.softcap);
    float top = kMinusInfinity;
    for (int t = 0; t < count; ++t) {
        if (first + t < low || first + t >= high) {
            scores[t] = kMinusInfinity;
            continue;
        }
        if (cap > 0) scores[t] = cap * std::tanh(scores[t] / cap);
        top = std::max(top, scores[t]);
    }
    *out_top = top;
    if (top == kMinusInfinity) {
        std::fill_n(scores, count, 0.0f);
        return 0;
    }
    return kernels_.exponentials(scores, count, top);
}

// Keys [begin, end) of the codes, at most kSplitTokens.
void KvCpuPlan::attend_codes(const AttendJob &job, int64_t row, int kv_head, int first_query_row,
                             int rows, int64_t begin, int64_t end,
                             float *const *partials) const noexcept {
    const Format &f = problem_.format;
    alignas(64) float scores[kKvRows][kSplitTokens + 2 * kKvTile];
    constexpr int64_t stride = kSplitTokens + 2 * kKvTile;
    const float *queries = job.query(row, kv_head, first_query_row);
    const int64_t first = begin / kKvTile * kKvTile;
    const auto block_of = [&](int64_t token) {
        const int64_t page =
            job.args->page_table[row * job.args->table_stride + token / f.page_tokens];
        return static_cast<const uint8_t *>(job.args->pages) + page * page_bytes(f) +
               int64_t{kv_head} * layout_.bytes;
    };
    for (int64_t token = first; token < end;) {
        const int place = static_cast<int>(token % f.page_tokens);
        const int64_t stop = std::min<int64_t>(end, token - place + f.page_tokens);
        const int tiles = static_cast<int>((stop - token + kKvTile - 1) / kKvTile);
        const uint8_t *block = block_of(token);
        kernels_.score[width_index(f.k_bits)](
            {block + layout_.k_codes, reinterpret_cast<const uint16_t *>(block + layout_.k_scales),
             f.head_dim, f.page_tokens, place / kKvTile, tiles, queries, query_stride(), rows,
             &scores[0][token - first], stride});
        token = stop;
    }
    const int count = static_cast<int>(end - first);
    add_mean(queries, rows, kv_head, first, count, scores[0], stride);
    for (int r = 0; r < rows; ++r) {
        const int64_t low = std::max(begin, job.low(row, first_query_row + r));
        const int64_t high = std::min(end, job.high(row, first_query_row + r));
        float *partial = partials[r];
        partial[f.head_dim + 1] =
            finish_scores(scores[r], first, count, low, high, &partial[f.head_dim]);
        std::fill_n(partial, f.head_dim, 0.0f);
    }
    for (int64_t token = begin; token < end;) {
        const int place = static_cast<int>(token % f.page_tokens);
        const int64_t stop = std::min<int64_t>(end, token - place + f.page_tokens);
        const uint8_t *block = block_of(token);
        kernels_.value[width_index(f.v_bits)](
            {block + layout_.v_codes, reinterpret_cast<const uint16_t *>(block + layout_.v_scales),
             f.head_dim, f.page_tokens, place, static_cast<int>(stop - token),
             &scores[0][token - first], stride, rows, partials[0],
             rows > 1 ? partials[1] - partials[0] : 0});
        token = stop;
    }
}

// The tokens of the 16-bit store: [0, sinks_end) and [window_begin, length).
void KvCpuPlan::attend_recent(const AttendJob &job, int64_t row, int kv_head, int first_query_row,
                              int rows, int64_t sinks_end, int64_t window_begin, int64_t length,
                              float *const *partials) const noexcept {
    const int head_dim = problem_.format.head_dim;
    alignas(64) float scores[kKvRows][kRecentTokens + 2 * kKvTile];
    constexpr int64_t stride = kRecentTokens + 2 * kKvTile;
    const float *queries = job.query(row, kv_head, first_query_row);
    const int64_t index = job.args->recent_index ? job.args->recent_index[row] : row;
    const uint16_t *store = static_cast<const uint16_t *>(job.args->recent) +
                            index * kv_recent_elems(problem_) + int64_t{2} * kv_head * head_dim;
    const int64_t acc_stride = rows > 1 ? partials[1] - partials[0] : 0;
    const auto entry = [&](int64_t token) {
        const int64_t place =
            token < sinks_end ? token : problem_.sink_tokens + token % kv_ring_tokens(problem_);
        return store + place * kv_recent_entry_elems(problem_);
    };
    for (int r = 0; r < rows; ++r) {
        std::fill_n(partials[r], head_dim, 0.0f);
        partials[r][head_dim] = kMinusInfinity;
        partials[r][head_dim + 1] = 0;
    }
    const int sinks = static_cast<int>(sinks_end), window = static_cast<int>(length - window_begin);
    const int window_at = (sinks + kKvTile - 1) / kKvTile * kKvTile;  // in `scores`
    const auto score_range = [&](int64_t begin, int count, int at) {
        for (int t = 0; t < count; ++t) {
            kernels_.half_scores({entry(begin + t), head_dim, rows, queries, query_stride(),
                                  &scores[0][at + t], stride, nullptr, 0});
        }
        add_mean(queries, rows, kv_head, begin, count, &scores[0][at], stride);
    };
    score_range(0, sinks, 0);
    score_range(window_begin, window, window_at);
    for (int r = 0; r < rows; ++r) {
        const int64_t low = job.low(row, first_query_row + r),
                      high = job.high(row, first_query_row + r);
        // One softmax over both ranges: the smaller top is brought to the larger.
        float sink_top, window_top, *partial = partials[r];
        const float sink_sum = finish_scores(scores[r], 0, sinks, low, high, &sink_top);
        const float window_sum =
            finish_scores(scores[r] + window_at, window_begin, window, low, high, &window_top);
        const float top = std::max(sink_top, window_top);
        if (top == kMinusInfinity) continue;
        const float sink_factor = std::exp(sink_top - top),
                    window_factor = std::exp(window_top - top);
        for (int t = 0; t < sinks; ++t)
            scores[r][t] *= sink_factor;
        for (int t = 0; t < window; ++t)
            scores[r][window_at + t] *= window_factor;
        partial[head_dim] = top;
        partial[head_dim + 1] = sink_sum * sink_factor + window_sum * window_factor;
    }
    const auto add_range = [&](int64_t begin, int count, int at) {
        for (int t = 0; t < count; ++t) {
            kernels_.half_values({entry(begin + t) + head_dim, head_dim, rows, nullptr, 0,
                                  &scores[0][at + t], stride, partials[0], acc_stride});
        }
    };
    add_range(0, sinks, 0);
    add_range(window_begin, window, window_at);
}

void KvCpuPlan::attend_split(const AttendJob &job, int64_t row, int kv_head,
                             int split) const noexcept {
    const int head_dim = problem_.format.head_dim;
    const int64_t length = job.args->lengths[row];
    const int64_t sinks_end = std::min<int64_t>(length, problem_.sink_tokens);
    const int64_t window_begin = std::max(sinks_end, length - problem_.window_tokens);
    for (int first = 0; first < job.query_rows; first += kKvRows) {
        const int rows = std::min(kKvRows, job.query_rows - first);
        float *partials[kKvRows];
        int64_t low = length, high = 0;
        for (int r = 0; r < rows; ++r) {
            partials[r] = job.partial(row, kv_head, first + r, split);
            low = std::min(low, job.low(row, first + r));
            high = std::max(high, job.high(row, first + r));
        }
        if (split == job.splits && length > 0) {
            attend_recent(job, row, kv_head, first, rows, sinks_end, window_begin, length,
                          partials);
            continue;
        }
        const int64_t begin = std::max({sinks_end, low, int64_t{split} * kSplitTokens});
        const int64_t end = std::min({window_begin, high, int64_t{split + 1} * kSplitTokens});
        if (split < job.splits && begin < end) {
            attend_codes(job, row, kv_head, first, rows, begin, end, partials);
            continue;
        }
        for (int r = 0; r < rows; ++r) {
            partials[r][head_dim] = kMinusInfinity;
            partials[r][head_dim + 1] = 0;
        }
    }
}

void KvCpuPlan::merge_splits(const AttendJob &job, int64_t row, int kv_head) const noexcept {
    const int head_dim = problem_.format.head_dim;
    for (int r = 0; r < job.query_rows; ++r) {
        alignas(64) float out[kMaxHeadDim] = {};
        float top = kMinusInfinity, sum = 0;
        for (int64_t split = 0; split <= job.splits; ++split)
            top = std::max(top, job.partial(row, kv_head, r, split)[head_dim]);
        for (int64_t split = 0; split <= job.splits && top > kMinusInfinity; ++split) {
            const float *partial = job.partial(row, kv_head, r, split);
            if (partial[head_dim] == kMinusInfinity) continue;
            const float weight = std::exp(partial[head_dim] - top);
            sum += weight * partial[head_dim + 1];
            for (int i = 0; i < head_dim; ++i)
                out[i] += weight * partial[i];
        }
        const float inverse = sum > 0 ? 1 / sum : 0;
        for (int i = 0; i < head_dim; ++i)
            out[i] *= inverse;
        rotate(out);
        const int64_t to = job.elem(row, kv_head, r);
        for (int i = 0; i < head_dim; ++i)
            store_elem(job.args->o, problem_.dtype, to + i, out[i]);
    }
}

tarpon_status KvCpuPlan::attend(const tarpon_kv_attend_args &args, const Stream *) const noexcept {
    using ll = long long;
    const Format &f = problem_.format;
    for (int64_t row = 0; row < args.batch; ++row) {
        const int64_t length = args.lengths[row];
        if (length < 0 || length > args.max_length ||
            (args.recent_index && args.recent_index[row] < 0)) {
            return set_error(
                TARPON_ERROR_INVALID_ARGUMENT,
                "kv attend: row %lld has length %lld; it must be 0..%lld (max_length), "
                "and its recent_index >= 0",
                ll{row}, ll{length}, ll{args.max_length});
        }
        for (int64_t i = 0; i * f.page_tokens < length; ++i) {
            const int64_t page = args.page_table[row * args.table_stride + i];
            if (page >= 0 && page < args.page_count) continue;
            return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                             "kv attend: page_table[%lld, %lld] is %lld; there are %lld pages",
                             ll{row}, ll{i}, ll{page}, ll{args.page_count});
        }
    }
    const int64_t splits = splits_for(args.max_length);
    float *queries = static_cast<float *>(args.workspace);
    const int64_t query_count = args.batch * args.queries * problem_.q_heads;
    const AttendJob job{this,   &args,   args.queries * group(),
                        splits, queries, queries + query_count * query_stride()};
    const int64_t heads = args.batch * f.kv_heads;
    pool_.run(
        heads,
        [](const void *c, int64_t task) noexcept {
            const auto &job = *static_cast<const AttendJob *>(c);
            const int kv_heads = job.plan->problem_.format.kv_heads;
            job.plan->prepare_queries(job, task / kv_heads, static_cast<int>(task % kv_heads));
        },
        &job);
    pool_.run(
        heads * (splits + 1),
        [](const void *c, int64_t task) noexcept {
            const auto &job = *static_cast<const AttendJob *>(c);
            const int kv_heads = job.plan->problem_.format.kv_heads;
            const int64_t head = task / (job.splits + 1);
            job.plan->attend_split(job, head / kv_heads, static_cast<int>(head % kv_heads),
                                   static_cast<int>(task % (job.splits + 1)));
        },
        &job);
    pool_.run(
        heads,
        [](const void *c, int64_t task) noexcept {
            const auto &job = *static_cast<const AttendJob *>(c);
            const int kv_heads = job.plan->problem_.format.kv_heads;
            job.plan->merge_splits(job, task / kv_heads, static_cast<int>(task % kv_heads));
        },
        &job);
    return TARPON_OK;
}

}  // namespace tarpon::cpu
