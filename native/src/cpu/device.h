// The CPU as a device: host memory, streams that are always done, a thread pool and the
// instruction set that its plans are made for.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend.h"
#include "cpu/isa.h"
#include "cpu/thread_pool.h"

namespace tarpon::cpu {

class CpuDevice final : public Device {
  public:
    CpuDevice(Isa isa, int thread_count);

    void info(tarpon_device_info &out) const override;
    void *allocate(size_t size_bytes) override;
    void free(void *address) noexcept override;
    void copy_to_device(void *dst, const void *host_src, size_t bytes, Stream *stream) override;
    void copy_to_host(void *host_dst, const void *src, size_t bytes, Stream *stream) override;
    std::unique_ptr<Stream> create_stream() override;
    std::unique_ptr<Stream> wrap_stream(void *native_handle) override;
    const std::vector<LinearVariant> &linear_variants() const override;
    const std::vector<OptimVariant> &optim_variants() const override;
    tarpon_status blockwise_quantize(const BlockwiseArgs &args) noexcept override;
    tarpon_status blockwise_dequantize(const BlockwiseArgs &args) noexcept override;
    tarpon_status hadamard(const HadamardArgs &args) noexcept override;
    std::unique_ptr<KvPlan> create_kv(const KvProblem &problem) override;

    Isa isa() const noexcept { return isa_; }
    ThreadPool &pool() noexcept { return pool_; }

  private:
    const Isa isa_;
    const std::string name_;
    ThreadPool pool_;
};

}  // namespace tarpon::cpu
