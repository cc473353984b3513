// Decode attention on the CPU. Queries are prepared (RoPE, rotation, the mean's share), then every
// sequence and kv head attends its keys in splits of fixed size, so that the result does not depend
// on the number of threads, and a last pass merges the splits by their log-sum-exp.
//
// Rows of queries that share a kv head are q-heads of the group times query tokens; "query row" r
// is query token r / group and member r % group.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/kv_plan.h"

namespace tarpon::cpu {

using namespace kv_cache;

namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

void load_elems(const void *data, tarpon_dtype dtype, int64_t first, int count, float *to) {
    for (int i = 0; i < count; ++i) {
        const int64_t at = first + i;
        to[i] = dtype == TARPON_F16    ? to_float(static_cast<const half_t *>(data)[at])
                : dtype == TARPON_BF16 ? to_float(static_cast<const bf16_t *>(data)[at])
                                       : static_cast<const float *>(data)[at];
    }
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
    return (max_length + kKvSplitTokens - 1) / kKvSplitTokens;
}

}  // namespace

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
        load_elems(job.args->q, problem_.dtype, job.elem(row, kv_head, r), head_dim, q);
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
        // Keys of mode rotatekv are turned back to where queries are.
        if (!problem_.rotatekv()) rotate(q);
        kernels_.pack[kv_width_index(problem_.format.k_bits)]({q, head_dim, q + packed_offset()});
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
    const tarpon_status status =
        check_kv_sinks(problem_, "attend", args.sink_positions, args.batch);
    if (status != TARPON_OK) return status;
    const int64_t splits = splits_for(args.max_length);
    float *queries = static_cast<float *>(args.workspace);
    const int64_t query_count = args.batch * args.queries * problem_.q_heads;
    const AttendJob job{this,   &args,   args.queries * group(),
                        splits, queries, queries + query_count * query_stride()};
    const int64_t heads = args.batch * f.kv_heads;
    const int together = heads_a_task();
    pool_.run(
        heads,
        [](const void *c, int64_t task) noexcept {
            const auto &job = *static_cast<const AttendJob *>(c);
            const int kv_heads = job.plan->problem_.format.kv_heads;
            job.plan->prepare_queries(job, task / kv_heads, static_cast<int>(task % kv_heads));
        },
        &job);
    pool_.run(
        heads / together * (splits + 1),
        [](const void *c, int64_t task) noexcept {
            const auto &job = *static_cast<const AttendJob *>(c);
            const int kv_heads = job.plan->problem_.format.kv_heads;
            const int64_t head = task / (job.splits + 1) * job.plan->heads_a_task();
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
