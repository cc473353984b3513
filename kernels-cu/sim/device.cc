// Limits of the simulated device, and the settings of control.h with their environment.
#include "sim/device.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <stdexcept>

namespace tarpon::sim {
namespace {

constexpr size_t kKib = 1024;
constexpr Arch kArchs[] = {
    {80, 164 * kKib, 163 * kKib, 2048, 32},  {86, 100 * kKib, 99 * kKib, 1536, 16},
    {89, 100 * kKib, 99 * kKib, 1536, 24},   {90, 228 * kKib, 227 * kKib, 2048, 32},
    {100, 228 * kKib, 227 * kKib, 2048, 32}, {120, 100 * kKib, 99 * kKib, 1536, 24},
};
constexpr int kDefaultArch = 80;
// Not a power of two and not a divisor of the usual tile counts, so that stripes end mid-column.
constexpr int kDefaultProcessors = 6;
constexpr int kMaxProcessors = 256;
constexpr size_t kMemoryBytes = size_t(8) << 30;

const Arch &find_arch(int number, const char *source) {
    for (const Arch &arch : kArchs) {
        if (arch.number == number) return arch;
    }
    throw std::invalid_argument(std::string(source) + " = " + std::to_string(number) +
                                " is no simulated architecture: 80, 86, 89, 90, 100 or 120");
}

int check_processors(int processors, const char *source) {
    if (processors >= 1 && processors <= kMaxProcessors) return processors;
    throw std::invalid_argument(std::string(source) + " = " + std::to_string(processors) +
                                " is outside 1.." + std::to_string(kMaxProcessors));
}

template <class T>
std::optional<T> number_from_environment(const char *name) {
    const char *text = std::getenv(name);
    if (!text || !*text) return std::nullopt;
    T value{};
    auto [end, error] = std::from_chars(text, text + std::strlen(text), value);
    if (error != std::errc() || *end) {
        throw std::invalid_argument(std::string(name) + " = " + text + " is no number");
    }
    return value;
}

Schedule schedule_from_environment() {
    const char *text = std::getenv("TARPON_SIM_SCHEDULE");
    if (!text || !*text || !std::strcmp(text, "forward")) return {};
    if (!std::strcmp(text, "reverse")) return {Schedule::Order::kReverse, 0};
    return {Schedule::Order::kRandom, *number_from_environment<uint64_t>("TARPON_SIM_SCHEDULE")};
}

struct Settings {
    const Arch *arch = &find_arch(
        number_from_environment<int>("TARPON_SIM_ARCH").value_or(kDefaultArch), "TARPON_SIM_ARCH");
    int processors = check_processors(
        number_from_environment<int>("TARPON_SIM_PROCESSORS").value_or(kDefaultProcessors),
        "TARPON_SIM_PROCESSORS");
    Schedule schedule = schedule_from_environment();
};

Settings &settings() {
    static Settings instance;
    return instance;
}

}  // namespace

const Arch &arch() {
    return *settings().arch;
}

int processor_count() {
    return settings().processors;
}

void set_arch(int number) {
    settings().arch = &find_arch(number, "set_arch");
}

void set_processor_count(int processors) {
    settings().processors = check_processors(processors, "set_processor_count");
}

void set_schedule(Schedule schedule) {
    settings().schedule = schedule;
}

Schedule schedule() {
    return settings().schedule;
}

int blocks_per_processor(int block_threads, size_t shared_bytes) {
    const Arch &limits = arch();
    const int by_threads = limits.threads_per_processor / block_threads;
    const auto by_shared = int(limits.shared_per_processor / (shared_bytes + kReservedSharedBytes));
    return std::min({by_threads, by_shared, limits.blocks_per_processor});
}

cudaDeviceProp device_properties() {
    const Arch &limits = arch();
    cudaDeviceProp out{};
    std::snprintf(out.name, sizeof out.name, "Tarpon simulator (sm_%d)", limits.number);
    out.totalGlobalMem = kMemoryBytes;
    out.sharedMemPerBlock = kDefaultSharedLimit;
    out.warpSize = 32;
    out.maxThreadsPerBlock = kMaxBlockThreads;
    out.maxThreadsDim[0] = out.maxThreadsDim[1] = kMaxBlockThreads;
    out.maxThreadsDim[2] = 64;
    out.maxGridSize[0] = 0x7fffffff;
    out.maxGridSize[1] = out.maxGridSize[2] = 65535;
    out.major = limits.number / 10;
    out.minor = limits.number % 10;
    out.multiProcessorCount = processor_count();
    out.l2CacheSize = 40 << 20;
    out.maxThreadsPerMultiProcessor = limits.threads_per_processor;
    out.maxBlocksPerMultiProcessor = limits.blocks_per_processor;
    out.sharedMemPerMultiprocessor = limits.shared_per_processor;
    out.sharedMemPerBlockOptin = limits.shared_per_block_optin;
    out.reservedSharedMemPerBlock = kReservedSharedBytes;
    return out;
}

}  // namespace tarpon::sim
