// Operands in device memory between guards, runs of a linear plan over them, and the accuracy that
// is asked of it.
#pragma once

#include <algorithm>

#include "abi_support.h"
#include "testing/test.h"

namespace tarpon::test {

inline constexpr size_t kGuardBytes = 512;

// An operand in device memory between guards, all of it NaN (0xff) until written.
class DeviceArray {
  public:
    DeviceArray(tarpon_device *device, size_t size_bytes) : device_(device), size_(size_bytes) {
        tarpon_buffer *buffer = nullptr;
        REQUIRE(tarpon_buffer_create(device, size_ + 2 * kGuardBytes, &buffer) == TARPON_OK, "%s",
                tarpon_last_error());
        buffer_.reset(buffer);
        poison();
    }
    char *address() const {
        return static_cast<char *>(tarpon_buffer_address(buffer_.get())) + kGuardBytes;
    }
    size_t size() const { return size_; }

    void poison() const {
        const std::vector<char> nan(size_ + 2 * kGuardBytes, '\xff');
        copy_in(nan.data(), nan.size(), -static_cast<std::ptrdiff_t>(kGuardBytes));
    }
    void copy_in(const void *host, size_t bytes, std::ptrdiff_t offset = 0) const {
        REQUIRE(
            tarpon_copy_to_device(device_, address() + offset, host, bytes, nullptr) == TARPON_OK,
            "%s", tarpon_last_error());
    }
    // Its contents, after checking that the guards are as they were.
    std::vector<char> read() const {
        std::vector<char> all(size_ + 2 * kGuardBytes);
        REQUIRE(tarpon_copy_to_host(device_, all.data(), address() - kGuardBytes, all.size(),
                                    nullptr) == TARPON_OK,
                "%s", tarpon_last_error());
        for (size_t i = 0; i < kGuardBytes; ++i) {
            REQUIRE(all[i] == '\xff' && all[kGuardBytes + size_ + i] == '\xff',
                    "written outside, %zu bytes from an edge", i);
        }
        return {all.begin() + kGuardBytes, all.end() - kGuardBytes};
    }

  private:
    tarpon_device *device_;
    size_t size_;
    Owned<tarpon_buffer> buffer_;
};

// The bars of the project, and the relative rounding of one stored result.
inline double mean_bar(tarpon_dtype dtype) {
    return dtype == TARPON_BF16 ? 2e-3 : 5e-4;
}
inline double rounding(tarpon_dtype dtype) {
    return dtype == TARPON_F32 ? 0x1p-24 : dtype == TARPON_F16 ? 0x1p-11 : 0x1p-8;
}

// What a run leaves in y, checked for guards, with y and workspace full of NaN before. residual: of
// y's size; null for none. in_place: y holds the residual before the run.
inline std::vector<char> run_linear(tarpon_device *device, const tarpon_linear *linear,
                                    const DeviceArray &x, int64_t m, int64_t n, tarpon_dtype dtype,
                                    const std::vector<char> *residual = nullptr,
                                    bool in_place = false) {
    size_t workspace_bytes = 0;
    REQUIRE(tarpon_linear_workspace_bytes(linear, m, &workspace_bytes) == TARPON_OK, "%s",
            tarpon_last_error());
    const size_t y_bytes = m * n * dtype_bytes(dtype);
    const DeviceArray y(device, y_bytes), added(device, y_bytes);
    const DeviceArray workspace(device, std::max<size_t>(workspace_bytes, 256));
    const char *addend = nullptr;
    if (residual) {
        const DeviceArray &target = in_place ? y : added;
        target.copy_in(residual->data(), y_bytes);
        addend = target.address();
    }
    REQUIRE(tarpon_linear_run_residual(linear, x.address(), addend, y.address(), m,
                                       workspace.address(), workspace_bytes, nullptr) == TARPON_OK,
            "%s", tarpon_last_error());
    (void)workspace.read();  // its guards
    return y.read();
}

}  // namespace tarpon::test
