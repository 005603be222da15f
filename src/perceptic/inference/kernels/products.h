/* Products of a few rows of activations with a large matrix: y = x W^T, the work of a decoder's step.
 *
 * A step is bound by reading W, so W is read once, in its own order, for all rows. Sums are in float32.
 */
#ifndef PERCEPTIC_PRODUCTS_H
#define PERCEPTIC_PRODUCTS_H

#include "common.h"

enum { KIND_BF16, KIND_INT8, KIND_INT4 };

/* W (rows, columns), row after row; columns are a multiple of 32.
 *
 * int8: W = scale[row] * code, float32 scales. int4: groups of 32 columns with a bfloat16 scale each,
 * W = scale[row][group] * codebook[code]; 128 columns are 64 bytes, 32 words of 16 bit, nibble i of word j being column
 * 32 * i + j; rows are padded to whole blocks of 128 with scales of zero. */
typedef struct {
    const void *codes, *scales;
    const float *codebook;
    int64_t kind, rows, columns;
} matrix;

/* Columns as stored. */
static inline int64_t stored_columns(const matrix *w) { return round_up(w->columns, w->kind == KIND_INT4 ? 128 : 32); }

/* A row of activations as the products want it, in place: rounded to bfloat16, zeros past the columns, and for int4 the
 * even columns of each 32 before the odd ones. There is room for `stored_columns`. */
void stage_row(const matrix *w, float *x);

/* Bytes of scratch that `multiply_staged` needs for a batch. */
int64_t product_scratch_bytes(int64_t stored, int64_t batch);

/* y[i] (batch, rows of w[i]) = x w[i]^T for `count` matrices of one kind and width, x (batch, stored columns) staged.
 * To be called by all threads of a parallel region; it ends with a barrier. */
void multiply_staged(const matrix *w, int64_t count, const float *x, int64_t batch, float *const *y, void *scratch);

/* One block of rows of W with all rows of x. `dots` runs on AVX-512, `tiles` on AMX, where there are many rows of x. */
enum { DOT_ROWS = 16, TILE_ROWS = 32, TILES_FROM = 4 };
void multiply_dots(const matrix *w, int64_t first, const float *x, int64_t batch, float *y);
#ifdef __AMX_TILE__
void pack_for_tiles(const float *x, int64_t stored, int64_t batch, uint32_t *packed);
void multiply_tiles(const matrix *w, int64_t first, const uint32_t *packed, int64_t batch, float *y);
#endif

#endif
