// The KV cache on the CPU: the plan's tables, and append. Codes are those of kv_cache/ref.h, bit for
// bit; only the packing is done by words here.
#include <cstring>

#include "cpu/kv_plan.h"

namespace tarpon::cpu {

using namespace kv_cache;

namespace {

const HadamardKernels &hadamard_kernels(Isa isa) {
    if (isa >= Isa::kAvx512) return kAvx512Hadamard;
    return isa == Isa::kAvx2 ? kAvx2Hadamard : kScalarHadamard;
}

// Packs `width` bits of each code from bit `shift` up into a plane of K codes.
void pack_k_plane(const uint16_t *codes, int head_dim, int width, int shift, int token,
                  uint8_t *plane) {
    const int per_word = 32 / width;
    const uint32_t mask = (1u << width) - 1;
    auto *words = reinterpret_cast<uint32_t *>(plane);
    for (int w = 0; w < k_plane_words(head_dim, width); ++w) {
        uint32_t word = 0;
        for (int i = 0; i < per_word; ++i)
            word |= (codes[w * per_word + i] >> shift & mask) << i * width;
        words[k_word_index(head_dim, width, token, w)] = word;
    }
}

// The same for a token's row of V codes; width at most 8.
void pack_v_row(const uint16_t *codes, int head_dim, int width, int shift, uint8_t *row) {
    const uint32_t mask = (1u << width) - 1;
    std::memset(row, 0, head_dim * width / 8);
    for (int c = 0; c < head_dim; ++c) {
        const VPlace place = v_place(width, c);
        row[place.byte] |= static_cast<uint8_t>((codes[c] >> shift & mask) << place.bit);
    }
}

// Codes of a rotated vector; returns its scale.
half_t encode(const float *x, int head_dim, int bits, uint16_t *codes) {
    if (bits == 16) {
        for (int i = 0; i < head_dim; ++i)
            codes[i] = saturate_half(x[i]).bits;
        return {0};
    }
    const half_t scale = grid_scale(spread(x, head_dim), head_dim, bits);
    const float inverse = grid_inverse(scale);
    for (int i = 0; i < head_dim; ++i)
        codes[i] = static_cast<uint16_t>(grid_code(x[i], inverse, bits));
    return scale;
}

void store_k(const Format &f, const BlockLayout &layout, int token, const float *x,
             uint8_t *block) {
    uint16_t codes[kMaxHeadDim];
    const half_t scale = encode(x, f.head_dim, f.k_bits, codes);
    uint8_t *plane = block + layout.k_codes;
    if (f.k_bits == 3) {
        pack_k_plane(codes, f.head_dim, 2, 0, token, plane);
        pack_k_plane(codes, f.head_dim, 1, 2, token, plane + f.page_tokens * f.head_dim / 4);
    } else {
        pack_k_plane(codes, f.head_dim, f.k_bits, 0, token, plane);
    }
    if (has_scales(f.k_bits)) reinterpret_cast<half_t *>(block + layout.k_scales)[token] = scale;
}

void store_v(const Format &f, const BlockLayout &layout, int token, const float *x,
             uint8_t *block) {
    uint16_t codes[kMaxHeadDim];
    const half_t scale = encode(x, f.head_dim, f.v_bits, codes);
    uint8_t *plane = block + layout.v_codes;
    if (f.v_bits == 16) {
        std::memcpy(plane + int64_t{token} * f.head_dim * 2, codes, f.head_dim * 2);
    } else if (f.v_bits == 3) {
        pack_v_row(codes, f.head_dim, 2, 0, plane + int64_t{token} * f.head_dim / 4);
        pack_v_row(codes, f.head_dim, 1, 2,
                   plane + (int64_t{2} * f.page_tokens + token) * f.head_dim / 8);
    } else {
        pack_v_row(codes, f.head_dim, f.v_bits, 0,
                   plane + int64_t{token} * code_bytes_per_token(f.head_dim, f.v_bits));
    }
    if (has_scales(f.v_bits)) reinterpret_cast<half_t *>(block + layout.v_scales)[token] = scale;
}

}  // namespace

KvCpuPlan::KvCpuPlan(CpuDevice &device, KvProblem problem)
    : problem_(std::move(problem)),
      layout_(block_layout(problem_.format)),
      pool_(device.pool()),
      kernels_(device.isa() >= Isa::kAvx512 ? kAvx512Kv : kScalarKv),
      hadamard_(hadamard_kernels(device.isa()).by_dtype[TARPON_F32]),
      rotation_(hadamard::decompose(problem_.format.head_dim)),
      tables_(problem_),
      rope_(tables_.view) {
    for (int pair = 0; pair < rope_.pairs; ++pair) {
        for (int t = 0; t < kKvTile; ++t) {
            step_cos_.push_back(rope_.low[t * rope_.pairs + pair].cos);
            step_sin_.push_back(rope_.low[t * rope_.pairs + pair].sin);
        }
    }
    mean_pairs_.resize(problem_.format.kv_heads);
    for (int head = 0; head < problem_.format.kv_heads && !problem_.k_mean.empty(); ++head) {
        const float *mean = problem_.mean(head);
        for (int pair = 0; pair < rope_.pairs; ++pair) {
            if (mean[rope_first(rope_, pair)] != 0 || mean[rope_second(rope_, pair)] != 0)
                mean_pairs_[head].push_back(pair);
        }
    }
}

void KvCpuPlan::rotate(float *x) const noexcept {
    const int head_dim = problem_.format.head_dim;
    hadamard_({x, x, 1, rotation_.power, rotation_.base, hadamard::base_rows(rotation_.base),
               static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)))});
}

void KvCpuPlan::append_token(const tarpon_kv_append_args &a, int64_t token) const noexcept {
    const Format &f = problem_.format;
    const int64_t slot = a.slots[token];
    if (slot < 0) return;
    const int position = a.positions[token], row = a.rows[token];
    const int place = static_cast<int>(slot % f.page_tokens);
    uint8_t *page = static_cast<uint8_t *>(a.pages) + slot / f.page_tokens * page_bytes(f);

    // The entry of the recent store, if the token is a sink or still within the ring.
    uint16_t *entry = nullptr;
    const int ring = kv_ring_tokens(problem_);
    const int64_t block = a.recent_index ? a.recent_index[row] : row;
    if (position < problem_.sink_tokens) {
        entry = static_cast<uint16_t *>(a.recent) + block * kv_recent_elems(problem_) +
                position * kv_recent_entry_elems(problem_);
    } else if (position >= a.lengths[row] - ring) {
        entry = static_cast<uint16_t *>(a.recent) + block * kv_recent_elems(problem_) +
                (problem_.sink_tokens + position % ring) * kv_recent_entry_elems(problem_);
    }

    for (int head = 0; head < f.kv_heads; ++head) {
        alignas(64) float k[kMaxHeadDim], v[kMaxHeadDim];
        const int64_t from = (token * f.kv_heads + head) * f.head_dim;
        const float *mean = problem_.mean(head);
        for (int i = 0; i < f.head_dim; ++i) {
            k[i] = load_elem(a.k, problem_.dtype, from + i);
            v[i] = load_elem(a.v, problem_.dtype, from + i);
        }
        if (!problem_.k_norm.empty())
            rms_norm(problem_.k_norm.data(), problem_.norm_eps, f.head_dim, k);
        for (int i = 0; mean && i < f.head_dim; ++i)
            k[i] -= mean[i];
        rope(rope_, position, k);
        rotate(k);
        rotate(v);
        uint8_t *to = page + int64_t{head} * layout_.bytes;
        store_k(f, layout_, place, k, to);
        store_v(f, layout_, place, v, to);
        if (!entry) continue;
        uint16_t *k_entry = entry + int64_t{2} * head * f.head_dim, *v_entry = k_entry + f.head_dim;
        for (int i = 0; i < f.head_dim; ++i) {
            k_entry[i] = saturate_half(k[i]).bits;
            v_entry[i] = saturate_half(v[i]).bits;
        }
    }
}

namespace {

// Names the first token whose place is out of range. Args is that of append or of dequantize.
template <class Args>
tarpon_status check_tokens(const KvProblem &problem, const char *call, const Args &args) noexcept {
    using ll = long long;
    const int64_t slots = args.page_count * problem.format.page_tokens;
    for (int64_t t = 0; t < args.tokens; ++t) {
        if (args.slots[t] < 0) continue;
        if (args.slots[t] >= slots || args.positions[t] < 0 ||
            args.positions[t] >= problem.max_tokens || args.rows[t] < 0 ||
            args.rows[t] >= args.batch || args.lengths[args.rows[t]] <= args.positions[t] ||
            (args.recent_index && args.recent_index[args.rows[t]] < 0)) {
            return set_error(
                TARPON_ERROR_INVALID_ARGUMENT,
                "kv %s: token %lld has slot %lld of %lld, position %d (max_tokens "
                "is %d), row %d of %lld; its sequence must be longer than its position",
                call, ll{t}, ll{args.slots[t]}, ll{slots}, args.positions[t], problem.max_tokens,
                args.rows[t], ll{args.batch});
        }
    }
    return TARPON_OK;
}

}  // namespace

tarpon_status KvCpuPlan::append(const tarpon_kv_append_args &args, const Stream *) const noexcept {
    const tarpon_status status = check_tokens(problem_, "append", args);
    if (status != TARPON_OK) return status;
    struct Context {
        const KvCpuPlan *plan;
        const tarpon_kv_append_args *args;
    } context{this, &args};
    pool_.run(
        args.tokens,
        [](const void *c, int64_t token) noexcept {
            const auto &context = *static_cast<const Context *>(c);
            context.plan->append_token(*context.args, token);
        },
        &context);
    return TARPON_OK;
}

tarpon_status KvCpuPlan::dequantize(const tarpon_kv_dequantize_args &args,
                                    const Stream *) const noexcept {
    const tarpon_status status = check_tokens(problem_, "dequantize", args);
    if (status != TARPON_OK) return status;
    struct Context {
        const KvCpuPlan *plan;
        const tarpon_kv_dequantize_args *args;
    } context{this, &args};
    pool_.run(
        args.tokens,
        [](const void *c, int64_t token) noexcept {
            const auto &context = *static_cast<const Context *>(c);
            kv_dequantize_token(context.plan->problem_, context.plan->tables_, *context.args,
                                token);
        },
        &context);
    return TARPON_OK;
}

}  // namespace tarpon::cpu
