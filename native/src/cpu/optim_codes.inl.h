// The code maps of kernels-cu/optim/maps.h and codec.h, many values at a time: the same bits as the
// scalar functions, tested against them at every border. Included once per instruction set, after
// its vector type F (optim_vector_*.h), inside an unnamed namespace of that set's file.
//
// Everything works on 64 values: what a code is looked up from stays in registers, and the bytes of
// 64 codes leave together.

#include "cpu/optim_many.inl.h"

constexpr int kCodes = 64;
constexpr int kVectors = kCodes / F::kWidth;

// The nearest code of a dynamic map, where magnitude index 2^d is the first of decade d, which has
// 2^d values, so that the index is nearly a floating-point number itself: with t in [1, 2) linear
// in x within the decade, the index is t * 2^d, and no table but t's slope is needed. (In an
// unsigned map, where decades have twice as many values, this is so for the index plus one.)
//
// Indices have an integer in the upper 8 bits and a fraction in the lower 24. t is raised a little,
// so that where it may have been rounded over an integer the fraction lies just above zero; those
// values, one in four thousand, are encoded once more by themselves.
template <bool kSigned>
class DynamicEncoder {
  public:
    constexpr explicit DynamicEncoder(const optim::CodeMap &map) : map_(map), find_piece_(map) {
        int last = 0;
        for (int piece : map.binade_piece)
            last = std::max(last, piece);
        // Of the piece of zeros: t < 1 becomes 0, and t = 2, which is clamped, index + 1 = 1.
        slope_[0] = kSigned ? 0.0f : 0x1p31f;
        const double bins_of_first = kSigned ? 1 : 2;
        for (int piece = 1; piece < last; ++piece) {
            const double bins = bins_of_first * (1 << (piece - 1));
            slope_[piece] = static_cast<float>(map.piece_scale[piece] / bins);
        }
        // 1.0 lies half an index above the last decade's end.
        slope_[last] = static_cast<float>(1 / 9.0 + 0.5 / (1 << (kSigned ? last - 1 : last)));
    }

    // 64 codes of values * factor.
    TARPON_INLINE void operator()(const float *values, F factor, uint8_t *codes) const {
        CodeBytes<kSigned> bytes;
        U least_fraction(kSureBits);
        repeat<kCodes / Fs::kWidth>([&](auto i) TARPON_INLINE {
            const Fs x = Fs::load(values + i * Fs::kWidth) * Fs(factor);
            const Us index = index_of(x);
            repeat<Fs::kCount>([&](auto k) TARPON_INLINE {
                bytes.set(i * Fs::kCount + k, x.v[k], index.v[k]);
                least_fraction = min(least_fraction, index.v[k] & U(kSureBits));
            });
        });
        bytes.store(map_.zero_code, codes);
        if (__builtin_expect(lanes_without(least_fraction, U(kSureBits)) != 0, 0)) {
            settle(values, factor, codes);
        }
    }

  private:
    static constexpr float kRaise = 0x1p-20f;        // of t; eight times what rounding makes of it
    static constexpr uint32_t kSureBits = 0xfff000;  // of the fraction, which is 2^7 kRaise or less

    TARPON_INLINE Us index_of(Fs x) const {
        Fs magnitude;
        const Us piece = find_piece_(x, &magnitude);
        const Fs t =
            fma(magnitude, look_up(slope_, piece), Fs(static_cast<float>(8 / 9.0) + kRaise));
        // The leading one and the fraction. Values between the end of a decade and the border to
        // the next have a t above 2, but the decade's last index.
        const Us digits = min(bits_of(t) - Us(0x3f000000u), Us(0xffffffu));
        return shift_left(digits, kSigned ? piece : piece + Us(1));
    }

    // Not inlined, so that the loops have no calls in them otherwise.
    [[gnu::noinline]] void settle(const float *values, F factor, uint8_t *codes) const {
        alignas(64) float x[kCodes];
        for (int i = 0; i < kCodes; i += Fs::kWidth) {
            const Fs vectors = Fs::load(values + i) * Fs(factor);
            const Us index = index_of(vectors);
            for (int k = 0; k < Fs::kCount; ++k) {
                const int first = i + k * F::kWidth;
                vectors.v[k].store(x + first);
                uint32_t unsure = lanes_without(index.v[k], U(kSureBits));
                for (; unsure != 0; unsure &= unsure - 1) {
                    const int at = first + __builtin_ctz(unsure);
                    codes[at] = static_cast<uint8_t>(optim::encode(map_, x[at]));
                }
            }
        }
    }

    const optim::CodeMap &map_;
    PieceFinder<kSigned> find_piece_;
    alignas(64) float slope_[optim::kMaxPieces] = {};
};

inline constexpr DynamicEncoder<true> kEncodeSigned(
    optim::detail::kMaps[int(optim::MapKind::kDynamicSigned)]);
inline constexpr DynamicEncoder<true> kEncodeSigned4(
    optim::detail::kMaps[int(optim::MapKind::kDynamic4)]);
inline constexpr DynamicEncoder<false> kEncodeUnsigned(
    optim::detail::kMaps[int(optim::MapKind::kDynamicUnsigned)]);

inline U linear_codes(F x) {
    return rounded(min(max(x * F(127.0f), F(-127.0f)), F(127.0f)));
}

// Of x in [0, 448]: 3 bits of mantissa, to nearest even; below 2^-6 multiples of 2^-9.
inline U e4m3_magnitudes(F x) {
    const U bits = bits_of(x);
    const U odd = shift_right<20>(bits) & U(1);
    const U normal = shift_right<20>(bits + odd + U(0x7ffffu)) - U(120u << 3);
    // 126 is 448; a NaN takes it too.
    return select_less(bits, U(0x3c800000u), rounded(x * F(0x1p9f)), min(normal, U(126)));
}

inline U e4m3_codes(F x) {
    return e4m3_magnitudes(abs(x) * F(448.0f)) | (shift_right<24>(bits_of(x)) & U(0x80));
}

inline U normal_float4_codes(F x) {
    const optim::CodeMap &map = optim::detail::kMaps[int(optim::MapKind::kNormalFloat4)];
    U code(0);
    for (int i = 0; i < 15; ++i)
        code = code + select_less(floats_of(U(map.midpoint[i])), x, U(1), U(0));
    return code;
}

// 64 codes of values * factor.
TARPON_INLINE inline void encode_64(optim::MapKind kind, const float *values, F factor,
                                    uint8_t *codes) {
    auto each = [&](auto encode) {
        for (int i = 0; i < kCodes; i += F::kWidth)
            encode(F::load(values + i) * factor).store_bytes(codes + i);
    };
    switch (kind) {
        case optim::MapKind::kDynamicSigned:
            return kEncodeSigned(values, factor, codes);
        case optim::MapKind::kDynamicUnsigned:
            return kEncodeUnsigned(values, factor, codes);
        case optim::MapKind::kDynamic4:
            return kEncodeSigned4(values, factor, codes);
        case optim::MapKind::kLinear:
            return each(linear_codes);
        case optim::MapKind::kFp8E4M3:
            return each(e4m3_codes);
        case optim::MapKind::kNormalFloat4:
            return each(normal_float4_codes);
    }
}

// ---- FP8 with dynamic-range expansion (codec.h): the same as lanes::signed_power around decode
// and encode, with what is known of a code looked up instead.

// log2 of the 128 magnitudes; that of zero makes every power of it zero.
struct E4m3Logs {
    float value[256] = {};

    E4m3Logs() {
        const optim::CodeMap &map = optim::detail::kMaps[int(optim::MapKind::kFp8E4M3)];
        value[0] = -std::numeric_limits<float>::infinity();
        for (int i = 1; i < 128; ++i)
            value[i] = optim::lanes::log2(map.value[i]);
    }
};

// exp2(log), and zero below the smallest power that signed_power() makes.
TARPON_INLINE inline Fs raised(Fs log) {
    const Fs least(-100.0f);
    return select_less(log, least, Fs(0.0f), optim::lanes::exp2(max(log, least)));
}

TARPON_INLINE inline void decode_fp8_64(const uint8_t *codes, optim::Fp8Group group, F *out) {
    static const Table256 kLogs(E4m3Logs().value);
    // Memory of zeros is a legal initial state.
    look_up_64_of_128(kLogs, codes, F(group.power > 0 ? 1.0f / group.power : 1.0f), out);
    const F absmax(group.absmax);
    repeat<kCodes / Fs::kWidth>([&](auto i) TARPON_INLINE {
        constexpr int kCount = Fs::kCount;
        Fs log;
        std::copy(out + i * kCount, out + (i + 1) * kCount, log.v);
        const Fs power = raised(log);
        repeat<kCount>([&](auto k) TARPON_INLINE {
            const U code = U::load_bytes(codes + (i * kCount + k) * F::kWidth);
            out[i * kCount + k] =
                copy_sign(power.v[k], floats_of(shift_left(code, U(24)))) * absmax;
        });
    });
}

// Calls put(i, x, power) for each vector i of 64 values, of which x is the multiple to encode and
// power its magnitude after expansion.
template <class Put>
TARPON_INLINE inline void expand_fp8(const float *values, optim::Fp8Group group, Put put) {
    const Fs inverse(optim::reciprocal_absmax(group.absmax)), tiny(0x1p-100f), power(group.power);
    repeat<kCodes / Fs::kWidth>([&](auto i) TARPON_INLINE {
        const Fs x = Fs::load(values + i * Fs::kWidth) * inverse;
        const Fs magnitude = abs(x);
        const Fs log = power * optim::lanes::log2(max(magnitude, tiny));
        const Fs expanded = select_less(magnitude, tiny, Fs(0.0f), raised(log));
        repeat<Fs::kCount>([&](auto k)
                               TARPON_INLINE { put(i * Fs::kCount + k, x.v[k], expanded.v[k]); });
    });
}

inline void expand_fp8_64(const float *values, optim::Fp8Group group, float *out) {
    expand_fp8(values, group,
               [&](int i, F x, F power) { copy_sign(power, x).store(out + i * F::kWidth); });
}

TARPON_INLINE inline void encode_fp8_64(const float *values, optim::Fp8Group group,
                                        uint8_t *codes) {
    expand_fp8(values, group, [&](int i, F x, F power) {
        const U sign = shift_right<24>(bits_of(x)) & U(0x80);
        (e4m3_magnitudes(power * F(448.0f)) | sign).store_bytes(codes + i * F::kWidth);
    });
}

// ---- Stochastic rounding (codec.h)

// random_bits() of elements index, index + 1, ...; the upper half of an index is the same for all
// lanes, because vectors begin at multiples of their width.
inline U random_words(optim::RandomKey key, int64_t index) {
    const uint32_t upper = key.high + uint32_t(index >> 32) * 0x9e3779b9u;
    U x = (U(uint32_t(index)) + U::lane_numbers()) ^ U(key.low);
    x = (x ^ shift_right<16>(x)) * U(0x21f0aaadu);
    x = (x ^ shift_right<15>(x)) + U(upper);
    x = x * U(0x735a2d97u);
    x = (x ^ shift_right<15>(x)) * U(0x21f0aaadu);
    return x ^ shift_right<16>(x);
}

// bf16_stochastic() of 64 values, as floats that are bfloat16 numbers.
inline void round_to_bf16_64(const float *values, optim::RandomKey key, int64_t index, float *out) {
    for (int i = 0; i < kCodes; i += F::kWidth) {
        const U bits = bits_of(F::load(values + i));
        const U drawn = (bits + (random_words(key, index + i) & U(0xffffu))) & U(0xffff0000u);
        const U exponent = bits & U(0x7f800000u);
        floats_of(select_less(exponent, U(0x7f800000u), drawn, bits)).store(out + i);
    }
}

// encode_stochastic() of values * factor, for the dynamic maps of 256 codes and e4m3.
inline void encode_stochastic_64(optim::MapKind kind, const float *values, F factor,
                                 optim::RandomKey key, int64_t index, uint8_t *codes) {
    const bool by_magnitude = kind == optim::MapKind::kFp8E4M3;
    const U last(by_magnitude ? 126u : 255u), sign_bit(by_magnitude ? 0x80u : 0u);
    alignas(64) float target[kCodes];
    alignas(64) uint8_t nearest[kCodes], other[kCodes];
    F value[kVectors], other_value[kVectors];
    for (int i = 0; i < kCodes; i += F::kWidth) {
        const F x = F::load(values + i) * factor;
        (by_magnitude ? abs(x) : x).store(target + i);
    }
    encode_64(kind, target, F(1.0f), nearest);
    decode_64(kind, nearest, F(1.0f), value);
    for (int i = 0; i < kVectors; ++i) {
        const F x = F::load(target + i * F::kWidth);
        const U code = U::load_bytes(nearest + i * F::kWidth);
        const U above = min(code + U(1), last), below = max(code, U(1)) - U(1);
        select_less(value[i], x, above, below).store_bytes(other + i * F::kWidth);
    }
    decode_64(kind, other, F(1.0f), other_value);
    for (int i = 0; i < kVectors; ++i) {
        const int at = i * F::kWidth;
        const F x = F::load(target + at);
        // 0 / 0 beyond the ends of the map, which no draw is below.
        const F share = (x - value[i]) / (other_value[i] - value[i]);
        const F draw = to_floats(shift_right<8>(random_words(key, index + at))) * F(0x1p-24f);
        const U code =
            select_less(draw, share, U::load_bytes(other + at), U::load_bytes(nearest + at));
        const U sign = shift_right<24>(bits_of(F::load(values + at) * factor)) & sign_bit;
        (code | sign).store_bytes(codes + at);
    }
}
