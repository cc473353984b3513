// Block-wise quantisation through the C ABI, on every device that is here: codes against the
// reference's files and against the header that defines them, the error it causes, odd sizes.
// Run alone: optim_blockwise_test [--filter TEXT]
#include <sys/mman.h>

#include <cstdlib>

#include "cpu/optim_kernel.h"
#include "optim/maps.h"
#include "optim_golden.h"
#include "optim_support.h"

namespace tarpon::test {
namespace {

constexpr tarpon_dtype kDtypes[] = {TARPON_F32, TARPON_F16, TARPON_BF16};
constexpr int64_t kBlockSizes[] = {64, 128, 256, 512, 1024, 2048, 4096};

struct Quantized {
    std::vector<uint8_t> codes;
    std::vector<float> absmax, values;
};

struct Target {
    Owned<tarpon_device> device;
    std::string name;
    bool slow = false;
};

// Its arrays are gone when it returns, so that the caller may close the device.
bool serves_blockwise(tarpon_device *device, std::string *reason) {
    DeviceArray x(device, 4), codes(device, 1), absmax(device, 4);
    const tarpon_status status = tarpon_blockwise_quantize(
        device, x.address(), TARPON_F32, 1, TARPON_MAP_DYNAMIC_SIGNED, 256,
        static_cast<uint8_t *>(codes.address()), static_cast<float *>(absmax.address()), nullptr);
    if (status != TARPON_OK) *reason = tarpon_last_error();
    return status == TARPON_OK;
}

// Every device with the operations; the CPU with and without its wide instructions.
std::vector<Target> make_targets() {
    std::vector<Target> targets;
    for (const DeviceKind &kind : kDeviceKinds) {
        for (const char *isa : {"", "avx2", "scalar"}) {
            const bool cpu = kind.kind == TARPON_DEVICE_CPU;
            if (cpu && *isa) setenv("TARPON_CPU_ISA", isa, 1);
            Target target;
            std::string reason;
            target.device = open_device(kind.kind, &reason);
            if (cpu && *isa) unsetenv("TARPON_CPU_ISA");
            target.name = std::string(kind.name) + (*isa ? " " : "") + isa;
            target.slow = kind.kind == TARPON_DEVICE_SIM;
            if (target.device && !serves_blockwise(target.device.get(), &reason)) {
                target.device.reset();
            }
            if (target.device) {
                targets.push_back(std::move(target));
            } else {
                std::printf("SKIPPED: block-wise on %s: %s\n", target.name.c_str(), reason.c_str());
            }
            if (!cpu) break;
        }
    }
    return targets;
}

const std::vector<Target> &all_targets() {
    static const std::vector<Target> all = make_targets();
    return all;
}

bool four_bit(tarpon_code_map map) {
    return map == TARPON_MAP_DYNAMIC4 || map == TARPON_MAP_NF4;
}

Quantized round_trip(const Target &target, const std::vector<float> &x, tarpon_dtype dtype,
                     tarpon_code_map map, int64_t block) {
    tarpon_device *device = target.device.get();
    const auto n = static_cast<int64_t>(x.size());
    const auto raw = rounded(x, dtype);
    const DeviceArray values(device, raw.size(), raw.data());
    const DeviceArray codes(device, four_bit(map) ? size_t(n + 1) / 2 : size_t(n));
    const DeviceArray absmax(device, size_t((n + block - 1) / block) * 4);
    const DeviceArray back(device, raw.size());
    auto *code_address = static_cast<uint8_t *>(codes.address());
    auto *absmax_address = static_cast<float *>(absmax.address());
    REQUIRE_OK(tarpon_blockwise_quantize(device, values.address(), dtype, n, map, block,
                                         code_address, absmax_address, nullptr));
    REQUIRE_OK(tarpon_blockwise_dequantize(device, code_address, absmax_address, n, map, block,
                                           back.address(), dtype, nullptr));
    CHECK(values.read() == raw, "%s: quantising changed its input", target.name.c_str());
    return {codes.read(), absmax.read_as<float>(), widened(back.read(), dtype)};
}

// What the header that defines the maps says.
Quantized expected(const std::vector<float> &x, tarpon_dtype dtype, tarpon_code_map map_kind,
                   int64_t block) {
    const optim::CodeMap &map = optim::code_map(optim::MapKind(map_kind));
    const auto n = static_cast<int64_t>(x.size());
    Quantized out;
    out.codes.resize(four_bit(map_kind) ? size_t(n + 1) / 2 : size_t(n));
    const auto input = widened(rounded(x, dtype), dtype);
    for (int64_t i = 0; i < n; ++i) {
        if (i % block == 0) {
            float absmax = 0;
            for (int64_t j = i; j < std::min(i + block, n); ++j)
                absmax = std::max(absmax, std::abs(input[j]));
            out.absmax.push_back(absmax);
        }
        const float absmax = out.absmax.back();
        const uint32_t code = optim::encode(map, input[i] * optim::reciprocal_absmax(absmax));
        if (four_bit(map_kind)) {
            out.codes[i / 2] |= uint8_t(i % 2 ? code : code << 4);
        } else {
            out.codes[i] = uint8_t(code);
        }
        out.values.push_back(optim::decode(map, code) * absmax);
    }
    out.values = widened(rounded(out.values, dtype), dtype);
    return out;
}

TARPON_TEST(test_blockwise_equals_the_definition) {
    for (const Target &target : all_targets()) {
        for (tarpon_code_map map = 0; map < optim::kMapKinds; ++map) {
            for (int64_t block : kBlockSizes) {
                if (target.slow && block != 64 && block != 256 && block != 4096) continue;
                for (tarpon_dtype dtype : kDtypes) {
                    for (int64_t n : {1, 2, 63, 64, 65, 255, 256, 257, 4095, 4097, 10001}) {
                        if (target.slow && n % 2 == 0) continue;
                        auto x = normal_values(n, 2, uint32_t(n + map));
                        for (size_t i = 0; i < x.size(); i += 7)
                            x[i] *= 1e-4f;
                        const Quantized got = round_trip(target, x, dtype, map, block);
                        const Quantized want = expected(x, dtype, map, block);
                        const std::string what = target.name + " map " + std::to_string(map) +
                                                 " block " + std::to_string(block) + " " +
                                                 dtype_name(dtype) + " n " + std::to_string(n);
                        CHECK(got.codes == want.codes, "codes: %s", what.c_str());
                        CHECK(got.absmax == want.absmax, "absmax: %s", what.c_str());
                        CHECK(got.values == want.values, "values: %s", what.c_str());
                    }
                }
            }
        }
    }
}

TARPON_TEST(test_blockwise_equals_golden) {
    for (const char *data : {"normal", "lognormal", "zeros", "outlier", "mixedsign0"}) {
        Golden golden;
        const std::string file = std::string("bnb_blockwise_") + data + ".safetensors";
        if (!golden.open(file.c_str(), __func__)) SKIP("no golden files");
        for (const Target &target : all_targets()) {
            for (int n : {1, 255, 256, 257, 4096, 100000}) {
                if (target.slow && n > 4096) continue;
                const std::string prefix = "n" + std::to_string(n) + ".";
                for (bool is_signed : {true, false}) {
                    auto x = golden.get<float>(prefix + "signed.x");
                    if (!is_signed) {
                        for (float &value : x)
                            value = std::abs(value);
                    }
                    const std::string key =
                        prefix + (is_signed ? "signed" : "unsigned") + ".nearest.";
                    const Quantized got = round_trip(
                        target, x, TARPON_F32,
                        is_signed ? TARPON_MAP_DYNAMIC_SIGNED : TARPON_MAP_DYNAMIC_UNSIGNED, 256);
                    auto absmax = golden.get<float>(key + "absmax");
                    for (float &value : absmax)
                        value = value == 1e-38f ? 0 : value;  // its stand-in for a block of zeros
                    CHECK(got.codes == golden.get<uint8_t>(key + "codes"), "%s %s %s",
                          target.name.c_str(), data, key.c_str());
                    CHECK(got.absmax == absmax, "%s %s %s", target.name.c_str(), data, key.c_str());
                    if (golden.has(key + "dequant")) {
                        CHECK(got.values == golden.get<float>(key + "dequant"), "%s %s %s",
                              target.name.c_str(), data, key.c_str());
                    }
                }
            }
        }
    }
}

// What the signed dynamic map costs normally distributed values, by block size.
TARPON_TEST(test_blockwise_error_of_normal_values) {
    const struct {
        int64_t block;
        double absolute, relative;
    } kTable[] = {{64, .00753, .01420},  {128, .00805, .01482},  {256, .00852, .01536},
                  {512, .00896, .01587}, {1024, .00934, .01627}, {2048, .00970, .01665},
                  {4096, .01001, .01698}};
    const int64_t n = 1 << 23;
    std::vector<float> x(n);
    std::mt19937_64 random(2024);
    std::normal_distribution<double> normal;  // a float one is short of values in its tails
    for (float &value : x)
        value = float(normal(random));
    for (const Target &target : all_targets()) {
        if (target.slow) continue;
        for (const auto &row : kTable) {
            const Quantized got =
                round_trip(target, x, TARPON_F32, TARPON_MAP_DYNAMIC_SIGNED, row.block);
            double absolute = 0, relative = 0;
            for (int64_t i = 0; i < n; ++i) {
                const double error = std::abs(double(got.values[i]) - x[i]);
                absolute += error;
                relative += x[i] == 0 ? 0 : error / std::abs(x[i]);
            }
            absolute /= double(n);
            relative /= double(n);
            CHECK_NEAR(absolute, row.absolute, 0.005 * row.absolute, "%s block %d",
                       target.name.c_str(), int(row.block));
            CHECK_NEAR(relative, row.relative, 0.005 * row.relative, "%s block %d",
                       target.name.c_str(), int(row.block));
        }
    }
}

// A NaN or an infinity shows in its own block and in no other; zeros stay zeros.
TARPON_TEST(test_blockwise_special_values) {
    for (const Target &target : all_targets()) {
        for (tarpon_code_map map = 0; map < optim::kMapKinds; ++map) {
            auto x = normal_values(700, 1, 5);
            for (size_t i = 0; i < 64; ++i)
                x[i] = i % 2 ? 0.0f : -0.0f;
            x[100] = NAN;
            x[200] = -INFINITY;
            x[256] = 1e-40f;
            for (size_t i = 257; i < 320; ++i)
                x[i] = 0;
            const Quantized got = round_trip(target, x, TARPON_F32, map, 64);
            CHECK(std::isnan(got.absmax[1]), "%s map %d: %g", target.name.c_str(), map,
                  got.absmax[1]);
            CHECK(std::isinf(got.absmax[3]), "%s map %d: %g", target.name.c_str(), map,
                  got.absmax[3]);
            for (size_t i = 0; i < x.size(); ++i) {
                const size_t block = i / 64;
                if (block == 0 || block == 4) {
                    CHECK(std::abs(got.values[i]) <= 1e-40, "%s map %d [%zu] = %g",
                          target.name.c_str(), map, i, got.values[i]);
                } else if (block == 1) {
                    CHECK(std::isnan(got.values[i]), "%s map %d [%zu]", target.name.c_str(), map,
                          i);
                } else if (block != 3) {
                    CHECK(std::isfinite(got.values[i]), "%s map %d [%zu]", target.name.c_str(), map,
                          i);
                }
            }
        }
    }
}

// All CPU kernels on every midpoint of every map and the floats around it, at a scale of 1.
TARPON_TEST(test_blockwise_kernels_agree_at_every_midpoint) {
    if (!cpu::avx512_optim_supported()) SKIP("this processor lacks AVX-512 with VBMI");
    for (int kind = 0; kind < optim::kMapKinds; ++kind) {
        const optim::CodeMap &map = optim::code_map(optim::MapKind(kind));
        std::vector<float> x;
        for (int a = 0; a < 256; ++a) {
            for (int b : {a, a + 1, a - 1}) {
                if (b < 0 || b > 255 || std::isnan(map.value[a] + map.value[b])) continue;
                float value = (map.value[a] + map.value[b]) * 0.5f;
                for (int i = 0; i < 4; ++i)
                    value = std::nextafterf(value, -2);
                for (int i = 0; i < 9; ++i, value = std::nextafterf(value, 2))
                    x.push_back(value);
            }
        }
        for (size_t i = 0; i < x.size(); i += 64)
            x[i] = 1;
        x.resize(x.size() / 64 * 64);
        const auto blocks = static_cast<int64_t>(x.size() / 64);
        Quantized results[3];
        const cpu::OptimKernel *const kernels[] = {
            &cpu::scalar_optim_kernel(), &cpu::avx2_optim_kernel(), &cpu::avx512_optim_kernel()};
        for (int wide = 0; wide < 3; ++wide) {
            const cpu::OptimKernel &kernel = *kernels[wide];
            Quantized &r = results[wide];
            r.codes.resize(x.size());
            r.absmax.resize(size_t(blocks));
            r.values.resize(x.size());
            cpu::BlockwiseJob job{&map, x.data(),       optim::Dtype::kF32, int64_t(x.size()),
                                  64,   r.codes.data(), r.absmax.data()};
            kernel.quantize(job, 0, blocks);
            job.values = r.values.data();
            kernel.dequantize(job, 0, blocks);
        }
        for (size_t i = 0; i < x.size() / (four_bit(kind) ? 2 : 1); ++i) {
            for (int wide = 1; wide < 3; ++wide) {
                CHECK(results[0].codes[i] == results[wide].codes[i],
                      "map %d, kernel %d: %.9g is %d and %d", kind, wide, x[i], results[0].codes[i],
                      results[wide].codes[i]);
            }
        }
        CHECK(results[0].values == results[1].values, "map %d", kind);
        CHECK(results[0].values == results[2].values, "map %d", kind);
    }
}

// The last block of an array of more than 2^32 elements, in address space that is only reserved:
// an index of 32 bits anywhere would touch other pages.
TARPON_TEST(test_blockwise_indexes_beyond_32_bits) {
    const int64_t n = (int64_t{1} << 32) + 1000, block = 256;
    const size_t bytes = size_t(n) * 2;
    auto reserve = [](size_t size) {
        return mmap(nullptr, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    };
    void *values = reserve(bytes), *codes = reserve(size_t(n)), *absmax = reserve(size_t(n) / 64);
    if (values == MAP_FAILED || codes == MAP_FAILED || absmax == MAP_FAILED) {
        SKIP("%zu bytes of address space are not to be had", bytes);
    }
    const int64_t last_block = n / block;
    auto *tail = static_cast<bf16_t *>(values) + last_block * block;
    const auto x = normal_values(n % block, 1, 9);
    for (size_t i = 0; i < x.size(); ++i)
        tail[i] = from_float<bf16_t>(x[i]);
    const Quantized want = expected(x, TARPON_BF16, TARPON_MAP_DYNAMIC_SIGNED, block);
    for (bool wide : {false, true}) {
        if (wide && !cpu::avx512_optim_supported()) continue;
        const cpu::OptimKernel &kernel =
            wide ? cpu::avx512_optim_kernel() : cpu::scalar_optim_kernel();
        const cpu::BlockwiseJob job{&optim::code_map(optim::MapKind::kDynamicSigned),
                                    values,
                                    optim::Dtype::kBF16,
                                    n,
                                    block,
                                    static_cast<uint8_t *>(codes),
                                    static_cast<float *>(absmax)};
        kernel.quantize(job, last_block, last_block + 1);
        CHECK_EQ(static_cast<float *>(absmax)[last_block], want.absmax[0], "wide %d", wide);
        for (size_t i = 0; i < x.size(); ++i) {
            CHECK_EQ(static_cast<uint8_t *>(codes)[last_block * block + int64_t(i)], want.codes[i],
                     "wide %d element %zu", wide, i);
        }
        // And a step of the optimizer on the same tail.
        std::vector<float> state(x.size());
        optim::TensorEntry t{};
        t.param = t.copy = nullptr;
        t.param = values;
        t.grad = values;
        t.state[0] = codes;
        t.absmax[0] = static_cast<float *>(absmax);
        t.elems = n;
        t.columns = 1;
        t.param_dtype = t.grad_dtype = optim::Dtype::kBF16;
        t.format = optim::StateFormat::kDynamic8;
        static_cast<float *>(absmax)[last_block] = 0;
        optim::Coefficients c{};
        c.grad_multiplier = 1;
        c.step_size = 0.5f;
        const optim::Rounding rounding{};
        CHECK_EQ(kernel.step[int(optim::Update::kSgd)](t, c, rounding, last_block, last_block + 1),
                 0, "wide %d", wide);
        for (size_t i = 0; i < x.size(); ++i) {
            const float before = to_float(from_float<bf16_t>(x[i]));
            CHECK_EQ(to_float(tail[i]), before / 2, "wide %d element %zu", wide, i);
            tail[i] = from_float<bf16_t>(x[i]);
        }
    }
    munmap(values, bytes);
    munmap(codes, size_t(n));
    munmap(absmax, size_t(n) / 64);
}

TARPON_TEST(test_blockwise_refuses_bad_calls) {
    const Target &target = all_targets().front();
    tarpon_device *device = target.device.get();
    float x[64] = {}, absmax[1];
    uint8_t codes[64];
    auto quantize = [&](const void *values, tarpon_dtype dtype, int64_t n, tarpon_code_map map,
                        int64_t block, uint8_t *out_codes, const char *expected_text) {
        const tarpon_status status = tarpon_blockwise_quantize(device, values, dtype, n, map, block,
                                                               out_codes, absmax, nullptr);
        CHECK_EQ(status, TARPON_ERROR_INVALID_ARGUMENT, "%s", expected_text);
        CHECK(std::string(tarpon_last_error()).find(expected_text) != std::string::npos,
              "\"%s\" lacks \"%s\"", tarpon_last_error(), expected_text);
    };
    quantize(x, TARPON_F32, 64, 6, 256, codes, "map is 6");
    quantize(x, TARPON_F32, 64, -1, 256, codes, "map is -1");
    quantize(x, TARPON_U8, 64, 0, 256, codes, "dtype is 3 (U8)");
    quantize(x, TARPON_F32, -1, 0, 256, codes, "n is -1");
    quantize(x, TARPON_F32, 64, 0, 100, codes, "block_size is 100");
    quantize(x, TARPON_F32, 64, 0, 8192, codes, "block_size is 8192");
    quantize(x, TARPON_F32, 64, 0, 32, codes, "block_size is 32");
    quantize(nullptr, TARPON_F32, 64, 0, 256, codes, "values");
    quantize(reinterpret_cast<char *>(x) + 1, TARPON_F32, 32, 0, 256, codes, "aligned to 4");
    quantize(x, TARPON_F32, 64, 0, 256, nullptr, "codes");
    CHECK_EQ(tarpon_blockwise_quantize(device, nullptr, TARPON_F32, 0, 0, 256, nullptr, nullptr,
                                       nullptr),
             TARPON_OK, "no elements need no memory");
    CHECK_EQ(tarpon_blockwise_quantize(nullptr, x, TARPON_F32, 1, 0, 256, codes, absmax, nullptr),
             TARPON_ERROR_INVALID_ARGUMENT, "no device");
}

}  // namespace
}  // namespace tarpon::test
