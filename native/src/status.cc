#include "status.h"

#include <cstdio>

namespace tarpon {
namespace {

// Fixed storage, so that storing an error never allocates and can never fail itself.
constexpr size_t kErrorCapacityBytes = 2048;
thread_local char t_last_error[kErrorCapacityBytes] = "";

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
    std::vsnprintf(t_last_error, sizeof t_last_error, format, arguments);
    va_end(arguments);
    return status;
}

const char *last_error() {
    return t_last_error;
}

}  // namespace tarpon
