/* Rows of a matrix against one to four rows of activations at a time, on AVX-512. */
#include "products.h"

enum { AT_ONCE = 4, AHEAD = 1024 }; /* rows of x whose sums stay in registers; bytes to fetch ahead of use */

static inline void fetch_ahead(const void *p) { _mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0); }

static inline __attribute__((always_inline)) void dot_bf16(const matrix *w, int64_t row, const float *x, int64_t stride,
                                                           const int batch, __m512 *sum) {
    const bf16 *code = (const bf16 *)w->codes + row * w->columns;
    __m512 other[AT_ONCE];
    for (int b = 0; b < batch; b++) other[b] = _mm512_setzero_ps();
    for (int64_t k = 0; k < w->columns; k += 32) {
        fetch_ahead(code + k);
        const __m512 low = load_bf16(code + k), high = load_bf16(code + k + 16);
        for (int b = 0; b < batch; b++) {
            sum[b] = _mm512_fmadd_ps(low, _mm512_loadu_ps(x + b * stride + k), sum[b]);
            other[b] = _mm512_fmadd_ps(high, _mm512_loadu_ps(x + b * stride + k + 16), other[b]);
        }
    }
    for (int b = 0; b < batch; b++) sum[b] = _mm512_add_ps(sum[b], other[b]);
}

static inline __m512 load_int8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

static inline __attribute__((always_inline)) void dot_int8(const matrix *w, int64_t row, const float *x, int64_t stride,
                                                           const int batch, __m512 *sum) {
    const int8_t *code = (const int8_t *)w->codes + row * w->columns;
    const __m512 scale = _mm512_set1_ps(((const float *)w->scales)[row]);
    __m512 other[AT_ONCE];
    for (int b = 0; b < batch; b++) other[b] = _mm512_setzero_ps();
    for (int64_t k = 0; k < w->columns; k += 32) {
        fetch_ahead(code + k);
        const __m512 low = load_int8(code + k), high = load_int8(code + k + 16);
        for (int b = 0; b < batch; b++) {
            sum[b] = _mm512_fmadd_ps(low, _mm512_loadu_ps(x + b * stride + k), sum[b]);
            other[b] = _mm512_fmadd_ps(high, _mm512_loadu_ps(x + b * stride + k + 16), other[b]);
        }
    }
    for (int b = 0; b < batch; b++) sum[b] = _mm512_mul_ps(scale, _mm512_add_ps(sum[b], other[b]));
}

static inline __attribute__((always_inline)) void dot_int4(const matrix *w, int64_t row, const float *x, int64_t stride,
                                                           const int batch, __m512 *sum) {
    const int64_t stored = stored_columns(w);
    const uint8_t *code = (const uint8_t *)w->codes + row * stored / 2;
    const bf16 *scales = (const bf16 *)w->scales + row * stored / 32;
    const __m512 codebook = _mm512_loadu_ps(w->codebook);
    for (int64_t k = 0; k < stored; k += 128) {
        fetch_ahead(code + k / 2);
        const __m512i words = _mm512_loadu_si512(code + k / 2);
#pragma GCC unroll 4
        for (int group = 0; group < 4; group++) {
            /* The lower half of a 32-bit lane has the even column, the upper half the odd one. */
            const __m512 even = _mm512_permutexvar_ps(_mm512_srli_epi32(words, 4 * group), codebook);
            const __m512 odd = _mm512_permutexvar_ps(_mm512_srli_epi32(words, 4 * group + 16), codebook);
            const uint32_t bits = (uint32_t)scales[k / 32 + group] << 16;
            const __m512 scale = _mm512_castsi512_ps(_mm512_set1_epi32((int)bits));
            for (int b = 0; b < batch; b++) {
                const float *part = x + b * stride + k + 32 * group;
                const __m512 dot = _mm512_mul_ps(even, _mm512_loadu_ps(part));
                sum[b] = _mm512_fmadd_ps(_mm512_fmadd_ps(odd, _mm512_loadu_ps(part + 16), dot), scale, sum[b]);
            }
        }
    }
}

static inline __attribute__((always_inline)) void dot_rows(const matrix *w, int64_t first, int64_t end, const float *x,
                                                           const int batch, float *y) {
    const int64_t stride = stored_columns(w);
    for (int64_t row = first; row < end; row++) {
        __m512 sum[AT_ONCE];
        for (int b = 0; b < batch; b++) sum[b] = _mm512_setzero_ps();
        if (w->kind == KIND_BF16)
            dot_bf16(w, row, x, stride, batch, sum);
        else if (w->kind == KIND_INT8)
            dot_int8(w, row, x, stride, batch, sum);
        else
            dot_int4(w, row, x, stride, batch, sum);
        for (int b = 0; b < batch; b++) y[b * w->rows + row] = _mm512_reduce_add_ps(sum[b]);
    }
}

void multiply_dots(const matrix *w, int64_t first, const float *x, int64_t batch, float *y) {
    const int64_t end = smaller(first + DOT_ROWS, w->rows), stride = stored_columns(w);
    for (int64_t b = 0; b < batch; b += AT_ONCE) {
        switch (batch - b) {
            case 1: dot_rows(w, first, end, x + b * stride, 1, y + b * w->rows); break;
            case 2: dot_rows(w, first, end, x + b * stride, 2, y + b * w->rows); break;
            case 3: dot_rows(w, first, end, x + b * stride, 3, y + b * w->rows); break;
            default: dot_rows(w, first, end, x + b * stride, AT_ONCE, y + b * w->rows);
        }
    }
}
