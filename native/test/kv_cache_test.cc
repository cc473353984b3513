// The KV cache through the C ABI, on every device that has it and, on the CPU, with every
// instruction set that attends: codes equal to the reference's bit for bit, attention within 1e-3
// of binary64 on the same codes, tokens read back. Alone: ctest -R kv_cache
#include <cstdlib>
#include <map>

#include "kv_support.h"

namespace tarpon::test {
namespace {

constexpr int kWidths[] = {2, 3, 4, 8, 16};

std::vector<Scenario> scenarios(tarpon_kv_mode mode) {
    std::vector<Scenario> all;
    const std::string prefix = mode == TARPON_KV_MODE_ROTATEKV ? "rotatekv " : "";
    const auto describe = [&](int head_dim, int kv_heads, int group, int k_bits, int v_bits) {
        return make_desc(head_dim, kv_heads, group, k_bits, v_bits, mode);
    };
    const auto add = [&](std::string name, tarpon_kv_desc desc, std::vector<int> lengths,
                         int queries = 1) -> Scenario & {
        all.push_back({prefix + name, desc, std::move(lengths), queries});
        return all.back();
    };
    const std::vector<int> edges = {0, 1, 63, 64, 65, 127, 128, 129};
    for (int head_dim : {64, 96, 128, 256}) {
        for (int bits : kWidths)
            add("d" + std::to_string(head_dim) + " b" + std::to_string(bits),
                describe(head_dim, 2, 2, bits, bits), edges);
    }
    for (int group = 1; group <= 16; ++group)
        add("group " + std::to_string(group), describe(128, 2, group, 2, 2), {1, 65, 200});
    // Rotations of mode rotatekv: groups of one, two and four heads.
    for (int kv_heads : {1, 3, 6, 8})
        add("heads " + std::to_string(kv_heads), describe(64, kv_heads, 2, 3, 3), {1, 65, 130});
    add("heads of 96", describe(96, 4, 1, 2, 4), {1, 65, 130});
    add("K4 V2", describe(128, 2, 4, 4, 2), edges);
    add("K2 V3", describe(96, 2, 4, 2, 3), edges);
    add("K16 V2", describe(128, 2, 4, 16, 2), edges);
    add("long", describe(128, 1, 2, 2, 2), {4095, 4096, 4097, 511, 512, 513});
    add("very long", describe(128, 1, 2, 2, 2), {32768});
    add("speculative", describe(64, 2, 3, 2, 4), {1, 3, 8, 65, 600}, 8);
    auto desc = describe(128, 2, 2, 2, 2);
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
    desc = describe(128, 2, 2, 2, 2);
    desc.sliding_window = 50;
    add("sliding window", desc, {1, 49, 50, 51, 600}, 2);
    desc.sink_tokens = 4;
    desc.window_tokens = 16;
    add("sliding window with sinks", desc, {1, 49, 600}, 2);
    desc = describe(128, 2, 2, 4, 4);
    desc.softcap = 2;
    desc.score_scale = 0.2;
    add("softcap and scale", desc, {65, 129});
    desc = describe(64, 2, 2, 4, 4);
    desc.rope_layout = TARPON_ROPE_INTERLEAVED;
    desc.rope_dim = 32;
    desc.rope_theta = 5e5;
    desc.rope_scaling = 4;
    add("partial interleaved RoPE", desc, {65, 300});
    desc.rope_dim = 22;  // 11 pairs, no multiple of any vector's lanes
    add("RoPE of 22 channels, interleaved", desc, {65});
    desc.rope_layout = TARPON_ROPE_HALF;
    add("RoPE of 22 channels", desc, {65});
    desc.rope_dim = 32;
    add("partial RoPE", desc, {65, 300});
    desc.rope_dim = 0;
    add("no RoPE", desc, {65, 129});
    add("uncalibrated", describe(128, 2, 2, 2, 2), edges).calibrated = false;
    for (int bits : kWidths) {
        desc = describe(128, 2, 2, bits, bits);
        desc.sink_tokens = 1;
        desc.window_tokens = 4;
        add("QK-norm b" + std::to_string(bits), desc, {1, 65, 129}).normed = true;
    }
    for (tarpon_dtype dtype : {TARPON_F16, TARPON_BF16}) {
        desc = describe(128, 2, 4, 2, 2);
        desc.dtype = dtype;
        desc.sink_tokens = 2;
        desc.window_tokens = 8;
        add(dtype_name(dtype), desc, {1, 65, 300}).normed = true;
    }
    return all;
}

// The simulator takes seconds for what a processor does in milliseconds.
bool too_long_for_simulator(const Target &target, const Scenario &scenario) {
    return target.kind == TARPON_DEVICE_SIM &&
           *std::max_element(scenario.lengths.begin(), scenario.lengths.end()) > 8192;
}

void test_kv_codes_and_attention(const Target &target, tarpon_kv_mode mode) {
    std::map<std::string, int> skipped;  // by reason
    for (const Scenario &scenario : scenarios(mode)) {
        if (too_long_for_simulator(target, scenario)) {
            ++skipped["sequences of more than 8192 tokens take too long there"];
            continue;
        }
        Run run = make_run(target, scenario);
        const std::string where = target.name + ", " + scenario.name;
        const OwnedKv kv = create(scenario, run, &skipped);
        if (!kv) continue;
        append_all(kv.get(), scenario, run);
        const auto expected = reference_pages(run), got = run.pages.read();
        for (size_t i = 0; i < expected.size(); ++i) {
            TARPON_CHECK(got[i] == expected[i], "%s: byte %zu of page %zu is %d, not %d",
                         where.c_str(), i % run.info.page_bytes, i / run.info.page_bytes, got[i],
                         expected[i]);
            if (got[i] != expected[i]) break;
        }
        attend(kv.get(), scenario, run);
        check_outputs(scenario, run, where);
        const auto once = run.o;
        attend(kv.get(), scenario, run);
        TARPON_CHECK(run.o == once, "%s: a second run differs", where.c_str());
        check_dequantized(kv.get(), run, where);
    }
    for (const auto &[reason, count] : skipped)
        std::printf("SKIPPED %d scenarios on %s: %s\n", count, target.name.c_str(), reason.c_str());
}

// A sequence shortened by rejected tokens and continued equals one that never had them.
void test_kv_survives_a_rollback(const Target &target, tarpon_kv_mode mode) {
    auto desc = make_desc(128, 2, 2, 2, 2, mode);
    desc.sink_tokens = 4;
    desc.window_tokens = 16;
    const Scenario scenario{"rollback", desc, {100}};
    Run straight = make_run(target, scenario), rolled = make_run(target, scenario);
    std::map<std::string, int> skipped;
    const OwnedKv kv = create(scenario, straight, &skipped);
    if (!kv) return;
    create(scenario, rolled, &skipped);
    append_all(kv.get(), scenario, straight);
    // Tokens 0..91, then 8 tokens of other content, then the true ones.
    append(kv.get(), rolled, 0, 92, {92});
    const DeviceArray<int32_t> length(target, {100});
    auto args = append_args(rolled, 92, 8, length);
    args.k = rolled.device_k.data();
    args.v = rolled.device_v.data();
    TARPON_CHECK(tarpon_kv_append(kv.get(), &args, nullptr) == TARPON_OK, "%s",
                 tarpon_last_error());
    append(kv.get(), rolled, 92, 8, {100});
    attend(kv.get(), scenario, straight);
    attend(kv.get(), scenario, rolled);
    TARPON_CHECK(straight.o == rolled.o, "%s", target.name.c_str());
    rolled.lengths[0] = 92;  // shortened, not continued
    attend(kv.get(), scenario, rolled);
    check_outputs(scenario, rolled, target.name + ", shortened");
}

// Pages, recent store and lengths are all there is of a cache: copied into other memory and given
// to another plan they continue as if nothing had happened.
void test_kv_snapshot_continues(const Target &target, tarpon_kv_mode mode) {
    auto desc = make_desc(128, 2, 2, 2, 3, mode);
    desc.sink_tokens = 4;
    desc.window_tokens = 16;
    const Scenario scenario{"snapshot", desc, {100}};
    Run run = make_run(target, scenario), resumed = make_run(target, scenario);
    std::map<std::string, int> skipped;
    const OwnedKv kv = create(scenario, run, &skipped), other = create(scenario, resumed, &skipped);
    if (!kv || !other) return;
    append(kv.get(), run, 0, 70, {70});
    resumed.pages.write(run.pages.read());
    resumed.recent.write(run.recent.read());
    append(kv.get(), run, 70, 30, {100});
    append(other.get(), resumed, 70, 30, {100});
    attend(kv.get(), scenario, run);
    attend(other.get(), scenario, resumed);
    TARPON_CHECK(run.o == resumed.o, "%s", target.name.c_str());
}

void test_all(const Target &target) {
    for (tarpon_kv_mode mode : {TARPON_KV_MODE_TARPON, TARPON_KV_MODE_ROTATEKV}) {
        test_kv_codes_and_attention(target, mode);
        test_kv_survives_a_rollback(target, mode);
        test_kv_snapshot_continues(target, mode);
    }
}

}  // namespace
}  // namespace tarpon::test

int main() {
    return tarpon::test::on_every_device("kv cache", tarpon::test::test_all);
}
