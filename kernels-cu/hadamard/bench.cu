// Times the Hadamard transform on a GPU beside a copy: it reads and writes each element once.
//
//   hadamard_gpu_bench [--json FILE]
//
// testing/gpu_bench.cuh says how it is timed.
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>

#include "hadamard/launch.h"
#include "hadamard/matrix.h"
#include "testing/gpu_bench.cuh"

namespace {

using namespace tarpon;

struct Size {
    int base, power;
};
constexpr Size kSizes[] = {{1, 64},    {1, 128}, {1, 1024}, {1, 4096}, {1, 8192},
                           {1, 32768}, {12, 8},  {28, 128}, {28, 512}};
constexpr int64_t kRows[] = {1, 256, 4096};

class Bench {
  public:
    explicit Bench(const std::string &json) {
        if (!json.empty()) json_.open(json);
        testing::check(hadamard::prepare_device(), "prepare_device");
        copy_gbps_ = device_.copy_gbps();
        std::printf("%s, copy %.0f GB/s\n%7s %7s %5s %10s %8s %8s\n", device_.properties().name,
                    copy_gbps_, "n", "rows", "type", "us", "GB/s", "of copy");
    }

    template <class T>
    void run(const Size &size, int64_t rows, const char *type) {
        const int64_t n = int64_t{size.base} * size.power;
        if (hadamard::shared_bytes(size.base, size.power) >
            int(device_.properties().sharedMemPerBlockOptin)) {
            std::printf("%7lld is skipped: this GPU has too little shared memory\n", (long long)n);
            return;
        }
        const size_t bytes = sizeof(T) * size_t(rows * n);
        const int copies =
            device_.rotation(2 * bytes) < kMaxLaunches ? device_.rotation(2 * bytes) : kMaxLaunches;
        const testing::DeviceArray x(copies * bytes, testing::Fill::kHalf, 1),
            y(copies * bytes, testing::Fill::kHalf, 2);
        const double us = device_.time_us(copies, [&](int i) {
            testing::check(hadamard::run(reinterpret_cast<const T *>(x.data() + i * bytes),
                                         reinterpret_cast<T *>(y.data() + i * bytes), rows,
                                         size.base, size.power, 1.0f, device_.stream()),
                           "run");
        });
        const double gbps = 2 * double(bytes) / us / 1e3;
        std::printf("%7lld %7lld %5s %10.2f %8.0f %7.0f%%\n", (long long)n, (long long)rows, type,
                    us, gbps, 100 * gbps / copy_gbps_);
        if (json_.is_open()) {
            json_ << "{\"n\": " << n << ", \"rows\": " << rows << ", \"type\": \"" << type
                  << "\", \"us\": " << us << ", \"gbps\": " << gbps
                  << ", \"copy_gbps\": " << copy_gbps_ << "}\n";
        }
    }

  private:
    // Of a graph: single rows would want a hundred thousand to fill the L2. Theirs stay in it.
    static constexpr int kMaxLaunches = 1024;

    testing::BenchDevice device_;
    double copy_gbps_ = 0;
    std::ofstream json_;
};

std::string parse(int argc, char **argv) {
    if (argc == 1) return "";
    if (argc != 3 || std::string(argv[1]) != "--json")
        throw std::runtime_error(std::string("unknown arguments from ") + argv[1] +
                                 "; there is --json FILE");
    return argv[2];
}

}  // namespace

int main(int argc, char **argv) {
    try {
        const std::string json = parse(argc, argv);
        if (!tarpon::testing::BenchDevice::exists()) {
            std::printf("skipped: there is no CUDA device\n");
            return 77;
        }
        Bench bench(json);
        for (const Size &size : kSizes) {
            for (const int64_t rows : kRows) {
                bench.run<half_t>(size, rows, "f16");
                bench.run<float>(size, rows, "f32");
            }
        }
    } catch (const std::exception &error) {
        std::fprintf(stderr, "hadamard_gpu_bench: %s\n", error.what());
        return 1;
    }
    return 0;
}
