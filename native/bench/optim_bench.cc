// The optimizers' steps on the CPU against the machine's read-modify-write bandwidth, measured in
// the same run, turn by turn. Run: optim_bench --help
//
// A percentage of the roof is the time that a plain loop takes to move the same bytes (parameters
// and states read and written, gradients read) over the time of the step; the best samples of both,
// because disturbances only ever add time. ns and cycles are per parameter of all threads together.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tarpon.h"

namespace {

struct Options {
    int64_t n = 64 << 20;
    int64_t tensors = 1;
    int threads = 0;
    int rounds = 7;
    bool cpu_clock = false;
    std::string variant, only;
};

constexpr const char *kHelp =
    "Usage: optim_bench [options]\n"
    "  --n N           parameters in all (default 67108864); 65536 stays in the caches\n"
    "  --tensors N     in how many tensors, of sizes from 1 to 8 in turn (default 1)\n"
    "  --threads N     0 = one for each processor (default)\n"
    "  --rounds N      samples of every figure (default 7)\n"
    "  --variant NAME  force a kernel variant, such as cpu_scalar\n"
    "  --case TEXT     only cases with TEXT in their names\n"
    "  --clock cpu     count processor time, one thread: for a machine that is busy otherwise\n";

[[noreturn]] void die(const std::string &message) {
    std::fprintf(stderr, "optim_bench: %s\n", message.c_str());
    std::exit(2);
}

void check(tarpon_status status) {
    if (status != TARPON_OK) die(tarpon_last_error());
}

struct Case {
    const char *name;
    tarpon_optim_rule rule;
    tarpon_state_format format;
    tarpon_dtype dtype;  // of parameters and gradients
};

constexpr Case kCases[] = {
    {"AdamW 8-bit fp32", TARPON_OPTIM_ADAMW, TARPON_STATE_DYNAMIC8, TARPON_F32},
    {"AdamW 8-bit bf16", TARPON_OPTIM_ADAMW, TARPON_STATE_DYNAMIC8, TARPON_BF16},
    {"AdamW fp32-state fp32", TARPON_OPTIM_ADAMW, TARPON_STATE_F32, TARPON_F32},
    {"AdamW fp32-state bf16", TARPON_OPTIM_ADAMW, TARPON_STATE_F32, TARPON_BF16},
    {"AdamW FP8-state fp32", TARPON_OPTIM_ADAMW, TARPON_STATE_FP8, TARPON_F32},
    {"Lion 8-bit bf16", TARPON_OPTIM_LION, TARPON_STATE_DYNAMIC8, TARPON_BF16},
    {"SGD 8-bit fp32", TARPON_OPTIM_SGD, TARPON_STATE_DYNAMIC8, TARPON_F32},
    {"RMSprop 8-bit fp32", TARPON_OPTIM_RMSPROP, TARPON_STATE_DYNAMIC8, TARPON_F32},
    {"AdEMAMix 8-bit fp32", TARPON_OPTIM_ADEMAMIX, TARPON_STATE_DYNAMIC8, TARPON_F32},
    {"LAMB 8-bit fp32", TARPON_OPTIM_LAMB, TARPON_STATE_DYNAMIC8, TARPON_F32},
};

double now(bool cpu_clock) {
    timespec t;
    clock_gettime(cpu_clock ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

// Adds `read` to `update` word by word: two reads and a write of each.
void touch(uint64_t *update, const uint64_t *read, size_t words) {
    for (size_t i = 0; i < words; ++i)
        update[i] += read[i];
}

void increment(uint64_t *update, size_t words) {
    for (size_t i = 0; i < words; ++i)
        update[i] += 1;
}

uint64_t sum_up(const uint64_t *read, size_t words) {
    uint64_t sum = 0;
    for (size_t i = 0; i < words; ++i)
        sum += read[i];
    return sum;
}

// Length of a processor cycle, from a chain of multiplications (3 cycles) and additions (1), each
// of which waits for the one before. No clock tells, because frequency and a virtual machine's
// share of its processor change all the time.
double cycle_seconds(bool cpu_clock) {
    constexpr int kSteps = 1 << 18, kCyclesPerStep = 4;
    static volatile uint32_t factor = 747796405;  // so that nothing is computed beforehand
    const uint32_t multiplier = factor;
    uint32_t x = 1;
    const double start = now(cpu_clock);
    for (int i = 0; i < kSteps; ++i)
        x = x * multiplier + 1;
    const double seconds = now(cpu_clock) - start;
    factor = x | 1;  // so that x is wanted
    return seconds / (double(kSteps) * kCyclesPerStep);
}

// Zeros in memory of the device's: aligned, and in huge pages where there are any.
class Memory {
  public:
    Memory(tarpon_device *device, size_t bytes) {
        tarpon_buffer *buffer = nullptr;
        check(tarpon_buffer_create(device, bytes, &buffer));
        buffer_.reset(buffer);
        std::memset(address<char>(), 0, bytes);
    }

    template <class T>
    T *address() const {
        return static_cast<T *>(tarpon_buffer_address(buffer_.get()));
    }

  private:
    struct Destroy {
        void operator()(tarpon_buffer *buffer) const { tarpon_buffer_destroy(buffer); }
    };
    std::unique_ptr<tarpon_buffer, Destroy> buffer_;
};

// Moves what a step moves: `updated` bytes are read and written, `read` bytes are read.
class Roof {
  public:
    Roof(tarpon_device *device, size_t updated, size_t read, int threads)
        : pairs_(std::min(updated, read) / 8),
          rest_((std::max(updated, read) - std::min(updated, read)) / 8),
          rest_is_updated_(updated > read),
          threads_(threads),
          a_(device, updated + 8),
          b_(device, read + 8) {}

    void run() {
        std::vector<std::thread> others;
        for (int i = 1; i < threads_; ++i)
            others.emplace_back([this, i] { part(i); });
        part(0);
        for (std::thread &thread : others)
            thread.join();
    }

    uint64_t sum() const { return sum_; }

  private:
    void part(int i) {
        const auto begin = [&](size_t words) { return words * size_t(i) / size_t(threads_); };
        const auto end = [&](size_t words) { return words * size_t(i + 1) / size_t(threads_); };
        auto *a = a_.address<uint64_t>(), *b = b_.address<uint64_t>();
        touch(a + begin(pairs_), b + begin(pairs_), end(pairs_) - begin(pairs_));
        const size_t first = pairs_ + begin(rest_), count = end(rest_) - begin(rest_);
        uint64_t sum = 0;
        if (rest_is_updated_) {
            increment(a + first, count);
        } else {
            sum = sum_up(b + first, count);
        }
        if (i == 0) sum_ += sum;
    }

    size_t pairs_, rest_;
    bool rest_is_updated_;
    int threads_;
    Memory a_, b_;
    uint64_t sum_ = 0;
};

struct Arrays {
    tarpon_device *device;
    std::vector<Memory> memory;
    std::vector<tarpon_optim_tensor> tensors;
    size_t updated = 0, read = 0;

    void *add(size_t bytes, bool is_grad, size_t elem_bytes) {
        char *array = memory.emplace_back(device, bytes).address<char>();
        // Numbers of all magnitudes, small and positive, without a generator's time.
        for (size_t i = 0; is_grad && i + 4 <= bytes; i += 4) {
            const uint32_t bits = elem_bytes == 4
                                      ? 0x3a000000u + uint32_t(i * 2654435761u) % 0x01800000u
                                      : 0x3c103b23u + (uint32_t(i * 40503u) & 0x00400040u);
            std::memcpy(&array[i], &bits, 4);
        }
        return array;
    }
};

Arrays make_arrays(tarpon_device *device, const Case &c, const Options &options) {
    Arrays arrays{};
    arrays.device = device;
    const size_t elem = c.dtype == TARPON_F32 ? 4 : 2;
    // 1, 2, ... 8, 1, 2, ... units.
    int64_t units = 0;
    for (int64_t i = 0; i < options.tensors; ++i)
        units += 1 + i % 8;
    for (int64_t i = 0; i < options.tensors; ++i) {
        tarpon_optim_tensor t{};
        t.struct_size = sizeof t;
        t.param_dtype = t.grad_dtype = c.dtype;
        t.state_format = c.format;
        t.n = std::max<int64_t>(options.n * (1 + i % 8) / units, 1);
        t.lr_factor = t.decay_factor = 1;
        const auto bytes = size_t(t.n) * elem;
        t.param = arrays.add(bytes, false, elem);
        t.grad = arrays.add(bytes, true, elem);
        arrays.updated += bytes;
        arrays.read += bytes;
        for (int slot = 0; slot < 3; ++slot) {
            size_t state, absmax;
            check(tarpon_optim_state_bytes(c.rule, c.format, 0, t.n, slot, &state, &absmax));
            if (state > 0) t.state[slot] = arrays.add(state, false, 1);
            if (absmax > 0) t.absmax[slot] = static_cast<float *>(arrays.add(absmax, false, 4));
            arrays.updated += state + absmax;
        }
        arrays.tensors.push_back(t);
    }
    return arrays;
}

struct Figures {
    double best = 1e300, median = 0;
};

Figures summarise(std::vector<double> samples) {
    std::sort(samples.begin(), samples.end());
    return {samples.front(), samples[samples.size() / 2]};
}

void run_case(tarpon_device *device, const Case &c, const Options &options, int threads) {
    Arrays arrays = make_arrays(device, c, options);
    tarpon_optim_desc desc{};
    desc.struct_size = sizeof desc;
    desc.rule = c.rule;
    desc.tensor_count = int64_t(arrays.tensors.size());
    desc.tensors = arrays.tensors.data();
    desc.variant = options.variant.empty() ? nullptr : options.variant.c_str();
    tarpon_optim *optim = nullptr;
    check(tarpon_optim_create(device, &desc, &optim));
    tarpon_optim_step_args args{};
    args.struct_size = sizeof args;
    check(tarpon_optim_default_args(c.rule, &args));
    Roof roof(device, arrays.updated, arrays.read, threads);

    // Small problems are repeated within a sample, so that the clock resolves them.
    const int64_t repeats = std::max<int64_t>((4 << 20) / options.n, 1);
    std::vector<double> step_times, roof_times, cycles;
    for (int round = -1; round < options.rounds; ++round) {  // the first warms up
        double start = now(options.cpu_clock);
        for (int64_t i = 0; i < repeats; ++i)
            check(tarpon_optim_step(optim, &args, nullptr));
        const double step = (now(options.cpu_clock) - start) / double(repeats);
        start = now(options.cpu_clock);
        for (int64_t i = 0; i < repeats; ++i)
            roof.run();
        const double plain = (now(options.cpu_clock) - start) / double(repeats);
        if (round < 0) continue;
        cycles.push_back(cycle_seconds(options.cpu_clock));
        step_times.push_back(step);
        roof_times.push_back(plain);
    }
    const Figures step = summarise(step_times), plain = summarise(roof_times);
    int64_t elems = 0;
    for (const tarpon_optim_tensor &t : arrays.tensors)
        elems += t.n;
    const double bytes = double(2 * arrays.updated + arrays.read);
    const double each = step.best / double(elems);
    std::printf("%-22s %7.2f %9.3f %9.3f %8.2f %8.1f %8.1f %6.0f%%\n", c.name,
                bytes / double(elems), 1e9 * each, 1e9 * step.median / double(elems),
                each / summarise(cycles).best, 1e-9 * bytes / step.best, 1e-9 * bytes / plain.best,
                100 * plain.best / step.best);
    std::fflush(stdout);
    if (roof.sum() == ~uint64_t{0}) std::printf("\n");  // so that the reads are not optimised away
    tarpon_optim_destroy(optim);
}

// Quantising fp32 values in blocks of 256, and back.
void run_blockwise(tarpon_device *device, const Options &options) {
    const auto n = size_t(options.n);
    std::vector<float> values(n), restored(n);
    std::vector<uint8_t> codes(n);
    std::vector<float> absmax(n / 256 + 1);
    for (size_t i = 0; i < n; ++i)
        values[i] = float(int32_t(uint32_t(i) * 2654435761u)) * 0x1p-31f;
    const int64_t repeats = std::max<int64_t>((4 << 20) / options.n, 1);
    for (const tarpon_code_map map : {TARPON_MAP_DYNAMIC_SIGNED, TARPON_MAP_DYNAMIC_UNSIGNED}) {
        for (const bool back : {false, true}) {
            std::vector<double> times, cycles;
            for (int round = -1; round < options.rounds; ++round) {
                const double start = now(options.cpu_clock);
                for (int64_t i = 0; i < repeats; ++i) {
                    check(back ? tarpon_blockwise_dequantize(device, codes.data(), absmax.data(),
                                                             options.n, map, 256, restored.data(),
                                                             TARPON_F32, nullptr)
                               : tarpon_blockwise_quantize(device, values.data(), TARPON_F32,
                                                           options.n, map, 256, codes.data(),
                                                           absmax.data(), nullptr));
                }
                if (round < 0) continue;
                times.push_back((now(options.cpu_clock) - start) / double(repeats));
                cycles.push_back(cycle_seconds(options.cpu_clock));
            }
            const Figures figures = summarise(times);
            const double each = figures.best / double(options.n);
            const std::string name = std::string(back ? "dequantise" : "quantise") +
                                     (map == TARPON_MAP_DYNAMIC_SIGNED ? " signed" : " unsigned");
            constexpr double kBytes = 4 + 1 + 4.0 / 256;
            std::printf("%-22s %7.2f %9.3f %9.3f %8.2f %8.1f\n", name.c_str(), kBytes, 1e9 * each,
                        1e9 * figures.median / double(options.n), each / summarise(cycles).best,
                        1e-9 * kBytes / each);
        }
    }
}

Options parse(int argc, char **argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string name = argv[i];
        if (name == "--help") {
            std::fputs(kHelp, stdout);
            std::exit(0);
        }
        if (i + 1 >= argc) die("unknown option or missing value: " + name + "\n" + kHelp);
        const std::string value = argv[++i];
        if (name == "--n") {
            options.n = std::atoll(value.c_str());
        } else if (name == "--tensors") {
            options.tensors = std::atoll(value.c_str());
        } else if (name == "--threads") {
            options.threads = std::atoi(value.c_str());
        } else if (name == "--rounds") {
            options.rounds = std::atoi(value.c_str());
        } else if (name == "--variant") {
            options.variant = value;
        } else if (name == "--case") {
            options.only = value;
        } else if (name == "--clock" && value == "cpu") {
            options.cpu_clock = true;
            options.threads = 1;
        } else {
            die("unknown option: " + name + " " + value + "\n" + kHelp);
        }
    }
    if (options.n < 1 || options.tensors < 1 || options.rounds < 1) {
        die("--n, --tensors and --rounds must be at least 1");
    }
    return options;
}

}  // namespace

int main(int argc, char **argv) {
    const Options options = parse(argc, argv);
    tarpon_device_options device_options{sizeof device_options, options.threads};
    tarpon_device *device = nullptr;
    check(tarpon_device_open(TARPON_DEVICE_CPU, 0, &device_options, &device));
    tarpon_device_info info{};
    info.struct_size = sizeof info;
    check(tarpon_device_get_info(device, &info));
    std::printf("%s, %s, %d thread(s); %lld parameters in %lld tensor(s), %d rounds\n", info.name,
                info.isa, info.processor_count, static_cast<long long>(options.n),
                static_cast<long long>(options.tensors), options.rounds);
    std::printf("%-22s %7s %9s %9s %8s %8s %8s %7s\n", "", "bytes", "best ns", "median ns",
                "cycles", "GB/s", "roof", "% roof");
    for (const Case &c : kCases) {
        if (std::string(c.name).find(options.only) == std::string::npos) continue;
        run_case(device, c, options, info.processor_count);
    }
    if (options.only.empty()) run_blockwise(device, options);
    tarpon_device_close(device);
    return 0;
}
