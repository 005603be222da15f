/* Causal attention of new tokens over all columns of a cache, in bfloat16 on AMX tiles, accumulated in float32.
 *
 * One item of work is a key-value head of one sequence: its columns are packed once for all queries that see them. The
 * rows of a block are (token, query head) pairs, token by token, so that a block ends where its last token sees.
 */
#include "causal_attention.h"

#include "tile_attention.h"

/* 16 neighbouring channels (8 pairs) turned by 8 angles. */
static inline __m512 turned(__m512 x, const float *cosine, const float *sine) {
    const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    const __m512 c = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(cosine)));
    const __m512 s = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(sine)));
    return _mm512_fmaddsub_ps(x, c, _mm512_mul_ps(_mm512_permute_ps(x, 0xb1), s));
}

/* One token: its queries are turned in place, its keys on their way into the cache, its values are copied there. */
static void enter_token(const decoder *d, bf16 *qkv, const float *cosine, const float *sine, bf16 *key, bf16 *value,
                        int64_t head_stride) {
    const int64_t size = d->head_size, queries = d->heads * size, keys = d->kv_heads * size;
    for (int64_t channel = 0; channel < queries + keys; channel += 16) {
        const int64_t pair = channel % size / 2, k = channel - queries;
        bf16 *to = k < 0 ? qkv + channel : key + k / size * head_stride + k % size;
        store_bf16(to, turned(load_bf16(qkv + channel), cosine + pair, sine + pair));
    }
    for (int64_t head = 0; head < d->kv_heads; head++)
        memcpy(value + head * head_stride, qkv + queries + keys + head * size, size * sizeof(bf16));
}

void enter_cache(const decoder *d, const new_tokens *n, const key_value_cache *cache, int64_t layer, bf16 *qkv) {
    const int64_t size = d->head_size, width = (d->heads + 2 * d->kv_heads) * size, start = cache->length - n->tokens;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < n->batch * n->tokens; i++) {
        const int64_t row = i / n->tokens, token = i % n->tokens;
        const int64_t angle = row * n->angle_stride + token * (size / 2);
        const int64_t column = row * cache->row_stride + (start + token) * size;
        enter_token(d, qkv + i * width, n->cosine + angle, n->sine + angle, cache->keys[layer] + column,
                    cache->values[layer] + column, cache->head_stride);
    }
}

/* Queries (tokens, group) of one sequence and key-value head, a token's `stride` apart. */
typedef struct {
    const bf16 *query;
    bf16 *out;
    int64_t tokens, group, size, stride, out_stride;
    int64_t seen_by_first; /* columns that token 0 sees; 0 or less where it is padding */
} group_of_heads;

static void attend_block(const group_of_heads *g, int64_t first, const tile_scratch *m) {
    const int64_t steps = g->size / 32, rows = smaller(BLOCK, g->tokens * g->group - first);
    const int64_t seen_by_last = g->seen_by_first + (first + rows - 1) / g->group;
    const int64_t padded = seen_by_last > 0 ? round_up(seen_by_last, 32) : 0;
    float inverse[BLOCK];
    for (int64_t r = 0; r < rows; r++) {
        const bf16 *from = g->query + (first + r) / g->group * g->stride + (first + r) % g->group * g->size;
        memcpy(m->query + r * g->size / 2, from, g->size * sizeof(bf16));
    }
    for (int64_t column = 0; column < padded; column += 32)
        multiply(m->query, g->size * 2, m->keys + column / 16 * steps * TILE_WORDS, TILE_WORDS, steps * TILE_WORDS,
                 steps, m->scores + column, padded * 4);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t seen = g->seen_by_first + (first + r) / g->group;
        bf16 *weights = m->weights + r * padded;
        if (seen > 0)
            inverse[r] = softmax_row(m->scores + r * padded, weights, seen, padded, 1.0f / sqrtf((float)g->size));
        else
            inverse[r] = 0.0f, memset(weights, 0, padded * sizeof(bf16));
    }
    for (int64_t channel = 0; channel < g->size; channel += 32)
        multiply(m->weights, padded * 2, m->values + channel / 16 * TILE_WORDS, g->size / 16 * TILE_WORDS, TILE_WORDS,
                 padded / 32, m->sums + channel, g->size * 4);
    for (int64_t r = 0; r < rows; r++) {
        bf16 *to = g->out + (first + r) / g->group * g->out_stride + (first + r) % g->group * g->size;
        for (int64_t channel = 0; channel < g->size; channel += 16) {
            const __m512 sum = _mm512_loadu_ps(m->sums + r * g->size + channel);
            store_bf16(to + channel, _mm512_mul_ps(sum, _mm512_set1_ps(inverse[r])));
        }
    }
}

void attend_causally(const decoder *d, const new_tokens *n, const key_value_cache *cache, int64_t layer,
                     const bf16 *qkv, bf16 *out, int threads) {
    const int64_t size = d->head_size, group = d->heads / d->kv_heads, items = n->batch * d->kv_heads;
    const int64_t width = (d->heads + 2 * d->kv_heads) * size, blocks = round_up(n->tokens * group, BLOCK) / BLOCK;
    /* Later blocks see more: dealt out in turn, parts are equal; more parts than threads even out what is left. */
    const int64_t parts = smaller(blocks, round_up(4 * threads, items) / items);
    const tile_scratch m = new_scratch(round_up(cache->length, 32), size);
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < items * parts; item++) {
        const int64_t part = item % parts, head = item / parts % d->kv_heads, row = item / parts / d->kv_heads;
        const int64_t padding = cache->padding ? cache->padding[row] : 0, columns = cache->length - padding;
        const int64_t offset = row * cache->row_stride + head * cache->head_stride + padding * size;
        const group_of_heads g = {
            .query = qkv + row * n->tokens * width + head * group * size,
            .out = out + (row * n->tokens * d->heads + head * group) * size,
            .tokens = n->tokens, .group = group, .size = size, .stride = width, .out_stride = d->heads * size,
            .seen_by_first = columns - n->tokens + 1,
        };
        pack_keys(cache->keys[layer] + offset, size, columns, size, (angles){NULL, NULL}, m.keys);
        pack_values(cache->values[layer] + offset, size, columns, size, m.values);
        for (int64_t block = part; block < blocks; block += parts) attend_block(&g, block * BLOCK, &m);
    }
    free(m.memory);
}
