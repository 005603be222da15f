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

/* One over the root mean square of a row. */
static inline float inverse_rms(const bf16 *x, int64_t width, float epsilon) {
    __m512 square = _mm512_setzero_ps();
    for (int64_t i = 0; i < width; i += 16) square = _mm512_fmadd_ps(load_bf16(x + i), load_bf16(x + i), square);
    return 1.0f / sqrtf(_mm512_reduce_add_ps(square) / width + epsilon);
}

/* Room for the packed activations of any product of `rows` rows with `columns` columns. */
static inline int64_t packed_bytes(int64_t rows, int64_t columns) {
    return round_up(rows, 32) * round_up(columns, 128) * sizeof(bf16);
}

/* All functions from here on are to be called by all threads of a parallel region, and end with a barrier unless "start"
 * is in their name. `scratch` is each thread's own. */

/* x (rows, columns of w), packed for a product with w; with `norm` x / rms(x) * norm. */
packed_rows pack_rows(const matrix *w, const bf16 *x, const float *norm, float epsilon, int64_t rows, uint32_t *tiles);

int64_t panel_scratch_bytes(int64_t rows);

/* y (rows, stride) = x w^T, or with `add` y += x w^T, rounded once. */
void start_product(const matrix *w, const packed_rows *x, bf16 *y, int64_t stride, int add, void *scratch);

/* silu(x gate^T) * (x up^T), packed for a product with `next`. */
packed_rows gated_product(const matrix *gate, const matrix *up, const matrix *next, const packed_rows *x,
                          uint32_t *tiles, void *scratch);

#endif
