// The simulator's backend: loads libtarpon-sim.so from the folder of this library. The plug-in is
// built for tests and is not part of a release, so its absence is an ordinary, explained state.
#include <dlfcn.h>

#include "backend.h"
#include "build_id.h"

namespace tarpon {
namespace {

constexpr const char *kPluginName = "libtarpon-sim.so";

class AbsentSim : public Backend {
  public:
    explicit AbsentSim(std::string reason) : reason_(std::move(reason)) {}
    int device_count() override { return 0; }
    std::string unavailable_reason() override { return reason_; }
    std::unique_ptr<Device> open(int, const tarpon_device_options &) override {
        fail(TARPON_ERROR_DEVICE_UNAVAILABLE, "no sim device: %s", reason_.c_str());
    }

  private:
    std::string reason_;
};

// Never unloaded: devices and plans of the plug-in may live until the process ends.
Backend *load_plugin(std::string &reason) {
    Dl_info self;
    if (!dladdr(reinterpret_cast<void *>(&load_plugin), &self) || !self.dli_fname) {
        reason = "the location of libtarpon.so is unknown";
        return nullptr;
    }
    std::string path(self.dli_fname);
    size_t slash = path.rfind('/');
    path = (slash == std::string::npos ? "./" : path.substr(0, slash + 1)) + kPluginName;
    void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *error = dlerror();
        reason = std::string("the simulator is for tests and was not found (") +
                 (error ? error : "unknown error") +
                 "); build Tarpon from source and load libtarpon.so from its build folder";
        return nullptr;
    }
    auto entry = reinterpret_cast<SimPluginEntry>(dlsym(library, kSimPluginSymbol));
    Backend *plugin = entry ? entry(kBuildId, own_error_storage) : nullptr;
    if (!plugin) {
        reason = path + " belongs to another build of Tarpon; rebuild both";
        dlclose(library);
    }
    return plugin;
}

}  // namespace

Backend &sim_backend() {
    static Backend *loaded = [] {
        std::string reason;
        Backend *plugin = load_plugin(reason);
        return plugin ? plugin : new AbsentSim(reason);
    }();
    return *loaded;
}

}  // namespace tarpon
