/* Products of many rows of activations with a matrix, on AMX tiles: the work of reading a prompt.
 *
 * Here arithmetic is the bound, not memory. The matrix is the left operand, in panels of 32 rows and 256 columns that
 * stay in the L1 cache while all activations pass by; the activations are the right operand, packed once for all products
 * that read them. Results come out transposed. Nothing of the matrix is kept in another layout.
 */
#ifndef PERCEPTIC_PANELS_H
#define PERCEPTIC_PANELS_H

#include "products.h"

/* Activations packed for products with matrices of one kind: tile (row / 16, column / 32) is 16 pairs of columns by 16
 * rows. For int4 the even columns of each 32 come before the odd ones. */
typedef struct {
    uint32_t *tiles;
    int64_t rows, steps; /* steps of 32 columns */
} packed_rows;

/* Of rows: with a bias LayerNorm, without one x / rms(x) * weight. */
typedef struct {
    const float *weight, *bias;
    float epsilon;
} row_norm;

/* What is done to the columns of a product: (sum + bias) * factor. Either may be NULL. */
typedef struct {
    const float *bias, *factor;
} column_terms;

/* The mean of a row (0 without a bias), and one over the deviation from it. */
typedef struct {
    __m512 mean, scale;
} row_moments;

static inline row_moments moments_of(const bf16 *x, const row_norm *norm, int64_t width) {
    __m512 sum = _mm512_setzero_ps(), square = _mm512_setzero_ps();
    for (int64_t i = 0; norm->bias && i < width; i += 16) sum = _mm512_add_ps(sum, load_bf16(x + i));
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / width);
    for (int64_t i = 0; i < width; i += 16) {
        const __m512 d = _mm512_sub_ps(load_bf16(x + i), mean);
        square = _mm512_fmadd_ps(d, d, square);
    }
    return (row_moments){mean, _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(square) / width + norm->epsilon))};
}

/* 16 numbers of a row. */
static inline __m512 normalised(const bf16 *x, const row_norm *norm, row_moments m, int64_t i) {
    const __m512 v = _mm512_mul_ps(_mm512_sub_ps(load_bf16(x + i), m.mean), m.scale);
    return _mm512_fmadd_ps(v, _mm512_loadu_ps(norm->weight + i), load_bias(norm->bias, i));
}

/* Room for the packed activations of any product of `rows` rows with `columns` columns. */
static inline int64_t packed_bytes(int64_t rows, int64_t columns) {
    return round_up(rows, 32) * round_up(columns, 128) * sizeof(bf16);
}

/* All functions from here on are to be called by all threads of a parallel region, and end with a barrier unless "start"
 * is in their name. `scratch` is each thread's own. */

/* x (rows, columns of w), normalised unless `norm` is NULL, packed for a product with w. */
packed_rows pack_rows(const matrix *w, const bf16 *x, const row_norm *norm, int64_t rows, uint32_t *tiles);

int64_t panel_scratch_bytes(int64_t rows);

/* y (rows, stride) = x w^T, its columns changed by `terms`; with a `base` of the same shape, which may be y, base + that.
 * Rounded once. */
void start_product(const matrix *w, column_terms terms, const packed_rows *x, const bf16 *base, bf16 *y, int64_t stride,
                   void *scratch);

/* gelu(x w^T, changed by `terms`), packed for a product with `next`. */
packed_rows gelu_product(const matrix *w, column_terms terms, const matrix *next, const packed_rows *x, uint32_t *tiles,
                         void *scratch);

/* silu(x gate^T) * (x up^T), packed for a product with `next`. */
packed_rows gated_product(const matrix *gate, const matrix *up, const matrix *next, const packed_rows *x,
                          uint32_t *tiles, void *scratch);

#endif
