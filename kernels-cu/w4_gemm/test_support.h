// What the tests of the W4 GEMM kernels share: layers of any format with their data, run on the
// device of launch.h, and the comparisons with binary64.
#pragma once

#include <cstdlib>
#include <cstring>
#include <numeric>
#include <vector>

#include "testing/compare.h"
#include "testing/device_buffer.h"
#include "testing/random.h"
#include "w4_gemm/launch.h"
#include "w4_gemm/quantize.h"
#include "w4_gemm/ref.h"

#ifndef __CUDACC__
#include "sim/control.h"
#endif

namespace tarpon::w4_gemm {

using namespace tarpon::testing;

struct Shape {
    int64_t m, n, k;
    int64_t group_size;  // k: one group
    int64_t groups() const { return ceil_div(k, group_size); }
};

struct Format {
    CodeType code = CodeType::kInt4;
    ZeroType zero = ZeroType::kSymmetric;
    ScaleType scale = ScaleType::kF16;
    bool sparse = false;
};

inline std::string name(const Shape &s) {
    return format("m %lld n %lld k %lld group %lld", (long long)s.m, (long long)s.n, (long long)s.k,
                  (long long)s.group_size);
}

inline std::string name(const Format &f) {
    constexpr const char *kCodes[] = {"int4", "int8", "e4m3"};
    constexpr const char *kZeros[] = {"symmetric", "integer", "float"};
    constexpr const char *kScales[] = {"f16", "bf16", "f32"};
    return format("%s %s %s%s", kCodes[int(f.code)], kZeros[int(f.zero)], kScales[int(f.scale)],
                  f.sparse ? " 2:4" : "");
}

inline std::string format_name(FormatId id) {
    return traits(id).name;
}

// Scales or minimums of a type, as bytes.
class Scalars {
  public:
    Scalars(ScaleType type, int64_t count)
        : type_(type), bytes_(size_t(count * (type == ScaleType::kF32 ? 4 : 2))) {}
    void set(int64_t i, float value) {
        if (type_ == ScaleType::kF32) {
            std::memcpy(&bytes_[size_t(4 * i)], &value, 4);
        } else {
            const uint16_t bits = type_ == ScaleType::kF16 ? from_float<half_t>(value).bits
                                                           : from_float<bf16_t>(value).bits;
            std::memcpy(&bytes_[size_t(2 * i)], &bits, 2);
        }
    }
    const void *data() const { return bytes_.data(); }

  private:
    ScaleType type_;
    std::vector<uint8_t> bytes_;
};

// A problem's data on the host. Empty vectors: none.
template <class T>
struct Data {
    Shape shape;
    Format format;
    std::vector<T> x;
    std::vector<uint8_t> codes;
    Scalars scales, minimums;
    std::vector<uint8_t> zeros;
    std::vector<T> bias, residual;
    std::vector<int32_t> permutation;

    Data(const Shape &s, const Format &f)
        : shape(s),
          format(f),
          x(size_t(s.m * s.k)),
          codes(size_t(s.n * s.k)),
          scales(f.scale, s.n * s.groups()),
          minimums(f.scale, s.n * s.groups()),
          zeros(size_t(s.n * s.groups())) {}

    PlainWeights weights() const {
        const void *zero_points = format.zero == ZeroType::kInteger ? zeros.data()
                                  : format.zero == ZeroType::kFloat ? minimums.data()
                                                                    : nullptr;
        return {shape.n,       shape.k,     shape.groups(), shape.group_size,
                format.code,   format.zero, format.scale,   codes.data(),
                scales.data(), zero_points, format.sparse};
    }
    Reference reference() const {
        const auto or_null = [](const auto &v) { return v.empty() ? nullptr : v.data(); };
        return w4_gemm::reference(x.data(), weights(), shape.m, or_null(permutation), or_null(bias),
                                  or_null(residual));
    }
    std::string describe() const { return name(format) + ", " + name(shape); }

    void add_bias_and_residual(uint64_t seed) {
        Random random(seed);
        bias.resize(size_t(shape.n));
        residual.resize(size_t(shape.m * shape.n));
        for (T &v : bias)
            v = from_float<T>(float(random.integer(-9, 9)));
        for (T &v : residual)
            v = from_float<T>(float(random.integer(-9, 9)));
    }
    void permute(uint64_t seed) {
        Random random(seed);
        permutation.resize(size_t(shape.k));
        std::iota(permutation.begin(), permutation.end(), 0);
        for (int64_t i = shape.k - 1; i > 0; --i)
            std::swap(permutation[size_t(i)], permutation[size_t(random.integer(0, i))]);
    }
};

inline int largest_code(CodeType type) {
    return type == CodeType::kInt4 ? 15 : 255;
}

// Any code but e4m3's NaN.
inline uint8_t random_code(Random &random, CodeType type) {
    const auto code = uint8_t(random.integer(0, largest_code(type)));
    return type == CodeType::kFp8E4m3 && (code & 0x7f) == 0x7f ? uint8_t(code ^ 1) : code;
}

// Makes two of every four codes of a column zero, if the format is sparse.
template <class T>
void prune(Data<T> &data, Random &random) {
    if (!data.format.sparse) return;
    const auto [n, k] = std::pair{data.shape.n, data.shape.k};
    for (int64_t row = 0; row < k; row += 4) {
        for (int64_t column = 0; column < n; ++column) {
            const int64_t first = random.integer(0, 3), second = (first + random.integer(1, 3)) % 4;
            for (const int64_t i : {row + first, row + second}) {
                if (i < k) data.codes[size_t(i * n + column)] = kZeroCode;
            }
        }
    }
}

// Uniform codes, scales of about 0.05 / largest code (so that sums are of the order of one), zero
// points near the middle, minimums that take the middle to about zero; normal activations.
template <class T>
Data<T> random_layer(const Shape &s, const Format &f, uint64_t seed) {
    Random random(seed);
    Data<T> out(s, f);
    for (T &x : out.x)
        x = from_float<T>(float(random.normal()));
    for (uint8_t &code : out.codes)
        code = random_code(random, f.code);
    const double top = f.code == CodeType::kFp8E4m3 ? 448 : largest_code(f.code);
    for (int64_t i = 0; i < s.n * s.groups(); ++i) {
        const auto scale = float(0.1 / top * random.uniform(0.5, 1.5));
        out.scales.set(i, scale);
        out.minimums.set(i, float(-scale * top * random.uniform(0.4, 0.6)));
        out.zeros[size_t(i)] = uint8_t(top * random.uniform(0.4, 0.6));
    }
    prune(out, random);
    return out;
}
template <class T>
Data<T> random_layer(const Shape &s, uint64_t seed) {
    return random_layer<T>(s, Format{}, seed);
}

// Integers, scales that are powers of two and minimums that are multiples of scales: every sum is
// exact in binary32, in any order. e4m3 codes are those of multiples of 2^-3 up to 15.
template <class T>
Data<T> exact_layer(const Shape &s, const Format &f, uint64_t seed) {
    Random random(seed);
    Data<T> out(s, f);
    for (T &x : out.x)
        x = from_float<T>(float(random.integer(-8, 8)));
    for (uint8_t &code : out.codes) {
        do {
            code = random_code(random, f.code);
        } while (f.code == CodeType::kFp8E4m3 &&
                 (std::fabs(e4m3_value(code)) > 15 || std::fmod(e4m3_value(code), 0.125) != 0));
    }
    for (int64_t i = 0; i < s.n * s.groups(); ++i) {
        const float scale = std::ldexp(1.0f, int(random.integer(-4, 1)));
        out.scales.set(i, scale);
        out.minimums.set(i, scale * float(random.integer(-20, 20)));
        out.zeros[size_t(i)] = uint8_t(random.integer(0, largest_code(f.code)));
    }
    prune(out, random);
    return out;
}
template <class T>
Data<T> exact_layer(const Shape &s, uint64_t seed) {
    return exact_layer<T>(s, Format{}, seed);
}

template <class T>
constexpr Activation kActivation = std::is_same_v<T, half_t> ? Activation::kF16 : Activation::kBF16;

// The problem on the device. Output and workspace are poison, or what earlier runs left.
template <class T>
class Layer {
  public:
    // offset: elements by which x, y and residual are moved from 16-byte alignment.
    explicit Layer(const Data<T> &data, int64_t offset = 0)
        : Layer(data, offset, prepare_weights(data.weights())) {}

    FormatId format() const { return format_; }
    Problem problem(bool deterministic = false) const {
        return {shape_.m, shape_.n, shape_.k, shape_.groups(), format_, deterministic};
    }
    static DeviceProps device() {
        int sm_count = 0, major = 0;
        check_cuda(cudaDeviceGetAttribute(&sm_count, cudaDevAttrMultiProcessorCount, 0), "attr");
        check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "attr");
        return {sm_count, 10 * major};
    }
    Choice choose(bool deterministic = false) const {
        return select(problem(deterministic), device());
    }
    size_t workspace_words(const Choice &choice) const {
        const TileShape &tile = tile_shape(problem(), choice.tile);
        return size_t(launch_workspace_bytes(tile, choice.grid)) / 4;
    }

    void enqueue(const Choice &choice, const DeviceBuffer<uint32_t> &workspace,
                 cudaStream_t stream = nullptr) {
        const auto or_null = [](const auto &buffer) {
            return buffer.size() == 0 ? nullptr : buffer.data();
        };
        const Weights weights{shape_.n,         shape_.k,
                              shape_.groups(),  shape_.group_size,
                              format_,          qweight_.data(),
                              scales_.data(),   zeros_.data(),
                              metadata_.data(), column_scale_.data(),
                              or_null(bias_),   or_null(permutation_)};
        const Operands operands{x_.data() + offset_, has_residual_ ? residual() : nullptr,
                                y_.data() + offset_, shape_.m, workspace.data()};
        check_cuda(w4_gemm::run(weights, kActivation<T>, choice, operands, stream), "run");
    }
    // Runs and returns y; y and workspace are fresh poison before (or y is the residual).
    std::vector<T> run(const Choice &choice) {
        DeviceBuffer<uint32_t> workspace(workspace_words(choice));
        poison_y();
        if (in_place_) copy(y_, residual_.to_host());
        enqueue(choice, workspace);
        std::vector<T> y = result();
        CHECK(workspace.guards_intact(), "%s: workspace", name(shape_).c_str());
        return y;
    }
    std::vector<T> run() { return run(choose()); }

    // The residual is y itself from now on.
    void add_in_place() { in_place_ = true; }
    void set_x(const std::vector<T> &x) { copy(x_, shifted(x, offset_)); }
    void poison_y() {
        check_cuda(cudaMemset(y_.data(), kPoison, y_.size() * sizeof(T)), "cudaMemset");
    }
    std::vector<T> result() const {
        std::vector<T> y = y_.to_host();
        CHECK(y_.guards_intact(), "%s: y", name(shape_).c_str());
        for (int64_t i = 0; i < offset_; ++i)
            CHECK_EQ(y[i].bits, 0xffff, "before y");
        y.erase(y.begin(), y.begin() + offset_);
        return y;
    }

  private:
    Layer(const Data<T> &data, int64_t offset, const PreparedWeights &prepared)
        : shape_(data.shape),
          format_(prepared.format),
          offset_(offset),
          has_residual_(!data.residual.empty()),
          x_(shifted(data.x, offset)),
          residual_(shifted(data.residual, offset)),
          y_(size_t(shape_.m * shape_.n + offset)),
          qweight_(prepared.qweight),
          scales_(prepared.scales),
          zeros_(prepared.zeros),
          metadata_(prepared.metadata),
          column_scale_(prepared.column_scale),
          bias_(padded(data.bias)),
          permutation_(data.permutation) {
        check_cuda(prepare(kActivation<T>, format_, is_grouped(format_, shape_.groups())),
                   "prepare");
    }
    const T *residual() const { return (in_place_ ? y_ : residual_).data() + offset_; }
    static std::vector<T> shifted(std::vector<T> x, int64_t offset) {
        x.insert(x.begin(), size_t(offset), T{0xffff});
        return x;
    }
    static std::vector<float> padded(const std::vector<T> &bias) {
        std::vector<float> out(bias.size());
        for (size_t i = 0; i < bias.size(); ++i)
            out[i] = to_float(bias[i]);
        out.resize((bias.size() + 63) / 64 * 64);
        return out;
    }
    static void copy(const DeviceBuffer<T> &to, const std::vector<T> &from) {
        check_cuda(
            cudaMemcpy(to.data(), from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice),
            "cudaMemcpy");
    }

    Shape shape_;
    FormatId format_;
    int64_t offset_;
    bool has_residual_, in_place_ = false;
    DeviceBuffer<T> x_, residual_, y_;
    DeviceBuffer<uint32_t> qweight_;
    DeviceBuffer<uint8_t> scales_, zeros_;
    DeviceBuffer<uint32_t> metadata_;
    DeviceBuffer<float> column_scale_, bias_;
    DeviceBuffer<int32_t> permutation_;
};

// Against binary64. Scales meet fp32 sums, so all that rounds is y itself (half a unit in the last
// place: on average 2^-13 and 2^-10 of |y| or so) and fp32 sums; the bars leave a factor of two.
template <class T>
void check_accuracy(const Data<T> &data, const std::vector<T> &y) {
    const Reference ref = data.reference();
    const Difference d = compare(std::span<const T>(y), std::span<const double>(ref.y));
    const double bar = std::is_same_v<T, half_t> ? 5e-4 : 2e-3;
    const int64_t n = data.shape.n;
    const bool has_mean = y.size() >= 64;  // few elements may all be near the middle of two
    CHECK(!has_mean || d.mean_relative <= bar, "%s: %s", data.describe().c_str(),
          d.describe(size_t(n)).c_str());
    const double half_ulp = std::is_same_v<T, half_t> ? 0x1p-11 : 0x1p-8;
    for (size_t i = 0; i < y.size(); ++i) {
        const double bound = half_ulp * std::fabs(ref.y[i]) + 0x1p-20 * ref.magnitude[i] + 0x1p-25;
        if (!CHECK_NEAR(to_float(y[i]), ref.y[i], bound, "%s: (%zu, %zu)", data.describe().c_str(),
                        i / n, i % n)) {
            break;
        }
    }
}

template <class T>
void check_exact(const Data<T> &data, const std::vector<T> &y, const char *what) {
    const Reference ref = data.reference();
    const int64_t n = data.shape.n;
    for (size_t i = 0; i < y.size(); ++i) {
        const T expected = from_float<T>(float(ref.y[i]));
        // Zeros may have either sign.
        if (to_float(y[i]) == 0 && ref.y[i] == 0) continue;
        if (!CHECK_EQ(y[i].bits, expected.bits, "%s, %s: (%zu, %zu)", what, data.describe().c_str(),
                      i / n, i % n)) {
            break;
        }
    }
}

template <class T>
void check_same(const std::vector<T> &actual, const std::vector<T> &expected, int64_t n,
                const char *what) {
    for (size_t i = 0; i < expected.size(); ++i) {
        if (!CHECK_EQ(actual[i].bits, expected[i].bits, "%s: (%zu, %zu)", what, i / n, i % n))
            break;
    }
}

// Tiles of the table that a problem has kernels for.
inline std::vector<int> tiles_of(const Problem &problem) {
    std::vector<int> out;
    for (int i = 0; i < kTileCount; ++i) {
        if (tile_shape(problem, i).block_m > 0) out.push_back(i);
    }
    return out;
}

// Long sweeps run where TARPON_LONG_TESTS is set, as Maven's profile long-tests does.
inline void require_long_tests() {
    if (!std::getenv("TARPON_LONG_TESTS"))
        SKIP("a long sweep: ./mvnw verify -Plong-tests runs it, and TARPON_LONG_TESTS=1");
}

}  // namespace tarpon::w4_gemm
