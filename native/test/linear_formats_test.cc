// Every weight format of the linear layer through the C ABI, on every device that is present:
// accuracy against a binary64 product, exactness on integers; bias and residual, act-order, fused
// parts and the deterministic mode. What a device reports as unsupported is skipped by name.
//   linear_formats_test [--filter cpu|sim|cuda|int4_integer|...]
#include "device_array.h"
#include "format_layer.h"
#include "testing/test.h"

namespace tarpon::test {
namespace {

using ll = long long;

Owned<tarpon_device> device_or_skip(tarpon_device_kind kind) {
    std::string reason;
    Owned<tarpon_device> device = open_device(kind, &reason);
    if (!device) SKIP("%s", reason.c_str());
    return device;
}

std::vector<tarpon_dtype> dtypes_of(tarpon_device_kind kind) {
    if (kind == TARPON_DEVICE_CPU) return {TARPON_F32, TARPON_F16, TARPON_BF16};
    return {TARPON_F16, TARPON_BF16};
}

// What the device does not serve: the cases, for one skip at the end of a test.
class Unserved {
  public:
    void note(const std::string &name) { names_.push_back(name); }
    void skip_if_any(int served) const {
        if (names_.empty()) return;
        std::string list;
        for (const std::string &name : names_)
            list += (list.empty() ? "" : "; ") + name;
        SKIP("%d cases passed, %zu are not served: %s", served, names_.size(), list.c_str());
    }

  private:
    std::vector<std::string> names_;
};

// A plan; null if the device does not serve it, which it must say with TARPON_ERROR_UNSUPPORTED.
Owned<tarpon_linear> create(tarpon_device *device, const tarpon_linear_desc &desc,
                            const std::vector<tarpon_linear_weights> &parts,
                            const std::string &name) {
    tarpon_linear *linear = nullptr;
    const tarpon_status status = tarpon_linear_create_fused(
        device, &desc, parts.data(), static_cast<int32_t>(parts.size()), &linear);
    REQUIRE(status == TARPON_OK || status == TARPON_ERROR_UNSUPPORTED, "%s: %s", name.c_str(),
            tarpon_last_error());
    return Owned<tarpon_linear>(linear);
}

DeviceArray upload(tarpon_device *device, const std::vector<char> &bytes) {
    DeviceArray array(device, bytes.size());
    array.copy_in(bytes.data(), bytes.size());
    return array;
}

void check_against(const Product &want, const std::vector<char> &y, tarpon_dtype dtype, int64_t n,
                   Values values, const std::string &where) {
    double error = 0, size = 0;
    for (size_t i = 0; i < want.y.size(); ++i) {
        const double got = load(y.data(), dtype, static_cast<int64_t>(i));
        const ll row = static_cast<ll>(i) / n, column = static_cast<ll>(i) % n;
        if (values == Values::kExactInteger) {
            // One rounding, of the stored result; a partial sum is exact.
            char expected[4];
            store(expected, dtype, 0, static_cast<float>(want.y[i]));
            if (!CHECK_EQ(got, load(expected, dtype, 0), "%s y[%lld, %lld]", where.c_str(), row,
                          column))
                return;
            continue;
        }
        error += std::fabs(got - want.y[i]);
        size += std::fabs(want.y[i]);
        // Binary32 accumulation stays far below 1e-6 of the sum of magnitudes at these K; one
        // stored rounding comes on top.
        const double bound = rounding(dtype) * std::fabs(want.y[i]) + 1e-6 * want.magnitude[i] +
                             (dtype == TARPON_F16 ? 0x1p-25 : 0);
        if (!(std::fabs(got - want.y[i]) <= bound)) {
            CHECK_NEAR(got, want.y[i], bound, "%s y[%lld, %lld]", where.c_str(), row, column);
            return;
        }
    }
    if (values == Values::kRandom) {
        CHECK(error <= mean_bar(dtype) * size, "%s: mean relative error %.3g", where.c_str(),
              error / size);
    }
}

struct Shape {
    int64_t m, n, k;
};

std::string describe(const Format &format, tarpon_dtype dtype) {
    return format.name() + " " + dtype_name(dtype);
}

// ---- Every format x zero x scale x group x dtype

// Sizes that are no multiple of a tile, of 64 columns, 16 inputs or any group.
constexpr Shape kShapes[] = {
    {1, 72, 392}, {3, 136, 200}, {16, 33, 136}, {17, 64, 300}, {5, 200, 72}};

void check_format(tarpon_device_kind kind, Format format) {
    const Owned<tarpon_device> device = device_or_skip(kind);
    Unserved unserved;
    int served = 0;
    uint64_t seed = 1;
    for (tarpon_scale_type scale : {TARPON_SCALE_F16, TARPON_SCALE_BF16, TARPON_SCALE_F32}) {
        for (int32_t group : {-1, 32, 64, 128}) {
            for (tarpon_dtype dtype : dtypes_of(kind)) {
                format.scale_type = scale;
                format.group_size = group;
                const Shape shape = kShapes[seed++ % std::size(kShapes)];
                const std::string name = describe(format, dtype);
                for (Values values : {Values::kRandom, Values::kExactInteger}) {
                    const FormatLayer layer =
                        make_format_layer(format, shape.n, shape.k, values, seed);
                    const auto linear =
                        create(device.get(), layer.desc(dtype), {layer.weights()}, name);
                    if (!linear) {
                        unserved.note(name);
                        break;
                    }
                    const auto x = make_activations(shape.m, shape.k, dtype, values, seed + 1);
                    const auto y = run_linear(device.get(), linear.get(), upload(device.get(), x),
                                              shape.m, shape.n, dtype);
                    check_against(multiply(layer, x, dtype, shape.m), y, dtype, shape.n, values,
                                  name + testing::format(" m %lld n %lld k %lld", ll{shape.m},
                                                         ll{shape.n}, ll{shape.k}));
                    served += values == Values::kExactInteger;
                }
            }
        }
    }
    unserved.skip_if_any(served);
}

constexpr Format kInt4Symmetric{TARPON_WEIGHT_INT4, TARPON_ZERO_SYMMETRIC};
constexpr Format kInt4Integer{TARPON_WEIGHT_INT4, TARPON_ZERO_INTEGER};
constexpr Format kInt4Float{TARPON_WEIGHT_INT4, TARPON_ZERO_FLOAT};
constexpr Format kInt8Symmetric{TARPON_WEIGHT_INT8, TARPON_ZERO_SYMMETRIC};
constexpr Format kInt8Integer{TARPON_WEIGHT_INT8, TARPON_ZERO_INTEGER};
constexpr Format kInt8Float{TARPON_WEIGHT_INT8, TARPON_ZERO_FLOAT};
constexpr Format kE4m3{TARPON_WEIGHT_FP8_E4M3, TARPON_ZERO_SYMMETRIC};
constexpr Format kSparse{TARPON_WEIGHT_INT4, TARPON_ZERO_SYMMETRIC, TARPON_SCALE_F16, 128,
                         TARPON_SPARSITY_2_4};

void check_int4_symmetric(tarpon_device_kind kind) {
    check_format(kind, kInt4Symmetric);
}
void check_int4_integer(tarpon_device_kind kind) {
    check_format(kind, kInt4Integer);
}
void check_int4_float(tarpon_device_kind kind) {
    check_format(kind, kInt4Float);
}
void check_int8_symmetric(tarpon_device_kind kind) {
    check_format(kind, kInt8Symmetric);
}
void check_int8_integer(tarpon_device_kind kind) {
    check_format(kind, kInt8Integer);
}
void check_int8_float(tarpon_device_kind kind) {
    check_format(kind, kInt8Float);
}
void check_e4m3(tarpon_device_kind kind) {
    check_format(kind, kE4m3);
}
void check_sparse(tarpon_device_kind kind) {
    check_format(kind, kSparse);
}

// ---- Bias, residual, act-order, fused parts, modes

constexpr Format kSample[] = {kInt4Symmetric, kInt4Integer, kInt4Float,
                              kInt8Symmetric, kE4m3,        kSparse};

std::vector<char> make_vector(int64_t count, tarpon_dtype dtype, Values values, uint64_t seed) {
    std::vector<char> out(count * dtype_bytes(dtype));
    testing::Random random(seed);
    for (int64_t i = 0; i < count; ++i) {
        store(out.data(), dtype, i,
              static_cast<float>(values == Values::kExactInteger
                                     ? static_cast<double>(random.integer(-16, 16))
                                     : random.normal()));
    }
    return out;
}

// y = x * W + bias + residual, the residual apart from y and in its place.
void check_bias_and_residual(tarpon_device_kind kind) {
    const Owned<tarpon_device> device = device_or_skip(kind);
    Unserved unserved;
    int served = 0;
    const Shape shape{5, 136, 264};
    for (const Format &format : kSample) {
        for (tarpon_dtype dtype : dtypes_of(kind)) {
            for (Values values : {Values::kRandom, Values::kExactInteger}) {
                FormatLayer layer = make_format_layer(format, shape.n, shape.k, values, 21);
                layer.bias = make_vector(shape.n, dtype, values, 22);
                const std::string name = describe(format, dtype) + " with bias";
                const auto linear =
                    create(device.get(), layer.desc(dtype), {layer.weights()}, name);
                if (!linear) {
                    unserved.note(name);
                    break;
                }
                const auto x = make_activations(shape.m, shape.k, dtype, values, 23);
                const auto residual = make_vector(shape.m * shape.n, dtype, values, 24);
                const DeviceArray device_x = upload(device.get(), x);
                Product want = multiply(layer, x, dtype, shape.m);
                check_against(
                    want, run_linear(device.get(), linear.get(), device_x, shape.m, shape.n, dtype),
                    dtype, shape.n, values, name);
                for (int64_t i = 0; i < shape.m * shape.n; ++i) {
                    const double added = load(residual.data(), dtype, i);
                    want.y[i] += added;
                    want.magnitude[i] += std::fabs(added);
                }
                const auto apart = run_linear(device.get(), linear.get(), device_x, shape.m,
                                              shape.n, dtype, &residual);
                check_against(want, apart, dtype, shape.n, values, name + ", residual");
                CHECK(apart == run_linear(device.get(), linear.get(), device_x, shape.m, shape.n,
                                          dtype, &residual, true),
                      "%s: y as the residual gives other bits", name.c_str());
                served += values == Values::kExactInteger;
            }
        }
    }
    unserved.skip_if_any(served);
}

// Groups of 64, and of 40 at the end, shuffled.
std::vector<int32_t> shuffled_groups(int64_t k, int32_t group_size, uint64_t seed) {
    std::vector<int32_t> g_idx(k);
    for (int64_t r = 0; r < k; ++r)
        g_idx[r] = static_cast<int32_t>(r / group_size);
    testing::Random random(seed);
    for (int64_t r = k - 1; r > 0; --r)
        std::swap(g_idx[r], g_idx[random.integer(0, r)]);
    return g_idx;
}

// Act-order gives the bits of a plan whose weights and activations were sorted by group beforehand.
void check_act_order(tarpon_device_kind kind) {
    const Owned<tarpon_device> device = device_or_skip(kind);
    Unserved unserved;
    int served = 0;
    const Shape shape{9, 72, 296};
    for (Format format : {kInt4Symmetric, kInt4Integer, kInt4Float, kInt8Integer, kE4m3}) {
        format.group_size = 64;
        for (tarpon_dtype dtype : dtypes_of(kind)) {
            const std::string name = describe(format, dtype) + " act-order";
            FormatLayer sorted = make_format_layer(format, shape.n, shape.k, Values::kRandom, 31);
            const auto x_sorted = make_activations(shape.m, shape.k, dtype, Values::kRandom, 32);
            FormatLayer layer = sorted;
            layer.g_idx = shuffled_groups(shape.k, format.group_size, 33);
            auto x = x_sorted;
            std::vector<int64_t> filled(layer.groups);
            for (int64_t r = 0; r < shape.k; ++r) {
                const int64_t group = layer.g_idx[r];
                const int64_t from = group * format.group_size + filled[group]++;
                std::copy_n(&sorted.codes[from * shape.n], shape.n, &layer.codes[r * shape.n]);
                for (int64_t row = 0; row < shape.m; ++row)
                    store(x.data(), dtype, row * shape.k + r,
                          load(x_sorted.data(), dtype, row * shape.k + from));
            }
            const auto linear = create(device.get(), layer.desc(dtype), {layer.weights()}, name);
            const auto plain = create(device.get(), sorted.desc(dtype), {sorted.weights()}, name);
            if (!linear || !plain) {
                unserved.note(name);
                continue;
            }
            const auto y = run_linear(device.get(), linear.get(), upload(device.get(), x), shape.m,
                                      shape.n, dtype);
            check_against(multiply(layer, x, dtype, shape.m), y, dtype, shape.n, Values::kRandom,
                          name);
            CHECK(y == run_linear(device.get(), plain.get(), upload(device.get(), x_sorted),
                                  shape.m, shape.n, dtype),
                  "%s: other bits than with sorted weights", name.c_str());
            ++served;
        }
    }
    unserved.skip_if_any(served);
}

// Columns [first, first + n) of a layer.
FormatLayer columns_of(const FormatLayer &layer, int64_t first, int64_t n, tarpon_dtype dtype) {
    FormatLayer out = layer;
    out.n = n;
    const auto cut = [&](const auto &from, auto &to, int64_t rows, size_t bytes) {
        to.clear();
        for (int64_t r = 0; r < rows && !from.empty(); ++r) {
            const auto begin = from.begin() + (r * layer.n + first) * static_cast<int64_t>(bytes);
            to.insert(to.end(), begin, begin + n * static_cast<int64_t>(bytes));
        }
    };
    const size_t scale_bytes = dtype_bytes(layer.format.scale_dtype());
    cut(layer.codes, out.codes, layer.k, 1);
    cut(layer.scales, out.scales, layer.groups, scale_bytes);
    cut(layer.zeros, out.zeros, layer.groups,
        layer.format.zero_type == TARPON_ZERO_INTEGER ? 1 : scale_bytes);
    cut(layer.bias, out.bias, 1, dtype_bytes(dtype));
    return out;
}

// Three parts, the middle one without a bias, as one plan, against the layer that they were cut
// from (exact sums, so that the bits cannot depend on how a kernel cuts its work).
void check_fused(tarpon_device_kind kind) {
    const Owned<tarpon_device> device = device_or_skip(kind);
    Unserved unserved;
    int served = 0;
    const Shape shape{6, 200, 264};
    constexpr int64_t kCuts[] = {0, 72, 73, 200};
    for (const Format &format : kSample) {
        for (tarpon_dtype dtype : dtypes_of(kind)) {
            for (bool with_bias : {false, true}) {
                const std::string name =
                    describe(format, dtype) + " fused" + (with_bias ? " with bias" : "");
                FormatLayer whole =
                    make_format_layer(format, shape.n, shape.k, Values::kExactInteger, 41);
                if (with_bias) {
                    whole.bias = make_vector(shape.n, dtype, Values::kExactInteger, 42);
                    for (int64_t c = kCuts[1]; c < kCuts[2]; ++c)
                        store(whole.bias.data(), dtype, c, 0);
                }
                std::vector<FormatLayer> layers;
                std::vector<tarpon_linear_weights> parts;
                for (int i = 0; i < 3; ++i)
                    layers.push_back(columns_of(whole, kCuts[i], kCuts[i + 1] - kCuts[i], dtype));
                layers[1].bias.clear();
                for (const FormatLayer &layer : layers)
                    parts.push_back(layer.weights());
                const auto fused = create(device.get(), whole.desc(dtype), parts, name);
                const auto one = create(device.get(), whole.desc(dtype), {whole.weights()}, name);
                if (!fused || !one) {
                    unserved.note(name);
                    continue;
                }
                const auto x = make_activations(shape.m, shape.k, dtype, Values::kExactInteger, 43);
                const DeviceArray device_x = upload(device.get(), x);
                const auto y =
                    run_linear(device.get(), fused.get(), device_x, shape.m, shape.n, dtype);
                CHECK(y == run_linear(device.get(), one.get(), device_x, shape.m, shape.n, dtype),
                      "%s: other bits than in one part", name.c_str());
                for (int i = 0; i < 3; ++i) {
                    const int64_t n = layers[i].n;
                    const auto separate =
                        create(device.get(), layers[i].desc(dtype), {layers[i].weights()}, name);
                    REQUIRE(separate != nullptr, "%s: part %d alone", name.c_str(), i);
                    const auto part =
                        run_linear(device.get(), separate.get(), device_x, shape.m, n, dtype);
                    for (int64_t j = 0; j < shape.m * n; ++j) {
                        const int64_t at = j / n * shape.n + kCuts[i] + j % n;
                        if (!CHECK_EQ(load(y.data(), dtype, at), load(part.data(), dtype, j),
                                      "%s part %d y[%lld, %lld]", name.c_str(), i, ll{j / n},
                                      ll{j % n}))
                            break;
                    }
                }
                ++served;
            }
        }
    }
    unserved.skip_if_any(served);
}

// Row i has the same bits whatever the other rows are and however many, run after run.
void check_deterministic(tarpon_device_kind kind) {
    const Owned<tarpon_device> device = device_or_skip(kind);
    Unserved unserved;
    int served = 0;
    const Shape shape{40, 264, 648};
    for (const Format &format : kSample) {
        for (tarpon_dtype dtype : dtypes_of(kind)) {
            const std::string name = describe(format, dtype) + " deterministic";
            const FormatLayer layer =
                make_format_layer(format, shape.n, shape.k, Values::kRandom, 51);
            tarpon_linear_desc desc = layer.desc(dtype);
            desc.mode = TARPON_LINEAR_DETERMINISTIC;
            const auto linear = create(device.get(), desc, {layer.weights()}, name);
            if (!linear) {
                unserved.note(name);
                continue;
            }
            const auto x = make_activations(shape.m, shape.k, dtype, Values::kRandom, 52);
            const auto y = run_linear(device.get(), linear.get(), upload(device.get(), x), shape.m,
                                      shape.n, dtype);
            check_against(multiply(layer, x, dtype, shape.m), y, dtype, shape.n, Values::kRandom,
                          name);
            const size_t x_row = x.size() / shape.m, y_row = y.size() / shape.m;
            for (int64_t m : {1, 2, 7, 8, 9, 16, 17, 33, 40}) {
                // The last m rows, so that each row also changes its place.
                const std::vector<char> some(x.end() - static_cast<int64_t>(m * x_row), x.end());
                const auto got = run_linear(device.get(), linear.get(), upload(device.get(), some),
                                            m, shape.n, dtype);
                CHECK(std::equal(got.begin(), got.end(), y.end() - static_cast<int64_t>(m * y_row)),
                      "%s: rows have other bits with m %lld", name.c_str(), ll{m});
            }
            ++served;
        }
    }
    unserved.skip_if_any(served);
}

#define TARPON_EVERY_DEVICE(check)                    \
    TARPON_TEST(test_linear_formats_##check##_cpu) {  \
        check_##check(TARPON_DEVICE_CPU);             \
    }                                                 \
    TARPON_TEST(test_linear_formats_##check##_sim) {  \
        check_##check(TARPON_DEVICE_SIM);             \
    }                                                 \
    TARPON_TEST(test_linear_formats_##check##_cuda) { \
        check_##check(TARPON_DEVICE_CUDA);            \
    }

TARPON_EVERY_DEVICE(int4_symmetric)
TARPON_EVERY_DEVICE(int4_integer)
TARPON_EVERY_DEVICE(int4_float)
TARPON_EVERY_DEVICE(int8_symmetric)
TARPON_EVERY_DEVICE(int8_integer)
TARPON_EVERY_DEVICE(int8_float)
TARPON_EVERY_DEVICE(e4m3)
TARPON_EVERY_DEVICE(sparse)
TARPON_EVERY_DEVICE(bias_and_residual)
TARPON_EVERY_DEVICE(act_order)
TARPON_EVERY_DEVICE(fused)
TARPON_EVERY_DEVICE(deterministic)

}  // namespace
}  // namespace tarpon::test
