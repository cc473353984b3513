#include "kv_cache/attend.cuh"

namespace tarpon::kv_cache {

AttendKernel attend_kernel_256() {
    return attend_kernel<256, 1>();
}

}  // namespace tarpon::kv_cache
