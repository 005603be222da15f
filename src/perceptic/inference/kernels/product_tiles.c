/* Rows of a matrix against any number of rows of activations, on AMX tiles.
 *
 * The matrix is the left operand, whose tiles are plain rows (16 rows of 32 columns): bfloat16 is loaded from where it
 * lies, int8 and int4 pass through a small buffer, in which they become bfloat16. The activations, which are small, are
 * packed into the pairwise layout that the right operand needs.
 */
#include "tiles.h"
#include "unpack.h"

enum { CHUNK = 128, AHEAD = 256 }; /* columns in the buffer at once: it stays in the L1 cache; bytes to fetch ahead */

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

/* Tiles 0 to 3 += left times right, which are `heights` tiles of rows of W by `columns` tiles of rows of x: 2 by 1,
 * 4 by 1 or 2 by 2. Those of W are `left_step` bytes apart and their rows `left_row`; those of x `right_step` words. */
static inline __attribute__((always_inline)) void add_product(const char *left, int64_t left_step, int64_t left_row,
                                                              const uint32_t *right, int64_t right_step,
                                                              const int heights, const int columns) {
    _tile_loadd(6, right, 64);
    _tile_loadd(4, left, left_row);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, left + left_step, left_row);
    _tile_dpbf16ps(1, 5, 6);
    if (columns == 2) {
        _tile_loadd(7, right + right_step, 64);
        _tile_dpbf16ps(2, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
    } else if (heights == 4) {
        _tile_loadd(4, left + 2 * left_step, left_row);
        _tile_dpbf16ps(2, 4, 6);
        _tile_loadd(5, left + 3 * left_step, left_row);
        _tile_dpbf16ps(3, 5, 6);
    }
}

/* All columns of bfloat16 rows, loaded from where they lie. */
static inline __attribute__((always_inline)) void add_plain(const matrix *w, int64_t first, const uint32_t *right,
                                                            int64_t right_step, const int heights, const int columns) {
    const int rows = 16 * heights;
    const int64_t bytes = row_bytes(w);
    const char *code = (const char *)w->codes + first * bytes;
    for (int64_t done = 0; done < bytes; done += 64, code += 64, right += TILE_WORDS) {
        /* From the end of these rows, the beginning of those that follow. */
        const char *next = code + AHEAD + (done + AHEAD < bytes ? 0 : (rows - 1) * bytes);
        for (int r = 0; r < rows; r++) _mm_prefetch(next + r * bytes, _MM_HINT_T1);
        add_product(code, 16 * bytes, bytes, right, right_step, heights, columns);
    }
}

/* All columns of any rows, through a buffer of whole tiles. */
static inline __attribute__((always_inline)) void add_unpacked(const matrix *w, int64_t first, int64_t rows,
                                                               const uint32_t *right, int64_t right_step,
                                                               const int heights, const int columns) {
    uint32_t buffer[TILE_BLOCK * CHUNK / 2] __attribute__((aligned(64)));
    const int64_t stored = stored_columns(w), bytes = row_bytes(w), chunk_bytes = bytes * CHUNK / stored;
    if (rows < 16 * heights) memset(buffer, 0, sizeof buffer);
    for (int64_t k = 0; k < stored; k += CHUNK) {
        const int64_t end = smaller(k + CHUNK, stored);
        const int64_t ahead = end < stored ? chunk_bytes : 16 * heights * bytes - k / CHUNK * chunk_bytes;
        for (int64_t r = 0; r < rows; r++)
            unpack_row(w, first + r, k, end, ahead, buffer + r * 16, heights * TILE_WORDS);
        for (int64_t step = 0; step < (end - k) / 32; step++, right += TILE_WORDS)
            add_product((const char *)(buffer + step * heights * TILE_WORDS), 4 * TILE_WORDS, 64, right, right_step,
                        heights, columns);
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

/* Rows of W from `first` on with rows of x from `x_first` on, as many tiles of them as said. */
static inline __attribute__((always_inline)) void multiply_block(const matrix *w, int64_t first, const uint32_t *packed,
                                                                 int64_t x_first, int64_t batch, float *y,
                                                                 const int heights, const int columns) {
    float sums[4][TILE_WORDS] __attribute__((aligned(64)));
    const int64_t rows = smaller(16 * heights, w->rows - first), right_step = stored_columns(w) / 32 * TILE_WORDS;
    const uint32_t *right = packed + x_first / 16 * right_step;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    if (w->kind == KIND_BF16 && rows == 16 * heights)
        add_plain(w, first, right, right_step, heights, columns);
    else
        add_unpacked(w, first, rows, right, right_step, heights, columns);
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    _tile_stored(2, sums[2], 64);
    _tile_stored(3, sums[3], 64);
    for (int i = 0; i < heights * columns; i++)
        write_sums(w, first + 16 * (i % heights), sums[i], x_first + 16 * (i / heights), batch, y);
}

void multiply_tiles(const matrix *w, int64_t first, const uint32_t *packed, int64_t batch, float *y) {
    const int64_t end = smaller(first + TILE_BLOCK, w->rows);
    for (int64_t b = 0; b < batch; b += 32)
        if (batch - b <= 16 && w->kind != KIND_BF16)
            multiply_block(w, first, packed, b, batch, y, 4, 1); /* unpacking is the work: save on loads of x */
        else
            for (int64_t row = first; row < end; row += 32) {
                if (batch - b <= 16)
                    multiply_block(w, row, packed, b, batch, y, 2, 1);
                else
                    multiply_block(w, row, packed, b, batch, y, 2, 2);
            }
}
