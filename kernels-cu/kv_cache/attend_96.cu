#include "kv_cache/attend.cuh"

namespace tarpon::kv_cache {

AttendKernel attend_kernel_96() {
    return attend_kernel<96, 1>();
}

}  // namespace tarpon::kv_cache
