// Times the W4 GEMM on a GPU beside cuBLAS fp16: microseconds, weight bandwidth, arithmetic rate.
//
//   w4_gemm_bench [--shapes FILE] [--m 1,16,...] [--group 32|64|128|-1] [--json FILE]
//
// Every launch reads other weights than the one before it; testing/gpu_bench.cuh says how they are
// timed. cuBLAS is loaded if it is there and skipped by name if not; it runs right after Tarpon in
// the same way. GB/s count the weights as stored, x and y.
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "testing/gpu_bench.cuh"
#include "w4_gemm/launch.h"
#include "w4_gemm/pack.h"

namespace {

using namespace tarpon::w4_gemm;
using tarpon::testing::BenchDevice;
using tarpon::testing::check;
using tarpon::testing::DeviceArray;
using tarpon::testing::Fill;

// ---- cuBLAS, found at run time ------------------------------------------------------------------

class Cublas {
  public:
    explicit Cublas(cudaStream_t stream) {
        for (const char *name : {"libcublas.so.13", "libcublas.so.12"}) {
            library_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
            if (library_) break;
        }
        if (!library_) {
            std::printf("cuBLAS is skipped: %s\n", dlerror());
            return;
        }
        const auto create = function<int(void **)>("cublasCreate_v2");
        const auto set_stream = function<int(void *, cudaStream_t)>("cublasSetStream_v2");
        const auto set_workspace = function<int(void *, void *, size_t)>("cublasSetWorkspace_v2");
        gemm_ = function<Gemm>("cublasGemmEx");
        // A workspace of our own, of the size that NVIDIA recommends for Hopper: cuBLAS must not
        // allocate while it is captured.
        workspace_ = std::make_unique<DeviceArray>(kWorkspaceBytes, Fill::kWords, 8);
        if (!create || !set_stream || !set_workspace || !gemm_ || create(&handle_) != 0 ||
            set_stream(handle_, stream) != 0 ||
            set_workspace(handle_, workspace_->data(), kWorkspaceBytes) != 0) {
            std::printf("cuBLAS is skipped: it could not be initialised\n");
            gemm_ = nullptr;
        }
    }
    bool available() const { return gemm_ != nullptr; }

    // y[m, n] = x[m, k] * w[n, k]^T in binary16 with fp32 sums, row-major.
    void run(const void *x, const void *w, void *y, int m, int n, int k) const {
        constexpr int kTransposed = 1, kPlain = 0, kF16 = 2, kCompute32F = 68, kDefault = -1;
        const float one = 1, zero = 0;
        const int status = gemm_(handle_, kTransposed, kPlain, n, m, k, &one, w, kF16, k, x, kF16,
                                 k, &zero, y, kF16, n, kCompute32F, kDefault);
        if (status != 0) throw std::runtime_error("cublasGemmEx: " + std::to_string(status));
    }

  private:
    using Gemm = int(void *, int, int, int, int, int, const void *, const void *, int, int,
                     const void *, int, int, const void *, void *, int, int, int, int);
    template <class Signature>
    Signature *function(const char *name) const {
        return reinterpret_cast<Signature *>(dlsym(library_, name));
    }

    static constexpr size_t kWorkspaceBytes = size_t{32} << 20;
    std::unique_ptr<DeviceArray> workspace_;
    void *library_ = nullptr;
    void *handle_ = nullptr;
    Gemm *gemm_ = nullptr;
};

// ---- The benchmark ------------------------------------------------------------------------------

struct Options {
    std::string shapes = W4_GEMM_SHAPES_FILE;
    std::vector<int> rows = {1, 16, 32, 64, 128, 256, 1024, 4096};
    int group = 128;
    std::string json;
};

std::vector<std::pair<int64_t, int64_t>> read_shapes(const std::string &file) {
    std::ifstream in(file);
    if (!in) throw std::runtime_error("cannot read " + file);
    std::vector<std::pair<int64_t, int64_t>> shapes;
    for (std::string line; std::getline(in, line);) {
        std::istringstream text(line);
        int64_t k, n;
        if (line.rfind('#', 0) != 0 && text >> k >> n) shapes.emplace_back(k, n);
    }
    return shapes;
}

class Bench {
  public:
    explicit Bench(const Options &options) : options_(options), cublas_(device_.stream()) {
        const cudaDeviceProp &device = device_.properties();
        props_ = {device.multiProcessorCount, 10 * device.major + device.minor};
        if (!options.json.empty()) json_.open(options.json);
        copy_gbps_ = device_.copy_gbps();
        std::printf("%s, %d SMs, copy %.0f GB/s, fp16, group %d\n", device.name, props_.sm_count,
                    copy_gbps_, options.group);
        std::printf("%7s %7s %6s %10s %8s %8s %8s %10s %7s  %s\n", "K", "N", "M", "us", "GB/s",
                    "TFLOP/s", "model us", "cuBLAS us", "ratio", "launch");
    }

    void run(int64_t k, int64_t n) {
        const int64_t group_size = options_.group > 0 ? options_.group : k;
        const int64_t groups = ceil_div(k, group_size);
        const MarlinSize size = marlin_size(n, k, groups);
        const size_t qweight_bytes = 4 * size.qweight_words, scales_bytes = 2 * size.scales_elems;
        const size_t weight_bytes = qweight_bytes + scales_bytes;
        const int copies = device_.rotation(weight_bytes);
        const int dense_copies = device_.rotation(size_t(2 * k * n));
        const int most = *std::max_element(options_.rows.begin(), options_.rows.end());
        DeviceArray qweight(copies * qweight_bytes, Fill::kWords, 1);
        DeviceArray scales(copies * scales_bytes, Fill::kHalf, 2);
        DeviceArray x(size_t(2 * most * k), Fill::kHalf, 3),
            y(size_t(2 * most * n), Fill::kHalf, 4);
        DeviceArray workspace(size_t(workspace_bytes({most, n, k, groups}, props_)), Fill::kWords,
                              5);
        DeviceArray dense(cublas_.available() ? dense_copies * size_t(2 * k * n) : 4, Fill::kHalf,
                          6);
        // Factors of one for the columns; with one group, these are all the scales there are.
        const std::vector<float> ones(static_cast<size_t>(size.n_padded), 1.0f);
        DeviceArray column_scale(4 * ones.size(), Fill::kWords, 7);
        check(cudaMemcpy(column_scale.data(), ones.data(), 4 * ones.size(), cudaMemcpyHostToDevice),
              "cudaMemcpy");
        constexpr FormatId kFormat = FormatId::kInt4Symmetric;
        check(prepare(Activation::kF16, kFormat, groups > 1), "prepare");
        for (const int m : options_.rows) {
            const Choice choice = select({m, n, k, groups}, props_);
            const double us = device_.time_us(copies, [&](int i) {
                Weights weights{};
                weights.n = n;
                weights.k = k;
                weights.groups = groups;
                weights.group_size = group_size;
                weights.format = kFormat;
                weights.qweight = qweight.data() + i * qweight_bytes;
                weights.scales = scales.data() + i * scales_bytes;
                weights.column_scale = reinterpret_cast<const float *>(column_scale.data());
                check(tarpon::w4_gemm::run(weights, Activation::kF16, choice,
                                           {x.data(), nullptr, y.data(), m, workspace.data()},
                                           device_.stream()),
                      "run");
            });
            double cublas_us = 0;
            if (cublas_.available()) {
                cublas_us = device_.time_us(dense_copies, [&](int i) {
                    cublas_.run(x.data(), dense.data() + size_t(2 * k * n) * i, y.data(), m, int(n),
                                int(k));
                });
            }
            report(k, n, m, us, cublas_us, weight_bytes + 2 * size_t(m) * (k + n), choice);
        }
    }

  private:
    void report(int64_t k, int64_t n, int m, double us, double cublas_us, size_t bytes,
                const Choice &choice) {
        const TileShape &tile = tile_shape(FormatId::kInt4Symmetric, true, choice.tile);
        const double gbps = double(bytes) / us / 1e3, tflops = 2e-6 * double(m) * n * k / us;
        char cublas[32] = "         -       -";
        if (cublas_us > 0)
            std::snprintf(cublas, sizeof cublas, "%10.2f %7.2f", cublas_us, cublas_us / us);
        std::printf("%7lld %7lld %6d %10.2f %8.0f %8.1f %8.2f %s  %dx%dx%d, %d CTAs\n",
                    (long long)k, (long long)n, m, us, gbps, tflops, choice.predicted_us, cublas,
                    tile.block_m, tile.block_k, tile.block_n, choice.grid);
        if (json_.is_open()) {
            json_ << "{\"k\": " << k << ", \"n\": " << n << ", \"m\": " << m
                  << ", \"group\": " << options_.group << ", \"us\": " << us
                  << ", \"gbps\": " << gbps << ", \"copy_gbps\": " << copy_gbps_
                  << ", \"tflops\": " << tflops << ", \"model_us\": " << choice.predicted_us;
            if (cublas_us > 0) json_ << ", \"cublas_us\": " << cublas_us;
            json_ << ", \"tile\": \"" << tile.block_m << "x" << tile.block_k << "x" << tile.block_n
                  << "\", \"grid\": " << choice.grid << "}\n";
        }
    }

    Options options_;
    BenchDevice device_;
    Cublas cublas_;
    DeviceProps props_{};
    double copy_gbps_ = 0;
    std::ofstream json_;
};

Options parse(int argc, char **argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string flag = argv[i];
        if (i + 1 == argc) throw std::runtime_error(flag + " takes a value");
        const std::string value = argv[++i];
        if (flag == "--shapes") {
            options.shapes = value;
        } else if (flag == "--json") {
            options.json = value;
        } else if (flag == "--group") {
            options.group = std::atoi(value.c_str());
        } else if (flag == "--m") {
            options.rows.clear();
            std::istringstream text(value);
            for (std::string item; std::getline(text, item, ',');) {
                options.rows.push_back(std::atoi(item.c_str()));
            }
        } else {
            throw std::runtime_error("unknown flag " + flag);
        }
    }
    for (const int m : options.rows) {
        if (m < 1) throw std::runtime_error("--m takes numbers >= 1, separated by commas");
    }
    if (options.rows.empty()) throw std::runtime_error("--m takes at least one number");
    if (options.group != 128 && options.group != 64 && options.group != 32 && options.group != -1) {
        throw std::runtime_error("--group takes 32, 64, 128 or -1");
    }
    return options;
}

}  // namespace

int main(int argc, char **argv) {
    try {
        const Options options = parse(argc, argv);
        if (!BenchDevice::exists()) {
            std::printf("skipped: there is no CUDA device\n");
            return 77;
        }
        Bench bench(options);
        for (const auto &[k, n] : read_shapes(options.shapes)) {
            try {
                bench.run(k, n);
            } catch (const tarpon::testing::OutOfDeviceMemory &error) {
                std::printf("%7lld %7lld is skipped: %s\n", (long long)k, (long long)n,
                            error.what());
            }
        }
    } catch (const std::exception &error) {
        std::fprintf(stderr, "w4_gemm_bench: %s\n", error.what());
        return 1;
    }
    return 0;
}
