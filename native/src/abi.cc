// extern "C": check pointers, call, turn every failure into a status. Nothing else happens here.
#include <cstring>

#include "abi_guard.h"
#include "linear.h"
#include "registry.h"

using tarpon::fail;
using tarpon::abi::guarded;
using tarpon::abi::impl_or_null;
using tarpon::abi::read_struct;
using tarpon::abi::required;
using tarpon::abi::write_struct;

struct tarpon_buffer {
    tarpon::Device *device;
    void *address;
    size_t size_bytes;
    bool owned;
};

struct tarpon_linear {
    std::unique_ptr<tarpon::LinearPlan> impl;
    const char *variant;
};

extern "C" {

#define TARPON_STRINGIFY_(x) #x
#define TARPON_STRINGIFY(x) TARPON_STRINGIFY_(x)

const char *tarpon_version(void) {
    return TARPON_STRINGIFY(TARPON_VERSION_MAJOR) "." TARPON_STRINGIFY(
        TARPON_VERSION_MINOR) "." TARPON_STRINGIFY(TARPON_VERSION_PATCH);
}

int32_t tarpon_abi_version(void) {
    return TARPON_ABI_VERSION;
}

const char *tarpon_status_name(tarpon_status status) {
    switch (status) {
        case TARPON_OK:
            return "TARPON_OK";
        case TARPON_ERROR_INVALID_ARGUMENT:
            return "TARPON_ERROR_INVALID_ARGUMENT";
        case TARPON_ERROR_UNSUPPORTED:
            return "TARPON_ERROR_UNSUPPORTED";
        case TARPON_ERROR_OUT_OF_MEMORY:
            return "TARPON_ERROR_OUT_OF_MEMORY";
        case TARPON_ERROR_DEVICE_UNAVAILABLE:
            return "TARPON_ERROR_DEVICE_UNAVAILABLE";
        case TARPON_ERROR_CUDA:
            return "TARPON_ERROR_CUDA";
        case TARPON_ERROR_INTERNAL:
            return "TARPON_ERROR_INTERNAL";
    }
    return "TARPON_ERROR_UNKNOWN";
}

const char *tarpon_last_error(void) {
    return tarpon::last_error();
}

// ---- Devices

tarpon_status tarpon_device_count(tarpon_device_kind kind, int32_t *out_count) {
    return guarded([&] {
        required(out_count, "out_count");
        *out_count = tarpon::backend(kind).device_count();
    });
}

tarpon_status tarpon_device_unavailable_reason(tarpon_device_kind kind, char *out_text,
                                               size_t capacity_bytes) {
    return guarded([&] {
        required(out_text, "out_text");
        if (capacity_bytes == 0) fail(TARPON_ERROR_INVALID_ARGUMENT, "capacity_bytes is 0");
        std::string reason = tarpon::backend(kind).unavailable_reason();
        size_t length = reason.size() < capacity_bytes ? reason.size() : capacity_bytes - 1;
        std::memcpy(out_text, reason.data(), length);
        out_text[length] = '\0';
    });
}

tarpon_status tarpon_device_open(tarpon_device_kind kind, int32_t ordinal,
                                 const tarpon_device_options *options, tarpon_device **out_device) {
    return guarded([&] {
        required(out_device, "out_device");
        tarpon_device_options known{};
        if (options) known = read_struct(options, "options");
        tarpon::Backend &backend = tarpon::backend(kind);
        int count = backend.device_count();
        if (count == 0) {
            fail(TARPON_ERROR_DEVICE_UNAVAILABLE, "no %s device: %s",
                 tarpon::device_kind_name(kind), backend.unavailable_reason().c_str());
        }
        if (ordinal < 0 || ordinal >= count) {
            fail(TARPON_ERROR_DEVICE_UNAVAILABLE, "device %s:%d does not exist; there %s %d",
                 tarpon::device_kind_name(kind), ordinal, count == 1 ? "is" : "are", count);
        }
        *out_device = new tarpon_device{backend.open(ordinal, known)};
    });
}

tarpon_status tarpon_device_get_info(const tarpon_device *device, tarpon_device_info *out_info) {
    return guarded([&] {
        required(device, "device");
        tarpon_device_info info{};
        device->impl->info(info);
        write_struct(info, out_info, "out_info");
    });
}

void tarpon_device_close(tarpon_device *device) {
    delete device;
}

// ---- Streams

tarpon_status tarpon_stream_create(tarpon_device *device, tarpon_stream **out_stream) {
    return guarded([&] {
        required(device, "device");
        required(out_stream, "out_stream");
        *out_stream = new tarpon_stream{device->impl->create_stream()};
    });
}

tarpon_status tarpon_stream_wrap(tarpon_device *device, void *cu_stream,
                                 tarpon_stream **out_stream) {
    return guarded([&] {
        required(device, "device");
        required(out_stream, "out_stream");
        *out_stream = new tarpon_stream{device->impl->wrap_stream(cu_stream)};
    });
}

tarpon_status tarpon_stream_synchronize(tarpon_stream *stream) {
    return guarded([&] { required(stream, "stream").impl->synchronize(); });
}

void tarpon_stream_destroy(tarpon_stream *stream) {
    delete stream;
}

// ---- Memory

tarpon_status tarpon_buffer_create(tarpon_device *device, size_t size_bytes,
                                   tarpon_buffer **out_buffer) {
    return guarded([&] {
        required(device, "device");
        required(out_buffer, "out_buffer");
        if (size_bytes == 0) fail(TARPON_ERROR_INVALID_ARGUMENT, "size_bytes is 0");
        tarpon::Device *impl = device->impl.get();
        auto buffer = std::make_unique<tarpon_buffer>(tarpon_buffer{impl, nullptr, 0, true});
        buffer->address = impl->allocate(size_bytes);
        buffer->size_bytes = size_bytes;
        *out_buffer = buffer.release();
    });
}

tarpon_status tarpon_buffer_wrap(tarpon_device *device, void *address, size_t size_bytes,
                                 tarpon_buffer **out_buffer) {
    return guarded([&] {
        required(device, "device");
        required(static_cast<char *>(address), "address");
        required(out_buffer, "out_buffer");
        if (size_bytes == 0) fail(TARPON_ERROR_INVALID_ARGUMENT, "size_bytes is 0");
        *out_buffer = new tarpon_buffer{device->impl.get(), address, size_bytes, false};
    });
}

void *tarpon_buffer_address(const tarpon_buffer *buffer) {
    return buffer ? buffer->address : nullptr;
}

size_t tarpon_buffer_size_bytes(const tarpon_buffer *buffer) {
    return buffer ? buffer->size_bytes : 0;
}

void tarpon_buffer_destroy(tarpon_buffer *buffer) {
    if (!buffer) return;
    if (buffer->owned) buffer->device->free(buffer->address);
    delete buffer;
}

tarpon_status tarpon_copy_to_device(tarpon_device *device, void *device_dst, const void *host_src,
                                    size_t size_bytes, tarpon_stream *stream) {
    return guarded([&] {
        required(device, "device");
        if (size_bytes == 0) return;
        required(static_cast<char *>(device_dst), "device_dst");
        required(static_cast<const char *>(host_src), "host_src");
        device->impl->copy_to_device(device_dst, host_src, size_bytes, impl_or_null(stream));
    });
}

tarpon_status tarpon_copy_to_host(tarpon_device *device, void *host_dst, const void *device_src,
                                  size_t size_bytes, tarpon_stream *stream) {
    return guarded([&] {
        required(device, "device");
        if (size_bytes == 0) return;
        required(static_cast<char *>(host_dst), "host_dst");
        required(static_cast<const char *>(device_src), "device_src");
        device->impl->copy_to_host(host_dst, device_src, size_bytes, impl_or_null(stream));
    });
}

// ---- 4-bit weights on the host

tarpon_status tarpon_w4_quantize(const void *weight, tarpon_dtype weight_dtype, int64_t n,
                                 int64_t k, int32_t group_size, uint8_t *out_codes,
                                 uint16_t *out_scales) {
    return guarded([&] {
        required(static_cast<const char *>(weight), "weight");
        required(out_codes, "out_codes");
        required(out_scales, "out_scales");
        tarpon::w4_quantize(weight, weight_dtype, n, k, group_size, out_codes, out_scales);
    });
}

tarpon_status tarpon_w4_dequantize(const uint8_t *codes, const uint16_t *scales, int64_t n,
                                   int64_t k, int32_t group_size, float *out_weight) {
    return guarded([&] {
        required(codes, "codes");
        required(scales, "scales");
        required(out_weight, "out_weight");
        tarpon::w4_dequantize(codes, scales, n, k, group_size, out_weight);
    });
}

tarpon_status tarpon_marlin_size(int64_t n, int64_t k, int32_t group_size,
                                 size_t *out_qweight_bytes, size_t *out_scales_bytes) {
    return guarded([&] {
        required(out_qweight_bytes, "out_qweight_bytes");
        required(out_scales_bytes, "out_scales_bytes");
        tarpon::marlin_size_bytes(n, k, group_size, out_qweight_bytes, out_scales_bytes);
    });
}

tarpon_status tarpon_marlin_pack(const uint8_t *codes, const uint16_t *scales, int64_t n, int64_t k,
                                 int32_t group_size, int32_t *out_qweight,
                                 uint16_t *out_scales_packed) {
    return guarded([&] {
        required(codes, "codes");
        required(scales, "scales");
        required(out_qweight, "out_qweight");
        required(out_scales_packed, "out_scales_packed");
        tarpon::marlin_pack(codes, scales, n, k, group_size, out_qweight, out_scales_packed);
    });
}

tarpon_status tarpon_marlin_unpack(const int32_t *qweight, const uint16_t *scales_packed, int64_t n,
                                   int64_t k, int32_t group_size, uint8_t *out_codes,
                                   uint16_t *out_scales) {
    return guarded([&] {
        required(qweight, "qweight");
        required(scales_packed, "scales_packed");
        required(out_codes, "out_codes");
        required(out_scales, "out_scales");
        tarpon::marlin_unpack(qweight, scales_packed, n, k, group_size, out_codes, out_scales);
    });
}

// ---- Linear

tarpon_status tarpon_linear_create(tarpon_device *device, const tarpon_linear_desc *desc,
                                   const tarpon_linear_weights *weights,
                                   tarpon_linear **out_linear) {
    return guarded([&] {
        required(device, "device");
        required(out_linear, "out_linear");
        tarpon_linear_desc known_desc = read_struct(desc, "desc");
        tarpon_linear_weights known_weights = read_struct(weights, "weights");
        auto linear = std::make_unique<tarpon_linear>();
        linear->impl =
            tarpon::create_linear(*device->impl, known_desc, known_weights, &linear->variant);
        *out_linear = linear.release();
    });
}

tarpon_status tarpon_linear_create_fused(tarpon_device *device, const tarpon_linear_desc *desc,
                                         const tarpon_linear_weights *parts, int32_t part_count,
                                         tarpon_linear **out_linear) {
    return guarded([&] {
        if (part_count != 1) {
            fail(TARPON_ERROR_UNSUPPORTED, "part_count is %d; this build fuses 1 part", part_count);
        }
        tarpon_status status = tarpon_linear_create(device, desc, parts, out_linear);
        if (status != TARPON_OK) fail(status, "%s", tarpon::last_error());
    });
}

tarpon_status tarpon_linear_workspace_bytes(const tarpon_linear *linear, int64_t m,
                                            size_t *out_bytes) {
    return guarded([&] {
        required(linear, "linear");
        required(out_bytes, "out_bytes");
        if (m < 0) {
            fail(TARPON_ERROR_INVALID_ARGUMENT, "m is %lld; it must be >= 0",
                 static_cast<long long>(m));
        }
        *out_bytes = linear->impl->workspace_bytes(m);
    });
}

tarpon_status tarpon_linear_run_residual(const tarpon_linear *linear, const void *x,
                                         const void *residual, void *y, int64_t m, void *workspace,
                                         size_t workspace_bytes, tarpon_stream *stream) {
    if (!linear) return tarpon::set_error(TARPON_ERROR_INVALID_ARGUMENT, "linear is NULL");
    if (m == 0) return TARPON_OK;
    if (!x || !y || m < 0) {
        return tarpon::set_error(TARPON_ERROR_INVALID_ARGUMENT,
                                 "linear run: x is %p, y is %p, m is %lld; x and y must not be "
                                 "NULL and m must be >= 0",
                                 x, y, static_cast<long long>(m));
    }
    return linear->impl->run({x, y, m, workspace, workspace_bytes, impl_or_null(stream), residual});
}

tarpon_status tarpon_linear_run(const tarpon_linear *linear, const void *x, void *y, int64_t m,
                                void *workspace, size_t workspace_bytes, tarpon_stream *stream) {
    return tarpon_linear_run_residual(linear, x, nullptr, y, m, workspace, workspace_bytes, stream);
}

tarpon_status tarpon_linear_get_info(const tarpon_linear *linear, tarpon_linear_info *out_info) {
    return guarded([&] {
        required(linear, "linear");
        tarpon_linear_info info{};
        info.weights_bytes = linear->impl->weights_bytes();
        std::strncpy(info.variant, linear->variant, sizeof info.variant - 1);
        write_struct(info, out_info, "out_info");
    });
}

void tarpon_linear_destroy(tarpon_linear *linear) {
    delete linear;
}

}  // extern "C"
