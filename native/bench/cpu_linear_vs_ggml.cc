// Tarpon's CPU linear layer beside ggml's, on the same weights and inputs.
// Run: cpu_linear_vs_ggml --help; built where CMake is given TARPON_GGML_DIR.
//
// Both are used as a program would: ggml by its public API, weights in the buffer type that it
// chooses for them; Tarpon by its C ABI, from the very blocks that ggml wrote, or with --weights
// g128 from the same floats in Tarpon's own format. Contenders take turns, round after round, so
// that what disturbs a shared machine disturbs all; a ratio is ggml's time over Tarpon's within a
// round, and the median of those. Errors are those of the arithmetic: mean |y - exact| over mean
// |exact|, where exact is the binary64 product of the weights as the contender stores them.
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu_linear_ggml.h"
#include "tarpon.h"
#include "types.h"

namespace tarpon::bench {
namespace {

// More than the caches of any machine; every contender has copies of its own.
constexpr size_t kColdBytes = size_t{256} << 20;
// OpenMP's threads, which ggml uses, keep polling for some milliseconds after a run.
constexpr double kWarmSeconds = 20e-3, kSampleSeconds = 5e-3;

constexpr const char *kHelp =
    "Usage: cpu_linear_vs_ggml [options]\n"
    "  --shape NxK      one shape; may be repeated (default: five of language models)\n"
    "  --m LIST         rows (default 1,2,4,8,16,32,64,128,512)\n"
    "  --types LIST     ggml's weights: q4_0,q4_K,f16 (default all)\n"
    "  --weights W      Tarpon's: blocks, the same ones (default), or g128, 4 bits in groups of "
    "128\n"
    "  --threads N      of each (default 2)\n"
    "  --rounds N       of interleaved samples (default 5)\n"
    "  --clock cpu      count processor time, one thread: for a machine that is busy otherwise\n";

struct Shape {
    int64_t n, k;
};

struct WeightType {
    const char *name;
    ggml_type type;
    tarpon_weight_layout layout;  // of Tarpon's weights
    ggml_type source;             // and ggml's type of those
};
// There are no 16-bit weights in Tarpon: its 4-bit ones stand beside ggml's F16.
constexpr WeightType kTypes[] = {
    {"q4_0", GGML_TYPE_Q4_0, TARPON_LAYOUT_GGUF_Q4_0, GGML_TYPE_Q4_0},
    {"q4_K", GGML_TYPE_Q4_K, TARPON_LAYOUT_GGUF_Q4_K, GGML_TYPE_Q4_K},
    {"f16", GGML_TYPE_F16, TARPON_LAYOUT_GGUF_Q4_0, GGML_TYPE_Q4_0},
};

struct Options {
    std::vector<Shape> shapes;
    std::vector<int64_t> rows = {1, 2, 4, 8, 16, 32, 64, 128, 512};
    std::string types = "q4_0,q4_K,f16";
    bool own_format = false;
    int threads = 2, rounds = 5;
};

[[noreturn]] void die(const std::string &message) {
    std::fprintf(stderr, "cpu_linear_vs_ggml: %s\n", message.c_str());
    std::exit(2);
}

void check(tarpon_status status) {
    if (status != TARPON_OK) die(tarpon_last_error());
}

clockid_t benchmark_clock = CLOCK_MONOTONIC;

double seconds() {
    timespec now;
    clock_gettime(benchmark_clock, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

// ---- Tarpon's side ----------------------------------------------------------------------------

struct Destroy {
    void operator()(tarpon_device *device) const { tarpon_device_close(device); }
    void operator()(tarpon_linear *linear) const { tarpon_linear_destroy(linear); }
};

// Weights [n, k] as they are given to Tarpon, and what they stand for.
struct OurWeights {
    tarpon_linear_desc desc{};
    tarpon_linear_weights weights{};
    std::vector<uint8_t> blocks, scales;
    std::vector<float> values;  // [n, k]
};

OurWeights make_blocks(const WeightType &type, const std::vector<float> &floats, Shape shape) {
    OurWeights w;
    w.blocks = ggml_blocks(type.source, floats, shape.n, shape.k);
    w.values = ggml_values(type.source, w.blocks, shape.n * shape.k);
    w.desc.struct_size = sizeof w.desc;
    check(tarpon_linear_desc_for_layout(type.layout, &w.desc));
    w.weights.layout = type.layout;
    return w;
}

OurWeights make_g128(const std::vector<float> &floats, Shape shape) {
    OurWeights w;
    w.desc.struct_size = sizeof w.desc;
    w.desc.in_features = shape.k;
    w.desc.out_features = shape.n;
    w.desc.group_size = 128;
    w.blocks.resize(floats.size());
    w.scales.resize(static_cast<size_t>((shape.k + 127) / 128 * shape.n) * sizeof(uint16_t));
    check(tarpon_weights_quantize(&w.desc, floats.data(), TARPON_F32, w.blocks.data(),
                                  w.scales.data(), nullptr));
    w.values.resize(floats.size());
    for (int64_t i = 0; i < shape.n; ++i) {
        for (int64_t j = 0; j < shape.k; ++j) {
            half_t scale;
            std::memcpy(&scale, &w.scales[static_cast<size_t>(j / 128 * shape.n + i) * 2], 2);
            const int code = w.blocks[static_cast<size_t>(j * shape.n + i)];
            w.values[static_cast<size_t>(i * shape.k + j)] =
                static_cast<float>(code - 8) * to_float(scale);
        }
    }
    return w;
}

class OurLinear {
  public:
    OurLinear(tarpon_device *device, const OurWeights &w, Shape shape, tarpon_dtype dtype,
              tarpon_linear_arithmetic arithmetic)
        : shape_(shape), dtype_(dtype) {
        tarpon_linear_desc desc = w.desc;
        desc.in_features = shape.k;
        desc.out_features = shape.n;
        desc.activation_dtype = dtype;
        desc.arithmetic = arithmetic;
        tarpon_linear_weights weights = w.weights;
        weights.struct_size = sizeof weights;
        weights.qweight = w.blocks.data();
        weights.qweight_bytes = w.blocks.size();
        weights.scales = w.scales.empty() ? nullptr : w.scales.data();
        weights.scales_bytes = w.scales.size();
        size_t bytes = 0;
        do {
            tarpon_linear *linear = nullptr;
            check(tarpon_linear_create(device, &desc, &weights, &linear));
            copies_.emplace_back(linear);
            tarpon_linear_info info{};
            info.struct_size = sizeof info;
            check(tarpon_linear_get_info(linear, &info));
            bytes += info.weights_bytes;
        } while (bytes < kColdBytes);
    }

    void prepare(const std::vector<float> &x, int64_t m) {
        m_ = m;
        const size_t elem = dtype_ == TARPON_F32 ? 4 : 2;
        x_.resize(x.size() * elem);
        for (size_t i = 0; i < x.size(); ++i) {
            if (dtype_ == TARPON_F32) {
                std::memcpy(&x_[i * elem], &x[i], elem);
            } else {
                const bf16_t value = from_float<bf16_t>(x[i]);
                std::memcpy(&x_[i * elem], &value, elem);
            }
        }
        y_.resize(static_cast<size_t>(m * shape_.n) * elem);
        check(tarpon_linear_workspace_bytes(copies_[0].get(), m, &workspace_bytes_));
        workspace_.reset(std::aligned_alloc(256, (workspace_bytes_ + 255) / 256 * 256 + 256));
    }

    void run() {
        check(tarpon_linear_run(copies_[next_].get(), x_.data(), y_.data(), m_, workspace_.get(),
                                workspace_bytes_, nullptr));
        next_ = next_ + 1 == copies_.size() ? 0 : next_ + 1;
    }

    std::vector<float> y() const {
        std::vector<float> values(static_cast<size_t>(m_ * shape_.n));
        for (size_t i = 0; i < values.size(); ++i) {
            if (dtype_ == TARPON_F32) {
                std::memcpy(&values[i], &y_[4 * i], 4);
            } else {
                bf16_t value;
                std::memcpy(&value, &y_[2 * i], 2);
                values[i] = to_float(value);
            }
        }
        return values;
    }

  private:
    struct Free {
        void operator()(void *address) const { std::free(address); }
    };
    const Shape shape_;
    const tarpon_dtype dtype_;
    std::vector<std::unique_ptr<tarpon_linear, Destroy>> copies_;
    std::vector<unsigned char> x_, y_;
    std::unique_ptr<void, Free> workspace_;
    size_t workspace_bytes_ = 0, next_ = 0;
    int64_t m_ = 0;
};

// ---- Comparing --------------------------------------------------------------------------------

struct Contender {
    const char *name;
    const std::vector<float> *values;  // its weights
    std::function<void(const std::vector<float> &x, int64_t m)> prepare;
    std::function<void()> run;
    std::function<std::vector<float>()> y;
};

template <class Linear>
Contender contender(const char *name, const std::vector<float> &values, Linear &linear) {
    return {name, &values, [&](const std::vector<float> &x, int64_t m) { linear.prepare(x, m); },
            [&] { linear.run(); }, [&] { return linear.y(); }};
}

// Mean seconds of a run in one sample, after as many as it takes for threads to be awake.
double sample(const Contender &c) {
    double start = seconds(), now = start, last = 0.0;
    do {
        const double before = now;
        c.run();
        now = seconds();
        last = now - before;
    } while (now - start < kWarmSeconds);
    const int repeats = static_cast<int>(std::clamp(kSampleSeconds / last, 1.0, 1000.0));
    start = seconds();
    for (int i = 0; i < repeats; ++i)
        c.run();
    return (seconds() - start) / repeats;
}

// Over the first rows and every 37th column.
double arithmetic_error(const Contender &c, const std::vector<float> &x, Shape shape, int64_t m) {
    const std::vector<float> y = c.y();
    double error = 0.0, sum = 0.0;
    for (int64_t i = 0; i < std::min<int64_t>(m, 4); ++i) {
        for (int64_t n = 0; n < shape.n; n += 37) {
            double exact = 0.0;
            for (int64_t k = 0; k < shape.k; ++k) {
                exact += static_cast<double>((*c.values)[static_cast<size_t>(n * shape.k + k)]) *
                         static_cast<double>(x[static_cast<size_t>(i * shape.k + k)]);
            }
            error +=
                std::fabs(static_cast<double>(y[static_cast<size_t>(i * shape.n + n)]) - exact);
            sum += std::fabs(exact);
        }
    }
    return error / sum;
}

void compare(tarpon_device *device, const WeightType &type, Shape shape, const Options &options) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<float> floats(static_cast<size_t>(shape.n * shape.k));
    for (float &value : floats)
        value = 0.02f * normal(random);

    const OurWeights ours =
        options.own_format ? make_g128(floats, shape) : make_blocks(type, floats, shape);
    const std::vector<uint8_t> blocks = ggml_blocks(type.type, floats, shape.n, shape.k);
    const std::vector<float> ggml_weights = ggml_values(type.type, blocks, shape.n * shape.k);
    GgmlLinear ggml(type.type, blocks, shape.n, shape.k, kColdBytes / blocks.size() + 1,
                    options.threads);
    OurLinear bf16(device, ours, shape, TARPON_BF16, TARPON_ARITHMETIC_EXACT);
    OurLinear f32(device, ours, shape, TARPON_F32, TARPON_ARITHMETIC_EXACT);
    OurLinear int8(device, ours, shape, TARPON_F32, TARPON_ARITHMETIC_INT8_ACTIVATIONS);
    const Contender contenders[] = {
        contender("ggml", ggml_weights, ggml), contender("exact bf16", ours.values, bf16),
        contender("exact f32", ours.values, f32), contender("int8", ours.values, int8)};
    for (int64_t m : options.rows) {
        std::vector<float> x(static_cast<size_t>(m * shape.k));
        for (float &value : x)
            value = to_float(from_float<bf16_t>(normal(random)));
        std::vector<double> times[4], ratios[4];
        for (const Contender &c : contenders)
            c.prepare(x, m);
        for (int round = 0; round < options.rounds; ++round) {
            for (int i = 0; i < 4; ++i) {
                times[i].push_back(sample(contenders[i]));
                ratios[i].push_back(times[0].back() / times[i].back());
            }
        }
        std::printf("| %s %s | %lld x %lld | %lld | %.0f |", type.name, ggml.placement().c_str(),
                    static_cast<long long>(shape.n), static_cast<long long>(shape.k),
                    static_cast<long long>(m), median(times[0]) * 1e6);
        for (int i = 1; i < 4; ++i)
            std::printf(" %.2f |", median(ratios[i]));
        for (const Contender &c : contenders)
            std::printf(" %.1e |", arithmetic_error(c, x, shape, m));
        std::printf("\n");
        std::fflush(stdout);
    }
}

// ---- Command line -----------------------------------------------------------------------------

Options parse(int argc, char **argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string flag = argv[i];
        if (flag == "--help") {
            std::fputs(kHelp, stdout);
            std::exit(0);
        }
        if (i + 1 == argc) die("unknown option or missing value: " + flag + "\n" + kHelp);
        const std::string value = argv[++i];
        if (flag == "--shape") {
            long long n, k;
            if (std::sscanf(value.c_str(), "%lldx%lld", &n, &k) != 2 || n < 1 || k < 1)
                die("no shape NxK: " + value);
            options.shapes.push_back({n, k});
        } else if (flag == "--m") {
            options.rows.clear();
            for (const char *p = value.c_str(); *p;) {
                char *end;
                options.rows.push_back(std::strtoll(p, &end, 10));
                if (end == p || options.rows.back() < 1) die("no list of rows: " + value);
                p = *end == ',' ? end + 1 : end;
            }
        } else if (flag == "--types") {
            options.types = value;
        } else if (flag == "--weights") {
            if (value != "blocks" && value != "g128")
                die("--weights takes blocks or g128, not " + value);
            options.own_format = value == "g128";
        } else if (flag == "--threads") {
            options.threads = std::atoi(value.c_str());
        } else if (flag == "--rounds") {
            options.rounds = std::max(1, std::atoi(value.c_str()));
        } else if (flag == "--clock") {
            if (value != "cpu") die("--clock takes cpu, not " + value);
            options.threads = 1;
            benchmark_clock = CLOCK_PROCESS_CPUTIME_ID;
        } else {
            die("unknown option " + flag + "\n" + kHelp);
        }
    }
    if (options.shapes.empty())
        options.shapes = {{4096, 4096}, {4096, 11008}, {11008, 4096}, {14336, 4096}, {384, 1536}};
    return options;
}

int main_(int argc, char **argv) {
    const Options options = parse(argc, argv);
    ggml_log_set([](ggml_log_level, const char *, void *) {}, nullptr);  // it names every copy
    tarpon_device_options device_options{sizeof(tarpon_device_options), options.threads};
    tarpon_device *opened = nullptr;
    check(tarpon_device_open(TARPON_DEVICE_CPU, 0, &device_options, &opened));
    const std::unique_ptr<tarpon_device, Destroy> device(opened);
    tarpon_device_info info{};
    info.struct_size = sizeof info;
    check(tarpon_device_get_info(opened, &info));
    std::printf("%s, %s, %d threads; ggml %s (%s)\n\n", info.name, info.isa, info.processor_count,
                ggml_version(), ggml_commit());
    std::printf(
        "| ggml's weights | n x k | m | ggml us | exact bf16 | exact f32 | int8 | error of ggml | "
        "bf16 | f32 | int8 |\n|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (const WeightType &type : kTypes) {
        if (("," + options.types + ",").find("," + std::string(type.name) + ",") ==
            std::string::npos) {
            continue;
        }
        for (Shape shape : options.shapes) {
            // Blocks of 32 or, with Q4_K, 256 inputs.
            if (shape.k % ggml_blck_size(type.type) != 0) continue;
            compare(device.get(), type, shape, options);
        }
    }
    return 0;
}

}  // namespace
}  // namespace tarpon::bench

int main(int argc, char **argv) {
    return tarpon::bench::main_(argc, argv);
}
