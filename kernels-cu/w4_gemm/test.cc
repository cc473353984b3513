// Tests of the W4 GEMM kernels through launch.h, on the simulator (w4_gemm_test_sim) and on a GPU
// (w4_gemm_test_cuda): the schedule, with the most common format. formats_test.cc has the formats;
// packing, quantising and the choice of tiles are tested in host_test.cc.
#include "w4_gemm/test_support.h"

namespace {

using namespace tarpon;
using namespace tarpon::w4_gemm;

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
        const Data<T> data = random_layer<T>(shape, seed++);
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
            const Data<T> data = random_layer<T>({m, 192, 600, group_size}, 100 + m);
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
        for (const int tile : tiles_of({1, 1, 520, ceil_div(520, group_size)})) {
            const TileShape &shape = tile_shape(FormatId::kInt4Symmetric, group_size < 520, tile);
            const Data<T> data = exact_layer<T>({shape.block_m + 1, 260, 520, group_size}, 7);
            Layer<T> layer(data);
            const Partition work = partition(layer.problem(), shape);
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
            const Data<half_t> data = random_layer<half_t>(shape, 300 + offset);
            check_accuracy(data, Layer<half_t>(data, offset).run());
        }
    }
}

// Sums whose parts are far beyond binary16, and whose end is not.
TARPON_TEST(test_w4_gemm_does_not_overflow_on_large_activations) {
    require_device();
    for (const int64_t m : {4, 16, 40}) {
        Data<half_t> data = random_layer<half_t>({m, 128, 1024, 128}, 17);
        for (size_t i = 0; i < data.x.size(); ++i) {
            const float x = to_float(data.x[i]);
            data.x[i] = from_float<half_t>(x < 0 ? -60000.0f : 60000.0f);
        }
        for (int64_t i = 0; i < 128 * data.shape.groups(); ++i)
            data.scales.set(i, 0x1p-10f);
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
        Data<bf16_t> data = random_layer<bf16_t>({m, 96, 200, 128}, 19);
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
    const Data<half_t> data = random_layer<half_t>({13, 256, 768, 128}, 23);
    Layer<half_t> layer(data);
    const Partition work = partition(layer.problem(), tile_shape(layer.problem(), 1));
    const Choice choice{1, int(work.total()), 1, 0};
    const std::vector<half_t> expected = layer.run(choice);
    DeviceBuffer<uint32_t> workspace(layer.workspace_words(choice));
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
    const Data<half_t> data = random_layer<half_t>({20, 192, 640, 128}, 31);
    Layer<half_t> layer(data);
    const Partition work = partition(layer.problem(), tile_shape(layer.problem(), 2));
    const Choice choice{2, int(work.total()), 1, 0};
    DeviceBuffer<uint32_t> workspace(layer.workspace_words(choice));
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
        changed.x = random_layer<half_t>(data.shape, 400 + replay).x;
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
        const Data<bf16_t> data = random_layer<bf16_t>(shape, 37);
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
    for (const int tile : tiles_of({1, 1, 1, 1})) {
        const int block_m = tile_shape(FormatId::kInt4Symmetric, false, tile).block_m;
        const Shape shape{block_m, 320, 520, tile % 2 ? 128 : 520};
        const Data<half_t> data = random_layer<half_t>(shape, 41);
        Layer<half_t> layer(data);
        const Partition work = partition(layer.problem(), tile_shape(layer.problem(), tile));
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
