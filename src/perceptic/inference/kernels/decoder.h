/* A decoder's step: each of `batch` sequences reads one token more. Mirrored in inference/decoder_kernels.py. */
#ifndef PERCEPTIC_DECODER_H
#define PERCEPTIC_DECODER_H

#include "products.h"

typedef struct {
    matrix wq, wk, wv, wo, w1, w3, w2;
    const float *attention_norm, *ffn_norm;
} decoder_layer;

typedef struct {
    int64_t layers, width, heads, kv_heads, head_size, ffn_width;
    const decoder_layer *layer;
    const float *norm;
    float epsilon;
} decoder;

/* Keys and values (batch, kv_heads, columns, head_size) of every layer, bfloat16, of which `length` columns count; the
 * last is written by the step. Row b begins at column `padding[b]`; NULL: none has padding. */
typedef struct {
    bf16 *const *keys, *const *values;
    const int64_t *padding;
    int64_t row_stride, head_stride, length;
} key_value_cache;

/* Rotate the new queries and keys, (batch, heads, head_size) each, by the angles of each sequence
 * (batch, head_size / 2), append keys and values to the cache and attend: `query` is overwritten with the result.
 * `scores` is this thread's own room for `attention_scores` floats. To be called by all threads of a parallel region;
 * ends with a barrier. */
void attend_cached(const decoder *d, const key_value_cache *cache, int64_t layer, int64_t batch, const float *cosine,
                   const float *sine, float *query, const float *key, const float *value, float *scores);

/* The heads that share a key-value head take turns in fours. */
enum { HEADS_AT_ONCE = 4 };
static inline int64_t attention_scores(int64_t length) { return HEADS_AT_ONCE * round_up(length, 16); }

#endif
