/* What every product does before and around its blocks. */
#include "products.h"

/* The even of 32 floats before the odd ones. */
static void split_even_odd(float *x) {
    const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + 16);
    _mm512_storeu_ps(x, _mm512_permutex2var_ps(low, even, high));
    _mm512_storeu_ps(x + 16, _mm512_permutex2var_ps(low, _mm512_add_epi32(even, _mm512_set1_epi32(1)), high));
}

/* x = unit * integer, the largest of them 16383: the error is at most 2^-15 of the largest |x|, and of the norm of x
 * below that of bfloat16. A lane's sum of products with 127 at most overflows beyond 32,000 columns. */
static void make_whole(float *x, int64_t stored) {
    __m512 top = _mm512_setzero_ps();
    for (int64_t k = 0; k < stored; k += 16) top = _mm512_max_ps(top, _mm512_abs_ps(_mm512_loadu_ps(x + k)));
    const float largest = _mm512_reduce_max_ps(top);
    const __m512 scale = _mm512_set1_ps(largest > 0 ? 16383.0f / largest : 0.0f);
    for (int64_t k = 0; k < stored; k += 32) {
        const __m512i low = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + k), scale));
        const __m512i high = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + k + 16), scale));
        /* Writing 64 bytes at 2 * k never passes what has been read up to 4 * k + 128. */
        _mm256_storeu_si256((__m256i *)((int16_t *)x + k), _mm512_cvtepi32_epi16(low));
        _mm256_storeu_si256((__m256i *)((int16_t *)x + k + 16), _mm512_cvtepi32_epi16(high));
    }
    *staged_unit(x, stored) = largest / 16383.0f;
}

void stage_row(const matrix *w, float *x, int tiled) {
    const int64_t stored = stored_columns(w);
    memset(x + w->columns, 0, (stored - w->columns) * sizeof(float));
    if (w->kind != KIND_BF16 && !tiled) {
        make_whole(x, stored);
        return;
    }
    for (int64_t k = 0; k < w->columns; k += 16)
        _mm512_storeu_si512(x + k, rounded_to_bf16(_mm512_loadu_ps(x + k)));
    if (w->kind != KIND_INT4) return;
    for (int64_t k = 0; k < stored; k += 32) split_even_odd(x + k);
}

int64_t product_scratch_bytes(int64_t stored, int64_t batch) { return round_up(batch, 16) * stored * sizeof(bf16); }

/* Rows of W in one piece of work: small enough that threads finish together. */
static int64_t block_rows(const matrix *w, int tiled) {
    int64_t rows = tiled ? TILE_BLOCK : DOT_BLOCK;
    while (!tiled && rows > 8 && rows * row_bytes(w) > 1 << 17) rows /= 2;
    return rows;
}

void multiply_staged(const matrix *w, int64_t count, const float *x, int64_t batch, float *const *y, void *scratch) {
    const int tiled = is_tiled(batch);
#ifdef __AMX_TILE__
    if (tiled) pack_for_tiles(x, stored_columns(w), batch, scratch);
#else
    (void)scratch;
#endif
    const int64_t step = block_rows(w, tiled);
    int64_t blocks = 0;
    for (int64_t i = 0; i < count; i++) blocks += round_up(w[i].rows, step) / step;
#pragma omp for schedule(dynamic)
    for (int64_t block = 0; block < blocks; block++) {
        int64_t i = 0, first = block * step;
        for (; first >= w[i].rows; i++) first -= round_up(w[i].rows, step);
#ifdef __AMX_TILE__
        if (tiled) {
            multiply_tiles(w + i, first, scratch, batch, y[i]);
            continue;
        }
#endif
        multiply_dots(w + i, first, smaller(first + step, w[i].rows), x, batch, y[i]);
    }
}
