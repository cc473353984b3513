// The body of the optimizers' CPU kernels: one block of 256 elements at a time, in one pass over
// memory. Included once per instruction set, inside an unnamed namespace of that set's file, with
// a type Lanes that provides
//   F, kWidth                      a lane type (kernels-cu/optim/lanes.h) and its floats
//   load, store                    of kWidth floats, unaligned
//   widen, narrow                  n halves or bfloat16 to floats and back, to nearest even
//   decode, encode                 n codes of a map to floats, times a factor; n floats, times a
//                                  factor, to codes; n % 64 == 0
//   Key, larger_key, largest_of    the largest |x| lane by lane, as bits, and of all lanes
//   largest_key                    the largest |x| of n floats, as bits, so that NaN is largest
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
void scale(float *values, int64_t n, float factor) {
    using F = typename Lanes::F;
    for (int64_t i = 0; i < n; i += Lanes::kWidth)
        Lanes::store(values + i, Lanes::load(values + i) * F(factor));
}

template <class Lanes>
void raise(float *values, int64_t n, float power) {
    using F = typename Lanes::F;
    for (int64_t i = 0; i < n; i += Lanes::kWidth)
        Lanes::store(values + i, lanes::signed_power(Lanes::load(values + i), F(power)));
}

// Full or padded codes: reads padded(n), never past the n codes of the tensor.
template <class Lanes>
void decode_codes(const CodeMap &map, const uint8_t *codes, int64_t n, float factor, float *out) {
    alignas(64) uint8_t copy[kBlockElems] = {};
    if (n % kPad != 0) {
        std::memcpy(copy, codes, static_cast<size_t>(n));
        codes = copy;
    }
    Lanes::decode(map, codes, padded(n), factor, out);
}

template <class Lanes>
void encode_codes(const CodeMap &map, const float *values, int64_t n, float factor,
                  uint8_t *codes) {
    alignas(64) uint8_t copy[kBlockElems];
    Lanes::encode(map, values, padded(n), factor, n % kPad ? copy : codes);
    if (n % kPad != 0) std::memcpy(codes, copy, static_cast<size_t>(n));
}

constexpr MapKind state_map(int signed_slots, int slot) {
    return signed_slots >> slot & 1 ? MapKind::kDynamicSigned : MapKind::kDynamicUnsigned;
}

// The slot's states as floats, in place or in buffer.
template <class Lanes>
float *load_state(const TensorEntry &t, int slot, int signed_slots, int64_t base, int64_t n,
                  float *buffer) {
    if (t.format == StateFormat::kF32) {
        return const_cast<float *>(widened<Lanes>(t.state[slot], Dtype::kF32, base, n, buffer));
    }
    const auto *codes = static_cast<const uint8_t *>(t.state[slot]) + base;
    if (t.format == StateFormat::kDynamic8) {
        decode_codes<Lanes>(code_map(state_map(signed_slots, slot)), codes, n,
                            t.absmax[slot][base / kBlockElems], buffer);
    } else {
        decode_codes<Lanes>(code_map(MapKind::kFp8E4M3), codes, n, 1.0f, buffer);
        const auto *groups = reinterpret_cast<const Fp8Group *>(t.absmax[slot]);
        for (int64_t g = 0; g < n; g += kFp8GroupElems) {
            const Fp8Group group = groups[(base + g) / kFp8GroupElems];
            const int64_t length = std::min<int64_t>(kFp8GroupElems, padded(n) - g);
            // Memory of zeros is a legal initial state.
            raise<Lanes>(buffer + g, length, group.power > 0 ? 1.0f / group.power : 1.0f);
            scale<Lanes>(buffer + g, length, group.absmax);
        }
    }
    std::fill(buffer + n, buffer + padded(n), 0.0f);
    return buffer;
}

inline float smallest_magnitude(const float *values, int64_t n) {
    uint32_t smallest = lanes::as_bits(1.0f) << 1;  // above every finite magnitude
    for (int64_t i = 0; i < n; ++i) {
        const uint32_t bits = lanes::as_bits(values[i]) & 0x7fffffffu;
        // Zero wraps to the largest number and never wins.
        smallest = bits - 1 < smallest - 1 ? bits : smallest;
    }
    return lanes::as_float(std::min(smallest, 0x7f7fffffu));
}

// Encodes padded(n) values times factor, with the caller's rounding.
template <class Lanes>
void encode_states(const CodeMap &map, const float *values, int64_t n, float factor,
                   const Rounding &rounding, RandomKey key, int64_t base, uint8_t *codes) {
    if (!rounding.stochastic_states) return encode_codes<Lanes>(map, values, n, factor, codes);
    for (int64_t i = 0; i < n; ++i) {
        codes[i] = static_cast<uint8_t>(
            encode_stochastic(map, values[i] * factor, random_bits(key, base + i)));
    }
}

// Stores the slot's n states, padded with zeros; spoils values unless they are in place. absmax is
// the largest magnitude of kDynamic8's block.
template <class Lanes>
void store_state(const TensorEntry &t, int slot, int signed_slots, int64_t base, int64_t n,
                 float *values, float absmax, const Rounding &rounding) {
    if (t.format == StateFormat::kF32) {
        return narrowed<Lanes>(values, n, t.state[slot], Dtype::kF32, base);
    }
    auto *codes = static_cast<uint8_t *>(t.state[slot]) + base;
    const RandomKey key = rounding.stochastic_states
                              ? random_key(rounding.seed, rounding.step, t.index, 1 + slot)
                              : RandomKey{0, 0};
    if (t.format == StateFormat::kDynamic8) {
        t.absmax[slot][base / kBlockElems] = absmax;
        return encode_states<Lanes>(code_map(state_map(signed_slots, slot)), values, n,
                                    reciprocal_absmax(absmax), rounding, key, base, codes);
    }
    auto *groups = reinterpret_cast<Fp8Group *>(t.absmax[slot]);
    for (int64_t g = 0; g < n; g += kFp8GroupElems) {
        const int64_t length = std::min<int64_t>(kFp8GroupElems, n - g);
        const Fp8Group group =
            fp8_group(lanes::as_float(Lanes::largest_key(values + g, padded(length))),
                      smallest_magnitude(values + g, length));
        groups[(base + g) / kFp8GroupElems] = group;
        scale<Lanes>(values + g, padded(length), reciprocal_absmax(group.absmax));
        raise<Lanes>(values + g, padded(length), group.power);
        encode_states<Lanes>(code_map(MapKind::kFp8E4M3), values + g, length, 1.0f, rounding, key,
                             base + g, codes + g);
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
        auto *target = static_cast<bf16_t *>(tensor) + base;
        for (int64_t i = 0; i < n; ++i)
            target[i] = bf16_stochastic(values[i], random_bits(key, base + i));
    };
    put(t.param, t.param_dtype);
    if (t.copy) put(t.copy, t.copy_dtype);
}

// Whether all of padded(n) gradients are below the limit once multiplied. The largest decides, since
// rounding keeps the order; a NaN is the largest.
template <class Lanes>
bool all_below_limit(const float *grad, int64_t n, float multiplier) {
    return lanes::as_float(Lanes::largest_key(grad, padded(n))) * multiplier < kGradientLimit;
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
                state[slot] = load_state<Lanes>(t, slot, R::kSigned, base, n, buffer[2 + slot]);
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

constexpr int64_t kGroup = 64;  // codes that are made at a time

// Calls body(slot) for every bit of kMask, with the slot as a constant, so that its map is one too.
template <int kMask, class Body>
[[gnu::always_inline]] inline void for_each_slot(const Body &body) {
    [&]<int... kSlots>(std::integer_sequence<int, kSlots...>) {
        (
            [&] {
                if constexpr (kMask >> kSlots & 1) body(std::integral_constant<int, kSlots>{});
            }(),
            ...);
    }
    (std::make_integer_sequence<int, kMaxStates>{});
}

// Whole blocks [first, last) with kDynamic8 states, rounded to nearest. The codes of a block are
// made while the next one is updated, 64 at a time in turn: an update waits for its square roots and
// divisions, an encoder for nothing.
template <class Lanes, class R>
int64_t step_whole_blocks(const TensorEntry &t, const Coefficients &coefficients,
                          const Rounding &rounding, int64_t first, int64_t last) noexcept {
    using F = typename Lanes::F;
    const Coefficients c = coefficients;
    alignas(64) float buffer[2][kMaxStates][kBlockElems];
    uint8_t *codes[kMaxStates];
    float factor[kMaxStates] = {};
    for (int slot = 0; slot < kMaxStates; ++slot)
        codes[slot] = static_cast<uint8_t *>(t.state[slot]);
    int64_t skipped = 0, pending = -1;  // the block in buffer[!turn] that has no codes yet
    int turn = 0;
    Block<Lanes, R> b;
    const auto encode = [&](int64_t i) {
        for_each_slot<R::kWrites>([&](auto slot) {
            Lanes::encode(code_map(state_map(R::kSigned, slot)), buffer[!turn][slot] + i, kGroup,
                          factor[slot], codes[slot] + pending * kBlockElems + i);
        });
    };
    for (int64_t block = first; block < last; ++block) {
        if (!b.load_values(t, c, block)) {
            ++skipped;
            continue;
        }
        for (int slot = 0; slot < kMaxStates; ++slot)
            b.state[slot] = buffer[turn][slot];
        typename Lanes::Key largest[kMaxStates] = {};
        for (int64_t group = 0; group < kBlockElems; group += kGroup) {
            for_each_slot<R::kReads>([&](auto slot) {
                Lanes::decode(code_map(state_map(R::kSigned, slot)), codes[slot] + b.base + group,
                              kGroup, t.absmax[slot][block], buffer[turn][slot] + group);
            });
            for_each_vector(b, t, c, group, group + kGroup, [&](int64_t i, F p, F delta, F *s) {
                if constexpr (R::kMoves) Lanes::store(b.param + i, p - delta);
                for_each_slot<R::kWrites>([&](auto slot) {
                    Lanes::store(buffer[turn][slot] + i, s[slot]);
                    largest[slot] = Lanes::larger_key(largest[slot], s[slot]);
                });
            });
            if (pending >= 0) encode(group);
        }
        if constexpr (R::kMoves) store_param<Lanes>(t, b.base, b.n, b.param, rounding);
        for_each_slot<R::kWrites>([&](auto slot) {
            const float absmax = lanes::as_float(Lanes::largest_of(largest[slot]));
            t.absmax[slot][block] = absmax;
            factor[slot] = reciprocal_absmax(absmax);
        });
        pending = block;
        turn = !turn;
    }
    for (int64_t group = 0; pending >= 0 && group < kBlockElems; group += kGroup)
        encode(group);
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
        // The padding's states are zeros before a step but need not be after it.
        const bool whole = b.n == padded(b.n);
        typename Lanes::Key largest[kMaxStates] = {};
        for_each_vector(b, t, c, 0, padded(b.n), [&](int64_t i, F p, F delta, const F *s) {
            if constexpr (R::kMoves) Lanes::store(b.param + i, p - delta);
            for (int slot = 0; slot < kMaxStates; ++slot) {
                if (R::kWrites >> slot & 1) {
                    Lanes::store(b.state[slot] + i, s[slot]);
                    largest[slot] = Lanes::larger_key(largest[slot], s[slot]);
                }
            }
        });
        if constexpr (R::kMoves) store_param<Lanes>(t, b.base, b.n, b.param, rounding);
        for (int slot = 0; slot < kMaxStates; ++slot) {
            if (R::kWrites >> slot & 1) {
                std::fill(b.state[slot] + b.n, b.state[slot] + padded(b.n), 0.0f);
                const uint32_t key = whole ? Lanes::largest_of(largest[slot])
                                           : Lanes::largest_key(b.state[slot], padded(b.n));
                store_state<Lanes>(t, slot, R::kSigned, b.base, b.n, b.state[slot],
                                   lanes::as_float(key), rounding);
            }
        }
    }
    return skipped;
}

template <class Lanes, class R>
int64_t step_blocks(const TensorEntry &t, const Coefficients &c, const Rounding &rounding,
                    int64_t first, int64_t last) noexcept {
    int64_t skipped = 0;
    if constexpr (R::kWrites != 0) {
        if (t.format == StateFormat::kDynamic8 && !rounding.stochastic_states) {
            const int64_t whole = std::clamp(t.elems / kBlockElems, first, last);
            skipped = step_whole_blocks<Lanes, R>(t, c, rounding, first, whole);
            first = whole;
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
        const float absmax = lanes::as_float(Lanes::largest_key(source, padded(n)));
        job.absmax[block] = absmax;
        const bool direct = !halves && n % kPad == 0;
        Lanes::encode(map, source, padded(n), reciprocal_absmax(absmax),
                      direct ? job.codes + base : codes);
        if (halves) {
            pack_halves(codes, n, job.codes + base / 2);
        } else if (!direct) {
            std::memcpy(job.codes + base, codes, static_cast<size_t>(n));
        }
    }
}

template <class Lanes>
void dequantize_blocks(const BlockwiseJob &job, int64_t first, int64_t last) noexcept {
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
        Lanes::decode(map, source, padded(n), job.absmax[block], out);
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
