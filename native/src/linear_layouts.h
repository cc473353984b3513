// From the layouts of tarpon_weight_layout to plain order, one part of a plan at a time.
#pragma once

#include <cstdint>

#include "linear_format.h"

namespace tarpon {

// Where codes go: row r of a part's input rows to a row of a matrix that may be wider (fused parts)
// and in another order (act-order).
struct CodeMatrix {
    uint8_t *data;
    int64_t stride;
    const int32_t *row_of_input;  // [K], or null for the identity

    uint8_t *row(int64_t r) const { return data + (row_of_input ? row_of_input[r] : r) * stride; }
};

// Where scales and zeros go: rows of G, `stride` elements apart.
struct PlainPart {
    CodeMatrix codes;
    void *scales;
    void *zeros;  // null if symmetric
    int64_t stride;
};

// One part with its shape; `name` is how messages call its fields, such as "weights->".
struct LinearPart {
    const tarpon_linear_weights &weights;
    LinearShape shape;
    const char *name;
};

// Refuses a layout that cannot hold the format, and sizes and pointers that do not fit the shape.
void check_layout(const LinearPart &part, const LinearFormat &format);

// Writes a checked part in plain order. Codes, scales and zeros that no weight may have are errors
// that name their place.
void unpack_layout(const LinearPart &part, const LinearFormat &format, const PlainPart &out);

// GGUF blocks (linear_gguf.cc).
struct GgufType {
    const char *name;
    int64_t block_inputs;
    int64_t block_bytes;
    LinearFormat format;  // groups are of 32 inputs
};
const GgufType *gguf_type(tarpon_weight_layout layout);  // null for other layouts
void unpack_gguf(const LinearPart &part, const PlainPart &out);

// Checks of arrays in plain order, [rows, columns] with columns contiguous.
void check_codes(const char *name, const uint8_t *codes, int64_t rows, int64_t columns,
                 const LinearFormat &format);
void check_finite(const char *name, const void *values, tarpon_scale_type type, int64_t rows,
                  int64_t columns, int64_t stride);
void check_sparsity(const char *name, const uint8_t *codes, int64_t k, int64_t n, int64_t stride);

}  // namespace tarpon
