// 1000 random descriptors on every device that is present: what tarpon.h does not allow is refused
// with a message, what it allows is computed as in binary64 or is unsupported, with the list of
// what is.
//   linear_random_test [--filter cpu|sim|cuda]
#include <cstring>

#include "device_array.h"
#include "format_layer.h"
#include "testing/test.h"

namespace tarpon::test {
namespace {

constexpr int kDescriptors = 1000;

// A request of random sizes and formats; about a third are spoilt in one place.
struct Request {
    FormatLayer layer;
    tarpon_dtype dtype;
    int64_t m;
    tarpon_linear_desc desc{};
    tarpon_linear_weights weights{};
    std::string spoilt;  // what was, or empty
};

template <class T>
T pick(testing::Random &random, std::initializer_list<T> choices) {
    return choices.begin()[random.integer(0, static_cast<int64_t>(choices.size()) - 1)];
}

void spoil(Request &request, testing::Random &random) {
    tarpon_linear_desc &desc = request.desc;
    tarpon_linear_weights &weights = request.weights;
    switch (random.integer(0, 17)) {
        case 0:
            desc.weight_type = pick(random, {-1, 3, 1000});
            request.spoilt = "weight_type";
            break;
        case 1:
            desc.zero_type = pick(random, {-1, 3});
            request.spoilt = "zero_type";
            break;
        case 2:
            desc.scale_type = pick(random, {-2, 3});
            request.spoilt = "scale_type";
            break;
        case 3:
            desc.mode = pick(random, {-1, 2});
            request.spoilt = "mode";
            break;
        case 4:
            desc.arithmetic = pick(random, {-1, 2});
            request.spoilt = "arithmetic";
            break;
        case 5:
            desc.activation_dtype = pick(random, {-1, 3, 4, 5});
            request.spoilt = "activation_dtype";
            break;
        case 6:
            desc.group_size = pick(random, {-2, 0, 1, 16, 48, 127, 129, 256, INT32_MAX, INT32_MIN});
            request.spoilt = "group_size";
            break;
        case 7:
            desc.in_features = pick<int64_t>(random, {0, -1, INT64_MIN, INT64_MAX});
            request.spoilt = "in_features";
            break;
        case 8:
            desc.out_features = pick<int64_t>(random, {0, -64, INT64_MAX});
            request.spoilt = "out_features";
            break;
        case 9:
            desc.reserved = 1;
            request.spoilt = "reserved";
            break;
        case 10:
            weights.layout = pick(random, {-1, 9, 77});
            request.spoilt = "layout";
            break;
        case 11:
            weights.qweight_bytes += pick<size_t>(random, {1, size_t(-1), 4096});
            request.spoilt = "qweight_bytes";
            break;
        case 12:
            weights.scales_bytes += pick<size_t>(random, {1, size_t(-2), 64});
            request.spoilt = "scales_bytes";
            break;
        case 13:
            weights.zeros_bytes += 1;
            request.spoilt = "zeros_bytes";
            break;
        case 14:
            weights.scales = nullptr;
            request.spoilt = "scales";
            break;
        case 15:
            weights.bias_bytes += 2;
            request.spoilt = "bias_bytes";
            break;
        case 16:
            weights.g_idx_bytes += 4;
            request.spoilt = "g_idx_bytes";
            break;
        default:
            desc.sparsity = 2;
            request.spoilt = "sparsity";
    }
}

void draw(Request &request, tarpon_device_kind kind, uint64_t seed) {
    testing::Random random(seed);
    Format format{};
    format.weight_type = static_cast<tarpon_weight_type>(random.integer(0, 2));
    if (format.weight_type != TARPON_WEIGHT_FP8_E4M3)
        format.zero_type = static_cast<tarpon_zero_type>(random.integer(0, 2));
    format.scale_type = static_cast<tarpon_scale_type>(random.integer(0, 2));
    format.group_size = pick(random, {-1, 32, 64, 128});
    const bool int4_symmetric =
        format.weight_type == TARPON_WEIGHT_INT4 && format.zero_type == TARPON_ZERO_SYMMETRIC;
    if (int4_symmetric && random.integer(0, 2) == 0) format.sparsity = TARPON_SPARSITY_2_4;
    request.m = random.integer(1, 20);
    const int64_t n = random.integer(1, 96), k = random.integer(1, 160);
    request.dtype = static_cast<tarpon_dtype>(random.integer(0, 2));
    request.layer = make_format_layer(format, n, k, Values::kRandom, seed + 1);
    FormatLayer &layer = request.layer;
    if (random.integer(0, 2) == 0) {
        layer.bias.resize(n * dtype_bytes(request.dtype));
        for (int64_t c = 0; c < n; ++c)
            store(layer.bias.data(), request.dtype, c, static_cast<float>(random.normal()));
    }
    if (format.sparsity == TARPON_SPARSITY_NONE && random.integer(0, 3) == 0) {
        // Groups in reverse order, each with its inputs together.
        const int64_t size = format.group_size == -1 ? k : format.group_size;
        layer.g_idx.resize(k);
        for (int64_t r = 0; r < k; ++r)
            layer.g_idx[k - 1 - r] = static_cast<int32_t>(r / size);
    }
    request.desc = layer.desc(request.dtype);
    request.weights = layer.weights();
    if (random.integer(0, 3) == 0) request.desc.mode = TARPON_LINEAR_DETERMINISTIC;
    if (kind == TARPON_DEVICE_CPU && random.integer(0, 9) == 0)
        request.desc.arithmetic = TARPON_ARITHMETIC_INT8_ACTIVATIONS;
    if (random.integer(0, 2) == 0) spoil(request, random);
}

void check_result(tarpon_device *device, const Request &request, const tarpon_linear *linear,
                  int index) {
    const FormatLayer &layer = request.layer;
    const auto x =
        make_activations(request.m, layer.k, request.dtype, Values::kRandom, 1000 + index);
    const DeviceArray device_x(device, x.size());
    device_x.copy_in(x.data(), x.size());
    const auto y = run_linear(device, linear, device_x, request.m, layer.n, request.dtype);
    const Product want = multiply(layer, x, request.dtype, request.m);
    // Activations rounded to int8 are off by up to 1/254 of the largest of 128.
    const bool int8 = request.desc.arithmetic == TARPON_ARITHMETIC_INT8_ACTIVATIONS;
    for (int64_t i = 0; i < request.m * layer.n; ++i) {
        const double got = load(y.data(), request.dtype, i);
        const double bound = rounding(request.dtype) * std::fabs(want.y[i]) +
                             (int8 ? 0.05 : 1e-6) * want.magnitude[i] +
                             (request.dtype == TARPON_F16 ? 0x1p-25 : 0);
        if (!CHECK_NEAR(got, want.y[i], bound, "descriptor %d: %s y[%lld]", index,
                        layer.format.name().c_str(), static_cast<long long>(i)))
            return;
    }
}

void check_random_descriptors(tarpon_device_kind kind) {
    std::string reason;
    const Owned<tarpon_device> device = open_device(kind, &reason);
    if (!device) SKIP("%s", reason.c_str());
    int computed = 0, unsupported = 0, refused = 0;
    for (int i = 0; i < kDescriptors; ++i) {
        Request request;
        draw(request, kind, 7000 + 3 * static_cast<uint64_t>(i));
        tarpon_linear *raw = nullptr;
        const tarpon_status status =
            tarpon_linear_create(device.get(), &request.desc, &request.weights, &raw);
        const Owned<tarpon_linear> linear(raw);
        if (status == TARPON_OK) {
            if (!CHECK(request.spoilt.empty(), "descriptor %d: spoilt %s was accepted", i,
                       request.spoilt.c_str()))
                continue;
            check_result(device.get(), request, linear.get(), i);
            ++computed;
            continue;
        }
        const std::string message = tarpon_last_error();
        CHECK(raw == nullptr && !message.empty(), "descriptor %d", i);
        if (request.spoilt.empty()) {
            CHECK_EQ(status, TARPON_ERROR_UNSUPPORTED, "descriptor %d, %s: %s", i,
                     request.layer.format.name().c_str(), message.c_str());
            CHECK(message.find("there are:\n") != std::string::npos, "descriptor %d: %s", i,
                  message.c_str());
            ++unsupported;
        } else {
            CHECK(status == TARPON_ERROR_INVALID_ARGUMENT || status == TARPON_ERROR_UNSUPPORTED,
                  "descriptor %d, spoilt %s: %s", i, request.spoilt.c_str(),
                  tarpon_status_name(status));
            CHECK(message.find(request.spoilt.substr(0, request.spoilt.find("_bytes"))) !=
                      std::string::npos,
                  "descriptor %d: the message does not speak of %s: %s", i, request.spoilt.c_str(),
                  message.c_str());
            ++refused;
        }
    }
    std::printf("    %d computed, %d legal and not served, %d illegal and refused\n", computed,
                unsupported, refused);
    CHECK(computed > 0 && refused > kDescriptors / 5, "%d computed, %d refused", computed, refused);
}

TARPON_TEST(test_linear_random_descriptors_cpu) {
    check_random_descriptors(TARPON_DEVICE_CPU);
}
TARPON_TEST(test_linear_random_descriptors_sim) {
    check_random_descriptors(TARPON_DEVICE_SIM);
}
TARPON_TEST(test_linear_random_descriptors_cuda) {
    check_random_descriptors(TARPON_DEVICE_CUDA);
}

}  // namespace
}  // namespace tarpon::test
