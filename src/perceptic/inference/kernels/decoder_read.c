/* A decoder reads many tokens at once: a prompt, or a part of it. All layers in one call, for AMX.
 *
 * Between products everything is bfloat16, as in the model; inside them and inside norms and attention, float32.
 */
#include "causal_attention.h"
#include "panels.h"
#include "tiles.h"

/* What all threads share; one allocation. */
typedef struct {
    uint32_t *narrow, *wide; /* packed inputs of products: of the decoder's width or that of all heads, of the feed-forward's */
    bf16 *qkv, *attended;
    void *memory;
} reading;

static reading new_reading(const decoder *d, int64_t rows) {
    const int64_t heads = d->heads * d->head_size, all = (d->heads + 2 * d->kv_heads) * d->head_size;
    const int64_t narrow = packed_bytes(rows, d->width > heads ? d->width : heads), wide = packed_bytes(rows, d->ffn_width);
    const int64_t qkv = round_up(rows * all * sizeof(bf16), 64), attended = round_up(rows * heads * sizeof(bf16), 64);
    reading r;
    char *next = r.memory = aligned_alloc(64, narrow + wide + qkv + attended);
    r.narrow = (uint32_t *)next, next += narrow;
    r.wide = (uint32_t *)next, next += wide;
    r.qkv = (bf16 *)next, next += qkv;
    r.attended = (bf16 *)next;
    return r;
}

static void read_layer(const decoder *d, const new_tokens *n, const key_value_cache *cache, int64_t layer, bf16 *x,
                       const reading *r, void *scratch, int threads) {
    const decoder_layer *l = d->layer + layer;
    const int64_t rows = n->batch * n->tokens, heads = d->heads * d->head_size, keys = d->kv_heads * d->head_size;
    const int64_t all = heads + 2 * keys;
    const row_norm before_attention = {l->attention_norm, NULL, d->epsilon}, before_ffn = {l->ffn_norm, NULL, d->epsilon};
    const column_terms none = {NULL, NULL};
    packed_rows in = pack_rows(&l->wq, x, &before_attention, rows, r->narrow);
    start_product(&l->wq, none, &in, NULL, r->qkv, all, scratch);
    start_product(&l->wk, none, &in, NULL, r->qkv + heads, all, scratch);
    start_product(&l->wv, none, &in, NULL, r->qkv + heads + keys, all, scratch);
#pragma omp barrier
    enter_cache(d, n, cache, layer, r->qkv);
    attend_causally(d, n, cache, layer, r->qkv, r->attended, threads);
    in = pack_rows(&l->wo, r->attended, NULL, rows, r->narrow);
    start_product(&l->wo, none, &in, x, x, d->width, scratch);
#pragma omp barrier
    in = pack_rows(&l->w1, x, &before_ffn, rows, r->narrow);
    in = gated_product(&l->w1, &l->w3, &l->w2, &in, r->wide, scratch);
    start_product(&l->w2, none, &in, x, x, d->width, scratch);
#pragma omp barrier
}

static void normalise_row(bf16 *x, const row_norm *norm, int64_t width) {
    const row_moments moments = moments_of(x, norm, width);
    for (int64_t i = 0; i < width; i += 16) store_bf16(x + i, normalised(x, norm, moments, i));
}

/* x (batch, tokens, width), embedding rows, is overwritten with normalised hidden states. */
void decoder_read(const decoder *d, const key_value_cache *cache, bf16 *x, const float *cosine, const float *sine,
                  int64_t angle_stride, int64_t batch, int64_t tokens, int threads) {
    const new_tokens n = {batch, tokens, angle_stride, cosine, sine};
    const reading r = new_reading(d, batch * tokens);
    const row_norm last = {d->norm, NULL, d->epsilon};
#pragma omp parallel num_threads(threads)
    {
        const tile_config before = use_full_tiles();
        void *scratch = aligned_alloc(64, panel_scratch_bytes(batch * tokens));
        for (int64_t layer = 0; layer < d->layers; layer++) read_layer(d, &n, cache, layer, x, &r, scratch, threads);
#pragma omp for schedule(static)
        for (int64_t row = 0; row < batch * tokens; row++)
            normalise_row(x + row * d->width, &last, d->width);
        free(scratch);
        restore_tiles(&before);
    }
    free(r.memory);
}
