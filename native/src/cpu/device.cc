#include "cpu/device.h"

#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "cpu/hadamard.h"
#include "cpu/kv_plan.h"
#include "cpu/linear.h"
#include "cpu/memory.h"
#include "cpu/optim_plan.h"

namespace tarpon {
namespace cpu {
namespace {

// Far above any machine; keeps a wild thread_count from exhausting the system.
constexpr int kMaxThreads = 4096;

// A run has finished when it returns, so that there is nothing to order or to wait for.
class CpuStream final : public Stream {
  public:
    void synchronize() override {}
    void *native_handle() const override { return nullptr; }
};

class CpuBackend final : public Backend {
  public:
    int device_count() override { return 1; }
    std::string unavailable_reason() override { return ""; }

    std::unique_ptr<Device> open(int ordinal, const tarpon_device_options &options) override {
        if (ordinal != 0) {
            fail(TARPON_ERROR_DEVICE_UNAVAILABLE,
                 "cpu:%d does not exist: all processors are the one device cpu:0", ordinal);
        }
        if (options.thread_count < 0 || options.thread_count > kMaxThreads) {
            fail(TARPON_ERROR_INVALID_ARGUMENT,
                 "options->thread_count is %d; it must be 1..%d, or 0 for one thread for each "
                 "processor this process may use",
                 options.thread_count, kMaxThreads);
        }
        const int threads =
            options.thread_count ? options.thread_count : ThreadPool::available_processors();
        return std::make_unique<CpuDevice>(choose_isa(), threads);
    }
};

}  // namespace

CpuDevice::CpuDevice(Isa isa, int thread_count)
    : isa_(isa), name_(processor_name()), pool_(thread_count) {}

void CpuDevice::info(tarpon_device_info &out) const {
    out.kind = TARPON_DEVICE_CPU;
    out.ordinal = 0;
    out.compute_capability = 0;
    out.processor_count = pool_.thread_count();
    out.reserved = 0;
    out.memory_bytes = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                       static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    std::snprintf(out.name, sizeof out.name, "%s", name_.c_str());
    std::snprintf(out.isa, sizeof out.isa, "%s", isa_name(isa_));
}

void *CpuDevice::allocate(size_t size_bytes) {
    return allocate_memory(size_bytes).release();
}

void CpuDevice::free(void *address) noexcept {
    FreeMemory{}(address);
}

void CpuDevice::copy_to_device(void *dst, const void *host_src, size_t bytes, Stream *) {
    if (bytes > 0) std::memmove(dst, host_src, bytes);
}

void CpuDevice::copy_to_host(void *host_dst, const void *src, size_t bytes, Stream *) {
    if (bytes > 0) std::memmove(host_dst, src, bytes);
}

std::unique_ptr<Stream> CpuDevice::create_stream() {
    return std::make_unique<CpuStream>();
}

std::unique_ptr<Stream> CpuDevice::wrap_stream(void *native_handle) {
    if (native_handle) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "cu_stream is %p; on the CPU it must be NULL",
             native_handle);
    }
    return create_stream();
}

const std::vector<LinearVariant> &CpuDevice::linear_variants() const {
    return cpu::linear_variants();
}

const std::vector<OptimVariant> &CpuDevice::optim_variants() const {
    return cpu::optim_variants();
}

tarpon_status CpuDevice::blockwise_quantize(const BlockwiseArgs &args) noexcept {
    run_quantize(isa_, pool_, args);
    return TARPON_OK;
}

tarpon_status CpuDevice::blockwise_dequantize(const BlockwiseArgs &args) noexcept {
    run_dequantize(isa_, pool_, args);
    return TARPON_OK;
}

std::unique_ptr<KvPlan> CpuDevice::create_kv(const KvProblem &problem) {
    return std::make_unique<KvCpuPlan>(*this, problem);
}

tarpon_status CpuDevice::hadamard(const HadamardArgs &args) noexcept {
    run_hadamard(isa_, pool_, args);
    return TARPON_OK;
}

}  // namespace cpu

Backend &cpu_backend() {
    static cpu::CpuBackend backend;
    return backend;
}

}  // namespace tarpon
