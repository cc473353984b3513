// The weights of a plan: one or more parts in layouts of their own, checked, and brought together
// in plain order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend.h"
#include "linear_format.h"

namespace tarpon {

// A descriptor and its parts, with everything checked that does not take reading the weights.
class LinearParts {
  public:
    // Messages call a single part "weights->", others "parts[i].".
    LinearParts(const tarpon_linear_desc &desc, const std::vector<tarpon_linear_weights> &parts);

    const LinearShape &shape() const { return shape_; }  // of all parts together
    const LinearFormat &format() const { return format_; }
    bool has_bias() const { return has_bias_; }
    // [K]: the inputs by group, in order within each; empty if that is the identity.
    const std::vector<int32_t> &permutation() const { return permutation_; }
    // The group of an input row.
    int64_t group_of(int64_t input) const {
        return g_idx_ ? g_idx_[input] : input / shape_.group_size;
    }

    // Plain order: codes [K, N], scales and zeros [G, N] (zeros may be null if symmetric). Row r of
    // codes is of input r, or of input permutation()[r] if `permuted`.
    void unpack(uint8_t *codes, void *scales, void *zeros, bool permuted) const;
    // [N] of activation_dtype, zeros where a part has none; empty if no part has one.
    std::vector<char> bias() const;

  private:
    struct Part {
        tarpon_linear_weights weights;
        int64_t first_column, n;
        std::string name;
    };

    void check_part(const Part &part) const;
    void check_g_idx(const Part &part) const;
    void fold_g_idx();

    LinearShape shape_;
    LinearFormat format_;
    size_t activation_bytes_;  // of an element
    std::vector<Part> parts_;
    bool has_bias_ = false;
    const int32_t *g_idx_ = nullptr;  // [K], the same for all parts
    std::vector<int32_t> permutation_;
};

}  // namespace tarpon
