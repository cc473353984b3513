#include "cpu_linear_report.h"

#include <cstdio>

namespace tarpon::bench {
namespace {

const Result *find(const std::vector<Result> &results, const Result &like, bool int8, bool cold) {
    for (const Result &r : results) {
        if (r.shape.n == like.shape.n && r.shape.k == like.shape.k && r.m == like.m &&
            r.int8 == int8 && r.cold == cold) {
            return &r;
        }
    }
    return nullptr;
}

// The first result of its shape and m: the one that stands for a row.
bool begins_row(const std::vector<Result> &results, size_t i) {
    for (size_t j = 0; j < i; ++j) {
        if (results[j].shape.n == results[i].shape.n && results[j].shape.k == results[i].shape.k &&
            results[j].m == results[i].m) {
            return false;
        }
    }
    return true;
}

}  // namespace

bool write_json(const std::string &path, const Environment &environment,
                const std::vector<Result> &results) {
    std::FILE *file = std::fopen(path.c_str(), "w");
    if (!file) return false;
    std::fprintf(file, "{\"device\": \"%s\", \"isa\": \"%s\", \"threads\": %d, \"results\": [",
                 environment.device.c_str(), environment.isa.c_str(), environment.threads);
    const char *separator = "";
    for (const Result &r : results) {
        std::fprintf(file,
                     "%s\n{\"n\": %lld, \"k\": %lld, \"m\": %lld, \"weights\": \"%s\", "
                     "\"variant\": \"%s\", \"us\": %.2f, \"best_us\": %.2f, "
                     "\"gbytes_per_s\": %.3f, \"gflops\": %.2f, \"read_roof_share\": %.4f, "
                     "\"peak_roof_share\": %.4f}",
                     separator, static_cast<long long>(r.shape.n),
                     static_cast<long long>(r.shape.k), static_cast<long long>(r.m),
                     r.cold ? "cold" : "hot", r.variant.c_str(), r.figures.median_seconds * 1e6,
                     r.figures.best_seconds * 1e6, r.figures.gbytes_per_second, r.figures.gflops,
                     r.figures.read_share, r.figures.peak_share);
        separator = ",";
    }
    std::fprintf(file, "\n]}\n");
    return std::fclose(file) == 0;
}

bool write_markdown(const std::string &path, const Environment &environment,
                    const std::vector<Result> &results) {
    std::FILE *file = std::fopen(path.c_str(), "w");
    if (!file) return false;
    std::fprintf(file, "%s, %s, %d threads, load %.2f before the start; roofs: %s.\n\n",
                 environment.device.c_str(), environment.isa.c_str(), environment.threads,
                 environment.load, environment.roofs.c_str());
    std::fprintf(file,
                 "| n x k | m | exact, cold us | %% read | %% peak | hot us | %% peak "
                 "| int8, cold us | %% read | %% peak | hot us | %% peak |\n"
                 "|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < results.size(); ++i) {
        if (!begins_row(results, i)) continue;
        const Result &row = results[i];
        const bool new_shape = i == 0 || row.shape.n != results[i - 1].shape.n ||
                               row.shape.k != results[i - 1].shape.k;
        if (new_shape) {
            std::fprintf(file, "| %lld x %lld", static_cast<long long>(row.shape.n),
                         static_cast<long long>(row.shape.k));
        } else {
            std::fprintf(file, "|");
        }
        std::fprintf(file, " | %lld |", static_cast<long long>(row.m));
        for (bool int8 : {false, true}) {
            for (bool cold : {true, false}) {
                const Result *r = find(results, row, int8, cold);
                if (!r) {
                    std::fprintf(file, cold ? " | | |" : " | |");
                    continue;
                }
                std::fprintf(file, " %.0f |", r->figures.best_seconds * 1e6);
                if (cold) std::fprintf(file, " %.0f |", r->figures.read_share * 100);
                std::fprintf(file, " %.0f |", r->figures.peak_share * 100);
            }
        }
        std::fprintf(file, "\n");
    }
    return std::fclose(file) == 0;
}

}  // namespace tarpon::bench
