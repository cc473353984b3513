// The KV plan of the CPU: tables made at create (kv_plan.cc), append in kv_append.cc; attend in
// kv_attend.cc, what it does with a stretch of keys in kv_split.cc.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/device.h"
#include "cpu/hadamard_kernel.h"
#include "cpu/kv_kernel.h"
#include "kv_cache.h"

namespace tarpon::cpu {

class KvCpuPlan final : public KvPlan {
  public:
    KvCpuPlan(CpuDevice &device, KvProblem problem);

    tarpon_status append(const tarpon_kv_append_args &args,
                         const Stream *stream) const noexcept override;
    tarpon_status attend(const tarpon_kv_attend_args &args,
                         const Stream *stream) const noexcept override;
    tarpon_status dequantize(const tarpon_kv_dequantize_args &args,
                             const Stream *stream) const noexcept override;
    size_t workspace_bytes(int64_t batch, int queries, int64_t max_length) const override;
    const char *variant() const override { return kernels_.name; }

  private:
    struct AttendJob;
    struct Stretch;
    struct Angles;
    struct CodeRange {
        int64_t begin, end;
    };

    void make_rotatekv_tables();

    // append
    void append_token(const tarpon_kv_append_args &args, int64_t token) const noexcept;
    void append_keys(const tarpon_kv_append_args &args, int64_t token, uint8_t *page,
                     uint16_t *entry) const noexcept;
    void load_head(const void *values, int64_t token, int head, float *x) const noexcept;
    void store_head(const float *x, bool key, int place, uint8_t *block) const noexcept;
    void append_values(const tarpon_kv_append_args &args, int64_t token, uint8_t *page,
                       uint16_t *entry) const noexcept;
    void rotate(float *x) const noexcept { rotate(x, problem_.format.head_dim, rotation_); }
    void rotate(float *x, int n, hadamard::Size size) const noexcept;

    // attend: queries are prepared, splits of the keys attended, and their results merged.
    void prepare_queries(const AttendJob &job, int64_t row, int kv_head) const noexcept;
    CodeRange code_range(const AttendJob &job, int64_t row) const noexcept;
    int blocks_ahead(const AttendJob &job, int64_t row, int head, int64_t split,
                     const uint8_t **blocks) const noexcept;
    void attend_split(const AttendJob &job, int64_t row, int first_head, int split) const noexcept;
    void attend_codes(const Stretch &stretch, int64_t begin, int64_t end,
                      const KvAhead &ahead) const noexcept;
    void attend_recent(const Stretch &stretch, int kv_head, int64_t window_begin,
                       int64_t length) const noexcept;
    void merge_splits(const AttendJob &job, int64_t row, int kv_head) const noexcept;

    void score_codes(const Stretch &stretch, int64_t first, int64_t end, float *scores,
                     const KvAhead &ahead) const noexcept;
    void score_turned(const Stretch &stretch, int64_t first, int64_t end, float *scores,
                      const KvAhead &ahead) const noexcept;
    void add_mean(const float *queries, int rows, int kv_head, int64_t position, int count,
                  float *scores, int64_t stride) const noexcept;
    void mask_scores(float *scores, int count, int begin, int end) const noexcept;
    void add_values(const Stretch &stretch, int kv_head, int64_t begin, int64_t end,
                    const float *probabilities, float *const *partials,
                    const KvAhead &ahead) const noexcept;

    int group() const { return problem_.q_heads / problem_.format.kv_heads; }
    // Heads whose keys are made together.
    int heads_a_task() const {
        return problem_.rotatekv() ? kv_cache::rotatekv_group_heads(problem_.format.kv_heads) : 1;
    }
    // A query in the workspace: transformed [head_dim], a and b of the mean [pairs], its constant,
    // and what the kernels pack.
    int64_t packed_offset() const { return 2 * problem_.format.head_dim + 16; }
    int64_t query_stride() const {
        return packed_offset() + kv_packed_floats(problem_.format.head_dim, problem_.format.k_bits);
    }
    // A partial result: unscaled output [head_dim], largest score, sum of exponentials.
    int64_t partial_stride() const { return problem_.format.head_dim + 16; }

    const KvProblem problem_;
    const kv_cache::BlockLayout layout_;
    ThreadPool &pool_;
    const KvKernels kernels_;
    const KvEncodeKernels &encode_;
    const HadamardKernel hadamard_;
    const hadamard::Size rotation_;
    const KvTables tables_;
    const kv_cache::RopeTables &rope_;
    std::vector<float> step_cos_, step_sin_;  // [pairs][kKvSteps]
    // Pairs of each kv head whose mean is not zero: only those cost time in attention.
    std::vector<std::vector<int32_t>> mean_pairs_;
    // Mode rotatekv: see KvTurnArgs.
    std::vector<KvPlace> places_;  // [kv_heads * head_dim] of the rotated key
    std::vector<int32_t> range_bytes_, pair_channels_;
};

// One call of attend().
struct KvCpuPlan::AttendJob {
    const KvCpuPlan *plan;
    const tarpon_kv_attend_args *args;
    int query_rows;   // of a kv head: its group's members of every query token, tokens first
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
    // The page that holds a token.
    const uint8_t *page(int64_t row, int64_t token) const {
        const kv_cache::Format &f = plan->problem_.format;
        const int64_t page = args->page_table[row * args->table_stride + token / f.page_tokens];
        return static_cast<const uint8_t *>(args->pages) + page * kv_cache::page_bytes(f);
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

// What one task attends at once: up to kKvRows query rows of each of its heads, over one split.
struct KvCpuPlan::Stretch {
    const AttendJob &job;
    int64_t row;
    const KvSinks &sinks;
    int first_head, heads;
    int first_query_row, rows;
    int64_t split;

    const float *queries(int kv_head) const { return job.query(row, kv_head, first_query_row); }
    float *partial(int kv_head, int r) const {
        return job.partial(row, kv_head, first_query_row + r, split);
    }
    const uint8_t *page(int64_t token) const { return job.page(row, token); }
    // Calls body(token, stop) for the part of each page that [begin, end) has.
    template <class Body>
    void for_pages(int64_t begin, int64_t end, Body body) const {
        const int page_tokens = job.plan->problem_.format.page_tokens;
        for (int64_t token = begin; token < end;) {
            const int64_t stop = std::min<int64_t>(end, token - token % page_tokens + page_tokens);
            body(token, stop);
            token = stop;
        }
    }
};

inline int kv_width_index(int bits) {
    return bits == 2 ? 0 : bits == 3 ? 1 : bits == 4 ? 2 : bits == 8 ? 3 : 4;
}

}  // namespace tarpon::cpu
