// Helpers of the tests through the C ABI: owners for handles, the devices present, random layers.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tarpon.h"
#include "testing/random.h"
#include "types.h"

namespace tarpon::test {

struct Closer {
    void operator()(tarpon_device *handle) const { tarpon_device_close(handle); }
    void operator()(tarpon_stream *handle) const { tarpon_stream_destroy(handle); }
    void operator()(tarpon_buffer *handle) const { tarpon_buffer_destroy(handle); }
    void operator()(tarpon_linear *handle) const { tarpon_linear_destroy(handle); }
};
template <class T>
using Owned = std::unique_ptr<T, Closer>;

struct DeviceKind {
    tarpon_device_kind kind;
    const char *name;
};
inline constexpr DeviceKind kDeviceKinds[] = {
    {TARPON_DEVICE_CPU, "cpu"}, {TARPON_DEVICE_SIM, "sim"}, {TARPON_DEVICE_CUDA, "cuda"}};

// Null, with the reason in *reason, if the kind is unavailable here.
inline Owned<tarpon_device> open_device(tarpon_device_kind kind, std::string *reason) {
    tarpon_device *device = nullptr;
    if (tarpon_device_open(kind, 0, nullptr, &device) != TARPON_OK) *reason = tarpon_last_error();
    return Owned<tarpon_device>(device);
}

inline const char *dtype_name(tarpon_dtype dtype) {
    return dtype == TARPON_F32 ? "f32" : dtype == TARPON_F16 ? "f16" : "bf16";
}
inline size_t dtype_bytes(tarpon_dtype dtype) {
    return dtype == TARPON_F32 ? 4 : 2;
}

inline float load(const void *data, tarpon_dtype dtype, int64_t i) {
    switch (dtype) {
        case TARPON_F16:
            return to_float(static_cast<const half_t *>(data)[i]);
        case TARPON_BF16:
            return to_float(static_cast<const bf16_t *>(data)[i]);
        default:
            return static_cast<const float *>(data)[i];
    }
}

inline void store(void *data, tarpon_dtype dtype, int64_t i, float value) {
    switch (dtype) {
        case TARPON_F16:
            static_cast<half_t *>(data)[i] = from_float<half_t>(value);
            break;
        case TARPON_BF16:
            static_cast<bf16_t *>(data)[i] = from_float<bf16_t>(value);
            break;
        default:
            static_cast<float *>(data)[i] = value;
    }
}

// A weight in plain order with its fp64 meaning.
struct Layer {
    int64_t n, k;
    int32_t group_size;
    int64_t groups;
    std::vector<uint8_t> codes;    // [K, N]
    std::vector<uint16_t> scales;  // [groups, N]

    double weight(int64_t row, int64_t column) const {
        const int64_t group = group_size == -1 ? 0 : row / group_size;
        const float scale = to_float(half_t{scales[group * n + column]});
        return (codes[row * n + column] - 8) * static_cast<double>(scale);
    }
};

enum class Values { kRandom, kExactInteger };

// kExactInteger: small codes and power-of-two scales, so that every partial sum is exact in fp32.
inline Layer make_layer(int64_t n, int64_t k, int32_t group_size, Values values, uint64_t seed) {
    Layer layer{n, k, group_size, group_size == -1 ? 1 : (k + group_size - 1) / group_size, {}, {}};
    testing::Random random(seed);
    layer.codes.resize(n * k);
    layer.scales.resize(layer.groups * n);
    for (uint8_t &code : layer.codes)
        code = static_cast<uint8_t>(random.integer(0, 15));
    for (uint16_t &scale : layer.scales) {
        const float value = values == Values::kExactInteger
                                ? std::ldexp(1.0f, static_cast<int>(random.integer(-2, 0)))
                                : static_cast<float>(random.uniform(0.002, 0.022));
        scale = from_float<half_t>(value).bits;
    }
    return layer;
}

// x [m, K] of a dtype, as bytes.
inline std::vector<char> make_activations(int64_t m, int64_t k, tarpon_dtype dtype, Values values,
                                          uint64_t seed) {
    std::vector<char> x(m * k * dtype_bytes(dtype));
    testing::Random random(seed);
    for (int64_t i = 0; i < m * k; ++i) {
        const float value = values == Values::kExactInteger
                                ? static_cast<float>(random.integer(-1, 1))
                                : static_cast<float>(random.normal());
        store(x.data(), dtype, i, value);
    }
    return x;
}

inline tarpon_status create_linear(tarpon_device *device, const Layer &layer, tarpon_dtype dtype,
                                   const char *variant, Owned<tarpon_linear> *out) {
    tarpon_linear_desc desc{};
    desc.struct_size = sizeof desc;
    desc.weight_type = TARPON_WEIGHT_INT4;
    desc.in_features = layer.k;
    desc.out_features = layer.n;
    desc.group_size = layer.group_size;
    desc.activation_dtype = dtype;
    desc.variant = variant;
    tarpon_linear_weights weights{};
    weights.struct_size = sizeof weights;
    weights.layout = TARPON_LAYOUT_PLAIN;
    weights.qweight = layer.codes.data();
    weights.qweight_bytes = layer.codes.size();
    weights.scales = layer.scales.data();
    weights.scales_bytes = 2 * layer.scales.size();
    tarpon_linear *linear = nullptr;
    const tarpon_status status = tarpon_linear_create(device, &desc, &weights, &linear);
    out->reset(linear);
    return status;
}

}  // namespace tarpon::test
