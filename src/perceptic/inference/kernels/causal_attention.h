/* Attention of many new tokens, for reading prompts. Head sizes are multiples of 32. */
#ifndef PERCEPTIC_CAUSAL_ATTENTION_H
#define PERCEPTIC_CAUSAL_ATTENTION_H

#include "decoder.h"

/* `tokens` tokens more in each of `batch` sequences, whose columns the cache has claimed. Angles (tokens, size / 2), those
 * of the next sequence `angle_stride` later: 0 where all have the same. */
typedef struct {
    int64_t batch, tokens, angle_stride;
    const float *cosine, *sine;
} new_tokens;

/* Both are to be called by all threads of a parallel region and end with a barrier. `qkv` (batch, tokens, heads + 2 *
 * kv_heads, size): queries are turned in place, keys and values go into the cache. */
void enter_cache(const decoder *d, const new_tokens *n, const key_value_cache *cache, int64_t layer, bf16 *qkv);

/* Output (batch, tokens, heads, size); zeros for tokens that are padding. */
void attend_causally(const decoder *d, const new_tokens *n, const key_value_cache *cache, int64_t layer,
                     const bf16 *qkv, bf16 *out, int threads);

#endif
