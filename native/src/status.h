// Failures inside libtarpon: an exception that carries a status and a message. It is thrown in the
// cold paths only and caught in abi.cc, which turns it into a status and the thread's last error.
#pragma once

#include <cstdarg>
#include <exception>
#include <string>

#include "tarpon.h"

namespace tarpon {

class Error : public std::exception {
  public:
    Error(tarpon_status status, std::string message)
        : status_(status), message_(std::move(message)) {}
    tarpon_status status() const noexcept { return status_; }
    const char *what() const noexcept override { return message_.c_str(); }

  private:
    tarpon_status status_;
    std::string message_;
};

// printf-style; the message should name the offending values and what to do next.
[[noreturn, gnu::format(printf, 2, 3)]] void fail(tarpon_status status, const char *format, ...);

// For the hot paths, which do not throw: stores the thread's last error and returns `status`.
[[gnu::format(printf, 2, 3)]] tarpon_status set_error(tarpon_status status, const char *format,
                                                      ...);

const char *last_error();

// Where set_error() writes: fixed storage of the calling thread. The simulator plug-in has a copy of
// status.cc, and is told to write into libtarpon's storage, which tarpon_last_error() reads.
using ErrorStorage = char *(*)();
char *own_error_storage();
void set_error_storage(ErrorStorage storage);

}  // namespace tarpon
