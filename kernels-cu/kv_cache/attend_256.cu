#include "kv_cache/attend.cuh"

namespace tarpon::kv_cache {

AttendKernel attend_kernel_256(Scheme scheme) {
    return scheme == Scheme::kTarpon ? attend_kernel<256, 1, Scheme::kTarpon>()
                                     : attend_kernel<256, 1, Scheme::kRotatekv>();
}

}  // namespace tarpon::kv_cache
