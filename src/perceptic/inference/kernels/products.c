/* What every product does before and around its blocks. */
#include "products.h"

#ifdef __AMX_TILE__
#include "tiles.h"
#endif

/* The even of 32 floats before the odd ones. */
static void split_even_odd(float *x) {
    const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + 16);
    _mm512_storeu_ps(x, _mm512_permutex2var_ps(low, even, high));
    _mm512_storeu_ps(x + 16, _mm512_permutex2var_ps(low, _mm512_add_epi32(even, _mm512_set1_epi32(1)), high));
}

void stage_row(const matrix *w, float *x) {
    const int64_t stored = stored_columns(w);
    memset(x + w->columns, 0, (stored - w->columns) * sizeof(float));
    for (int64_t k = 0; k < w->columns; k += 16)
        _mm512_storeu_si512(x + k, rounded_to_bf16(_mm512_loadu_ps(x + k)));
    if (w->kind != KIND_INT4) return;
    for (int64_t k = 0; k < stored; k += 32) split_even_odd(x + k);
}

int64_t product_scratch_bytes(int64_t stored, int64_t batch) { return round_up(batch, 16) * stored * sizeof(bf16); }

void multiply_staged(const matrix *w, int64_t count, const float *x, int64_t batch, float *const *y, void *scratch) {
    int tiled = 0;
#ifdef __AMX_TILE__
    tiled = batch >= TILES_FROM;
    if (tiled) pack_for_tiles(x, stored_columns(w), batch, scratch);
#endif
    const int64_t step = tiled ? TILE_ROWS : DOT_ROWS;
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
        multiply_dots(w + i, first, x, batch, y[i]);
    }
}
