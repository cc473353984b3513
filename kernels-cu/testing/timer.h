// Wall-clock times of short pieces of work on the host.
#pragma once

#include <algorithm>
#include <chrono>

namespace tarpon::testing {

class Timer {
  public:
    double seconds() const {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    }

  private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// The shortest of `repetitions` runs: noise of other processes only ever adds.
template <class Work>
double best_seconds(int repetitions, Work &&work) {
    double best = 1e300;
    for (int i = 0; i < repetitions; ++i) {
        const Timer timer;
        work();
        best = std::min(best, timer.seconds());
    }
    return best;
}

}  // namespace tarpon::testing
