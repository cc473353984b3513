// What callers of the KV cache get wrong, through the C ABI: every mistake gets its status and a
// message with the offending values, and writes nothing. Alone: ctest -R kv_error
#include "kv_support.h"

namespace tarpon::test {
namespace {

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
    refuse(TARPON_ERROR_UNSUPPORTED, "takes 16384", [](D &d) {
        d.mode = TARPON_KV_MODE_ROTATEKV;
        d.kv_heads = d.q_heads = 256;
    });
    auto desc = make_desc(128, 2, 2, 2, 2);
    const auto refuse_calibration = [&](const char *part, tarpon_kv_mode mode, auto change) {
        desc.mode = mode;
        tarpon_kv_calibration calibration{};
        calibration.struct_size = sizeof calibration;
        change(calibration);
        expect(tarpon_kv_create(target.device.get(), &desc, &calibration, &kv),
               TARPON_ERROR_INVALID_ARGUMENT, part);
    };
    using C = tarpon_kv_calibration;
    std::vector<float> wild(256, 0.0f);
    wild[100] = NAN;
    std::vector<int32_t> twice(256), beyond(256);
    std::iota(twice.begin(), twice.end(), 0);
    beyond = twice;
    twice[200] = 9;
    beyond[3] = 256;
    const auto plain = TARPON_KV_MODE_TARPON, faithful = TARPON_KV_MODE_ROTATEKV;
    refuse_calibration("k_mean[100]", plain, [&](C &c) { c.k_mean = wild.data(); });
    refuse_calibration("q_norm[100]", plain, [&](C &c) { c.q_norm = wild.data(); });
    refuse_calibration("k_norm[100]", faithful, [&](C &c) { c.k_norm = wild.data(); });
    refuse_calibration("norm_eps is -1", plain, [](C &c) { c.norm_eps = -1; });
    refuse_calibration("k_mean is given", faithful, [&](C &c) { c.k_mean = wild.data(); });
    refuse_calibration("k_order is given", plain, [&](C &c) { c.k_order = twice.data(); });
    refuse_calibration("channels 9 and 200 are both 9", faithful,
                       [&](C &c) { c.k_order = twice.data(); });
    refuse_calibration("k_order[3] is 256", faithful, [&](C &c) { c.k_order = beyond.data(); });
    refuse_calibration("calibration->struct_size is 3", plain, [](C &c) { c.struct_size = 3; });
    desc.mode = plain;

    desc.window_tokens = 8;
    desc.sink_tokens = 3;
    const Scenario scenario{"errors", desc, {70, 10}};
    Run run = make_run(target, scenario);
    std::map<std::string, int> skipped;
    const OwnedKv plan = create(scenario, run, &skipped);
    const DeviceArray<int32_t> lengths(target, run.lengths);
    const auto refuse_append = [&](const char *part, auto change) {
        auto args = append_args(run, 0, 80, lengths);
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
    const std::vector<int32_t> falling = {0, 1, 2, 5, 9, 7}, twice_one = {0, 4, 4, 1, -1, -1},
                               gap = {0, 1, 2, 3, -1, 8}, far = {0, 1, 2, 3, 4, 1 << 17};
    refuse_append("sink_positions[1, 2] is 7 after 9",
                  [&](A &a) { a.sink_positions = falling.data(); });
    refuse_append("sink_positions[0, 2] is 4 after 4",
                  [&](A &a) { a.sink_positions = twice_one.data(); });
    refuse_append("sink_positions[1, 2] is 8 after -1",
                  [&](A &a) { a.sink_positions = gap.data(); });
    refuse_append("sink_positions[1, 2] is 131072; max_tokens is 131072",
                  [&](A &a) { a.sink_positions = far.data(); });
    const auto untouched_store = run.recent.read();
    for (size_t i = 0; i < untouched_store.size(); ++i)
        TARPON_CHECK(untouched_store[i] == 0xff, "a refused append wrote byte %zu of the store", i);
    const auto untouched = run.pages.read();
    for (size_t i = 0; i < untouched.size(); ++i)
        TARPON_CHECK(untouched[i] == 0xff, "a refused append wrote byte %zu", i);

    append_all(plan.get(), scenario, run);
    size_t bytes = 0;
    tarpon_kv_workspace_bytes(plan.get(), 2, 1, 70, &bytes);
    const DeviceArray<char> workspace(target, std::vector<char>(bytes));
    const auto refuse_attend = [&](const char *part, auto change) {
        auto args = attend_args(run, 1, lengths, workspace);
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
    refuse_attend("kv attend: sink_positions[1, 2] is 7 after 9",
                  [&](B &b) { b.sink_positions = falling.data(); });
    expect(tarpon_kv_attend(plan.get(), nullptr, nullptr), TARPON_ERROR_INVALID_ARGUMENT,
           "args is NULL");
    expect(tarpon_kv_attend(nullptr, nullptr, nullptr), TARPON_ERROR_INVALID_ARGUMENT,
           "kv is NULL");

    std::vector<float> k(80 * run.channels()), v(k.size());
    const auto refuse_dequantize = [&](const char *part, auto change) {
        tarpon_kv_dequantize_args args{};
        args.struct_size = sizeof args;
        args.k = k.data();
        args.v = v.data();
        args.tokens = 80;
        args.slots = run.device_slots.data();
        args.positions = run.device_positions.data();
        args.rows = run.device_rows.data();
        args.batch = 2;
        args.lengths = lengths.data();
        args.pages = run.pages.data();
        args.page_count = run.page_count;
        change(args);
        expect(tarpon_kv_dequantize(plan.get(), &args, nullptr), TARPON_ERROR_INVALID_ARGUMENT,
               part);
    };
    using E = tarpon_kv_dequantize_args;
    refuse_dequantize("k is (nil)", [](E &e) { e.k = nullptr; });
    refuse_dequantize("tokens is -2", [](E &e) { e.tokens = -2; });
    refuse_dequantize("token 0 has slot", [&](E &e) { e.slots = wild_slot.data(); });
    refuse_dequantize("row 1 of 1", [](E &e) { e.batch = 1; });
    refuse_dequantize("aligned", [](E &e) { e.pages = static_cast<const char *>(e.pages) + 4; });
    refuse_dequantize("kv dequantize: sink_positions[1, 2] is 8 after -1",
                      [&](E &e) { e.sink_positions = gap.data(); });
    refuse_dequantize("recent is", [](E &e) { e.recent = reinterpret_cast<const void *>(4); });
}

}  // namespace
}  // namespace tarpon::test

int main() {
    using namespace tarpon::test;
    std::string reason;
    const Target target{open_device(TARPON_DEVICE_CPU, &reason), TARPON_DEVICE_CPU, "cpu"};
    TARPON_CHECK(target.device != nullptr, "%s", reason.c_str());
    test_kv_refuses_bad_input(target);
    return failures ? 1 : 0;
}
