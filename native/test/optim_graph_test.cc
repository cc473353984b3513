// Steps of the GPU backend's plan in CUDA graphs, on the simulator, which refuses during a capture
// what a GPU refuses: allocations, waits, copies from the host. The backend is linked in, so that
// the test and the plan share one runtime. Run alone: optim_graph_test.
#include <cuda_runtime.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "build_id.h"
#include "optim.h"
#include "sim/control.h"
#include "testing/test.h"

extern "C" tarpon::Backend *tarpon_sim_plugin(const char *build_id,
                                              tarpon::ErrorStorage error_storage);

namespace {

using namespace tarpon;

#define REQUIRE_CUDA(call)                                                           \
    do {                                                                             \
        const cudaError_t error_ = (call);                                           \
        REQUIRE(error_ == cudaSuccess, "%s: %s", #call, cudaGetErrorString(error_)); \
    } while (0)

Device &device() {
    static const std::unique_ptr<Device> opened =
        tarpon_sim_plugin(kBuildId, own_error_storage)->open(0, {});
    return *opened;
}

template <class T>
class Array {
  public:
    explicit Array(const std::vector<T> &values)
        : n_(values.size()), data_(static_cast<T *>(device().allocate(n_ * sizeof(T)))) {
        write(values);
    }
    Array(const Array &) = delete;
    Array &operator=(const Array &) = delete;
    ~Array() { device().free(data_); }

    T *data() const { return data_; }
    void write(const std::vector<T> &values) const {
        device().copy_to_device(data_, values.data(), n_ * sizeof(T), nullptr);
    }
    std::vector<T> read() const {
        std::vector<T> values(n_);
        device().copy_to_host(values.data(), data_, n_ * sizeof(T), nullptr);
        return values;
    }

  private:
    size_t n_;
    T *data_;
};

float pattern(int64_t i, uint32_t seed) {
    const uint32_t hash = (uint32_t(i) + 1) * 2654435761u ^ seed * 0x9e3779b9u;
    return (float(hash >> 8) / float(1 << 24) - 0.5f) * (1 + float(hash & 7));
}

std::vector<float> patterns(int64_t n, uint32_t seed) {
    std::vector<float> values;
    for (int64_t i = 0; i < n; ++i)
        values.push_back(pattern(i, seed));
    return values;
}

// A parameter of n fp32 elements, its gradient and zeroed states.
struct Tensor {
    tarpon_optim_tensor entry{};
    std::vector<std::unique_ptr<Array<float>>> floats;
    std::vector<std::unique_ptr<Array<uint8_t>>> bytes;

    Tensor(tarpon_optim_rule rule, tarpon_state_format format, int64_t n, uint32_t seed) {
        entry.struct_size = sizeof entry;
        entry.flags = TARPON_TENSOR_MOMENTUM * int(seed % 2);
        entry.param_dtype = entry.grad_dtype = TARPON_F32;
        entry.state_format = format;
        entry.n = n;
        entry.columns = n % 3 == 0 ? n / 3 : n;
        entry.lr_factor = entry.decay_factor = 1;
        entry.param = add(patterns(n, seed));
        entry.grad = add(patterns(n, seed + 1));
        for (int slot = 0; slot < 3; ++slot) {
            size_t state = 0, absmax = 0;
            optim_state_bytes(rule, format, entry.flags, n, slot, &state, &absmax);
            if (state > 0) {
                bytes.push_back(
                    std::make_unique<Array<uint8_t>>(std::vector<uint8_t>(state, uint8_t{0})));
                entry.state[slot] = bytes.back()->data();
            }
            if (absmax > 0) {
                entry.absmax[slot] = add(std::vector<float>(absmax / sizeof(float), 0.0f));
            }
        }
    }

    float *add(const std::vector<float> &values) {
        floats.push_back(std::make_unique<Array<float>>(values));
        return floats.back()->data();
    }
    void set_grad(const std::vector<float> &g) const { floats[1]->write(g); }
    float first_param() const { return floats[0]->read()[0]; }

    // Everything but the gradient.
    bool equals(const Tensor &other) const {
        for (size_t i = 0; i < floats.size(); ++i) {
            if (i == 1) continue;
            const std::vector<float> a = floats[i]->read(), b = other.floats[i]->read();
            if (std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) != 0) return false;
        }
        for (size_t i = 0; i < bytes.size(); ++i) {
            if (bytes[i]->read() != other.bytes[i]->read()) return false;
        }
        return true;
    }
};

struct Model {
    std::vector<Tensor> tensors;
    std::unique_ptr<OptimPlan> plan;
    optim::Rule rule;

    // Tensors of all sizes, every third with fp32 states.
    Model(tarpon_optim_rule id, int count, int64_t largest) {
        for (int i = 0; i < count; ++i) {
            const tarpon_state_format format = i % 3 ? TARPON_STATE_DYNAMIC8 : TARPON_STATE_F32;
            tensors.emplace_back(id, format, 1 + (i * 379) % largest, uint32_t(i));
        }
        if (count > 0) make_plan(id);
    }

    // One tensor.
    static Model single(tarpon_optim_rule id, tarpon_state_format format, int64_t n) {
        Model model(id, 0, 1);
        model.tensors.emplace_back(id, format, n, 1);
        model.make_plan(id);
        return model;
    }

    void make_plan(tarpon_optim_rule id) {
        std::vector<tarpon_optim_tensor> entries;
        for (const Tensor &tensor : tensors)
            entries.push_back(tensor.entry);
        tarpon_optim_desc desc{};
        desc.struct_size = sizeof desc;
        desc.rule = id;
        desc.tensor_count = int64_t(entries.size());
        desc.tensors = entries.data();
        const char *variant = nullptr;
        plan = create_optim(device(), desc, &variant, &rule);
    }

    void set_grads(uint32_t seed) {
        for (size_t t = 0; t < tensors.size(); ++t)
            tensors[t].set_grad(patterns(tensors[t].entry.n, seed + uint32_t(t)));
    }

    void step(const tarpon_optim_step_args &args) const {
        REQUIRE(plan->step(checked_scalars(rule, args), nullptr) == TARPON_OK, "%s",
                own_error_storage());
    }
};

// A step in a graph.
class Graph {
  public:
    Graph(Model &model, const tarpon_optim_step_args &args) : stream_(device().create_stream()) {
        const auto raw = static_cast<cudaStream_t>(stream_->native_handle());
        REQUIRE_CUDA(cudaStreamBeginCapture(raw, cudaStreamCaptureModeGlobal));
        const tarpon_status status =
            model.plan->step(checked_scalars(model.rule, args), stream_.get());
        cudaGraph_t graph = nullptr;
        REQUIRE_CUDA(cudaStreamEndCapture(raw, &graph));
        REQUIRE(status == TARPON_OK, "%s", own_error_storage());
        REQUIRE_CUDA(cudaGraphGetNodes(graph, nullptr, &nodes_));
        REQUIRE_CUDA(cudaGraphInstantiate(&executable_, graph));
        REQUIRE_CUDA(cudaGraphDestroy(graph));
    }
    Graph(const Graph &) = delete;
    Graph &operator=(const Graph &) = delete;
    ~Graph() { cudaGraphExecDestroy(executable_); }

    size_t nodes() const { return nodes_; }
    void replay() {
        const auto raw = static_cast<cudaStream_t>(stream_->native_handle());
        REQUIRE_CUDA(cudaGraphLaunch(executable_, raw));
        REQUIRE_CUDA(cudaStreamSynchronize(raw));
    }

  private:
    std::unique_ptr<Stream> stream_;
    cudaGraphExec_t executable_ = nullptr;
    size_t nodes_ = 0;
};

struct RuleName {
    tarpon_optim_rule rule;
    const char *name;
    bool measures_first;  // reads what it updates for a norm before
};

constexpr RuleName kRules[] = {
    {TARPON_OPTIM_ADAM, "ADAM", false},         {TARPON_OPTIM_ADAMW, "ADAMW", false},
    {TARPON_OPTIM_SGD, "SGD", false},           {TARPON_OPTIM_RMSPROP, "RMSPROP", false},
    {TARPON_OPTIM_ADAGRAD, "ADAGRAD", false},   {TARPON_OPTIM_LION, "LION", false},
    {TARPON_OPTIM_ADEMAMIX, "ADEMAMIX", false}, {TARPON_OPTIM_LAMB, "LAMB", true},
    {TARPON_OPTIM_LARS, "LARS", false},         {TARPON_OPTIM_ADABELIEF, "ADABELIEF", false},
    {TARPON_OPTIM_SOPHIAG, "SOPHIAG", false},   {TARPON_OPTIM_SCALE, "SCALE", true}};

constexpr size_t kMostLaunches = 2;

// Two replays, with the learning rate, the multiplier and the gradients changed in between, are two
// steps with those numbers; what earlier steps left in the plan's memory does not matter.
TARPON_TEST(test_optim_graph_replays_with_new_scalars) {
    for (const RuleName &rule : kRules) {
        Model direct(rule.rule, 5, 800), replayed(rule.rule, 5, 800);
        const Array<float> scalars({0, 0});
        tarpon_optim_step_args args = default_step_args(rule.rule);
        args.max_grad_norm = 1;
        args.flags = TARPON_STEP_SKIP_NONFINITE;
        tarpon_optim_step_args from_memory = args;
        from_memory.device_lr = scalars.data();
        from_memory.device_grad_multiplier = scalars.data() + 1;
        Graph graph(replayed, from_memory);

        // A step that is skipped leaves sums that are not finite, and one that is taken others.
        for (Model *model : {&direct, &replayed}) {
            std::vector<float> bad = patterns(model->tensors[1].entry.n, 7);
            bad[0] = std::numeric_limits<float>::quiet_NaN();
            model->tensors[1].set_grad(bad);
            model->step(args);
            model->set_grads(50);
            model->step(args);
        }
        const float values[2][2] = {{0.03125f, 0.25f}, {0.0078125f, 0.5f}};
        for (int i = 0; i < 2; ++i) {
            scalars.write({values[i][0], values[i][1]});
            args.lr = values[i][0];
            args.grad_multiplier = values[i][1];
            direct.set_grads(100 + uint32_t(i));
            replayed.set_grads(100 + uint32_t(i));
            direct.step(args);
            graph.replay();
            for (size_t t = 0; t < direct.tensors.size(); ++t) {
                CHECK(direct.tensors[t].equals(replayed.tensors[t]), "%s replay %d tensor %zu",
                      rule.name, i, t);
            }
        }
        const optim::Control a = direct.plan->read_control(nullptr);
        const optim::Control b = replayed.plan->read_control(nullptr);
        CHECK_EQ(b.step, 3, "%s", rule.name);
        CHECK_EQ(b.skipped_steps, 1, "%s", rule.name);
        CHECK(std::bit_cast<uint64_t>(a.grad_norm) == std::bit_cast<uint64_t>(b.grad_norm),
              "%s: norms %.17g and %.17g", rule.name, a.grad_norm, b.grad_norm);
    }
}

// A step reads the gradient once and reads and writes parameter and states once: the bytes of
// kernels-cu/optim/README.md. An absmax is read by all lanes of a warp at once, which is one access.
TARPON_TEST(test_optim_step_moves_each_byte_once) {
    constexpr int64_t kElems = 8192;
    for (const RuleName &rule : kRules) {
        if (rule.measures_first) continue;
        for (const tarpon_state_format format : {TARPON_STATE_F32, TARPON_STATE_DYNAMIC8}) {
            const Model model = Model::single(rule.rule, format, kElems);
            tarpon_optim_step_args args = default_step_args(rule.rule);
            // LARS reads p and g once more for its trust ratio.
            const uint64_t passes = rule.rule == TARPON_OPTIM_LARS ? 2 : 1;
            model.step(args);
            const tarpon_optim_tensor &t = model.tensors[0].entry;
            const sim::Traffic param = sim::traffic(t.param), grad = sim::traffic(t.grad);
            CHECK_EQ(param.bytes_read, passes * 4 * uint64_t{kElems}, "%s p", rule.name);
            CHECK_EQ(param.bytes_written, 4 * uint64_t{kElems}, "%s p", rule.name);
            CHECK_EQ(grad.bytes_read, passes * 4 * uint64_t{kElems}, "%s g", rule.name);
            CHECK_EQ(grad.bytes_written, uint64_t{0}, "%s g", rule.name);
            const uint64_t state_bytes = kElems * (format == TARPON_STATE_F32 ? 4 : 1);
            for (int slot = 0; slot < 3; ++slot) {
                if (!t.state[slot]) continue;
                const sim::Traffic state = sim::traffic(t.state[slot]);
                // A step of Sophia-G reads h; the refresh writes it.
                const bool written = rule.rule != TARPON_OPTIM_SOPHIAG || slot == 0;
                CHECK_EQ(state.bytes_read, state_bytes, "%s slot %d", rule.name, slot);
                CHECK_EQ(state.bytes_written, written ? state_bytes : 0, "%s slot %d", rule.name,
                         slot);
                if (!t.absmax[slot]) continue;
                const sim::Traffic absmax = sim::traffic(t.absmax[slot]);
                const uint64_t scales = kElems / optim::kBlockElems * 4;
                CHECK(absmax.bytes_read == scales || absmax.bytes_read == 32 * scales,
                      "%s slot %d: %zu bytes of absmax", rule.name, slot,
                      size_t(absmax.bytes_read));
                CHECK_EQ(absmax.bytes_written, written ? scales : 0, "%s slot %d", rule.name, slot);
            }
        }
    }
}

// A list of 300 tensors in two launches, whatever the rule, with and without norms to measure; and
// every tensor is stepped.
TARPON_TEST(test_optim_list_takes_two_launches) {
    for (const RuleName &rule : kRules) {
        for (const bool measured : {false, true}) {
            Model model(rule.rule, 300, 400);
            tarpon_optim_step_args args = default_step_args(rule.rule);
            args.lr = 0.5;
            args.max_grad_norm = measured ? 1 : 0;
            args.flags = measured ? TARPON_STEP_SKIP_NONFINITE : 0;
            Graph graph(model, args);
            CHECK(graph.nodes() <= kMostLaunches, "%s: %zu launches, not %zu", rule.name,
                  graph.nodes(), kMostLaunches);
            if (rule.rule != TARPON_OPTIM_ADAMW && !rule.measures_first) continue;
            graph.replay();
            for (size_t t = 0; t < model.tensors.size(); ++t) {
                const float moved = model.tensors[t].first_param();
                CHECK(moved != pattern(0, uint32_t(t)), "tensor %zu stays at %g", t, moved);
            }
        }
    }
}

// A list that is too long to be numbered is refused before anything is allocated for it.
TARPON_TEST(test_optim_graph_refuses_endless_lists) {
    alignas(16) float memory[4] = {};
    tarpon_optim_tensor tensor{};
    tensor.struct_size = sizeof tensor;
    tensor.param_dtype = tensor.grad_dtype = TARPON_F32;
    tensor.n = tensor.columns = int64_t{1} << 40;
    tensor.lr_factor = tensor.decay_factor = 1;
    tensor.param = tensor.state[0] = memory;
    tensor.grad = memory;
    const std::vector<tarpon_optim_tensor> list(64, tensor);
    for (const tarpon_optim_rule rule : {TARPON_OPTIM_SGD, TARPON_OPTIM_SCALE}) {
        tarpon_optim_desc desc{sizeof desc, rule, rule == TARPON_OPTIM_SGD ? 64 : 1, list.data(),
                               nullptr};
        const char *variant = nullptr;
        optim::Rule chosen{};
        try {
            create_optim(device(), desc, &variant, &chosen);
            CHECK(false, "rule %d: %lld elements were taken", rule, 1ll << 46);
        } catch (const Error &error) {
            CHECK_EQ(error.status(), TARPON_ERROR_UNSUPPORTED, "%s", error.what());
            CHECK(std::strstr(error.what(), "pieces of work"), "%s", error.what());
        }
    }
}

}  // namespace
