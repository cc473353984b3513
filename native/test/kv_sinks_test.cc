// Sinks of the KV cache that stand anywhere in a sequence, through the C ABI, on every device: a
// list of the first tokens gives the bits that none gives, other lists attend within 1e-3 of
// binary64 on the same codes and 16-bit values, and read back what they attend to. Alone:
// ctest -R kv_sinks
#include "kv_support.h"

namespace tarpon::test {
namespace {

void print_skipped(const Target &target, const std::map<std::string, int> &skipped) {
    for (const auto &[reason, count] : skipped)
        std::printf("SKIPPED %d scenarios on %s: %s\n", count, target.name.c_str(), reason.c_str());
}

tarpon_kv_desc sinks_desc(tarpon_kv_mode mode, int sink_tokens, int window_tokens) {
    auto desc = make_desc(128, 2, 2, 2, 2, mode);
    desc.sink_tokens = sink_tokens;
    desc.window_tokens = window_tokens;
    return desc;
}

void test_kv_sinks_at_the_start_are_those_without_a_list(const Target &target,
                                                         tarpon_kv_mode mode) {
    std::map<std::string, int> skipped;
    for (int window : {0, 16}) {
        const std::vector<int32_t> first = {0, 1, 2, 3, 4};
        const Scenario plain{"no list", sinks_desc(mode, 5, window), {0, 3, 5, 70, 600}, 2};
        Scenario listed = plain;
        listed.sinks.assign(plain.lengths.size(), first);
        Run a = make_run(target, plain), b = make_run(target, listed);
        const OwnedKv kv = create(plain, a, &skipped);
        if (!kv || !create(listed, b, &skipped)) continue;
        append_all(kv.get(), plain, a);
        append_all(kv.get(), listed, b);
        TARPON_CHECK(a.pages.read() == b.pages.read(), "%s: pages", target.name.c_str());
        TARPON_CHECK(a.recent.read() == b.recent.read(), "%s: stores", target.name.c_str());
        attend(kv.get(), plain, a);
        attend(kv.get(), listed, b);
        TARPON_CHECK(a.o == b.o, "%s: outputs", target.name.c_str());
    }
    print_skipped(target, skipped);
}

std::vector<Scenario> scattered_scenarios(tarpon_kv_mode mode) {
    std::vector<Scenario> all;
    // Sinks after a gap at the start, in the middle of pages, at their edges, consecutive ones, at
    // the edges of the CPU's splits, in the window, the last token, and beyond the end.
    const std::vector<int> lengths = {0, 1, 40, 129, 700, 700};
    const std::vector<std::vector<int32_t>> sinks = {
        {0, 3},
        {0},
        {0, 1, 17, 30, 39, 40, 50},
        {2, 63, 64, 65, 127, 128},
        {0, 5, 100, 511, 512, 513, 690, 699, 700, 100000},
        {}};
    for (int window : {0, 32})
        all.push_back({"scattered", sinks_desc(mode, 10, window), lengths, 1});
    all.push_back({"scattered, steps", sinks_desc(mode, 10, 32), {40, 129}, 1});
    all.back().step_by_step = true;
    all.push_back({"scattered, speculative", sinks_desc(mode, 10, 32), lengths, 6});
    auto desc = sinks_desc(mode, 10, 0);
    desc.sliding_window = 50;
    all.push_back({"scattered, sliding window", desc, lengths, 2});
    desc.window_tokens = 16;
    desc.softcap = 2;
    all.push_back({"scattered, sliding window and softcap", desc, lengths, 2});
    for (Scenario &scenario : all) {
        scenario.sinks = sinks;
        if (scenario.step_by_step) scenario.sinks = {sinks[2], sinks[3]};
    }
    // A split whose every key is a sink, and more of them than a tile.
    std::vector<int32_t> run(256);
    std::iota(run.begin(), run.end(), 500);
    all.push_back({"a run of sinks", sinks_desc(mode, 256, 8), {510, 512, 756, 800}, 1});
    all.back().sinks = {run, run, run, run};
    desc = make_desc(96, 2, 4, 4, 3, mode);
    desc.sink_tokens = 10;
    desc.page_tokens = 128;
    all.push_back({"scattered, heads of 96, pages of 128", desc, lengths, 1});
    all.back().sinks = sinks;
    return all;
}

void test_kv_sinks_anywhere(const Target &target, tarpon_kv_mode mode) {
    std::map<std::string, int> skipped;
    for (const Scenario &scenario : scattered_scenarios(mode)) {
        Run run = make_run(target, scenario);
        const OwnedKv kv = create(scenario, run, &skipped);
        if (!kv) continue;
        const std::string where = target.name + ", mode " + std::to_string(mode) + ", " +
                                  scenario.name + ", window " +
                                  std::to_string(scenario.desc.window_tokens);
        append_all(kv.get(), scenario, run);
        // The codes of sinks are in the pages all the same.
        TARPON_CHECK(run.pages.read() == reference_pages(run), "%s: pages", where.c_str());
        attend(kv.get(), scenario, run);
        check_outputs(scenario, run, where);
        check_dequantized(kv.get(), run, where);
    }
    print_skipped(target, skipped);
}

// A list that grows at its end from step to step, as where sinks are found while a text is read,
// gives what the whole list gives from the start.
void test_kv_sinks_may_be_added(const Target &target, tarpon_kv_mode mode) {
    std::map<std::string, int> skipped;
    Scenario scenario{"growing", sinks_desc(mode, 6, 8), {90}, 1};
    scenario.sinks = {{4, 20, 21, 70, 80}};
    Run whole = make_run(target, scenario), growing = make_run(target, scenario);
    const OwnedKv kv = create(scenario, whole, &skipped);
    if (!kv || !create(scenario, growing, &skipped)) {
        print_skipped(target, skipped);
        return;
    }
    append_all(kv.get(), scenario, whole);
    const std::vector<int32_t> list = growing.sinks;
    for (int position = 0; position < 90; ++position) {
        std::vector<int32_t> known = list;
        for (int32_t &sink : known)
            sink = sink <= position ? sink : -1;
        growing.device_sinks.write(known);
        append(kv.get(), growing, position, 1, {position + 1});
    }
    attend(kv.get(), scenario, whole);
    attend(kv.get(), scenario, growing);
    TARPON_CHECK(whole.o == growing.o, "%s", target.name.c_str());
}

void test_all(const Target &target) {
    for (tarpon_kv_mode mode : {TARPON_KV_MODE_TARPON, TARPON_KV_MODE_ROTATEKV}) {
        test_kv_sinks_at_the_start_are_those_without_a_list(target, mode);
        test_kv_sinks_anywhere(target, mode);
        test_kv_sinks_may_be_added(target, mode);
    }
}

}  // namespace
}  // namespace tarpon::test

int main() {
    return tarpon::test::on_every_device("kv sinks", tarpon::test::test_all);
}
