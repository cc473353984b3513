// The table occupancy.txt: shared memory of every kernel, and how many of its CTAs an SM holds on
// each architecture, by the registers of ptxas.txt and the limits of the architecture. The test
// makes it afresh and compares; with TARPON_UPDATE_TABLES set it writes the file.
//
// It also holds what select() counts on: that registers never leave room for fewer CTAs than the
// tile's blocks_per_sm.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "testing/test.h"
#include "w4_gemm/select.h"

namespace {

using namespace tarpon;
using namespace tarpon::testing;
using namespace tarpon::w4_gemm;

constexpr int kArchCount = 6;
constexpr int kArchs[kArchCount] = {80, 86, 89, 90, 100, 120};
constexpr int kThreads = 256;

// CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
constexpr int kRegisters = 65536, kReservedBytes = 1024;
constexpr int threads_of_sm(int arch) {
    return arch == 80 || arch == 90 || arch == 100 ? 2048 : 1536;
}

std::string read(const char *path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

// Format and tile of a name such as "sm80_w4_gemm_kernel<Sm80Config<Sm80Tile<8, 128, 128, 64>,
// Int4Float, true>, half_t>".
const TileShape &shape_of(const std::string &kernel) {
    int m = 0, k = 0, n = 0, warp_n = 0;
    char format[64] = {}, grouped[8] = {};
    const int found = std::sscanf(kernel.c_str(),
                                  "sm80_w4_gemm_kernel<Sm80Config<Sm80Tile<%d, %d, %d, %d>, "
                                  "%63[A-Za-z0-9], %7[a-z]>",
                                  &m, &k, &n, &warp_n, format, grouped);
    REQUIRE(found == 6, "not a kernel's name: %s", kernel.c_str());
    for (int id = 0; id < kFormatCount; ++id) {
        if (std::string(kFormats[id].name) != format) continue;
        for (int tile = 0; tile < kTileCount; ++tile) {
            const TileShape &shape =
                tile_shape(static_cast<FormatId>(id), std::string(grouped) == "true", tile);
            if (shape.block_m == m && shape.block_k == k && shape.block_n == n) return shape;
        }
    }
    REQUIRE(false, "no tile of the table is that of %s", kernel.c_str());
    std::abort();
}

TARPON_TEST(test_w4_gemm_occupancy_table_is_fresh) {
    std::istringstream registers(read(TARPON_PTXAS_TABLE));
    std::ostringstream table;
    table << "# Shared memory of each kernel in bytes (at most), and its CTAs on an SM of each "
             "architecture.\n"
             "bytes\tsm_80\t86\t89\t90a\t100\t120\tkernel\n";
    int kernels = 0;
    for (std::string line; std::getline(registers, line);) {
        if (line.empty() || line[0] != '\t') continue;
        std::istringstream row(line);
        int used[kArchCount];
        for (int &count : used)
            row >> count;
        std::string kernel;
        std::getline(row >> std::ws, kernel);
        const TileShape &shape = shape_of(kernel);
        table << shape.shared_bytes;
        for (int i = 0; i < kArchCount; ++i) {
            const int allocated = (used[i] + 7) / 8 * 8;
            const int by_registers = kRegisters / (allocated * kThreads);
            const int by_shared =
                1024 * arch_model(kArchs[i]).shared_kib / (shape.shared_bytes + kReservedBytes);
            const int blocks =
                std::min({by_registers, by_shared, threads_of_sm(kArchs[i]) / kThreads});
            CHECK(by_registers >= shape.blocks_per_sm, "sm_%d: %d registers leave room for %d: %s",
                  kArchs[i], used[i], by_registers, kernel.c_str());
            CHECK(blocks >= 1, "sm_%d: %s does not fit", kArchs[i], kernel.c_str());
            table << '\t' << blocks;
        }
        table << '\t' << kernel << '\n';
        ++kernels;
    }
    CHECK(kernels > 0, "no kernels in %s", TARPON_PTXAS_TABLE);
    if (std::getenv("TARPON_UPDATE_TABLES")) std::ofstream(TARPON_OCCUPANCY_TABLE) << table.str();
    CHECK(read(TARPON_OCCUPANCY_TABLE) == table.str(),
          "%s is stale: run this test once with TARPON_UPDATE_TABLES=1", TARPON_OCCUPANCY_TABLE);
}

}  // namespace
