#include "kv_cache.h"

#include <cmath>
#include <numeric>

#include "registry.h"

namespace tarpon {
namespace {

using ll = long long;

void check_one_of(const char *what, int value, std::initializer_list<int> allowed,
                  const char *list) {
    for (int one : allowed) {
        if (value == one) return;
    }
    fail(TARPON_ERROR_UNSUPPORTED, "desc->%s is %d; supported are %s", what, value, list);
}

void check_range(const char *what, int value, int low, int high) {
    if (value >= low && value <= high) return;
    fail(TARPON_ERROR_INVALID_ARGUMENT, "desc->%s is %d; it must be %d..%d", what, value, low,
         high);
}

void check_number(const char *what, double value, bool holds, const char *rule) {
    if (std::isfinite(value) && holds) return;
    fail(TARPON_ERROR_INVALID_ARGUMENT, "desc->%s is %g; it must be %s", what, value, rule);
}

bool aligned(const void *p, uintptr_t bytes) {
    return reinterpret_cast<uintptr_t>(p) % bytes == 0;
}

constexpr uintptr_t kPageAlignment = 64;

tarpon_status check_memory(const KvProblem &problem, const char *call, const void *pages,
                           int64_t page_count, const void *recent) noexcept {
    if (!pages || !aligned(pages, kPageAlignment) || page_count < 1) {
        return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                         "%s: pages is %p and page_count %lld; pages must be aligned to 64 bytes, "
                         "and there must be one at least",
                         call, pages, ll{page_count});
    }
    if (kv_recent_elems(problem) > 0 && (!recent || !aligned(recent, kPageAlignment))) {
        return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                         "%s: recent is %p; with %d sink and %d window tokens it must be there, "
                         "aligned to 64 bytes",
                         call, recent, problem.sink_tokens, problem.window_tokens);
    }
    return TARPON_OK;
}

std::vector<float> finite_copy(const char *what, const float *values, int64_t count) {
    if (!values) return {};
    for (int64_t i = 0; i < count; ++i) {
        if (!std::isfinite(values[i])) {
            fail(TARPON_ERROR_INVALID_ARGUMENT, "calibration->%s[%lld] is %g, which is not finite",
                 what, ll{i}, static_cast<double>(values[i]));
        }
    }
    return {values, values + count};
}

std::vector<int32_t> permutation_copy(const int32_t *order, int64_t channels) {
    std::vector<int32_t> copy(channels);
    std::iota(copy.begin(), copy.end(), 0);
    if (!order) return copy;
    std::vector<int64_t> seen(channels, -1);
    for (int64_t c = 0; c < channels; ++c) {
        const int64_t from = order[c];
        if (from < 0 || from >= channels) {
            fail(TARPON_ERROR_INVALID_ARGUMENT,
                 "calibration->k_order[%lld] is %lld; there are %lld channels", ll{c}, ll{from},
                 ll{channels});
        }
        if (seen[from] >= 0) {
            fail(TARPON_ERROR_INVALID_ARGUMENT,
                 "calibration->k_order is no permutation: channels %lld and %lld are both %lld",
                 ll{seen[from]}, ll{c}, ll{from});
        }
        seen[from] = c;
        copy[c] = static_cast<int32_t>(from);
    }
    return copy;
}

void read_calibration(const tarpon_kv_calibration &c, KvProblem &p) {
    const int64_t head_dim = p.format.head_dim, channels = head_dim * p.format.kv_heads;
    if (c.k_mean && p.rotatekv()) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "calibration->k_mean is given in mode ROTATEKV; only mode TARPON has a mean");
    }
    if (c.k_order && !p.rotatekv()) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "calibration->k_order is given in mode TARPON; only mode ROTATEKV reorders");
    }
    p.k_mean = finite_copy("k_mean", c.k_mean, channels);
    p.q_norm = finite_copy("q_norm", c.q_norm, head_dim);
    p.k_norm = finite_copy("k_norm", c.k_norm, head_dim);
    if (!std::isfinite(c.norm_eps) || c.norm_eps < 0) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "calibration->norm_eps is %g; it must be >= 0",
             static_cast<double>(c.norm_eps));
    }
    p.norm_eps = c.norm_eps;
}

}  // namespace

KvProblem checked_kv_problem(const tarpon_kv_desc &desc, const tarpon_kv_calibration *calibration) {
    if (desc.mode != TARPON_KV_MODE_TARPON && desc.mode != TARPON_KV_MODE_ROTATEKV) {
        fail(TARPON_ERROR_UNSUPPORTED,
             "desc->mode is %d; supported are TARPON_KV_MODE_TARPON (0) and "
             "TARPON_KV_MODE_ROTATEKV (1)",
             desc.mode);
    }
    check_one_of("head_dim", desc.head_dim, {64, 96, 128, 256}, "64, 96, 128 and 256");
    check_one_of("page_tokens", desc.page_tokens, {64, 128}, "64 and 128");
    check_one_of("k_bits", desc.k_bits, {2, 3, 4, 8, 16}, "2, 3, 4, 8 and 16");
    check_one_of("v_bits", desc.v_bits, {2, 3, 4, 8, 16}, "2, 3, 4, 8 and 16");
    check_range("kv_heads", desc.kv_heads, 1, 1024);
    if (desc.mode == TARPON_KV_MODE_ROTATEKV &&
        desc.kv_heads * desc.head_dim > kKvMaxRotatekvChannels) {
        fail(TARPON_ERROR_UNSUPPORTED,
             "desc->kv_heads is %d of %d channels; mode ROTATEKV reorders a layer's channels and "
             "takes %d in all",
             desc.kv_heads, desc.head_dim, kKvMaxRotatekvChannels);
    }
    if (desc.q_heads < desc.kv_heads || desc.q_heads % desc.kv_heads != 0 ||
        desc.q_heads / desc.kv_heads > 16) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "desc->q_heads is %d with kv_heads %d; it must be 1 to 16 times as many", desc.q_heads,
             desc.kv_heads);
    }
    check_range("sink_tokens", desc.sink_tokens, 0, 256);
    check_range("window_tokens", desc.window_tokens, 0, 1024);
    check_range("max_tokens", desc.max_tokens, 1, 1 << 24);
    check_range("sliding_window", desc.sliding_window, 0, 1 << 24);
    check_range("rope_dim", desc.rope_dim, 0, desc.head_dim);
    if (desc.rope_dim % 2 != 0) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "desc->rope_dim is %d; it must be even", desc.rope_dim);
    }
    if (desc.rope_layout != TARPON_ROPE_HALF && desc.rope_layout != TARPON_ROPE_INTERLEAVED) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "desc->rope_layout is %d; it must be TARPON_ROPE_HALF (0) or TARPON_ROPE_INTERLEAVED "
             "(1)",
             desc.rope_layout);
    }
    if (desc.dtype != TARPON_F32 && desc.dtype != TARPON_F16 && desc.dtype != TARPON_BF16) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "desc->dtype is %d (%s); it must be F32 (0), F16 (1) or BF16 (2)", desc.dtype,
             dtype_name(desc.dtype));
    }
    if (desc.rope_dim > 0) {
        check_number("rope_theta", desc.rope_theta, desc.rope_theta > 1, "greater than 1");
        check_number("rope_scaling", desc.rope_scaling, desc.rope_scaling > 0, "positive");
    }
    check_number("score_scale", desc.score_scale, desc.score_scale >= 0,
                 "positive, or 0 for 1/sqrt(head_dim)");
    check_number("softcap", desc.softcap, desc.softcap >= 0, "positive, or 0 for none");

    KvProblem p{};
    p.format = {desc.head_dim,
                desc.kv_heads,
                desc.page_tokens,
                desc.k_bits,
                desc.v_bits,
                desc.mode == TARPON_KV_MODE_TARPON ? kv_cache::Scheme::kTarpon
                                                   : kv_cache::Scheme::kRotatekv};
    p.q_heads = desc.q_heads;
    p.sink_tokens = desc.sink_tokens;
    p.window_tokens = desc.window_tokens;
    p.dtype = desc.dtype;
    p.rope = {desc.rope_theta, desc.rope_scaling, desc.rope_dim / 2,
              desc.rope_layout == TARPON_ROPE_HALF ? kv_cache::RopeLayout::kHalf
                                                   : kv_cache::RopeLayout::kInterleaved};
    p.attention = {
        desc.score_scale > 0 ? desc.score_scale : 1 / std::sqrt(static_cast<double>(desc.head_dim)),
        desc.softcap, desc.sliding_window};
    p.max_tokens = desc.max_tokens;
    if (calibration) read_calibration(*calibration, p);
    if (p.rotatekv()) {
        p.k_order = permutation_copy(calibration ? calibration->k_order : nullptr,
                                     int64_t{desc.kv_heads} * desc.head_dim);
    }
    return p;
}

tarpon_status check_kv_append(const KvProblem &problem, const tarpon_kv_append_args &a) noexcept {
    if (a.tokens < 0 || a.batch < 0) {
        return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                         "kv append: tokens is %lld and batch %lld; both must be >= 0",
                         ll{a.tokens}, ll{a.batch});
    }
    if (a.tokens == 0) return TARPON_OK;
    if (!a.k || !a.v || !a.slots || !a.positions || !a.rows || !a.lengths) {
        return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                         "kv append: k is %p, v %p, slots %p, positions %p, rows %p, lengths %p; "
                         "none may be NULL",
                         a.k, a.v, static_cast<const void *>(a.slots),
                         static_cast<const void *>(a.positions), static_cast<const void *>(a.rows),
                         static_cast<const void *>(a.lengths));
    }
    return check_memory(problem, "kv append", a.pages, a.page_count, a.recent);
}

tarpon_status check_kv_attend(const KvProblem &problem, const KvPlan &plan,
                              const tarpon_kv_attend_args &a) noexcept {
    if (a.batch < 0 || a.queries < 1 || a.queries > kKvMaxQueries || a.max_length < 0 ||
        a.max_length > problem.max_tokens) {
        return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                         "kv attend: batch is %lld, queries %d, max_length %lld; batch must be >= "
                         "0, queries 1..%d and max_length 0..%d (max_tokens)",
                         ll{a.batch}, a.queries, ll{a.max_length}, kKvMaxQueries,
                         problem.max_tokens);
    }
    if (a.batch == 0) return TARPON_OK;
    const int64_t pages_needed =
        (a.max_length + problem.format.page_tokens - 1) / problem.format.page_tokens;
    if (!a.q || !a.o || !a.lengths || !a.page_table || a.table_stride < pages_needed) {
        return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                         "kv attend: q is %p, o %p, lengths %p, page_table %p, table_stride %lld; "
                         "none may be NULL, and %lld tokens take %lld pages a row",
                         a.q, a.o, static_cast<const void *>(a.lengths),
                         static_cast<const void *>(a.page_table), ll{a.table_stride},
                         ll{a.max_length}, ll{pages_needed});
    }
    const size_t needed = plan.workspace_bytes(a.batch, a.queries, a.max_length);
    if (a.workspace_bytes < needed || !a.workspace || !aligned(a.workspace, 64)) {
        return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                         "kv attend: workspace is %p with %zu bytes; batch %lld, %d queries and "
                         "max_length %lld need %zu, aligned to 64",
                         a.workspace, a.workspace_bytes, ll{a.batch}, a.queries, ll{a.max_length},
                         needed);
    }
    return check_memory(problem, "kv attend", a.pages, a.page_count, a.recent);
}

tarpon_status check_kv_dequantize(const KvProblem &problem,
                                  const tarpon_kv_dequantize_args &a) noexcept {
    if (a.tokens < 0 || a.batch < 0) {
        return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                         "kv dequantize: tokens is %lld and batch %lld; both must be >= 0",
                         ll{a.tokens}, ll{a.batch});
    }
    if (a.tokens == 0) return TARPON_OK;
    if (!a.k || !a.v || !a.slots || !a.positions || !a.rows || !a.lengths) {
        return set_error(TARPON_ERROR_INVALID_ARGUMENT,
                         "kv dequantize: k is %p, v %p, slots %p, positions %p, rows %p, lengths "
                         "%p; none may be NULL",
                         static_cast<void *>(a.k), static_cast<void *>(a.v),
                         static_cast<const void *>(a.slots), static_cast<const void *>(a.positions),
                         static_cast<const void *>(a.rows), static_cast<const void *>(a.lengths));
    }
    // Without the recent store everything comes from the pages.
    return check_memory(problem, "kv dequantize", a.pages, a.page_count,
                        a.recent ? a.recent : a.pages);
}

}  // namespace tarpon
