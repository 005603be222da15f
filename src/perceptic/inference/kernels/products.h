/* Products of a few rows of activations with a large matrix: y = x W^T, the work of a decoder's step.
 *
 * A step is bound by reading W, so W is read once, in its own order, for all rows. Sums are in float32.
 */
#ifndef PERCEPTIC_PRODUCTS_H
#define PERCEPTIC_PRODUCTS_H

#include "common.h"

enum { KIND_BF16, KIND_INT8, KIND_INT4 };
enum { DOT_BLOCK = 32, TILE_BLOCK = 64 }; /* most rows of W that are one piece of work */
enum { TILES_FROM = 4 };                   /* rows of x from which tiles pay */

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

/* Bytes of a row of W. */
static inline int64_t row_bytes(const matrix *w) {
    const int64_t stored = stored_columns(w);
    return w->kind == KIND_BF16 ? 2 * stored : w->kind == KIND_INT8 ? stored : stored / 2;
}

/* Whether a batch goes through AMX tiles. */
static inline int is_tiled(int64_t batch) {
#ifdef __AMX_TILE__
    return batch >= TILES_FROM;
#else
    return (void)batch, 0;
#endif
}

/* A row of activations as the products want it, in place, with zeros past the columns; there is room for
 * `stored_columns` floats. For bfloat16 weights, and for tiles, it is rounded to bfloat16; tiles of int4 weights have
 * the even columns of each 32 before the odd ones. Otherwise it becomes integers of 16 bit and the unit they count. */
void stage_row(const matrix *w, float *x, int tiled);

/* Where that unit is. */
static inline float *staged_unit(const float *x, int64_t stored) { return (float *)x + stored / 2; }

/* Bytes of scratch that `multiply_staged` needs for a batch. */
int64_t product_scratch_bytes(int64_t stored, int64_t batch);

/* y[i] (batch, rows of w[i]) = x w[i]^T for `count` matrices of one kind and width, x (batch, stored columns) staged.
 * To be called by all threads of a parallel region; it ends with a barrier. */
void multiply_staged(const matrix *w, int64_t count, const float *x, int64_t batch, float *const *y, void *scratch);

/* Rows `first` to `end` of W with all rows of x. */
void multiply_dots(const matrix *w, int64_t first, int64_t end, const float *x, int64_t batch, float *y);
#ifdef __AMX_TILE__
void pack_for_tiles(const float *x, int64_t stored, int64_t batch, uint32_t *packed);
/* The same for TILE_BLOCK rows or those that are left. */
void multiply_tiles(const matrix *w, int64_t first, const uint32_t *packed, int64_t batch, float *y);
#endif

#endif
