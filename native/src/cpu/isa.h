// Which instruction sets the CPU kernels may use: detected from feature bits, never from model
// numbers, because virtual machines mask those. Called by device.cc once a device is opened.
#pragma once

#include <string>

namespace tarpon::cpu {

// Ordered: a device that may use one may use all before it.
enum class Isa { kScalar = 0, kAvx2, kAvx512, kAvx512Vnni, kAvx512Bf16, kAmx };
inline constexpr int kIsaCount = 6;

// The name that TARPON_CPU_ISA takes and tarpon_device_info.isa shows, such as "avx512_bf16".
const char *isa_name(Isa isa);

// The instruction sets it stands for, such as "AVX-512 F/BW/DQ/VL"; for error messages.
const char *isa_needs(Isa isa);

// Whether processor and operating system (the register state it saves) provide it. For AMX the
// first call asks Linux for the process's permission to use tiles, which lasts.
bool isa_supported(Isa isa);

// TARPON_CPU_ISA if set, else the best that is supported and worth using: AVX512-BF16 counts only
// where its dot product outruns two FMAs (see bf16_dot_is_fast), or where there is AMX. Throws
// tarpon::Error for a name that is unknown or not supported here, with the list of those that are.
Isa choose_isa();

// Whether vdpbf16ps does more work per second than fp32 FMA, measured once per process in a few
// microseconds. It needs a measurement because no feature bit tells: Zen 4 and later run it at
// twice the FMA rate, Sapphire Rapids at half. Requires isa_supported(Isa::kAvx512Bf16).
bool bf16_dot_is_fast();

// The processor's brand string, trimmed, such as "AMD EPYC 9654 96-Core Processor".
std::string processor_name();

}  // namespace tarpon::cpu
