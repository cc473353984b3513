// The packed weights of a CPU linear layer; linear_kernel.h draws their layout.
#pragma once

#include <optional>
#include <vector>

#include "backend.h"
#include "cpu/linear_factors.h"
#include "cpu/linear_kernel.h"
#include "cpu/memory.h"
#include "cpu/thread_pool.h"

namespace tarpon::cpu {

struct Panel {
    int64_t first_column;
    int vectors;
    size_t codes_offset;  // bytes from the start of the codes
    size_t scales_index;  // elements from the start of the scales, zeros or offsets
    size_t super_index;   // likewise of the upper of two levels of scales
};

class PackedWeights {
  public:
    // units: of a panel, at least ceil(K / 8). Packs on the pool's threads.
    PackedWeights(ThreadPool &pool, const LinearProblem &problem, const LinearWeights &weights,
                  int64_t units);

    const std::vector<Panel> &panels() const { return panels_; }
    const uint8_t *codes(const Panel &panel) const { return codes_ + panel.codes_offset; }
    PanelScales scales(const Panel &panel) const;
    // Of the panel's columns; null if there is none.
    const float *bias(const Panel &panel) const {
        return bias_ ? bias_ + panel.first_column : nullptr;
    }
    const int32_t *permutation() const { return permutation_; }
    bool has_offsets() const { return zeros_ || offsets_ || scale_codes_; }
    size_t bytes() const { return bytes_; }

  private:
    void cut_panels(int thread_count);
    void find_two_levels(ThreadPool &pool, const LinearWeights &weights);
    void allocate(const LinearWeights &weights);
    void pack_codes(const Panel &panel, const LinearWeights &weights) const;
    void pack_scales(const Panel &panel, const LinearWeights &weights) const;
    void pack_factors(const Panel &panel) const;
    void pack_bias(const void *bias) const;

    const LinearProblem problem_;
    const int64_t units_;
    const size_t unit_bytes_;   // of a vector
    const size_t scale_bytes_;  // of an element
    std::vector<Panel> panels_;
    // While packing, if scales and minimums are of two levels.
    std::optional<Factors> scale_factors_, minimum_factors_;
    size_t codes_bytes_ = 0, scales_count_ = 0, super_count_ = 0, bytes_ = 0;
    Memory memory_;
    // Parts of memory_, each aligned to 64 bytes; null if the weights have none.
    uint8_t *codes_ = nullptr, *scales_ = nullptr, *zeros_ = nullptr;
    uint8_t *scale_codes_ = nullptr, *minimum_codes_ = nullptr;
    uint16_t *super_scales_ = nullptr, *super_minimums_ = nullptr;
    float *offsets_ = nullptr, *bias_ = nullptr;
    int32_t *permutation_ = nullptr;
};

}  // namespace tarpon::cpu
