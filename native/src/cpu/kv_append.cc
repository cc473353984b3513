// Append to the KV cache on the CPU. Codes are those of kv_cache/ref.h, bit for bit.
#include <algorithm>
#include <cstring>

#include "cpu/kv_pack.h"
#include "cpu/kv_plan.h"

namespace tarpon::cpu {

using namespace kv_cache;

// The angles of RoPE at a token's position, for all its heads.
struct KvCpuPlan::Angles {
    float cos[kMaxHeadDim / 2], sin[kMaxHeadDim / 2];

    Angles(const RopeTables &rope, int position) {
        for (int pair = 0; pair < rope.pairs; ++pair) {
            const CosSin angle = rope_angle(rope, position, pair);
            cos[pair] = angle.cos;
            sin[pair] = angle.sin;
        }
    }
};

// A head's keys or values of a token.
void KvCpuPlan::load_head(const void *values, int64_t token, int head, float *x) const noexcept {
    const int count = problem_.format.head_dim;
    const int64_t from = (token * problem_.format.kv_heads + head) * count;
    if (problem_.dtype == TARPON_F32) {
        std::copy_n(static_cast<const float *>(values) + from, count, x);
    } else if (problem_.dtype == TARPON_F16) {
        encode_.load_halves(static_cast<const uint16_t *>(values) + from, count, x);
    } else {
        encode_.load_bfloats(static_cast<const uint16_t *>(values) + from, count, x);
    }
}

// Codes a head's transformed vector into its block of a page.
void KvCpuPlan::store_head(const float *x, bool key, int place, uint8_t *block) const noexcept {
    const Format &f = problem_.format;
    const int bits = key ? f.k_bits : f.v_bits;
    uint8_t *plane = block + (key ? layout_.k_codes : layout_.v_codes);
    if (bits == 16) {
        uint16_t halves[kMaxHeadDim];
        encode_.store_halves(
            x, f.head_dim,
            key ? halves : reinterpret_cast<uint16_t *>(plane) + int64_t{place} * f.head_dim);
        for (int w = 0; key && w < f.head_dim / 2; ++w) {
            std::memcpy(plane + 4 * k_word_index(f.head_dim, 16, place, w), halves + 2 * w,
                        sizeof(uint32_t));
        }
        return;
    }
    uint8_t codes[kMaxHeadDim];
    auto *scales =
        reinterpret_cast<uint16_t *>(block + (key ? layout_.k_scales : layout_.v_scales));
    auto *zeros = reinterpret_cast<uint16_t *>(block + (key ? layout_.k_zeros : layout_.v_zeros));
    const int count = group_channels(f);
    for (int group = 0; group < scale_groups(f); ++group) {
        const int at = scale_index(f, group, place);
        const KvEncodeArgs args{x + group * count,
                                count,
                                bits,
                                gaussian_step(bits),
                                rotatekv_clip(bits),
                                codes + group * count,
                                scales + at,
                                problem_.rotatekv() ? zeros + at : nullptr};
        problem_.rotatekv() ? encode_.range(args) : encode_.grid(args);
    }
    // Width 3: the lower two bits of all tokens, then the upper one of all.
    const int width = bits == 3 ? 2 : bits;
    const auto pack = [&](int plane_width, int shift, uint8_t *to) {
        if (key) {
            pack_k_plane(codes, f.head_dim, plane_width, shift, place, to);
        } else {
            pack_v_row(codes, f.head_dim, plane_width, shift,
                       to + int64_t{place} * code_bytes_per_token(f.head_dim, plane_width));
        }
    };
    pack(width, 0, plane);
    if (bits == 3) pack(1, 2, plane + f.page_tokens * f.head_dim / 4);
}

void KvCpuPlan::append_keys(const tarpon_kv_append_args &a, int64_t token, uint8_t *page,
                            uint16_t *entry) const noexcept {
    const Format &f = problem_.format;
    const int place = static_cast<int>(a.slots[token] % f.page_tokens);
    const Angles angles(rope_, a.positions[token]);
    const auto turn = [&](float *x) {
        encode_.rope(angles.cos, angles.sin, rope_.pairs, rope_.layout == RopeLayout::kHalf, x);
    };
    // Mode rotatekv: all keys before RoPE, rotated, since a stored head has channels of any.
    alignas(64) float all[kKvMaxRotatekvChannels];
    for (int head = 0; head < f.kv_heads; ++head) {
        alignas(64) float own[kMaxHeadDim];
        float *k = problem_.rotatekv() ? all + head * f.head_dim : own;
        load_head(a.k, token, head, k);
        if (!problem_.k_norm.empty())
            encode_.norm(problem_.k_norm.data(), problem_.norm_eps, f.head_dim, k);
        uint16_t *half = entry ? entry + int64_t{2} * head * f.head_dim : nullptr;
        if (problem_.rotatekv()) {
            if (!half) continue;
            std::copy_n(k, f.head_dim, own);
            turn(own);
            encode_.store_halves(own, f.head_dim, half);
            continue;
        }
        const float *mean = problem_.mean(head);
        for (int i = 0; mean && i < f.head_dim; ++i)
            k[i] -= mean[i];
        turn(k);
        rotate(k);
        store_head(k, true, place, page + int64_t{head} * layout_.bytes);
        if (half) encode_.store_halves(k, f.head_dim, half);
    }
    if (!problem_.rotatekv()) return;
    const int together = heads_a_task() * f.head_dim;
    for (int i = 0; i < f.kv_heads * f.head_dim; i += together)
        rotate(all + i, together, hadamard::decompose(together));
    for (int head = 0; head < f.kv_heads; ++head) {
        alignas(64) float stored[kMaxHeadDim];
        for (int i = 0; i < f.head_dim; ++i)
            stored[i] = all[problem_.k_order[head * f.head_dim + i]];
        store_head(stored, true, place, page + int64_t{head} * layout_.bytes);
    }
}

void KvCpuPlan::append_values(const tarpon_kv_append_args &a, int64_t token, uint8_t *page,
                              uint16_t *entry) const noexcept {
    const Format &f = problem_.format;
    for (int head = 0; head < f.kv_heads; ++head) {
        alignas(64) float v[kMaxHeadDim];
        load_head(a.v, token, head, v);
        rotate(v);
        store_head(v, false, static_cast<int>(a.slots[token] % f.page_tokens),
                   page + int64_t{head} * layout_.bytes);
        if (entry) {
            encode_.store_halves(v, f.head_dim, entry + (int64_t{2} * head + 1) * f.head_dim);
        }
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
    const int sink = KvSinks(problem_, a.sink_positions, row).place(position);
    if (sink >= 0) {
        entry = static_cast<uint16_t *>(a.recent) + block * kv_recent_elems(problem_) +
                sink * kv_recent_entry_elems(problem_);
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
    const tarpon_status status = check_kv_sinks(problem, call, args.sink_positions, args.batch);
    if (status != TARPON_OK) return status;
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
