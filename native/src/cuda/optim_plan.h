// The optimizers on a GPU or the simulator; called by backend.cc.
#pragma once

#include <memory>
#include <vector>

#include "backend.h"
#include "optim.h"

namespace tarpon::gpu {

const std::vector<OptimVariant> &optim_variants();

// The maps of all kinds in a device's memory, for the block-wise operations.
class DeviceMaps {
  public:
    explicit DeviceMaps(Device &device);
    ~DeviceMaps();
    DeviceMaps(const DeviceMaps &) = delete;
    DeviceMaps &operator=(const DeviceMaps &) = delete;

    const optim::CodeMap *map(optim::MapKind kind) const {
        return static_cast<const optim::CodeMap *>(address_) + static_cast<int>(kind);
    }

  private:
    Device &device_;
    void *address_;
};

// The caller has made the device current.
tarpon_status run_blockwise(const BlockwiseArgs &args, const DeviceMaps &maps, int multiprocessors,
                            bool quantize) noexcept;

}  // namespace tarpon::gpu
