#include "status.h"

#include <cstdio>

namespace tarpon {
namespace {

// Fixed storage, so that storing an error never allocates and can never fail itself.
constexpr size_t kErrorCapacityBytes = 2048;
thread_local char t_last_error[kErrorCapacityBytes] = "";
ErrorStorage error_storage = own_error_storage;

std::string format_message(const char *format, va_list arguments) {
    char text[kErrorCapacityBytes];
    std::vsnprintf(text, sizeof text, format, arguments);
    return text;
}

}  // namespace

void fail(tarpon_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::string message = format_message(format, arguments);
    va_end(arguments);
    throw Error(status, std::move(message));
}

tarpon_status set_error(tarpon_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(error_storage(), kErrorCapacityBytes, format, arguments);
    va_end(arguments);
    return status;
}

const char *last_error() {
    return error_storage();
}

char *own_error_storage() {
    return t_last_error;
}

void set_error_storage(ErrorStorage storage) {
    error_storage = storage;
}

}  // namespace tarpon
