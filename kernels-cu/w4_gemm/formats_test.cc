// Tests of the W4 GEMM kernels by format and mode: every code, zero point and scale type, bias,
// residual, gathered inputs, deterministic launches. The sweep over all M from 1 to 300 runs where
// TARPON_LONG_TESTS is set.
#include "w4_gemm/test_support.h"

namespace {

using namespace tarpon;
using namespace tarpon::w4_gemm;

std::vector<Format> all_formats() {
    std::vector<Format> out;
    for (const ScaleType scale : {ScaleType::kF16, ScaleType::kBF16, ScaleType::kF32}) {
        for (const CodeType code : {CodeType::kInt4, CodeType::kInt8}) {
            for (const ZeroType zero :
                 {ZeroType::kSymmetric, ZeroType::kInteger, ZeroType::kFloat}) {
                out.push_back({code, zero, scale});
            }
        }
        out.push_back({CodeType::kFp8E4m3, ZeroType::kSymmetric, scale});
        out.push_back({CodeType::kInt4, ZeroType::kSymmetric, scale, true});
    }
    return out;
}

// One format of each kernel format; the last has scales that binary16 cannot hold.
const Format kKernelFormats[] = {
    {CodeType::kInt4, ZeroType::kSymmetric, ScaleType::kF16},
    {CodeType::kInt4, ZeroType::kInteger, ScaleType::kF16},
    {CodeType::kInt4, ZeroType::kFloat, ScaleType::kF16},
    {CodeType::kInt8, ZeroType::kSymmetric, ScaleType::kBF16},
    {CodeType::kInt8, ZeroType::kInteger, ScaleType::kF16},
    {CodeType::kFp8E4m3, ZeroType::kSymmetric, ScaleType::kF32},
    {CodeType::kInt4, ZeroType::kSymmetric, ScaleType::kF16, true},
};

// ---- Accuracy -----------------------------------------------------------------------------------

// Every format, group and activation type, with rows that take every tile in turns.
template <class T>
void test_formats() {
    require_device();
    constexpr int64_t kRows[] = {1, 8, 13, 16, 24, 40, 64, 70};
    uint64_t seed = 1000;
    for (const Format &format : all_formats()) {
        for (const int64_t group_size : {32, 64, 128, 264}) {
            const Shape shape{kRows[seed % 8], 72, 264, group_size};
            Data<T> data = random_layer<T>(shape, format, seed++);
            if (seed % 2) data.add_bias_and_residual(seed);
            check_accuracy(data, Layer<T>(data).run());
        }
    }
}

TARPON_TEST(test_w4_gemm_formats_match_fp64_product_fp16) {
    test_formats<half_t>();
}
TARPON_TEST(test_w4_gemm_formats_match_fp64_product_bf16) {
    test_formats<bf16_t>();
}

// Every kernel: format, tile, grouped or not; bias and residual; columns cut in odd places.
template <class T>
void test_exact() {
    require_device();
    for (const Format &format : kKernelFormats) {
        for (const int64_t group_size : {32, 300}) {
            for (const int tile : tiles_of({1, 1, 1, 1, FormatId::kInt4Symmetric})) {
                const int64_t m = tile_shape(FormatId::kInt4Symmetric, true, tile).block_m + 3;
                Data<T> data = exact_layer<T>({m, 152, 300, group_size}, format, 50 + tile);
                data.add_bias_and_residual(51);
                Layer<T> layer(data);
                const TileShape &shape = tile_shape(layer.problem(), tile);
                if (shape.block_m == 0) continue;
                const Partition work = partition(layer.problem(), shape);
                const int64_t stripe = std::max<int64_t>(work.k_tiles * 2 / 3, 1);
                const Choice choice{tile, int(ceil_div(work.total(), stripe)), int(stripe), 0};
                const std::string what =
                    format_name(layer.format()) + tarpon::testing::format(" tile %d", tile);
                check_exact(data, layer.run(choice), what.c_str());
            }
        }
    }
}

TARPON_TEST(test_w4_gemm_every_kernel_is_exact_on_integers_fp16) {
    test_exact<half_t>();
}
TARPON_TEST(test_w4_gemm_every_kernel_is_exact_on_integers_bf16) {
    test_exact<bf16_t>();
}

// Row i of W is code i in every column (and column j's zero point is j): x = 1 gives the weights.
template <class T>
void test_every_code() {
    require_device();
    for (const Format &format : kKernelFormats) {
        if (format.zero == ZeroType::kFloat || format.sparse) continue;
        const int64_t codes = largest_code(format.code) + 1;
        const Shape shape{codes, codes, codes, codes};
        Data<T> data = exact_layer<T>(shape, format, 3);
        for (int64_t i = 0; i < codes; ++i) {
            data.scales.set(i, 1);
            data.zeros[size_t(i)] = uint8_t(i);
            for (int64_t j = 0; j < codes; ++j) {
                // Not e4m3's NaN, 0x7f and 0xff.
                const bool nan = format.code == CodeType::kFp8E4m3 && (i & 0x7f) == 0x7f;
                data.codes[size_t(i * codes + j)] = uint8_t(nan ? 0 : i);
                data.x[size_t(i * codes + j)] = from_float<T>(i == j ? 1.0f : 0.0f);
            }
        }
        check_exact(data, Layer<T>(data).run(), "every code");
    }
}

TARPON_TEST(test_w4_gemm_dequantises_every_code_and_zero_point) {
    test_every_code<half_t>();
    test_every_code<bf16_t>();
}

// bfloat16 scales beyond binary16: 2^30 and 2^-30 as the factors of columns, both in one column as
// binary32 scales.
TARPON_TEST(test_w4_gemm_takes_scales_beyond_binary16) {
    require_device();
    for (const ZeroType zero : {ZeroType::kSymmetric, ZeroType::kInteger}) {
        for (const bool mixed : {false, true}) {
            const Format format{CodeType::kInt4, zero, ScaleType::kBF16};
            Data<bf16_t> data = exact_layer<bf16_t>({6, 64, 256, 64}, format, 5);
            for (int64_t g = 0; g < 4; ++g) {
                for (int64_t n = 0; n < 64; ++n) {
                    const bool large = mixed ? g % 2 == 0 : n % 2 == 0;
                    data.scales.set(64 * g + n, std::ldexp(1.0f, large ? 30 : -30));
                }
            }
            Layer<bf16_t> layer(data);
            CHECK_EQ(int(layer.format()),
                     int(mixed                        ? FormatId::kInt4Float
                         : zero == ZeroType::kInteger ? FormatId::kInt4Integer
                                                      : FormatId::kInt4Symmetric));
            check_accuracy(data, layer.run());
        }
    }
}

// ---- Epilogue and gather ------------------------------------------------------------------------

template <class T>
void test_epilogue() {
    require_device();
    for (const Shape &shape : {Shape{5, 70, 99, 99}, Shape{20, 136, 256, 128},
                               Shape{66, 65, 64, 64}, Shape{1, 1, 40, 40}, Shape{9, 7, 33, 33}}) {
        for (const int64_t offset : {0, 1}) {
            Data<T> data = random_layer<T>(shape, 60 + offset);
            data.add_bias_and_residual(61);
            Layer<T> layer(data, offset);
            const std::vector<T> apart = layer.run();
            check_accuracy(data, apart);
            layer.add_in_place();
            if (offset == 0) check_same(layer.run(), apart, shape.n, "residual in place");
            data.residual.clear();
            check_accuracy(data, Layer<T>(data, offset).run());
            data.bias.clear();
            check_accuracy(data, Layer<T>(data, offset).run());
        }
    }
}

TARPON_TEST(test_w4_gemm_adds_bias_and_residual) {
    test_epilogue<half_t>();
    test_epilogue<bf16_t>();
}

// Partial sums are kept in binary32 until bias and residual are in: 60000 + 10000 - 30000 fits.
TARPON_TEST(test_w4_gemm_rounds_once) {
    require_device();
    Data<half_t> data = exact_layer<half_t>({3, 64, 64, 64}, 7);
    for (size_t i = 0; i < data.x.size(); ++i)
        data.x[i] = from_float<half_t>(i % 64 == 0 ? 7500.0f : 0.0f);
    std::fill(data.codes.begin(), data.codes.end(), uint8_t(0));
    for (int64_t i = 0; i < 64; ++i)
        data.scales.set(i, 1);
    data.bias.assign(64, from_float<half_t>(-10000.0f));
    data.residual.assign(3 * 64, from_float<half_t>(30000.0f));
    const std::vector<half_t> y = Layer<half_t>(data).run();
    for (size_t i = 0; i < y.size(); ++i) {
        if (!CHECK_EQ(to_float(y[i]), -40000.0f, "y[%zu]", i)) break;
    }
}

TARPON_TEST(test_w4_gemm_gathers_inputs) {
    require_device();
    for (const Shape &shape : {Shape{1, 64, 200, 32}, Shape{12, 96, 264, 128},
                               Shape{30, 64, 99, 99}, Shape{70, 264, 128, 64}}) {
        Data<half_t> data = random_layer<half_t>(shape, kKernelFormats[1], 71);
        data.permute(72);
        check_accuracy(data, Layer<half_t>(data).run());
        Layer<half_t> layer(data);
        check_accuracy(data, layer.run(layer.choose(true)));
    }
}

// The shapes that users ask for, as narrow as the simulator affords.
TARPON_TEST(test_w4_gemm_takes_awkward_shapes) {
    require_device();
    uint64_t seed = 80;
    for (const Shape &shape :
         {Shape{1, 64, 10944, 128}, Shape{2, 40, 7392, 32}, Shape{3, 576, 352, 64},
          Shape{1, 2816, 128, 128}, Shape{17, 96, 1408, 128}, Shape{4, 1, 1, 1}}) {
        const Format format = kKernelFormats[seed % 6];
        const Data<bf16_t> data = random_layer<bf16_t>(shape, format, seed++);
        check_accuracy(data, Layer<bf16_t>(data).run());
    }
}

// ---- Deterministic launches ---------------------------------------------------------------------

template <class T>
Data<T> first_rows(const Data<T> &data, int64_t m) {
    Data<T> out = data;
    out.shape.m = m;
    out.x.resize(size_t(m * data.shape.k));
    if (!out.residual.empty()) out.residual.resize(size_t(m * data.shape.n));
    return out;
}

// Every launch that the model weighs for rows of 1 to 200 gives each row the same bits.
template <class T>
void test_batch_invariance(const Shape &shape, const Format &format) {
    Data<T> data = random_layer<T>(shape, format, 90);
    data.add_bias_and_residual(91);
    std::vector<T> expected;
    int launches = 0;
    for (const int64_t m : {shape.m, int64_t{1}, int64_t{16}, int64_t{17}, int64_t{50}}) {
        const Data<T> rows = first_rows(data, m);
        Layer<T> layer(rows);
        for_each_candidate(
            layer.problem(true), layer.device(), [&](int tile, int64_t grid, int64_t stripe) {
                const Choice choice{tile, int(grid), int(stripe), 0, true};
                const std::vector<T> y = layer.run(choice);
                if (expected.empty()) {
                    check_accuracy(data, y);
                    expected = y;
                }
                check_same(expected, y, shape.n,  // the first rows of it
                           tarpon::testing::format("%s: m %d, tile %d, grid %d, stripes of %d",
                                                   name(format).c_str(), int(m), tile, int(grid),
                                                   int(stripe))
                               .c_str());
                ++launches;
            });
    }
    CHECK(launches >= 10, "%d launches", launches);
}

TARPON_TEST(test_w4_gemm_deterministic_rows_do_not_depend_on_m) {
    require_device();
    for (const Format &format : kKernelFormats) {
        test_batch_invariance<half_t>({66, 72, 1056, 32}, format);
        test_batch_invariance<bf16_t>({66, 72, 1056, 1056}, format);
    }
}

// Several slices, that end beyond K; parallel and serial.
TARPON_TEST(test_w4_gemm_deterministic_cuts_by_the_shape_of_weights) {
    CHECK_EQ(slice_tiles(8192, 8192), 64);
    CHECK_EQ(slice_tiles(72, 1056), 9);  // 33 tiles: 4 slices, 36 with the padding
    CHECK_EQ(slice_tiles(57344, 8192), 256);
    CHECK_EQ(slice_tiles(64, 32), 1);
    const TileShape &tile = tile_shape(FormatId::kInt4Symmetric, true, 5);
    const Partition work = partition({16, 72, 1056, 9, FormatId::kInt4Symmetric, true}, tile);
    CHECK_EQ(work.run_tiles, 9);
    CHECK_EQ(work.k_tiles, 36);
}

TARPON_TEST(test_w4_gemm_deterministic_replays_in_a_graph) {
    require_device();
    const Data<half_t> data = random_layer<half_t>({40, 136, 1056, 32}, 92);
    Layer<half_t> layer(data);
    for (const bool serial : {false, true}) {
        const int tile = 4;
        const Partition work =
            partition(layer.problem(true), tile_shape(layer.problem(true), tile));
        const int64_t stripe = serial ? work.k_tiles : work.run_tiles;
        const Choice choice{tile, int(work.total() / stripe), int(stripe), 0, true};
        const std::vector<half_t> expected = layer.run(choice);
        DeviceBuffer<uint32_t> workspace(layer.workspace_words(choice));
        cudaStream_t stream;
        cudaGraph_t graph;
        cudaGraphExec_t executable;
        check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
        check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "BeginCapture");
        layer.enqueue(choice, workspace, stream);
        check_cuda(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
        check_cuda(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
        for (int replay = 0; replay < 2; ++replay) {
            layer.poison_y();
            check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
            check_cuda(cudaGraphLaunch(executable, stream), "cudaGraphLaunch");
            check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
            check_same(layer.result(), expected, data.shape.n, "replay");
        }
        check_cuda(cudaGraphExecDestroy(executable), "cudaGraphExecDestroy");
        check_cuda(cudaGraphDestroy(graph), "cudaGraphDestroy");
        check_cuda(cudaStreamDestroy(stream), "cudaStreamDestroy");
    }
}

#ifndef __CUDACC__
// The order in which threads, warps and blocks run leaves no trace in any format and mode.
TARPON_TEST(test_w4_gemm_formats_give_the_same_bits_under_every_schedule) {
    const sim::Schedule before = sim::schedule();
    int64_t m = 5;
    for (const Format &format : kKernelFormats) {
        const Data<half_t> data = random_layer<half_t>({m, 264, 520, 128}, format, 95);
        m += 10;
        Layer<half_t> layer(data);
        for (const bool deterministic : {false, true}) {
            const Choice choice = layer.choose(deterministic);
            sim::set_schedule({sim::Schedule::Order::kForward, 0});
            const std::vector<half_t> forward = layer.run(choice);
            sim::set_schedule({sim::Schedule::Order::kReverse, 0});
            check_same(layer.run(choice), forward, 264, "reverse");
            for (uint64_t seed = 1; seed <= 2; ++seed) {
                sim::set_schedule({sim::Schedule::Order::kRandom, seed});
                check_same(layer.run(choice), forward, 264, "random");
            }
        }
    }
    sim::set_schedule(before);
}
#endif

// ---- All rows -----------------------------------------------------------------------------------

TARPON_TEST(test_w4_gemm_all_rows_up_to_300) {
    require_device();
    require_long_tests();
    for (const Shape &shape :
         {Shape{0, 72, 200, 128}, Shape{0, 264, 96, 32}, Shape{0, 33, 1056, 1056}}) {
        for (int64_t m = 1; m <= 300; ++m) {
            Shape s = shape;
            s.m = m;
            const Data<half_t> data =
                random_layer<half_t>(s, kKernelFormats[size_t(m) % 6], uint64_t(m));
            Layer<half_t> layer(data);
            check_accuracy(data, layer.run());
            check_accuracy(data, layer.run(layer.choose(true)));
        }
    }
}

}  // namespace
