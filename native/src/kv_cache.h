// The KV cache on the host: validation of what callers describe, and what devices implement.
#pragma once

#include <memory>
#include <vector>

#include "backend.h"
#include "kv_cache/ref.h"

namespace tarpon {

// What a plan is made from, validated.
struct KvProblem {
    kv_cache::Format format;
    int q_heads;        // a multiple of format.kv_heads, at most 16 times as many
    int sink_tokens;    // first tokens of a sequence that are kept in 16 bits
    int window_tokens;  // last ones
    tarpon_dtype dtype;
    kv_cache::RopeRule rope;
    kv_cache::AttentionRule attention;
    int max_tokens;
    std::vector<float> k_mean;  // [kv_heads, head_dim]; empty for none
};

// Queries a sequence may have at once, and so how far it may be rolled back.
inline constexpr int kKvMaxQueries = 8;

// The 16-bit store of a sequence: entries [kv_heads][K, V][head_dim] of transformed binary16 values,
// first those of the sinks, then a ring of the window. The ring is longer than the window by what
// a rejected speculation may take back.
inline int kv_ring_tokens(const KvProblem &p) {
    return p.window_tokens > 0 ? p.window_tokens + kKvMaxQueries : 0;
}
inline int64_t kv_recent_entry_elems(const KvProblem &p) {
    return int64_t{2} * p.format.kv_heads * p.format.head_dim;
}
inline int64_t kv_recent_elems(const KvProblem &p) {
    return (p.sink_tokens + kv_ring_tokens(p)) * kv_recent_entry_elems(p);
}

// One plan serves all layers that share its shape. append() and attend() are hot: they neither
// throw nor allocate. Pointers of the arguments are checked by the ABI (kv_cache.cc).
class KvPlan {
  public:
    virtual ~KvPlan() = default;
    virtual tarpon_status append(const tarpon_kv_append_args &args,
                                 const Stream *stream) const noexcept = 0;
    virtual tarpon_status attend(const tarpon_kv_attend_args &args,
                                 const Stream *stream) const noexcept = 0;
    virtual size_t workspace_bytes(int64_t batch, int queries, int64_t max_length) const = 0;
    virtual const char *variant() const = 0;
};

// Validates; throws tarpon::Error. k_mean may be null.
KvProblem checked_kv_problem(const tarpon_kv_desc &desc, const float *k_mean);

// Checks of a run's arguments that all devices need; TARPON_OK, or the thread's last error is set.
tarpon_status check_kv_append(const KvProblem &problem, const tarpon_kv_append_args &args) noexcept;
tarpon_status check_kv_attend(const KvProblem &problem, const KvPlan &plan,
                              const tarpon_kv_attend_args &args) noexcept;

}  // namespace tarpon
