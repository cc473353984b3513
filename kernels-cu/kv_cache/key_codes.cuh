// Codes of a token's rotated key, mode rotatekv, one by one from a page in global memory: the order
// has scattered a rotation's channels over the heads of the layer.
#pragma once

#include "common/ptx.cuh"
#include "kv_cache/kernels.h"

namespace tarpon::kv_cache {

class KeyCodes {
  public:
    // `place`: of the token in its page.
    TARPON_DEVICE KeyCodes(const PlanParams &plan, const uint8_t *page, int place)
        : bits_(plan.format.k_bits), zeros_(plan.layout.k_zeros - plan.layout.k_scales) {
        const int width = bits_ == 3 ? 2 : bits_, head_dim = plan.format.head_dim;
        const int tile = place / kTileTokens, in_tile = 4 * (place % kTileTokens);
        mask_ = (1u << width) - 1;
        words_ = page + tile * 4 * kTileTokens * k_plane_words(head_dim, width) + in_tile;
        uppers_ = page + tile * 4 * kTileTokens * k_plane_words(head_dim, 1) + in_tile;
        scales_ = page + 2 * place;
    }

    // The same bits as asymmetric_value() of scheme.h.
    TARPON_DEVICE float value(const KeyPlace &at) const {
        uint32_t code =
            ptx::ld_global_nc(reinterpret_cast<const uint32_t *>(words_ + at.word)) >> at.bit &
            mask_;
        if (bits_ == 16) return to_float(half_t{uint16_t(code)});
        if (bits_ == 3) {
            const uint32_t upper =
                ptx::ld_global_nc(reinterpret_cast<const uint32_t *>(uppers_ + at.upper));
            code |= (upper >> at.upper_bit & 1) << 2;
        }
        const auto half_at = [](const uint8_t *half) {
            return to_float(ptx::ld_global_nc(reinterpret_cast<const half_t *>(half)));
        };
        return asymmetric_value(
            code, {half_at(scales_ + at.scale), half_at(scales_ + at.scale + zeros_)});
    }

  private:
    int bits_, zeros_;  // zeros_: bytes from a scale to its zero point
    uint32_t mask_;
    const uint8_t *words_, *uppers_, *scales_;  // the token's, of a place at the page's beginning
};

}  // namespace tarpon::kv_cache
