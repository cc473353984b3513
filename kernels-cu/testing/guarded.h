// Host memory between guards, filled with NaN: what is written outside, or never written inside,
// shows. For kernels on the CPU; device_buffer.h is the same for device memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

namespace tarpon::testing {

inline constexpr unsigned char kPoison = 0xff;  // NaN in binary16, bfloat16 and binary32
inline constexpr size_t kGuardBytes = 256;

inline bool is_poison(const unsigned char *bytes, size_t count) {
    return std::all_of(bytes, bytes + count, [](unsigned char b) { return b == kPoison; });
}

template <class T>
class GuardedBuffer {
  public:
    explicit GuardedBuffer(size_t count)
        : bytes_(2 * kGuardBytes + count * sizeof(T) + kAlignment, kPoison), count_(count) {
        const auto start = uintptr_t(bytes_.data()) + kGuardBytes;
        offset_ = kGuardBytes + (kAlignment - start % kAlignment) % kAlignment;
    }
    explicit GuardedBuffer(std::span<const T> values) : GuardedBuffer(values.size()) {
        std::copy(values.begin(), values.end(), data());
    }
    GuardedBuffer(const GuardedBuffer &) = delete;  // the guards belong to the address
    GuardedBuffer &operator=(const GuardedBuffer &) = delete;

    T *data() { return reinterpret_cast<T *>(bytes_.data() + offset_); }
    const T *data() const { return reinterpret_cast<const T *>(bytes_.data() + offset_); }
    size_t size() const { return count_; }
    T &operator[](size_t i) { return data()[i]; }
    std::span<const T> span() const { return {data(), count_}; }

    // Whether nothing was written before or behind.
    bool guards_intact() const {
        const size_t end = offset_ + count_ * sizeof(T);
        return is_poison(bytes_.data(), offset_) &&
               is_poison(bytes_.data() + end, bytes_.size() - end);
    }

  private:
    static constexpr size_t kAlignment = 64;

    std::vector<unsigned char> bytes_;
    size_t count_;
    size_t offset_;
};

}  // namespace tarpon::testing
