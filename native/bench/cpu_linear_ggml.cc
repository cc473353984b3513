#include "cpu_linear_ggml.h"

#include <ggml-alloc.h>

#include <stdexcept>

namespace tarpon::bench {
namespace {

constexpr size_t kGraphSize = 4;  // a product and its two sources

template <class T>
T *required(T *pointer, const char *what) {
    if (!pointer) throw std::runtime_error(std::string("ggml refused ") + what);
    return pointer;
}

GgmlOwned<ggml_context> make_context(size_t tensors, size_t graphs) {
    const size_t bytes =
        tensors * ggml_tensor_overhead() + graphs * ggml_graph_overhead_custom(kGraphSize, false);
    return GgmlOwned<ggml_context>(required(ggml_init({bytes, nullptr, true}), "a context"));
}

}  // namespace

std::vector<uint8_t> ggml_blocks(ggml_type type, const std::vector<float> &weights, int64_t n,
                                 int64_t k) {
    std::vector<uint8_t> blocks(ggml_row_size(type, k) * static_cast<size_t>(n));
    ggml_quantize_chunk(type, weights.data(), blocks.data(), 0, n, k, nullptr);
    return blocks;
}

std::vector<float> ggml_values(ggml_type type, const std::vector<uint8_t> &blocks, int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    ggml_get_type_traits(type)->to_float(blocks.data(), values.data(), count);
    return values;
}

GgmlLinear::GgmlLinear(ggml_type type, const std::vector<uint8_t> &blocks, int64_t n, int64_t k,
                       size_t copies, int threads)
    : type_(type),
      n_(n),
      k_(k),
      backend_(required(ggml_backend_cpu_init(), "its CPU backend")),
      weights_context_(make_context(copies, 0)) {
    ggml_backend_cpu_set_n_threads(backend_.get(), threads);
    for (size_t i = 0; i < copies; ++i)
        weights_.push_back(ggml_new_tensor_2d(weights_context_.get(), type, k, n));
    weights_buffer_.reset(required(
        ggml_backend_alloc_ctx_tensors_from_buft(weights_context_.get(), choose_placement()),
        "memory for weights"));
    for (ggml_tensor *weight : weights_)
        ggml_backend_tensor_set(weight, blocks.data(), 0, blocks.size());
}

// The way of llama.cpp: a buffer type qualifies if the device supports the product with it.
ggml_backend_buffer_type_t GgmlLinear::choose_placement() const {
    ggml_backend_dev_t device = ggml_backend_get_device(backend_.get());
    const auto extra_types =
        reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(ggml_backend_reg_get_proc_address(
            ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts"));
    ggml_backend_buffer_type_t *type = extra_types ? extra_types(device) : nullptr;
    for (; type && *type; ++type) {
        const auto context = make_context(3, 0);
        ggml_tensor *weight = ggml_new_tensor_2d(context.get(), type_, k_, n_);
        ggml_tensor *x = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, k_, 512);
        const GgmlOwned<ggml_backend_buffer> buffer(ggml_backend_buft_alloc_buffer(*type, 0));
        weight->buffer = buffer.get();
        if (ggml_backend_dev_supports_op(device, ggml_mul_mat(context.get(), weight, x)))
            return *type;
    }
    return ggml_backend_get_default_buffer_type(backend_.get());
}

void GgmlLinear::prepare(const std::vector<float> &x, int64_t m) {
    graphs_.clear();
    run_buffer_.reset();
    run_context_ = make_context(1 + weights_.size(), weights_.size());
    ggml_context *context = run_context_.get();
    ggml_tensor *input = ggml_new_tensor_2d(context, GGML_TYPE_F32, k_, m);
    std::vector<ggml_tensor *> products;
    for (ggml_tensor *weight : weights_)
        products.push_back(ggml_mul_mat(context, weight, input));
    y_ = products[0];
    const size_t alignment = ggml_backend_get_alignment(backend_.get());
    const auto padded = [&](size_t bytes) {
        return (bytes + alignment - 1) / alignment * alignment;
    };
    run_buffer_.reset(required(
        ggml_backend_alloc_buffer(backend_.get(),
                                  padded(ggml_nbytes(input)) + padded(ggml_nbytes(y_)) + alignment),
        "memory for activations"));
    // All products share one y.
    auto *base = static_cast<char *>(ggml_backend_buffer_get_base(run_buffer_.get()));
    ggml_backend_tensor_alloc(run_buffer_.get(), input, base);
    for (ggml_tensor *product : products) {
        ggml_backend_tensor_alloc(run_buffer_.get(), product, base + padded(ggml_nbytes(input)));
        ggml_cgraph *graph = ggml_new_graph_custom(context, kGraphSize, false);
        ggml_build_forward_expand(graph, product);
        graphs_.push_back(graph);
    }
    ggml_backend_tensor_set(input, x.data(), 0, ggml_nbytes(input));
}

void GgmlLinear::run() {
    if (ggml_backend_graph_compute(backend_.get(), graphs_[next_]) != GGML_STATUS_SUCCESS)
        throw std::runtime_error("ggml could not compute the product");
    next_ = next_ + 1 == graphs_.size() ? 0 : next_ + 1;
}

std::vector<float> GgmlLinear::y() const {
    std::vector<float> values(static_cast<size_t>(ggml_nelements(y_)));
    ggml_backend_tensor_get(y_, values.data(), 0, ggml_nbytes(y_));
    return values;
}

std::string GgmlLinear::placement() const {
    return ggml_backend_buft_name(ggml_backend_buffer_get_type(weights_buffer_.get()));
}

}  // namespace tarpon::bench
