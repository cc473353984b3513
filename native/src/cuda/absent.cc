// CUDA's backend in a build without nvcc: there, and saying why it cannot serve.
#include "backend.h"

namespace tarpon {
namespace {

class AbsentCuda : public Backend {
  public:
    int device_count() override { return 0; }
    std::string unavailable_reason() override {
        return "this build of libtarpon has no CUDA kernels, because nvcc was not found when it "
               "was built; install the CUDA toolkit 12.8 or newer, put nvcc on PATH and rebuild";
    }
    std::unique_ptr<Device> open(int, const tarpon_device_options &) override {
        fail(TARPON_ERROR_DEVICE_UNAVAILABLE, "no cuda device: %s", unavailable_reason().c_str());
    }
};

}  // namespace

Backend &cuda_backend() {
    static AbsentCuda absent;
    return absent;
}

}  // namespace tarpon
