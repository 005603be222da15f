#include "panels.h"

#include <omp.h>

#include "gelu.h"
#include "tiles.h"
#include "unpack.h"

enum { PANEL_ROWS = 32, PANEL_STEPS = 8, MOST_PANELS = 4 };
enum { PANEL_WORDS = 2 * PANEL_STEPS * TILE_WORDS };

static uint32_t *tile_at(const packed_rows *x, int64_t row, int64_t step) {
    return x->tiles + (row / 16 * x->steps + step) * TILE_WORDS;
}

/* 16-bit lanes 0, 2, 4... before 1, 3, 5... */
static inline __m512i split_lanes(__m512i x) {
    const __m256i even = _mm512_cvtepi32_epi16(x), odd = _mm512_cvtepi32_epi16(_mm512_srli_epi32(x, 16));
    return _mm512_inserti64x4(_mm512_castsi256_si512(even), odd, 1);
}

packed_rows pack_rows(const matrix *w, const bf16 *x, const row_norm *norm, int64_t rows, uint32_t *tiles) {
    const packed_rows packed = {tiles, rows, stored_columns(w) / 32};
    const int64_t width = w->columns;
#pragma omp for schedule(static)
    for (int64_t first = 0; first < rows; first += 16) {
        const int64_t present = smaller(16, rows - first);
        row_moments moments[16];
        for (int64_t r = 0; norm && r < present; r++) moments[r] = moments_of(x + (first + r) * width, norm, width);
        for (int64_t step = 0; step < packed.steps; step++) {
            __m512i lines[16];
            for (int64_t r = 0; r < 16; r++) {
                const bf16 *from = x + (first + r) * width;
                if (r >= present || 32 * step >= width) /* columns of padding must hold numbers: their scales are 0 */
                    lines[r] = _mm512_setzero_si512();
                else if (norm)
                    lines[r] = (__m512i)_mm512_cvtne2ps_pbh(normalised(from, norm, moments[r], 32 * step + 16),
                                                            normalised(from, norm, moments[r], 32 * step));
                else
                    lines[r] = _mm512_loadu_si512(from + 32 * step);
                if (w->kind == KIND_INT4) lines[r] = split_lanes(lines[r]);
            }
            transpose_16x16(lines, tile_at(&packed, first, step));
        }
    }
    return packed;
}

int64_t panel_scratch_bytes(int64_t rows) {
    return PANEL_WORDS * sizeof(uint32_t) + MOST_PANELS * round_up(rows, 32) * PANEL_ROWS * sizeof(float);
}

/* Where rows from `first` on, columns from 32 * step on, are stored. */
static const char *codes_at(const matrix *w, int64_t first, int64_t step) {
    const int64_t half_bytes = w->kind == KIND_BF16 ? 4 : w->kind == KIND_INT8 ? 2 : 1;
    return (const char *)w->codes + (first * stored_columns(w) + 32 * step) * half_bytes / 2;
}

/* A panel's rows as left operands, two tiles a step. Meanwhile what lies `ahead` bytes further is fetched. */
static void fill_panel(const matrix *w, int64_t first, int64_t step, int64_t steps, int64_t ahead, uint32_t *panel) {
    const int64_t present = smaller(PANEL_ROWS, w->rows - first);
    if (present < PANEL_ROWS) memset(panel, 0, PANEL_WORDS * sizeof(uint32_t));
    for (int64_t r = 0; r < present; r++)
        unpack_row(w, first + r, 32 * step, 32 * (step + steps), ahead, panel + r / 16 * TILE_WORDS + r % 16 * 16,
                   2 * TILE_WORDS);
}

static inline void fetch_tile(const uint32_t *tile) {
    for (int i = 0; i < 16; i++) _mm_prefetch((const char *)(tile + 16 * i), _MM_HINT_T0);
}

/* sums (rows / 16, 32 rows of the matrix, 16 rows of x) (+)= a panel times x. */
static void add_panel(const packed_rows *x, int64_t step, int64_t steps, const uint32_t *panel, float *sums) {
    enum { AHEAD = 4 };
    for (int64_t row = 0; row < x->rows; row += 32) {
        const uint32_t *left = tile_at(x, row, step), *right = tile_at(x, row + 16, step);
        float *c = sums + row * PANEL_ROWS;
        if (step) {
            _tile_loadd(0, c, 64);
            _tile_loadd(1, c + TILE_WORDS, 64);
            _tile_loadd(2, c + 2 * TILE_WORDS, 64);
            _tile_loadd(3, c + 3 * TILE_WORDS, 64);
        } else {
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
        }
        for (int64_t k = 0; k < steps; k++) {
            /* Past the end of these steps the next 32 rows follow. */
            const int64_t later = k + AHEAD < steps ? k + AHEAD : 2 * x->steps + k + AHEAD - steps;
            _tile_loadd(4, panel + 2 * k * TILE_WORDS, 64);
            _tile_loadd(6, left + k * TILE_WORDS, 64);
            fetch_tile(left + later * TILE_WORDS);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(5, panel + (2 * k + 1) * TILE_WORDS, 64);
            _tile_dpbf16ps(1, 5, 6);
            _tile_loadd(7, right + k * TILE_WORDS, 64);
            fetch_tile(right + later * TILE_WORDS);
            _tile_dpbf16ps(2, 4, 7);
            _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(0, c, 64);
        _tile_stored(1, c + TILE_WORDS, 64);
        _tile_stored(2, c + 2 * TILE_WORDS, 64);
        _tile_stored(3, c + 3 * TILE_WORDS, 64);
    }
}

/* 32 rows of a matrix, and the sums of their products. */
typedef struct {
    const matrix *w;
    column_terms terms;
    int64_t first;
    float *sums;
} panel_task;

/* Panels of the same columns take turns, so that these columns of the activations stay in the L2 cache. */
static void multiply_panels(const panel_task *tasks, int64_t count, const packed_rows *x, uint32_t *panel) {
    for (int64_t step = 0; step < x->steps; step += PANEL_STEPS)
        for (int64_t i = 0; i < count; i++) {
            const panel_task *t = tasks + i, *next = tasks + (i + 1) % count;
            const int64_t next_step = step + (i + 1 == count ? PANEL_STEPS : 0);
            const int64_t steps = smaller(PANEL_STEPS, x->steps - step);
            const int64_t ahead = codes_at(next->w, next->first, next_step) - codes_at(t->w, t->first, step);
            fill_panel(t->w, t->first, step, steps, ahead, panel);
            add_panel(x, step, steps, panel, t->sums);
        }
}

/* Few panels at once where there are many threads for them. */
static int64_t panels_at_once(int64_t panels) {
    const int64_t share = panels / (4 * omp_get_num_threads());
    return share < 1 ? 1 : smaller(share, MOST_PANELS);
}

static panel_task new_task(const matrix *w, column_terms terms, int64_t panel, int64_t rows, int64_t i, void *scratch) {
    float *sums = (float *)((uint32_t *)scratch + PANEL_WORDS) + i * round_up(rows, 32) * PANEL_ROWS;
    return (panel_task){w, terms, panel * PANEL_ROWS, sums};
}

/* Column `n` of the panel's product, of 16 rows of x. */
static inline __m512 column_of(const panel_task *t, int64_t row, int64_t n) {
    __m512 v = _mm512_loadu_ps(t->sums + row * PANEL_ROWS + 16 * n);
    const int64_t column = t->first + n;
    if (column >= t->w->rows) return v;
    if (t->w->kind == KIND_INT8) v = _mm512_mul_ps(v, _mm512_set1_ps(((const float *)t->w->scales)[column]));
    if (t->terms.bias) v = _mm512_add_ps(v, _mm512_set1_ps(t->terms.bias[column]));
    if (t->terms.factor) v = _mm512_mul_ps(v, _mm512_set1_ps(t->terms.factor[column]));
    return v;
}

static void write_columns(const panel_task *t, int64_t rows, const bf16 *base, bf16 *y, int64_t stride) {
    float turned[TILE_WORDS] __attribute__((aligned(64)));
    for (int64_t row = 0; row < rows; row += 16)
        for (int64_t n = 0; n < smaller(PANEL_ROWS, t->w->rows - t->first); n += 16) {
            __m512i lines[16];
            for (int64_t i = 0; i < 16; i++) lines[i] = _mm512_castps_si512(column_of(t, row, n + i));
            transpose_16x16(lines, (uint32_t *)turned);
            for (int64_t r = 0; r < smaller(16, rows - row); r++) {
                const int64_t to = (row + r) * stride + t->first + n;
                const __m512 v = _mm512_load_ps(turned + 16 * r);
                store_bf16(y + to, base ? _mm512_add_ps(v, load_bf16(base + to)) : v);
            }
        }
}

void start_product(const matrix *w, column_terms terms, const packed_rows *x, const bf16 *base, bf16 *y, int64_t stride,
                   void *scratch) {
    const int64_t panels = round_up(w->rows, PANEL_ROWS) / PANEL_ROWS, together = panels_at_once(panels);
#pragma omp for schedule(dynamic) nowait
    for (int64_t begin = 0; begin < panels; begin += together) {
        const int64_t count = smaller(together, panels - begin);
        panel_task tasks[MOST_PANELS];
        for (int64_t i = 0; i < count; i++) tasks[i] = new_task(w, terms, begin + i, x->rows, i, scratch);
        multiply_panels(tasks, count, x, scratch);
        for (int64_t i = 0; i < count; i++) write_columns(tasks + i, x->rows, base, y, stride);
    }
}

/* silu(gate) * up. */
static inline __m512 gated(__m512 gate, __m512 up) {
    const __m512 e = exp2_16(_mm512_mul_ps(gate, _mm512_set1_ps(-1.44269504088896f)));
    return _mm512_div_ps(_mm512_mul_ps(gate, up), _mm512_add_ps(_mm512_set1_ps(1.0f), e));
}

/* gelu(a), or silu(a) * b. The result is transposed already, as the right operand of the next product wants it: pairs of
 * neighbours are joined. */
static void write_packed(const panel_task *a, const panel_task *b, const packed_rows *y, int is_split) {
    for (int64_t row = 0; row < y->rows; row += 16) {
        uint32_t *tile = tile_at(y, row, a->first / 32);
        for (int64_t pair = 0; pair < 16; pair++) {
            const int64_t n = is_split ? 4 * (pair % 8) + pair / 8 : 2 * pair, m = n + (is_split ? 2 : 1);
            __m512 low = column_of(a, row, n), high = column_of(a, row, m);
            low = b ? gated(low, column_of(b, row, n)) : gelu_16(low);
            high = b ? gated(high, column_of(b, row, m)) : gelu_16(high);
            const __m512i low_half = _mm512_srli_epi32(rounded_to_bf16(low), 16);
            _mm512_store_si512(tile + 16 * pair, _mm512_or_si512(rounded_to_bf16(high), low_half));
        }
    }
}

/* Columns of padding must hold numbers: their scales are 0. */
static void clear_padding(const packed_rows *y, int64_t columns) {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < y->rows; row += 16)
        for (int64_t step = columns / 32; step < y->steps; step++)
            memset(tile_at(y, row, step), 0, TILE_WORDS * sizeof(uint32_t));
}

packed_rows gated_product(const matrix *gate, const matrix *up, const matrix *next, const packed_rows *x,
                          uint32_t *tiles, void *scratch) {
    const packed_rows y = {tiles, x->rows, stored_columns(next) / 32};
    const column_terms none = {NULL, NULL};
    const int64_t panels = gate->rows / PANEL_ROWS, together = (panels_at_once(2 * panels) + 1) / 2;
#pragma omp for schedule(dynamic) nowait
    for (int64_t begin = 0; begin < panels; begin += together) {
        const int64_t count = 2 * smaller(together, panels - begin);
        panel_task tasks[MOST_PANELS];
        for (int64_t i = 0; i < count; i++)
            tasks[i] = new_task(i % 2 ? up : gate, none, begin + i / 2, x->rows, i, scratch);
        multiply_panels(tasks, count, x, scratch);
        for (int64_t i = 0; i < count; i += 2) write_packed(tasks + i, tasks + i + 1, &y, next->kind == KIND_INT4);
    }
    clear_padding(&y, gate->rows);
    return y;
}

packed_rows gelu_product(const matrix *w, column_terms terms, const matrix *next, const packed_rows *x, uint32_t *tiles,
                         void *scratch) {
    const packed_rows y = {tiles, x->rows, stored_columns(next) / 32};
    const int64_t panels = w->rows / PANEL_ROWS, together = panels_at_once(panels);
#pragma omp for schedule(dynamic) nowait
    for (int64_t begin = 0; begin < panels; begin += together) {
        const int64_t count = smaller(together, panels - begin);
        panel_task tasks[MOST_PANELS];
        for (int64_t i = 0; i < count; i++) tasks[i] = new_task(w, terms, begin + i, x->rows, i, scratch);
        multiply_panels(tasks, count, x, scratch);
        for (int64_t i = 0; i < count; i++) write_packed(tasks + i, NULL, &y, next->kind == KIND_INT4);
    }
    clear_padding(&y, w->rows);
    return y;
}
