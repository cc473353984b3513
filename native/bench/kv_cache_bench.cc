// Decode attention over the KV cache on the CPU: time a call, and the rate at which the cache is
// read, by width, interleaved so that all see the same machine. The best of the rounds counts, since
// disturbances only ever add time. Widths are read cold: layers take turns, more of them than fit any
// cache. Usage: kv_cache_bench [tokens] [batch] [channels a head with a mean, 8 by default]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "tarpon.h"

namespace {

constexpr int kHeadDim = 128, kQueryHeads = 32, kKvHeads = 8, kRounds = 15;
constexpr size_t kColdBytes = size_t{512} << 20;

void check(tarpon_status status) {
    if (status == TARPON_OK) return;
    std::fprintf(stderr, "%s: %s\n", tarpon_status_name(status), tarpon_last_error());
    std::exit(1);
}

struct Width {
    int k_bits, v_bits;
};

struct Cache {
    Width width;
    tarpon_kv *kv = nullptr;
    tarpon_kv_info info{};
    size_t layer_bytes = 0;
    int layers = 1;
    char *pages = nullptr;  // [layers][layer_bytes]
    std::vector<double> seconds;
};

}  // namespace

int main(int argc, char **argv) {
    const int64_t tokens = argc > 1 ? std::atoll(argv[1]) : 32768;
    const int64_t batch = argc > 2 ? std::atoll(argv[2]) : 1;
    const int mean_channels = argc > 3 ? std::atoi(argv[3]) : 8;
    tarpon_device *device = nullptr;
    check(tarpon_device_open(TARPON_DEVICE_CPU, 0, nullptr, &device));
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
    for (Width width :
         {Width{2, 2}, Width{3, 3}, Width{4, 2}, Width{4, 4}, Width{8, 8}, Width{16, 16}}) {
        Cache cache;
        cache.width = width;
        tarpon_kv_desc desc{};
        desc.struct_size = sizeof desc;
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
        calibration.k_mean = mean.data();
        check(tarpon_kv_create(device, &desc, &calibration, &cache.kv));
        cache.info.struct_size = sizeof cache.info;
        check(tarpon_kv_get_info(cache.kv, &cache.info));
        cache.layer_bytes = table.size() * cache.info.page_bytes;
        cache.layers = static_cast<int>(std::max<size_t>(1, kColdBytes / cache.layer_bytes));
        cache.pages = static_cast<char *>(std::aligned_alloc(64, cache.layers * cache.layer_bytes));
        // One page of codes, copied: the time does not depend on them.
        std::vector<int64_t> slots(64);
        std::vector<int32_t> positions(64), rows(64, 0), length = {64};
        for (int i = 0; i < 64; ++i)
            slots[i] = positions[i] = i;
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
        check(tarpon_kv_append(cache.kv, &append, nullptr));
        for (size_t page = 1; page < cache.layers * table.size(); ++page)
            std::memcpy(cache.pages + page * cache.info.page_bytes, cache.pages,
                        cache.info.page_bytes);
        caches.push_back(std::move(cache));
    }

    size_t workspace_bytes = 0;
    check(tarpon_kv_workspace_bytes(caches[0].kv, batch, 1, tokens, &workspace_bytes));
    void *workspace = std::aligned_alloc(64, (workspace_bytes + 63) / 64 * 64);
    for (int round = 0; round < kRounds; ++round) {
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
            const auto start = std::chrono::steady_clock::now();
            check(tarpon_kv_attend(cache.kv, &a, nullptr));
            const auto end = std::chrono::steady_clock::now();
            cache.seconds.push_back(std::chrono::duration<double>(end - start).count());
        }
    }
    std::printf("  K  V   bits/value      best ms   GB/s    against 16 bits\n");
    const auto best = [](const Cache &cache) {
        return *std::min_element(cache.seconds.begin(), cache.seconds.end());
    };
    const double half = best(caches.back());
    for (Cache &cache : caches) {
        const double seconds = best(cache);
        std::printf("%3d %2d   %8.3f   %10.3f  %6.2f   %6.2fx\n", cache.width.k_bits,
                    cache.width.v_bits, cache.info.bits_per_value, 1e3 * seconds,
                    cache.layer_bytes / seconds * 1e-9, half / seconds);
        tarpon_kv_destroy(cache.kv);
        std::free(cache.pages);
    }
    std::free(workspace);
    tarpon_device_close(device);
}
