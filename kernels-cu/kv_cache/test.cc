// The attention kernel where the C ABI does not reach (native/test/kv_cache_test.cc has codes, head
// sizes, groups and lengths): chosen splits, arbitrary workspaces, graphs, schedules; and the maps
// and sizes that it rests on. On the simulator, or on a GPU. Alone: ctest -R kv_kernel
#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <set>

#include "kv_cache/config.h"
#include "kv_cache/fragments.cuh"
#include "kv_cache/launch.h"
#include "kv_cache/ref.h"
#include "kv_cache/tables.h"
#include "kv_cache/vector.cuh"
#include "testing/device_buffer.h"
#include "testing/random.h"
#include "testing/test.h"
#ifndef __CUDACC__
#include "sim/control.h"
#endif

namespace tarpon::kv_cache {
namespace {

using namespace tarpon::testing;

constexpr int kWidths[] = {2, 3, 4, 8, 16};

// ---- Maps and sizes -----------------------------------------------------------------------------

TARPON_TEST(test_kv_operands_have_every_channel_once) {
    for (int head_dim : {64, 96, 128, 256}) {
        for (int bits : kWidths) {
            std::set<int> keys, values;
            for (int i = 0; i < head_dim / 8; ++i) {
                for (int m = 0; m < 4; ++m) {
                    for (int half = 0; half < 2; ++half)
                        keys.insert(k_channel(head_dim, bits, i, m, half).channel);
                }
                for (int g = 0; g < 8; ++g)
                    values.insert(v_run_channel(head_dim, bits, i, g).channel);
            }
            for (const std::set<int> &channels : {keys, values}) {
                CHECK_EQ(int(channels.size()), head_dim, "%d bits", bits);
                CHECK_EQ(*channels.rbegin(), head_dim - 1, "%d bits", bits);
            }
        }
    }
}

TARPON_TEST(test_kv_workspace_never_shrinks) {
    for (int processors : {6, 108, 132}) {
        for (int64_t length : {0, 1, 300, 5000, 40000, 1 << 20}) {
            int64_t before = 0;
            for (int64_t groups = 1; groups < 3000; ++groups) {
                const int64_t bound = blocks_bound(groups, length, processors, 2);
                const int64_t splits =
                    select_splits(groups, length, kMaxBlocksPerProcessor * processors);
                CHECK(groups * (splits + 2) <= bound && before <= bound &&
                          bound <= blocks_bound(groups, 2 * length, processors, 2),
                      "%d groups of length %d", int(groups), int(length));
                before = bound;
            }
        }
    }
}

// Data sheets' numbers: of an A100, an RTX 4090 (and sm_86, sm_120), an H200 and a B200.
constexpr DeviceLimits kGpus[] = {{108, 164 * 1024, 163 * 1024},
                                  {128, 100 * 1024, 99 * 1024},
                                  {132, 228 * 1024, 227 * 1024},
                                  {148, 228 * 1024, 227 * 1024}};

TARPON_TEST(test_kv_attention_fits_every_gpu) {
    constexpr int kStorageBytes = 16 * 1024;
    for (const DeviceLimits &gpu : kGpus) {
        for (Scheme scheme : {Scheme::kTarpon, Scheme::kRotatekv}) {
            for (int head_dim : {64, 96, 128, 256}) {
                for (int k_bits : kWidths) {
                    for (int v_bits : kWidths) {
                        const Format f{head_dim, 1, 64, k_bits, v_bits, scheme};
                        for (int rows : {1, 8}) {
                            const AttendTuning t = select_attend(f, rows, true, kStorageBytes, gpu);
                            const int block = t.stage_bytes + kStorageBytes;
                            const int tiles = row_tiles(head_dim, rows);
                            CHECK(t.blocks_per_processor >= 1 &&
                                      t.blocks_per_processor <=
                                          register_blocks(scheme, head_dim, tiles) &&
                                      block <= gpu.shared_per_block &&
                                      t.blocks_per_processor * (block + kReservedSharedBytes) <=
                                          gpu.shared_per_processor,
                                  "head_dim %d, %d and %d bits: %d blocks of %d bytes", head_dim,
                                  k_bits, v_bits, t.blocks_per_processor, block);
                            CHECK(t.code.warps >= 1 && t.recent.warps >= 1 && t.recent.slots >= 1,
                                  "head_dim %d, %d and %d bits", head_dim, k_bits, v_bits);
                            if (scheme == Scheme::kRotatekv) continue;
                            CHECK(t.code.slots >= 2 &&
                                      t.code.warps * t.code.slots * t.code.bytes <= t.stage_bytes &&
                                      t.recent.warps * t.recent.slots * t.recent.bytes <=
                                          t.stage_bytes,
                                  "head_dim %d, %d and %d bits", head_dim, k_bits, v_bits);
                        }
                    }
                }
            }
        }
    }
}

// What the README's table says: blocks a processor, warps that attend, slots of each.
TARPON_TEST(test_kv_tuning_follows_the_gpu) {
    const struct {
        int bits;
        int expected[3][3];  // on an A100, an RTX 4090 and an H200
    } cases[] = {{2, {{3, 4, 4}, {3, 4, 2}, {3, 4, 4}}},
                 {4, {{3, 4, 2}, {2, 4, 2}, {3, 4, 4}}},
                 {8, {{2, 4, 2}, {2, 2, 2}, {3, 4, 2}}},
                 {16, {{2, 2, 2}, {2, 1, 2}, {3, 2, 2}}}};
    for (const auto &c : cases) {
        const Format f{128, 8, 64, c.bits, c.bits};
        for (int gpu = 0; gpu < 3; ++gpu) {
            const AttendTuning t = select_attend(f, 4, false, 8 * 1024, kGpus[gpu]);
            CHECK_EQ(t.blocks_per_processor, c.expected[gpu][0], "%d bits, gpu %d", c.bits, gpu);
            CHECK_EQ(t.code.warps, c.expected[gpu][1], "%d bits, gpu %d", c.bits, gpu);
            CHECK_EQ(t.code.slots, c.expected[gpu][2], "%d bits, gpu %d", c.bits, gpu);
        }
    }
}

// Tiles of append are whole unless processors would be idle, and never empty.
TARPON_TEST(test_kv_append_tiles_fill_the_device) {
    for (int processors : {6, 108, 132}) {
        for (int heads : {1, 3, 8, 64}) {
            for (int64_t tokens : {1, 2, 16, 100, 8192, 100000}) {
                const AppendTile tile = select_append(tokens, heads, processors);
                const int64_t blocks = (tokens + tile.tokens - 1) / tile.tokens *
                                       ((heads + tile.heads - 1) / tile.heads);
                const bool whole = tile.tokens == kAppendTokens && tile.heads == heads;
                const bool least = tile.tokens == 2 && tile.heads == 1;
                CHECK(whole || least || blocks < 16 * processors, "%d tokens of %d heads",
                      int(tokens), heads);
                CHECK(least || blocks >= 4 * processors, "%d tokens of %d heads", int(tokens),
                      heads);
                CHECK(tile.tokens >= 1 && tile.tokens <= kAppendTokens && tile.heads >= 1 &&
                          tile.heads <= heads,
                      "%d tokens of %d heads", int(tokens), heads);
            }
        }
    }
}

#ifndef __CUDACC__
// GridCode is grid_code() and grid_level(), at every edge between codes and beside it.
TARPON_TEST(test_kv_grid_codes_need_no_conversion) {
    Random random(5);
    for (int bits : {2, 3, 4, 8}) {
        for (int i = 0; i < 20000; ++i) {
            const float edge = float(i % 300 - 150);
            const float inverse = i % 7 == 0    ? 1.0f
                                  : i % 11 == 0 ? 0.0f
                                                : float(random.uniform(0, 4));
            const float values[] = {edge,
                                    std::nextafter(edge, INFINITY),
                                    std::nextafter(edge, -INFINITY),
                                    -0.0f,
                                    -1e-30f,
                                    3e38f,
                                    -3e38f,
                                    float(random.normal())};
            for (float x : values) {
                const GridCode got(x, inverse, bits);
                const uint32_t code = grid_code(x, inverse, bits);
                CHECK_EQ(int(got.code()), int(code), "%d bits, %.9g * %.9g", bits, x, inverse);
                CHECK_EQ(got.level(), grid_level(code, bits), "%d bits, %.9g * %.9g", bits, x,
                         inverse);
            }
        }
    }
}
#endif

// ---- A cache on the device ----------------------------------------------------------------------

struct Shape {
    Format format;
    int group;
    std::vector<int> lengths;
    int queries = 1;
    int sinks = 0, window = 0;
};

class Cache {
  public:
    explicit Cache(const Shape &shape) : shape_(shape), rope_{1e4, 1, shape.format.head_dim / 2} {
        const Format &f = shape.format;
        Random random(17);
        for (int i = 0; i < f.kv_heads * f.head_dim; ++i)
            mean_.push_back(i % 5 == 0 ? float(random.uniform(-3, 3)) : 0.0f);
        fill_tables();
        fill_pages(random);
        set_queries(1);
        AttendParams &p = params_;
        p.plan = plan_;
        p.page_table = keep(table_);
        p.table_stride = table_stride_;
        p.lengths = keep(shape.lengths);
        p.pages = pages_->data();
        p.recent = recent_ ? recent_->data() : nullptr;
        p.queries = shape.queries;
        p.group = shape.group;
        p.q_heads = shape.group * f.kv_heads;
        const int rows = shape.queries * shape.group, block = 4 * row_tiles(f.head_dim, rows);
        p.row_blocks = (rows + block - 1) / block;
        p.recent_items = recent_items(shape.sinks, shape.window);
        p.q_scale = float(std::numbers::log2e / std::sqrt(double(f.head_dim)));
        // Stages as on one GPU or another, as far as the device at hand has room for them.
        DeviceLimits limits{}, gpu = kGpus[shape.lengths.size() % std::size(kGpus)];
        check_cuda(device_limits(0, &limits), "device_limits");
        gpu.shared_per_processor = std::min(gpu.shared_per_processor, limits.shared_per_processor);
        gpu.shared_per_block = std::min(gpu.shared_per_block, limits.shared_per_block);
        tuning_ = tune_attend(f, rows, p.recent_items > 0, gpu);
        check_cuda(prepare_attend(f, rows, tuning_), "prepare_attend");
    }

    int64_t groups() const {
        return int64_t(shape_.lengths.size()) * shape_.format.kv_heads * params_.row_blocks;
    }
    size_t workspace_words(int splits) const {
        return attend_workspace_bytes(groups() * (splits + params_.recent_items), 1,
                                      shape_.format.head_dim, shape_.queries * shape_.group) /
               4;
    }
    void set_queries(uint64_t seed) {
        Random random(seed);
        q_.clear();
        const size_t count = shape_.lengths.size() * shape_.queries * shape_.group *
                             shape_.format.kv_heads * shape_.format.head_dim;
        for (size_t i = 0; i < count; ++i)
            q_.push_back(float(random.normal()));
        if (!device_q_) device_q_ = std::make_unique<DeviceBuffer<float>>(q_);
        check_cuda(cudaMemcpy(device_q_->data(), q_.data(), 4 * count, cudaMemcpyHostToDevice),
                   "cudaMemcpy");
    }
    void enqueue(int splits, DeviceBuffer<uint32_t> &workspace, DeviceBuffer<float> &o,
                 cudaStream_t stream = nullptr) const {
        AttendParams p = params_;
        p.q = device_q_->data();
        p.o = o.data();
        p.vectors = true;
        p.splits = splits;
        p.flags = reinterpret_cast<Ticket *>(workspace.data());
        p.partials = reinterpret_cast<float *>(
            workspace.data() + flags_bytes(groups() * (splits + p.recent_items)) / 4);
        check_cuda(attend(p, tuning_, groups(), stream), "attend");
    }
    std::vector<float> run(int splits, DeviceBuffer<uint32_t> &workspace) const {
        DeviceBuffer<float> o(q_.size());
        enqueue(splits, workspace, o);
        std::vector<float> out = o.to_host();
        CHECK(o.guards_intact() && workspace.guards_intact(), "%d splits", splits);
        return out;
    }
    std::vector<float> run(int splits) const {
        DeviceBuffer<uint32_t> workspace(workspace_words(splits));
        return run(splits, workspace);
    }

    // Within the bar of 1e-3 of each row's largest element. The simulator, whose tensor core adds
    // exactly, comes within 4e-6, and is held to it: an operand that lost its other half shows.
    void check(const std::vector<float> &got, const char *where) const {
        const Format &f = shape_.format;
        std::vector<double> out(f.head_dim);
        const AttentionRule rule{1 / std::sqrt(double(f.head_dim))};
#ifdef __CUDACC__
        constexpr double kTolerance = 1e-3;
#else
        constexpr double kTolerance = 1e-5;
#endif
        size_t at = 0;
        for (size_t row = 0; row < shape_.lengths.size(); ++row) {
            for (int query = 0; query < shape_.queries; ++query) {
                for (int head = 0; head < f.kv_heads * shape_.group; ++head) {
                    const int64_t position = shape_.lengths[row] - shape_.queries + query;
                    const Plain &plain = plain_[row * f.kv_heads + head / shape_.group];
                    std::vector<double> q(&q_[at], &q_[at] + f.head_dim);
                    rope_exact(rope_, position, q.data());
                    attend_plain(q.data(), position, plain.keys.data(), plain.values.data(),
                                 std::max<int64_t>(0, position + 1), f.head_dim, rule, out.data());
                    double largest = 0;
                    for (double x : out)
                        largest = std::max(largest, std::abs(x));
                    for (int i = 0; i < f.head_dim; ++i, ++at) {
                        CHECK_NEAR(got[at], out[i], kTolerance * largest,
                                   "%s: row %d, query %d, head %d, channel %d", where, int(row),
                                   query, head, i);
                    }
                }
            }
        }
    }

  private:
    struct Plain {
        std::vector<double> keys, values;
    };

    template <class T>
    const T *keep(const std::vector<T> &values) {
        auto buffer = std::make_shared<DeviceBuffer<T>>(values);
        kept_.push_back(buffer);
        return buffer->data();
    }

    void fill_tables() {
        const Format &f = shape_.format;
        const int longest = *std::max_element(shape_.lengths.begin(), shape_.lengths.end());
        for (int p = 0; p < kRopeDigit; ++p) {
            for (int pair = 0; pair < rope_.pairs; ++pair)
                low_.push_back(rope_table_entry(rope_.theta, 1, rope_.pairs, p, pair));
        }
        for (int p = 0; p <= longest; p += kRopeDigit) {
            for (int pair = 0; pair < rope_.pairs; ++pair)
                high_.push_back(rope_table_entry(rope_.theta, 1, rope_.pairs, p, pair));
        }
        host_rope_ = {low_.data(), high_.data(), rope_.pairs, rope_.layout};
        plan_.format = f;
        plan_.layout = block_layout(f);
        plan_.element = Element::kF32;
        plan_.rope = {keep(low_), keep(high_), rope_.pairs, rope_.layout};
        plan_.mean = keep(mean_);
        plan_.rotation_scale = float(1 / std::sqrt(double(f.head_dim)));
        if (f.head_dim == 96)
            std::copy_n(hadamard::base_rows(kBaseRows), kBaseRows, plan_.base_rows);
        plan_.sink_tokens = shape_.sinks;
        plan_.window_tokens = shape_.window;
        plan_.ring_tokens = shape_.window > 0 ? shape_.window + 8 : 0;
        const MeanPairs pairs(mean_.data(), f, host_rope_);
        params_.mean_pairs = keep(pairs.pairs);
        params_.pair_means = keep(pairs.means);
        params_.mean_pair_counts = keep(pairs.counts);
        params_.pair_stride = pairs.stride;
        params_.turns = keep(turn_fragments(host_rope_));
    }

    // Appends random keys and values by the kernel; what it stored is what attention is checked on.
    // Pages are dealt backwards; a page that is not used, and table entries, are wild.
    void fill_pages(Random &random) {
        const Format &f = shape_.format;
        const auto pages_of = [&](int length) {
            return (length + f.page_tokens - 1) / f.page_tokens;
        };
        int page_count = 1;
        for (int length : shape_.lengths) {
            page_count += pages_of(length);
            table_stride_ = std::max<int64_t>(table_stride_, pages_of(length) + 1);
        }
        table_.assign(shape_.lengths.size() * table_stride_, 0x7fffffff);
        std::vector<float> k, v;
        std::vector<int64_t> slots;
        std::vector<int32_t> positions, rows;
        int next = page_count - 1;
        for (size_t row = 0; row < shape_.lengths.size(); ++row) {
            for (int position = 0; position < shape_.lengths[row]; ++position) {
                int32_t &page = table_[row * table_stride_ + position / f.page_tokens];
                if (position % f.page_tokens == 0) page = next--;
                slots.push_back(int64_t{page} * f.page_tokens + position % f.page_tokens);
                positions.push_back(position);
                rows.push_back(int32_t(row));
                for (float mean : mean_) {
                    k.push_back(mean + float(random.normal()));
                    v.push_back(float(random.normal()));
                }
            }
        }
        const size_t bytes = size_t(page_count) * page_bytes(f);
        pages_ = std::make_unique<DeviceBuffer<uint8_t>>(std::vector<uint8_t>(bytes, 0xff));
        const size_t recent_elems = shape_.lengths.size() *
                                    size_t(plan_.sink_tokens + plan_.ring_tokens) * 2 * f.kv_heads *
                                    f.head_dim;
        if (recent_elems > 0) {
            recent_ = std::make_unique<DeviceBuffer<half_t>>(
                std::vector<half_t>(recent_elems, half_t{0xffff}));
        }
        AppendParams p{};
        p.plan = plan_;
        p.k = keep(k), p.v = keep(v);
        p.vectors = true;
        p.tokens = int64_t(slots.size());
        p.tile = select_append(p.tokens, f.kv_heads, 6);
        p.slots = keep(slots);
        p.positions = keep(positions);
        p.rows = keep(rows);
        p.lengths = keep(shape_.lengths);
        p.pages = pages_->data();
        p.recent = recent_ ? recent_->data() : nullptr;
        check_cuda(append(p, nullptr), "append");
        read_back(pages_->to_host(), k, v, slots);
    }

    void read_back(const std::vector<uint8_t> &pages, const std::vector<float> &k,
                   const std::vector<float> &v, const std::vector<int64_t> &slots) {
        const Format &f = shape_.format;
        size_t first = 0;
        for (int length : shape_.lengths) {
            for (int head = 0; head < f.kv_heads; ++head) {
                Plain plain{std::vector<double>(size_t(length) * f.head_dim),
                            std::vector<double>(size_t(length) * f.head_dim)};
                const float *mean = &mean_[size_t(head) * f.head_dim];
                for (int j = 0; j < length; ++j) {
                    const int64_t slot = slots[first + j];
                    double *key = &plain.keys[size_t(j) * f.head_dim];
                    double *value = &plain.values[size_t(j) * f.head_dim];
                    if (j < shape_.sinks || j >= length - shape_.window) {
                        const size_t at = ((first + j) * f.kv_heads + head) * f.head_dim;
                        std::vector<float> exact(&k[at], &k[at] + f.head_dim);
                        transform_key(host_rope_, mean, f.head_dim, j, exact.data());
                        for (int i = 0; i < f.head_dim; ++i)
                            key[i] = to_float(saturate_half(exact[i]));
                        exact.assign(&v[at], &v[at] + f.head_dim);
                        hadamard::transform_reference(exact.data(), f.head_dim);
                        for (int i = 0; i < f.head_dim; ++i)
                            value[i] = to_float(saturate_half(exact[i]));
                    } else {
                        const uint8_t *block = &pages[size_t(slot / f.page_tokens) * page_bytes(f) +
                                                      size_t(head) * block_layout(f).bytes];
                        load_key(block, f, int(slot % f.page_tokens), key);
                        load_value(block, f, int(slot % f.page_tokens), value);
                    }
                    recover_key(rope_, mean, f.head_dim, j, key);
                    hadamard::transform_reference(value, f.head_dim);
                }
                plain_.push_back(std::move(plain));
            }
            first += length;
        }
    }

    Shape shape_;
    RopeRule rope_;
    std::vector<float> mean_, q_;
    std::vector<CosSin> low_, high_;
    RopeTables host_rope_{};
    PlanParams plan_{};
    AttendParams params_{};
    AttendTuning tuning_{};
    std::vector<int32_t> table_;
    int64_t table_stride_ = 0;
    std::vector<Plain> plain_;  // [sequence][kv head]
    std::unique_ptr<DeviceBuffer<uint8_t>> pages_;
    std::unique_ptr<DeviceBuffer<half_t>> recent_;
    std::unique_ptr<DeviceBuffer<float>> device_q_;
    std::vector<std::shared_ptr<void>> kept_;
};

void check_same(const std::vector<float> &got, const std::vector<float> &expected,
                const char *where) {
    for (size_t i = 0; i < expected.size(); ++i) {
        if (!CHECK_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(expected[i]),
                      "%s: element %d", where, int(i)))
            return;
    }
}

const Shape kMixed{{128, 2, 64, 2, 3}, 5, {0, 1, 70, 333}, 2, 4, 40};

TARPON_TEST(test_kv_attend_in_any_number_of_splits) {
    require_device();
    for (const Shape &shape : {kMixed, Shape{{64, 1, 128, 4, 2}, 3, {129, 300}}}) {
        const Cache cache(shape);
        for (int splits : {1, 2, 3, 7, 40})
            cache.check(cache.run(splits), format("%d splits", splits).c_str());
    }
}

// Workspace contents are arbitrary: what the last run left, flags of zeros, ones, or noise.
TARPON_TEST(test_kv_attend_takes_any_workspace) {
    require_device();
    const Cache cache(kMixed);
    const std::vector<float> expected = cache.run(3);
    DeviceBuffer<uint32_t> workspace(cache.workspace_words(3));
    Random random(29);
    for (int round = 0; round < 5; ++round) {
        std::vector<uint32_t> contents(workspace.size());
        for (uint32_t &word : contents)
            word = round < 2 ? uint32_t(-round) : uint32_t(random.bits());
        if (round < 3) {  // the last two find what the run before left
            check_cuda(cudaMemcpy(workspace.data(), contents.data(), 4 * contents.size(),
                                  cudaMemcpyHostToDevice),
                       "cudaMemcpy");
        }
        check_same(cache.run(3, workspace), expected, format("round %d", round).c_str());
    }
}

#ifndef __CUDACC__
struct ScheduleGuard {
    const sim::Schedule before = sim::schedule();
    ~ScheduleGuard() { sim::set_schedule(before); }
};
#else
struct ScheduleGuard {};  // hardware chooses
#endif

// A replay brings the ticket of the capture again, over the workspace that the last one left, to
// other queries: a flag that stayed set would let the old results in.
TARPON_TEST(test_kv_attend_replays_in_a_graph) {
    require_device();
    [[maybe_unused]] const ScheduleGuard guard;
#ifndef __CUDACC__
    // Blocks that wait run before those that they wait for.
    sim::set_schedule({sim::Schedule::Order::kReverse, 0});
#endif
    Cache cache(kMixed);
    constexpr int kSplits = 3;
    DeviceBuffer<uint32_t> workspace(cache.workspace_words(kSplits));
    check_cuda(cudaMemset(workspace.data(), 0, 4 * workspace.size()), "cudaMemset");
    const std::vector<float> first = cache.run(kSplits);
    DeviceBuffer<float> o(first.size());
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "BeginCapture");
    cache.enqueue(kSplits, workspace, o, stream);
    check_cuda(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
    check_cuda(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
    for (int replay = 0; replay < 3; ++replay) {
        cache.set_queries(uint64_t(100 + replay));
        check_cuda(cudaMemset(o.data(), 0xff, 4 * o.size()), "cudaMemset");
        check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
        check_cuda(cudaGraphLaunch(executable, stream), "cudaGraphLaunch");
        check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
        cache.check(o.to_host(), format("replay %d", replay).c_str());
    }
    check_cuda(cudaGraphExecDestroy(executable), "cudaGraphExecDestroy");
    check_cuda(cudaGraphDestroy(graph), "cudaGraphDestroy");
    check_cuda(cudaStreamDestroy(stream), "cudaStreamDestroy");
}

TARPON_TEST(test_kv_attend_gives_the_same_bits_again) {
    require_device();
    const Cache cache(kMixed);
    const std::vector<float> first = cache.run(4);
    for (int i = 0; i < 3; ++i)
        check_same(cache.run(4), first, "repeat");
}

#ifndef __CUDACC__
// The order in which threads, warps and blocks run leaves no trace, in codes or in results.
TARPON_TEST(test_kv_kernels_do_not_depend_on_the_schedule) {
    const ScheduleGuard guard;
    using Order = sim::Schedule::Order;
    for (const Shape &shape : {kMixed, Shape{{96, 1, 64, 3, 4}, 2, {65, 128}},
                               Shape{{256, 1, 64, 8, 16}, 6, {100}, 1, 0, 16}}) {
        std::vector<float> forward;
        for (sim::Schedule schedule :
             {sim::Schedule{Order::kForward, 0}, sim::Schedule{Order::kReverse, 0},
              sim::Schedule{Order::kRandom, 1}, sim::Schedule{Order::kRandom, 2}}) {
            sim::set_schedule(schedule);
            const Cache cache(shape);
            const std::vector<float> got = cache.run(3);
            cache.check(got, "schedule");
            if (forward.empty()) forward = got;
            check_same(got, forward, format("seed %d", int(schedule.seed)).c_str());
        }
    }
}
#endif

}  // namespace
}  // namespace tarpon::kv_cache
