#include "kv_cache/attend.cuh"

namespace tarpon::kv_cache {

AttendKernel attend_kernel_64(int row_tiles) {
    return row_tiles == 1 ? attend_kernel<64, 1>() : attend_kernel<64, 2>();
}

}  // namespace tarpon::kv_cache
