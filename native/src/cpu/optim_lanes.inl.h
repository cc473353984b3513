// What optim_block.inl.h wants of an instruction set, from its vector type F (optim_vector_*.h) and
// the codes (optim_codes.inl.h). Included after them, inside the same unnamed namespace.

// The largest and the smallest |x|, as bits: a NaN is above all, a zero does not count as smallest.
class LargestMagnitude {
  public:
    void add(F x) { keys_ = max(keys_, bits_of(abs(x))); }
    TARPON_INLINE void add(Fs x) {
        repeat<Fs::kCount>([&](auto i) TARPON_INLINE { add(x.v[i]); });
    }
    void add(const LargestMagnitude &other) { keys_ = max(keys_, other.keys_); }
    uint32_t bits() const { return largest_of(keys_); }
    // Whether all magnitudes times multiplier are below limit.
    bool all_below(float multiplier, float limit) const {
        return lanes_less(floats_of(keys_) * F(multiplier), F(limit)) == (1u << F::kWidth) - 1;
    }

  private:
    U keys_ = U(0);
};

class SmallestMagnitude {
  public:
    void add(F x) { keys_ = min(keys_, bits_of(abs(x)) - U(1)); }  // zero wraps around
    TARPON_INLINE void add(Fs x) {
        repeat<Fs::kCount>([&](auto i) TARPON_INLINE { add(x.v[i]); });
    }
    void add(const SmallestMagnitude &other) { keys_ = min(keys_, other.keys_); }
    uint32_t bits() const { return smallest_of(keys_) + 1; }

  private:
    U keys_ = U(~0u);
};

struct VectorLanes {
    using F = cpu::F;
    using Wide = Fs;
    static constexpr int kWidth = F::kWidth;
    using Largest = LargestMagnitude;
    using Smallest = SmallestMagnitude;
    using Sum = SquareSum;

    static F load(const float *p) { return F::load(p); }
    static void store(float *p, F x) { x.store(p); }
    static Wide load_wide(const float *p) { return Wide::load(p); }
    static void store(float *p, Wide x) { x.store(p); }
    TARPON_INLINE static Wide joined(const F *vectors) {
        Wide out;
        repeat<Wide::kCount>([&](auto i) TARPON_INLINE { out.v[i] = vectors[i]; });
        return out;
    }

    template <class T>
    static void widen(const T *source, int64_t n, float *out) {
        int64_t i = 0;
        for (; i + kWidth <= n; i += kWidth)
            F::load(source + i).store(out + i);
        for (; i < n; ++i)
            out[i] = to_float(source[i]);
    }
    template <class T>
    static void narrow(const float *source, int64_t n, T *out) {
        int64_t i = 0;
        for (; i + kWidth <= n; i += kWidth)
            F::load(source + i).store(out + i);
        for (; i < n; ++i)
            out[i] = from_float<T>(source[i]);
    }

    TARPON_INLINE static void decode_64(optim::MapKind kind, const uint8_t *codes, float factor,
                                        F *out) {
        cpu::decode_64(kind, codes, F(factor), out);
    }
    TARPON_INLINE static void encode_64(optim::MapKind kind, const float *values, float factor,
                                        uint8_t *codes) {
        cpu::encode_64(kind, values, F(factor), codes);
    }
    TARPON_INLINE static void decode_fp8_64(const uint8_t *codes, optim::Fp8Group group, F *out) {
        cpu::decode_fp8_64(codes, group, out);
    }
    TARPON_INLINE static void encode_fp8_64(const float *values, optim::Fp8Group group,
                                            uint8_t *codes) {
        cpu::encode_fp8_64(values, group, codes);
    }
    static void expand_fp8_64(const float *values, optim::Fp8Group group, float *out) {
        cpu::expand_fp8_64(values, group, out);
    }
    static void encode_stochastic_64(optim::MapKind kind, const float *values, float factor,
                                     optim::RandomKey key, int64_t index, uint8_t *codes) {
        cpu::encode_stochastic_64(kind, values, F(factor), key, index, codes);
    }
    static void round_to_bf16_64(const float *values, optim::RandomKey key, int64_t index,
                                 float *out) {
        cpu::round_to_bf16_64(values, key, index, out);
    }
};
