// Decode attention over the KV cache on the CPU, and append: time a call, and the rate at which the
// cache is read, by width and mode, interleaved so that all see the same machine, beside the rate
// at which the same number of threads reads memory. The best of the rounds counts, since
// disturbances only ever add time. Widths are read cold: layers take turns, more of them than fit
// any cache. With one thread the clock is the processor time of the process, which on a loaded
// machine tells what a thread does while it runs; otherwise it is the wall's.
// Usage: kv_cache_bench [tokens] [batch] [mean channels a head] [rounds] [threads]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "tarpon.h"

namespace {

constexpr int kHeadDim = 128, kQueryHeads = 32, kKvHeads = 8;
constexpr size_t kColdBytes = size_t{512} << 20;

void check(tarpon_status status) {
    if (status == TARPON_OK) return;
    std::fprintf(stderr, "%s: %s\n", tarpon_status_name(status), tarpon_last_error());
    std::exit(1);
}

struct Width {
    int k_bits, v_bits;
    tarpon_kv_mode mode;
};
constexpr Width kWidths[] = {{2, 2, TARPON_KV_MODE_TARPON},   {3, 3, TARPON_KV_MODE_TARPON},
                             {4, 2, TARPON_KV_MODE_TARPON},   {4, 4, TARPON_KV_MODE_TARPON},
                             {8, 8, TARPON_KV_MODE_TARPON},   {2, 2, TARPON_KV_MODE_ROTATEKV},
                             {4, 4, TARPON_KV_MODE_ROTATEKV}, {16, 16, TARPON_KV_MODE_TARPON}};

bool processor_time = false;

double now() {
    timespec time{};
    clock_gettime(processor_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double seconds_of(const auto &call) {
    const double start = now();
    call();
    return now() - start;
}

// Sums a buffer with every thread; the roof of what reads memory once.
double read_seconds(const std::vector<uint64_t> &buffer, int threads) {
    std::vector<uint64_t> sums(8 * threads);
    return seconds_of([&] {
        std::vector<std::thread> workers;
        for (int i = 0; i < threads; ++i) {
            workers.emplace_back([&, i] {
                const size_t share = buffer.size() / threads;
                uint64_t sum[8] = {};
                for (size_t j = i * share; j + 8 <= (i + 1) * share; j += 8) {
                    for (size_t lane = 0; lane < 8; ++lane)
                        sum[lane] += buffer[j + lane];
                }
                sums[8 * i] = sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
            });
        }
        for (std::thread &worker : workers)
            worker.join();
        if (sums[0] == 1) std::printf("\n");  // so that the sums are made
    });
}

struct Cache {
    Width width;
    tarpon_kv *kv = nullptr;
    tarpon_kv_info info{};
    size_t layer_bytes = 0;
    int layers = 1;
    tarpon_buffer *buffer = nullptr;
    char *pages = nullptr;  // [layers][layer_bytes], in the buffer
    std::vector<double> seconds, append_seconds;
};

double best(const std::vector<double> &seconds) {
    return *std::min_element(seconds.begin(), seconds.end());
}

}  // namespace

int main(int argc, char **argv) {
    const int64_t tokens = argc > 1 ? std::atoll(argv[1]) : 32768;
    const int64_t batch = argc > 2 ? std::atoll(argv[2]) : 1;
    const int mean_channels = argc > 3 ? std::atoi(argv[3]) : 8;
    const int rounds = argc > 4 ? std::atoi(argv[4]) : 15;
    tarpon_device_options options{};
    options.struct_size = sizeof options;
    options.thread_count = argc > 5 ? std::atoi(argv[5]) : 0;
    processor_time = options.thread_count == 1;
    if (tokens < 64 || tokens > (1 << 24) || batch < 1 || rounds < 1) {
        std::fprintf(stderr,
                     "tokens is %lld, batch %lld, rounds %d; they must be 64..2^24, >= 1 "
                     "and >= 1\n",
                     static_cast<long long>(tokens), static_cast<long long>(batch), rounds);
        return 2;
    }
    tarpon_device *device = nullptr;
    check(tarpon_device_open(TARPON_DEVICE_CPU, 0, &options, &device));
    tarpon_device_info device_info{};
    device_info.struct_size = sizeof device_info;
    check(tarpon_device_get_info(device, &device_info));
    std::printf(
        "%s, %s, %d threads; %d q heads, %d kv heads, head_dim %d, batch %lld, %lld tokens\n",
        device_info.name, device_info.isa, device_info.processor_count, kQueryHeads, kKvHeads,
        kHeadDim, static_cast<long long>(batch), static_cast<long long>(tokens));

    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    const size_t channels = kKvHeads * kHeadDim;
    std::vector<float> mean(channels), token(64 * channels), q(batch * kQueryHeads * kHeadDim),
        o(q.size());
    for (auto *values : {&mean, &token, &q}) {
        for (float &x : *values)
            x = normal(random);
    }
    for (size_t i = 0; i < channels; ++i) {
        if (static_cast<int>(i % kHeadDim) >= mean_channels) mean[i] = 0;
    }
    const int64_t pages_a_row = (tokens + 63) / 64;
    std::vector<int32_t> table(batch * pages_a_row), lengths(batch, static_cast<int32_t>(tokens));
    for (size_t i = 0; i < table.size(); ++i)
        table[i] = static_cast<int32_t>(i);
    std::shuffle(table.begin(), table.end(), random);

    std::vector<Cache> caches;
    // A page of tokens to append; pages are copies of it, since the time does not depend on codes.
    std::vector<int64_t> slots(64);
    std::vector<int32_t> positions(64), rows(64, 0), length = {64};
    for (int i = 0; i < 64; ++i)
        slots[i] = positions[i] = i;
    const auto append_args = [&](const Cache &cache) {
        tarpon_kv_append_args append{};
        append.struct_size = sizeof append;
        append.k = append.v = token.data();
        append.tokens = 64;
        append.slots = slots.data();
        append.positions = positions.data();
        append.rows = rows.data();
        append.batch = 1;
        append.lengths = length.data();
        append.pages = cache.pages;
        append.page_count = 1;
        return append;
    };
    for (const Width &width : kWidths) {
        Cache cache;
        cache.width = width;
        tarpon_kv_desc desc{};
        desc.struct_size = sizeof desc;
        desc.mode = width.mode;
        desc.head_dim = kHeadDim;
        desc.q_heads = kQueryHeads;
        desc.kv_heads = kKvHeads;
        desc.page_tokens = 64;
        desc.k_bits = width.k_bits;
        desc.v_bits = width.v_bits;
        desc.rope_dim = kHeadDim;
        desc.rope_theta = 5e5;
        desc.rope_scaling = 1;
        desc.max_tokens = static_cast<int32_t>(tokens);
        tarpon_kv_calibration calibration{};
        calibration.struct_size = sizeof calibration;
        calibration.k_mean = width.mode == TARPON_KV_MODE_TARPON ? mean.data() : nullptr;
        check(tarpon_kv_create(device, &desc, &calibration, &cache.kv));
        cache.info.struct_size = sizeof cache.info;
        check(tarpon_kv_get_info(cache.kv, &cache.info));
        cache.layer_bytes = table.size() * cache.info.page_bytes;
        cache.layers = static_cast<int>(std::max<size_t>(1, kColdBytes / cache.layer_bytes));
        check(tarpon_buffer_create(device, cache.layers * cache.layer_bytes, &cache.buffer));
        cache.pages = static_cast<char *>(tarpon_buffer_address(cache.buffer));
        const auto append = append_args(cache);
        check(tarpon_kv_append(cache.kv, &append, nullptr));
        for (size_t page = 1; page < cache.layers * table.size(); ++page)
            std::memcpy(cache.pages + page * cache.info.page_bytes, cache.pages,
                        cache.info.page_bytes);
        caches.push_back(std::move(cache));
    }

    size_t workspace_bytes = 0;
    for (const Cache &cache : caches) {
        size_t bytes = 0;
        check(tarpon_kv_workspace_bytes(cache.kv, batch, 1, tokens, &bytes));
        workspace_bytes = std::max(workspace_bytes, bytes);
    }
    const std::vector<uint64_t> buffer(kColdBytes / 2 / sizeof(uint64_t), 3);
    std::vector<double> reads;
    void *workspace = std::aligned_alloc(64, (workspace_bytes + 63) / 64 * 64);
    for (int round = 0; round < rounds; ++round) {
        reads.push_back(read_seconds(buffer, device_info.processor_count));
        for (Cache &cache : caches) {
            tarpon_kv_attend_args a{};
            a.struct_size = sizeof a;
            a.queries = 1;
            a.q = q.data();
            a.o = o.data();
            a.batch = batch;
            a.page_table = table.data();
            a.table_stride = pages_a_row;
            a.lengths = lengths.data();
            a.max_length = tokens;
            a.pages = cache.pages + round % cache.layers * cache.layer_bytes;
            a.page_count = static_cast<int64_t>(table.size());
            a.workspace = workspace;
            a.workspace_bytes = workspace_bytes;
            cache.seconds.push_back(
                seconds_of([&] { check(tarpon_kv_attend(cache.kv, &a, nullptr)); }));
            const auto append = append_args(cache);
            cache.append_seconds.push_back(
                seconds_of([&] { check(tarpon_kv_append(cache.kv, &append, nullptr)); }));
        }
    }
    std::printf("memory read, %d threads: %.1f GB/s\n", device_info.processor_count,
                static_cast<double>(buffer.size() * sizeof(uint64_t)) / best(reads) * 1e-9);
    std::printf(
        "mode       K  V   bits/value    attend ms    GB/s  against 16 bits   append us/token\n");
    const double half = best(caches.back().seconds);
    for (Cache &cache : caches) {
        const double seconds = best(cache.seconds);
        std::printf("%-8s  %2d %2d     %8.3f   %10.3f  %6.2f          %6.2fx        %10.2f\n",
                    cache.width.mode == TARPON_KV_MODE_TARPON ? "tarpon" : "rotatekv",
                    cache.width.k_bits, cache.width.v_bits, cache.info.bits_per_value,
                    1e3 * seconds, cache.layer_bytes / seconds * 1e-9, half / seconds,
                    best(cache.append_seconds) / 64 * 1e6);
        tarpon_kv_destroy(cache.kv);
        tarpon_buffer_destroy(cache.buffer);
    }
    std::free(workspace);
    tarpon_device_close(device);
}
