// One layer in ggml's CPU backend, through its public API: what cpu_linear_vs_ggml compares with.
// Weights lie where ggml itself would put them: in the first of the backend's own buffer types that
// takes the product (which repacks them), else as blocks. Graphs are made before they are timed.
#pragma once

#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tarpon::bench {

struct GgmlFree {
    void operator()(ggml_context *context) const { ggml_free(context); }
    void operator()(ggml_backend_buffer *buffer) const { ggml_backend_buffer_free(buffer); }
    void operator()(ggml_backend *backend) const { ggml_backend_free(backend); }
};
template <class T>
using GgmlOwned = std::unique_ptr<T, GgmlFree>;

// Rows of float weights [n, k] as ggml's own quantiser writes them.
std::vector<uint8_t> ggml_blocks(ggml_type type, const std::vector<float> &weights, int64_t n,
                                 int64_t k);

// The weights that blocks stand for, by ggml's own to_float.
std::vector<float> ggml_values(ggml_type type, const std::vector<uint8_t> &blocks, int64_t count);

class GgmlLinear {
  public:
    // `copies` of the weights [n, k], to be used in turn.
    GgmlLinear(ggml_type type, const std::vector<uint8_t> &blocks, int64_t n, int64_t k,
               size_t copies, int threads);

    // Prepares runs of m rows of x, F32 [m, k].
    void prepare(const std::vector<float> &x, int64_t m);
    // y [m, n] with the next copy of the weights.
    void run();
    // Of the last run.
    std::vector<float> y() const;

    // Where ggml keeps the weights: CPU_REPACK, AMX, or CPU for blocks as they are.
    std::string placement() const;

  private:
    ggml_backend_buffer_type_t choose_placement() const;

    const ggml_type type_;
    const int64_t n_, k_;
    GgmlOwned<ggml_backend> backend_;
    GgmlOwned<ggml_context> weights_context_;
    GgmlOwned<ggml_backend_buffer> weights_buffer_;
    std::vector<ggml_tensor *> weights_;
    GgmlOwned<ggml_context> run_context_;
    GgmlOwned<ggml_backend_buffer> run_buffer_;
    std::vector<ggml_cgraph *> graphs_;  // one for each copy
    ggml_tensor *y_ = nullptr;
    size_t next_ = 0;
};

}  // namespace tarpon::bench
