// extern "C" of the linear family: check pointers, call, turn every failure into a status.
#include <algorithm>
#include <cstring>

#include "abi_guard.h"
#include "linear.h"

using tarpon::fail;
using tarpon::abi::guarded;
using tarpon::abi::impl_or_null;
using tarpon::abi::read_struct;
using tarpon::abi::required;
using tarpon::abi::write_struct;

struct tarpon_linear {
    std::unique_ptr<tarpon::LinearPlan> impl;
    const char *variant;
    int64_t n, k;
    size_t elem_bytes;  // of activation_dtype
};

namespace {

constexpr int32_t kMaxParts = 64;

tarpon_linear *create(tarpon_device &device, const tarpon_linear_desc &desc,
                      const std::vector<tarpon_linear_weights> &parts) {
    auto linear = std::make_unique<tarpon_linear>();
    linear->impl = tarpon::create_linear(*device.impl, desc, parts, &linear->variant);
    linear->n = desc.out_features;
    linear->k = desc.in_features;
    linear->elem_bytes = desc.activation_dtype == TARPON_F32 ? 4 : 2;
    return linear.release();
}

// The caller's array has the stride of the caller's struct, which may be another version's.
std::vector<tarpon_linear_weights> read_parts(const tarpon_linear_weights *parts, int32_t count) {
    if (count < 1 || count > kMaxParts) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "part_count is %d; it must be 1..%d", count, kMaxParts);
    }
    const uint32_t stride = required(parts, "parts").struct_size;
    std::vector<tarpon_linear_weights> known;
    for (int32_t i = 0; i < count; ++i) {
        const auto *address = reinterpret_cast<const char *>(parts) + size_t{stride} * i;
        const auto *part = reinterpret_cast<const tarpon_linear_weights *>(address);
        if (stride % alignof(tarpon_linear_weights) != 0) {
            fail(TARPON_ERROR_INVALID_ARGUMENT,
                 "parts[0].struct_size is %u; set it to sizeof, here %zu", stride, sizeof *part);
        }
        if (part->struct_size != stride) {
            fail(TARPON_ERROR_INVALID_ARGUMENT,
                 "parts[%d].struct_size is %u and parts[0].struct_size is %u; they must be equal",
                 i, part->struct_size, stride);
        }
        known.push_back(read_struct(part, "parts"));
    }
    return known;
}

// Bounds m * K and m * N elements far below int64; more memory than any device has.
constexpr int64_t kMaxElems = int64_t{1} << 48;
constexpr uintptr_t kWorkspaceAlign = 256;

bool overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
    const auto first = reinterpret_cast<uintptr_t>(a), second = reinterpret_cast<uintptr_t>(b);
    return first < second ? second - first < a_bytes : first - second < b_bytes;
}

// What can be said of a run's operands without looking at memory. A GPU would answer a misaligned
// address with an error that ends its context; operands that overlap would be wrong in silence.
tarpon_status check_operands(const tarpon_linear &linear, const tarpon::LinearArgs &a) noexcept {
    const int64_t widest = std::max(linear.n, linear.k);
    if (!a.x || !a.y || a.m < 0 || a.m > kMaxElems / widest) {
        return tarpon::set_error(
            TARPON_ERROR_INVALID_ARGUMENT,
            "linear run: x is %p, y is %p, m is %lld; x and y must not be "
            "NULL and m must be 0..%lld for %lld inputs and %lld outputs",
            a.x, a.y, static_cast<long long>(a.m), static_cast<long long>(kMaxElems / widest),
            static_cast<long long>(linear.k), static_cast<long long>(linear.n));
    }
    const auto bits = reinterpret_cast<uintptr_t>(a.x) | reinterpret_cast<uintptr_t>(a.y) |
                      reinterpret_cast<uintptr_t>(a.residual);
    if (bits % linear.elem_bytes != 0) {
        return tarpon::set_error(TARPON_ERROR_INVALID_ARGUMENT,
                                 "linear run: x is %p, y is %p, residual is %p; all must be "
                                 "aligned to an element of %zu bytes",
                                 a.x, a.y, a.residual, linear.elem_bytes);
    }
    if (a.workspace_bytes > 0 && reinterpret_cast<uintptr_t>(a.workspace) % kWorkspaceAlign != 0) {
        return tarpon::set_error(TARPON_ERROR_INVALID_ARGUMENT,
                                 "linear run: workspace is %p; it must be aligned to 256 bytes",
                                 a.workspace);
    }
    const auto rows = static_cast<size_t>(a.m) * linear.elem_bytes;
    const size_t x_bytes = rows * static_cast<size_t>(linear.k);
    const size_t y_bytes = rows * static_cast<size_t>(linear.n);
    if (overlap(a.x, x_bytes, a.y, y_bytes)) {
        return tarpon::set_error(TARPON_ERROR_INVALID_ARGUMENT,
                                 "linear run: x (%p, %zu bytes) and y (%p, %zu bytes) overlap", a.x,
                                 x_bytes, a.y, y_bytes);
    }
    if (a.residual && a.residual != a.y && overlap(a.residual, y_bytes, a.y, y_bytes)) {
        return tarpon::set_error(TARPON_ERROR_INVALID_ARGUMENT,
                                 "linear run: residual (%p) and y (%p), of %zu bytes, overlap; "
                                 "they must be the same or apart",
                                 a.residual, a.y, y_bytes);
    }
    return TARPON_OK;
}

}  // namespace

extern "C" {

// ---- 4-bit weights on the host

tarpon_status tarpon_w4_quantize(const void *weight, tarpon_dtype weight_dtype, int64_t n,
                                 int64_t k, int32_t group_size, uint8_t *out_codes,
                                 uint16_t *out_scales) {
    return guarded([&] {
        required(static_cast<const char *>(weight), "weight");
        required(out_codes, "out_codes");
        required(out_scales, "out_scales");
        tarpon::w4_quantize(weight, weight_dtype, n, k, group_size, out_codes, out_scales);
    });
}

tarpon_status tarpon_w4_dequantize(const uint8_t *codes, const uint16_t *scales, int64_t n,
                                   int64_t k, int32_t group_size, float *out_weight) {
    return guarded([&] {
        required(codes, "codes");
        required(scales, "scales");
        required(out_weight, "out_weight");
        tarpon::w4_dequantize(codes, scales, n, k, group_size, out_weight);
    });
}

tarpon_status tarpon_marlin_size(int64_t n, int64_t k, int32_t group_size,
                                 size_t *out_qweight_bytes, size_t *out_scales_bytes) {
    return guarded([&] {
        required(out_qweight_bytes, "out_qweight_bytes");
        required(out_scales_bytes, "out_scales_bytes");
        tarpon::marlin_size_bytes(n, k, group_size, out_qweight_bytes, out_scales_bytes);
    });
}

tarpon_status tarpon_marlin_pack(const uint8_t *codes, const uint16_t *scales, int64_t n, int64_t k,
                                 int32_t group_size, int32_t *out_qweight,
                                 uint16_t *out_scales_packed) {
    return guarded([&] {
        required(codes, "codes");
        required(scales, "scales");
        required(out_qweight, "out_qweight");
        required(out_scales_packed, "out_scales_packed");
        tarpon::marlin_pack(codes, scales, n, k, group_size, out_qweight, out_scales_packed);
    });
}

tarpon_status tarpon_marlin_unpack(const int32_t *qweight, const uint16_t *scales_packed, int64_t n,
                                   int64_t k, int32_t group_size, uint8_t *out_codes,
                                   uint16_t *out_scales) {
    return guarded([&] {
        required(qweight, "qweight");
        required(scales_packed, "scales_packed");
        required(out_codes, "out_codes");
        required(out_scales, "out_scales");
        tarpon::marlin_unpack(qweight, scales_packed, n, k, group_size, out_codes, out_scales);
    });
}

// ---- Weights of any format on the host

tarpon_status tarpon_linear_desc_for_layout(tarpon_weight_layout layout,
                                            tarpon_linear_desc *out_desc) {
    return guarded([&] {
        tarpon_linear_desc desc = read_struct(out_desc, "out_desc");
        tarpon::desc_for_layout(layout, desc);
        write_struct(desc, out_desc, "out_desc");
    });
}

tarpon_status tarpon_weights_unpack(const tarpon_linear_desc *desc,
                                    const tarpon_linear_weights *weights, uint8_t *out_codes,
                                    void *out_scales, void *out_zeros) {
    return guarded([&] {
        const tarpon_linear_desc known_desc = read_struct(desc, "desc");
        const tarpon_linear_weights known_weights = read_struct(weights, "weights");
        required(out_codes, "out_codes");
        required(static_cast<char *>(out_scales), "out_scales");
        tarpon::weights_unpack(known_desc, known_weights, out_codes, out_scales, out_zeros);
    });
}

tarpon_status tarpon_weights_dequantize(const tarpon_linear_desc *desc,
                                        const tarpon_linear_weights *weights, float *out_weight) {
    return guarded([&] {
        const tarpon_linear_desc known_desc = read_struct(desc, "desc");
        const tarpon_linear_weights known_weights = read_struct(weights, "weights");
        required(out_weight, "out_weight");
        tarpon::weights_dequantize(known_desc, known_weights, out_weight);
    });
}

tarpon_status tarpon_weights_quantize(const tarpon_linear_desc *desc, const void *weight,
                                      tarpon_dtype weight_dtype, uint8_t *out_codes,
                                      void *out_scales, void *out_zeros) {
    return guarded([&] {
        const tarpon_linear_desc known_desc = read_struct(desc, "desc");
        required(static_cast<const char *>(weight), "weight");
        required(out_codes, "out_codes");
        required(static_cast<char *>(out_scales), "out_scales");
        tarpon::weights_quantize(known_desc, weight, weight_dtype, out_codes, out_scales,
                                 out_zeros);
    });
}

tarpon_status tarpon_prune_2_4(const void *weight, tarpon_dtype weight_dtype, int64_t n, int64_t k,
                               void *out_weight) {
    return guarded([&] {
        required(static_cast<const char *>(weight), "weight");
        required(static_cast<char *>(out_weight), "out_weight");
        tarpon::prune_2_4(weight, weight_dtype, n, k, out_weight);
    });
}

// ---- Linear

tarpon_status tarpon_linear_create(tarpon_device *device, const tarpon_linear_desc *desc,
                                   const tarpon_linear_weights *weights,
                                   tarpon_linear **out_linear) {
    return guarded([&] {
        required(device, "device");
        required(out_linear, "out_linear");
        const tarpon_linear_desc known_desc = read_struct(desc, "desc");
        *out_linear = create(*device, known_desc, {read_struct(weights, "weights")});
    });
}

tarpon_status tarpon_linear_create_fused(tarpon_device *device, const tarpon_linear_desc *desc,
                                         const tarpon_linear_weights *parts, int32_t part_count,
                                         tarpon_linear **out_linear) {
    return guarded([&] {
        required(device, "device");
        required(out_linear, "out_linear");
        const tarpon_linear_desc known_desc = read_struct(desc, "desc");
        *out_linear = create(*device, known_desc, read_parts(parts, part_count));
    });
}

tarpon_status tarpon_linear_workspace_bytes(const tarpon_linear *linear, int64_t m,
                                            size_t *out_bytes) {
    return guarded([&] {
        required(linear, "linear");
        required(out_bytes, "out_bytes");
        if (m < 0) {
            fail(TARPON_ERROR_INVALID_ARGUMENT, "m is %lld; it must be >= 0",
                 static_cast<long long>(m));
        }
        *out_bytes = linear->impl->workspace_bytes(m);
    });
}

tarpon_status tarpon_linear_run_residual(const tarpon_linear *linear, const void *x,
                                         const void *residual, void *y, int64_t m, void *workspace,
                                         size_t workspace_bytes, tarpon_stream *stream) {
    if (!linear) return tarpon::set_error(TARPON_ERROR_INVALID_ARGUMENT, "linear is NULL");
    if (m == 0) return TARPON_OK;
    const tarpon::LinearArgs args{x,       y, m, workspace, workspace_bytes, impl_or_null(stream),
                                  residual};
    const tarpon_status status = check_operands(*linear, args);
    return status == TARPON_OK ? linear->impl->run(args) : status;
}

tarpon_status tarpon_linear_run(const tarpon_linear *linear, const void *x, void *y, int64_t m,
                                void *workspace, size_t workspace_bytes, tarpon_stream *stream) {
    return tarpon_linear_run_residual(linear, x, nullptr, y, m, workspace, workspace_bytes, stream);
}

tarpon_status tarpon_linear_get_info(const tarpon_linear *linear, tarpon_linear_info *out_info) {
    return guarded([&] {
        required(linear, "linear");
        tarpon_linear_info info{};
        info.weights_bytes = linear->impl->weights_bytes();
        std::strncpy(info.variant, linear->variant, sizeof info.variant - 1);
        write_struct(info, out_info, "out_info");
    });
}

tarpon_status tarpon_linear_explain(const tarpon_linear_desc *desc, int64_t m,
                                    int32_t compute_capability, int32_t processor_count,
                                    char *out_text, size_t capacity_bytes, size_t *out_bytes) {
    return guarded([&] {
        if (capacity_bytes > 0) required(out_text, "out_text");
        const tarpon_linear_desc known = read_struct(desc, "desc");
        const std::string text =
            tarpon::explain_linear(known, m, compute_capability, processor_count);
        if (out_bytes) *out_bytes = text.size() + 1;
        if (capacity_bytes == 0) return;
        const size_t length = std::min(text.size(), capacity_bytes - 1);
        std::memcpy(out_text, text.data(), length);
        out_text[length] = '\0';
    });
}

void tarpon_linear_destroy(tarpon_linear *linear) {
    delete linear;
}

}  // extern "C"
