// The body of the optimizers' CPU kernels: one block of 256 elements at a time, in one pass over
// memory. Included once per instruction set, inside an unnamed namespace of that set's file, with
// a type Lanes that provides
//   F, kWidth                      a lane type (kernels-cu/optim/lanes.h) and its floats
//   Wide                           a lane type of one or more F that are worked on side by side
//   load, load_wide, store         of an F or a Wide, unaligned
//   joined                         the F of an array, as a Wide
//   widen, narrow                  n halves or bfloat16 to floats and back, to nearest even
//   decode_64, encode_64           64 codes of a map to lanes, times a factor; 64 floats, times a
//                                  factor, to codes
//   decode_fp8_64, encode_fp8_64   the same with dynamic-range expansion; expand_fp8_64: without
//                                  the rounding to codes
//   encode_stochastic_64           64 floats, times a factor, to codes around them
//   round_to_bf16_64               64 floats to bfloat16 numbers around them
//   Largest, Smallest              the largest |x|, and the smallest that is not zero, as bits
//   Sum                            16 sums of squares in binary64, added in a fixed order
//
// A block's fp32 tensors are used where they lie; all else passes through buffers of 1 KiB, which
// stay in L1. Blocks that are not full are padded with zeros in the buffers.

using namespace tarpon::optim;

constexpr int kPad = 64;

constexpr int64_t padded(int64_t n) {
    return (n + kPad - 1) / kPad * kPad;
}

inline size_t elem_bytes(Dtype dtype) {
    return dtype == Dtype::kF32 ? 4 : 2;
}

// Elements [base, base + n) as floats: in place, or copied to buffer and padded with zeros.
template <class Lanes>
const float *widened(const void *tensor, Dtype dtype, int64_t base, int64_t n, float *buffer) {
    if (dtype == Dtype::kF32) {
        const float *source = static_cast<const float *>(tensor) + base;
        if (n % kPad == 0) return source;
        std::memcpy(buffer, source, static_cast<size_t>(n) * sizeof(float));
    } else if (dtype == Dtype::kF16) {
        Lanes::widen(static_cast<const half_t *>(tensor) + base, n, buffer);
    } else {
        Lanes::widen(static_cast<const bf16_t *>(tensor) + base, n, buffer);
    }
    std::fill(buffer + n, buffer + padded(n), 0.0f);
    return buffer;
}

// Stores n floats as elements [base, base + n).
template <class Lanes>
void narrowed(const float *values, int64_t n, void *tensor, Dtype dtype, int64_t base) {
    if (dtype == Dtype::kF32) {
        float *target = static_cast<float *>(tensor) + base;
        if (target != values) std::memcpy(target, values, static_cast<size_t>(n) * sizeof(float));
    } else if (dtype == Dtype::kF16) {
        Lanes::narrow(values, n, static_cast<half_t *>(tensor) + base);
    } else {
        Lanes::narrow(values, n, static_cast<bf16_t *>(tensor) + base);
    }
}

template <class Lanes>
uint32_t largest_bits(const float *values, int64_t n) {
    typename Lanes::Largest largest[4];
    for (int64_t i = 0; i < n; i += 4 * Lanes::kWidth)
        repeat<4>([&](auto k) { largest[k].add(Lanes::load(values + i + k * Lanes::kWidth)); });
    repeat<3>([&](auto k) { largest[0].add(largest[k + 1]); });
    return largest[0].bits();
}

constexpr MapKind state_map(int signed_slots, int slot) {
    return signed_slots >> slot & 1 ? MapKind::kDynamicSigned : MapKind::kDynamicUnsigned;
}

// What a state format does with a slot of a block. `at` is the element of the tensor, a multiple of
// 64; a Unit is what kUnitElems values have in common.
template <class Lanes, int kSignedSlots>
struct Dynamic8Codec {
    using F = typename Lanes::F;
    using Unit = float;   // absmax
    using Scale = float;  // 1 / absmax
    static constexpr int kUnitElems = kBlockElems;

    class Range {
      public:
        template <class Fs>
        void add(Fs x) {
            largest_.add(x);
        }
        void add(const Range &other) { largest_.add(other.largest_); }
        Unit unit() const { return lanes::as_float(largest_.bits()); }

      private:
        typename Lanes::Largest largest_;
    };

    static Unit *units(const TensorEntry &t, int slot) { return t.absmax[slot]; }
    static Scale scale(Unit absmax) { return reciprocal_absmax(absmax); }
    TARPON_INLINE static void decode(int slot, const uint8_t *codes, Unit absmax, F *out) {
        Lanes::decode_64(state_map(kSignedSlots, slot), codes, absmax, out);
    }
    TARPON_INLINE static void encode(int slot, const float *values, Scale scale, uint8_t *codes) {
        Lanes::encode_64(state_map(kSignedSlots, slot), values, scale, codes);
    }
    static void encode_stochastic(int slot, const float *values, Scale scale, RandomKey key,
                                  int64_t at, uint8_t *codes) {
        Lanes::encode_stochastic_64(state_map(kSignedSlots, slot), values, scale, key, at, codes);
    }
};

template <class Lanes>
struct Fp8Codec {
    using F = typename Lanes::F;
    using Unit = Fp8Group;
    using Scale = Fp8Group;
    static constexpr int kUnitElems = kFp8GroupElems;

    class Range {
      public:
        template <class Fs>
        void add(Fs x) {
            largest_.add(x);
            smallest_.add(x);
        }
        void add(const Range &other) {
            largest_.add(other.largest_);
            smallest_.add(other.smallest_);
        }
        Unit unit() const {
            return fp8_group(lanes::as_float(largest_.bits()), lanes::as_float(smallest_.bits()));
        }

      private:
        typename Lanes::Largest largest_;
        typename Lanes::Smallest smallest_;
    };

    static Unit *units(const TensorEntry &t, int slot) {
        return reinterpret_cast<Fp8Group *>(t.absmax[slot]);
    }
    static Scale scale(Unit group) { return group; }
    TARPON_INLINE static void decode(int, const uint8_t *codes, Unit group, F *out) {
        Lanes::decode_fp8_64(codes, group, out);
    }
    TARPON_INLINE static void encode(int, const float *values, Unit group, uint8_t *codes) {
        Lanes::encode_fp8_64(values, group, codes);
    }
    static void encode_stochastic(int, const float *values, Unit group, RandomKey key, int64_t at,
                                  uint8_t *codes) {
        alignas(64) float powers[kPad];
        Lanes::expand_fp8_64(values, group, powers);
        Lanes::encode_stochastic_64(MapKind::kFp8E4M3, powers, 1.0f, key, at, codes);
    }
};

// The n codes of a slot from element base on, as floats padded with zeros.
template <class Codec>
void decode_states(const TensorEntry &t, int slot, int64_t base, int64_t n, float *out) {
    const auto *codes = static_cast<const uint8_t *>(t.state[slot]) + base;
    const typename Codec::Unit *units = Codec::units(t, slot);
    for (int64_t i = 0; i < n; i += kPad) {
        const uint8_t *from = codes + i;
        alignas(64) uint8_t padded_codes[kPad] = {};
        if (n - i < kPad) {
            std::memcpy(padded_codes, from, static_cast<size_t>(n - i));
            from = padded_codes;
        }
        typename Codec::F values[kPad * sizeof(float) / sizeof(typename Codec::F)];
        Codec::decode(slot, from, units[(base + i) / Codec::kUnitElems], values);
        std::memcpy(out + i, values, sizeof values);
    }
    std::fill(out + n, out + padded(n), 0.0f);
}

// Stores n values, which are padded with zeros, as codes.
template <class Codec, class Lanes>
void encode_states(const TensorEntry &t, int slot, int64_t base, int64_t n, const float *values,
                   const Rounding &rounding) {
    auto *codes = static_cast<uint8_t *>(t.state[slot]) + base;
    const RandomKey key = random_key(rounding.seed, rounding.step, t.index, 1 + slot);
    for (int64_t i = 0; i < n; i += Codec::kUnitElems) {
        const int64_t end = std::min<int64_t>(i + Codec::kUnitElems, n);
        typename Codec::Range range;
        for (int64_t k = i; k < padded(end); k += Lanes::kWidth)
            range.add(Lanes::load(values + k));
        const typename Codec::Unit unit = range.unit();
        Codec::units(t, slot)[(base + i) / Codec::kUnitElems] = unit;
        const typename Codec::Scale scale = Codec::scale(unit);
        for (int64_t k = i; k < end; k += kPad) {
            alignas(64) uint8_t padded_codes[kPad];
            const bool full = end - k >= kPad;
            uint8_t *to = full ? codes + k : padded_codes;
            if (rounding.stochastic_states) {
                Codec::encode_stochastic(slot, values + k, scale, key, base + k, to);
            } else {
                Codec::encode(slot, values + k, scale, to);
            }
            if (!full) std::memcpy(codes + k, to, static_cast<size_t>(end - k));
        }
    }
}

// The slot's states as floats, in place or in buffer.
template <class Lanes, int kSignedSlots>
float *load_state(const TensorEntry &t, int slot, int64_t base, int64_t n, float *buffer) {
    if (t.format == StateFormat::kF32) {
        return const_cast<float *>(widened<Lanes>(t.state[slot], Dtype::kF32, base, n, buffer));
    }
    if (t.format == StateFormat::kDynamic8) {
        decode_states<Dynamic8Codec<Lanes, kSignedSlots>>(t, slot, base, n, buffer);
    } else {
        decode_states<Fp8Codec<Lanes>>(t, slot, base, n, buffer);
    }
    return buffer;
}

// Stores the slot's n states, padded with zeros.
template <class Lanes, int kSignedSlots>
void store_state(const TensorEntry &t, int slot, int64_t base, int64_t n, const float *values,
                 const Rounding &rounding) {
    if (t.format == StateFormat::kF32) {
        narrowed<Lanes>(values, n, t.state[slot], Dtype::kF32, base);
    } else if (t.format == StateFormat::kDynamic8) {
        encode_states<Dynamic8Codec<Lanes, kSignedSlots>, Lanes>(t, slot, base, n, values,
                                                                 rounding);
    } else {
        encode_states<Fp8Codec<Lanes>, Lanes>(t, slot, base, n, values, rounding);
    }
}

template <class Lanes>
void store_param(const TensorEntry &t, int64_t base, int64_t n, const float *values,
                 const Rounding &rounding) {
    const RandomKey key = random_key(rounding.seed, rounding.step, t.index, 0);
    auto put = [&](void *tensor, Dtype dtype) {
        if (dtype != Dtype::kBF16 || !rounding.stochastic_params) {
            return narrowed<Lanes>(values, n, tensor, dtype, base);
        }
        alignas(64) float drawn[kBlockElems];
        for (int64_t i = 0; i < n; i += kPad)
            Lanes::round_to_bf16_64(values + i, key, base + i, drawn + i);
        narrowed<Lanes>(drawn, n, tensor, dtype, base);
    };
    put(t.param, t.param_dtype);
    if (t.copy) put(t.copy, t.copy_dtype);
}

// Whether all of padded(n) gradients are below the limit once multiplied. The largest decides,
// since rounding keeps the order; a NaN is the largest.
template <class Lanes>
bool all_below_limit(const float *grad, int64_t n, float multiplier) {
    typename Lanes::Largest largest[4];  // side by side, because each waits for itself
    for (int64_t i = 0; i < padded(n); i += 4 * Lanes::kWidth)
        repeat<4>([&](auto k) { largest[k].add(Lanes::load(grad + i + k * Lanes::kWidth)); });
    repeat<3>([&](auto k) { largest[0].add(largest[k + 1]); });
    return largest[0].all_below(multiplier, kGradientLimit);
}

// The parameters, gradients and states of one block, as floats.
template <class Lanes, class R>
struct Block {
    int64_t base, n;
    const float *grad;
    float *param;
    float *state[kMaxStates];
    alignas(64) float buffer[2 + kMaxStates][kBlockElems];

    // All but the states. False if a gradient is not finite.
    bool load_values(const TensorEntry &t, const Coefficients &c, int64_t block) {
        base = block * kBlockElems;
        n = std::min<int64_t>(kBlockElems, t.elems - base);
        grad = widened<Lanes>(t.grad, t.grad_dtype, base, n, buffer[0]);
        if (!all_below_limit<Lanes>(grad, n, c.grad_multiplier)) return false;
        param = const_cast<float *>(widened<Lanes>(t.param, t.param_dtype, base, n, buffer[1]));
        return true;
    }

    // False if a gradient is not finite.
    bool load(const TensorEntry &t, const Coefficients &c, int64_t block) {
        if (!load_values(t, c, block)) return false;
        for (int slot = 0; slot < kMaxStates; ++slot) {
            if (R::kReads >> slot & 1) {
                state[slot] = load_state<Lanes, R::kSigned>(t, slot, base, n, buffer[2 + slot]);
            }
        }
        return true;
    }
};

// Calls put(i, p, delta, states) for every vector of elements [begin, end) of the block.
template <class Lanes, class R, class Put>
void for_each_vector(const Block<Lanes, R> &b, const TensorEntry &t, const Coefficients &c,
                     int64_t begin, int64_t end, Put put) {
    using F = typename Lanes::F;
    const float *norms = t.inverse_norms ? t.inverse_norms + b.base % t.columns : nullptr;
    for (int64_t i = begin; i < end; i += Lanes::kWidth) {
        const F p = Lanes::load(b.param + i);
        const F g = Lanes::load(b.grad + i) * F(c.grad_multiplier);
        F s[kMaxStates];
        for (int slot = 0; slot < kMaxStates; ++slot) {
            if (R::kReads >> slot & 1) s[slot] = Lanes::load(b.state[slot] + i);
        }
        const F norm = norms ? Lanes::load(norms + i) : F(1.0f);
        const F delta = R::delta(p, g, s, c, norm);
        put(i, p, delta, s);
    }
}

// Whole blocks [first, last) with states of codes, rounded to nearest. The codes of a block are
// made while the next one is updated, 64 at a time in turn: an update waits for its square roots
// and divisions, an encoder for nothing.
template <class Lanes, class R, class Codec>
int64_t step_whole_blocks(const TensorEntry &t, const Coefficients &coefficients,
                          const Rounding &rounding, int64_t first, int64_t last) noexcept {
    using F = typename Lanes::F;
    using Wide = typename Lanes::Wide;
    constexpr int kUnits = kBlockElems / Codec::kUnitElems;
    constexpr int kWides = sizeof(float) * kPad / sizeof(Wide), kWidth = kPad / kWides;
    const Coefficients c = coefficients;
    // States of two blocks, of which one is without codes yet, and where those go; at first,
    // nowhere.
    alignas(64) float buffer[2][kMaxStates][kBlockElems] = {};
    alignas(64) uint8_t nowhere[kBlockElems];
    uint8_t *codes[kMaxStates], *pending_codes[kMaxStates];
    typename Codec::Unit *units[kMaxStates];
    typename Codec::Scale pending_scales[kMaxStates][kUnits] = {};
    for (int slot = 0; slot < kMaxStates; ++slot) {
        codes[slot] = static_cast<uint8_t *>(t.state[slot]);
        units[slot] = Codec::units(t, slot);
        pending_codes[slot] = nowhere;
    }
    int64_t skipped = 0;
    int turn = 0;
    Block<Lanes, R> b;
    const auto encode_pending = [&](int64_t group) TARPON_INLINE {
        for_each_slot<R::kWrites>([&](auto slot) TARPON_INLINE {
            Codec::encode(slot, buffer[!turn][slot] + group,
                          pending_scales[slot][group / Codec::kUnitElems],
                          pending_codes[slot] + group);
        });
    };
    for (int64_t block = first; block < last; ++block) {
        if (!b.load_values(t, c, block)) {
            ++skipped;
            continue;
        }
        const float *norms = t.inverse_norms ? t.inverse_norms + b.base % t.columns : nullptr;
        typename Codec::Range range[kMaxStates][kUnits];
        for (int64_t group = 0; group < kBlockElems; group += kPad) {
            F state[kMaxStates][kPad / Lanes::kWidth];
            typename Codec::Range group_range[kMaxStates];
            const int64_t unit = group / Codec::kUnitElems;
            for_each_slot<R::kReads>([&](auto slot) TARPON_INLINE {
                Codec::decode(slot, codes[slot] + b.base + group,
                              units[slot][block * kUnits + unit], state[slot]);
            });
            repeat<kWides>([&](auto w) TARPON_INLINE {
                const int64_t i = group + w * kWidth;
                const Wide p = Lanes::load_wide(b.param + i);
                const Wide g = Lanes::load_wide(b.grad + i) * Wide(c.grad_multiplier);
                Wide s[kMaxStates];
                for_each_slot<R::kReads>([&](auto slot) TARPON_INLINE {
                    s[slot] = Lanes::joined(state[slot] + w * kWidth / Lanes::kWidth);
                });
                const Wide norm = norms ? Lanes::load_wide(norms + i) : Wide(1.0f);
                const Wide delta = R::delta(p, g, s, c, norm);
                if constexpr (R::kMoves) Lanes::store(b.param + i, p - delta);
                for_each_slot<R::kWrites>([&](auto slot) TARPON_INLINE {
                    Lanes::store(buffer[turn][slot] + i, s[slot]);
                    group_range[slot].add(s[slot]);
                });
            });
            for_each_slot<R::kWrites>(
                [&](auto slot) TARPON_INLINE { range[slot][unit].add(group_range[slot]); });
            encode_pending(group);
        }
        if constexpr (R::kMoves) store_param<Lanes>(t, b.base, b.n, b.param, rounding);
        for_each_slot<R::kWrites>([&](auto slot) TARPON_INLINE {
            for (int unit = 0; unit < kUnits; ++unit) {
                const typename Codec::Unit made = range[slot][unit].unit();
                units[slot][block * kUnits + unit] = made;
                pending_scales[slot][unit] = Codec::scale(made);
            }
            pending_codes[slot] = codes[slot] + b.base;
        });
        turn = !turn;
    }
    for (int64_t group = 0; group < kBlockElems; group += kPad)
        encode_pending(group);
    return skipped;
}

// Blocks of any kind, one after the other.
template <class Lanes, class R>
int64_t step_any_blocks(const TensorEntry &t, const Coefficients &coefficients,
                        const Rounding &rounding, int64_t first, int64_t last) noexcept {
    using F = typename Lanes::F;
    const Coefficients c = coefficients;
    int64_t skipped = 0;
    Block<Lanes, R> b;
    for (int64_t block = first; block < last; ++block) {
        if (!b.load(t, c, block)) {
            ++skipped;
            continue;
        }
        for_each_vector(b, t, c, 0, padded(b.n), [&](int64_t i, F p, F delta, const F *s) {
            if constexpr (R::kMoves) Lanes::store(b.param + i, p - delta);
            for_each_slot<R::kWrites>([&](auto slot) { Lanes::store(b.state[slot] + i, s[slot]); });
        });
        if constexpr (R::kMoves) store_param<Lanes>(t, b.base, b.n, b.param, rounding);
        for_each_slot<R::kWrites>([&](auto slot) TARPON_INLINE {
            // The padding's states are zeros before a step but need not be after it.
            std::fill(b.state[slot] + b.n, b.state[slot] + padded(b.n), 0.0f);
            store_state<Lanes, R::kSigned>(t, slot, b.base, b.n, b.state[slot], rounding);
        });
    }
    return skipped;
}

template <class Lanes, class R>
int64_t step_blocks(const TensorEntry &t, const Coefficients &c, const Rounding &rounding,
                    int64_t first, int64_t last) noexcept {
    int64_t skipped = 0;
    if constexpr (R::kWrites != 0) {
        if (t.format != StateFormat::kF32 && !rounding.stochastic_states) {
            const int64_t whole = std::clamp(t.elems / kBlockElems, first, last);
            if (t.format == StateFormat::kDynamic8) {
                using Codec = Dynamic8Codec<Lanes, R::kSigned>;
                skipped = step_whole_blocks<Lanes, R, Codec>(t, c, rounding, first, whole);
                first = whole;
            } else if constexpr (std::is_same_v<R, AdamRule>) {
                using Codec = Fp8Codec<Lanes>;
                skipped = step_whole_blocks<Lanes, R, Codec>(t, c, rounding, first, whole);
                first = whole;
            }
        }
    }
    return skipped + step_any_blocks<Lanes, R>(t, c, rounding, first, last);
}

template <class Lanes>
GradSum grad_sum(const TensorEntry &t, float multiplier, int64_t first, int64_t last) noexcept {
    typename Lanes::Sum sum;
    bool finite = true;
    alignas(64) float buffer[kBlockElems];
    for (int64_t block = first; block < last; ++block) {
        const int64_t base = block * kBlockElems;
        const int64_t n = std::min<int64_t>(kBlockElems, t.elems - base);
        const float *grad = widened<Lanes>(t.grad, t.grad_dtype, base, n, buffer);
        finite &= all_below_limit<Lanes>(grad, n, multiplier);
        for (int64_t i = 0; i < padded(n); i += Lanes::kWidth)
            sum.add(i, Lanes::load(grad + i) * typename Lanes::F(multiplier));
    }
    return {sum.total(), finite};
}

template <class Lanes>
double weight_squares(const TensorEntry &t, int64_t first, int64_t last) noexcept {
    typename Lanes::Sum sum;
    alignas(64) float buffer[kBlockElems];
    for (int64_t block = first; block < last; ++block) {
        const int64_t base = block * kBlockElems;
        const int64_t n = std::min<int64_t>(kBlockElems, t.elems - base);
        const float *param = widened<Lanes>(t.param, t.param_dtype, base, n, buffer);
        for (int64_t i = 0; i < padded(n); i += Lanes::kWidth)
            sum.add(i, Lanes::load(param + i));
    }
    return sum.total();
}

template <class Lanes>
double direction_squares(const TensorEntry &t, const Coefficients &c, int64_t first,
                         int64_t last) noexcept {
    using F = typename Lanes::F;
    typename Lanes::Sum sum;
    Block<Lanes, LambRule> b;
    for (int64_t block = first; block < last; ++block) {
        if (!b.load(t, c, block)) continue;
        for_each_vector(b, t, c, 0, padded(b.n),
                        [&](int64_t i, F, F delta, const F *) { sum.add(i, delta); });
    }
    return sum.total();
}

// ---- Block-wise quantisation as operations of their own

// Codes of 4 bits: two a byte, the first in the high half.
inline void pack_halves(const uint8_t *codes, int64_t n, uint8_t *packed) {
    for (int64_t i = 0; i + 1 < n; i += 2)
        packed[i / 2] = static_cast<uint8_t>(codes[i] << 4 | codes[i + 1]);
    if (n % 2) packed[n / 2] = static_cast<uint8_t>(codes[n - 1] << 4);
}

inline void unpack_halves(const uint8_t *packed, int64_t n, uint8_t *codes) {
    for (int64_t i = 0; i < n; ++i)
        codes[i] = i % 2 ? packed[i / 2] & 15 : packed[i / 2] >> 4;
}

constexpr int64_t kMaxBlockElems = 4096;

// Calls body with the map as a constant.
template <class Body>
void with_map(MapKind kind, const Body &body) {
    switch (kind) {
        case MapKind::kDynamicSigned:
            return body(std::integral_constant<MapKind, MapKind::kDynamicSigned>{});
        case MapKind::kDynamicUnsigned:
            return body(std::integral_constant<MapKind, MapKind::kDynamicUnsigned>{});
        case MapKind::kLinear:
            return body(std::integral_constant<MapKind, MapKind::kLinear>{});
        case MapKind::kFp8E4M3:
            return body(std::integral_constant<MapKind, MapKind::kFp8E4M3>{});
        case MapKind::kDynamic4:
            return body(std::integral_constant<MapKind, MapKind::kDynamic4>{});
        case MapKind::kNormalFloat4:
            return body(std::integral_constant<MapKind, MapKind::kNormalFloat4>{});
    }
}

template <class Lanes>
void quantize_blocks(const BlockwiseJob &job, int64_t first, int64_t last) noexcept {
    const CodeMap &map = *job.map;
    const bool halves = is_four_bit(map.kind);
    alignas(64) float values[kMaxBlockElems];
    alignas(64) uint8_t codes[kMaxBlockElems];
    for (int64_t block = first; block < last; ++block) {
        const int64_t base = block * job.block_elems;
        const int64_t n = std::min(job.block_elems, job.elems - base);
        const float *source = widened<Lanes>(job.values, job.dtype, base, n, values);
        const float absmax = lanes::as_float(largest_bits<Lanes>(source, padded(n)));
        job.absmax[block] = absmax;
        const bool direct = !halves && n % kPad == 0;
        const float factor = reciprocal_absmax(absmax);
        uint8_t *out = direct ? job.codes + base : codes;
        with_map(map.kind, [&](auto kind) {
            for (int64_t i = 0; i < n; i += kPad)
                Lanes::encode_64(kind, source + i, factor, out + i);
        });
        if (halves) {
            pack_halves(codes, n, job.codes + base / 2);
        } else if (!direct) {
            std::memcpy(job.codes + base, codes, static_cast<size_t>(n));
        }
    }
}

template <class Lanes>
void dequantize_blocks(const BlockwiseJob &job, int64_t first, int64_t last) noexcept {
    using F = typename Lanes::F;
    const CodeMap &map = *job.map;
    const bool halves = is_four_bit(map.kind);
    alignas(64) float values[kMaxBlockElems];
    alignas(64) uint8_t codes[kMaxBlockElems];
    for (int64_t block = first; block < last; ++block) {
        const int64_t base = block * job.block_elems;
        const int64_t n = std::min(job.block_elems, job.elems - base);
        const uint8_t *source = job.codes + base;
        if (halves) {
            unpack_halves(job.codes + base / 2, n, codes);
            source = codes;
        } else if (n % kPad != 0) {
            std::memcpy(codes, source, static_cast<size_t>(n));
            source = codes;
        }
        if (source == codes) std::fill(codes + n, codes + padded(n), uint8_t{0});
        const bool direct = job.dtype == Dtype::kF32 && n % kPad == 0;
        float *out = direct ? static_cast<float *>(job.values) + base : values;
        with_map(map.kind, [&](auto kind) {
            for (int64_t i = 0; i < n; i += kPad) {
                F decoded[kPad / Lanes::kWidth];
                Lanes::decode_64(kind, source + i, job.absmax[block], decoded);
                for (int v = 0; v < kPad / Lanes::kWidth; ++v)
                    Lanes::store(out + i + v * Lanes::kWidth, decoded[v]);
            }
        });
        narrowed<Lanes>(out, n, job.values, job.dtype, base);
    }
}

template <class Lanes>
constexpr OptimKernel make_kernel() {
    return {
        {step_blocks<Lanes, AdamRule>, step_blocks<Lanes, SgdRule>, step_blocks<Lanes, RmspropRule>,
         step_blocks<Lanes, AdagradRule>, step_blocks<Lanes, LionRule>,
         step_blocks<Lanes, AdemamixRule>, step_blocks<Lanes, LambRule>,
         step_blocks<Lanes, LarsRule>, step_blocks<Lanes, AdabeliefRule>,
         step_blocks<Lanes, SophiaRule>, step_blocks<Lanes, SophiaHessianRule>,
         step_blocks<Lanes, ScaleRule>, step_blocks<Lanes, ScaleMomentumRule>},
        grad_sum<Lanes>,
        weight_squares<Lanes>,
        direction_squares<Lanes>,
        quantize_blocks<Lanes>,
        dequantize_blocks<Lanes>};
}
