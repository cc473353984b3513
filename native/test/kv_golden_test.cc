// The faithful mode against the golden tensors of RotateKV's own simulation: its arithmetic step by
// step, and the cache of mode ROTATEKV through the C ABI. Alone: ctest -R kv_golden
#include <cmath>
#include <cstdio>
#include <string>

#include "abi_support.h"
#include "kv_cache/ref.h"
#include "optim_golden.h"

namespace tarpon::kv_cache {
namespace {

constexpr int kHeads = 8, kTokens = 64, kDim = 128, kGroupHeads = 4, kChannels = kHeads * kDim;

int failures = 0;

// Golden tensors are [head][token][channel].
int64_t at(int head, int token, int channel) {
    return (int64_t{head} * kTokens + token) * kDim + channel;
}

void expect_near(double got, double want, double tolerance, const char *what, int64_t index) {
    if (std::abs(got - want) <= tolerance) return;
    if (++failures <= 10) {
        std::printf("%s[%lld] is %.9g, golden %.9g\n", what, static_cast<long long>(index), got,
                    want);
    }
}

std::vector<float> gather_token(const std::vector<float> &all, int token) {
    std::vector<float> keys(kChannels);
    for (int c = 0; c < kChannels; ++c)
        keys[c] = all[at(c / kDim, token, c % kDim)];
    return keys;
}

void test_kv_rotatekv_transform(const test::Golden &inputs) {
    const auto k = inputs.get<float>("K_pre_rope"), v = inputs.get<float>("V");
    const auto order = inputs.get<int32_t>("reorder_idx");
    const auto want_rotated = inputs.get<float>("K_rotated");
    const auto want_reordered = inputs.get<float>("K_rotated_reordered");
    const auto want_v = inputs.get<float>("V_rotated"), want_rope = inputs.get<float>("K_rope_ref");
    std::vector<CosSin> low, high;
    for (int position = 0; position < kTokens; ++position) {
        for (int pair = 0; pair < kDim / 2; ++pair)
            low.push_back(rope_table_entry(1e4, 1, kDim / 2, position, pair));
    }
    high.assign(kDim / 2, {1, 0});
    const RopeTables tables{low.data(), high.data(), kDim / 2, RopeLayout::kHalf};
    for (int token = 0; token < kTokens; ++token) {
        const auto keys = gather_token(k, token);
        std::vector<float> rotated(kChannels), reordered(kChannels), back(kChannels);
        rotatekv_transform(keys.data(), order.data(), kHeads, kDim, kGroupHeads, rotated.data(),
                           reordered.data());
        rotatekv_recover(reordered.data(), order.data(), kHeads, kDim, kGroupHeads, back.data());
        for (int c = 0; c < kChannels; ++c) {
            const int64_t head_major = at(c / kDim, token, c % kDim);
            expect_near(rotated[c], want_rotated[token * kChannels + c], 2e-5, "K_rotated",
                        token * kChannels + c);
            expect_near(reordered[c], want_reordered[head_major], 2e-5, "K_rotated_reordered",
                        head_major);
            expect_near(back[c], keys[c], 2e-5, "K recovered", head_major);
        }
        for (int head = 0; head < kHeads; ++head) {
            std::vector<float> value(&v[at(head, token, 0)], &v[at(head, token, 0)] + kDim);
            hadamard::transform_reference(value.data(), kDim);
            std::vector<float> key(&k[at(head, token, 0)], &k[at(head, token, 0)] + kDim);
            rope(tables, token, key.data());
            for (int c = 0; c < kDim; ++c) {
                expect_near(value[c], want_v[at(head, token, c)], 1e-5, "V_rotated",
                            at(head, token, c));
                expect_near(key[c], want_rope[at(head, token, c)], 1e-4, "K_rope_ref",
                            at(head, token, c));
            }
        }
    }
}

// Codes, scales and zeros from the golden inputs of the quantiser, exactly.
void test_kv_rotatekv_codes(const test::Golden &inputs, const char *file, int bits, float clip) {
    test::Golden golden;
    if (!golden.open(file, "kv_golden")) return;
    const auto quantised_tokens = inputs.get<int32_t>("quant_tokens");
    const auto order = inputs.get<int32_t>("reorder_idx");
    const int count = static_cast<int>(quantised_tokens.size());
    for (const char *name : {"K", "V"}) {
        const std::string n = name;
        const auto x = inputs.get<float>(n == "K" ? "K_rotated_reordered" : "V_rotated");
        const auto codes = golden.get<uint8_t>(n + ".codes");
        const auto scale = golden.get<float>(n + ".scale"), zero = golden.get<float>(n + ".zero");
        const auto fake = golden.get<float>(n + ".fake_quant");
        std::vector<float> values = x;  // protected tokens stay as they were
        for (int head = 0; head < kHeads; ++head) {
            for (int i = 0; i < count; ++i) {
                const float *row = &x[at(head, quantised_tokens[i], 0)];
                const AsymmetricCode range = asymmetric_range(row, kDim, bits, clip);
                const int64_t group = int64_t{head} * count + i;
                expect_near(range.scale, scale[group], 0, (n + ".scale").c_str(), group);
                expect_near(range.zero, zero[group], 0, (n + ".zero").c_str(), group);
                for (int c = 0; c < kDim; ++c) {
                    const uint32_t code = asymmetric_code(row[c], range, bits);
                    expect_near(code, codes[group * kDim + c], 0, (n + ".codes").c_str(),
                                group * kDim + c);
                    values[at(head, quantised_tokens[i], c)] = asymmetric_value(code, range);
                }
            }
        }
        for (size_t i = 0; i < values.size(); ++i)
            expect_near(values[i], fake[i], 1e-6, (n + ".fake_quant").c_str(), i);
        if (n == "V") continue;
        const auto recovered = golden.get<float>("K.recovered_pre_rope");
        for (int token = 0; token < kTokens; ++token) {
            std::vector<float> keys(kChannels);
            rotatekv_recover(gather_token(values, token).data(), order.data(), kHeads, kDim,
                             kGroupHeads, keys.data());
            for (int c = 0; c < kChannels; ++c) {
                expect_near(keys[c], recovered[at(c / kDim, token, c % kDim)], 2e-5,
                            "K.recovered_pre_rope", at(c / kDim, token, c % kDim));
            }
        }
    }
}

// The cache's pages against golden codes, scales and zero points. Tokens are appended before RoPE
// and rotated here, so that a value which falls between two codes to within binary32's rounding may
// get the other one; scales and zero points are the golden ones in binary16, scales to its last
// bit.
void test_kv_rotatekv_pages(const test::Golden &inputs, const char *file, int bits) {
    test::Golden golden;
    if (!golden.open(file, "kv_golden")) return;
    std::string reason;
    const auto device = test::open_device(TARPON_DEVICE_CPU, &reason);
    const auto k = inputs.get<float>("K_pre_rope"), v = inputs.get<float>("V");
    const auto order = inputs.get<int32_t>("reorder_idx");
    const auto quantised_tokens = inputs.get<int32_t>("quant_tokens");
    tarpon_kv_desc desc{};
    desc.struct_size = sizeof desc;
    desc.mode = TARPON_KV_MODE_ROTATEKV;
    desc.head_dim = kDim;
    desc.q_heads = desc.kv_heads = kHeads;
    desc.page_tokens = kTokens;
    desc.k_bits = desc.v_bits = bits;
    desc.rope_dim = kDim;
    desc.rope_theta = 1e4;
    desc.rope_scaling = 1;
    desc.max_tokens = kTokens;
    tarpon_kv_calibration calibration{};
    calibration.struct_size = sizeof calibration;
    calibration.k_order = order.data();
    tarpon_kv *kv = nullptr;
    expect_near(tarpon_kv_create(device.get(), &desc, &calibration, &kv), TARPON_OK, 0,
                tarpon_last_error(), 0);
    tarpon_kv_info info{};
    info.struct_size = sizeof info;
    tarpon_kv_get_info(kv, &info);
    expect_near(info.format_version, 2, 0, "format_version", 0);
    expect_near(info.bits_per_value, bits + 0.25, 1e-12, "bits_per_value", 0);

    std::vector<float> k_tokens, v_tokens;  // [token][head][channel]
    std::vector<int64_t> slots;
    std::vector<int32_t> positions, rows(kTokens, 0), length = {kTokens};
    for (int token = 0; token < kTokens; ++token) {
        const auto keys = gather_token(k, token), values = gather_token(v, token);
        k_tokens.insert(k_tokens.end(), keys.begin(), keys.end());
        v_tokens.insert(v_tokens.end(), values.begin(), values.end());
        slots.push_back(token);
        positions.push_back(token);
    }
    tarpon_buffer *page = nullptr;
    tarpon_buffer_create(device.get(), info.page_bytes, &page);
    const test::Owned<tarpon_buffer> owned_page(page);
    tarpon_kv_append_args args{};
    args.struct_size = sizeof args;
    args.k = k_tokens.data();
    args.v = v_tokens.data();
    args.tokens = kTokens;
    args.slots = slots.data();
    args.positions = positions.data();
    args.rows = rows.data();
    args.batch = 1;
    args.lengths = length.data();
    args.pages = tarpon_buffer_address(page);
    args.page_count = 1;
    expect_near(tarpon_kv_append(kv, &args, nullptr), TARPON_OK, 0, tarpon_last_error(), 0);
    tarpon_kv_destroy(kv);

    const Format f{kDim, kHeads, kTokens, bits, bits, Scheme::kRotatekv};
    const BlockLayout layout = block_layout(f);
    int64_t other_codes = 0, codes_seen = 0;
    for (const bool keys : {true, false}) {
        const std::string n = keys ? "K" : "V";
        const auto codes = golden.get<uint8_t>(n + ".codes");
        const auto scale = golden.get<float>(n + ".scale"), zero = golden.get<float>(n + ".zero");
        for (int64_t group = 0; group < static_cast<int64_t>(scale.size()); ++group) {
            const int64_t count = quantised_tokens.size(), head = group / count;
            const int token = quantised_tokens[group % count];
            const auto *block = static_cast<const uint8_t *>(args.pages) + head * layout.bytes;
            const auto half = [&](int plane) {
                return to_float(reinterpret_cast<const half_t *>(block + plane)[token]);
            };
            const double want = to_float(from_float<half_t>(scale[group]));
            expect_near(half(keys ? layout.k_scales : layout.v_scales), want, 1e-3 * want,
                        (n + " page scale").c_str(), group);
            expect_near(half(keys ? layout.k_zeros : layout.v_zeros), zero[group], 0,
                        (n + " page zero point").c_str(), group);
            for (int c = 0; c < kDim; ++c) {
                const int got = keys ? k_code(block + layout.k_codes, f, token, c)
                                     : v_code(block + layout.v_codes, f, token, c);
                expect_near(got, codes[group * kDim + c], 1, (n + " page code").c_str(),
                            group * kDim + c);
                other_codes += got != codes[group * kDim + c];
                ++codes_seen;
            }
        }
    }
    std::printf("%s: %lld of %lld codes in the pages are a neighbour of the golden one\n", file,
                static_cast<long long>(other_codes), static_cast<long long>(codes_seen));
    expect_near(double(other_codes) / codes_seen, 0, 1e-4, "share of other codes", 0);
}

}  // namespace
}  // namespace tarpon::kv_cache

int main() {
    using namespace tarpon::kv_cache;
    tarpon::test::Golden inputs;
    if (!inputs.open("rotatekv_inputs.safetensors", "kv_golden")) return 77;
    test_kv_rotatekv_transform(inputs);
    test_kv_rotatekv_codes(inputs, "rotatekv_b2_clip0.8_g128.safetensors", 2, 0.8f);
    test_kv_rotatekv_codes(inputs, "rotatekv_b4_clip1.0_g128.safetensors", 4, 1.0f);
    test_kv_rotatekv_pages(inputs, "rotatekv_b2_clip0.8_g128.safetensors", 2);
    test_kv_rotatekv_pages(inputs, "rotatekv_b4_clip1.0_g128.safetensors", 4);
    std::printf("kv_golden: %d failures\n", failures);
    return failures ? 1 : 0;
}
