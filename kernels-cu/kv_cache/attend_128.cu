#include "kv_cache/attend.cuh"

namespace tarpon::kv_cache {

AttendKernel attend_kernel_128(Scheme scheme, int row_tiles) {
    if (scheme == Scheme::kTarpon) {
        return row_tiles == 1 ? attend_kernel<128, 1, Scheme::kTarpon>()
                              : attend_kernel<128, 2, Scheme::kTarpon>();
    }
    return row_tiles == 1 ? attend_kernel<128, 1, Scheme::kRotatekv>()
                          : attend_kernel<128, 2, Scheme::kRotatekv>();
}

}  // namespace tarpon::kv_cache
