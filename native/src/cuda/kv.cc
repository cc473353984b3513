// Plans of the KV cache on GPUs. Compiled twice, as backend.cc is: with cudart and
// with the simulated runtime. A plan keeps the tables of RoPE and the calibration in device memory;
// a run launches one kernel (kernels-cu/kv_cache/launch.h).
#include "cuda/kv.h"

#include <cuda_runtime.h>

#include <cmath>
#include <limits>

#include "cuda/cuda_check.h"
#include "cuda/device_guard.h"
#include "kv_cache.h"
#include "kv_cache/config.h"
#include "kv_cache/launch.h"
#include "kv_cache/tables.h"

namespace tarpon::gpu {
namespace {

using namespace tarpon::kv_cache;

cudaStream_t raw(const Stream *stream) {
    return stream ? static_cast<cudaStream_t>(stream->native_handle()) : nullptr;
}

bool vector_aligned(const void *a, const void *b) {
    return (reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b)) % 16 == 0;
}

// Device memory with copies of host arrays, freed with the plan.
class DeviceArrays {
  public:
    explicit DeviceArrays(Device &device) : device_(device) {}
    ~DeviceArrays() {
        for (void *address : addresses_)
            device_.free(address);
    }
    DeviceArrays(const DeviceArrays &) = delete;
    DeviceArrays &operator=(const DeviceArrays &) = delete;

    // Null for an empty array.
    template <class T>
    const T *add(const std::vector<T> &values) {
        if (values.empty()) return nullptr;
        addresses_.reserve(addresses_.size() + 1);
        void *address = device_.allocate(values.size() * sizeof(T));
        addresses_.push_back(address);
        device_.copy_to_device(address, values.data(), values.size() * sizeof(T), nullptr);
        return static_cast<const T *>(address);
    }

  private:
    Device &device_;
    std::vector<void *> addresses_;
};

class Sm80Kv final : public KvPlan {
  public:
    Sm80Kv(Device &device, const KvProblem &problem) : problem_(problem), memory_(device) {
        tarpon_device_info info{};
        device.info(info);
        ordinal_ = info.ordinal;
        const KvTables tables(problem_);
        fill_plan(tables);
        fill_attend(tables.view);
        DeviceGuard guard(ordinal_);
        check_cuda(prepare_append(problem_.format), "cudaFuncSetAttribute of the append kernel");
        check_cuda(device_limits(ordinal_, &limits_), "cudaDeviceGetAttribute");
        for (const int rows : {1, kKvMaxQueries * group()})
            prepare_rows(rows);
    }

    tarpon_status append(const tarpon_kv_append_args &a,
                         const Stream *stream) const noexcept override {
        AppendParams p{};
        p.plan = plan_;
        p.tile = select_append(a.tokens, problem_.format.kv_heads, limits_.processors);
        p.k = a.k, p.v = a.v;
        p.vectors = vector_aligned(a.k, a.v);
        p.tokens = a.tokens;
        p.slots = a.slots;
        p.positions = a.positions;
        p.rows = a.rows;
        p.lengths = a.lengths;
        p.recent_index = a.recent_index;
        p.sink_positions = a.sink_positions;
        p.pages = static_cast<uint8_t *>(a.pages);
        p.recent = static_cast<half_t *>(a.recent);
        return run([&] { return kv_cache::append(p, raw(stream)); },
                   "the launch of an append kernel");
    }

    tarpon_status attend(const tarpon_kv_attend_args &a,
                         const Stream *stream) const noexcept override {
        const int64_t groups = groups_of(a.batch, a.queries);
        const AttendTuning &tuning = this->tuning(a.queries * group());
        const int splits =
            select_splits(groups, a.max_length, tuning.blocks_per_processor * limits_.processors);
        const int64_t blocks = groups * (splits + recent_items_);
        if (blocks > std::numeric_limits<int32_t>::max()) {
            return set_error(
                TARPON_ERROR_UNSUPPORTED,
                "kv attend: batch %lld with %d queries and %d heads makes %lld blocks; "
                "one launch has 2^31 - 1 at most",
                static_cast<long long>(a.batch), a.queries, problem_.q_heads,
                static_cast<long long>(blocks));
        }
        AttendParams p = attend_;
        p.q = a.q, p.o = a.o;
        p.vectors = vector_aligned(a.q, a.o);
        p.page_table = a.page_table;
        p.table_stride = a.table_stride;
        p.lengths = a.lengths;
        p.recent_index = a.recent_index;
        p.sink_positions = a.sink_positions;
        p.pages = static_cast<const uint8_t *>(a.pages);
        p.recent = static_cast<const half_t *>(a.recent);
        p.flags = static_cast<Ticket *>(a.workspace);
        p.partials =
            reinterpret_cast<float *>(static_cast<char *>(a.workspace) + flags_bytes(blocks));
        p.queries = a.queries;
        p.row_blocks = row_blocks(a.queries);
        p.splits = splits;
        return run([&] { return kv_cache::attend(p, tuning, groups, raw(stream)); },
                   "the launch of an attention kernel");
    }

    tarpon_status dequantize(const tarpon_kv_dequantize_args &a,
                             const Stream *stream) const noexcept override {
        DequantizeParams p{};
        p.plan = plan_;
        p.k = a.k, p.v = a.v;
        p.tokens = a.tokens;
        p.slots = a.slots;
        p.positions = a.positions;
        p.rows = a.rows;
        p.lengths = a.lengths;
        p.recent_index = a.recent_index;
        p.sink_positions = a.sink_positions;
        p.pages = static_cast<const uint8_t *>(a.pages);
        p.recent = static_cast<const half_t *>(a.recent);
        return run([&] { return kv_cache::dequantize(p, raw(stream)); },
                   "the launch of a dequantize kernel");
    }

    size_t workspace_bytes(int64_t batch, int queries, int64_t max_length) const override {
        const int64_t blocks =
            blocks_bound(groups_of(batch, queries), max_length, limits_.processors, recent_items_);
        return attend_workspace_bytes(blocks, block_heads_, problem_.format.head_dim,
                                      queries * group());
    }

    const char *variant() const override { return "sm80_mma"; }

  private:
    int group() const { return problem_.q_heads / problem_.format.kv_heads; }
    int row_blocks(int queries) const {
        const int rows = queries * group();
        const int block_rows = 4 * row_tiles(problem_.format.head_dim, rows);
        return (rows + block_rows - 1) / block_rows;
    }
    // Blocks of query rows over all sequences and kv heads, or those that a block has together.
    int64_t groups_of(int64_t batch, int queries) const {
        return batch * (problem_.format.kv_heads / block_heads_) * row_blocks(queries);
    }

    const AttendTuning &tuning(int query_rows) const {
        return tunings_[row_tiles(problem_.format.head_dim, query_rows) - 1];
    }
    void prepare_rows(int query_rows) {
        const Format &f = problem_.format;
        const AttendTuning tuning = tune_attend(f, query_rows, recent_items_ > 0, limits_);
        if (tuning.blocks_per_processor == 0) {
            fail(TARPON_ERROR_UNSUPPORTED,
                 "attention of head_dim %d with %d and %d bits does not fit this GPU's %d bytes of "
                 "shared memory a block",
                 f.head_dim, f.k_bits, f.v_bits, limits_.shared_per_block);
        }
        check_cuda(prepare_attend(f, query_rows, tuning),
                   "cudaFuncSetAttribute of an attention kernel");
        tunings_[row_tiles(f.head_dim, query_rows) - 1] = tuning;
    }

    void fill_plan(const KvTables &tables) {
        const Format &f = problem_.format;
        plan_.format = f;
        plan_.layout = block_layout(f);
        plan_.element = problem_.dtype == TARPON_F32   ? Element::kF32
                        : problem_.dtype == TARPON_F16 ? Element::kF16
                                                       : Element::kBF16;
        plan_.rope = {memory_.add(tables.low), memory_.add(tables.high), tables.view.pairs,
                      tables.view.layout};
        plan_.mean = memory_.add(problem_.k_mean);
        plan_.q_norm = memory_.add(problem_.q_norm);
        plan_.k_norm = memory_.add(problem_.k_norm);
        plan_.norm_eps = problem_.norm_eps;
        plan_.rotation_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(f.head_dim)));
        const int base = hadamard::decompose(f.head_dim).base;
        for (int i = 0; i < base && base > 1; ++i)
            plan_.base_rows[i] = hadamard::base_rows(base)[i];
        if (problem_.rotatekv()) {
            plan_.rotation_heads = block_heads_ = rotatekv_group_heads(f.kv_heads);
            plan_.key_rotation_scale =
                static_cast<float>(1 / std::sqrt(static_cast<double>(block_heads_ * f.head_dim)));
            plan_.order = memory_.add(problem_.k_order);
            plan_.places = memory_.add(key_places(f, problem_.k_order));
        }
        plan_.sink_tokens = problem_.sink_tokens;
        plan_.window_tokens = problem_.window_tokens;
        plan_.ring_tokens = kv_ring_tokens(problem_);
    }

    void fill_attend(const RopeTables &host_rope) {
        const MeanPairs mean(problem_.mean(0), problem_.format, host_rope);
        recent_items_ = recent_items(problem_.sink_tokens, problem_.window_tokens);
        attend_.plan = plan_;
        attend_.mean_pairs = memory_.add(mean.pairs);
        attend_.pair_means = memory_.add(mean.means);
        attend_.mean_pair_counts = memory_.add(mean.counts);
        attend_.pair_stride = mean.stride;
        attend_.turns = memory_.add(turn_fragments(host_rope));
        attend_.group = group();
        attend_.q_heads = problem_.q_heads;
        attend_.recent_items = recent_items_;
        const AttentionRule &rule = problem_.attention;
        constexpr double kLog2E = 1.4426950408889634;
        attend_.q_scale = static_cast<float>(rule.scale * (rule.softcap > 0 ? 1 : kLog2E));
        attend_.softcap = static_cast<float>(rule.softcap);
        attend_.cap_scale = static_cast<float>(rule.softcap * kLog2E);
        attend_.sliding_window = rule.sliding_window;
    }

    template <class Launch>
    tarpon_status run(Launch launch, const char *what) const noexcept {
        try {
            DeviceGuard guard(ordinal_);
            return cuda_status(launch(), what);
        } catch (const Error &error) {
            return set_error(error.status(), "%s", error.what());
        }
    }

    const KvProblem problem_;
    DeviceArrays memory_;
    int ordinal_ = 0, recent_items_ = 0;
    DeviceLimits limits_{};
    AttendTuning tunings_[2] = {};  // for one and for two tiles of query rows
    int block_heads_ = 1;           // kv heads that a block of attention takes
    PlanParams plan_{};
    AttendParams attend_{};
};

}  // namespace

std::unique_ptr<KvPlan> create_kv_plan(Device &device, const KvProblem &problem) {
    return std::make_unique<Sm80Kv>(device, problem);
}

}  // namespace tarpon::gpu
