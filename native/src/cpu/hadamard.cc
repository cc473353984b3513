// The Hadamard transform on the CPU: picks the kernel and spreads the rows over the threads.
#include "cpu/hadamard.h"

#include <algorithm>

#include "cpu/hadamard_kernel.h"
#include "hadamard/matrix.h"

namespace tarpon::cpu {
namespace {

// Elements of a task: some ten microseconds of work, to outweigh a task's handing out.
constexpr int64_t kTaskElems = 64 * 1024;

struct Job {
    HadamardKernel kernel;
    HadamardRows all;
    int64_t rows_per_task;
    int64_t row_bytes;
};

void run_task(const void *context, int64_t task) noexcept {
    const Job &job = *static_cast<const Job *>(context);
    const int64_t first = task * job.rows_per_task;
    HadamardRows rows = job.all;
    rows.x = static_cast<const char *>(rows.x) + first * job.row_bytes;
    rows.y = static_cast<char *>(rows.y) + first * job.row_bytes;
    rows.rows = std::min(job.rows_per_task, job.all.rows - first);
    job.kernel(rows);
}

const HadamardKernels &kernels(Isa isa) {
    if (isa >= Isa::kAvx512) return kAvx512Hadamard;
    return isa == Isa::kAvx2 ? kAvx2Hadamard : kScalarHadamard;
}

}  // namespace

void run_hadamard(Isa isa, ThreadPool &pool, const HadamardArgs &args) noexcept {
    const int64_t n = args.base * args.power;
    const int64_t rows_per_task = std::max<int64_t>(1, kTaskElems / n);
    const Job job{kernels(isa).by_dtype[args.dtype],
                  {args.x, args.y, args.rows, args.power, args.base, hadamard::base_rows(args.base),
                   args.scale},
                  rows_per_task,
                  n * (args.dtype == TARPON_F32 ? 4 : 2)};
    pool.run((args.rows + rows_per_task - 1) / rows_per_task, run_task, &job);
}

}  // namespace tarpon::cpu
