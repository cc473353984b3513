// Append to the KV cache on the CPU. Codes are those of kv_cache/ref.h, bit for
// bit; only the packing is done by words here.
#include <algorithm>
#include <cstring>

#include "cpu/kv_plan.h"

namespace tarpon::cpu {

using namespace kv_cache;

namespace {

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

void store_ranges(const Format &f, int bits, int token, const Encoded &encoded, uint8_t *scales,
                  uint8_t *zeros) {
    for (int group = 0; has_scales(bits) && group < scale_groups(f); ++group) {
        const int at = scale_index(f, group, token);
        reinterpret_cast<half_t *>(scales)[at] = encoded.ranges[group].scale;
        if (f.scheme == Scheme::kRotatekv)
            reinterpret_cast<half_t *>(zeros)[at] = encoded.ranges[group].zero;
    }
}

void store_k(const Format &f, const BlockLayout &layout, int token, const float *x,
             uint8_t *block) {
    Encoded encoded;
    encode(f, f.k_bits, x, &encoded);
    uint8_t *plane = block + layout.k_codes;
    if (f.k_bits == 3) {
        pack_k_plane(encoded.codes, f.head_dim, 2, 0, token, plane);
        pack_k_plane(encoded.codes, f.head_dim, 1, 2, token,
                     plane + f.page_tokens * f.head_dim / 4);
    } else {
        pack_k_plane(encoded.codes, f.head_dim, f.k_bits, 0, token, plane);
    }
    store_ranges(f, f.k_bits, token, encoded, block + layout.k_scales, block + layout.k_zeros);
}

void store_v(const Format &f, const BlockLayout &layout, int token, const float *x,
             uint8_t *block) {
    Encoded encoded;
    encode(f, f.v_bits, x, &encoded);
    uint8_t *plane = block + layout.v_codes;
    if (f.v_bits == 16) {
        std::memcpy(plane + int64_t{token} * f.head_dim * 2, encoded.codes, f.head_dim * 2);
    } else if (f.v_bits == 3) {
        pack_v_row(encoded.codes, f.head_dim, 2, 0, plane + int64_t{token} * f.head_dim / 4);
        pack_v_row(encoded.codes, f.head_dim, 1, 2,
                   plane + (int64_t{2} * f.page_tokens + token) * f.head_dim / 8);
    } else {
        pack_v_row(encoded.codes, f.head_dim, f.v_bits, 0,
                   plane + int64_t{token} * code_bytes_per_token(f.head_dim, f.v_bits));
    }
    store_ranges(f, f.v_bits, token, encoded, block + layout.v_scales, block + layout.v_zeros);
}

void store_halves(const float *x, int count, uint16_t *to) {
    for (int i = 0; i < count; ++i)
        to[i] = saturate_half(x[i]).bits;
}

}  // namespace

void KvCpuPlan::append_keys(const tarpon_kv_append_args &a, int64_t token, uint8_t *page,
                            uint16_t *entry) const noexcept {
    const Format &f = problem_.format;
    const int channels = f.kv_heads * f.head_dim, position = a.positions[token];
    // Mode rotatekv: all keys before RoPE, rotated, since a stored head has channels of any.
    alignas(64) float all[kKvMaxRotatekvChannels];
    for (int head = 0; head < f.kv_heads; ++head) {
        alignas(64) float own[kMaxHeadDim];
        float *k = problem_.rotatekv() ? all + head * f.head_dim : own;
        for (int i = 0; i < f.head_dim; ++i)
            k[i] = load_elem(a.k, problem_.dtype, token * channels + head * f.head_dim + i);
        if (!problem_.k_norm.empty())
            rms_norm(problem_.k_norm.data(), problem_.norm_eps, f.head_dim, k);
        uint16_t *half = entry ? entry + int64_t{2} * head * f.head_dim : nullptr;
        if (problem_.rotatekv()) {
            if (!half) continue;
            std::copy_n(k, f.head_dim, own);
            rope(rope_, position, own);
            store_halves(own, f.head_dim, half);
            continue;
        }
        const float *mean = problem_.mean(head);
        for (int i = 0; mean && i < f.head_dim; ++i)
            k[i] -= mean[i];
        rope(rope_, position, k);
        rotate(k);
        store_k(f, layout_, static_cast<int>(a.slots[token] % f.page_tokens), k,
                page + int64_t{head} * layout_.bytes);
        if (half) store_halves(k, f.head_dim, half);
    }
    if (!problem_.rotatekv()) return;
    const int together = heads_a_task() * f.head_dim;
    for (int i = 0; i < channels; i += together)
        rotate(all + i, together, hadamard::decompose(together));
    for (int head = 0; head < f.kv_heads; ++head) {
        alignas(64) float stored[kMaxHeadDim];
        for (int i = 0; i < f.head_dim; ++i)
            stored[i] = all[problem_.k_order[head * f.head_dim + i]];
        store_k(f, layout_, static_cast<int>(a.slots[token] % f.page_tokens), stored,
                page + int64_t{head} * layout_.bytes);
    }
}

void KvCpuPlan::append_values(const tarpon_kv_append_args &a, int64_t token, uint8_t *page,
                              uint16_t *entry) const noexcept {
    const Format &f = problem_.format;
    for (int head = 0; head < f.kv_heads; ++head) {
        alignas(64) float v[kMaxHeadDim];
        for (int i = 0; i < f.head_dim; ++i)
            v[i] = load_elem(a.v, problem_.dtype, (token * f.kv_heads + head) * f.head_dim + i);
        rotate(v);
        store_v(f, layout_, static_cast<int>(a.slots[token] % f.page_tokens), v,
                page + int64_t{head} * layout_.bytes);
        if (entry) store_halves(v, f.head_dim, entry + (int64_t{2} * head + 1) * f.head_dim);
    }
}

void KvCpuPlan::append_token(const tarpon_kv_append_args &a, int64_t token) const noexcept {
    const Format &f = problem_.format;
    const int64_t slot = a.slots[token];
    if (slot < 0) return;
    const int position = a.positions[token], row = a.rows[token];
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
    append_keys(a, token, page, entry);
    append_values(a, token, page, entry);
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
