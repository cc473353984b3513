// What callers get wrong, through the C ABI: every mistake gets its status and a message with the
// offending values, and leaves outputs as they were.
#include "abi_support.h"
#include "testing/test.h"

namespace tarpon::test {
namespace {

Owned<tarpon_device> cpu() {
    std::string reason;
    Owned<tarpon_device> device = open_device(TARPON_DEVICE_CPU, &reason);
    REQUIRE(device != nullptr, "%s", reason.c_str());
    return device;
}

void check_failure(tarpon_status actual, tarpon_status expected, const char *fragment,
                   const char *what) {
    CHECK_EQ(std::string(tarpon_status_name(actual)), std::string(tarpon_status_name(expected)),
             "%s: %s", what, tarpon_last_error());
    CHECK(std::strstr(tarpon_last_error(), fragment) != nullptr,
          "%s: \"%s\" does not contain \"%s\"", what, tarpon_last_error(), fragment);
}

// A valid request, from which each case spoils one thing.
struct Request {
    Layer layer = make_layer(64, 256, 128, Values::kRandom, 1);
    tarpon_linear_desc desc{};
    tarpon_linear_weights weights{};

    Request() {
        desc.struct_size = sizeof desc;
        desc.in_features = layer.k;
        desc.out_features = layer.n;
        desc.group_size = layer.group_size;
        desc.activation_dtype = TARPON_F16;
        weights.struct_size = sizeof weights;
        weights.layout = TARPON_LAYOUT_PLAIN;
        weights.qweight = layer.codes.data();
        weights.qweight_bytes = layer.codes.size();
        weights.scales = layer.scales.data();
        weights.scales_bytes = 2 * layer.scales.size();
    }
    Request(const Request &) = delete;
};

TARPON_TEST(test_abi_linear_create_refuses_bad_requests) {
    const auto device = cpu();
    struct Case {
        const char *what;
        void (*spoil)(Request &);
        tarpon_status status;
        const char *fragment;
    };
    const Case cases[] = {
        {"K = 0", [](Request &r) { r.desc.in_features = 0; }, TARPON_ERROR_INVALID_ARGUMENT,
         "in_features is 0"},
        {"N < 0", [](Request &r) { r.desc.out_features = -3; }, TARPON_ERROR_INVALID_ARGUMENT,
         "-3"},
        {"K * N overflows", [](Request &r) { r.desc.in_features = INT64_MAX; },
         TARPON_ERROR_INVALID_ARGUMENT, "2^40"},
        {"group 100", [](Request &r) { r.desc.group_size = 100; }, TARPON_ERROR_UNSUPPORTED, "100"},
        {"group 0", [](Request &r) { r.desc.group_size = 0; }, TARPON_ERROR_UNSUPPORTED, "is 0"},
        {"weight type 77", [](Request &r) { r.desc.weight_type = 77; },
         TARPON_ERROR_INVALID_ARGUMENT, "77"},
        {"dtype U8", [](Request &r) { r.desc.activation_dtype = TARPON_U8; },
         TARPON_ERROR_INVALID_ARGUMENT, "U8"},
        {"unknown variant", [](Request &r) { r.desc.variant = "warp_drive"; },
         TARPON_ERROR_INVALID_ARGUMENT, "warp_drive"},
        {"layout 9", [](Request &r) { r.weights.layout = 9; }, TARPON_ERROR_INVALID_ARGUMENT, "9"},
        {"short codes", [](Request &r) { r.weights.qweight_bytes -= 1; },
         TARPON_ERROR_INVALID_ARGUMENT, "16383"},
        {"K does not match the scales", [](Request &r) { r.weights.scales_bytes *= 2; },
         TARPON_ERROR_INVALID_ARGUMENT, "scales_bytes"},
        {"NULL codes", [](Request &r) { r.weights.qweight = nullptr; },
         TARPON_ERROR_INVALID_ARGUMENT, "NULL"},
        {"code 16", [](Request &r) { r.layer.codes[64 * 3 + 5] = 16; },
         TARPON_ERROR_INVALID_ARGUMENT, "codes[3, 5] is 16"},
        {"infinite scale", [](Request &r) { r.layer.scales[64 + 2] = 0x7c00; },
         TARPON_ERROR_INVALID_ARGUMENT, "scales[1, 2]"},
        {"struct_size 0", [](Request &r) { r.desc.struct_size = 0; }, TARPON_ERROR_INVALID_ARGUMENT,
         "struct_size is 0"},
        {"struct_size that ends within a pointer",
         [](Request &r) { r.desc.struct_size = offsetof(tarpon_linear_desc, variant) + 4; },
         TARPON_ERROR_INVALID_ARGUMENT, "desc->struct_size is 36"},
    };
    for (const Case &c : cases) {
        Request request;
        c.spoil(request);
        auto *const untouched = reinterpret_cast<tarpon_linear *>(&request);
        tarpon_linear *linear = untouched;
        const tarpon_status status =
            tarpon_linear_create(device.get(), &request.desc, &request.weights, &linear);
        check_failure(status, c.status, c.fragment, c.what);
        CHECK(linear == untouched, "%s: the output was written", c.what);
    }
}

TARPON_TEST(test_abi_accepts_a_newer_struct_whose_extra_bytes_are_zero) {
    const auto device = cpu();
    Request request;
    struct {
        tarpon_linear_desc known;
        uint64_t newer;
    } desc{request.desc, 0};
    desc.known.struct_size = sizeof desc;
    tarpon_linear *linear = nullptr;
    CHECK_EQ(tarpon_linear_create(device.get(), &desc.known, &request.weights, &linear), TARPON_OK,
             "%s", tarpon_last_error());
    tarpon_linear_destroy(linear);
    desc.newer = 1;
    check_failure(tarpon_linear_create(device.get(), &desc.known, &request.weights, &linear),
                  TARPON_ERROR_UNSUPPORTED, "update the library", "newer field set");
}

TARPON_TEST(test_abi_null_pointers_are_named) {
    const auto device = cpu();
    Request request;
    tarpon_linear *linear = nullptr;
    constexpr tarpon_status kInvalid = TARPON_ERROR_INVALID_ARGUMENT;
    check_failure(tarpon_device_count(TARPON_DEVICE_CPU, nullptr), kInvalid, "out_count", "count");
    check_failure(tarpon_device_open(TARPON_DEVICE_CPU, 0, nullptr, nullptr), kInvalid,
                  "out_device", "open");
    check_failure(tarpon_linear_create(nullptr, &request.desc, &request.weights, &linear), kInvalid,
                  "device is NULL", "create");
    check_failure(tarpon_linear_create(device.get(), nullptr, &request.weights, &linear), kInvalid,
                  "desc is NULL", "create");
    check_failure(tarpon_linear_create(device.get(), &request.desc, nullptr, &linear), kInvalid,
                  "weights is NULL", "create");
    check_failure(tarpon_linear_create(device.get(), &request.desc, &request.weights, nullptr),
                  kInvalid, "out_linear is NULL", "create");
    float value = 0;
    check_failure(tarpon_linear_run(nullptr, &value, &value, 1, nullptr, 0, nullptr), kInvalid,
                  "linear is NULL", "run");
    check_failure(tarpon_copy_to_device(device.get(), nullptr, &value, 4, nullptr), kInvalid,
                  "device_dst", "copy");
    tarpon_linear_destroy(nullptr);
    tarpon_buffer_destroy(nullptr);
    tarpon_stream_destroy(nullptr);
    tarpon_device_close(nullptr);
}

TARPON_TEST(test_abi_linear_run_refuses_bad_operands) {
    const auto device = cpu();
    Request request;
    tarpon_linear *raw = nullptr;
    REQUIRE(tarpon_linear_create(device.get(), &request.desc, &request.weights, &raw) == TARPON_OK,
            "%s", tarpon_last_error());
    const Owned<tarpon_linear> linear(raw);
    uint16_t x[256] = {}, y[64] = {};
    check_failure(tarpon_linear_run(raw, nullptr, y, 1, nullptr, 0, nullptr),
                  TARPON_ERROR_INVALID_ARGUMENT, "x is", "x NULL");
    check_failure(tarpon_linear_run(raw, x, y, -1, nullptr, 0, nullptr),
                  TARPON_ERROR_INVALID_ARGUMENT, "m is -1", "m < 0");
    check_failure(tarpon_linear_run(raw, x, y, INT64_MAX, nullptr, 0, nullptr),
                  TARPON_ERROR_INVALID_ARGUMENT, "0..1099511627776", "m beyond any memory");
    CHECK_EQ(tarpon_linear_run(raw, nullptr, nullptr, 0, nullptr, 0, nullptr), TARPON_OK);
    size_t bytes = 0;
    check_failure(tarpon_linear_workspace_bytes(raw, -7, &bytes), TARPON_ERROR_INVALID_ARGUMENT,
                  "-7", "workspace");
}

// On every device: on a GPU these would be errors that end its context, or wrong in silence.
TARPON_TEST(test_abi_linear_run_refuses_operands_that_overlap_or_are_misaligned) {
    Request request;
    for (const DeviceKind &kind : kDeviceKinds) {
        std::string reason;
        const Owned<tarpon_device> device = open_device(kind.kind, &reason);
        if (!device) continue;
        tarpon_linear *raw = nullptr;
        REQUIRE(
            tarpon_linear_create(device.get(), &request.desc, &request.weights, &raw) == TARPON_OK,
            "%s", tarpon_last_error());
        const Owned<tarpon_linear> linear(raw);
        tarpon_buffer *buffer = nullptr;
        REQUIRE(tarpon_buffer_create(device.get(), 1 << 20, &buffer) == TARPON_OK);
        const Owned<tarpon_buffer> memory(buffer);
        // One row of x has 512 bytes, one of y 128; the workspace is behind both.
        char *const x = static_cast<char *>(tarpon_buffer_address(buffer)), *const y = x + 512;
        char *const workspace = x + 4096;
        const size_t workspace_bytes = (1 << 20) - 8192;
        const auto run = [&](const char *x_at, const char *residual, char *y_at, char *ws) {
            return tarpon_linear_run_residual(raw, x_at, residual, y_at, 1, ws, workspace_bytes,
                                              nullptr);
        };
        constexpr tarpon_status kInvalid = TARPON_ERROR_INVALID_ARGUMENT;
        check_failure(run(x + 1, nullptr, y, workspace), kInvalid, "aligned", "odd x");
        check_failure(run(x, nullptr, y + 1, workspace), kInvalid, "aligned", "odd y");
        check_failure(run(x, y + 1, y, workspace), kInvalid, "aligned", "odd residual");
        check_failure(run(x, nullptr, y, workspace + 64), kInvalid, "256", "odd workspace");
        check_failure(run(x, nullptr, x, workspace), kInvalid, "overlap", "y is x");
        check_failure(run(x, nullptr, x + 510, workspace), kInvalid, "overlap", "y ends x");
        check_failure(run(x + 126, nullptr, x, workspace), kInvalid, "overlap", "y begins x");
        check_failure(run(x, y + 126, y, workspace), kInvalid, "overlap", "residual ends y");
        size_t needed = 0;
        REQUIRE(tarpon_linear_workspace_bytes(raw, 1, &needed) == TARPON_OK);
        if (needed > 0) {
            check_failure(run(x, nullptr, y, nullptr), kInvalid, "workspace", "no workspace");
        }
    }
}

// Tensors in a mapped file begin anywhere.
TARPON_TEST(test_abi_weights_in_host_memory_need_no_alignment) {
    const Request request;
    const int64_t n = request.layer.n, k = request.layer.k;
    const auto shifted = [](const void *data, size_t bytes) {
        std::vector<char> out(bytes + 1);
        std::memcpy(out.data() + 1, data, bytes);
        return out;
    };
    size_t qweight_bytes = 0, scales_bytes = 0;
    REQUIRE(tarpon_marlin_size(n, k, 128, &qweight_bytes, &scales_bytes) == TARPON_OK);
    std::vector<int32_t> qweight(qweight_bytes / 4);
    std::vector<uint16_t> packed_scales(scales_bytes / 2);
    REQUIRE(tarpon_marlin_pack(request.layer.codes.data(), request.layer.scales.data(), n, k, 128,
                               qweight.data(), packed_scales.data()) == TARPON_OK);
    const auto odd_qweight = shifted(qweight.data(), qweight_bytes);
    const auto odd_scales = shifted(packed_scales.data(), scales_bytes);
    tarpon_linear_weights weights = request.weights;
    weights.layout = TARPON_LAYOUT_MARLIN;
    weights.qweight = odd_qweight.data() + 1;
    weights.qweight_bytes = qweight_bytes;
    weights.scales = odd_scales.data() + 1;
    weights.scales_bytes = scales_bytes;
    std::vector<uint8_t> codes(request.layer.codes.size());
    std::vector<uint16_t> scales(request.layer.scales.size());
    REQUIRE(tarpon_weights_unpack(&request.desc, &weights, codes.data(), scales.data(), nullptr) ==
                TARPON_OK,
            "%s", tarpon_last_error());
    CHECK(codes == request.layer.codes && scales == request.layer.scales, "MARLIN order");

    std::vector<float> weight(static_cast<size_t>(n * k));
    for (size_t i = 0; i < weight.size(); ++i)
        weight[i] = static_cast<float>(static_cast<int>(i * 7919 % 201) - 100);
    const auto odd_weight = shifted(weight.data(), 4 * weight.size());
    for (const tarpon_zero_type zero : {TARPON_ZERO_SYMMETRIC, TARPON_ZERO_INTEGER}) {
        tarpon_linear_desc desc = request.desc;
        desc.zero_type = zero;
        std::vector<uint8_t> zeros(scales.size()), odd_zeros(scales.size()),
            odd_codes(codes.size());
        std::vector<uint16_t> other_scales(scales.size());
        const bool has_zeros = zero == TARPON_ZERO_INTEGER;
        REQUIRE(tarpon_weights_quantize(&desc, weight.data(), TARPON_F32, codes.data(),
                                        scales.data(),
                                        has_zeros ? zeros.data() : nullptr) == TARPON_OK);
        REQUIRE(tarpon_weights_quantize(&desc, odd_weight.data() + 1, TARPON_F32, odd_codes.data(),
                                        other_scales.data(),
                                        has_zeros ? odd_zeros.data() : nullptr) == TARPON_OK);
        CHECK(codes == odd_codes && scales == other_scales && zeros == odd_zeros, "zero type %d",
              zero);
        check_failure(tarpon_weights_quantize(&desc, weight.data(), TARPON_F32, codes.data(),
                                              const_cast<char *>(odd_scales.data()) + 1,
                                              has_zeros ? zeros.data() : nullptr),
                      TARPON_ERROR_INVALID_ARGUMENT, "aligned", "odd out_scales");
    }
}

TARPON_TEST(test_abi_fused_parts_must_fit) {
    const auto device = cpu();
    Request first, second;
    first.desc.out_features = 128;
    tarpon_linear_weights parts[2] = {first.weights, second.weights};
    parts[0].out_features = parts[1].out_features = 64;
    const auto fused = [&](int32_t count) {
        tarpon_linear *linear = nullptr;
        const tarpon_status status =
            tarpon_linear_create_fused(device.get(), &first.desc, parts, count, &linear);
        CHECK(status == TARPON_OK || linear == nullptr, "the output was written");
        tarpon_linear_destroy(linear);
        return status;
    };
    constexpr tarpon_status kInvalid = TARPON_ERROR_INVALID_ARGUMENT;
    CHECK_EQ(fused(2), TARPON_OK, "%s", tarpon_last_error());
    check_failure(fused(0), kInvalid, "part_count is 0", "no part");
    check_failure(fused(65), kInvalid, "part_count is 65", "too many parts");
    check_failure(fused(1), kInvalid, "add up to 64", "one part of two");
    parts[1].out_features = 0;
    check_failure(fused(2), kInvalid, "parts[1].out_features is 0", "part of no width");
    parts[1].out_features = 64;
    parts[1].struct_size = sizeof parts[1] - 8;
    check_failure(fused(2), kInvalid, "parts[1].struct_size", "another struct");
    parts[0].struct_size = sizeof parts[0] + 1;
    check_failure(fused(2), kInvalid, "parts[0].struct_size", "structs at odd places");
    parts[0].struct_size = parts[1].struct_size = sizeof parts[1];
    std::vector<int32_t> order(256), reversed(256);
    for (int k = 0; k < 256; ++k) {
        order[k] = k / 128;
        reversed[k] = 1 - k / 128;
    }
    parts[1].g_idx = reversed.data();
    parts[1].g_idx_bytes = 4 * reversed.size();
    check_failure(fused(2), kInvalid, "parts[0].g_idx is NULL", "one order of two");
    parts[0].g_idx = order.data();
    parts[0].g_idx_bytes = 4 * order.size();
    check_failure(fused(2), kInvalid, "parts[1].g_idx[0] is 1", "two orders");
    second.layer.codes[64 * 3 + 5] = 77;
    parts[1].g_idx = order.data();
    check_failure(fused(2), kInvalid, "parts[1].codes[3, 5] is 77", "code of the second part");
}

TARPON_TEST(test_abi_devices_say_why_they_are_not_there) {
    int32_t count = -1;
    check_failure(tarpon_device_count(5, &count), TARPON_ERROR_INVALID_ARGUMENT, "5", "kind 5");
    CHECK_EQ(count, -1);
    for (const DeviceKind &kind : kDeviceKinds) {
        char reason[512];
        REQUIRE(tarpon_device_count(kind.kind, &count) == TARPON_OK);
        REQUIRE(tarpon_device_unavailable_reason(kind.kind, reason, sizeof reason) == TARPON_OK);
        CHECK_EQ(count == 0, std::strlen(reason) > 0, "%s: %d device(s), reason \"%s\"", kind.name,
                 count, reason);
        tarpon_device *device = nullptr;
        check_failure(tarpon_device_open(kind.kind, 99, nullptr, &device),
                      TARPON_ERROR_DEVICE_UNAVAILABLE, count ? ":99" : reason, kind.name);
    }
}

TARPON_TEST(test_abi_quantiser_names_the_weight_it_cannot_take) {
    std::vector<float> weight(64 * 128, 0.5f);
    std::vector<uint8_t> codes(64 * 128);
    std::vector<uint16_t> scales(64);
    weight[3 * 128 + 9] = NAN;
    check_failure(
        tarpon_w4_quantize(weight.data(), TARPON_F32, 64, 128, 128, codes.data(), scales.data()),
        TARPON_ERROR_INVALID_ARGUMENT, "weight[3, 9]", "NaN");
    weight[3 * 128 + 9] = 1e6f;
    check_failure(
        tarpon_w4_quantize(weight.data(), TARPON_F32, 64, 128, 128, codes.data(), scales.data()),
        TARPON_ERROR_INVALID_ARGUMENT, "65504", "overflow");
    check_failure(
        tarpon_w4_quantize(weight.data(), TARPON_I32, 64, 128, 128, codes.data(), scales.data()),
        TARPON_ERROR_INVALID_ARGUMENT, "I32", "dtype");
}

}  // namespace
}  // namespace tarpon::test
