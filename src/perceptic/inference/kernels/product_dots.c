/* Rows of a matrix against one to four rows of activations at a time, on AVX-512.
 *
 * Rows of W are read four at a time, from four places of their block, so that several pages of memory stream at once:
 * measured, that is up to half as fast again as one after the other. int8 and int4 weights are multiplied as integers
 * of 16 bit with activations of 16 bit: floats take twice the instructions, which then bound the step, not memory.
 */
#include "products.h"

enum { W_ROWS = 4, X_ROWS = 4, AHEAD = 1024 }; /* sums stay in registers; bytes to fetch ahead of use */

static inline void fetch_ahead(const void *p) { _mm_prefetch((const char *)p + AHEAD, _MM_HINT_T1); }

/* 32 staged integers of row b. */
static inline __m512i load_whole(const float *x, int64_t stored, int64_t b, int64_t k) {
    return _mm512_loadu_si512((const int16_t *)(x + b * stored) + k);
}

static inline __attribute__((always_inline)) void dot_bf16(const matrix *w, int64_t row, int64_t step, const int rows,
                                                           const float *x, const int batch, __m512 sum[][X_ROWS]) {
    const int64_t columns = w->columns;
    const bf16 *code = (const bf16 *)w->codes + row * columns;
    for (int64_t k = 0; k < columns; k += 32)
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const bf16 *part = code + r * step * columns + k;
            fetch_ahead(part);
#pragma GCC unroll 2
            for (int half = 0; half < 32; half += 16) {
                const __m512 weight = load_bf16(part + half);
#pragma GCC unroll 4
                for (int b = 0; b < batch; b++)
                    sum[r][b] = _mm512_fmadd_ps(weight, _mm512_loadu_ps(x + b * columns + k + half), sum[r][b]);
            }
        }
}

static inline __attribute__((always_inline)) void dot_int8(const matrix *w, int64_t row, int64_t step, const int rows,
                                                           const float *x, const int batch, __m512 sum[][X_ROWS]) {
    const int64_t columns = w->columns;
    const int8_t *code = (const int8_t *)w->codes + row * columns;
    __m512i whole[W_ROWS][X_ROWS];
    for (int r = 0; r < rows; r++)
        for (int b = 0; b < batch; b++) whole[r][b] = _mm512_setzero_si512();
    for (int64_t k = 0; k < columns; k += 32)
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const int8_t *part = code + r * step * columns + k;
            fetch_ahead(part);
            const __m512i weight = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)part));
#pragma GCC unroll 4
            for (int b = 0; b < batch; b++)
                whole[r][b] =
                    _mm512_add_epi32(whole[r][b], _mm512_madd_epi16(weight, load_whole(x, columns, b, k)));
        }
    for (int r = 0; r < rows; r++) {
        const __m512 scale = _mm512_set1_ps(((const float *)w->scales)[row + r * step]);
        for (int b = 0; b < batch; b++) sum[r][b] = _mm512_mul_ps(_mm512_cvtepi32_ps(whole[r][b]), scale);
    }
}

/* 16 scales, or as many as there are. */
static inline void load_scales(const bf16 *scales, int64_t count, float *wide) {
    const __mmask16 mask = count < 16 ? (__mmask16)((1u << count) - 1) : 0xffff;
    const __m512i bits = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, scales));
    _mm512_store_si512(wide, _mm512_slli_epi32(bits, 16));
}

static inline __attribute__((always_inline)) void dot_int4(const matrix *w, int64_t row, int64_t step, const int rows,
                                                           const float *x, const int batch, __m512 sum[][X_ROWS]) {
    const int64_t stored = stored_columns(w);
    const uint8_t *code = (const uint8_t *)w->codes + row * stored / 2;
    const bf16 *scales = (const bf16 *)w->scales + row * stored / 32;
    /* An index of 16 bit looks at its lowest five: the fifth is of the next code, so the table is there twice. */
    const __m512i codebook =
        _mm512_broadcast_i64x4(_mm512_cvtepi32_epi16(_mm512_cvtps_epi32(_mm512_loadu_ps(w->codebook))));
    float wide[W_ROWS][16] __attribute__((aligned(64)));
    for (int64_t k = 0; k < stored; k += 128) {
        for (int r = 0; r < rows && k % 512 == 0; r++)
            load_scales(scales + (r * step * stored + k) / 32, (stored - k) / 32, wide[r]);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const uint8_t *part = code + (r * step * stored + k) / 2;
            fetch_ahead(part);
            const __m512i words = _mm512_loadu_si512(part);
#pragma GCC unroll 4
            for (int group = 0; group < 4; group++) {
                const __m512i weight = _mm512_permutexvar_epi16(_mm512_srli_epi16(words, 4 * group), codebook);
                const __m512 scale = _mm512_set1_ps(wide[r][k % 512 / 32 + group]);
#pragma GCC unroll 4
                for (int b = 0; b < batch; b++) {
                    const __m512i dot = _mm512_madd_epi16(weight, load_whole(x, stored, b, k + 32 * group));
                    sum[r][b] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, sum[r][b]);
                }
            }
        }
    }
}

/* Rows `row`, `row + step`... of W. */
static inline __attribute__((always_inline)) void dot_rows(const matrix *w, int64_t row, int64_t step, const int rows,
                                                           const float *x, const int batch, float *y) {
    const int64_t stored = stored_columns(w);
    __m512 sum[W_ROWS][X_ROWS];
    for (int r = 0; r < rows; r++)
        for (int b = 0; b < batch; b++) sum[r][b] = _mm512_setzero_ps();
    if (w->kind == KIND_BF16)
        dot_bf16(w, row, step, rows, x, batch, sum);
    else if (w->kind == KIND_INT8)
        dot_int8(w, row, step, rows, x, batch, sum);
    else
        dot_int4(w, row, step, rows, x, batch, sum);
    for (int b = 0; b < batch; b++) {
        const float unit = w->kind == KIND_BF16 ? 1.0f : *staged_unit(x + b * stored, stored);
        for (int r = 0; r < rows; r++) y[b * w->rows + row + r * step] = unit * _mm512_reduce_add_ps(sum[r][b]);
    }
}

static inline __attribute__((always_inline)) void dot_block(const matrix *w, int64_t row, int64_t end, const float *x,
                                                            const int batch, float *y) {
    const int64_t step = (end - row) / W_ROWS;
    for (int64_t i = 0; i < step; i++) dot_rows(w, row + i, step, W_ROWS, x, batch, y);
    for (row += W_ROWS * step; row < end; row++) dot_rows(w, row, 1, 1, x, batch, y);
}

void multiply_dots(const matrix *w, int64_t first, int64_t end, const float *x, int64_t batch, float *y) {
    const int64_t stored = stored_columns(w);
    for (int64_t b = 0; b < batch; b += X_ROWS) {
        const float *part = x + b * stored;
        float *out = y + b * w->rows;
        switch (batch - b) {
            case 1: dot_block(w, first, end, part, 1, out); break;
            case 2: dot_block(w, first, end, part, 2, out); break;
            case 3: dot_block(w, first, end, part, 3, out); break;
            default: dot_block(w, first, end, part, X_ROWS, out);
        }
    }
}
