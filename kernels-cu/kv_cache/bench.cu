// Times the KV cache on a GPU: attention of both modes at each width beside width 16 in the same run,
// and append beside a copy.
//
//   kv_cache_gpu_bench [--bits 2:2,4:2,...] [--heads 32:8] [--head-dim 128]
//
// Every launch of attention reads other pages than the one before it (at least three times the L2
// in all), as the layers of a model do; launches are captured in one CUDA graph. The mean term is
// off. "of roof" is the bytes of codes and scales over the time, relative to a device copy in the
// same run (read and write counted).
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <numbers>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "common/launch.cuh"
#include "kv_cache/config.h"
#include "kv_cache/launch.h"
#include "kv_cache/tables.h"

namespace {

using namespace tarpon::kv_cache;

void check(cudaError_t status, const char *what) {
    if (status != cudaSuccess)
        throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

// Finite binary16 numbers of both signs wherever one looks, and codes of all values.
__global__ void fill_kernel(uint32_t *words, size_t count, uint32_t seed) {
    const size_t stride = size_t(gridDim.x) * blockDim.x;
    for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
        uint64_t z = (uint64_t(seed) << 40) + i * 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        words[i] = (uint32_t(z ^ (z >> 31)) & 0x87ff87ffu) | 0x28002800u;
    }
}

class DeviceArray {
  public:
    DeviceArray(size_t bytes, uint32_t seed) {
        const size_t words = (bytes + 3) / 4;
        check(cudaMalloc(&data_, 4 * words), "cudaMalloc");
        check(tarpon::launch(fill_kernel, 1024, 256, 0, nullptr, data_, words, seed), "fill");
    }
    template <class T>
    explicit DeviceArray(const std::vector<T> &values) {
        check(cudaMalloc(&data_, values.size() * sizeof(T)), "cudaMalloc");
        check(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
              "cudaMemcpy");
    }
    ~DeviceArray() { (void)cudaFree(data_); }
    DeviceArray(const DeviceArray &) = delete;
    DeviceArray &operator=(const DeviceArray &) = delete;
    template <class T>
    T *as() const {
        return reinterpret_cast<T *>(data_);
    }

  private:
    uint32_t *data_ = nullptr;
};

struct Options {
    std::vector<std::pair<int, int>> bits = {{16, 16}, {8, 8}, {4, 4}, {3, 3}, {4, 2}, {2, 2}};
    int q_heads = 32, kv_heads = 8, head_dim = 128;
};

struct Load {
    int batch, length;
};
constexpr Load kLoads[] = {{1, 32768}, {1, 131072}, {64, 4096}, {32, 32768}};
constexpr int kAppends[] = {1, 16, 256, 8192};
constexpr int kPageTokens = 64;

class Bench {
  public:
    explicit Bench(const Options &options) : options_(options) {
        check(cudaGetDeviceProperties(&device_, 0), "cudaGetDeviceProperties");
        check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "StreamCreate");
        check(cudaEventCreate(&begin_), "EventCreate");
        check(cudaEventCreate(&end_), "EventCreate");
        const int pairs = options.head_dim / 2;
        std::vector<CosSin> low, high;
        for (int64_t i = 0; i < kRopeDigit; ++i) {
            for (int pair = 0; pair < pairs; ++pair)
                low.push_back(rope_table_entry(1e6, 1, pairs, i, pair));
        }
        for (int64_t i = 0; i < 1024; ++i) {
            for (int pair = 0; pair < pairs; ++pair)
                high.push_back(rope_table_entry(1e6, 1, pairs, i * kRopeDigit, pair));
        }
        low_ = std::make_unique<DeviceArray>(low);
        high_ = std::make_unique<DeviceArray>(high);
        no_pairs_ = std::make_unique<DeviceArray>(std::vector<int32_t>(options.kv_heads));
        copy_gbps_ = measure_copy();
        std::printf("%s, %d SMs, copy %.0f GB/s; %d query heads, %d kv heads of %d, binary16\n",
                    device_.name, device_.multiProcessorCount, copy_gbps_, options.q_heads,
                    options.kv_heads, options.head_dim);
    }

    void attention(const Load &load) {
        std::printf("\nattend, batch %d, %d tokens\n%8s %10s %8s %8s %8s\n", load.batch,
                    load.length, "K:V", "us", "GB/s", "of roof", "x 16:16");
        double base = 0;
        for (const Scheme scheme : {Scheme::kTarpon, Scheme::kRotatekv}) {
            if (scheme == Scheme::kRotatekv) std::printf("mode rotatekv\n");
            for (const auto &[k_bits, v_bits] : options_.bits) {
                size_t bytes = 0;
                const double us = attend_us(load, format(k_bits, v_bits, scheme), &bytes);
                if (k_bits == 16 && v_bits == 16 && scheme == Scheme::kTarpon) base = us;
                const double gbps = double(bytes) / us / 1e3;
                std::printf("%5d:%-2d %10.2f %8.0f %7.0f%% %8.2f\n", k_bits, v_bits, us, gbps,
                            100 * gbps / copy_gbps_, base / us);
            }
        }
    }

    void append_tokens(int tokens) {
        for (const auto &[k_bits, v_bits] : options_.bits) {
            size_t bytes = 0;
            const double us = append_us(tokens, format(k_bits, v_bits, Scheme::kTarpon), &bytes);
            const double gbps = double(bytes) / us / 1e3;
            std::printf("append %5d tokens %2d:%-2d %10.2f us %8.0f GB/s %5.0f%% of roof\n", tokens,
                        k_bits, v_bits, us, gbps, 100 * gbps / copy_gbps_);
        }
    }

  private:
    Format format(int k_bits, int v_bits, Scheme scheme) const {
        return {options_.head_dim, options_.kv_heads, kPageTokens, k_bits, v_bits, scheme};
    }

    PlanParams plan(const Format &f) const {
        PlanParams p{};
        p.format = f;
        p.layout = block_layout(p.format);
        p.element = Element::kF16;
        p.rope = {low_->as<CosSin>(), high_->as<CosSin>(), options_.head_dim / 2,
                  RopeLayout::kHalf};
        p.rotation_scale = float(1 / std::sqrt(double(options_.head_dim)));
        if (options_.head_dim == 96)
            std::copy_n(tarpon::hadamard::base_rows(kBaseRows), kBaseRows, p.base_rows);
        return p;
    }

    double attend_us(const Load &load, const Format &f, size_t *bytes) const {
        AttendParams p{};
        p.plan = plan(f);
        // Mode rotatekv: an order that scatters a rotation over all heads.
        const int channels = f.kv_heads * f.head_dim;
        std::vector<int32_t> order(channels);
        for (int c = 0; c < channels; ++c)
            order[c] = int32_t(int64_t{c} % f.kv_heads * f.head_dim + c / f.kv_heads);
        const DeviceArray places(key_places(f, order));
        const int heads = f.scheme == Scheme::kRotatekv ? rotatekv_group_heads(f.kv_heads) : 1;
        p.plan.rotation_heads = heads;
        p.plan.key_rotation_scale = float(1 / std::sqrt(double(heads * f.head_dim)));
        p.plan.places = places.as<KeyPlace>();
        const int stride = (load.length + kPageTokens - 1) / kPageTokens;
        const size_t pages = size_t(load.batch) * stride;
        *bytes = pages * page_bytes(f);
        const int copies = rotation(*bytes);
        DeviceArray memory(copies * *bytes, 1);
        std::vector<int32_t> table(copies * pages);
        for (size_t i = 0; i < table.size(); ++i)  // scattered, and each page once
            table[i] = int32_t(i / pages * pages + (i % pages * 7919 + 13) % pages);
        const DeviceArray device_table(table),
            lengths(std::vector<int32_t>(load.batch, load.length));
        const size_t elems = size_t(load.batch) * options_.q_heads * options_.head_dim;
        const DeviceArray q(2 * elems, 2), o(2 * elems, 3);
        p.q = q.as<void>(), p.o = o.as<void>();
        p.vectors = true;
        p.table_stride = stride;
        p.lengths = lengths.as<int32_t>();
        p.pages = memory.as<uint8_t>();
        p.mean_pair_counts = no_pairs_->as<int32_t>();
        p.queries = 1;
        p.group = options_.q_heads / options_.kv_heads;
        p.q_heads = options_.q_heads;
        const int block = 4 * row_tiles(f.head_dim, p.group);
        p.row_blocks = (p.group + block - 1) / block;
        p.q_scale = float(std::numbers::log2e / std::sqrt(double(f.head_dim)));
        const int64_t groups = int64_t(load.batch) * (f.kv_heads / heads) * p.row_blocks;
        DeviceLimits limits{};
        check(device_limits(0, &limits), "device_limits");
        const AttendTuning tuning = tune_attend(f, p.group, false, limits);
        p.splits =
            select_splits(groups, load.length, tuning.blocks_per_processor * limits.processors);
        const DeviceArray workspace(
            attend_workspace_bytes(groups * p.splits, heads, f.head_dim, p.group), 4);
        p.flags = workspace.as<tarpon::Ticket>();
        p.partials = workspace.as<float>() + flags_bytes(groups * p.splits) / 4;
        check(prepare_attend(f, p.group, tuning), "prepare_attend");
        return time_us(copies, [&](int i) {
            AttendParams own = p;
            own.page_table = device_table.as<int32_t>() + i * pages;
            check(attend(own, tuning, groups, stream_), "attend");
        });
    }

    double append_us(int tokens, const Format &f, size_t *bytes) const {
        AppendParams p{};
        p.plan = plan(f);
        const size_t input = size_t(tokens) * f.kv_heads * f.head_dim * 2;
        const size_t pages = size_t(tokens + kPageTokens - 1) / kPageTokens;
        *bytes = 2 * input + pages * page_bytes(f) * tokens / (pages * kPageTokens);
        const int copies = std::min(rotation(*bytes), 256);
        const DeviceArray k(copies * input, 1), v(copies * input, 2),
            memory(copies * pages * page_bytes(f), 3);
        std::vector<int64_t> slots(tokens);
        std::vector<int32_t> positions(tokens);
        for (int i = 0; i < tokens; ++i)
            slots[i] = positions[i] = i;
        const DeviceArray device_slots(slots), device_positions(positions);
        p.vectors = true;
        p.tokens = tokens;
        p.tile = select_append(tokens, f.kv_heads, device_.multiProcessorCount);
        p.slots = device_slots.as<int64_t>();
        p.positions = device_positions.as<int32_t>();
        return time_us(copies, [&](int i) {
            AppendParams own = p;
            own.k = k.as<char>() + i * input;
            own.v = v.as<char>() + i * input;
            own.pages = memory.as<uint8_t>() + i * pages * page_bytes(f);
            check(append(own, stream_), "append");
        });
    }

    // Bytes read and written a second by cudaMemcpy of eight times the L2.
    double measure_copy() const {
        const size_t bytes = 8 * size_t(device_.l2CacheSize);
        const DeviceArray from(bytes, 1), to(bytes, 2);
        const double us = time_us(4, [&](int) {
            check(cudaMemcpyAsync(to.as<void>(), from.as<void>(), bytes, cudaMemcpyDeviceToDevice,
                                  stream_),
                  "cudaMemcpyAsync");
        });
        return 2 * double(bytes) / us / 1e3;
    }

    // Enough copies for three times the L2, and for a graph long enough to time.
    int rotation(size_t bytes) const {
        return int(std::max<size_t>(3 * size_t(device_.l2CacheSize) / bytes + 1, 4));
    }

    // Microseconds of one of `launches` calls of enqueue(i), replayed as a graph: the best of
    // several.
    double time_us(int launches, const std::function<void(int)> &enqueue) const {
        cudaGraph_t graph;
        cudaGraphExec_t executable;
        check(cudaDeviceSynchronize(), "DeviceSynchronize");  // data has been filled
        check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "BeginCapture");
        for (int i = 0; i < launches; ++i)
            enqueue(i);
        check(cudaStreamEndCapture(stream_, &graph), "EndCapture");
        check(cudaGraphInstantiate(&executable, graph, 0), "GraphInstantiate");
        float best = 1e30f;
        for (int replay = 0; replay < 12; ++replay) {
            check(cudaEventRecord(begin_, stream_), "EventRecord");
            check(cudaGraphLaunch(executable, stream_), "GraphLaunch");
            check(cudaEventRecord(end_, stream_), "EventRecord");
            check(cudaEventSynchronize(end_), "EventSynchronize");
            float ms = 0;
            check(cudaEventElapsedTime(&ms, begin_, end_), "EventElapsedTime");
            if (replay >= 2) best = std::min(best, ms);  // the first two warm up
        }
        check(cudaGraphExecDestroy(executable), "GraphExecDestroy");
        check(cudaGraphDestroy(graph), "GraphDestroy");
        return 1e3 * best / launches;
    }

    Options options_;
    cudaDeviceProp device_{};
    cudaStream_t stream_ = nullptr;
    cudaEvent_t begin_ = nullptr, end_ = nullptr;
    std::unique_ptr<DeviceArray> low_, high_, no_pairs_;
    double copy_gbps_ = 0;
};

std::pair<int, int> parse_pair(const std::string &text, const std::string &flag) {
    int a = 0, b = 0;
    char rest = 0;
    if (std::sscanf(text.c_str(), "%d:%d%c", &a, &b, &rest) != 2)
        throw std::runtime_error(flag + " takes pairs such as 4:2, not " + text);
    return {a, b};
}

bool is_one_of(int value, std::initializer_list<int> allowed) {
    return std::find(allowed.begin(), allowed.end(), value) != allowed.end();
}

Options parse(int argc, char **argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string flag = argv[i];
        if (i + 1 == argc) throw std::runtime_error(flag + " takes a value");
        const std::string value = argv[++i];
        if (flag == "--bits") {
            options.bits.clear();
            std::istringstream text(value);
            for (std::string item; std::getline(text, item, ',');)
                options.bits.push_back(parse_pair(item, flag));
        } else if (flag == "--heads") {
            std::tie(options.q_heads, options.kv_heads) = parse_pair(value, flag);
        } else if (flag == "--head-dim") {
            options.head_dim = std::atoi(value.c_str());
        } else {
            throw std::runtime_error("unknown flag " + flag);
        }
    }
    for (const auto &[k_bits, v_bits] : options.bits) {
        if (!is_one_of(k_bits, {2, 3, 4, 8, 16}) || !is_one_of(v_bits, {2, 3, 4, 8, 16}))
            throw std::runtime_error("--bits takes widths of 2, 3, 4, 8 and 16");
    }
    if (!is_one_of(options.head_dim, {64, 96, 128, 256}))
        throw std::runtime_error("--head-dim takes 64, 96, 128 or 256");
    if (options.kv_heads < 1 || options.q_heads % options.kv_heads != 0 ||
        !is_one_of(options.q_heads / options.kv_heads,
                   {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}))
        throw std::runtime_error("--heads takes query heads that are 1 to 16 times the kv heads");
    return options;
}

}  // namespace

int main(int argc, char **argv) {
    try {
        const Options options = parse(argc, argv);
        int devices = 0;
        if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
            std::printf("skipped: there is no CUDA device\n");
            return 77;
        }
        Bench bench(options);
        for (const Load &load : kLoads)
            bench.attention(load);
        std::printf("\n");
        for (int tokens : kAppends)
            bench.append_tokens(tokens);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "kv_cache_gpu_bench: %s\n", error.what());
        return 1;
    }
    return 0;
}
