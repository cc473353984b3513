// Checks parts against the descriptor, folds act-order into a permutation of the inputs, and
// concatenates the parts along N.
#include "linear_weights.h"

#include <cstring>

#include "linear_layouts.h"
#include "registry.h"

namespace tarpon {
namespace {

size_t activation_bytes(tarpon_dtype dtype) {
    if (dtype < TARPON_F32 || dtype > TARPON_BF16) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "desc->activation_dtype is %d (%s); it must be F32 (0), F16 (1) or BF16 (2)", dtype,
             dtype_name(dtype));
    }
    return dtype == TARPON_F32 ? 4 : 2;
}

}  // namespace

LinearParts::LinearParts(const tarpon_linear_desc &desc,
                         const std::vector<tarpon_linear_weights> &parts)
    : shape_(checked_shape(desc.out_features, desc.in_features, desc.group_size)),
      format_(checked_format(desc)),
      activation_bytes_(activation_bytes(desc.activation_dtype)) {
    const bool single = parts.size() == 1;
    int64_t column = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
        const std::string name = single ? "weights->" : "parts[" + std::to_string(i) + "].";
        int64_t n = parts[i].out_features;
        if (single && n == 0) n = shape_.n;
        if (n < 1 || n > shape_.n - column) {
            fail(TARPON_ERROR_INVALID_ARGUMENT,
                 "%sout_features is %lld; it must be >= 1, and desc->out_features (%lld) the sum "
                 "of all parts'",
                 name.c_str(), ll{n}, ll{shape_.n});
        }
        parts_.push_back({parts[i], column, n, name});
        column += n;
        has_bias_ |= parts[i].bias != nullptr;
    }
    if (column != shape_.n) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "desc->out_features is %lld; the parts' out_features add up to %lld", ll{shape_.n},
             ll{column});
    }
    for (const Part &part : parts_)
        check_part(part);
    g_idx_ = parts_[0].weights.g_idx;
    fold_g_idx();
}

void LinearParts::check_part(const Part &part) const {
    LinearShape shape = shape_;
    shape.n = part.n;
    check_layout({part.weights, shape, part.name.c_str()}, format_);
    const size_t bias_bytes = static_cast<size_t>(part.n) * activation_bytes_;
    const bool has_bias = part.weights.bias != nullptr;
    if (part.weights.bias_bytes != (has_bias ? bias_bytes : 0)) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "%sbias is %p of %zu bytes; a bias of %lld elements of activation_dtype takes %zu, "
             "none takes 0",
             part.name.c_str(), part.weights.bias, part.weights.bias_bytes, ll{part.n}, bias_bytes);
    }
    check_g_idx(part);
}

void LinearParts::check_g_idx(const Part &part) const {
    const int32_t *g_idx = part.weights.g_idx, *first = parts_[0].weights.g_idx;
    const size_t expected = g_idx ? static_cast<size_t>(shape_.k) * sizeof *g_idx : 0;
    if (part.weights.g_idx_bytes != expected) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "%sg_idx is %p of %zu bytes; with in_features %lld it takes %zu", part.name.c_str(),
             static_cast<const void *>(g_idx), part.weights.g_idx_bytes, ll{shape_.k}, expected);
    }
    if (g_idx && shape_.k > INT32_MAX) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "in_features is %lld; with g_idx it is at most %d",
             ll{shape_.k}, INT32_MAX);
    }
    if (!g_idx != !first) {
        fail(
            TARPON_ERROR_INVALID_ARGUMENT,
            "%sg_idx is %s and parts[0].g_idx is %s; all parts of a plan share one order of inputs",
            part.name.c_str(), g_idx ? "given" : "NULL", first ? "given" : "NULL");
    }
    if (!g_idx || g_idx == first) return;
    for (int64_t r = 0; r < shape_.k; ++r) {
        if (g_idx[r] == first[r]) continue;
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "%sg_idx[%lld] is %d and parts[0].g_idx[%lld] is %d; all parts of a plan share one "
             "order of inputs",
             part.name.c_str(), ll{r}, g_idx[r], ll{r}, first[r]);
    }
}

// Sorts the inputs by group, keeping their order within each: every group then has the rows that it
// would have without act-order.
void LinearParts::fold_g_idx() {
    if (!g_idx_) return;
    const char *name = parts_[0].name.c_str();
    const auto [n, k, group_size, groups] = shape_;
    std::vector<int64_t> filled(static_cast<size_t>(groups));
    std::vector<int32_t> order(static_cast<size_t>(k));
    bool identity = true;
    for (int64_t r = 0; r < k; ++r) {
        const int64_t group = g_idx_[r];
        if (group < 0 || group >= groups) {
            fail(TARPON_ERROR_INVALID_ARGUMENT, "%sg_idx[%lld] is %lld; there are %lld groups",
                 name, ll{r}, ll{group}, ll{groups});
        }
        const int64_t room = group == groups - 1 ? k - group * group_size : group_size;
        int64_t &count = filled[static_cast<size_t>(group)];
        if (count == room) {
            fail(TARPON_ERROR_INVALID_ARGUMENT,
                 "%sg_idx[%lld] is %lld; this group has its %lld inputs before it", name, ll{r},
                 ll{group}, ll{room});
        }
        const int64_t row = group * group_size + count++;
        order[static_cast<size_t>(row)] = static_cast<int32_t>(r);
        identity &= row == r;
    }
    if (identity) return;
    if (format_.sparsity == TARPON_SPARSITY_2_4) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "%sg_idx is not in order; 2:4 sparse weights have their inputs in order", name);
    }
    permutation_ = std::move(order);
}

void LinearParts::unpack(uint8_t *codes, void *scales, void *zeros, bool permuted) const {
    std::vector<int32_t> row_of_input;
    if (permuted && !permutation_.empty()) {
        row_of_input.resize(permutation_.size());
        for (size_t r = 0; r < permutation_.size(); ++r)
            row_of_input[static_cast<size_t>(permutation_[r])] = static_cast<int32_t>(r);
    }
    for (const Part &part : parts_) {
        LinearShape shape = shape_;
        shape.n = part.n;
        const auto first = static_cast<size_t>(part.first_column);
        PlainPart out{};
        out.codes = {codes + first, shape_.n, row_of_input.empty() ? nullptr : row_of_input.data()};
        out.scales = static_cast<char *>(scales) + first * format_.scale_bytes();
        if (zeros) out.zeros = static_cast<char *>(zeros) + first * format_.zero_bytes();
        out.stride = shape_.n;
        unpack_layout({part.weights, shape, part.name.c_str()}, format_, out);
    }
}

std::vector<char> LinearParts::bias() const {
    if (!has_bias_) return {};
    std::vector<char> bias(static_cast<size_t>(shape_.n) * activation_bytes_);
    for (const Part &part : parts_) {
        if (!part.weights.bias) continue;
        std::memcpy(bias.data() + static_cast<size_t>(part.first_column) * activation_bytes_,
                    part.weights.bias, part.weights.bias_bytes);
    }
    return bias;
}

}  // namespace tarpon
