// extern "C" of the Hadamard transform and the KV cache: check pointers, call, return a status.
#include "abi_guard.h"
#include "hadamard.h"
#include "kv_cache.h"

using tarpon::fail;
using tarpon::abi::guarded;
using tarpon::abi::impl_or_null;
using tarpon::abi::read_struct;
using tarpon::abi::required;
using tarpon::abi::write_struct;

struct tarpon_kv {
    tarpon::KvProblem problem;
    std::unique_ptr<tarpon::KvPlan> impl;
};

namespace {

// Reads the arguments of a run without leaving the path that neither throws nor allocates, for
// callers whose struct is this library's.
template <class Args>
tarpon_status read_args(const Args *given, const char *name, Args &out) noexcept {
    if (given && given->struct_size == sizeof(Args)) {
        out = *given;
        return TARPON_OK;
    }
    return guarded([&] { out = read_struct(given, name); });
}

}  // namespace

extern "C" {

tarpon_status tarpon_hadamard_run(tarpon_device *device, const void *x, void *y, int64_t rows,
                                  int64_t n, tarpon_dtype dtype, tarpon_stream *stream) {
    if (!device) return tarpon::set_error(TARPON_ERROR_INVALID_ARGUMENT, "device is NULL");
    return tarpon::hadamard_run(*device->impl, x, y, rows, n, dtype, impl_or_null(stream));
}

tarpon_status tarpon_kv_create(tarpon_device *device, const tarpon_kv_desc *desc,
                               const tarpon_kv_calibration *calibration, tarpon_kv **out_kv) {
    return guarded([&] {
        required(device, "device");
        required(out_kv, "out_kv");
        const tarpon_kv_desc known_desc = read_struct(desc, "desc");
        tarpon_kv_calibration known{};
        if (calibration) known = read_struct(calibration, "calibration");
        auto kv = std::make_unique<tarpon_kv>();
        kv->problem = tarpon::checked_kv_problem(known_desc, calibration ? &known : nullptr);
        kv->impl = device->impl->create_kv(kv->problem);
        *out_kv = kv.release();
    });
}

tarpon_status tarpon_kv_get_info(const tarpon_kv *kv, tarpon_kv_info *out_info) {
    return guarded([&] {
        required(kv, "kv");
        tarpon_kv_info info{};
        info.format_version = tarpon::kv_cache::format_version(kv->problem.format.scheme);
        info.page_bytes = tarpon::kv_cache::page_bytes(kv->problem.format);
        info.recent_bytes = 2 * static_cast<uint64_t>(tarpon::kv_recent_elems(kv->problem));
        info.bits_per_value = tarpon::kv_cache::bits_per_value(kv->problem.format);
        std::strncpy(info.variant, kv->impl->variant(), sizeof info.variant - 1);
        write_struct(info, out_info, "out_info");
    });
}

tarpon_status tarpon_kv_workspace_bytes(const tarpon_kv *kv, int64_t batch, int32_t queries,
                                        int64_t max_length, size_t *out_bytes) {
    return guarded([&] {
        required(kv, "kv");
        required(out_bytes, "out_bytes");
        const int64_t longest = kv->problem.max_tokens;
        if (batch < 0 || batch > (int64_t{1} << 24) || queries < 1 ||
            queries > tarpon::kKvMaxQueries || max_length < 0 || max_length > longest) {
            fail(TARPON_ERROR_INVALID_ARGUMENT,
                 "batch is %lld, queries %d, max_length %lld; they must be 0..2^24, 1..%d and "
                 "0..%lld",
                 static_cast<long long>(batch), queries, static_cast<long long>(max_length),
                 tarpon::kKvMaxQueries, static_cast<long long>(longest));
        }
        *out_bytes = kv->impl->workspace_bytes(batch, queries, max_length);
    });
}

tarpon_status tarpon_kv_append(const tarpon_kv *kv, const tarpon_kv_append_args *args,
                               tarpon_stream *stream) {
    if (!kv) return tarpon::set_error(TARPON_ERROR_INVALID_ARGUMENT, "kv is NULL");
    tarpon_kv_append_args known{};
    tarpon_status status = read_args(args, "args", known);
    if (status == TARPON_OK) status = tarpon::check_kv_append(kv->problem, known);
    if (status != TARPON_OK || known.tokens == 0) return status;
    return kv->impl->append(known, impl_or_null(stream));
}

tarpon_status tarpon_kv_attend(const tarpon_kv *kv, const tarpon_kv_attend_args *args,
                               tarpon_stream *stream) {
    if (!kv) return tarpon::set_error(TARPON_ERROR_INVALID_ARGUMENT, "kv is NULL");
    tarpon_kv_attend_args known{};
    tarpon_status status = read_args(args, "args", known);
    if (status == TARPON_OK) status = tarpon::check_kv_attend(kv->problem, *kv->impl, known);
    if (status != TARPON_OK || known.batch == 0) return status;
    return kv->impl->attend(known, impl_or_null(stream));
}

tarpon_status tarpon_kv_dequantize(const tarpon_kv *kv, const tarpon_kv_dequantize_args *args,
                                   tarpon_stream *stream) {
    if (!kv) return tarpon::set_error(TARPON_ERROR_INVALID_ARGUMENT, "kv is NULL");
    tarpon_kv_dequantize_args known{};
    tarpon_status status = read_args(args, "args", known);
    if (status == TARPON_OK) status = tarpon::check_kv_dequantize(kv->problem, known);
    if (status != TARPON_OK || known.tokens == 0) return status;
    return kv->impl->dequantize(known, impl_or_null(stream));
}

void tarpon_kv_destroy(tarpon_kv *kv) {
    delete kv;
}

}  // extern "C"
