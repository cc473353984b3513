// extern "C": check pointers, call, turn every failure into a status. Nothing else happens here.
#include <cstring>

#include "abi_guard.h"
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

}  // extern "C"
