// Counts the instructions that a warp issues for one stage, in each kernel of a cubin: one trip of
// the main loop by its fast path.
//   cd kernels-cu
//   g++ -std=c++20 -O1 -o count_sass w4_gemm/count_sass.cc
//   nvcc -std=c++20 -arch=sm_90a -I. -cubin -o int8.cubin w4_gemm/instances_int8.cu
//   ./count_sass int8.cubin | c++filt
//
// The main loop is the innermost backward branch around the most mma. Its fast path makes all the
// copies and loads and takes the fewest instructions beside: it leaves out the element-wise copies
// of x and the turn to the next column. Instructions are 16 bytes on sm_70 and newer; their numbers
// and the place of a branch's distance are not documented, and were read off what ptxas makes of
// small kernels.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

struct Instruction {
    uint64_t low, high;
    unsigned op() const { return low & 0xfff; }
    unsigned family() const { return low & 0x1ff; }  // without the kinds of the operands
    unsigned predicate() const { return low >> 12 & 15; }
};

constexpr unsigned kAlways = 7, kNever = 15;
constexpr unsigned kBranch = 0x947, kMma = 0x23c, kCopy = 0xfae, kLoadMatrix = 0x83b, kLoad = 0x984,
                   kBarrier = 0xb1d;

// Where a branch at `at` goes: its distance in units of four bytes. From sm_90 on the lowest eight
// bits of it lie apart.
long target(const Instruction &in, long at, bool split) {
    const uint64_t upper = in.low >> 34 | (in.high & 0x3ffff) << 30;  // 48 bits
    if (!split) return at + 1 + (static_cast<int64_t>(upper << 16) >> 16) / 4;
    return at + 1 + (static_cast<int64_t>(upper << 16 | (in.low >> 16 & 0xff) << 8) >> 8) / 4;
}

struct Loop {
    long first = -1, last = -1;
};

Loop main_loop(const std::vector<Instruction> &code, bool split) {
    Loop best;
    long most = 0;
    const long size = static_cast<long>(code.size());
    for (long last = 0; last < size; ++last) {
        if (code[last].op() != kBranch) continue;
        const long first = target(code[last], last, split);
        if (first < 0 || first > last) continue;
        const long mma = std::count_if(code.begin() + first, code.begin() + last,
                                       [](const Instruction &in) { return in.op() == kMma; });
        if (mma > most || (mma == most && mma > 0 && last - first < best.last - best.first)) {
            most = mma;
            best = {first, last};
        }
    }
    return best;
}

// The instructions of the fast path, in order: of all paths through the loop that with the most
// copies, loads of matrices, multiplications and barriers, and of these the shortest.
std::vector<long> fast_path(const std::vector<Instruction> &code, const Loop &loop, bool split) {
    constexpr long kWanted = 1000, kImpossible = -1'000'000'000;
    std::vector<long> value(code.size(), kImpossible), next(code.size(), -1);
    for (long i = loop.last; i >= loop.first; --i) {
        const Instruction &in = code[i];
        const unsigned op = in.op();
        const bool wanted = op == kMma || op == kCopy || op == kLoadMatrix || op == kBarrier;
        const long own = (wanted ? kWanted : 0) - 1;
        if (i == loop.last) {
            value[i] = own;
            continue;
        }
        const long jump = op == kBranch ? target(in, i, split) : -1;
        const bool jumps = jump > i && jump <= loop.last;
        if (op != kBranch || in.predicate() != kAlways) next[i] = i + 1;
        if (jumps && (next[i] < 0 || value[jump] > value[i + 1])) next[i] = jump;
        if (next[i] >= 0 && value[next[i]] > kImpossible) value[i] = own + value[next[i]];
    }
    std::vector<long> path;
    for (long i = loop.first; i >= 0; i = next[i])
        path.push_back(i);
    return path;
}

enum Kind { kMmas, kLoads, kCopies, kHalves, kFloats, kOther, kKinds };

Kind kind(const Instruction &in) {
    switch (in.op()) {
        case kMma:
            return kMmas;
        case kCopy:
            return kCopies;
        case kLoad:
        case kLoadMatrix:
            return in.predicate() == kNever ? kOther : kLoads;  // ptxas puts some before copies
    }
    switch (in.family()) {
        case 0x12:  // LOP3
        case 0x16:  // PRMT
        case 0x30:  // HADD2, which also converts to fp32
        case 0x31:  // HFMA2
        case 0x32:  // HMUL2
        case 0x35:  // the same for bfloat16
            return kHalves;
        case 0x20:  // FMUL
        case 0x21:  // FADD
        case 0x23:  // FFMA
            return kFloats;
    }
    return kOther;
}

void report(const std::string &name, const std::vector<Instruction> &code) {
    bool split = false;
    Loop loop = main_loop(code, split);
    if (loop.first < 0) loop = main_loop(code, split = true);
    if (loop.first < 0) return;
    const std::vector<long> path = fast_path(code, loop, split);
    long counts[kKinds] = {};
    for (long i : path)
        ++counts[kind(code[i])];
    std::printf("%s", name.c_str());
    for (long count : counts)
        std::printf("\t%ld", count);
    std::printf("\t%zu\n", path.size());
}

template <class T>
T read(const std::vector<char> &file, uint64_t at) {
    T value{};
    if (at + sizeof value <= file.size()) std::memcpy(&value, file.data() + at, sizeof value);
    return value;
}

// ELF64: every section called .text.<kernel>.
void report_all(const std::vector<char> &file) {
    struct Section {
        uint32_t name, type;
        uint64_t flags, address, offset, size, link_info, alignment, entry_size;
    };
    const auto table = read<uint64_t>(file, 0x28);
    const auto entry = read<uint16_t>(file, 0x3a), count = read<uint16_t>(file, 0x3c);
    const uint64_t names = read<Section>(file, table + read<uint16_t>(file, 0x3e) * entry).offset;
    for (unsigned i = 0; i < count; ++i) {
        const auto section = read<Section>(file, table + i * entry);
        const uint64_t at = names + section.name;
        if (at >= file.size() || section.offset + section.size > file.size()) continue;
        const std::string name(file.data() + at);
        if (name.rfind(".text.", 0) != 0) continue;
        std::vector<Instruction> code(section.size / sizeof(Instruction));
        std::memcpy(code.data(), file.data() + section.offset, code.size() * sizeof(Instruction));
        report(name.substr(6), code);
    }
}

}  // namespace

int main(int argc, char **argv) {
    std::printf("kernel\tmma\tld.shared\tcp.async\thalf2, bits\tfp32\tother\tall\n");
    for (int i = 1; i < argc; ++i) {
        std::ifstream in(argv[i], std::ios::binary);
        const std::vector<char> file{std::istreambuf_iterator<char>(in), {}};
        if (file.size() < 64) {
            std::fprintf(stderr, "%s is no cubin\n", argv[i]);
            return 1;
        }
        report_all(file);
    }
}
