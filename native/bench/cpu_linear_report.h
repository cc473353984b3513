// What cpu_linear_bench writes beside its text: JSON for programs, Markdown for the README.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tarpon::bench {

struct Shape {
    int64_t n, k;
};

struct Figures {
    double median_seconds, best_seconds;
    double read_share, peak_share;     // of the roofs, best against best
    double gbytes_per_second, gflops;  // of the best
};

struct Result {
    Shape shape;
    int64_t m;
    bool cold, int8;
    std::string variant;
    Figures figures;
};

// Where the figures come from: a line of text, and the roofs measured before the first of them.
struct Environment {
    std::string device, isa, roofs;
    int threads;
    double load;  // runnable threads of the machine a minute before the start
};

// Both return false if the file cannot be written.
bool write_json(const std::string &path, const Environment &environment,
                const std::vector<Result> &results);
// A row for each shape and m: exact arithmetic beside int8 activations, cold beside hot. What was
// not measured stays empty.
bool write_markdown(const std::string &path, const Environment &environment,
                    const std::vector<Result> &results);

}  // namespace tarpon::bench
