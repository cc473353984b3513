// Scenarios of the KV cache for tests through the C ABI: seeded keys, values and queries of a
// ragged batch in pages dealt in random order, what the reference stores of them, and what it
// attends to.
//
// Pages and table entries that no token uses hold NaN patterns and wild numbers.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <numeric>
#include <random>

#include "abi_support.h"
#include "kv_cache/ref.h"

namespace tarpon::test {

using namespace kv_cache;

inline int failures = 0;

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
    tarpon_device_kind kind;
    std::string name;
};

// An array in a device's memory.
template <class T>
class DeviceArray {
  public:
    DeviceArray() = default;
    DeviceArray(const Target &target, const std::vector<T> &values) : target_(&target) {
        tarpon_buffer *buffer = nullptr;
        size_ = values.size();
        TARPON_CHECK(tarpon_buffer_create(target.device.get(), std::max<size_t>(1, bytes()),
                                          &buffer) == TARPON_OK,
                     "%s", tarpon_last_error());
        buffer_.reset(buffer);
        write(values);
    }
    T *data() const { return static_cast<T *>(tarpon_buffer_address(buffer_.get())); }
    size_t size() const { return size_; }
    void write(const std::vector<T> &values) {
        TARPON_CHECK(tarpon_copy_to_device(target_->device.get(), data(), values.data(), bytes(),
                                           nullptr) == TARPON_OK,
                     "%s", tarpon_last_error());
    }
    std::vector<T> read() const {
        std::vector<T> values(size_);
        TARPON_CHECK(tarpon_copy_to_host(target_->device.get(), values.data(), data(), bytes(),
                                         nullptr) == TARPON_OK,
                     "%s", tarpon_last_error());
        return values;
    }

  private:
    size_t bytes() const { return size_ * sizeof(T); }
    const Target *target_ = nullptr;
    Owned<tarpon_buffer> buffer_;
    size_t size_ = 0;
};

inline tarpon_kv_desc make_desc(int head_dim, int kv_heads, int group, int k_bits, int v_bits,
                                tarpon_kv_mode mode = TARPON_KV_MODE_TARPON) {
    tarpon_kv_desc desc{};
    desc.struct_size = sizeof desc;
    desc.mode = mode;
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
    bool calibrated = true;     // with a mean, or an order
    bool normed = false;        // with QK-norm
    bool step_by_step = false;  // tokens appended one call each
    // Positions of each row's sinks; without any the first tokens, as sink_positions NULL has it.
    std::vector<std::vector<int32_t>> sinks = {};
};

// What a scenario comes to on a device.
struct Run {
    const Target *target;
    tarpon_kv_desc desc;
    Format format;
    std::vector<float> mean, q_norm, k_norm;  // empty if the scenario has none
    std::vector<int32_t> order;               // mode rotatekv
    float norm_eps = 0;
    std::vector<float> k, v, q;  // as rounded to the dtype; tokens of all sequences in order
    std::vector<char> o;         // of the last attend()
    std::vector<int32_t> lengths, positions, rows;
    std::vector<int32_t> sinks;  // [batch, sink_tokens], or empty
    std::vector<int64_t> slots;
    int64_t table_stride = 0, page_count = 0;
    tarpon_kv_info info{};
    DeviceArray<char> device_k, device_v, device_q, device_o;
    DeviceArray<int32_t> device_table, device_positions, device_rows, device_sinks;
    DeviceArray<int64_t> device_slots;
    DeviceArray<uint8_t> pages, recent;

    int64_t channels() const { return int64_t{format.kv_heads} * format.head_dim; }
    RopeRule rope_rule() const {
        return {
            desc.rope_theta, desc.rope_scaling, desc.rope_dim / 2,
            desc.rope_layout == TARPON_ROPE_HALF ? RopeLayout::kHalf : RopeLayout::kInterleaved};
    }
    const int32_t *sink_positions() const { return sinks.empty() ? nullptr : device_sinks.data(); }
    bool is_sink(int64_t row, int64_t position) const {
        if (sinks.empty()) return position < desc.sink_tokens;
        const auto list = sinks.begin() + row * desc.sink_tokens;
        return std::find(list, list + desc.sink_tokens, position) != list + desc.sink_tokens;
    }
    const float *head_mean(int head) const {
        return mean.empty() ? nullptr : &mean[int64_t{head} * format.head_dim];
    }
};

inline std::vector<char> random_values(size_t count, tarpon_dtype dtype, uint32_t seed,
                                       const std::vector<float> &mean, std::vector<float> *out) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<char> raw(count * dtype_bytes(dtype));
    for (size_t i = 0; i < count; ++i) {
        const float offset = mean.empty() ? 0.0f : mean[i % mean.size()];
        store(raw.data(), dtype, static_cast<int64_t>(i), offset + normal(random));
        out->push_back(load(raw.data(), dtype, static_cast<int64_t>(i)));
    }
    return raw;
}

inline void make_calibration(const Scenario &scenario, std::mt19937 &random,
                             const std::vector<float> &mean, Run &run) {
    if (run.format.scheme == Scheme::kRotatekv) {
        run.order.resize(run.channels());
        std::iota(run.order.begin(), run.order.end(), 0);
        if (scenario.calibrated) std::shuffle(run.order.begin(), run.order.end(), random);
    } else if (scenario.calibrated) {
        run.mean = mean;
    }
    if (!scenario.normed) return;
    std::uniform_real_distribution<float> weight(0.5f, 1.5f);
    for (int i = 0; i < run.format.head_dim; ++i) {
        run.q_norm.push_back(weight(random));
        run.k_norm.push_back(weight(random));
    }
    run.norm_eps = 1e-6f;
}

inline Run make_run(const Target &target, const Scenario &scenario) {
    Run run;
    run.target = &target;
    run.desc = scenario.desc;
    const tarpon_kv_desc &d = run.desc;
    run.format = {
        d.head_dim,    d.kv_heads,
        d.page_tokens, d.k_bits,
        d.v_bits,      d.mode == TARPON_KV_MODE_ROTATEKV ? Scheme::kRotatekv : Scheme::kTarpon};
    const int64_t tokens =
        std::accumulate(scenario.lengths.begin(), scenario.lengths.end(), int64_t{0});
    const int64_t batch = static_cast<int64_t>(scenario.lengths.size());
    std::mt19937 random(7);
    std::vector<float> mean(run.channels());
    for (float &m : mean)
        m = random() % 16 == 0 ? static_cast<float>(random() % 13) - 6.0f : (random() % 2) * 0.1f;
    make_calibration(scenario, random, mean, run);
    run.device_k = {target, random_values(tokens * run.channels(), d.dtype, 1, mean, &run.k)};
    run.device_v = {target, random_values(tokens * run.channels(), d.dtype, 2, {}, &run.v)};
    const int64_t queries = batch * scenario.queries * d.q_heads * d.head_dim;
    run.device_q = {target, random_values(queries, d.dtype, 3, {}, &run.q)};
    run.device_o = {target, std::vector<char>(queries * dtype_bytes(d.dtype), '\xff')};

    run.page_count = 3;
    for (int length : scenario.lengths) {
        const int64_t pages = (length + d.page_tokens - 1) / d.page_tokens;
        run.table_stride = std::max(run.table_stride, pages + 2);
        run.page_count += pages;
    }
    std::vector<int32_t> dealt(run.page_count);
    std::iota(dealt.begin(), dealt.end(), 0);
    std::shuffle(dealt.begin(), dealt.end(), random);
    std::vector<int32_t> table(batch * run.table_stride,
                               0x7fffffff);  // out of range where nothing is
    int next = 0;
    for (int64_t row = 0; row < batch; ++row) {
        run.lengths.push_back(scenario.lengths[row]);
        for (int position = 0; position < scenario.lengths[row]; ++position) {
            int32_t &page = table[row * run.table_stride + position / d.page_tokens];
            if (position % d.page_tokens == 0) page = dealt[next++];
            run.slots.push_back(int64_t{page} * d.page_tokens + position % d.page_tokens);
            run.positions.push_back(position);
            run.rows.push_back(static_cast<int32_t>(row));
        }
    }
    run.device_table = {target, table};
    run.device_positions = {target, run.positions};
    run.device_rows = {target, run.rows};
    run.device_slots = {target, run.slots};
    for (std::vector<int32_t> list : scenario.sinks) {
        list.resize(d.sink_tokens, -1);
        run.sinks.insert(run.sinks.end(), list.begin(), list.end());
    }
    run.device_sinks = {target, run.sinks};
    return run;
}

// The plan, and memory full of NaN patterns. Null after a failed check, and on a GPU or simulator
// that says it lacks what the scenario needs: a skip, counted by what it says.
inline OwnedKv create(const Scenario &scenario, Run &run, std::map<std::string, int> *skipped) {
    tarpon_kv *kv = nullptr;
    const auto pointer = [](const auto &v) { return v.empty() ? nullptr : v.data(); };
    tarpon_kv_calibration calibration{};
    calibration.struct_size = sizeof calibration;
    calibration.k_mean = pointer(run.mean);
    calibration.k_order = scenario.calibrated ? pointer(run.order) : nullptr;
    calibration.q_norm = pointer(run.q_norm);
    calibration.k_norm = pointer(run.k_norm);
    calibration.norm_eps = run.norm_eps;
    const tarpon_status status =
        tarpon_kv_create(run.target->device.get(), &run.desc, &calibration, &kv);
    if (status == TARPON_ERROR_UNSUPPORTED && run.target->kind != TARPON_DEVICE_CPU) {
        ++(*skipped)[tarpon_last_error()];
        return nullptr;
    }
    TARPON_CHECK(status == TARPON_OK, "%s: %s", scenario.name.c_str(), tarpon_last_error());
    OwnedKv owned(kv);
    if (!kv) return owned;
    run.info.struct_size = sizeof run.info;
    TARPON_CHECK(tarpon_kv_get_info(kv, &run.info) == TARPON_OK, "%s", tarpon_last_error());
    run.pages = {*run.target,
                 std::vector<uint8_t>(run.page_count * run.info.page_bytes, uint8_t{0xff})};
    run.recent = {*run.target,
                  std::vector<uint8_t>(run.lengths.size() * run.info.recent_bytes, uint8_t{0xff})};
    return owned;
}

inline tarpon_kv_append_args append_args(const Run &run, int64_t first, int64_t count,
                                         const DeviceArray<int32_t> &lengths) {
    const size_t token_bytes = run.channels() * dtype_bytes(run.desc.dtype);
    tarpon_kv_append_args a{};
    a.struct_size = sizeof a;
    a.k = run.device_k.data() + first * token_bytes;
    a.v = run.device_v.data() + first * token_bytes;
    a.tokens = count;
    a.slots = run.device_slots.data() + first;
    a.positions = run.device_positions.data() + first;
    a.rows = run.device_rows.data() + first;
    a.batch = static_cast<int64_t>(lengths.size());
    a.lengths = lengths.data();
    a.pages = run.pages.data();
    a.page_count = run.page_count;
    a.recent = run.info.recent_bytes ? run.recent.data() : nullptr;
    a.sink_positions = run.sink_positions();
    return a;
}

// Appends tokens [first, first + count), the sequences being as long as `lengths` then.
inline void append(const tarpon_kv *kv, const Run &run, int64_t first, int64_t count,
                   const std::vector<int32_t> &lengths) {
    const DeviceArray<int32_t> device_lengths(*run.target, lengths);
    const auto args = append_args(run, first, count, device_lengths);
    TARPON_CHECK(tarpon_kv_append(kv, &args, nullptr) == TARPON_OK, "%s", tarpon_last_error());
}

inline void append_all(const tarpon_kv *kv, const Scenario &scenario, const Run &run) {
    const int64_t tokens = static_cast<int64_t>(run.slots.size());
    if (!scenario.step_by_step) {
        append(kv, run, 0, tokens, run.lengths);
        return;
    }
    std::vector<int32_t> lengths(run.lengths.size());
    for (int64_t t = 0; t < tokens; ++t) {
        lengths[run.rows[t]] = run.positions[t] + 1;
        append(kv, run, t, 1, lengths);
    }
}

inline tarpon_kv_attend_args attend_args(const Run &run, int queries,
                                         const DeviceArray<int32_t> &lengths,
                                         const DeviceArray<char> &workspace) {
    tarpon_kv_attend_args a{};
    a.struct_size = sizeof a;
    a.queries = queries;
    a.q = run.device_q.data();
    a.o = run.device_o.data();
    a.batch = static_cast<int64_t>(run.lengths.size());
    a.page_table = run.device_table.data();
    a.table_stride = run.table_stride;
    a.lengths = lengths.data();
    a.max_length = *std::max_element(run.lengths.begin(), run.lengths.end());
    a.pages = run.pages.data();
    a.page_count = run.page_count;
    a.recent = run.info.recent_bytes ? run.recent.data() : nullptr;
    a.workspace = workspace.data();
    a.workspace_bytes = workspace.size();
    a.sink_positions = run.sink_positions();
    return a;
}

// Fills run.o.
inline void attend(const tarpon_kv *kv, const Scenario &scenario, Run &run) {
    size_t bytes = 0;
    const int longest = *std::max_element(run.lengths.begin(), run.lengths.end());
    TARPON_CHECK(tarpon_kv_workspace_bytes(kv, static_cast<int64_t>(run.lengths.size()),
                                           scenario.queries, longest, &bytes) == TARPON_OK,
                 "%s", tarpon_last_error());
    const DeviceArray<char> workspace(*run.target, std::vector<char>(bytes, '\xff'));
    const DeviceArray<int32_t> lengths(*run.target, run.lengths);
    run.device_o.write(std::vector<char>(run.device_o.size(), '\xff'));
    const auto args = attend_args(run, scenario.queries, lengths, workspace);
    TARPON_CHECK(tarpon_kv_attend(kv, &args, nullptr) == TARPON_OK, "%s", tarpon_last_error());
    run.o = run.device_o.read();
}

// ---- The reference

struct Tables {
    std::vector<CosSin> low, high;
    RopeTables view;
    explicit Tables(const Run &run) {
        const RopeRule rule = run.rope_rule();
        for (int p = 0; p < kRopeDigit; ++p) {
            for (int pair = 0; pair < rule.pairs; ++pair)
                low.push_back(rope_table_entry(rule.theta, rule.scaling, rule.pairs, p, pair));
        }
        for (int p = 0; p < run.desc.max_tokens; p += kRopeDigit) {
            for (int pair = 0; pair < rule.pairs; ++pair)
                high.push_back(rope_table_entry(rule.theta, rule.scaling, rule.pairs, p, pair));
        }
        view = {low.data(), high.data(), rule.pairs, rule.layout};
    }
};

// Keys of a token as pages store them: [kv_heads * head_dim] in binary32, for append's every bit.
inline std::vector<float> stored_keys(const Run &run, const Tables &tables, int64_t token) {
    const Format &f = run.format;
    std::vector<float> k(&run.k[token * run.channels()],
                         &run.k[token * run.channels()] + run.channels());
    for (int head = 0; head < f.kv_heads; ++head) {
        float *key = &k[int64_t{head} * f.head_dim];
        if (!run.k_norm.empty()) rms_norm(run.k_norm.data(), run.norm_eps, f.head_dim, key);
        if (f.scheme == Scheme::kTarpon) {
            transform_key(tables.view, run.head_mean(head), f.head_dim, run.positions[token], key);
        }
    }
    if (f.scheme == Scheme::kTarpon) return k;
    std::vector<float> rotated(k.size()), reordered(k.size());
    rotatekv_transform(k.data(), run.order.data(), f.kv_heads, f.head_dim,
                       rotatekv_group_heads(f.kv_heads), rotated.data(), reordered.data());
    return reordered;
}

inline std::vector<float> stored_values(const Run &run, int64_t token) {
    std::vector<float> v(&run.v[token * run.channels()],
                         &run.v[token * run.channels()] + run.channels());
    for (int head = 0; head < run.format.kv_heads; ++head)
        hadamard::transform_reference(&v[int64_t{head} * run.format.head_dim], run.format.head_dim);
    return v;
}

// All pages as the reference writes them.
inline std::vector<uint8_t> reference_pages(const Run &run) {
    const Format &f = run.format;
    const Tables tables(run);
    std::vector<uint8_t> pages(run.page_count * page_bytes(f), 0xff);
    for (size_t t = 0; t < run.slots.size(); ++t) {
        const auto k = stored_keys(run, tables, static_cast<int64_t>(t));
        const auto v = stored_values(run, static_cast<int64_t>(t));
        const int place = static_cast<int>(run.slots[t] % f.page_tokens);
        uint8_t *page = &pages[run.slots[t] / f.page_tokens * page_bytes(f)];
        for (int head = 0; head < f.kv_heads; ++head) {
            uint8_t *block = page + int64_t{head} * block_layout(f).bytes;
            store_key(block, f, place, &k[int64_t{head} * f.head_dim]);
            store_value(block, f, place, &v[int64_t{head} * f.head_dim]);
        }
    }
    return pages;
}

// Keys after RoPE and values of one sequence, [length][kv_heads][head_dim], as attention sees them:
// from the codes in `pages`, or from the 16-bit values of sinks and window.
struct Plain {
    std::vector<double> keys, values;
};

inline Plain plain_tokens(const Run &run, const std::vector<uint8_t> &pages, const Tables &tables,
                          int64_t row) {
    const Format &f = run.format;
    const int64_t channels = run.channels(), length = run.lengths[row];
    const RopeRule rule = run.rope_rule();
    const int64_t first = std::find(run.rows.begin(), run.rows.end(), row) - run.rows.begin();
    Plain plain{std::vector<double>(length * channels), std::vector<double>(length * channels)};
    for (int64_t j = 0; j < length; ++j) {
        const int64_t t = first + j;
        double *keys = &plain.keys[j * channels], *values = &plain.values[j * channels];
        const bool recent = run.is_sink(row, j) || j >= length - run.desc.window_tokens;
        const uint8_t *page = &pages[run.slots[t] / f.page_tokens * page_bytes(f)];
        const int place = static_cast<int>(run.slots[t] % f.page_tokens);
        const auto exact_k = recent && f.scheme == Scheme::kTarpon ? stored_keys(run, tables, t)
                                                                   : std::vector<float>();
        const auto exact_v = recent ? stored_values(run, t) : std::vector<float>();
        std::vector<double> stored(channels);
        for (int head = 0; head < f.kv_heads; ++head) {
            const int64_t at = int64_t{head} * f.head_dim;
            const uint8_t *block = page + int64_t{head} * block_layout(f).bytes;
            if (!recent) {
                load_key(block, f, place, &stored[at]);
                load_value(block, f, place, values + at);
            } else {
                for (int i = 0; i < f.head_dim; ++i) {
                    values[at + i] = to_float(saturate_half(exact_v[at + i]));
                    if (!exact_k.empty()) stored[at + i] = to_float(saturate_half(exact_k[at + i]));
                }
            }
            hadamard::transform_reference(values + at, f.head_dim);
            if (f.scheme == Scheme::kTarpon) {
                std::copy_n(&stored[at], f.head_dim, keys + at);
                recover_key(rule, run.head_mean(head), f.head_dim, j, keys + at);
            } else if (recent) {
                std::vector<float> k(&run.k[t * channels + at],
                                     &run.k[t * channels + at] + f.head_dim);
                if (!run.k_norm.empty())
                    rms_norm(run.k_norm.data(), run.norm_eps, f.head_dim, k.data());
                rope(tables.view, static_cast<int>(j), k.data());
                for (int i = 0; i < f.head_dim; ++i)
                    keys[at + i] = to_float(saturate_half(k[i]));
            }
        }
        if (f.scheme == Scheme::kTarpon || recent) continue;
        rotatekv_recover(stored.data(), run.order.data(), f.kv_heads, f.head_dim,
                         rotatekv_group_heads(f.kv_heads), keys);
        for (int head = 0; head < f.kv_heads; ++head)
            rope_exact(rule, j, keys + int64_t{head} * f.head_dim);
    }
    return plain;
}

// Every output row within the tolerance of its largest element: 1e-3, and what the dtype's rounding
// of the output adds.
inline void check_outputs(const Scenario &scenario, const Run &run, const std::string &where) {
    const tarpon_kv_desc &d = run.desc;
    const Tables tables(run);
    const auto pages = run.pages.read();
    const AttentionRule rule{d.score_scale > 0 ? d.score_scale : 1 / std::sqrt(double(d.head_dim)),
                             d.softcap, d.sliding_window};
    const double tolerance = 1e-3 + (d.dtype == TARPON_BF16  ? 0x1p-8
                                     : d.dtype == TARPON_F16 ? 0x1p-11
                                                             : 0);
    const int group = d.q_heads / d.kv_heads;
    for (int64_t row = 0; row < static_cast<int64_t>(run.lengths.size()); ++row) {
        const Plain plain = plain_tokens(run, pages, tables, row);
        const int64_t length = run.lengths[row];
        for (int head = 0; head < d.kv_heads; ++head) {
            std::vector<double> keys, values, out(d.head_dim);
            for (int64_t j = 0; j < length; ++j) {
                const int64_t at = j * run.channels() + int64_t{head} * d.head_dim;
                keys.insert(keys.end(), &plain.keys[at], &plain.keys[at] + d.head_dim);
                values.insert(values.end(), &plain.values[at], &plain.values[at] + d.head_dim);
            }
            for (int query = 0; query < scenario.queries; ++query) {
                // Of large groups the first, the last and one between.
                for (int member : {0, group / 2, group - 1}) {
                    const int64_t at =
                        ((row * scenario.queries + query) * d.q_heads + head * group + member) *
                        d.head_dim;
                    const int64_t position = length - scenario.queries + query;
                    std::fill(out.begin(), out.end(), 0.0);
                    if (position >= 0) {
                        std::vector<float> normed(&run.q[at], &run.q[at] + d.head_dim);
                        if (!run.q_norm.empty())
                            rms_norm(run.q_norm.data(), run.norm_eps, d.head_dim, normed.data());
                        std::vector<double> q(normed.begin(), normed.end());
                        rope_exact(run.rope_rule(), position, q.data());
                        attend_plain(q.data(), position, keys.data(), values.data(), position + 1,
                                     d.head_dim, rule, out.data());
                    }
                    double largest = 0, error = 0;
                    for (int i = 0; i < d.head_dim; ++i) {
                        const double got = load(run.o.data(), d.dtype, at + i);
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

// What attention works with, read back: within binary32's rounding of the exact coordinates.
inline void check_dequantized(const tarpon_kv *kv, const Run &run, const std::string &where) {
    const size_t count = run.slots.size() * run.channels();
    const DeviceArray<float> k(*run.target, std::vector<float>(count, NAN)),
        v(*run.target, std::vector<float>(count, NAN));
    const DeviceArray<int32_t> lengths(*run.target, run.lengths);
    tarpon_kv_dequantize_args a{};
    a.struct_size = sizeof a;
    a.k = k.data();
    a.v = v.data();
    a.tokens = static_cast<int64_t>(run.slots.size());
    a.slots = run.device_slots.data();
    a.positions = run.device_positions.data();
    a.rows = run.device_rows.data();
    a.batch = static_cast<int64_t>(run.lengths.size());
    a.lengths = lengths.data();
    a.pages = run.pages.data();
    a.page_count = run.page_count;
    a.recent = run.info.recent_bytes ? run.recent.data() : nullptr;
    a.sink_positions = run.sink_positions();
    TARPON_CHECK(tarpon_kv_dequantize(kv, &a, nullptr) == TARPON_OK, "%s: %s", where.c_str(),
                 tarpon_last_error());
    const auto got_k = k.read(), got_v = v.read();
    const auto pages = run.pages.read();
    const Tables tables(run);
    size_t at = 0;
    for (int64_t row = 0; row < static_cast<int64_t>(run.lengths.size()); ++row) {
        const Plain plain = plain_tokens(run, pages, tables, row);
        for (size_t i = 0; i < plain.keys.size(); ++i, ++at) {
            TARPON_CHECK(std::abs(got_k[at] - plain.keys[i]) <= 2e-5,
                         "%s: row %d, read back k[%zu] is %.9g, not %.9g", where.c_str(), int(row),
                         i, got_k[at], plain.keys[i]);
            TARPON_CHECK(std::abs(got_v[at] - plain.values[i]) <= 1e-5,
                         "%s: row %d, read back v[%zu] is %.9g, not %.9g", where.c_str(), int(row),
                         i, got_v[at], plain.values[i]);
        }
    }
}

// Runs a test on the CPU with every instruction set that attends and on every other device. Returns
// what main() does.
inline int on_every_device(const char *what, void (*test)(const Target &)) {
    const auto run = [&](tarpon_device_kind kind, const std::string &name) {
        std::string reason;
        const Target target{open_device(kind, &reason), kind, name};
        if (!target.device) {
            std::printf("SKIPPED %s on %s: %s\n", what, name.c_str(), reason.c_str());
            return;
        }
        test(target);
        std::printf("%s on %s: %s\n", what, name.c_str(), failures ? "FAILED" : "ok");
    };
    for (const char *isa : {"scalar", "avx2", "avx512", "avx512_vnni"}) {
        setenv("TARPON_CPU_ISA", isa, 1);
        run(TARPON_DEVICE_CPU, std::string("cpu ") + isa);
    }
    unsetenv("TARPON_CPU_ISA");
    for (const DeviceKind &kind : kDeviceKinds) {
        if (kind.kind != TARPON_DEVICE_CPU) run(kind.kind, kind.name);
    }
    return failures ? 1 : 0;
}

inline void expect(tarpon_status status, tarpon_status wanted, const char *part) {
    TARPON_CHECK(status == wanted && std::strstr(tarpon_last_error(), part),
                 "%s, \"%s\" does not say \"%s\"", tarpon_status_name(status), tarpon_last_error(),
                 part);
}

}  // namespace tarpon::test
