// The CPU's linear layer against the machine's measured roofs. Run: cpu_linear_bench --help
//
// Roofs and kernel are sampled in turn, round after round, so that what disturbs a shared machine
// disturbs both. A percentage of a roof is the time that the roof would take over the time that the
// kernel took: of the packed weights' bytes at the read bandwidth (%read), or of the multiply-adds
// at the peak of the instruction that the kernel uses (%peak); the best samples of both, because
// disturbances only ever add time. "us" is the median.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu/device.h"
#include "cpu_linear_report.h"
#include "cpu_roofs.h"
#include "types.h"

namespace tarpon::bench {
namespace {

struct Options {
    std::vector<Shape> shapes = {
        {4096, 4096}, {4096, 11008}, {11008, 4096}, {14336, 4096}, {384, 1536}};
    std::vector<int64_t> rows = {1, 2, 4, 8, 16, 32, 64, 128, 512};
    tarpon_dtype dtype = TARPON_BF16;
    bool exact = true, int8 = false;
    tarpon_weight_type weight_type = TARPON_WEIGHT_INT4;
    tarpon_zero_type zero_type = TARPON_ZERO_SYMMETRIC;
    tarpon_scale_type scale_type = TARPON_SCALE_F16;
    int64_t group = 128;  // 0: one over all inputs
    std::string variant;
    int threads = 0;
    int rounds = 9;
    bool hot = true, cold = true;
    std::string json, markdown;
};

constexpr const char *kHelp =
    "Usage: cpu_linear_bench [options]\n"
    "  --shape NxK      one shape; may be repeated (default: five of language models)\n"
    "  --m LIST         rows, such as 1,8,128 (default 1,2,4,8,16,32,64,128,512)\n"
    "  --dtype T        bf16 (default), f16 or f32\n"
    "  --arithmetic A   exact (default), int8 or both\n"
    "  --weights T      int4 (default), int8 or e4m3\n"
    "  --zeros Z        symmetric (default), integer or float\n"
    "  --scales T       f16 (default), bf16 or f32\n"
    "  --group N        inputs of a scale: 32, 64, 128 (default) or -1 for all\n"
    "  --variant NAME   force a kernel variant, such as cpu_avx512\n"
    "  --threads N      0 = one for each processor (default)\n"
    "  --rounds N       samples of every figure (default 9)\n"
    "  --only hot|cold  weights in the caches, or from memory; default: both\n"
    "  --clock cpu      count processor time, one thread: for a machine that is busy otherwise\n"
    "  --json FILE      write the figures as JSON too\n"
    "  --markdown FILE  and as the table of src/cpu/README.md\n"
    "The README's table: cpu_linear_bench --arithmetic both --rounds 5 --markdown table.md\n";

[[noreturn]] void die(const std::string &message) {
    std::fprintf(stderr, "cpu_linear_bench: %s\n", message.c_str());
    std::exit(2);
}

void check(tarpon_status status) {
    if (status != TARPON_OK) die(last_error());
}

double median(std::vector<double> values) {
    auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

// The value of a sample after 2 ms of them: time for sleeping workers to wake up.
template <class Sample>
double warmed_up(Sample sample) {
    const double end = seconds() + 2e-3;
    while (seconds() < end)
        sample();
    return sample();
}

// ---- The layer --------------------------------------------------------------------------------

// Copies of one layer, used in turn: with enough of them every run finds its weights in memory.
struct Layer {
    std::vector<std::unique_ptr<LinearPlan>> copies;
    const char *variant;
    size_t next = 0;

    Layer(Device &device, Shape shape, tarpon_linear_arithmetic arithmetic,
          const Options &options) {
        constexpr uint64_t kColdBytes = uint64_t{640} << 20;
        const int64_t group = options.group > 0 ? options.group : shape.k;
        LinearProblem problem{
            shape.n,       shape.k,   group, (shape.k + group - 1) / group, options.weight_type,
            options.dtype, arithmetic};
        problem.zero_type = options.zero_type;
        problem.scale_type = options.scale_type;
        std::mt19937_64 random(1);
        std::vector<uint8_t> codes(static_cast<size_t>(shape.n * shape.k));
        for (uint8_t &code : codes) {
            code = static_cast<uint8_t>(random() >> 56);
            if (options.weight_type == TARPON_WEIGHT_INT4) code &= 15;
            // e4m3 from 2^-6 up to 1.875.
            if (options.weight_type == TARPON_WEIGHT_FP8_E4M3) code &= 0xbf;
        }
        const auto count = static_cast<size_t>(problem.groups * shape.n);
        const std::vector<unsigned char> scales = values(count, options.scale_type, 0x1p-7f);
        std::vector<unsigned char> zeros;
        if (options.zero_type == TARPON_ZERO_INTEGER) zeros.assign(count, 7);
        if (options.zero_type == TARPON_ZERO_FLOAT)
            zeros = values(count, options.scale_type, -0x1p-4f);
        const LinearVariant &chosen = choose(device, problem, options.variant);
        variant = chosen.name;
        do {
            copies.push_back(chosen.create(
                device, problem,
                {codes.data(), scales.data(), zeros.empty() ? nullptr : zeros.data()}));
        } while (options.cold && copies.size() * weights_bytes() < kColdBytes);
    }

    uint64_t weights_bytes() const { return copies[0]->weights_bytes(); }

  private:
    static std::vector<unsigned char> values(size_t count, tarpon_scale_type type, float value) {
        const size_t bytes = type == TARPON_SCALE_F32 ? 4 : 2;
        std::vector<unsigned char> result(count * bytes);
        for (size_t i = 0; i < count; ++i) {
            unsigned char *out = result.data() + i * bytes;
            if (type == TARPON_SCALE_F32) {
                std::memcpy(out, &value, bytes);
            } else {
                const uint16_t bits = type == TARPON_SCALE_F16 ? from_float<half_t>(value).bits
                                                               : from_float<bf16_t>(value).bits;
                std::memcpy(out, &bits, bytes);
            }
        }
        return result;
    }

    static const LinearVariant &choose(const Device &device, const LinearProblem &problem,
                                       const std::string &name) {
        for (const LinearVariant &v : device.linear_variants()) {
            if ((name.empty() || name == v.name) && v.supports(device, problem)) return v;
        }
        die("no variant " + name + " for this device, dtype and format");
    }
};

// ---- Measuring --------------------------------------------------------------------------------

Peak peak_of(const std::string &variant) {
    if (variant == "cpu_amx") return Peak::kTileBf16;
    if (variant == "cpu_amx_int8") return Peak::kTileInt8;
    if (variant == "cpu_avx512_bf16") return Peak::kDotBf16;
    if (variant == "cpu_avx512_vnni_int8") return Peak::kDotInt8;
    return Peak::kFmaF32;
}

class Bench {
  public:
    Bench(const Options &options, cpu::CpuDevice &device)
        : options_(options), device_(device), roofs_(device.pool()) {}

    // Medians, as text.
    std::string roofs() {
        std::vector<double> read;
        for (int i = 0; i < 15; ++i)
            read.push_back(roofs_.read_sample());
        char text[100];
        std::snprintf(text, sizeof text, "read %.1f GB/s", median(read) / 1e9);
        std::string line = text;
        for (int i = 0; i < kPeakCount; ++i) {
            const Peak peak = static_cast<Peak>(i);
            if (!peak_available(peak)) continue;
            std::vector<double> samples;
            for (int j = 0; j < 15; ++j)
                samples.push_back(roofs_.peak_sample(peak));
            std::snprintf(text, sizeof text, ", %s %.0f GFLOP/s", peak_name(peak),
                          median(samples) / 1e9);
            line += text;
        }
        return line;
    }

    Figures measure(Shape shape, Layer &layer, int64_t m, bool cold) {
        const size_t elem = options_.dtype == TARPON_F32 ? 4 : 2;
        std::vector<unsigned char> x(static_cast<size_t>(m * shape.k) * elem);
        std::vector<unsigned char> y(static_cast<size_t>(m * shape.n) * elem);
        for (size_t i = elem - 1; i < x.size(); i += elem)
            x[i] = i / elem % 2 ? 0x3f : 0xbf;
        const size_t workspace_bytes = layer.copies[0]->workspace_bytes(m);
        const size_t rounded = (workspace_bytes + 255) / 256 * 256;
        const std::unique_ptr<void, decltype(&std::free)> workspace(
            rounded ? std::aligned_alloc(256, rounded) : nullptr, &std::free);
        auto run = [&] {
            const LinearPlan &plan = *layer.copies[cold ? layer.next : 0];
            layer.next = (layer.next + 1) % layer.copies.size();
            check(plan.run({x.data(), y.data(), m, workspace.get(), workspace_bytes, nullptr}));
        };
        // A sample takes about 4 ms, the first run not counted.
        run();
        double start = seconds();
        run();
        const int repeats = static_cast<int>(std::clamp(4e-3 / (seconds() - start), 1.0, 2000.0));
        const auto bytes = static_cast<double>(layer.weights_bytes());
        const double operations = 2.0 * static_cast<double>(m * shape.n * shape.k);
        const Peak peak = peak_of(layer.variant);
        std::vector<double> times;
        double read_roof = 0.0, peak_roof = 0.0;
        for (int round = 0; round < options_.rounds; ++round) {
            read_roof = std::max(read_roof, warmed_up([&] { return roofs_.read_sample(); }));
            if (peak_available(peak)) {
                peak_roof =
                    std::max(peak_roof, warmed_up([&] { return roofs_.peak_sample(peak); }));
            }
            warmed_up([&] { return run(), 0.0; });
            start = seconds();
            for (int i = 0; i < repeats; ++i)
                run();
            times.push_back((seconds() - start) / repeats);
        }
        const double best = *std::min_element(times.begin(), times.end());
        return {median(times),
                best,
                bytes / read_roof / best,
                peak_roof > 0.0 ? operations / peak_roof / best : 0.0,
                bytes / best / 1e9,
                operations / best / 1e9};
    }

    void run() {
        Environment environment;
        double load[1] = {};
        getloadavg(load, 1);
        environment.load = load[0];
        tarpon_device_info info{};
        info.struct_size = sizeof info;
        device_.info(info);
        environment.device = info.name;
        environment.isa = info.isa;
        environment.threads = info.processor_count;
        environment.roofs = roofs();
        std::printf("%s, %s, %d threads, load %.2f\nroofs: %s\n", info.name, info.isa,
                    info.processor_count, environment.load, environment.roofs.c_str());
        std::vector<Result> results;
        for (Shape shape : options_.shapes) {
            if (options_.exact) run(shape, TARPON_ARITHMETIC_EXACT, &results);
            if (options_.int8) run(shape, TARPON_ARITHMETIC_INT8_ACTIVATIONS, &results);
        }
        if (!options_.json.empty() && !write_json(options_.json, environment, results))
            die("cannot write " + options_.json);
        if (!options_.markdown.empty() && !write_markdown(options_.markdown, environment, results))
            die("cannot write " + options_.markdown);
    }

  private:
    void run(Shape shape, tarpon_linear_arithmetic arithmetic, std::vector<Result> *results) {
        Layer layer(device_, shape, arithmetic, options_);
        std::printf("\nn=%lld k=%lld %s\n%5s %5s %10s %10s %8s %9s %7s %7s\n",
                    static_cast<long long>(shape.n), static_cast<long long>(shape.k), layer.variant,
                    "m", "", "us", "best us", "GB/s", "GFLOP/s", "%read", "%peak");
        for (int64_t m : options_.rows) {
            for (bool cold : {true, false}) {
                if (cold ? !options_.cold : !options_.hot) continue;
                const Figures f = measure(shape, layer, m, cold);
                std::printf("%5lld %5s %10.1f %10.1f %8.2f %9.1f %7.1f %7.1f\n",
                            static_cast<long long>(m), cold ? "cold" : "hot",
                            f.median_seconds * 1e6, f.best_seconds * 1e6, f.gbytes_per_second,
                            f.gflops, 100 * f.read_share, 100 * f.peak_share);
                std::fflush(stdout);
                const bool int8 = arithmetic == TARPON_ARITHMETIC_INT8_ACTIVATIONS;
                results->push_back({shape, m, cold, int8, layer.variant, f});
            }
        }
    }

    const Options &options_;
    cpu::CpuDevice &device_;
    Roofs roofs_;
};

// ---- Command line -----------------------------------------------------------------------------

// The index of value in names.
int32_t choice(const std::string &flag, const std::string &value,
               std::initializer_list<const char *> names) {
    int32_t index = 0;
    for (const char *name : names) {
        if (value == name) return index;
        ++index;
    }
    die("no " + flag + ": " + value);
}

Options parse(int argc, char **argv) {
    Options options;
    bool default_shapes = true;
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
            if (std::sscanf(value.c_str(), "%lldx%lld", &n, &k) != 2) die("no shape NxK: " + value);
            if (default_shapes) options.shapes.clear();
            default_shapes = false;
            options.shapes.push_back({n, k});
        } else if (flag == "--m") {
            options.rows.clear();
            for (const char *p = value.c_str(); *p;) {
                char *end;
                options.rows.push_back(std::strtoll(p, &end, 10));
                if (end == p || options.rows.back() < 1) die("no list of rows: " + value);
                p = *end == ',' ? end + 1 : end;
            }
        } else if (flag == "--dtype") {
            options.dtype = choice(flag, value, {"f32", "f16", "bf16"});
        } else if (flag == "--arithmetic") {
            const int which = choice(flag, value, {"exact", "int8", "both"});
            options.exact = which != 1;
            options.int8 = which != 0;
        } else if (flag == "--weights") {
            options.weight_type = choice(flag, value, {"int4", "int8", "e4m3"});
        } else if (flag == "--zeros") {
            options.zero_type = choice(flag, value, {"symmetric", "integer", "float"});
        } else if (flag == "--scales") {
            options.scale_type = choice(flag, value, {"f16", "bf16", "f32"});
        } else if (flag == "--group") {
            options.group = std::atoi(value.c_str());
        } else if (flag == "--variant") {
            options.variant = value;
        } else if (flag == "--threads") {
            options.threads = std::atoi(value.c_str());
        } else if (flag == "--rounds") {
            options.rounds = std::max(1, std::atoi(value.c_str()));
        } else if (flag == "--only") {
            if (value != "hot" && value != "cold") die("--only takes hot or cold, not " + value);
            options.hot = value == "hot";
            options.cold = value == "cold";
        } else if (flag == "--clock") {
            if (value != "cpu") die("--clock takes cpu, not " + value);
            options.threads = 1;
            use_processor_time();
        } else if (flag == "--json") {
            options.json = value;
        } else if (flag == "--markdown") {
            options.markdown = value;
        } else {
            die("unknown option " + flag + "\n" + kHelp);
        }
    }
    return options;
}

int main_(int argc, char **argv) {
    const Options options = parse(argc, argv);
    try {
        const auto device = cpu_backend().open(0, {sizeof(tarpon_device_options), options.threads});
        Bench(options, static_cast<cpu::CpuDevice &>(*device)).run();
    } catch (const Error &error) {
        die(error.what());
    }
    return 0;
}

}  // namespace
}  // namespace tarpon::bench

int main(int argc, char **argv) {
    return tarpon::bench::main_(argc, argv);
}
