// What every file of extern "C" functions (abi*.cc) shares: the handles of devices and streams, the
// conversion of exceptions into statuses, and the checks of pointers and of struct_size.
#pragma once

#include <cstring>
#include <exception>
#include <memory>
#include <new>

#include "backend.h"
#include "status.h"

struct tarpon_device {
    std::unique_ptr<tarpon::Device> impl;
};

struct tarpon_stream {
    std::unique_ptr<tarpon::Stream> impl;
};

namespace tarpon::abi {

// Runs `body` and turns what it throws into a status and the thread's last error.
template <class Body>
tarpon_status guarded(Body body) noexcept {
    try {
        body();
        return TARPON_OK;
    } catch (const Error &error) {
        return set_error(error.status(), "%s", error.what());
    } catch (const std::bad_alloc &) {
        return set_error(TARPON_ERROR_OUT_OF_MEMORY, "host memory is exhausted");
    } catch (const std::exception &error) {
        return set_error(TARPON_ERROR_INTERNAL, "unexpected failure: %s", error.what());
    } catch (...) {
        return set_error(TARPON_ERROR_INTERNAL, "unexpected failure of an unknown type");
    }
}

template <class T>
T &required(T *pointer, const char *name) {
    if (!pointer) fail(TARPON_ERROR_INVALID_ARGUMENT, "%s is NULL", name);
    return *pointer;
}

// Copies a caller's descriptor into the library's, by the rule of struct_size in tarpon.h. Every
// version's size is a multiple of the alignment; another one could end within a pointer.
template <class T>
T read_struct(const T *given, const char *name) {
    uint32_t size = required(given, name).struct_size;
    if (size < sizeof size || size > 4096 || size % alignof(T) != 0) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "%s->struct_size is %u; set it to sizeof, here %zu",
             name, size, sizeof(T));
    }
    const char *bytes = reinterpret_cast<const char *>(given);
    for (size_t i = sizeof(T); i < size; ++i) {
        if (bytes[i] != 0) {
            fail(TARPON_ERROR_UNSUPPORTED,
                 "%s has struct_size %u and uses fields past the %zu bytes that this library "
                 "(version %s) knows; update the library",
                 name, size, sizeof(T), tarpon_version());
        }
    }
    T known{};
    std::memcpy(&known, given, size < sizeof(T) ? size : sizeof(T));
    return known;
}

// Writes as much of `known` as the caller's struct has room for, and keeps its struct_size.
template <class T>
void write_struct(const T &known, T *out, const char *name) {
    uint32_t size = required(out, name).struct_size;
    if (size < 2 * sizeof size || size > 4096) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "%s->struct_size is %u; set it to sizeof, here %zu",
             name, size, sizeof(T));
    }
    std::memcpy(reinterpret_cast<char *>(out) + sizeof size,
                reinterpret_cast<const char *>(&known) + sizeof size,
                (size < sizeof(T) ? size : sizeof(T)) - sizeof size);
}

inline Stream *impl_or_null(tarpon_stream *stream) {
    return stream ? stream->impl.get() : nullptr;
}

}  // namespace tarpon::abi
