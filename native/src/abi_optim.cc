// extern "C" of block-wise quantisation and of the optimizers: check pointers, call, turn every
// failure into a status.
#include <cstring>

#include "abi_guard.h"
#include "optim.h"

struct tarpon_optim {
    std::unique_ptr<tarpon::OptimPlan> impl;
    tarpon::optim::Rule rule;
    const char *variant;
};

namespace {

using namespace tarpon::abi;

void check(tarpon_status status) {
    // The device has set the message already; repeat it, since guarded() sets its own.
    if (status != TARPON_OK) throw tarpon::Error(status, tarpon::last_error());
}

}  // namespace

extern "C" {

tarpon_status tarpon_code_map_values(tarpon_code_map map, float out_values[256]) {
    return guarded([&] {
        required(out_values, "out_values");
        std::memcpy(out_values, tarpon::code_map_values(map), 256 * sizeof(float));
    });
}

tarpon_status tarpon_blockwise_quantize(tarpon_device *device, const void *x, tarpon_dtype dtype,
                                        int64_t n, tarpon_code_map map, int64_t block_size,
                                        uint8_t *codes, float *absmax, tarpon_stream *stream) {
    return guarded([&] {
        required(device, "device");
        const auto args = tarpon::checked_blockwise(x, dtype, n, map, block_size, codes, absmax,
                                                    impl_or_null(stream));
        if (n > 0) check(device->impl->blockwise_quantize(args));
    });
}

tarpon_status tarpon_blockwise_dequantize(tarpon_device *device, const uint8_t *codes,
                                          const float *absmax, int64_t n, tarpon_code_map map,
                                          int64_t block_size, void *y, tarpon_dtype dtype,
                                          tarpon_stream *stream) {
    return guarded([&] {
        required(device, "device");
        const auto args = tarpon::checked_blockwise(y, dtype, n, map, block_size, codes, absmax,
                                                    impl_or_null(stream));
        if (n > 0) check(device->impl->blockwise_dequantize(args));
    });
}

tarpon_status tarpon_optim_state_bytes(tarpon_optim_rule rule, tarpon_state_format format,
                                       int32_t flags, int64_t n, int32_t slot,
                                       size_t *out_state_bytes, size_t *out_absmax_bytes) {
    return guarded([&] {
        required(out_state_bytes, "out_state_bytes");
        required(out_absmax_bytes, "out_absmax_bytes");
        tarpon::optim_state_bytes(rule, format, flags, n, slot, out_state_bytes, out_absmax_bytes);
    });
}

tarpon_status tarpon_optim_default_args(tarpon_optim_rule rule, tarpon_optim_step_args *out_args) {
    return guarded([&] { write_struct(tarpon::default_step_args(rule), out_args, "out_args"); });
}

tarpon_status tarpon_optim_create(tarpon_device *device, const tarpon_optim_desc *desc,
                                  tarpon_optim **out_optim) {
    return guarded([&] {
        required(device, "device");
        required(out_optim, "out_optim");
        const tarpon_optim_desc known = read_struct(desc, "desc");
        auto optim = std::make_unique<tarpon_optim>();
        optim->impl = tarpon::create_optim(*device->impl, known, &optim->variant, &optim->rule);
        *out_optim = optim.release();
    });
}

tarpon_status tarpon_optim_step(tarpon_optim *optim, const tarpon_optim_step_args *args,
                                tarpon_stream *stream) {
    return guarded([&] {
        required(optim, "optim");
        const auto scalars = tarpon::checked_scalars(optim->rule, read_struct(args, "args"));
        check(optim->impl->step(scalars, impl_or_null(stream)));
    });
}

tarpon_status tarpon_optim_refresh_hessian(tarpon_optim *optim, const tarpon_optim_step_args *args,
                                           tarpon_stream *stream) {
    return guarded([&] {
        required(optim, "optim");
        if (optim->rule != tarpon::optim::Rule::kSophiaG) {
            tarpon::fail(TARPON_ERROR_INVALID_ARGUMENT,
                         "tarpon_optim_refresh_hessian() is for SOPHIAG (10), and the rule is %d",
                         static_cast<int>(optim->rule));
        }
        const auto scalars = tarpon::checked_scalars(optim->rule, read_struct(args, "args"));
        check(optim->impl->refresh_hessian(scalars, impl_or_null(stream)));
    });
}

tarpon_status tarpon_optim_get_counters(const tarpon_optim *optim,
                                        tarpon_optim_counters *out_counters,
                                        tarpon_stream *stream) {
    return guarded([&] {
        required(optim, "optim");
        const tarpon::optim::Control control = optim->impl->read_control(impl_or_null(stream));
        tarpon_optim_counters counters{};
        counters.step = control.step;
        counters.skipped_steps = control.skipped_steps;
        counters.skipped_blocks = control.skipped_blocks;
        counters.grad_norm = control.grad_norm;
        write_struct(counters, out_counters, "out_counters");
    });
}

tarpon_status tarpon_optim_set_counters(tarpon_optim *optim, const tarpon_optim_counters *counters,
                                        tarpon_stream *stream) {
    return guarded([&] {
        required(optim, "optim");
        const tarpon_optim_counters known = read_struct(counters, "counters");
        if (known.step < 0 || known.skipped_steps < 0 || known.skipped_blocks < 0) {
            tarpon::fail(TARPON_ERROR_INVALID_ARGUMENT,
                         "counters: step %lld, skipped_steps %lld and skipped_blocks %lld must be "
                         ">= 0",
                         static_cast<long long>(known.step),
                         static_cast<long long>(known.skipped_steps),
                         static_cast<long long>(known.skipped_blocks));
        }
        optim->impl->write_control(
            {known.step, known.skipped_steps, known.skipped_blocks, known.grad_norm},
            impl_or_null(stream));
    });
}

tarpon_status tarpon_optim_get_info(const tarpon_optim *optim, tarpon_optim_info *out_info) {
    return guarded([&] {
        required(optim, "optim");
        tarpon_optim_info info{};
        info.workspace_bytes = optim->impl->workspace_bytes();
        std::strncpy(info.variant, optim->variant, sizeof info.variant - 1);
        write_struct(info, out_info, "out_info");
    });
}

void tarpon_optim_destroy(tarpon_optim *optim) {
    delete optim;
}

}  // extern "C"
