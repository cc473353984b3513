// Tensors of an optimizer in device memory with a mirror on the host, for tests through the C ABI.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "abi_support.h"
#include "tarpon.h"
#include "testing/test.h"

namespace tarpon::test {

struct OptimCloser {
    void operator()(tarpon_optim *optim) const { tarpon_optim_destroy(optim); }
};
using OwnedOptim = std::unique_ptr<tarpon_optim, OptimCloser>;

#define REQUIRE_OK(call)                                                     \
    do {                                                                     \
        const tarpon_status status_ = (call);                                \
        REQUIRE(status_ == TARPON_OK, "%s: %s", #call, tarpon_last_error()); \
    } while (0)

// Device memory of `bytes`, followed by a guard that nothing may write to.
class DeviceArray {
  public:
    DeviceArray() = default;
    DeviceArray(tarpon_device *device, size_t bytes, const void *content = nullptr)
        : device_(device), bytes_(bytes) {
        tarpon_buffer *buffer = nullptr;
        REQUIRE_OK(tarpon_buffer_create(device, bytes + kGuardBytes, &buffer));
        buffer_.reset(buffer);
        std::vector<uint8_t> start(bytes + kGuardBytes, kGuard);
        std::memset(start.data(), 0, bytes);
        if (content) std::memcpy(start.data(), content, bytes);
        REQUIRE_OK(tarpon_copy_to_device(device, address(), start.data(), start.size(), nullptr));
    }

    void *address() const { return buffer_ ? tarpon_buffer_address(buffer_.get()) : nullptr; }
    size_t bytes() const { return bytes_; }

    void write(const void *content) {
        REQUIRE_OK(tarpon_copy_to_device(device_, address(), content, bytes_, nullptr));
    }
    // The content; checks the guard.
    std::vector<uint8_t> read() const {
        if (!buffer_) return {};
        std::vector<uint8_t> all(bytes_ + kGuardBytes);
        REQUIRE_OK(tarpon_copy_to_host(device_, all.data(), address(), all.size(), nullptr));
        for (size_t i = bytes_; i < all.size(); ++i)
            CHECK(all[i] == kGuard, "byte %zu after an array of %zu was written", i - bytes_,
                  bytes_);
        all.resize(bytes_);
        return all;
    }
    template <class T>
    std::vector<T> read_as() const {
        const std::vector<uint8_t> raw = read();
        std::vector<T> values(raw.size() / sizeof(T));
        if (!raw.empty()) std::memcpy(values.data(), raw.data(), raw.size());
        return values;
    }

  private:
    static constexpr size_t kGuardBytes = 64;
    static constexpr uint8_t kGuard = 0xa5;

    tarpon_device *device_ = nullptr;
    size_t bytes_ = 0;
    Owned<tarpon_buffer> buffer_;
};

struct TensorSpec {
    int64_t n = 1000;
    tarpon_dtype param = TARPON_F32, grad = TARPON_F32;
    tarpon_state_format format = TARPON_STATE_DYNAMIC8;
    int64_t columns = 1;
    int32_t flags = 0;
    bool copy = false;  // a BF16 copy
    double lr_factor = 1, decay_factor = 1;
};

inline std::vector<uint8_t> rounded(const std::vector<float> &values, tarpon_dtype dtype) {
    std::vector<uint8_t> out(values.size() * dtype_bytes(dtype));
    for (size_t i = 0; i < values.size(); ++i)
        store(out.data(), dtype, int64_t(i), values[i]);
    return out;
}

inline std::vector<float> widened(const std::vector<uint8_t> &raw, tarpon_dtype dtype) {
    std::vector<float> out(raw.size() / dtype_bytes(dtype));
    for (size_t i = 0; i < out.size(); ++i)
        out[i] = load(raw.data(), dtype, int64_t(i));
    return out;
}

// One tensor with its states, which start as zeros.
struct OptimTensor {
    TensorSpec spec;
    DeviceArray param, grad, copy;
    DeviceArray state[3], absmax[3];

    OptimTensor(tarpon_device *device, tarpon_optim_rule rule, const TensorSpec &s,
                const std::vector<float> &p)
        : spec(s),
          param(device, size_t(s.n) * dtype_bytes(s.param), rounded(p, s.param).data()),
          grad(device, size_t(s.n) * dtype_bytes(s.grad)) {
        if (s.copy) copy = DeviceArray(device, size_t(s.n) * 2);
        for (int slot = 0; slot < 3; ++slot) {
            size_t state_bytes, absmax_bytes;
            REQUIRE_OK(tarpon_optim_state_bytes(rule, s.format, s.flags, s.n, slot, &state_bytes,
                                                &absmax_bytes));
            if (state_bytes > 0) state[slot] = DeviceArray(device, state_bytes);
            if (absmax_bytes > 0) absmax[slot] = DeviceArray(device, absmax_bytes);
        }
    }

    void set_grad(const std::vector<float> &g) { grad.write(rounded(g, spec.grad).data()); }
    std::vector<float> params() const { return widened(param.read(), spec.param); }

    tarpon_optim_tensor describe() const {
        tarpon_optim_tensor t{};
        t.struct_size = sizeof t;
        t.flags = spec.flags;
        t.param_dtype = spec.param;
        t.grad_dtype = spec.grad;
        t.copy_dtype = TARPON_BF16;
        t.state_format = spec.format;
        t.n = spec.n;
        t.columns = spec.columns;
        t.lr_factor = spec.lr_factor;
        t.decay_factor = spec.decay_factor;
        t.param = param.address();
        t.grad = grad.address();
        t.copy = copy.address();
        for (int slot = 0; slot < 3; ++slot) {
            t.state[slot] = state[slot].address();
            t.absmax[slot] = static_cast<float *>(absmax[slot].address());
        }
        return t;
    }
};

// A device, or on the CPU one of its variants, that tests run on.
struct OptimTarget {
    Owned<tarpon_device> device;
    std::string name;
    const char *variant = nullptr;
    bool slow = false;  // the simulator: fewer and smaller cases
};

inline OwnedOptim make_optim(const OptimTarget &target, tarpon_optim_rule rule,
                             const std::vector<OptimTensor *> &tensors) {
    std::vector<tarpon_optim_tensor> list;
    for (const OptimTensor *tensor : tensors)
        list.push_back(tensor->describe());
    tarpon_optim_desc desc{};
    desc.struct_size = sizeof desc;
    desc.rule = rule;
    desc.tensor_count = int64_t(list.size());
    desc.tensors = list.data();
    desc.variant = target.variant;
    tarpon_optim *optim = nullptr;
    REQUIRE_OK(tarpon_optim_create(target.device.get(), &desc, &optim));
    return OwnedOptim(optim);
}

inline tarpon_optim_step_args default_args(tarpon_optim_rule rule) {
    tarpon_optim_step_args args{};
    args.struct_size = sizeof args;
    REQUIRE_OK(tarpon_optim_default_args(rule, &args));
    return args;
}

inline tarpon_optim_counters counters_of(const OwnedOptim &optim) {
    tarpon_optim_counters counters{};
    counters.struct_size = sizeof counters;
    REQUIRE_OK(tarpon_optim_get_counters(optim.get(), &counters, nullptr));
    return counters;
}

// Every device that has the optimizers here; on the CPU, every variant it has. Names the others.
inline std::vector<OptimTarget> optim_targets() {
    std::vector<OptimTarget> targets;
    for (const DeviceKind &kind : kDeviceKinds) {
        const bool cpu = kind.kind == TARPON_DEVICE_CPU;
        for (const char *variant : {"cpu_avx512", "cpu_avx2", "cpu_scalar"}) {
            OptimTarget target;
            std::string reason;
            target.device = open_device(kind.kind, &reason);
            target.name = kind.name;
            target.slow = kind.kind == TARPON_DEVICE_SIM;
            if (cpu) {
                target.variant = variant;
                target.name += std::string(" ") + variant;
            }
            if (target.device) {
                float p = 0, g = 0, s = 0;
                tarpon_optim_tensor t{};
                t.struct_size = sizeof t;
                t.n = 1;
                t.param = &p;
                t.grad = &g;
                t.state[0] = t.state[1] = &s;
                tarpon_optim_desc desc{sizeof desc, TARPON_OPTIM_SGD, 1, &t, target.variant};
                tarpon_optim *probe = nullptr;
                if (tarpon_optim_create(target.device.get(), &desc, &probe) != TARPON_OK) {
                    reason = tarpon_last_error();
                    target.device.reset();
                }
                tarpon_optim_destroy(probe);
            }
            if (target.device) {
                targets.push_back(std::move(target));
            } else {
                std::printf("SKIPPED: optimizers on %s: %s\n", target.name.c_str(), reason.c_str());
            }
            if (!cpu) break;
        }
    }
    return targets;
}

inline const std::vector<OptimTarget> &targets() {
    static const std::vector<OptimTarget> all = optim_targets();
    return all;
}

inline std::vector<float> normal_values(int64_t n, float sigma, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, sigma);
    std::vector<float> values(static_cast<size_t>(n));
    for (float &value : values)
        value = normal(random);
    return values;
}

}  // namespace tarpon::test
