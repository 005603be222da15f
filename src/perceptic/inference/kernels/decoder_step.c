/* A whole decoder step in one call: the threads meet at barriers instead of returning to the interpreter.
 *
 * Between the products, which round their input to bfloat16 as the model does, everything stays in float32.
 */
#include "decoder.h"

#include <omp.h>

#ifdef __AMX_TILE__
#include "tiles.h"
#endif

/* Rows of one step; all in one allocation. */
typedef struct {
    float *hidden;      /* (batch, width), the residual stream */
    float *staged;      /* (batch, widest stored width), input of a product */
    float *a, *b, *c;   /* (batch, widest output), outputs of products; queries and attention, keys, values */
    float *scores;      /* (threads, attention_scores) */
    void *packed;
    void *memory;
} step_rows;

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static step_rows new_rows(const decoder *d, int64_t batch, int64_t length, int threads) {
    const int64_t heads = d->heads * d->head_size, widest = larger(larger(d->width, d->ffn_width), heads);
    const int64_t stored = round_up(widest, 128), row = batch * stored * sizeof(float);
    step_rows r;
    const int64_t scores = threads * attention_scores(length) * sizeof(float);
    char *next = r.memory = aligned_alloc(64, 5 * row + scores + product_scratch_bytes(stored, batch));
    r.hidden = (float *)next, next += row;
    r.staged = (float *)next, next += row;
    r.a = (float *)next, next += row;
    r.b = (float *)next, next += row;
    r.c = (float *)next, next += row;
    r.scores = (float *)next, next += scores;
    r.packed = next;
    return r;
}

/* x += delta (if any), y = x / rms(x) * weight. */
static void add_and_normalise(float *x, const float *delta, const float *weight, float *y, int64_t width,
                              float epsilon) {
    __m512 square = _mm512_setzero_ps();
    for (int64_t i = 0; i < width; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        if (delta) _mm512_storeu_ps(x + i, v = _mm512_add_ps(v, _mm512_loadu_ps(delta + i)));
        square = _mm512_fmadd_ps(v, v, square);
    }
    const __m512 scale = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(square) / width + epsilon));
    for (int64_t i = 0; i < width; i += 16) {
        const __m512 normal = _mm512_mul_ps(_mm512_loadu_ps(x + i), scale);
        _mm512_storeu_ps(y + i, _mm512_mul_ps(normal, _mm512_loadu_ps(weight + i)));
    }
}

/* y = silu(gate) * up. */
static void gate_row(const float *gate, const float *up, float *y, int64_t width) {
    const __m512 one = _mm512_set1_ps(1.0f), to_base_2 = _mm512_set1_ps(-1.44269504088896f);
    for (int64_t i = 0; i < width; i += 16) {
        const __m512 g = _mm512_loadu_ps(gate + i);
        const __m512 sigmoid = _mm512_div_ps(one, _mm512_add_ps(one, exp2_16(_mm512_mul_ps(g, to_base_2))));
        _mm512_storeu_ps(y + i, _mm512_mul_ps(_mm512_mul_ps(g, sigmoid), _mm512_loadu_ps(up + i)));
    }
}

/* The input of the next product: each of the three is shared by all threads and ends with a barrier. */
static void stage_normalised(const decoder *d, const matrix *next, const float *norm, const float *delta, int64_t batch,
                             const step_rows *r) {
#pragma omp for schedule(static)
    for (int64_t b = 0; b < batch; b++) {
        float *out = r->staged + b * stored_columns(next);
        const float *added = delta ? delta + b * d->width : NULL;
        add_and_normalise(r->hidden + b * d->width, added, norm, out, d->width, d->epsilon);
        stage_row(next, out, is_tiled(batch));
    }
}

static void stage_attended(const matrix *next, int64_t batch, const step_rows *r) {
#pragma omp for schedule(static)
    for (int64_t b = 0; b < batch; b++) {
        float *out = r->staged + b * stored_columns(next);
        memcpy(out, r->a + b * next->columns, next->columns * sizeof(float));
        stage_row(next, out, is_tiled(batch));
    }
}

static void stage_gated(const matrix *next, int64_t batch, const step_rows *r) {
#pragma omp for schedule(static)
    for (int64_t b = 0; b < batch; b++) {
        float *out = r->staged + b * stored_columns(next);
        gate_row(r->a + b * next->columns, r->b + b * next->columns, out, next->columns);
        stage_row(next, out, is_tiled(batch));
    }
}

/* `delta` is what the layer before has still to add to the residual stream; returns that of this layer. */
static const float *run_layer(const decoder *d, const key_value_cache *cache, int64_t layer, const float *delta,
                              int64_t batch, const float *cosine, const float *sine, const step_rows *r,
                              float *scores) {
    const decoder_layer *l = d->layer + layer;
    stage_normalised(d, &l->wq, l->attention_norm, delta, batch, r);
    multiply_staged(&l->wq, 3, r->staged, batch, (float *const[]){r->a, r->b, r->c}, r->packed);
    attend_cached(d, cache, layer, batch, cosine, sine, r->a, r->b, r->c, scores);
    stage_attended(&l->wo, batch, r);
    multiply_staged(&l->wo, 1, r->staged, batch, (float *const[]){r->c}, r->packed);
    stage_normalised(d, &l->w1, l->ffn_norm, r->c, batch, r);
    multiply_staged(&l->w1, 2, r->staged, batch, (float *const[]){r->a, r->b}, r->packed);
    stage_gated(&l->w2, batch, r);
    multiply_staged(&l->w2, 1, r->staged, batch, (float *const[]){r->c}, r->packed);
    return r->c;
}

/* x (batch, width) embedding rows to y (batch, width), normalised hidden states. */
void decoder_step(const decoder *d, const key_value_cache *cache, const bf16 *x, const float *cosine, const float *sine,
                  bf16 *y, int64_t batch, int threads) {
    const step_rows r = new_rows(d, batch, cache->length, threads);
    for (int64_t i = 0; i < batch * d->width; i += 16) _mm512_storeu_ps(r.hidden + i, load_bf16(x + i));
#pragma omp parallel num_threads(threads)
    {
#ifdef __AMX_TILE__
        const tile_config before = use_full_tiles();
#endif
        float *scores = r.scores + omp_get_thread_num() * attention_scores(cache->length);
        const float *delta = NULL;
        for (int64_t layer = 0; layer < d->layers; layer++)
            delta = run_layer(d, cache, layer, delta, batch, cosine, sine, &r, scores);
#pragma omp for schedule(static)
        for (int64_t b = 0; b < batch; b++) {
            float *row = r.hidden + b * d->width;
            add_and_normalise(row, delta ? delta + b * d->width : NULL, d->norm, row, d->width, d->epsilon);
            for (int64_t i = 0; i < d->width; i += 16) store_bf16(y + b * d->width + i, _mm512_loadu_ps(row + i));
        }
#ifdef __AMX_TILE__
        restore_tiles(&before);
#endif
    }
    free(r.memory);
}

/* y (batch, rows) = x (batch, columns) W^T, rounded to bfloat16. */
void linear_bf16(const matrix *w, const bf16 *x, bf16 *y, int64_t batch, int threads) {
    const int64_t stored = stored_columns(w), outputs = round_up(batch * w->rows, 16) * sizeof(float);
    const int64_t inputs = batch * stored * sizeof(float);
    char *memory = aligned_alloc(64, round_up(inputs + outputs + product_scratch_bytes(stored, batch), 64));
    float *staged = (float *)memory, *sums = (float *)(memory + inputs);
#pragma omp parallel num_threads(threads)
    {
#ifdef __AMX_TILE__
        const tile_config before = use_full_tiles();
#endif
#pragma omp for schedule(static)
        for (int64_t b = 0; b < batch; b++) {
            for (int64_t i = 0; i < w->columns; i += 16)
                _mm512_storeu_ps(staged + b * stored + i, load_bf16(x + b * w->columns + i));
            stage_row(w, staged + b * stored, is_tiled(batch));
        }
        multiply_staged(w, 1, staged, batch, &sums, memory + inputs + outputs);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < batch * w->rows / 16; i++) store_bf16(y + 16 * i, _mm512_loadu_ps(sums + 16 * i));
#ifdef __AMX_TILE__
        restore_tiles(&before);
#endif
    }
    for (int64_t i = batch * w->rows / 16 * 16; i < batch * w->rows; i++) {
        bf16 last[16];
        store_bf16(last, _mm512_set1_ps(sums[i]));
        y[i] = last[0];
    }
    free(memory);
}
