// The KV plan of the CPU: tables made at create, append in kv_append.cc, attend in kv_attend.cc.
#pragma once

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

    // append
    void append_token(const tarpon_kv_append_args &args, int64_t token) const noexcept;
    void rotate(float *x) const noexcept;

    // attend: queries are prepared, splits of the keys attended, and their results merged.
    void prepare_queries(const AttendJob &job, int64_t row, int kv_head) const noexcept;
    void attend_split(const AttendJob &job, int64_t row, int kv_head, int split) const noexcept;
    void attend_codes(const AttendJob &job, int64_t row, int kv_head, int first_query_row, int rows,
                      int64_t begin, int64_t end, float *const *partials) const noexcept;
    void attend_recent(const AttendJob &job, int64_t row, int kv_head, int first_query_row,
                       int rows, int64_t sinks_end, int64_t window_begin, int64_t length,
                       float *const *partials) const noexcept;
    void add_mean(const float *queries, int rows, int kv_head, int64_t position, int count,
                  float *scores, int64_t stride) const noexcept;
    float finish_scores(float *scores, int64_t first, int count, int64_t low, int64_t high,
                        float *out_top) const noexcept;
    void merge_splits(const AttendJob &job, int64_t row, int kv_head) const noexcept;

    int group() const { return problem_.q_heads / problem_.format.kv_heads; }
    // A query in the workspace: rotated [head_dim], a and b of the mean [pairs], its constant.
    int64_t query_stride() const { return 2 * problem_.format.head_dim + 16; }
    // A partial result: unscaled output [head_dim], largest score, sum of exponentials.
    int64_t partial_stride() const { return problem_.format.head_dim + 16; }

    const KvProblem problem_;
    const kv_cache::BlockLayout layout_;
    ThreadPool &pool_;
    const KvKernels &kernels_;
    const HadamardKernel hadamard_;
    const hadamard::Size rotation_;
    const KvTables tables_;
    const kv_cache::RopeTables &rope_;
    std::vector<float> step_cos_, step_sin_;  // [pairs][16]
    // Pairs of each kv head whose mean is not zero: only those cost time in attention.
    std::vector<std::vector<int32_t>> mean_pairs_;
};

inline float load_elem(const void *data, tarpon_dtype dtype, int64_t i) {
    switch (dtype) {
        case TARPON_F16:
            return to_float(static_cast<const half_t *>(data)[i]);
        case TARPON_BF16:
            return to_float(static_cast<const bf16_t *>(data)[i]);
        default:
            return static_cast<const float *>(data)[i];
    }
}

}  // namespace tarpon::cpu
