// The optimizers' plans on GPUs. Compiled twice, as backend.cc is: with cudart and with the
// simulated runtime. A plan lays out one piece of device memory when it is created; a step only
// launches kernels (kernels-cu/optim/launch.cu).
#include "cuda/optim_plan.h"

#include <cuda_runtime.h>

#include <cstring>

#include "cuda/cuda_check.h"
#include "cuda/device_guard.h"
#include "optim/launch.h"

namespace tarpon::gpu {
namespace {

using namespace tarpon::optim;

// Where the parts of a plan's memory begin, each aligned for any of them.
class Layout {
  public:
    size_t add(size_t bytes) {
        const size_t at = size_;
        size_ = (size_ + bytes + kAlignment - 1) / kAlignment * kAlignment;
        return at;
    }
    size_t size() const { return size_; }

  private:
    static constexpr size_t kAlignment = 256;
    size_t size_ = 0;
};

cudaStream_t raw(const Stream *stream) {
    return stream ? static_cast<cudaStream_t>(stream->native_handle()) : nullptr;
}

class GpuOptim final : public OptimPlan {
  public:
    GpuOptim(Device &device, const OptimProblem &problem);
    ~GpuOptim() override { device_.free(memory_); }
    GpuOptim(const GpuOptim &) = delete;
    GpuOptim &operator=(const GpuOptim &) = delete;

    tarpon_status step(const StepScalars &scalars, const Stream *stream) noexcept override;
    tarpon_status refresh_hessian(const StepScalars &scalars,
                                  const Stream *stream) noexcept override;
    Control read_control(Stream *stream) const override;
    void write_control(const Control &control, Stream *stream) override;
    uint64_t workspace_bytes() const override { return memory_bytes_; }

  private:
    template <class T>
    T *at(size_t offset) const {
        return reinterpret_cast<T *>(static_cast<char *>(memory_) + offset);
    }
    StepParams params(const StepScalars &scalars) const noexcept;
    template <class Run>
    tarpon_status launch(Run run) noexcept;

    Device &device_;
    int ordinal_ = 0;
    Rule rule_;
    int multiprocessors_ = 0;
    PlanMemory plan_{};
    void *memory_ = nullptr;
    size_t memory_bytes_ = 0;
};

GpuOptim::GpuOptim(Device &device, const OptimProblem &problem)
    : device_(device), rule_(problem.rule) {
    tarpon_device_info info{};
    device.info(info);
    ordinal_ = info.ordinal;
    multiprocessors_ = info.processor_count;

    std::vector<TensorEntry> tensors = problem.tensors;
    const int64_t work = work_count(rule_, tensors);
    if (work > kMaxWork) {
        fail(TARPON_ERROR_UNSUPPORTED,
             "the tensors make %lld pieces of work of %d elements; a GPU takes up to %lld",
             static_cast<long long>(work), kChunkBlocks * kBlockElems,
             static_cast<long long>(kMaxWork));
    }
    const WorkList list = make_work_list(rule_, tensors);
    int64_t norms_elems = 0;
    for (const TensorEntry &t : tensors)
        norms_elems += rule_ == Rule::kScale ? t.columns + kBlockElems : 0;

    Layout layout;
    const size_t tensors_at = layout.add(tensors.size() * sizeof(TensorEntry));
    const size_t chunks_at = layout.add(list.chunks.size() * sizeof(Chunk));
    const size_t measures_at = layout.add(list.measures.size() * sizeof(Chunk));
    const size_t first_at = layout.add(list.first_chunk.size() * sizeof(int64_t));
    const size_t maps_at = layout.add(kStateMaps * sizeof(CodeMap));
    const size_t coefficients_at = layout.add(tensors.size() * sizeof(Coefficients));
    const size_t weights_at = layout.add(tensors.size() * sizeof(double));
    const size_t grads_at = layout.add(tensors.size() * sizeof(double));
    const size_t sums_at = layout.add(list.chunks.size() * sizeof(ChunkSums));
    const size_t progress_at = layout.add(tensors.size() * sizeof(int32_t));
    const size_t state_at = layout.add(sizeof(StepState));
    const size_t control_at = layout.add(sizeof(Control));
    const size_t norms_at = layout.add(static_cast<size_t>(norms_elems) * sizeof(float));
    memory_bytes_ = layout.size();

    // Zeros are the initial state of everything that is not a table.
    std::vector<char> contents(memory_bytes_);
    memory_ = device_.allocate(memory_bytes_);
    auto *norms = at<float>(norms_at);
    for (TensorEntry &t : tensors) {
        if (rule_ != Rule::kScale) continue;
        t.inverse_norms = norms;
        norms += t.columns + kBlockElems;
    }
    auto put = [&](size_t offset, const auto &values) {
        if (values.empty()) return;
        std::memcpy(contents.data() + offset, values.data(), values.size() * sizeof(values[0]));
    };
    put(tensors_at, tensors);
    put(chunks_at, list.chunks);
    put(measures_at, list.measures);
    put(first_at, list.first_chunk);
    for (int i = 0; i < kStateMaps; ++i) {
        std::memcpy(contents.data() + maps_at + static_cast<size_t>(i) * sizeof(CodeMap),
                    &code_map(kStateMapKinds[i]), sizeof(CodeMap));
    }
    plan_ = {at<TensorEntry>(tensors_at),
             at<Chunk>(chunks_at),
             at<Chunk>(measures_at),
             at<int64_t>(first_at),
             at<CodeMap>(maps_at),
             at<Coefficients>(coefficients_at),
             at<double>(weights_at),
             at<double>(grads_at),
             at<ChunkSums>(sums_at),
             at<int32_t>(progress_at),
             at<StepState>(state_at),
             at<Control>(control_at),
             static_cast<int64_t>(list.chunks.size()),
             static_cast<int64_t>(list.measures.size()),
             static_cast<int64_t>(tensors.size())};
    try {
        device_.copy_to_device(memory_, contents.data(), memory_bytes_, nullptr);
    } catch (...) {
        device_.free(memory_);
        throw;
    }
}

StepParams GpuOptim::params(const StepScalars &scalars) const noexcept {
    StepParams p{};
    p.memory = plan_;
    p.scalars = scalars;
    p.rule = rule_;
    p.measure_weights = rule_ == Rule::kLars;
    p.measure_grads = scalars.skip_nonfinite || scalars.max_grad_norm > 0 || p.measure_weights;
    return p;
}

template <class Run>
tarpon_status GpuOptim::launch(Run run) noexcept {
    try {
        DeviceGuard guard(ordinal_);
        return cuda_status(run(), "launch of the optimizer's kernels");
    } catch (const Error &error) {
        return set_error(error.status(), "%s", error.what());
    }
}

tarpon_status GpuOptim::step(const StepScalars &scalars, const Stream *stream) noexcept {
    return launch([&] { return run_step(params(scalars), multiprocessors_, raw(stream)); });
}

tarpon_status GpuOptim::refresh_hessian(const StepScalars &scalars, const Stream *stream) noexcept {
    StepParams p = params(scalars);
    p.hessian = 1;
    p.measure_grads = p.measure_weights = 0;
    return launch([&] { return run_refresh(p, multiprocessors_, raw(stream)); });
}

Control GpuOptim::read_control(Stream *stream) const {
    Control control;
    StepState state;
    device_.copy_to_host(&control, plan_.control, sizeof control, stream);
    device_.copy_to_host(&state, plan_.state, sizeof state, stream);
    control.skipped_blocks += state.skipped_blocks;  // the last step's are not moved over yet
    return control;
}

void GpuOptim::write_control(const Control &control, Stream *stream) {
    const StepState state{};
    device_.copy_to_device(plan_.state, &state, sizeof state, stream);
    device_.copy_to_device(plan_.control, &control, sizeof control, stream);
}

}  // namespace

const std::vector<OptimVariant> &optim_variants() {
    static const std::vector<OptimVariant> variants = {
        {"sm80_warp", "compute capability 8.0; all rules, formats and dtypes",
         [](const Device &, const OptimProblem &) { return true; },
         [](Device &device, const OptimProblem &problem) -> std::unique_ptr<OptimPlan> {
             return std::make_unique<GpuOptim>(device, problem);
         }}};
    return variants;
}

DeviceMaps::DeviceMaps(Device &device)
    : device_(device), address_(device.allocate(kMapKinds * sizeof(CodeMap))) {
    std::vector<CodeMap> maps;
    for (int kind = 0; kind < kMapKinds; ++kind)
        maps.push_back(code_map(static_cast<MapKind>(kind)));
    try {
        device_.copy_to_device(address_, maps.data(), maps.size() * sizeof(CodeMap), nullptr);
    } catch (...) {
        device_.free(address_);
        throw;
    }
}

DeviceMaps::~DeviceMaps() {
    device_.free(address_);
}

tarpon_status run_blockwise(const BlockwiseArgs &args, const DeviceMaps &maps, int multiprocessors,
                            bool quantize) noexcept {
    const int64_t blocks = (args.elems + args.block_elems - 1) / args.block_elems;
    const BlockwiseParams params{maps.map(args.map), args.values,      args.codes, args.absmax,
                                 args.elems,         args.block_elems, blocks,     args.dtype};
    const cudaError_t status = quantize ? run_quantize(params, multiprocessors, raw(args.stream))
                                        : run_dequantize(params, multiprocessors, raw(args.stream));
    return cuda_status(status, "launch of the block-wise kernel");
}

}  // namespace tarpon::gpu
