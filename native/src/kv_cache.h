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
    int sink_tokens;    // most sinks of a sequence, which are kept in 16 bits
    int window_tokens;  // last ones
    tarpon_dtype dtype;
    kv_cache::RopeRule rope;
    kv_cache::AttentionRule attention;
    int max_tokens;
    // What was calibrated; empty for what was not. k_order is full in mode rotatekv.
    std::vector<float> k_mean;          // [kv_heads, head_dim]
    std::vector<int32_t> k_order;       // [kv_heads * head_dim]
    std::vector<float> q_norm, k_norm;  // [head_dim]
    float norm_eps;

    bool rotatekv() const { return format.scheme == kv_cache::Scheme::kRotatekv; }
    const float *mean(int kv_head) const {
        return k_mean.empty() ? nullptr : &k_mean[int64_t{kv_head} * format.head_dim];
    }
};

// The angles of RoPE for a plan's positions. Made on the host, for every device alike.
struct KvTables {
    explicit KvTables(const KvProblem &problem);
    KvTables(const KvTables &) = delete;  // view points into it
    KvTables &operator=(const KvTables &) = delete;

    std::vector<kv_cache::CosSin> low, high;
    kv_cache::RopeTables view;
};

// Most channels of a layer in mode rotatekv, whose keys are made from all of them.
inline constexpr int kKvMaxRotatekvChannels = 16384;

// Queries a sequence may have at once, and so how far it may be rolled back.
inline constexpr int kKvMaxQueries = 8;

// The 16-bit store of a sequence: entries [kv_heads][K, V][head_dim] of transformed binary16
// values, first those of the sinks, then a ring of the window. The ring is longer than the window
// by what a rejected speculation may take back. K is what the pages code in mode tarpon, and R k,
// not rotated, in mode rotatekv; V is H v.
inline int kv_ring_tokens(const KvProblem &p) {
    return p.window_tokens > 0 ? p.window_tokens + kKvMaxQueries : 0;
}
inline int64_t kv_recent_entry_elems(const KvProblem &p) {
    return int64_t{2} * p.format.kv_heads * p.format.head_dim;
}
inline int64_t kv_recent_elems(const KvProblem &p) {
    return (p.sink_tokens + kv_ring_tokens(p)) * kv_recent_entry_elems(p);
}

// The sinks of a sequence, in the order of their places in its store.
struct KvSinks {
    const int32_t *positions;  // rising; null: 0, 1, 2 ..
    int count;

    // Of a row of the batch: its list in sink_positions, or the first tokens where that is null.
    KvSinks(const KvProblem &problem, const int32_t *sink_positions, int64_t row);

    int64_t position(int place) const { return positions ? positions[place] : place; }
    // How many stand before a position.
    int before(int64_t position) const;
    // The place of a token, -1 if it is no sink.
    int place(int64_t position) const;
    // How many are the first tokens of the sequence, without a gap.
    int leading() const;
};

// Where in its sequence's store a token is attended from, in entries: as a sink or as one of the
// last window_tokens of `length`. -1: it is attended from the pages.
int64_t kv_recent_entry(const KvProblem &problem, const KvSinks &sinks, int64_t position,
                        int64_t length);

// One plan serves all layers that share its shape. The runs are hot: they neither throw nor
// allocate. Pointers of the arguments are checked by the ABI (kv_cache.cc).
class KvPlan {
  public:
    virtual ~KvPlan() = default;
    virtual tarpon_status append(const tarpon_kv_append_args &args,
                                 const Stream *stream) const noexcept = 0;
    virtual tarpon_status attend(const tarpon_kv_attend_args &args,
                                 const Stream *stream) const noexcept = 0;
    virtual tarpon_status dequantize(const tarpon_kv_dequantize_args &args,
                                     const Stream *stream) const noexcept = 0;
    virtual size_t workspace_bytes(int64_t batch, int queries, int64_t max_length) const = 0;
    virtual const char *variant() const = 0;
};

// Validates; throws tarpon::Error. calibration may be null.
KvProblem checked_kv_problem(const tarpon_kv_desc &desc, const tarpon_kv_calibration *calibration);

// Checks of a run's arguments that all devices need; TARPON_OK, or the thread's last error is set.
tarpon_status check_kv_append(const KvProblem &problem, const tarpon_kv_append_args &args) noexcept;
tarpon_status check_kv_attend(const KvProblem &problem, const KvPlan &plan,
                              const tarpon_kv_attend_args &args) noexcept;
tarpon_status check_kv_dequantize(const KvProblem &problem,
                                  const tarpon_kv_dequantize_args &args) noexcept;

// The lists of sinks of a batch that are in host memory, or null.
tarpon_status check_kv_sinks(const KvProblem &problem, const char *call,
                             const int32_t *sink_positions, int64_t batch) noexcept;

// Token `token` of a checked dequantize() whose arrays are all in host memory (kv_host.cc).
void kv_dequantize_token(const KvProblem &problem, const KvTables &tables,
                         const tarpon_kv_dequantize_args &args, int64_t token) noexcept;

}  // namespace tarpon
