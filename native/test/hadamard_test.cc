// The Hadamard transform through the C ABI, on every device that is here and, on the CPU, with
// every instruction set. Alone: ctest -R hadamard
#include "hadamard/ref.h"

#include <cstdio>
#include <cstdlib>

#include "abi_support.h"

namespace tarpon::test {
namespace {

int failures = 0;

#define TARPON_CHECK(condition, ...)                                    \
    do {                                                                \
        if (!(condition)) {                                             \
            std::printf("%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            std::printf(__VA_ARGS__);                                   \
            std::printf("\n");                                          \
            ++failures;                                                 \
        }                                                               \
    } while (0)

constexpr tarpon_dtype kDtypes[] = {TARPON_F32, TARPON_F16, TARPON_BF16};

struct Target {
    Owned<tarpon_device> device;
    std::string name;
    bool slow;  // the simulator
};

// A float that rounds to a dtype after every operation: the plain transform of that precision.
template <class T>
struct Rounded {
    float value = 0;
    Rounded() = default;
    explicit Rounded(double v) : value(to_float(from_float<T>(static_cast<float>(v)))) {}
    friend Rounded operator+(Rounded a, Rounded b) { return Rounded(double{a.value} + b.value); }
    friend Rounded operator-(Rounded a, Rounded b) { return Rounded(double{a.value} - b.value); }
    Rounded operator-() const { return Rounded(-double{value}); }
    Rounded &operator*=(Rounded b) { return *this = Rounded(double{value} * b.value); }
};

template <class T>
double plain_error(const std::vector<double> &row, const std::vector<double> &exact) {
    std::vector<Rounded<T>> plain(row.begin(), row.end());
    hadamard::transform_reference(plain.data(), static_cast<int64_t>(plain.size()));
    double sum = 0;
    for (size_t i = 0; i < row.size(); ++i)
        sum += (plain[i].value - exact[i]) * (plain[i].value - exact[i]);
    return std::sqrt(sum);
}

double plain_error(tarpon_dtype dtype, const std::vector<double> &row,
                   const std::vector<double> &exact) {
    if (dtype == TARPON_F16) return plain_error<half_t>(row, exact);
    if (dtype == TARPON_BF16) return plain_error<bf16_t>(row, exact);
    return plain_error<float>(row, exact);
}

// Device memory holding `bytes`, with a guard behind that must survive.
struct Memory {
    static constexpr size_t kGuardBytes = 256;
    tarpon_device *device;
    Owned<tarpon_buffer> buffer;
    size_t size;

    Memory(tarpon_device *d, const std::vector<char> &bytes) : device(d), size(bytes.size()) {
        tarpon_buffer *handle = nullptr;
        std::vector<char> all(bytes);
        all.resize(size + kGuardBytes, '\x5a');
        TARPON_CHECK(tarpon_buffer_create(d, all.size(), &handle) == TARPON_OK, "%s",
                     tarpon_last_error());
        buffer.reset(handle);
        tarpon_copy_to_device(d, address(), all.data(), all.size(), nullptr);
    }
    char *address() const { return static_cast<char *>(tarpon_buffer_address(buffer.get())); }
    std::vector<char> read() const {
        std::vector<char> all(size + kGuardBytes);
        tarpon_copy_to_host(device, all.data(), address(), all.size(), nullptr);
        for (size_t i = size; i < all.size(); ++i)
            TARPON_CHECK(all[i] == '\x5a', "byte %zu behind y was written", i - size);
        all.resize(size);
        return all;
    }
};

// Bit-equal to the reference in binary32, within twice a plain transform's error of fp64, in place
// and not, and its own inverse.
void test_hadamard_equals_reference(const Target &target, tarpon_dtype dtype, int64_t rows,
                                    int64_t n) {
    char where[128];
    std::snprintf(where, sizeof where, "%s %s rows %lld n %lld", target.name.c_str(),
                  dtype_name(dtype), static_cast<long long>(rows), static_cast<long long>(n));
    const auto x =
        make_activations(rows, n, dtype, Values::kRandom, static_cast<uint32_t>(n + rows));
    Memory in(target.device.get(), x);
    Memory out(target.device.get(), std::vector<char>(x.size(), '\xff'));
    const tarpon_status status = tarpon_hadamard_run(target.device.get(), in.address(),
                                                     out.address(), rows, n, dtype, nullptr);
    if (status == TARPON_ERROR_UNSUPPORTED && hadamard::decompose(n).base > 1) {
        std::printf("SKIPPED %s: %s\n", where, tarpon_last_error());
        return;
    }
    TARPON_CHECK(status == TARPON_OK, "%s: %s", where, tarpon_last_error());
    const auto y = out.read();

    for (int64_t r = 0; r < rows; ++r) {
        std::vector<float> expected(n);
        std::vector<double> row(n), exact(n);
        for (int64_t i = 0; i < n; ++i)
            row[i] = exact[i] = expected[i] = load(x.data(), dtype, r * n + i);
        hadamard::transform_reference(expected.data(), n);
        hadamard::transform_reference(exact.data(), n);
        double squares = 0;
        for (int64_t i = 0; i < n; ++i) {
            std::vector<char> rounded(dtype_bytes(dtype));
            store(rounded.data(), dtype, 0, expected[i]);
            const float want = load(rounded.data(), dtype, 0),
                        got = load(y.data(), dtype, r * n + i);
            TARPON_CHECK(want == got, "%s: y[%lld, %lld] is %.9g, the reference %.9g", where,
                         static_cast<long long>(r), static_cast<long long>(i), got, want);
            if (want != got) return;
            squares += (got - exact[i]) * (got - exact[i]);
        }
        if (r == 0) {
            const double plain = plain_error(dtype, row, exact);
            TARPON_CHECK(std::sqrt(squares) <= 2 * plain + 1e-12,
                         "%s: error %.3g, twice the plain transform's is %.3g", where,
                         std::sqrt(squares), 2 * plain);
        }
    }

    TARPON_CHECK(tarpon_hadamard_run(target.device.get(), in.address(), in.address(), rows, n,
                                     dtype, nullptr) == TARPON_OK,
                 "%s: %s", where, tarpon_last_error());
    TARPON_CHECK(in.read() == y, "%s: in place differs", where);

    tarpon_hadamard_run(target.device.get(), in.address(), in.address(), rows, n, dtype, nullptr);
    const auto back = in.read();
    const double unit = dtype == TARPON_F32 ? 0x1p-23 : dtype == TARPON_F16 ? 0x1p-10 : 0x1p-7;
    for (int64_t i = 0; i < rows * n; ++i) {
        // The first result's rounding, spread by the second transform: a few units of the largest.
        const double difference = load(back.data(), dtype, i) - load(x.data(), dtype, i);
        TARPON_CHECK(std::abs(difference) <= 16 * unit, "%s: twice is off by %.3g at %lld", where,
                     difference, static_cast<long long>(i));
        if (std::abs(difference) > 16 * unit) return;
    }
}

void test_hadamard_sizes(const Target &target) {
    for (tarpon_dtype dtype : kDtypes) {
        for (int64_t n = 2; n <= hadamard::kMaxSize; ++n) {
            const hadamard::Size size = hadamard::decompose(n);
            if (size.base == 0) continue;
            // The simulator runs a million instructions a second: one dtype for the odd bases.
            if (target.slow && (size.base > 12 || (size.base > 1 && dtype == TARPON_F32))) continue;
            test_hadamard_equals_reference(target, dtype, n <= 512 ? 7 : 2, n);
            if (n <= 64) test_hadamard_equals_reference(target, dtype, 1, n);
            if (n == 128 && !target.slow) test_hadamard_equals_reference(target, dtype, 3001, n);
        }
    }
}

void expect_invalid(tarpon_status status, const char *part, const char *what) {
    TARPON_CHECK(status == TARPON_ERROR_INVALID_ARGUMENT, "%s: status %s", what,
                 tarpon_status_name(status));
    TARPON_CHECK(std::strstr(tarpon_last_error(), part), "%s: \"%s\" does not say \"%s\"", what,
                 tarpon_last_error(), part);
}

void test_hadamard_refuses_bad_input(const Target &target) {
    tarpon_device *d = target.device.get();
    Memory memory(d, std::vector<char>(4096));
    char *p = memory.address();
    expect_invalid(tarpon_hadamard_run(nullptr, p, p, 1, 8, TARPON_F32, nullptr), "device", "NULL");
    expect_invalid(tarpon_hadamard_run(d, nullptr, p, 1, 8, TARPON_F32, nullptr), "NULL", "x NULL");
    expect_invalid(tarpon_hadamard_run(d, p, nullptr, 1, 8, TARPON_F32, nullptr), "NULL", "y NULL");
    for (int64_t n : {-8, 0, 1, 3, 6, 36, 100, 65536}) {
        expect_invalid(tarpon_hadamard_run(d, p, p, 1, n, TARPON_F16, nullptr),
                       std::to_string(n).c_str(), "size");
    }
    expect_invalid(tarpon_hadamard_run(d, p, p, -3, 8, TARPON_F32, nullptr), "-3", "rows");
    expect_invalid(tarpon_hadamard_run(d, p, p, INT64_MAX, 8, TARPON_F32, nullptr),
                   "9223372036854775807", "rows");
    expect_invalid(tarpon_hadamard_run(d, p, p, 1, 8, TARPON_U8, nullptr), "3", "dtype");
    expect_invalid(tarpon_hadamard_run(d, p, p, 1, 8, 99, nullptr), "99", "dtype");
    expect_invalid(tarpon_hadamard_run(d, p + 2, p, 1, 8, TARPON_F32, nullptr), "aligned", "align");
    expect_invalid(tarpon_hadamard_run(d, p, p + 16, 1, 8, TARPON_F32, nullptr), "overlap",
                   "apart");
    TARPON_CHECK(tarpon_hadamard_run(d, nullptr, nullptr, 0, 8, TARPON_F32, nullptr) == TARPON_OK,
                 "no rows: %s", tarpon_last_error());
}

std::vector<Target> targets() {
    std::vector<Target> all;
    for (const DeviceKind &kind : kDeviceKinds) {
        if (kind.kind == TARPON_DEVICE_CPU) {
            for (const char *isa : {"scalar", "avx2", "avx512"}) {
                setenv("TARPON_CPU_ISA", isa, 1);
                std::string reason;
                auto device = open_device(kind.kind, &reason);
                if (device) {
                    all.push_back({std::move(device), std::string("cpu ") + isa, false});
                } else {
                    std::printf("SKIPPED hadamard on cpu %s: %s\n", isa, reason.c_str());
                }
            }
            unsetenv("TARPON_CPU_ISA");
            continue;
        }
        std::string reason;
        auto device = open_device(kind.kind, &reason);
        if (!device) {
            std::printf("SKIPPED hadamard on %s: %s\n", kind.name, reason.c_str());
            continue;
        }
        all.push_back({std::move(device), kind.name, kind.kind == TARPON_DEVICE_SIM});
    }
    return all;
}

}  // namespace
}  // namespace tarpon::test

int main() {
    using namespace tarpon::test;
    for (const Target &target : targets()) {
        test_hadamard_refuses_bad_input(target);
        test_hadamard_sizes(target);
        std::printf("hadamard on %s: %s\n", target.name.c_str(), failures ? "FAILED" : "ok");
    }
    return failures ? 1 : 0;
}
