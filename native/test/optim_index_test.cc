// The optimizers' kernels on tensors of more than 2^31, 2^32 and 2^39 elements, on the simulator,
// without memory for them: only the end of each array exists, and the kernels are given the address
// where it would begin and the work at its end. An index of 32 bits anywhere leads to an address
// that is in no allocation, which the simulator reports. Run alone: optim_index_test.
#include <bit>
#include <cstring>
#include <memory>
#include <random>

#include "optim/blockwise.cuh"
#include "optim/launch.cu"  // the kernels, one by one
#include "testing/test.h"

namespace tarpon::optim {
namespace {

constexpr int kMultiprocessors = 2;
constexpr int64_t kSizes[] = {(int64_t{1} << 31) + 1000, (int64_t{1} << 32) + 1000,
                              (int64_t{1} << 39) + 20001};

#define REQUIRE_CUDA(call)                                                           \
    do {                                                                             \
        const cudaError_t error_ = (call);                                           \
        REQUIRE(error_ == cudaSuccess, "%s: %s", #call, cudaGetErrorString(error_)); \
    } while (0)

// The elements [first, first + count) of an array on the device.
template <class T>
class Tail {
  public:
    Tail(int64_t first, const std::vector<T> &values) : first_(first), count_(values.size()) {
        REQUIRE_CUDA(cudaMalloc(reinterpret_cast<void **>(&data_), count_ * sizeof(T)));
        write(values);
    }
    Tail(int64_t first, int64_t count) : Tail(first, std::vector<T>(size_t(count))) {}
    Tail(const Tail &) = delete;
    Tail &operator=(const Tail &) = delete;
    ~Tail() { cudaFree(data_); }

    // Where the array would begin.
    T *array() const {
        return reinterpret_cast<T *>(uintptr_t(data_) - uintptr_t(first_) * sizeof(T));
    }
    void write(const std::vector<T> &values) {
        REQUIRE_CUDA(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice));
    }
    std::vector<T> read() const {
        std::vector<T> values(count_);
        REQUIRE_CUDA(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost));
        return values;
    }

  private:
    int64_t first_;
    size_t count_;
    T *data_ = nullptr;
};

std::vector<float> normal_floats(int64_t n, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(n));
    for (float &value : values)
        value = normal(random);
    return values;
}

// ---- Block-wise

TARPON_KERNEL void quantize_one_kernel(BlockwiseParams p, int64_t block) {
    const CodeMap &map = load_map(p, shared_storage<BlockwiseStorage>());
    if (ptx::warp_id() == 0) quantize_block(p, map, block);
}

TARPON_KERNEL void dequantize_one_kernel(BlockwiseParams p, int64_t block) {
    const CodeMap &map = load_map(p, shared_storage<BlockwiseStorage>());
    if (ptx::warp_id() == 0) dequantize_block(p, map, block);
}

TARPON_TEST(test_optim_index_blockwise) {
    for (const int64_t n : kSizes) {
        for (const int64_t block_elems : {64, 256, 4096}) {
            for (const MapKind kind : {MapKind::kDynamicSigned, MapKind::kNormalFloat4}) {
                const int64_t block = n / block_elems, first = block * block_elems;
                const CodeMap &host_map = code_map(kind);
                const int codes_in_byte = is_four_bit(kind) ? 2 : 1;
                const auto x = normal_floats(n - first, 3);
                const Tail<CodeMap> map(0, std::vector<CodeMap>{host_map});
                const Tail<float> values(first, x), absmax(block, 1);
                const Tail<uint8_t> codes(first / codes_in_byte,
                                          (int64_t(x.size()) + codes_in_byte - 1) / codes_in_byte);
                const BlockwiseParams p{map.array(), values.array(), codes.array(), absmax.array(),
                                        n,           block_elems,    block + 1,     Dtype::kF32};
                REQUIRE_CUDA(launch(quantize_one_kernel, 1, kThreads, sizeof(BlockwiseStorage),
                                    nullptr, p, block));
                REQUIRE_CUDA(launch(dequantize_one_kernel, 1, kThreads, sizeof(BlockwiseStorage),
                                    nullptr, p, block));
                float largest = 0;
                for (float value : x)
                    largest = lanes::abs(value) > largest ? lanes::abs(value) : largest;
                CHECK_EQ(absmax.read()[0], largest);
                const auto decoded = values.read();
                for (size_t i = 0; i < x.size(); ++i) {
                    const uint32_t code = encode(host_map, x[i] * reciprocal_absmax(largest));
                    CHECK_EQ(decoded[i], decode(host_map, code) * largest,
                             "n %lld block %lld [%zu]", static_cast<long long>(n),
                             static_cast<long long>(block_elems), i);
                }
            }
        }
    }
}

// ---- Steps

struct Case {
    Rule rule;
    Update update;
    StateFormat format;
    bool hessian = false;
};

constexpr Case kCases[] = {
    {Rule::kAdamW, Update::kAdam, StateFormat::kF32},
    {Rule::kAdamW, Update::kAdam, StateFormat::kDynamic8},
    {Rule::kAdamW, Update::kAdam, StateFormat::kFp8Expanded},
    {Rule::kAdemamix, Update::kAdemamix, StateFormat::kDynamic8},
    {Rule::kLars, Update::kLars, StateFormat::kDynamic8},
    {Rule::kLamb, Update::kLamb, StateFormat::kDynamic8},
    {Rule::kScale, Update::kScale, StateFormat::kF32},
    {Rule::kScale, Update::kScaleMomentum, StateFormat::kDynamic8},
    {Rule::kSophiaG, Update::kSophiaHessian, StateFormat::kDynamic8, true},
};

constexpr int64_t kChunkElems = int64_t{kChunkBlocks} * kBlockElems;

// The last chunk of one tensor of n elements, and a step of it. Scale's tensor is one row, so that
// every column is in one place.
class LastChunk {
  public:
    LastChunk(const Case &what, int64_t n)
        : what_(what),
          n_(n),
          chunk_{0, int32_t((n - 1) / kChunkElems)},
          first_(chunk_.index * kChunkElems),
          count_(n - first_),
          param_(first_, bf16(normal_floats(count_, 1))),
          copy_(first_, count_),
          grad_(first_, normal_floats(count_, 2)),
          norms_(first_, count_ + kBlockElems) {
        for (int slot = 0; slot < kMaxStates; ++slot) {
            const bool floats = what.format == StateFormat::kF32;
            const int64_t scales = what.format == StateFormat::kFp8Expanded
                                       ? 2 * (first_ / kFp8GroupElems)
                                       : first_ / kBlockElems;
            // Codes of small values: what they stand for does not matter, as long as it is finite.
            states_[slot] = std::make_unique<Tail<uint8_t>>(
                floats ? 4 * first_ : first_,
                std::vector<uint8_t>(size_t(floats ? 4 * count_ : count_), floats ? 0 : 0x38));
            absmax_[slot] = std::make_unique<Tail<float>>(
                scales, std::vector<float>(size_t(2 * (count_ / kFp8GroupElems + 1)), 0.5f));
        }
    }

    void step() {
        TensorEntry t{};
        t.param = param_.array();
        t.copy = copy_.array();
        t.grad = grad_.array();
        for (int slot = 0; slot < kMaxStates; ++slot) {
            t.state[slot] = states_[slot]->array();
            t.absmax[slot] = absmax_[slot]->array();
        }
        t.inverse_norms = what_.rule == Rule::kScale ? norms_.array() : nullptr;
        t.elems = t.columns = n_;
        t.param_dtype = t.copy_dtype = Dtype::kBF16;
        t.grad_dtype = Dtype::kF32;
        t.format = what_.format;
        t.update = what_.update;
        t.lr_factor = t.decay_factor = 1;

        std::vector<Chunk> measures;
        if (what_.rule == Rule::kLamb) measures = {chunk_};
        for (int64_t strip = first_ / kStripColumns;
             what_.rule == Rule::kScale && strip < strip_count(n_); ++strip)
            measures.push_back({0, int32_t(strip)});
        const int64_t all_measures = what_.rule == Rule::kLamb ? chunk_count(n_) : strip_count(n_);

        std::vector<CodeMap> code_maps;
        for (MapKind kind : kStateMapKinds)
            code_maps.push_back(code_map(kind));
        const Tail<TensorEntry> tensors(0, std::vector<TensorEntry>{t});
        const Tail<Chunk> chunks(0, std::vector<Chunk>{chunk_});
        const Tail<Chunk> to_measure(0, measures.empty() ? std::vector<Chunk>{chunk_} : measures);
        const Tail<int64_t> first_chunk(0, std::vector<int64_t>{0, 1});
        const Tail<CodeMap> maps(0, code_maps);
        const Tail<Coefficients> coefficients(0, 1);
        const Tail<double> weight_norms(0, 1), grad_norms(0, 1);
        const Tail<ChunkSums> sums(0, 1);
        const Tail<StepState> state(0, 1);
        const Tail<Control> control(0, 1);
        Tail<int32_t> progress(0, 1);
        StepParams p{};
        p.memory = {tensors.array(),
                    chunks.array(),
                    to_measure.array(),
                    first_chunk.array(),
                    maps.array(),
                    coefficients.array(),
                    weight_norms.array(),
                    grad_norms.array(),
                    sums.array(),
                    progress.array(),
                    state.array(),
                    control.array(),
                    1,
                    int64_t(measures.size()),
                    1};
        p.scalars.lr = 0.01;
        p.scalars.beta1 = p.scalars.beta3 = 0.9;
        p.scalars.beta2 = 0.99;
        p.scalars.alpha = 2;
        p.scalars.momentum = 0.9;
        p.scalars.eps = 1e-6;
        p.scalars.weight_decay = 0.1;
        p.scalars.trust_coefficient = 0.1;
        p.scalars.hessian_scale = p.scalars.grad_multiplier = 1;
        p.rule = what_.rule;
        p.hessian = what_.hessian;
        p.measure_grads = p.measure_weights = what_.rule == Rule::kLars;
        if (what_.hessian) {
            REQUIRE_CUDA(run_refresh(p, kMultiprocessors, nullptr));
            return;
        }
        REQUIRE_CUDA(launch_prepare(p, kMultiprocessors, nullptr));
        // As if all other measures were done.
        if (!measures.empty()) progress.write({int32_t(all_measures - int64_t(measures.size()))});
        REQUIRE_CUDA(launch_update(p, kMultiprocessors, nullptr));
    }

    // Everything that a step may change, byte by byte, but for the norms of the first columns once
    // more behind the last.
    std::vector<std::vector<uint8_t>> contents() const {
        std::vector<float> norms = norms_.read();
        norms.resize(size_t(count_));
        std::vector<std::vector<uint8_t>> all{bytes(param_.read()), bytes(copy_.read()),
                                              bytes(norms)};
        for (int slot = 0; slot < kMaxStates; ++slot) {
            all.push_back(states_[slot]->read());
            all.push_back(bytes(absmax_[slot]->read()));
        }
        return all;
    }

  private:
    static std::vector<bf16_t> bf16(const std::vector<float> &values) {
        std::vector<bf16_t> out;
        for (float value : values)
            out.push_back(from_float<bf16_t>(value));
        return out;
    }
    template <class T>
    static std::vector<uint8_t> bytes(const std::vector<T> &values) {
        std::vector<uint8_t> out(values.size() * sizeof(T));
        std::memcpy(out.data(), values.data(), out.size());
        return out;
    }

    Case what_;
    int64_t n_;
    Chunk chunk_;
    int64_t first_, count_;
    Tail<bf16_t> param_, copy_;
    Tail<float> grad_, norms_;
    std::unique_ptr<Tail<uint8_t>> states_[kMaxStates];
    std::unique_ptr<Tail<float>> absmax_[kMaxStates];
};

// The last chunk of a large tensor becomes what a tensor of that chunk alone becomes.
TARPON_TEST(test_optim_index_steps) {
    for (const Case &what : kCases) {
        for (const int64_t n : kSizes) {
            // Strips are numbered in 32 bits; longer lists are refused.
            if (what.rule == Rule::kScale && n > kMaxWork * kStripColumns) continue;
            LastChunk large(what, n), small(what, n % kChunkElems);
            const auto before = large.contents();
            large.step();
            small.step();
            CHECK(large.contents() == small.contents(), "rule %d format %d n %lld", int(what.rule),
                  int(what.format), static_cast<long long>(n));
            CHECK(large.contents() != before, "rule %d: nothing happened", int(what.rule));
        }
    }
}

// A list of tensors whose elements, together and each, exceed 2^32.
TARPON_TEST(test_optim_index_work_list) {
    std::vector<TensorEntry> tensors(3);
    tensors[0].elems = (int64_t{1} << 33) + 1;
    tensors[1].elems = 5;
    tensors[2].elems = (int64_t{1} << 32) + kChunkElems;
    for (TensorEntry &t : tensors)
        t.columns = t.elems;
    const int64_t counts[] = {(int64_t{1} << 19) + 1, 1, (int64_t{1} << 18) + 1};
    const int64_t total = counts[0] + counts[1] + counts[2];
    for (const Rule rule : {Rule::kAdamW, Rule::kLamb}) {
        const WorkList list = make_work_list(rule, tensors);
        REQUIRE(int64_t(list.chunks.size()) == total, "%zu chunks", list.chunks.size());
        CHECK_EQ(work_count(rule, tensors), rule == Rule::kLamb ? 2 * total : total);
        CHECK_EQ(int64_t(list.measures.size()), rule == Rule::kLamb ? total : 0);
        int64_t at = 0;
        for (int tensor = 0; tensor < 3; ++tensor) {
            CHECK_EQ(list.first_chunk[size_t(tensor)], at);
            for (int64_t i = 0; i < counts[tensor]; ++i, ++at) {
                const Chunk chunk = list.chunks[size_t(at)];
                REQUIRE(chunk.tensor == tensor && chunk.index == i, "chunk %lld is %d of tensor %d",
                        static_cast<long long>(at), chunk.index, chunk.tensor);
            }
        }
        CHECK_EQ(list.first_chunk.back(), total);
    }
    tensors[0].elems = tensors[0].columns = int64_t{1} << 38;
    CHECK_EQ(work_count(Rule::kScale, {tensors[0]}), (int64_t{1} << 24) + (int64_t{1} << 33));
    CHECK_EQ(work_count(Rule::kAdamW, std::vector<TensorEntry>(200, tensors[0])),
             int64_t{200} << 24);
}

// Elements 2^32 apart draw different numbers.
TARPON_TEST(test_optim_index_random_bits) {
    const RandomKey key = random_key(7, 3, 1, 0);
    int equal = 0;
    for (int64_t i = 0; i < 4096; ++i)
        equal += random_bits(key, i) == random_bits(key, i + (int64_t{1} << 32));
    CHECK(equal <= 1, "%d of 4096 draws repeat", equal);
}

}  // namespace
}  // namespace tarpon::optim
