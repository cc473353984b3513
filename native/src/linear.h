// The linear family: validation of what a caller describes, and the host-side weight formats.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend.h"

namespace tarpon {

// Validates desc and parts, brings the weights into plain order, and lets the chosen variant pack
// them. *out_variant points to static storage.
std::unique_ptr<LinearPlan> create_linear(Device &device, const tarpon_linear_desc &desc,
                                          const std::vector<tarpon_linear_weights> &parts,
                                          const char **out_variant);

// tarpon_linear_explain(): what a GPU would launch for m rows, as text. processor_count 0: that of
// the product that the architecture's model is of.
std::string explain_linear(const tarpon_linear_desc &desc, int64_t m, int32_t compute_capability,
                           int32_t processor_count);

// The host operations of tarpon.h, with their validation.
void weights_unpack(const tarpon_linear_desc &desc, const tarpon_linear_weights &weights,
                    uint8_t *out_codes, void *out_scales, void *out_zeros);
void weights_dequantize(const tarpon_linear_desc &desc, const tarpon_linear_weights &weights,
                        float *out_weight);
void weights_quantize(const tarpon_linear_desc &desc, const void *weight, tarpon_dtype dtype,
                      uint8_t *out_codes, void *out_scales, void *out_zeros);
void prune_2_4(const void *weight, tarpon_dtype dtype, int64_t n, int64_t k, void *out_weight);
void desc_for_layout(tarpon_weight_layout layout, tarpon_linear_desc &desc);

void w4_quantize(const void *weight, tarpon_dtype dtype, int64_t n, int64_t k, int32_t group_size,
                 uint8_t *out_codes, uint16_t *out_scales);
void w4_dequantize(const uint8_t *codes, const uint16_t *scales, int64_t n, int64_t k,
                   int32_t group_size, float *out_weight);
void marlin_size_bytes(int64_t n, int64_t k, int32_t group_size, size_t *out_qweight_bytes,
                       size_t *out_scales_bytes);
void marlin_pack(const uint8_t *codes, const uint16_t *scales, int64_t n, int64_t k,
                 int32_t group_size, int32_t *out_qweight, uint16_t *out_scales_packed);
void marlin_unpack(const int32_t *qweight, const uint16_t *scales_packed, int64_t n, int64_t k,
                   int32_t group_size, uint8_t *out_codes, uint16_t *out_scales);

}  // namespace tarpon
