/* Rows of a matrix against any number of rows of activations, on AMX tiles.
 *
 * The matrix is the left operand, whose tiles are plain rows (16 rows of 32 columns); the activations, which are small,
 * are packed into the pairwise layout that the right operand needs. Tiles of the matrix pass through a small buffer,
 * in which int8 and int4 become bfloat16.
 */
#include "tiles.h"
#include "unpack.h"

enum { CHUNK = 256 }; /* columns in the buffer at once: 32 rows of them stay in the L1 cache */

/* x (batch, stored) staged floats to (batch / 16 rounded up, stored / 32) tiles of 16 column pairs by 16 rows of x.
 * To be called by all threads of a parallel region; ends with a barrier. */
void pack_for_tiles(const float *x, int64_t stored, int64_t batch, uint32_t *packed) {
    const int64_t steps = stored / 32, tiles = round_up(batch, 16) / 16 * steps;
#pragma omp for schedule(static)
    for (int64_t tile = 0; tile < tiles; tile++) {
        const int64_t first = tile / steps * 16, column = tile % steps * 32;
        __m512i rows[16];
        for (int64_t b = 0; b < 16; b++) {
            const float *part = x + (first + b) * stored + column;
            rows[b] = first + b < batch
                          ? (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(part + 16), _mm512_loadu_ps(part))
                          : _mm512_setzero_si512();
        }
        transpose_16x16(rows, packed + tile * TILE_WORDS);
    }
}

/* Tiles 0 to 3 (+)= the buffer (two rows of tiles) times one or two columns of packed tiles, `column` words apart. */
static inline __attribute__((always_inline)) void add_products(const uint32_t *a, const uint32_t *b, int64_t column,
                                                               int64_t steps, const int columns) {
    for (int64_t k = 0; k < steps; k++) {
        _tile_loadd(4, a + 2 * k * TILE_WORDS, 64);
        _tile_loadd(6, b + k * TILE_WORDS, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, a + (2 * k + 1) * TILE_WORDS, 64);
        _tile_dpbf16ps(1, 5, 6);
        if (columns == 1) continue;
        _tile_loadd(7, b + column + k * TILE_WORDS, 64);
        _tile_dpbf16ps(2, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
    }
}

/* Sums (16 rows of W, 16 of x) to y (batch, rows of W). */
static void write_sums(const matrix *w, int64_t row, const float *sums, int64_t first, int64_t batch, float *y) {
    uint32_t turned[TILE_WORDS] __attribute__((aligned(64)));
    const int64_t rows = smaller(16, w->rows - row);
    if (rows <= 0) return;
    const __mmask16 mask = (__mmask16)((1u << rows) - 1);
    __m512 scale = _mm512_set1_ps(1.0f);
    if (w->kind == KIND_INT8) scale = _mm512_maskz_loadu_ps(mask, (const float *)w->scales + row);
    __m512i lines[16];
    for (int i = 0; i < 16; i++) lines[i] = _mm512_loadu_si512(sums + 16 * i);
    transpose_16x16(lines, turned);
    for (int64_t b = 0; b < smaller(16, batch - first); b++)
        _mm512_mask_storeu_ps(y + (first + b) * w->rows + row, mask,
                              _mm512_mul_ps(scale, _mm512_load_ps((const float *)turned + 16 * b)));
}

/* 32 rows of W from `first` on, with up to 32 rows of x from `x_first` on. */
static inline __attribute__((always_inline)) void multiply_block(const matrix *w, int64_t first, const uint32_t *packed,
                                                                 int64_t x_first, int64_t batch, float *y,
                                                                 const int columns) {
    uint32_t buffer[BLOCK_ROWS * CHUNK / 2] __attribute__((aligned(64)));
    float sums[4][TILE_WORDS] __attribute__((aligned(64)));
    const int64_t stored = stored_columns(w), column = stored / 32 * TILE_WORDS, rows = smaller(BLOCK_ROWS, w->rows - first);
    const int64_t bytes = row_bytes(w);
    const uint32_t *b = packed + x_first / 16 * column;
    if (rows < BLOCK_ROWS) memset(buffer, 0, sizeof buffer);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t k = 0; k < stored; k += CHUNK) {
        const int64_t end = smaller(k + CHUNK, stored), chunk_bytes = bytes * CHUNK / stored;
        /* The next chunk of the row, or the first one of the block of rows that follows. */
        const int64_t ahead = end < stored ? chunk_bytes : BLOCK_ROWS * bytes - k / CHUNK * chunk_bytes;
        for (int64_t r = 0; r < rows; r++)
            unpack_row(w, first + r, k, end, ahead, buffer + r / 16 * TILE_WORDS + r % 16 * 16, 2 * TILE_WORDS);
        add_products(buffer, b + k / 32 * TILE_WORDS, column, (end - k) / 32, columns);
    }
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    _tile_stored(2, sums[2], 64);
    _tile_stored(3, sums[3], 64);
    for (int i = 0; i < 2 * columns; i++) write_sums(w, first + i % 2 * 16, sums[i], x_first + i / 2 * 16, batch, y);
}

void multiply_tiles(const matrix *w, int64_t first, const uint32_t *packed, int64_t batch, float *y) {
    for (int64_t b = 0; b < batch; b += 32) {
        if (batch - b > 16)
            multiply_block(w, first, packed, b, batch, y, 2);
        else
            multiply_block(w, first, packed, b, batch, y, 1);
    }
}
