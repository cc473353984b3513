/*
 * The C ABI as a C11 compiler sees it, as far as Java binds it: BindingTest compares every line with
 * the binding. It is also the proof that tarpon.h is C11 and that the library exports what the
 * header declares: a wrong type below does not compile, a missing function does not link. Alone:
 *     cmake --build <build> --target tarpon_abi_dump && <build>/test/tarpon_abi_dump
 *
 * Lines:
 *     constant <name> <value>
 *     struct <name> <size> <alignment>
 *     field <struct> <name> <offset> <size> <type>
 *     function <name> <result> <parameter>...
 * Types: void, i32, u32, i64, u64, f32, f64, char[], pointer[], pointer.
 */
#include <stdio.h>
#include <tarpon.h>

/* Every scalar of the ABI is listed; what remains are pointers. */
#define TYPE_NAME(type) \
    _Generic((type *)0,       \
        void *: "void",       \
        int32_t *: "i32",     \
        uint32_t *: "u32",    \
        int64_t *: "i64",     \
        uint64_t *: "u64",    \
        default: "pointer")
#define FIELD_TYPE_NAME(expression) \
    _Generic(expression,            \
        int32_t: "i32",             \
        uint32_t: "u32",            \
        int64_t: "i64",             \
        uint64_t: "u64",            \
        float: "f32",               \
        double: "f64",              \
        char *: "char[]",           \
        void **: "pointer[]",       \
        float **: "pointer[]",      \
        default: "pointer")
_Static_assert(_Generic((size_t)0, uint64_t : 1, default : 0), "size_t is printed as u64");

#define CONSTANT(name) printf("constant %s %lld\n", #name, (long long)(name))

#define STRUCT(name) printf("struct %s %zu %zu\n", #name, sizeof(name), _Alignof(name))
#define FIELD(record, field)                                                     \
    printf("field %s %s %zu %zu %s\n", #record, #field, offsetof(record, field), \
           sizeof(((record *)0)->field), FIELD_TYPE_NAME(((record *)0)->field))

#define PRINT_1(a) printf(" %s", TYPE_NAME(a))
#define PRINT_2(a, ...) PRINT_1(a), PRINT_1(__VA_ARGS__)
#define PRINT_3(a, ...) PRINT_1(a), PRINT_2(__VA_ARGS__)
#define PRINT_4(a, ...) PRINT_1(a), PRINT_3(__VA_ARGS__)
#define PRINT_5(a, ...) PRINT_1(a), PRINT_4(__VA_ARGS__)
#define PRINT_6(a, ...) PRINT_1(a), PRINT_5(__VA_ARGS__)
#define PRINT_7(a, ...) PRINT_1(a), PRINT_6(__VA_ARGS__)
#define PRINT_8(a, ...) PRINT_1(a), PRINT_7(__VA_ARGS__)
#define PRINT_9(a, ...) PRINT_1(a), PRINT_8(__VA_ARGS__)
#define PICK_10TH(a, b, c, d, e, f, g, h, i, j, ...) j
#define PRINT_ALL(...)                                                                             \
    PICK_10TH(__VA_ARGS__, PRINT_9, PRINT_8, PRINT_7, PRINT_6, PRINT_5, PRINT_4, PRINT_3, PRINT_2, \
              PRINT_1, none)                                                                       \
    (__VA_ARGS__)

/* The address goes through a volatile, or the compiler would drop it and the linker not look. */
#define FUNCTION(result, name, ...)                                              \
    do {                                                                         \
        _Static_assert(_Generic(&name, result(*)(__VA_ARGS__) : 1, default : 0), \
                       #name " is declared differently");                        \
        result (*volatile address)(__VA_ARGS__) = &name;                         \
        (void)address;                                                           \
        printf("function %s %s", #name, TYPE_NAME(result));                      \
        PRINT_ALL(__VA_ARGS__);                                                  \
        puts("");                                                                \
    } while (0)

static void print_constants(void) {
    CONSTANT(TARPON_VERSION_MAJOR);
    CONSTANT(TARPON_VERSION_MINOR);
    CONSTANT(TARPON_VERSION_PATCH);
    CONSTANT(TARPON_ABI_VERSION);

    CONSTANT(TARPON_OK);
    CONSTANT(TARPON_ERROR_INVALID_ARGUMENT);
    CONSTANT(TARPON_ERROR_UNSUPPORTED);
    CONSTANT(TARPON_ERROR_OUT_OF_MEMORY);
    CONSTANT(TARPON_ERROR_DEVICE_UNAVAILABLE);
    CONSTANT(TARPON_ERROR_CUDA);
    CONSTANT(TARPON_ERROR_INTERNAL);

    CONSTANT(TARPON_F32);
    CONSTANT(TARPON_F16);
    CONSTANT(TARPON_BF16);
    CONSTANT(TARPON_U8);
    CONSTANT(TARPON_I32);

    CONSTANT(TARPON_DEVICE_CPU);
    CONSTANT(TARPON_DEVICE_SIM);
    CONSTANT(TARPON_DEVICE_CUDA);

    CONSTANT(TARPON_WEIGHT_INT4);
    CONSTANT(TARPON_WEIGHT_INT8);
    CONSTANT(TARPON_WEIGHT_FP8_E4M3);
    CONSTANT(TARPON_ZERO_SYMMETRIC);
    CONSTANT(TARPON_ZERO_INTEGER);
    CONSTANT(TARPON_ZERO_FLOAT);
    CONSTANT(TARPON_SCALE_F16);
    CONSTANT(TARPON_SCALE_BF16);
    CONSTANT(TARPON_SCALE_F32);
    CONSTANT(TARPON_SPARSITY_NONE);
    CONSTANT(TARPON_SPARSITY_2_4);
    CONSTANT(TARPON_LINEAR_FAST);
    CONSTANT(TARPON_LINEAR_DETERMINISTIC);
    CONSTANT(TARPON_LAYOUT_PLAIN);
    CONSTANT(TARPON_LAYOUT_MARLIN);
    CONSTANT(TARPON_LAYOUT_GPTQ);
    CONSTANT(TARPON_LAYOUT_GPTQ_V2);
    CONSTANT(TARPON_LAYOUT_AWQ);
    CONSTANT(TARPON_LAYOUT_GGUF_Q4_0);
    CONSTANT(TARPON_LAYOUT_GGUF_Q4_1);
    CONSTANT(TARPON_LAYOUT_GGUF_Q8_0);
    CONSTANT(TARPON_LAYOUT_GGUF_Q4_K);
    CONSTANT(TARPON_ARITHMETIC_EXACT);
    CONSTANT(TARPON_ARITHMETIC_INT8_ACTIVATIONS);

    CONSTANT(TARPON_MAP_DYNAMIC_SIGNED);
    CONSTANT(TARPON_MAP_DYNAMIC_UNSIGNED);
    CONSTANT(TARPON_MAP_LINEAR_INT8);
    CONSTANT(TARPON_MAP_FP8_E4M3);
    CONSTANT(TARPON_MAP_DYNAMIC4);
    CONSTANT(TARPON_MAP_NF4);

    CONSTANT(TARPON_OPTIM_ADAM);
    CONSTANT(TARPON_OPTIM_ADAMW);
    CONSTANT(TARPON_OPTIM_SGD);
    CONSTANT(TARPON_OPTIM_RMSPROP);
    CONSTANT(TARPON_OPTIM_ADAGRAD);
    CONSTANT(TARPON_OPTIM_LION);
    CONSTANT(TARPON_OPTIM_ADEMAMIX);
    CONSTANT(TARPON_OPTIM_LAMB);
    CONSTANT(TARPON_OPTIM_LARS);
    CONSTANT(TARPON_OPTIM_ADABELIEF);
    CONSTANT(TARPON_OPTIM_SOPHIAG);
    CONSTANT(TARPON_OPTIM_SCALE);

    CONSTANT(TARPON_STATE_F32);
    CONSTANT(TARPON_STATE_DYNAMIC8);
    CONSTANT(TARPON_STATE_FP8);
    CONSTANT(TARPON_OPTIM_MIN_QUANTIZED_ELEMS);

    CONSTANT(TARPON_TENSOR_MOMENTUM);

    CONSTANT(TARPON_STEP_NESTEROV);
    CONSTANT(TARPON_STEP_SKIP_NONFINITE);
    CONSTANT(TARPON_STEP_STOCHASTIC_PARAMS);
    CONSTANT(TARPON_STEP_STOCHASTIC_STATES);

    CONSTANT(TARPON_KV_MODE_TARPON);
    CONSTANT(TARPON_KV_MODE_ROTATEKV);
    CONSTANT(TARPON_ROPE_HALF);
    CONSTANT(TARPON_ROPE_INTERLEAVED);
}

static void print_structs(void) {
    STRUCT(tarpon_device_options);
    FIELD(tarpon_device_options, struct_size);
    FIELD(tarpon_device_options, thread_count);

    STRUCT(tarpon_device_info);
    FIELD(tarpon_device_info, struct_size);
    FIELD(tarpon_device_info, kind);
    FIELD(tarpon_device_info, ordinal);
    FIELD(tarpon_device_info, compute_capability);
    FIELD(tarpon_device_info, processor_count);
    FIELD(tarpon_device_info, reserved);
    FIELD(tarpon_device_info, memory_bytes);
    FIELD(tarpon_device_info, name);
    FIELD(tarpon_device_info, isa);

    STRUCT(tarpon_linear_desc);
    FIELD(tarpon_linear_desc, struct_size);
    FIELD(tarpon_linear_desc, weight_type);
    FIELD(tarpon_linear_desc, in_features);
    FIELD(tarpon_linear_desc, out_features);
    FIELD(tarpon_linear_desc, group_size);
    FIELD(tarpon_linear_desc, activation_dtype);
    FIELD(tarpon_linear_desc, variant);
    FIELD(tarpon_linear_desc, arithmetic);
    FIELD(tarpon_linear_desc, zero_type);
    FIELD(tarpon_linear_desc, scale_type);
    FIELD(tarpon_linear_desc, sparsity);
    FIELD(tarpon_linear_desc, mode);
    FIELD(tarpon_linear_desc, reserved);

    STRUCT(tarpon_linear_weights);
    FIELD(tarpon_linear_weights, struct_size);
    FIELD(tarpon_linear_weights, layout);
    FIELD(tarpon_linear_weights, qweight);
    FIELD(tarpon_linear_weights, qweight_bytes);
    FIELD(tarpon_linear_weights, scales);
    FIELD(tarpon_linear_weights, scales_bytes);
    FIELD(tarpon_linear_weights, zeros);
    FIELD(tarpon_linear_weights, zeros_bytes);
    FIELD(tarpon_linear_weights, bias);
    FIELD(tarpon_linear_weights, bias_bytes);
    FIELD(tarpon_linear_weights, g_idx);
    FIELD(tarpon_linear_weights, g_idx_bytes);
    FIELD(tarpon_linear_weights, out_features);

    STRUCT(tarpon_linear_info);
    FIELD(tarpon_linear_info, struct_size);
    FIELD(tarpon_linear_info, reserved);
    FIELD(tarpon_linear_info, weights_bytes);
    FIELD(tarpon_linear_info, variant);

    STRUCT(tarpon_optim_tensor);
    FIELD(tarpon_optim_tensor, struct_size);
    FIELD(tarpon_optim_tensor, flags);
    FIELD(tarpon_optim_tensor, param_dtype);
    FIELD(tarpon_optim_tensor, grad_dtype);
    FIELD(tarpon_optim_tensor, copy_dtype);
    FIELD(tarpon_optim_tensor, state_format);
    FIELD(tarpon_optim_tensor, n);
    FIELD(tarpon_optim_tensor, columns);
    FIELD(tarpon_optim_tensor, lr_factor);
    FIELD(tarpon_optim_tensor, decay_factor);
    FIELD(tarpon_optim_tensor, param);
    FIELD(tarpon_optim_tensor, grad);
    FIELD(tarpon_optim_tensor, copy);
    FIELD(tarpon_optim_tensor, state);
    FIELD(tarpon_optim_tensor, absmax);

    STRUCT(tarpon_optim_desc);
    FIELD(tarpon_optim_desc, struct_size);
    FIELD(tarpon_optim_desc, rule);
    FIELD(tarpon_optim_desc, tensor_count);
    FIELD(tarpon_optim_desc, tensors);
    FIELD(tarpon_optim_desc, variant);

    STRUCT(tarpon_optim_step_args);
    FIELD(tarpon_optim_step_args, struct_size);
    FIELD(tarpon_optim_step_args, flags);
    FIELD(tarpon_optim_step_args, lr);
    FIELD(tarpon_optim_step_args, beta1);
    FIELD(tarpon_optim_step_args, beta2);
    FIELD(tarpon_optim_step_args, beta3);
    FIELD(tarpon_optim_step_args, alpha);
    FIELD(tarpon_optim_step_args, momentum);
    FIELD(tarpon_optim_step_args, eps);
    FIELD(tarpon_optim_step_args, weight_decay);
    FIELD(tarpon_optim_step_args, trust_coefficient);
    FIELD(tarpon_optim_step_args, gamma);
    FIELD(tarpon_optim_step_args, hessian_scale);
    FIELD(tarpon_optim_step_args, grad_multiplier);
    FIELD(tarpon_optim_step_args, max_grad_norm);
    FIELD(tarpon_optim_step_args, seed);
    FIELD(tarpon_optim_step_args, device_lr);
    FIELD(tarpon_optim_step_args, device_grad_multiplier);

    STRUCT(tarpon_optim_counters);
    FIELD(tarpon_optim_counters, struct_size);
    FIELD(tarpon_optim_counters, reserved);
    FIELD(tarpon_optim_counters, step);
    FIELD(tarpon_optim_counters, skipped_steps);
    FIELD(tarpon_optim_counters, skipped_blocks);
    FIELD(tarpon_optim_counters, grad_norm);

    STRUCT(tarpon_optim_info);
    FIELD(tarpon_optim_info, struct_size);
    FIELD(tarpon_optim_info, reserved);
    FIELD(tarpon_optim_info, workspace_bytes);
    FIELD(tarpon_optim_info, variant);

    STRUCT(tarpon_kv_desc);
    FIELD(tarpon_kv_desc, struct_size);
    FIELD(tarpon_kv_desc, mode);
    FIELD(tarpon_kv_desc, head_dim);
    FIELD(tarpon_kv_desc, q_heads);
    FIELD(tarpon_kv_desc, kv_heads);
    FIELD(tarpon_kv_desc, page_tokens);
    FIELD(tarpon_kv_desc, k_bits);
    FIELD(tarpon_kv_desc, v_bits);
    FIELD(tarpon_kv_desc, sink_tokens);
    FIELD(tarpon_kv_desc, window_tokens);
    FIELD(tarpon_kv_desc, dtype);
    FIELD(tarpon_kv_desc, rope_dim);
    FIELD(tarpon_kv_desc, rope_layout);
    FIELD(tarpon_kv_desc, max_tokens);
    FIELD(tarpon_kv_desc, sliding_window);
    FIELD(tarpon_kv_desc, reserved);
    FIELD(tarpon_kv_desc, rope_theta);
    FIELD(tarpon_kv_desc, rope_scaling);
    FIELD(tarpon_kv_desc, score_scale);
    FIELD(tarpon_kv_desc, softcap);

    STRUCT(tarpon_kv_info);
    FIELD(tarpon_kv_info, struct_size);
    FIELD(tarpon_kv_info, format_version);
    FIELD(tarpon_kv_info, page_bytes);
    FIELD(tarpon_kv_info, recent_bytes);
    FIELD(tarpon_kv_info, bits_per_value);
    FIELD(tarpon_kv_info, variant);

    STRUCT(tarpon_kv_calibration);
    FIELD(tarpon_kv_calibration, struct_size);
    FIELD(tarpon_kv_calibration, norm_eps);
    FIELD(tarpon_kv_calibration, k_mean);
    FIELD(tarpon_kv_calibration, k_order);
    FIELD(tarpon_kv_calibration, q_norm);
    FIELD(tarpon_kv_calibration, k_norm);

    STRUCT(tarpon_kv_append_args);
    FIELD(tarpon_kv_append_args, struct_size);
    FIELD(tarpon_kv_append_args, reserved);
    FIELD(tarpon_kv_append_args, k);
    FIELD(tarpon_kv_append_args, v);
    FIELD(tarpon_kv_append_args, tokens);
    FIELD(tarpon_kv_append_args, slots);
    FIELD(tarpon_kv_append_args, positions);
    FIELD(tarpon_kv_append_args, rows);
    FIELD(tarpon_kv_append_args, batch);
    FIELD(tarpon_kv_append_args, lengths);
    FIELD(tarpon_kv_append_args, recent_index);
    FIELD(tarpon_kv_append_args, pages);
    FIELD(tarpon_kv_append_args, page_count);
    FIELD(tarpon_kv_append_args, recent);
    FIELD(tarpon_kv_append_args, sink_positions);

    STRUCT(tarpon_kv_attend_args);
    FIELD(tarpon_kv_attend_args, struct_size);
    FIELD(tarpon_kv_attend_args, queries);
    FIELD(tarpon_kv_attend_args, q);
    FIELD(tarpon_kv_attend_args, o);
    FIELD(tarpon_kv_attend_args, batch);
    FIELD(tarpon_kv_attend_args, page_table);
    FIELD(tarpon_kv_attend_args, table_stride);
    FIELD(tarpon_kv_attend_args, lengths);
    FIELD(tarpon_kv_attend_args, max_length);
    FIELD(tarpon_kv_attend_args, recent_index);
    FIELD(tarpon_kv_attend_args, pages);
    FIELD(tarpon_kv_attend_args, page_count);
    FIELD(tarpon_kv_attend_args, recent);
    FIELD(tarpon_kv_attend_args, workspace);
    FIELD(tarpon_kv_attend_args, workspace_bytes);
    FIELD(tarpon_kv_attend_args, sink_positions);

    STRUCT(tarpon_kv_dequantize_args);
    FIELD(tarpon_kv_dequantize_args, struct_size);
    FIELD(tarpon_kv_dequantize_args, reserved);
    FIELD(tarpon_kv_dequantize_args, k);
    FIELD(tarpon_kv_dequantize_args, v);
    FIELD(tarpon_kv_dequantize_args, tokens);
    FIELD(tarpon_kv_dequantize_args, slots);
    FIELD(tarpon_kv_dequantize_args, positions);
    FIELD(tarpon_kv_dequantize_args, rows);
    FIELD(tarpon_kv_dequantize_args, batch);
    FIELD(tarpon_kv_dequantize_args, lengths);
    FIELD(tarpon_kv_dequantize_args, recent_index);
    FIELD(tarpon_kv_dequantize_args, pages);
    FIELD(tarpon_kv_dequantize_args, page_count);
    FIELD(tarpon_kv_dequantize_args, recent);
    FIELD(tarpon_kv_dequantize_args, sink_positions);
}

static void print_functions(void) {
    FUNCTION(const char *, tarpon_version, void);
    FUNCTION(int32_t, tarpon_abi_version, void);
    FUNCTION(const char *, tarpon_status_name, int32_t);
    FUNCTION(const char *, tarpon_last_error, void);

    FUNCTION(int32_t, tarpon_device_count, int32_t, int32_t *);
    FUNCTION(int32_t, tarpon_device_unavailable_reason, int32_t, char *, size_t);
    FUNCTION(int32_t, tarpon_device_open, int32_t, int32_t, const tarpon_device_options *,
             tarpon_device **);
    FUNCTION(int32_t, tarpon_device_get_info, const tarpon_device *, tarpon_device_info *);
    FUNCTION(void, tarpon_device_close, tarpon_device *);

    FUNCTION(int32_t, tarpon_stream_create, tarpon_device *, tarpon_stream **);
    FUNCTION(int32_t, tarpon_stream_wrap, tarpon_device *, void *, tarpon_stream **);
    FUNCTION(int32_t, tarpon_stream_synchronize, tarpon_stream *);
    FUNCTION(void, tarpon_stream_destroy, tarpon_stream *);

    FUNCTION(int32_t, tarpon_buffer_create, tarpon_device *, size_t, tarpon_buffer **);
    FUNCTION(int32_t, tarpon_buffer_wrap, tarpon_device *, void *, size_t, tarpon_buffer **);
    FUNCTION(void *, tarpon_buffer_address, const tarpon_buffer *);
    FUNCTION(size_t, tarpon_buffer_size_bytes, const tarpon_buffer *);
    FUNCTION(void, tarpon_buffer_destroy, tarpon_buffer *);
    FUNCTION(int32_t, tarpon_copy_to_device, tarpon_device *, void *, const void *, size_t,
             tarpon_stream *);
    FUNCTION(int32_t, tarpon_copy_to_host, tarpon_device *, void *, const void *, size_t,
             tarpon_stream *);

    FUNCTION(int32_t, tarpon_w4_quantize, const void *, int32_t, int64_t, int64_t, int32_t,
             uint8_t *, uint16_t *);
    FUNCTION(int32_t, tarpon_w4_dequantize, const uint8_t *, const uint16_t *, int64_t, int64_t,
             int32_t, float *);
    FUNCTION(int32_t, tarpon_marlin_size, int64_t, int64_t, int32_t, size_t *, size_t *);
    FUNCTION(int32_t, tarpon_marlin_pack, const uint8_t *, const uint16_t *, int64_t, int64_t,
             int32_t, int32_t *, uint16_t *);
    FUNCTION(int32_t, tarpon_marlin_unpack, const int32_t *, const uint16_t *, int64_t, int64_t,
             int32_t, uint8_t *, uint16_t *);

    FUNCTION(int32_t, tarpon_linear_desc_for_layout, tarpon_weight_layout, tarpon_linear_desc *);
    FUNCTION(int32_t, tarpon_weights_unpack, const tarpon_linear_desc *,
             const tarpon_linear_weights *, uint8_t *, void *, void *);
    FUNCTION(int32_t, tarpon_weights_dequantize, const tarpon_linear_desc *,
             const tarpon_linear_weights *, float *);
    FUNCTION(int32_t, tarpon_weights_quantize, const tarpon_linear_desc *, const void *, int32_t,
             uint8_t *, void *, void *);
    FUNCTION(int32_t, tarpon_prune_2_4, const void *, int32_t, int64_t, int64_t, void *);
    FUNCTION(int32_t, tarpon_linear_create, tarpon_device *, const tarpon_linear_desc *,
             const tarpon_linear_weights *, tarpon_linear **);
    FUNCTION(int32_t, tarpon_linear_create_fused, tarpon_device *, const tarpon_linear_desc *,
             const tarpon_linear_weights *, int32_t, tarpon_linear **);
    FUNCTION(int32_t, tarpon_linear_workspace_bytes, const tarpon_linear *, int64_t, size_t *);
    FUNCTION(int32_t, tarpon_linear_run, const tarpon_linear *, const void *, void *, int64_t,
             void *, size_t, tarpon_stream *);
    FUNCTION(int32_t, tarpon_linear_run_residual, const tarpon_linear *, const void *, const void *,
             void *, int64_t, void *, size_t, tarpon_stream *);
    FUNCTION(int32_t, tarpon_linear_get_info, const tarpon_linear *, tarpon_linear_info *);
    FUNCTION(int32_t, tarpon_linear_explain, const tarpon_linear_desc *, int64_t, int32_t, int32_t,
             char *, size_t, size_t *);
    FUNCTION(void, tarpon_linear_destroy, tarpon_linear *);

    FUNCTION(int32_t, tarpon_hadamard_run, tarpon_device *, const void *, void *, int64_t, int64_t,
             int32_t, tarpon_stream *);
    FUNCTION(int32_t, tarpon_code_map_values, int32_t, float *);
    FUNCTION(int32_t, tarpon_blockwise_quantize, tarpon_device *, const void *, int32_t, int64_t,
             int32_t, int64_t, uint8_t *, float *, tarpon_stream *);
    FUNCTION(int32_t, tarpon_blockwise_dequantize, tarpon_device *, const uint8_t *, const float *,
             int64_t, int32_t, int64_t, void *, int32_t, tarpon_stream *);

    FUNCTION(int32_t, tarpon_optim_state_bytes, int32_t, int32_t, int32_t, int64_t, int32_t,
             size_t *, size_t *);
    FUNCTION(int32_t, tarpon_optim_default_args, int32_t, tarpon_optim_step_args *);
    FUNCTION(int32_t, tarpon_optim_create, tarpon_device *, const tarpon_optim_desc *,
             tarpon_optim **);
    FUNCTION(int32_t, tarpon_optim_step, tarpon_optim *, const tarpon_optim_step_args *,
             tarpon_stream *);
    FUNCTION(int32_t, tarpon_optim_refresh_hessian, tarpon_optim *, const tarpon_optim_step_args *,
             tarpon_stream *);
    FUNCTION(int32_t, tarpon_optim_get_counters, const tarpon_optim *, tarpon_optim_counters *,
             tarpon_stream *);
    FUNCTION(int32_t, tarpon_optim_set_counters, tarpon_optim *, const tarpon_optim_counters *,
             tarpon_stream *);
    FUNCTION(int32_t, tarpon_optim_get_info, const tarpon_optim *, tarpon_optim_info *);
    FUNCTION(void, tarpon_optim_destroy, tarpon_optim *);

    FUNCTION(int32_t, tarpon_kv_create, tarpon_device *, const tarpon_kv_desc *,
             const tarpon_kv_calibration *, tarpon_kv **);
    FUNCTION(int32_t, tarpon_kv_get_info, const tarpon_kv *, tarpon_kv_info *);
    FUNCTION(int32_t, tarpon_kv_workspace_bytes, const tarpon_kv *, int64_t, int32_t, int64_t,
             size_t *);
    FUNCTION(int32_t, tarpon_kv_append, const tarpon_kv *, const tarpon_kv_append_args *,
             tarpon_stream *);
    FUNCTION(int32_t, tarpon_kv_attend, const tarpon_kv *, const tarpon_kv_attend_args *,
             tarpon_stream *);
    FUNCTION(int32_t, tarpon_kv_dequantize, const tarpon_kv *, const tarpon_kv_dequantize_args *,
             tarpon_stream *);
    FUNCTION(void, tarpon_kv_destroy, tarpon_kv *);
}

int main(void) {
    print_constants();
    print_structs();
    print_functions();
    return 0;
}
