// Tests of the W4 GEMM kernels through launch.h, on the simulator (w4_gemm_test_sim) and on a GPU
// (w4_gemm_test_cuda). Packing, quantising and the choice of tiles are tested in host_test.cc.
#include <cstring>
#include <vector>

#include "testing/compare.h"
#include "testing/device_buffer.h"
#include "testing/random.h"
#include "w4_gemm/launch.h"
#include "w4_gemm/pack.h"
#include "w4_gemm/quantize.h"
#include "w4_gemm/ref.h"

#ifndef __CUDACC__
#include "sim/control.h"
#endif

namespace {

using namespace tarpon;
using namespace tarpon::testing;
using namespace tarpon::w4_gemm;

struct Shape {
    int64_t m, n, k;
    int64_t group_size;  // k: one group
    int64_t groups() const { return ceil_div(k, group_size); }
};

std::string name(const Shape &s) {
    return format("m %lld n %lld k %lld group %lld", (long long)s.m, (long long)s.n, (long long)s.k,
                  (long long)s.group_size);
}

// A problem's data on the host.
template <class T>
struct Data {
    Shape shape;
    std::vector<T> x;
    std::vector<uint8_t> codes;
    std::vector<uint16_t> scales;
};

// Normally distributed weights, quantised, and activations.
template <class T>
Data<T> random_data(const Shape &s, uint64_t seed) {
    Random random(seed);
    Data<T> out{s, std::vector<T>(s.m * s.k), std::vector<uint8_t>(s.n * s.k),
                std::vector<uint16_t>(s.n * s.groups())};
    for (T &x : out.x)
        x = from_float<T>(float(random.normal()));
    std::vector<float> weight(s.n * s.k);
    for (float &w : weight)
        w = float(0.05 * random.normal());
    const QuantizeResult result = quantize_rtn(weight.data(), WeightDtype::kF32, s.n, s.k,
                                               s.group_size, out.codes.data(), out.scales.data());
    REQUIRE(result.fault == QuantizeFault::kNone);
    return out;
}

// Integers and scales that are powers of two: every sum is exact in binary32, in any order.
template <class T>
Data<T> exact_data(const Shape &s, uint64_t seed) {
    Random random(seed);
    Data<T> out{s, std::vector<T>(s.m * s.k), std::vector<uint8_t>(s.n * s.k),
                std::vector<uint16_t>(s.n * s.groups())};
    for (T &x : out.x)
        x = from_float<T>(float(random.integer(-8, 8)));
    for (uint8_t &code : out.codes)
        code = uint8_t(random.integer(0, 15));
    for (uint16_t &scale : out.scales) {
        scale = from_float<half_t>(std::ldexp(1.0f, int(random.integer(-4, 1)))).bits;
    }
    return out;
}

template <class T>
constexpr Activation kActivation = std::is_same_v<T, half_t> ? Activation::kF16 : Activation::kBF16;

// The problem on the device. Output and workspace are poison, or what earlier runs left.
template <class T>
class Layer {
  public:
    // offset: elements by which x and y are moved from 16-byte alignment.
    explicit Layer(const Data<T> &data, int64_t offset = 0)
        : shape_(data.shape),
          offset_(offset),
          x_(shifted(data.x, offset)),
          y_(shape_.m * shape_.n + offset),
          qweight_(packed_codes(data)),
          scales_(packed_scales(data)) {
        check_cuda(prepare(kActivation<T>, shape_.groups() > 1), "prepare");
    }

    Choice choose() const {
        int sm_count = 0, major = 0;
        check_cuda(cudaDeviceGetAttribute(&sm_count, cudaDevAttrMultiProcessorCount, 0), "attr");
        check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "attr");
        return select({shape_.m, shape_.n, shape_.k, shape_.groups()}, {sm_count, 10 * major});
    }
    static size_t workspace_words(const Choice &choice) {
        return size_t(launch_workspace_bytes(kSm80Tiles[choice.tile], choice.grid)) / 4;
    }

    void enqueue(const Choice &choice, const DeviceBuffer<uint32_t> &workspace,
                 cudaStream_t stream = nullptr) {
        const Weights weights{shape_.n,          shape_.k,        shape_.groups(),
                              shape_.group_size, qweight_.data(), scales_.data()};
        const Operands operands{x_.data() + offset_, y_.data() + offset_, shape_.m,
                                workspace.data()};
        check_cuda(w4_gemm::run(weights, kActivation<T>, choice, operands, stream), "run");
    }
    // Runs and returns y; y and workspace are fresh poison before.
    std::vector<T> run(const Choice &choice) {
        DeviceBuffer<uint32_t> workspace(workspace_words(choice));
        poison_y();
        enqueue(choice, workspace);
        std::vector<T> y = result();
        CHECK(workspace.guards_intact(), "%s: workspace", name(shape_).c_str());
        return y;
    }
    std::vector<T> run() { return run(choose()); }

    void set_x(const std::vector<T> &x) {
        const std::vector<T> moved = shifted(x, offset_);
        check_cuda(
            cudaMemcpy(x_.data(), moved.data(), moved.size() * sizeof(T), cudaMemcpyHostToDevice),
            "cudaMemcpy");
    }
    void poison_y() {
        check_cuda(cudaMemset(y_.data(), kPoison, y_.size() * sizeof(T)), "cudaMemset");
    }
    std::vector<T> result() const {
        std::vector<T> y = y_.to_host();
        CHECK(y_.guards_intact(), "%s: y", name(shape_).c_str());
        for (int64_t i = 0; i < offset_; ++i)
            CHECK_EQ(y[i].bits, 0xffff, "before y");
        y.erase(y.begin(), y.begin() + offset_);
        return y;
    }

  private:
    static std::vector<T> shifted(std::vector<T> x, int64_t offset) {
        x.insert(x.begin(), size_t(offset), T{0xffff});
        return x;
    }
    static std::vector<int32_t> packed_codes(const Data<T> &data) {
        const Shape &s = data.shape;
        std::vector<int32_t> out(marlin_size(s.n, s.k, 1).qweight_words);
        marlin_pack_codes(data.codes.data(), s.n, s.k, out.data());
        return out;
    }
    static std::vector<uint16_t> packed_scales(const Data<T> &data) {
        const Shape &s = data.shape;
        std::vector<uint16_t> out(marlin_size(s.n, 1, s.groups()).scales_elems);
        marlin_pack_scales(data.scales.data(), s.n, s.groups(), false, out.data());
        return out;
    }

    Shape shape_;
    int64_t offset_;
    DeviceBuffer<T> x_, y_;
    DeviceBuffer<int32_t> qweight_;
    DeviceBuffer<uint16_t> scales_;
};

// Against binary64. Scales meet fp32 sums, so all that rounds is y itself (half a unit in the last
// place: on average 2^-13 and 2^-10 of |y| or so) and fp32 sums; the bars leave a factor of two.
template <class T>
void check_accuracy(const Data<T> &data, const std::vector<T> &y) {
    const Shape &s = data.shape;
    const Reference ref = reference(data.x.data(), data.codes.data(), data.scales.data(), s.m, s.n,
                                    s.k, s.group_size);
    const Difference d = compare(std::span<const T>(y), std::span<const double>(ref.y));
    const double bar = std::is_same_v<T, half_t> ? 5e-4 : 2e-3;
    CHECK(d.mean_relative <= bar, "%s: %s", name(s).c_str(), d.describe(size_t(s.n)).c_str());
    const double half_ulp = std::is_same_v<T, half_t> ? 0x1p-11 : 0x1p-8;
    for (size_t i = 0; i < y.size(); ++i) {
        const double bound = half_ulp * std::fabs(ref.y[i]) + 0x1p-20 * ref.magnitude[i] + 0x1p-25;
        if (!CHECK_NEAR(to_float(y[i]), ref.y[i], bound, "%s: (%zu, %zu)", name(s).c_str(), i / s.n,
                        i % s.n)) {
            break;
        }
    }
}

template <class T>
void check_exact(const Data<T> &data, const std::vector<T> &y, const char *what) {
    const Shape &s = data.shape;
    const Reference ref = reference(data.x.data(), data.codes.data(), data.scales.data(), s.m, s.n,
                                    s.k, s.group_size);
    for (size_t i = 0; i < y.size(); ++i) {
        const T expected = from_float<T>(float(ref.y[i]));
        if (!CHECK_EQ(y[i].bits, expected.bits, "%s, %s: (%zu, %zu)", what, name(s).c_str(),
                      i / s.n, i % s.n)) {
            break;
        }
    }
}

template <class T>
void check_same(const std::vector<T> &actual, const std::vector<T> &expected, int64_t n,
                const char *what) {
    for (size_t i = 0; i < expected.size(); ++i) {
        if (!CHECK_EQ(actual[i].bits, expected[i].bits, "%s: (%zu, %zu)", what, i / n, i % n))
            break;
    }
}

// Every M of the list, every N and K, both groupings: each in a few cases, not all combinations.
const Shape kShapes[] = {
    {1, 1536, 1536, 128},  {1, 64, 64, 64},       {1, 384, 1000, 128}, {2, 200, 384, 128},
    {3, 96, 1536, 1536},   {4, 128, 128, 128},    {7, 1000, 200, 128}, {8, 384, 384, 128},
    {8, 64, 33, 33},       {9, 1536, 384, 384},   {9, 33, 96, 96},     {15, 200, 1000, 128},
    {16, 1000, 96, 96},    {16, 384, 1536, 128},  {17, 96, 384, 128},  {17, 1000, 128, 128},
    {31, 128, 1000, 1000}, {32, 384, 200, 128},   {32, 64, 1536, 128}, {33, 1536, 64, 64},
    {33, 200, 128, 128},   {63, 64, 384, 128},    {64, 384, 384, 384}, {64, 1000, 33, 33},
    {65, 33, 1000, 128},   {65, 384, 64, 64},     {100, 96, 200, 128}, {128, 200, 384, 128},
    {128, 128, 96, 96},    {129, 1536, 128, 128}, {129, 96, 384, 128},
};

template <class T>
void test_shapes() {
    require_device();
    uint64_t seed = 1;
    for (const Shape &shape : kShapes) {
        const Data<T> data = random_data<T>(shape, seed++);
        check_accuracy(data, Layer<T>(data).run());
    }
}

TARPON_TEST(test_w4_gemm_matches_fp64_product_fp16) {
    test_shapes<half_t>();
}
TARPON_TEST(test_w4_gemm_matches_fp64_product_bf16) {
    test_shapes<bf16_t>();
}

template <class T>
void test_groups() {
    require_device();
    for (const int64_t group_size : {32, 64, 128, 256}) {
        for (const int64_t m : {5, 16, 24, 48}) {
            const Data<T> data = random_data<T>({m, 192, 600, group_size}, 100 + m);
            check_accuracy(data, Layer<T>(data).run());
        }
    }
}

TARPON_TEST(test_w4_gemm_takes_groups_of_powers_of_two) {
    test_groups<half_t>();
    test_groups<bf16_t>();
}

// Every tile of the table, and every way to cut the work list: down to one stage tile a CTA, and
// all of it in one CTA.
template <class T>
void test_every_cut() {
    require_device();
    for (const int64_t group_size : {int64_t{128}, int64_t{520}}) {
        for (int tile = 0; tile < int(kSm80Tiles.size()); ++tile) {
            const TileShape &shape = kSm80Tiles[tile];
            const Data<T> data = exact_data<T>({shape.block_m + 1, 260, 520, group_size}, 7);
            Layer<T> layer(data);
            const Partition work =
                partition({data.shape.m, data.shape.n, data.shape.k, data.shape.groups()}, shape);
            for (const int64_t stripe :
                 {int64_t{1}, int64_t{3}, work.k_tiles, work.k_tiles + 1, work.total()}) {
                const Choice choice{tile, int(ceil_div(work.total(), stripe)), int(stripe), 0};
                const std::string what =
                    format("tile %d, stripes of %lld", tile, (long long)stripe);
                check_exact(data, layer.run(choice), what.c_str());
            }
        }
    }
}

TARPON_TEST(test_w4_gemm_is_exact_on_integers_however_work_is_cut_fp16) {
    test_every_cut<half_t>();
}
TARPON_TEST(test_w4_gemm_is_exact_on_integers_however_work_is_cut_bf16) {
    test_every_cut<bf16_t>();
}

// Rows that do not begin at multiples of 16 bytes, by their length or by the pointer.
TARPON_TEST(test_w4_gemm_takes_elementwise_alignment) {
    require_device();
    for (const Shape &shape : {Shape{3, 70, 99, 99}, Shape{20, 129, 261, 128},
                               Shape{50, 65, 64, 64}, Shape{1, 128, 256, 128}}) {
        for (const int64_t offset : {0, 1, 4}) {
            const Data<half_t> data = random_data<half_t>(shape, 300 + offset);
            check_accuracy(data, Layer<half_t>(data, offset).run());
        }
    }
}

// Sums whose parts are far beyond binary16, and whose end is not.
TARPON_TEST(test_w4_gemm_does_not_overflow_on_large_activations) {
    require_device();
    for (const int64_t m : {4, 16, 40}) {
        Data<half_t> data = random_data<half_t>({m, 128, 1024, 128}, 17);
        for (size_t i = 0; i < data.x.size(); ++i) {
            const float x = to_float(data.x[i]);
            data.x[i] = from_float<half_t>(x < 0 ? -60000.0f : 60000.0f);
        }
        for (uint16_t &scale : data.scales)
            scale = from_float<half_t>(0x1p-10f).bits;
        const std::vector<half_t> y = Layer<half_t>(data).run();
        for (size_t i = 0; i < y.size(); ++i) {
            if (!CHECK((y[i].bits & 0x7c00) != 0x7c00, "m %d: y[%zu] is %g", int(m), i,
                       to_float(y[i]))) {
                break;
            }
        }
        check_accuracy(data, y);
    }
}

// A row of NaN or infinity stays its own row's trouble.
TARPON_TEST(test_w4_gemm_keeps_nan_in_its_row) {
    require_device();
    for (const int64_t m : {7, 15, 33}) {
        Data<bf16_t> data = random_data<bf16_t>({m, 96, 200, 128}, 19);
        Data<bf16_t> clean = data;
        for (int64_t i = 0; i < data.shape.k; ++i)
            data.x[2 * data.shape.k + i].bits = 0x7fff;
        const std::vector<bf16_t> y = Layer<bf16_t>(data).run(), ref = Layer<bf16_t>(clean).run();
        for (int64_t i = 0; i < m * 96; ++i) {
            if (i / 96 == 2) {
                CHECK(std::isnan(to_float(y[i])), "m %d, column %d", int(m), int(i % 96));
            } else {
                CHECK_EQ(y[i].bits, ref[i].bits, "m %d: (%d, %d)", int(m), int(i / 96),
                         int(i % 96));
            }
        }
    }
}

// Workspace contents are arbitrary: what the last run left, flags of zeros, ones, or noise.
TARPON_TEST(test_w4_gemm_takes_any_workspace) {
    require_device();
    const Data<half_t> data = random_data<half_t>({13, 256, 768, 128}, 23);
    Layer<half_t> layer(data);
    const Partition work = partition({13, 256, 768, 6}, kSm80Tiles[1]);
    const Choice choice{1, int(work.total()), 1, 0};
    const std::vector<half_t> expected = layer.run(choice);
    DeviceBuffer<uint32_t> workspace(Layer<half_t>::workspace_words(choice));
    Random random(29);
    for (int round = 0; round < 6; ++round) {
        std::vector<uint32_t> contents(workspace.size());
        for (uint32_t &word : contents) {
            word = round < 2 ? uint32_t(-round) : uint32_t(random.bits());
        }
        if (round < 4) {  // the last two find what the run before left
            check_cuda(cudaMemcpy(workspace.data(), contents.data(), 4 * contents.size(),
                                  cudaMemcpyHostToDevice),
                       "cudaMemcpy");
        }
        layer.poison_y();
        layer.enqueue(choice, workspace);
        check_same(layer.result(), expected, 256, format("round %d", round).c_str());
    }
}

#ifndef __CUDACC__
// Blocks that gather sums run before those that give them: only flags hold them back.
struct ReverseSchedule {
    const sim::Schedule before = sim::schedule();
    ReverseSchedule() { sim::set_schedule({sim::Schedule::Order::kReverse, 0}); }
    ~ReverseSchedule() { sim::set_schedule(before); }
};
#else
struct ReverseSchedule {};  // hardware chooses
#endif

// A replay brings the ticket of the capture again, over the workspace that the last one left, to
// other activations: a flag that stayed set would let the old sums in.
TARPON_TEST(test_w4_gemm_replays_in_a_graph) {
    require_device();
    [[maybe_unused]] const ReverseSchedule reverse;
    const Data<half_t> data = random_data<half_t>({20, 192, 640, 128}, 31);
    Layer<half_t> layer(data);
    const Partition work = partition({20, 192, 640, 5}, kSm80Tiles[2]);
    const Choice choice{2, int(work.total()), 1, 0};
    DeviceBuffer<uint32_t> workspace(Layer<half_t>::workspace_words(choice));
    check_cuda(cudaMemset(workspace.data(), 0, 4 * workspace.size()), "cudaMemset");
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "BeginCapture");
    layer.enqueue(choice, workspace, stream);
    check_cuda(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
    check_cuda(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
    for (int replay = 0; replay < 3; ++replay) {
        Data<half_t> changed = data;
        changed.x = random_data<half_t>(data.shape, 400 + replay).x;
        layer.set_x(changed.x);
        layer.poison_y();
        check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
        check_cuda(cudaGraphLaunch(executable, stream), "cudaGraphLaunch");
        check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
        check_accuracy(changed, layer.result());
        const std::vector<uint32_t> left = workspace.to_host();
        for (int i = 0; i < 2 * choice.grid; ++i) {
            CHECK_EQ(left[i], 0u, "replay %d: word %d of the flags", replay, i);
        }
    }
    check_cuda(cudaGraphExecDestroy(executable), "cudaGraphExecDestroy");
    check_cuda(cudaGraphDestroy(graph), "cudaGraphDestroy");
    check_cuda(cudaStreamDestroy(stream), "cudaStreamDestroy");
}

TARPON_TEST(test_w4_gemm_gives_the_same_bits_again) {
    require_device();
    for (const Shape &shape : {Shape{1, 384, 1536, 128}, Shape{33, 200, 520, 520}}) {
        const Data<bf16_t> data = random_data<bf16_t>(shape, 37);
        Layer<bf16_t> layer(data);
        const std::vector<bf16_t> first = layer.run();
        for (int i = 0; i < 3; ++i)
            check_same(layer.run(), first, shape.n, "repeat");
    }
}

#ifndef __CUDACC__
// The order in which threads, warps and blocks run leaves no trace.
TARPON_TEST(test_w4_gemm_gives_the_same_bits_under_every_schedule) {
    const sim::Schedule before = sim::schedule();
    for (int tile = 0; tile < int(kSm80Tiles.size()); ++tile) {
        const TileShape &tile_shape = kSm80Tiles[tile];
        const Shape shape{tile_shape.block_m, 320, 520, tile % 2 ? 128 : 520};
        const Data<half_t> data = random_data<half_t>(shape, 41);
        Layer<half_t> layer(data);
        const Partition work = partition({shape.m, shape.n, shape.k, shape.groups()}, tile_shape);
        const Choice choice{tile, int(ceil_div(work.total(), 2)), 2, 0};
        sim::set_schedule({sim::Schedule::Order::kForward, 0});
        const std::vector<half_t> forward = layer.run(choice);
        check_accuracy(data, forward);
        sim::set_schedule({sim::Schedule::Order::kReverse, 0});
        check_same(layer.run(choice), forward, shape.n, format("tile %d, reverse", tile).c_str());
        for (uint64_t seed = 1; seed <= 4; ++seed) {
            sim::set_schedule({sim::Schedule::Order::kRandom, seed});
            check_same(layer.run(choice), forward, shape.n,
                       format("tile %d, seed %d", tile, int(seed)).c_str());
        }
    }
    sim::set_schedule(before);
}
#endif

}  // namespace
