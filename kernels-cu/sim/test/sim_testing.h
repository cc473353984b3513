// What the simulator's tests share: running something on several schedules, and expecting a report.
#pragma once

#include <cuda_runtime.h>

#include <initializer_list>
#include <string>

#include "sim/control.h"
#include "testing/test.h"

namespace tarpon::sim_tests {

using sim::last_report;
using sim::live_allocations;
using sim::reset;
using sim::schedule;
using sim::Schedule;
using sim::set_arch;
using sim::set_processor_count;
using sim::set_schedule;

inline constexpr Schedule kSchedules[] = {
    {Schedule::Order::kForward, 0}, {Schedule::Order::kReverse, 0}, {Schedule::Order::kRandom, 1},
    {Schedule::Order::kRandom, 2},  {Schedule::Order::kRandom, 3},  {Schedule::Order::kRandom, 4},
};

inline std::string name(Schedule schedule) {
    switch (schedule.order) {
        case Schedule::Order::kForward:
            return "forward";
        case Schedule::Order::kReverse:
            return "reverse";
        case Schedule::Order::kRandom:
            break;
    }
    return "random " + std::to_string(schedule.seed);
}

// Calls `body(schedule)` with each of the schedules set, then puts back what was.
template <class Body>
void on_every_schedule(Body &&body) {
    const Schedule before = schedule();
    for (const Schedule &each : kSchedules) {
        set_schedule(each);
        body(each);
    }
    set_schedule(before);
}

// The launch must have failed with a report that has all of `parts` in it; clears the error.
inline void expect_report(cudaError_t status, std::initializer_list<const char *> parts) {
    const std::string when = name(schedule());
    CHECK_EQ(status, cudaErrorLaunchFailure, "%s", when.c_str());
    const std::string report = last_report();
    for (const char *part : parts) {
        CHECK(report.find(part) != std::string::npos, "%s: no \"%s\" in the report: %s",
              when.c_str(), part, report.c_str());
    }
    if (status == cudaErrorLaunchFailure) {
        const std::string text = cudaGetErrorString(status);
        CHECK(text.find(report) != std::string::npos, "error text: %s", text.c_str());
    }
    reset();
}

}  // namespace tarpon::sim_tests
