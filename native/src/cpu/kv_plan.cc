// The tables of a KV plan on the CPU. Cold.
#include "cpu/kv_plan.h"

namespace tarpon::cpu {

using namespace kv_cache;

namespace {

const HadamardKernels &hadamard_kernels(Isa isa) {
    if (isa >= Isa::kAvx512) return kAvx512Hadamard;
    return isa == Isa::kAvx2 ? kAvx2Hadamard : kScalarHadamard;
}

KvKernels kv_kernels(Isa isa) {
    if (isa < Isa::kAvx2) return kScalarKv;
    if (isa < Isa::kAvx512) return kAvx2Kv;
    KvKernels kernels = kAvx512Kv;
    const int two_bits = kv_width_index(2);
    kernels.pack[two_bits] = kAvx512LookupKv.pack;
    kernels.score[two_bits] = kAvx512LookupKv.score;
    if (isa < Isa::kAvx512Vnni) return kernels;
    kernels.name = kAvx512VnniKv.name;
    for (int i = 0; i < kKvIntegerWidths; ++i) {
        kernels.value[i] = kAvx512VnniKv.value[i];
        if (i == two_bits) continue;
        kernels.pack[i] = kAvx512VnniKv.pack[i];
        kernels.score[i] = kAvx512VnniKv.score[i];
    }
    return kernels;
}

const KvEncodeKernels &encode_kernels(Isa isa) {
    if (isa >= Isa::kAvx512) return kAvx512EncodeKv;
    return isa == Isa::kAvx2 ? kAvx2EncodeKv : kScalarEncodeKv;
}

}  // namespace

KvCpuPlan::KvCpuPlan(CpuDevice &device, KvProblem problem)
    : problem_(std::move(problem)),
      layout_(block_layout(problem_.format)),
      pool_(device.pool()),
      kernels_(kv_kernels(device.isa())),
      encode_(encode_kernels(device.isa())),
      hadamard_(hadamard_kernels(device.isa()).by_dtype[TARPON_F32]),
      rotation_(hadamard::decompose(problem_.format.head_dim)),
      tables_(problem_),
      rope_(tables_.view) {
    for (int pair = 0; pair < rope_.pairs; ++pair) {
        for (int t = 0; t < kKvSteps; ++t) {
            step_cos_.push_back(rope_.low[t * rope_.pairs + pair].cos);
            step_sin_.push_back(rope_.low[t * rope_.pairs + pair].sin);
        }
    }
    mean_pairs_.resize(problem_.format.kv_heads);
    for (int head = 0; head < problem_.format.kv_heads && !problem_.k_mean.empty(); ++head) {
        const float *mean = problem_.mean(head);
        for (int pair = 0; pair < rope_.pairs; ++pair) {
            if (mean[rope_first(rope_, pair)] != 0 || mean[rope_second(rope_, pair)] != 0)
                mean_pairs_[head].push_back(pair);
        }
    }
    if (problem_.rotatekv()) make_rotatekv_tables();
}

// For every channel of the rotated key, where the stored channel that it became lies in a page.
void KvCpuPlan::make_rotatekv_tables() {
    const Format &f = problem_.format;
    const int plane_bits = f.k_bits == 3 ? 2 : f.k_bits, per_word = 32 / plane_bits;
    const int groups = scale_groups(f);
    places_.resize(problem_.k_order.size());
    for (size_t stored = 0; stored < problem_.k_order.size(); ++stored) {
        const int head = static_cast<int>(stored) / f.head_dim;
        const int channel = static_cast<int>(stored) % f.head_dim;
        const int plane = head * layout_.bytes + layout_.k_codes;
        const int upper_plane = plane + f.page_tokens * f.head_dim / 4;
        KvPlace &place = places_[problem_.k_order[stored]];
        place.word = plane + 4 * k_word_index(f.head_dim, plane_bits, 0, channel / per_word);
        place.bit = static_cast<uint8_t>(channel % per_word * plane_bits);
        place.upper = upper_plane + 4 * k_word_index(f.head_dim, 1, 0, channel / 32);
        place.upper_bit = static_cast<uint8_t>(channel % 32);
        place.range = head * groups + channel / group_channels(f);
    }
    for (int head = 0; head < f.kv_heads; ++head) {
        for (int group = 0; group < groups; ++group) {
            const int at = head * layout_.bytes + 2 * scale_index(f, group, 0);
            range_bytes_.push_back(at + layout_.k_scales);
            range_bytes_.push_back(at + layout_.k_zeros);
        }
    }
    for (int pair = 0; pair < rope_.pairs; ++pair) {
        pair_channels_.push_back(rope_first(rope_, pair));
        pair_channels_.push_back(rope_second(rope_, pair));
    }
}

void KvCpuPlan::rotate(float *x, int n, hadamard::Size size) const noexcept {
    hadamard_({x, x, 1, size.power, size.base, hadamard::base_rows(size.base),
               static_cast<float>(1.0 / std::sqrt(static_cast<double>(n)))});
}

}  // namespace tarpon::cpu
