// The KV cache through the C ABI on the CPU, with every instruction set that attends: codes equal to
// the reference's bit for bit, attention within 1e-3 of binary64 on the same codes. Alone:
// ctest -R kv_cache
//
// Pages are dealt in random order, pages and table entries that no token uses hold NaN patterns and
// wild numbers, and every scenario is a batch of sequences of different lengths.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>

#include "abi_support.h"
#include "kv_cache/ref.h"

namespace tarpon::test {
namespace {

using namespace kv_cache;

int failures = 0;

#define TARPON_CHECK(condition, ...)                                        \
    do {                                                                    \
        if (!(condition)) {                                                 \
            if (++failures <= 20) {                                         \
                std::printf("%s:%d: %s: ", __FILE__, __LINE__, #condition); \
                std::printf(__VA_ARGS__);                                   \
                std::printf("\n");                                          \
            }                                                               \
        }                                                                   \
    } while (0)

struct KvCloser {
    void operator()(tarpon_kv *kv) const { tarpon_kv_destroy(kv); }
};
using OwnedKv = std::unique_ptr<tarpon_kv, KvCloser>;

struct Target {
    Owned<tarpon_device> device;
    std::string name;
};

tarpon_kv_desc make_desc(int head_dim, int kv_heads, int group, int k_bits, int v_bits) {
    tarpon_kv_desc desc{};
    desc.struct_size = sizeof desc;
    desc.mode = TARPON_KV_MODE_TARPON;
    desc.head_dim = head_dim;
    desc.kv_heads = kv_heads;
    desc.q_heads = kv_heads * group;
    desc.page_tokens = 64;
    desc.k_bits = k_bits;
    desc.v_bits = v_bits;
    desc.dtype = TARPON_F32;
    desc.rope_dim = head_dim;
    desc.rope_theta = 1e4;
    desc.rope_scaling = 1;
    desc.max_tokens = 1 << 17;
    return desc;
}

struct Scenario {
    std::string name;
    tarpon_kv_desc desc;
    std::vector<int> lengths;
    int queries = 1;
    bool with_mean = true;
    bool step_by_step = false;  // tokens appended one call each
};

// 64-byte aligned bytes.
template <class T>
struct Aligned {
    std::vector<char> bytes;
    T *data = nullptr;
    size_t count = 0;
    explicit Aligned(size_t n, int fill = 0xff)
        : bytes(n * sizeof(T) + 64, static_cast<char>(fill)), count(n) {
        data = reinterpret_cast<T *>((reinterpret_cast<uintptr_t>(bytes.data()) + 63) / 64 * 64);
    }
};

struct Run {
    tarpon_kv_desc desc;
    Format format;
    std::vector<float> mean;
    std::vector<float> k, v, q;  // as rounded to the dtype; tokens of all sequences in order
    std::vector<char> k_raw, v_raw, q_raw, o_raw;
    std::vector<int32_t> lengths, table, positions, rows;
    std::vector<int64_t> slots;
    int64_t table_stride = 0, page_count = 0;
    tarpon_kv_info info{};
    std::unique_ptr<Aligned<uint8_t>> pages, recent;
};

std::vector<char> random_values(size_t count, tarpon_dtype dtype, uint32_t seed,
                                const std::vector<float> *mean, std::vector<float> *out) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<char> raw(count * dtype_bytes(dtype));
    for (size_t i = 0; i < count; ++i) {
        const float offset = mean ? (*mean)[i % mean->size()] : 0.0f;
        store(raw.data(), dtype, static_cast<int64_t>(i), offset + normal(random));
        out->push_back(load(raw.data(), dtype, static_cast<int64_t>(i)));
    }
    return raw;
}

Run make_run(const Scenario &scenario) {
    Run run;
    run.desc = scenario.desc;
    const tarpon_kv_desc &d = run.desc;
    run.format = {d.head_dim, d.kv_heads, d.page_tokens, d.k_bits, d.v_bits};
    const int64_t tokens =
        std::accumulate(scenario.lengths.begin(), scenario.lengths.end(), int64_t{0});
    const int64_t batch = static_cast<int64_t>(scenario.lengths.size());
    std::mt19937 random(7);
    run.mean.resize(d.kv_heads * d.head_dim);
    for (float &m : run.mean)
        m = random() % 16 == 0 ? static_cast<float>(random() % 13) - 6.0f : (random() % 2) * 0.1f;
    run.k_raw = random_values(tokens * run.mean.size(), d.dtype, 1, &run.mean, &run.k);
    run.v_raw = random_values(tokens * run.mean.size(), d.dtype, 2, nullptr, &run.v);
    run.q_raw = random_values(batch * scenario.queries * d.q_heads * d.head_dim, d.dtype, 3,
                              nullptr, &run.q);
    run.o_raw.assign(run.q_raw.size(), '\xff');

    int64_t longest = 0;
    for (int length : scenario.lengths)
        longest = std::max<int64_t>(longest, (length + d.page_tokens - 1) / d.page_tokens);
    run.table_stride = longest + 2;
    run.page_count = 3;
    for (int length : scenario.lengths)
        run.page_count += (length + d.page_tokens - 1) / d.page_tokens;
    std::vector<int32_t> order(run.page_count);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    run.table.assign(batch * run.table_stride, 0x7fffffff);  // out of range where nothing is
    int next = 0;
    for (int64_t row = 0; row < batch; ++row) {
        run.lengths.push_back(scenario.lengths[row]);
        for (int position = 0; position < scenario.lengths[row]; ++position) {
            int32_t &page = run.table[row * run.table_stride + position / d.page_tokens];
            if (position % d.page_tokens == 0) page = order[next++];
            run.slots.push_back(int64_t{page} * d.page_tokens + position % d.page_tokens);
            run.positions.push_back(position);
            run.rows.push_back(static_cast<int32_t>(row));
        }
    }
    return run;
}

OwnedKv create(const Target &target, const Scenario &scenario, Run &run) {
    tarpon_kv *kv = nullptr;
    tarpon_kv_calibration calibration{};
    calibration.struct_size = sizeof calibration;
    calibration.k_mean = scenario.with_mean ? run.mean.data() : nullptr;
    TARPON_CHECK(tarpon_kv_create(target.device.get(), &run.desc, &calibration, &kv) == TARPON_OK,
                 "%s: %s", scenario.name.c_str(), tarpon_last_error());
    run.info.struct_size = sizeof run.info;
    TARPON_CHECK(tarpon_kv_get_info(kv, &run.info) == TARPON_OK, "%s", tarpon_last_error());
    run.pages = std::make_unique<Aligned<uint8_t>>(run.page_count * run.info.page_bytes);
    run.recent = std::make_unique<Aligned<uint8_t>>(run.lengths.size() * run.info.recent_bytes + 1);
    return OwnedKv(kv);
}

tarpon_kv_append_args append_args(Run &run, int64_t first, int64_t count,
                                  const std::vector<int32_t> &lengths) {
    const size_t token_bytes = run.mean.size() * dtype_bytes(run.desc.dtype);
    tarpon_kv_append_args a{};
    a.struct_size = sizeof a;
    a.k = run.k_raw.data() + first * token_bytes;
    a.v = run.v_raw.data() + first * token_bytes;
    a.tokens = count;
    a.slots = run.slots.data() + first;
    a.positions = run.positions.data() + first;
    a.rows = run.rows.data() + first;
    a.batch = static_cast<int64_t>(lengths.size());
    a.lengths = lengths.data();
    a.pages = run.pages->data;
    a.page_count = run.page_count;
    a.recent = run.info.recent_bytes ? run.recent->data : nullptr;
    return a;
}

void append_all(const tarpon_kv *kv, const Scenario &scenario, Run &run) {
    const int64_t tokens = static_cast<int64_t>(run.slots.size());
    if (!scenario.step_by_step) {
        const auto args = append_args(run, 0, tokens, run.lengths);
        TARPON_CHECK(tarpon_kv_append(kv, &args, nullptr) == TARPON_OK, "%s", tarpon_last_error());
        return;
    }
    std::vector<int32_t> lengths(run.lengths.size());
    for (int64_t t = 0; t < tokens; ++t) {
        lengths[run.rows[t]] = run.positions[t] + 1;
        const auto args = append_args(run, t, 1, lengths);
        TARPON_CHECK(tarpon_kv_append(kv, &args, nullptr) == TARPON_OK, "%s", tarpon_last_error());
    }
}

struct Tables {
    std::vector<CosSin> low, high;
    RopeTables view;
    explicit Tables(const tarpon_kv_desc &d) {
        const int pairs = d.rope_dim / 2;
        for (int p = 0; p < kRopeDigit; ++p) {
            for (int pair = 0; pair < pairs; ++pair)
                low.push_back(rope_table_entry(d.rope_theta, d.rope_scaling, pairs, p, pair));
        }
        for (int p = 0; p < d.max_tokens; p += kRopeDigit) {
            for (int pair = 0; pair < pairs; ++pair)
                high.push_back(rope_table_entry(d.rope_theta, d.rope_scaling, pairs, p, pair));
        }
        view = {low.data(), high.data(), pairs,
                d.rope_layout == TARPON_ROPE_HALF ? RopeLayout::kHalf : RopeLayout::kInterleaved};
    }
};

// All pages as the reference writes them.
std::vector<uint8_t> reference_pages(const Scenario &scenario, const Run &run) {
    const Format &f = run.format;
    const Tables tables(run.desc);
    std::vector<uint8_t> pages(run.page_count * page_bytes(f), 0xff);
    for (size_t t = 0; t < run.slots.size(); ++t) {
        for (int head = 0; head < f.kv_heads; ++head) {
            const float *from_k = &run.k[(t * f.kv_heads + head) * f.head_dim];
            const float *from_v = &run.v[(t * f.kv_heads + head) * f.head_dim];
            std::vector<float> k(from_k, from_k + f.head_dim), v(from_v, from_v + f.head_dim);
            transform_key(tables.view, scenario.with_mean ? &run.mean[head * f.head_dim] : nullptr,
                          f.head_dim, run.positions[t], k.data());
            hadamard::transform_reference(v.data(), f.head_dim);
            uint8_t *block =
                &pages[run.slots[t] / f.page_tokens * page_bytes(f)] + head * block_layout(f).bytes;
            store_key(block, f, static_cast<int>(run.slots[t] % f.page_tokens), k.data());
            store_value(block, f, static_cast<int>(run.slots[t] % f.page_tokens), v.data());
        }
    }
    return pages;
}

// Keys and values that attention sees: codes, or the 16-bit values of sinks and window.
void stored_tokens(const Scenario &scenario, const Run &run, const Tables &tables, int64_t row,
                   int head, std::vector<double> *keys, std::vector<double> *values) {
    const Format &f = run.format;
    int64_t first = 0;
    for (int64_t r = 0; r < row; ++r)
        first += run.lengths[r];
    const int length = run.lengths[row];
    keys->resize(int64_t{length} * f.head_dim);
    values->resize(int64_t{length} * f.head_dim);
    for (int j = 0; j < length; ++j) {
        const int64_t t = first + j;
        double *key = &(*keys)[int64_t{j} * f.head_dim],
               *value = &(*values)[int64_t{j} * f.head_dim];
        if (j < run.desc.sink_tokens || j >= length - run.desc.window_tokens) {
            const float *from_k = &run.k[(t * f.kv_heads + head) * f.head_dim];
            const float *from_v = &run.v[(t * f.kv_heads + head) * f.head_dim];
            std::vector<float> k(from_k, from_k + f.head_dim), v(from_v, from_v + f.head_dim);
            transform_key(tables.view, scenario.with_mean ? &run.mean[head * f.head_dim] : nullptr,
                          f.head_dim, j, k.data());
            hadamard::transform_reference(v.data(), f.head_dim);
            for (int i = 0; i < f.head_dim; ++i) {
                key[i] = to_float(saturate_half(k[i]));
                value[i] = to_float(saturate_half(v[i]));
            }
            continue;
        }
        const uint8_t *block = run.pages->data + run.slots[t] / f.page_tokens * page_bytes(f) +
                               head * block_layout(f).bytes;
        load_key(block, f, static_cast<int>(run.slots[t] % f.page_tokens), key);
        load_value(block, f, static_cast<int>(run.slots[t] % f.page_tokens), value);
    }
}

tarpon_kv_attend_args attend_args(Run &run, int queries, Aligned<char> &workspace) {
    tarpon_kv_attend_args a{};
    a.struct_size = sizeof a;
    a.queries = queries;
    a.q = run.q_raw.data();
    a.o = run.o_raw.data();
    a.batch = static_cast<int64_t>(run.lengths.size());
    a.page_table = run.table.data();
    a.table_stride = run.table_stride;
    a.lengths = run.lengths.data();
    a.max_length = *std::max_element(run.lengths.begin(), run.lengths.end());
    a.pages = run.pages->data;
    a.page_count = run.page_count;
    a.recent = run.info.recent_bytes ? run.recent->data : nullptr;
    a.workspace = workspace.data;
    a.workspace_bytes = workspace.count;
    return a;
}

void attend(const tarpon_kv *kv, const Scenario &scenario, Run &run) {
    size_t bytes = 0;
    const int longest = *std::max_element(run.lengths.begin(), run.lengths.end());
    TARPON_CHECK(tarpon_kv_workspace_bytes(kv, static_cast<int64_t>(run.lengths.size()),
                                           scenario.queries, longest, &bytes) == TARPON_OK,
                 "%s", tarpon_last_error());
    Aligned<char> workspace(bytes);
    const auto args = attend_args(run, scenario.queries, workspace);
    TARPON_CHECK(tarpon_kv_attend(kv, &args, nullptr) == TARPON_OK, "%s", tarpon_last_error());
}

// Every output row within the tolerance of its largest element: 1e-3, and what the dtype's rounding
// of the output adds.
void check_outputs(const Scenario &scenario, const Run &run, const std::string &where) {
    const tarpon_kv_desc &d = run.desc;
    const Tables tables(d);
    const RopeRule rope_rule{d.rope_theta, d.rope_scaling, d.rope_dim / 2, tables.view.layout};
    const AttentionRule rule{d.score_scale > 0 ? d.score_scale : 1 / std::sqrt(double(d.head_dim)),
                             d.softcap, d.sliding_window};
    const double tolerance = 1e-3 + (d.dtype == TARPON_BF16  ? 0x1p-8
                                     : d.dtype == TARPON_F16 ? 0x1p-11
                                                             : 0);
    const int group = d.q_heads / d.kv_heads;
    for (int64_t row = 0; row < static_cast<int64_t>(run.lengths.size()); ++row) {
        for (int head = 0; head < d.kv_heads; ++head) {
            std::vector<double> keys, values, out(d.head_dim);
            stored_tokens(scenario, run, tables, row, head, &keys, &values);
            for (int64_t j = 0; j < run.lengths[row]; ++j) {
                recover_key(rope_rule, scenario.with_mean ? &run.mean[head * d.head_dim] : nullptr,
                            d.head_dim, j, &keys[j * d.head_dim]);
            }
            for (int query = 0; query < scenario.queries; ++query) {
                // Of large groups the first, the last and one between.
                for (int member : {0, group / 2, group - 1}) {
                    const int64_t at =
                        ((row * scenario.queries + query) * d.q_heads + head * group + member) *
                        d.head_dim;
                    const int64_t position = run.lengths[row] - scenario.queries + query;
                    std::fill(out.begin(), out.end(), 0.0);
                    if (position >= 0) {
                        std::vector<double> q(&run.q[at], &run.q[at] + d.head_dim);
                        rope_exact(rope_rule, position, q.data());
                        attend_plain(q.data(), position, keys.data(), values.data(), position + 1,
                                     d.head_dim, rule, out.data());
                        hadamard::transform_reference(out.data(), d.head_dim);
                    }
                    double largest = 0, error = 0;
                    for (int i = 0; i < d.head_dim; ++i) {
                        const double got = load(run.o_raw.data(), d.dtype, at + i);
                        largest = std::max(largest, std::abs(out[i]));
                        error =
                            std::max(error, std::isnan(got) ? INFINITY : std::abs(got - out[i]));
                    }
                    TARPON_CHECK(
                        error <= tolerance * largest,
                        "%s: length %d, kv head %d, member %d, query %d: error %.3g of %.3g",
                        where.c_str(), run.lengths[row], head, member, query, error, largest);
                }
            }
        }
    }
}

std::vector<Scenario> scenarios() {
    std::vector<Scenario> all;
    const auto add = [&](std::string name, tarpon_kv_desc desc, std::vector<int> lengths,
                         int queries = 1) -> Scenario & {
        all.push_back({std::move(name), desc, std::move(lengths), queries});
        return all.back();
    };
    const std::vector<int> edges = {0, 1, 63, 64, 65, 127, 128, 129};
    for (int head_dim : {64, 96, 128, 256}) {
        for (int bits : {2, 3, 4, 8, 16}) {
            add("d" + std::to_string(head_dim) + " b" + std::to_string(bits),
                make_desc(head_dim, 2, 2, bits, bits), edges);
        }
    }
    for (int group : {1, 3, 4, 5, 7, 8, 9, 12, 16})
        add("group " + std::to_string(group), make_desc(128, 2, group, 2, 2), {1, 65, 200});
    add("K4 V2", make_desc(128, 2, 4, 4, 2), edges);
    add("K2 V3", make_desc(96, 2, 4, 2, 3), edges);
    add("long", make_desc(128, 1, 2, 2, 2), {4095, 4096, 4097, 511, 512, 513});
    add("speculative", make_desc(64, 2, 3, 2, 4), {1, 3, 8, 65, 600}, 8);
    auto desc = make_desc(128, 2, 2, 2, 2);
    desc.page_tokens = 128;
    add("pages of 128", desc, edges);
    desc.sink_tokens = 4;
    desc.window_tokens = 32;
    add("sinks and window", desc, {0, 1, 3, 4, 5, 35, 36, 37, 129, 700});
    add("sinks and window, steps", desc, {3, 40, 130}).step_by_step = true;
    add("sinks and window, speculative", desc, {2, 37, 130}, 5);
    desc.sink_tokens = 0;
    add("window", desc, {1, 32, 33, 129});
    desc.sink_tokens = 64;
    desc.window_tokens = 0;
    add("sinks", desc, {1, 64, 65, 129});
    desc = make_desc(128, 2, 2, 2, 2);
    desc.sliding_window = 50;
    add("sliding window", desc, {1, 49, 50, 51, 600}, 2);
    desc.sink_tokens = 4;
    desc.window_tokens = 16;
    add("sliding window with sinks", desc, {1, 49, 600}, 2);
    desc = make_desc(128, 2, 2, 4, 4);
    desc.softcap = 2;
    desc.score_scale = 0.2;
    add("softcap and scale", desc, {65, 129});
    desc = make_desc(64, 2, 2, 4, 4);
    desc.rope_layout = TARPON_ROPE_INTERLEAVED;
    desc.rope_dim = 32;
    desc.rope_theta = 5e5;
    desc.rope_scaling = 4;
    add("partial interleaved RoPE", desc, {65, 300});
    desc.rope_dim = 0;
    add("no RoPE", desc, {65, 129});
    add("no mean", make_desc(128, 2, 2, 2, 2), edges).with_mean = false;
    for (tarpon_dtype dtype : {TARPON_F16, TARPON_BF16}) {
        desc = make_desc(128, 2, 4, 2, 2);
        desc.dtype = dtype;
        desc.sink_tokens = 2;
        desc.window_tokens = 8;
        add(dtype_name(dtype), desc, {1, 65, 300});
    }
    return all;
}

void test_kv_codes_and_attention(const Target &target) {
    for (const Scenario &scenario : scenarios()) {
        Run run = make_run(scenario);
        const std::string where = target.name + ", " + scenario.name;
        const OwnedKv kv = create(target, scenario, run);
        if (!kv) continue;
        append_all(kv.get(), scenario, run);
        const auto expected = reference_pages(scenario, run);
        for (size_t i = 0; i < expected.size(); ++i) {
            TARPON_CHECK(run.pages->data[i] == expected[i],
                         "%s: byte %zu of page %zu is %d, not %d", where.c_str(),
                         i % run.info.page_bytes, i / run.info.page_bytes, run.pages->data[i],
                         expected[i]);
            if (run.pages->data[i] != expected[i]) break;
        }
        attend(kv.get(), scenario, run);
        check_outputs(scenario, run, where);
        const auto once = run.o_raw;
        attend(kv.get(), scenario, run);
        TARPON_CHECK(run.o_raw == once, "%s: a second run differs", where.c_str());
    }
}

// A sequence shortened by rejected tokens and continued equals one that never had them.
void test_kv_survives_a_rollback(const Target &target) {
    auto desc = make_desc(128, 2, 2, 2, 2);
    desc.sink_tokens = 4;
    desc.window_tokens = 16;
    const Scenario scenario{"rollback", desc, {100}};
    Run straight = make_run(scenario), rolled = make_run(scenario);
    const OwnedKv kv = create(target, scenario, straight);
    create(target, scenario, rolled);
    append_all(kv.get(), scenario, straight);
    // Tokens 0..94, then 8 tokens of other content at 92.. (kept: 92 of them), then the true ones.
    std::vector<int32_t> length = {92};
    auto args = append_args(rolled, 0, 92, length);
    tarpon_kv_append(kv.get(), &args, nullptr);
    length[0] = 100;
    args = append_args(rolled, 92, 8, length);
    args.k = rolled.k_raw.data();
    args.v = rolled.v_raw.data();
    tarpon_kv_append(kv.get(), &args, nullptr);
    args = append_args(rolled, 92, 8, length);
    tarpon_kv_append(kv.get(), &args, nullptr);
    attend(kv.get(), scenario, straight);
    attend(kv.get(), scenario, rolled);
    TARPON_CHECK(straight.o_raw == rolled.o_raw, "%s", target.name.c_str());
    rolled.lengths[0] = straight.lengths[0] = 92;  // shortened, not continued
    attend(kv.get(), scenario, rolled);
    check_outputs(scenario, rolled, target.name + ", shortened");
}

void expect(tarpon_status status, tarpon_status wanted, const char *part) {
    TARPON_CHECK(status == wanted && std::strstr(tarpon_last_error(), part),
                 "%s, \"%s\" does not say \"%s\"", tarpon_status_name(status), tarpon_last_error(),
                 part);
}

void test_kv_refuses_bad_input(const Target &target) {
    tarpon_kv *kv = nullptr;
    const auto refuse = [&](tarpon_status wanted, const char *part, auto change) {
        auto desc = make_desc(128, 2, 2, 2, 2);
        change(desc);
        expect(tarpon_kv_create(target.device.get(), &desc, nullptr, &kv), wanted, part);
    };
    using D = tarpon_kv_desc;
    refuse(TARPON_ERROR_UNSUPPORTED, "mode is 9", [](D &d) { d.mode = 9; });
    refuse(TARPON_ERROR_UNSUPPORTED, "head_dim is 80", [](D &d) { d.head_dim = 80; });
    refuse(TARPON_ERROR_UNSUPPORTED, "k_bits is 5", [](D &d) { d.k_bits = 5; });
    refuse(TARPON_ERROR_UNSUPPORTED, "v_bits is 1", [](D &d) { d.v_bits = 1; });
    refuse(TARPON_ERROR_UNSUPPORTED, "page_tokens is 32", [](D &d) { d.page_tokens = 32; });
    refuse(TARPON_ERROR_INVALID_ARGUMENT, "q_heads is 5", [](D &d) { d.q_heads = 5; });
    refuse(TARPON_ERROR_INVALID_ARGUMENT, "q_heads is 34", [](D &d) { d.q_heads = 34; });
    refuse(TARPON_ERROR_INVALID_ARGUMENT, "kv_heads is 0", [](D &d) { d.kv_heads = 0; });
    refuse(TARPON_ERROR_INVALID_ARGUMENT, "sink_tokens is 257", [](D &d) { d.sink_tokens = 257; });
    refuse(TARPON_ERROR_INVALID_ARGUMENT, "window_tokens is -1",
           [](D &d) { d.window_tokens = -1; });
    refuse(TARPON_ERROR_INVALID_ARGUMENT, "rope_dim is 63", [](D &d) { d.rope_dim = 63; });
    refuse(TARPON_ERROR_INVALID_ARGUMENT, "rope_theta is 0", [](D &d) { d.rope_theta = 0; });
    refuse(TARPON_ERROR_INVALID_ARGUMENT, "rope_layout is 2", [](D &d) { d.rope_layout = 2; });
    refuse(TARPON_ERROR_INVALID_ARGUMENT, "dtype is 3", [](D &d) { d.dtype = TARPON_U8; });
    refuse(TARPON_ERROR_INVALID_ARGUMENT, "softcap is -1", [](D &d) { d.softcap = -1; });
    refuse(TARPON_ERROR_INVALID_ARGUMENT, "struct_size is 3", [](D &d) { d.struct_size = 3; });
    std::vector<float> mean(256, 0.0f);
    mean[130] = NAN;
    auto desc = make_desc(128, 2, 2, 2, 2);
    tarpon_kv_calibration calibration{};
    calibration.struct_size = sizeof calibration;
    calibration.k_mean = mean.data();
    expect(tarpon_kv_create(target.device.get(), &desc, &calibration, &kv),
           TARPON_ERROR_INVALID_ARGUMENT, "k_mean[130]");

    desc.window_tokens = 8;
    const Scenario scenario{"errors", desc, {70, 10}};
    Run run = make_run(scenario);
    const OwnedKv plan = create(target, scenario, run);
    const auto refuse_append = [&](const char *part, auto change) {
        auto args = append_args(run, 0, 80, run.lengths);
        change(args);
        expect(tarpon_kv_append(plan.get(), &args, nullptr), TARPON_ERROR_INVALID_ARGUMENT, part);
    };
    using A = tarpon_kv_append_args;
    const std::vector<int64_t> wild_slot(80, run.page_count * 64);
    const std::vector<int32_t> wild_position(80, 1 << 17), short_lengths = {69, 10};
    refuse_append("k is (nil)", [](A &a) { a.k = nullptr; });
    refuse_append("tokens is -1", [](A &a) { a.tokens = -1; });
    refuse_append("recent is (nil)", [](A &a) { a.recent = nullptr; });
    refuse_append("page_count 0", [](A &a) { a.page_count = 0; });
    refuse_append("aligned", [](A &a) { a.pages = static_cast<char *>(a.pages) + 4; });
    refuse_append("token 0 has slot", [&](A &a) { a.slots = wild_slot.data(); });
    refuse_append("position 131072", [&](A &a) { a.positions = wild_position.data(); });
    refuse_append("row 1 of 1", [](A &a) { a.batch = 1; });
    refuse_append("token 69", [&](A &a) { a.lengths = short_lengths.data(); });
    for (size_t i = 0; i < run.page_count * run.info.page_bytes; ++i)
        TARPON_CHECK(run.pages->data[i] == 0xff, "a refused append wrote byte %zu", i);

    append_all(plan.get(), scenario, run);
    size_t bytes = 0;
    tarpon_kv_workspace_bytes(plan.get(), 2, 1, 70, &bytes);
    Aligned<char> workspace(bytes);
    const auto refuse_attend = [&](const char *part, auto change) {
        auto args = attend_args(run, 1, workspace);
        change(args);
        expect(tarpon_kv_attend(plan.get(), &args, nullptr), TARPON_ERROR_INVALID_ARGUMENT, part);
    };
    using B = tarpon_kv_attend_args;
    refuse_attend("queries 9", [](B &b) { b.queries = 9; });
    refuse_attend("q is (nil)", [](B &b) { b.q = nullptr; });
    refuse_attend("table_stride 1", [](B &b) { b.table_stride = 1; });
    refuse_attend("workspace is", [](B &b) { --b.workspace_bytes; });
    refuse_attend("length 70", [](B &b) { b.max_length = 64; });
    refuse_attend("page_table[0, ", [](B &b) { b.page_count = 1; });
    expect(tarpon_kv_attend(plan.get(), nullptr, nullptr), TARPON_ERROR_INVALID_ARGUMENT,
           "args is NULL");
    expect(tarpon_kv_attend(nullptr, nullptr, nullptr), TARPON_ERROR_INVALID_ARGUMENT,
           "kv is NULL");
}

void test_kv_other_devices_say_what_is_there() {
    for (const DeviceKind &kind : kDeviceKinds) {
        if (kind.kind == TARPON_DEVICE_CPU) continue;
        std::string reason;
        auto device = open_device(kind.kind, &reason);
        if (!device) continue;
        const auto desc = make_desc(128, 2, 2, 2, 2);
        tarpon_kv *kv = nullptr;
        expect(tarpon_kv_create(device.get(), &desc, nullptr, &kv), TARPON_ERROR_UNSUPPORTED,
               "CPU");
    }
}

}  // namespace
}  // namespace tarpon::test

int main() {
    using namespace tarpon::test;
    for (const char *isa : {"scalar", "avx512"}) {
        setenv("TARPON_CPU_ISA", isa, 1);
        std::string reason;
        Target target{open_device(TARPON_DEVICE_CPU, &reason), std::string("cpu ") + isa};
        if (!target.device) {
            std::printf("SKIPPED kv cache on %s: %s\n", target.name.c_str(), reason.c_str());
            continue;
        }
        test_kv_refuses_bad_input(target);
        test_kv_codes_and_attention(target);
        test_kv_survives_a_rollback(target);
        std::printf("kv cache on %s: %s\n", target.name.c_str(), failures ? "FAILED" : "ok");
    }
    unsetenv("TARPON_CPU_ISA");
    test_kv_other_devices_say_what_is_there();
    return failures ? 1 : 0;
}
