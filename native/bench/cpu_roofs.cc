#include "cpu_roofs.h"

#include <sys/mman.h>
#include <time.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include "cpu/isa.h"
#include "cpu_roof_kernels.h"

namespace tarpon::bench {
namespace {

// Larger than any last-level cache, and a sample that takes about a millisecond a thread.
constexpr size_t kMemoryBytes = size_t{1} << 30;
constexpr size_t kSampleBytes = size_t{16} << 20;
constexpr int64_t kPeakIterations = 50000;

clockid_t benchmark_clock = CLOCK_MONOTONIC;

bool have(Peak peak) {
    switch (peak) {
        case Peak::kFmaF32:
            return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        case Peak::kDotBf16:
            return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw");
        case Peak::kDotInt8:
            return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw");
        case Peak::kTileBf16:
        case Peak::kTileInt8:
            return cpu::isa_supported(cpu::Isa::kAmx);
    }
    return false;
}

double run_peak(Peak peak, int64_t iterations) {
    switch (peak) {
        case Peak::kFmaF32:
            return __builtin_cpu_supports("avx512f") ? fma_f32_avx512(iterations)
                                                     : fma_f32_avx2(iterations);
        case Peak::kDotBf16:
            return dot_bf16_avx512(iterations);
        case Peak::kDotInt8:
            return dot_int8_avx512(iterations);
        case Peak::kTileBf16:
            return tiles_bf16_amx(iterations / 100);
        case Peak::kTileInt8:
            return tiles_int8_amx(iterations / 100);
    }
    return 0.0;
}

}  // namespace

double seconds() {
    timespec now;
    clock_gettime(benchmark_clock, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void use_processor_time() {
    benchmark_clock = CLOCK_PROCESS_CPUTIME_ID;
}

const char *peak_name(Peak peak) {
    switch (peak) {
        case Peak::kFmaF32:
            return "fp32 FMA";
        case Peak::kDotBf16:
            return "bf16 dot";
        case Peak::kDotInt8:
            return "int8 dot";
        case Peak::kTileBf16:
            return "bf16 tiles from L2";
        case Peak::kTileInt8:
            return "int8 tiles from L2";
    }
    return "?";
}

bool peak_available(Peak peak) {
    return have(peak);
}

Roofs::Roofs(cpu::ThreadPool &pool) : pool_(pool) {
    void *address = nullptr;
    if (posix_memalign(&address, size_t{2} << 20, kMemoryBytes) != 0) throw std::bad_alloc();
    madvise(address, kMemoryBytes, MADV_HUGEPAGE);
    std::memset(address, 1, kMemoryBytes);
    memory_ = static_cast<char *>(address);
}

Roofs::~Roofs() {
    std::free(memory_);
}

double Roofs::read_sample() {
    struct Job {
        const char *data;
        mutable std::atomic<uint64_t> sum{0};
    } job;
    const int tasks = pool_.thread_count();
    const size_t bytes = kSampleBytes * static_cast<size_t>(tasks);
    if (position_ + bytes > kMemoryBytes) position_ = 0;
    job.data = memory_ + position_;
    position_ += bytes;
    const double start = seconds();
    pool_.run(
        tasks,
        [](const void *context, int64_t i) noexcept {
            const auto &job = *static_cast<const Job *>(context);
            const char *data = job.data + static_cast<size_t>(i) * kSampleBytes;
            job.sum += __builtin_cpu_supports("avx512f") ? read_avx512(data, kSampleBytes)
                                                         : read_sse2(data, kSampleBytes);
        },
        &job);
    return static_cast<double>(bytes) / (seconds() - start);
}

double Roofs::peak_sample(Peak peak) {
    struct Job {
        Peak peak;
        mutable std::atomic<int64_t> operations{0};
    } job{peak, 0};
    const double start = seconds();
    pool_.run(
        pool_.thread_count(),
        [](const void *context, int64_t) noexcept {
            const auto &job = *static_cast<const Job *>(context);
            job.operations += static_cast<int64_t>(run_peak(job.peak, kPeakIterations));
        },
        &job);
    return static_cast<double>(job.operations.load()) / (seconds() - start);
}

}  // namespace tarpon::bench
