// Why select() chooses what it chooses, as text. Plain host C++.
//
// Caller: native/src/linear_explain.cc, behind `./tarpon doctor --explain-linear M N K`.
#pragma once

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "w4_gemm/select.h"

namespace tarpon::w4_gemm {

namespace detail {

struct Candidate {
    int tile;
    int64_t grid, stripe_tiles;
    Cost cost;
};

inline std::string limit_of(const Cost &cost, double per_sm) {
    const double most = std::max({cost.dram, cost.l2, cost.mma, cost.issue});
    if (most * per_sm < cost.stage / 2) return "latency";
    if (most == cost.dram) return "DRAM";
    if (most == cost.l2) return "L2";
    return most == cost.mma ? "mma" : "issue";
}

inline void append(std::string &out, const char *format, auto... values) {
    char line[256];
    std::snprintf(line, sizeof(line), format, values...);
    out += line;
}

}  // namespace detail

// The launches that are considered for a problem on a device, cheapest first, with what the model
// says of each. A stage's clocks are of one CTA that has an SM for itself.
inline std::string explain(const Problem &problem, const DeviceProps &device) {
    using ll = long long;
    constexpr size_t kMostLines = 12;
    std::vector<detail::Candidate> candidates;
    for_each_candidate(problem, device, [&](int tile, int64_t grid, int64_t stripe) {
        for (const auto &known : candidates) {
            if (known.tile == tile && known.stripe_tiles == stripe) return;
        }
        const Cost cost = predict(problem, tile_shape(problem, tile), grid, stripe, device);
        candidates.push_back({tile, grid, stripe, cost});
    });
    // Stable, as select() takes the first of equals.
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const auto &a, const auto &b) { return a.cost.us < b.cost.us; });

    const FormatTraits &format = traits(problem.format);
    const bool grouped = is_grouped(problem.format, problem.groups);
    const ArchModel arch = arch_model(device.compute_capability);
    const double scale_bytes = grouped ? format.scale_bytes + format.zeros : 0;
    const auto n = static_cast<double>(problem.n), k = static_cast<double>(problem.k);
    const double weight_bytes =
        n * k * format.bits / 8 + n * static_cast<double>(problem.groups) * scale_bytes;
    const double gb_per_s = arch.dram_bytes_per_clock * arch.ghz * device.sm_count;
    const double tflops = arch.mma_fma_per_clock * arch.ghz * device.sm_count * 2e-3;
    std::string out;
    detail::append(out, "y[%lld, %lld] = x[%lld, %lld] * W: kernels %s, %s, %lld group%s, %s\n",
                   ll{problem.m}, ll{problem.n}, ll{problem.m}, ll{problem.k}, format.name,
                   grouped ? "scaled by slabs" : "scaled at the end", ll{problem.groups},
                   problem.groups == 1 ? "" : "s",
                   problem.deterministic ? "deterministic" : "fast");
    detail::append(out, "model of sm_%d: %d SMs at %.2f GHz, %.0f GB/s, %.0f TFLOP/s by mma.sync\n",
                   arch.compute_capability, device.sm_count, arch.ghz, gb_per_s, tflops);
    detail::append(out, "roofs: %.2f us for %.1f MB of weights, %.2f us for the multiplications\n",
                   weight_bytes / gb_per_s * 1e-3, weight_bytes * 1e-6,
                   2e-6 * static_cast<double>(problem.m) * n * k / tflops);
    detail::append(out, "%2s %9s %-14s %6s %7s %6s %6s %6s %6s %6s %6s  %s\n", "", "us",
                   "tile MxKxN", "CTAs", "stages", "cut", "DRAM", "L2", "mma", "issue", "stage",
                   "bound");
    for (size_t i = 0; i < std::min(candidates.size(), kMostLines); ++i) {
        const detail::Candidate &c = candidates[i];
        const TileShape &tile = tile_shape(problem, c.tile);
        const std::string name = std::to_string(tile.block_m) + "x" + std::to_string(tile.block_k) +
                                 "x" + std::to_string(tile.block_n);
        const double per_sm = static_cast<double>(ceil_div(c.grid, device.sm_count));
        detail::append(out, "%2s %9.2f %-14s %6lld %7lld %6lld %6.0f %6.0f %6.0f %6.0f %6.0f  %s\n",
                       i == 0 ? "->" : "", c.cost.us, name.c_str(), ll{c.grid}, ll{c.stripe_tiles},
                       ll{most_slices(partition(problem, tile).k_tiles, c.stripe_tiles)},
                       c.cost.dram, c.cost.l2, c.cost.mma, c.cost.issue, c.cost.stage,
                       detail::limit_of(c.cost, per_sm).c_str());
    }
    if (candidates.size() > kMostLines) {
        detail::append(out, "%d more\n", static_cast<int>(candidates.size() - kMostLines));
    }
    out +=
        "stages: of a CTA; cut: CTAs that share a block of y. DRAM to issue: clocks of one stage "
        "alone,\nstage: with what overlaps and shares the SM. Figures are predictions.\n";
    return out;
}

}  // namespace tarpon::w4_gemm
