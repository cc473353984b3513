// A few vectors that go side by side through the same long chain of operations, so that none waits
// for its own results: a processor looks ahead some 64 operations, which is only a few vectors if
// each comes after the other. A lane type itself. Included once per instruction set, after its
// vector type F, inside an unnamed namespace of that set's file.

using U = F::Bits;

template <class V>
struct Many {
    using Bits = Many<U>;
    static constexpr int kCount = F::kWidth == 16 ? 4 : 2;  // as many as there are registers for
    static constexpr int kWidth = kCount * F::kWidth;
    V v[kCount];

    Many() = default;
    template <class T>
    TARPON_INLINE explicit Many(T same) {
        repeat<kCount>([&](auto i) TARPON_INLINE { v[i] = V(same); });
    }
    TARPON_INLINE static Many load(const float *p) {
        Many out;
        repeat<kCount>([&](auto i) TARPON_INLINE { out.v[i] = V::load(p + i * F::kWidth); });
        return out;
    }
    TARPON_INLINE void store(float *p) const {
        repeat<kCount>([&](auto i) TARPON_INLINE { v[i].store(p + i * F::kWidth); });
    }
};
using Fs = Many<F>;
using Us = Many<U>;

template <class Function, class First, class... Rest>
TARPON_INLINE inline auto each(Function function, const First &first, const Rest &...rest) {
    Many<decltype(function(first.v[0], rest.v[0]...))> out;
    repeat<First::kCount>([&](auto i)
                              TARPON_INLINE { out.v[i] = function(first.v[i], rest.v[i]...); });
    return out;
}

#define TARPON_EACH_1(name, A, R)                                     \
    TARPON_INLINE inline R name(A a) {                                \
        return each([](auto x) TARPON_INLINE { return name(x); }, a); \
    }
#define TARPON_EACH_2(name, A, B, R)                                                \
    TARPON_INLINE inline R name(A a, B b) {                                         \
        return each([](auto x, auto y) TARPON_INLINE { return name(x, y); }, a, b); \
    }
#define TARPON_EACH_OPERATOR(op, V)                                             \
    TARPON_INLINE inline V operator op(V a, V b) {                              \
        return each([](auto x, auto y) TARPON_INLINE { return x op y; }, a, b); \
    }
TARPON_EACH_OPERATOR(+, Fs)
TARPON_EACH_OPERATOR(-, Fs)
TARPON_EACH_OPERATOR(*, Fs)
TARPON_EACH_OPERATOR(/, Fs)
TARPON_EACH_1(sqrt, Fs, Fs)
TARPON_EACH_1(abs, Fs, Fs)
TARPON_EACH_1(sign, Fs, Fs)
TARPON_EACH_1(round_to_integer, Fs, Fs)
TARPON_EACH_1(exponent, Fs, Fs)
TARPON_EACH_1(mantissa, Fs, Fs)
TARPON_EACH_1(magnitude_up_to_one, Fs, Fs)
TARPON_EACH_2(max, Fs, Fs, Fs)
TARPON_EACH_2(min, Fs, Fs, Fs)
TARPON_EACH_2(scale_by_power_of_two, Fs, Fs, Fs)

TARPON_EACH_OPERATOR(+, Us)
TARPON_EACH_OPERATOR(-, Us)
TARPON_EACH_OPERATOR(&, Us)
TARPON_EACH_1(bits_of, Fs, Us)
TARPON_EACH_1(floats_of, Us, Fs)
TARPON_EACH_2(max, Us, Us, Us)
TARPON_EACH_2(min, Us, Us, Us)
TARPON_EACH_2(shift_left, Us, Us, Us)
#undef TARPON_EACH_1
#undef TARPON_EACH_2
#undef TARPON_EACH_OPERATOR

TARPON_INLINE inline Fs fma(Fs a, Fs b, Fs c) {
    return each([](F x, F y, F z) TARPON_INLINE { return fma(x, y, z); }, a, b, c);
}
TARPON_INLINE inline Fs select_less(Fs x, Fs y, Fs a, Fs b) {
    return each([](F p, F q, F r, F s) TARPON_INLINE { return select_less(p, q, r, s); }, x, y, a,
                b);
}
template <int kBits>
TARPON_INLINE inline Us shift_right(Us a) {
    return each([](U x) TARPON_INLINE { return shift_right<kBits>(x); }, a);
}
TARPON_INLINE inline Fs look_up(const float *table, Us index) {
    return each([&](U x) TARPON_INLINE { return look_up(table, x); }, index);
}
