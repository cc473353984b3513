// Feature bits by CPUID and XGETBV. Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E.
#include "cpu/isa.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "cpu/bf16_probe.h"
#include "status.h"

namespace tarpon::cpu {
namespace {

struct IsaEntry {
    Isa isa;
    const char *name;
    const char *needs;
};

constexpr IsaEntry kIsas[kIsaCount] = {
    {Isa::kScalar, "scalar", "any x86-64"},
    {Isa::kAvx2, "avx2", "AVX2, FMA, F16C"},
    {Isa::kAvx512, "avx512", "AVX-512 F/BW/DQ/VL"},
    {Isa::kAvx512Vnni, "avx512_vnni", "AVX-512 F/BW/DQ/VL and AVX512_VNNI"},
    {Isa::kAvx512Bf16, "avx512_bf16", "AVX-512 F/BW/DQ/VL, AVX512_VNNI and AVX512_BF16"},
    {Isa::kAmx, "amx",
     "AVX-512 F/BW/DQ/VL, AVX512_VNNI, AVX512_BF16, AMX_TILE, AMX_BF16 and AMX_INT8, and Linux's "
     "permission to use tiles"},
};

struct CpuidRegisters {
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

CpuidRegisters cpuid(uint32_t leaf, uint32_t subleaf) {
    CpuidRegisters r;
    // Returns 0, and leaves the registers 0, for leaves beyond the processor's last one.
    __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
    return r;
}

constexpr bool bit(uint32_t word, int index) {
    return word >> index & 1;
}

// XCR0: which register state the operating system saves. 0 if it does not use XSAVE.
uint64_t enabled_register_state() {
    if (!bit(cpuid(1, 0).ecx, 27)) return 0;  // OSXSAVE
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return uint64_t{high} << 32 | low;
}

struct Features {
    bool avx2 = false, avx512 = false, avx512_vnni = false, avx512_bf16 = false;
    bool amx = false;
};

// Tiles are 8 KiB of state a thread, which Linux (5.16 and later) saves only for processes that ask:
// arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
bool request_tile_permission() {
    constexpr long kRequestPermission = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

Features detect() {
    constexpr uint64_t kAvxState = 0x06;      // XMM, upper YMM
    constexpr uint64_t kAvx512State = 0xe6;   // and mask registers, upper ZMM, ZMM16-31
    constexpr uint64_t kTileState = 0x60000;  // tile configuration and data
    const uint64_t state = enabled_register_state();
    const CpuidRegisters leaf1 = cpuid(1, 0), leaf7 = cpuid(7, 0), leaf7_1 = cpuid(7, 1);
    const bool fma = bit(leaf1.ecx, 12), f16c = bit(leaf1.ecx, 29);
    Features f;
    f.avx2 = (state & kAvxState) == kAvxState && bit(leaf7.ebx, 5) && fma && f16c;
    f.avx512 = f.avx2 && (state & kAvx512State) == kAvx512State && bit(leaf7.ebx, 16) &&  // F
               bit(leaf7.ebx, 17) && bit(leaf7.ebx, 30) && bit(leaf7.ebx, 31);  // DQ, BW, VL
    f.avx512_vnni = f.avx512 && bit(leaf7.ecx, 11);
    f.avx512_bf16 = f.avx512_vnni && bit(leaf7_1.eax, 5);
    f.amx = f.avx512_bf16 && (state & kTileState) == kTileState && bit(leaf7.edx, 22) &&  // BF16
            bit(leaf7.edx, 24) && bit(leaf7.edx, 25) && request_tile_permission();  // TILE, INT8
    return f;
}

std::string supported_names() {
    std::string names;
    for (const IsaEntry &entry : kIsas) {
        if (!isa_supported(entry.isa)) continue;
        if (!names.empty()) names += ", ";
        names += entry.name;
    }
    return names;
}

}  // namespace

const char *isa_name(Isa isa) {
    return kIsas[static_cast<int>(isa)].name;
}
const char *isa_needs(Isa isa) {
    return kIsas[static_cast<int>(isa)].needs;
}

bool isa_supported(Isa isa) {
    static const Features features = detect();
    switch (isa) {
        case Isa::kScalar:
            return true;
        case Isa::kAvx2:
            return features.avx2;
        case Isa::kAvx512:
            return features.avx512;
        case Isa::kAvx512Vnni:
            return features.avx512_vnni;
        case Isa::kAvx512Bf16:
            return features.avx512_bf16;
        case Isa::kAmx:
            return features.amx;
    }
    return false;
}

bool bf16_dot_is_fast() {
    static const bool fast = bf16_dot_to_fma_time() < 1.0;
    return fast;
}

Isa choose_isa() {
    const char *forced = std::getenv("TARPON_CPU_ISA");
    if (!forced || !*forced) {
        if (isa_supported(Isa::kAmx)) return Isa::kAmx;
        if (isa_supported(Isa::kAvx512Bf16) && bf16_dot_is_fast()) return Isa::kAvx512Bf16;
        for (Isa isa : {Isa::kAvx512Vnni, Isa::kAvx512, Isa::kAvx2}) {
            if (isa_supported(isa)) return isa;
        }
        return Isa::kScalar;
    }
    for (const IsaEntry &entry : kIsas) {
        if (std::strcmp(forced, entry.name) != 0) continue;
        if (isa_supported(entry.isa)) return entry.isa;
        fail(TARPON_ERROR_UNSUPPORTED,
             "TARPON_CPU_ISA is \"%s\", which needs %s; this processor and operating system offer "
             "%s",
             forced, entry.needs, supported_names().c_str());
    }
    fail(TARPON_ERROR_INVALID_ARGUMENT,
         "TARPON_CPU_ISA is \"%s\", which is no instruction set of this build; this processor "
         "offers %s",
         forced, supported_names().c_str());
}

std::string processor_name() {
    uint32_t words[12] = {};
    if (cpuid(0x80000000, 0).eax < 0x80000004) return "x86-64 processor";
    for (uint32_t i = 0; i < 3; ++i) {
        const CpuidRegisters r = cpuid(0x80000002 + i, 0);
        const uint32_t part[4] = {r.eax, r.ebx, r.ecx, r.edx};
        std::memcpy(words + 4 * i, part, sizeof part);
    }
    char text[sizeof words + 1] = {};
    std::memcpy(text, words, sizeof words);
    const std::string name(text);
    const size_t first = name.find_first_not_of(' ');
    if (first == std::string::npos) return "x86-64 processor";
    return name.substr(first, name.find_last_not_of(' ') - first + 1);
}

}  // namespace tarpon::cpu
