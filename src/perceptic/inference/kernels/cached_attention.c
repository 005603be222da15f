/* One new token of each sequence against all the keys and values before it. Head sizes are multiples of 16. */
#include "attention.h"
#include "decoder.h"

enum { MOST_CHANNELS = 256 };

/* `size` channels turned by their pairs' angles, rounded to bfloat16, in place. */
static void rotate(float *x, int64_t size, const float *cosine, const float *sine) {
    const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    for (int64_t i = 0; i < size; i += 16) {
        const __m512 pairs = _mm512_loadu_ps(x + i), swapped = _mm512_permute_ps(pairs, 0xb1);
        const __m512 c = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(cosine + i / 2)));
        const __m512 s = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(sine + i / 2)));
        const __m512 turned = _mm512_fmaddsub_ps(pairs, c, _mm512_mul_ps(swapped, s));
        _mm512_storeu_si512(x + i, rounded_to_bf16(turned));
    }
}

/* Lane 4 * i + j is the sum of v[i][j]. */
static inline __m512 sums_of_16(__m512 v[4][4]) {
    __m512 quarters[4];
    for (int i = 0; i < 4; i++) {
        const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(v[i][0], v[i][1]), _mm512_unpackhi_ps(v[i][0], v[i][1]));
        const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(v[i][2], v[i][3]), _mm512_unpackhi_ps(v[i][2], v[i][3]));
        quarters[i] = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
    }
    const __m512 a = _mm512_add_ps(_mm512_shuffle_f32x4(quarters[0], quarters[1], 0x88),
                                   _mm512_shuffle_f32x4(quarters[0], quarters[1], 0xdd));
    const __m512 b = _mm512_add_ps(_mm512_shuffle_f32x4(quarters[2], quarters[3], 0x88),
                                   _mm512_shuffle_f32x4(quarters[2], quarters[3], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

/* scores (HEADS_AT_ONCE, padded) of `heads` queries with the keys of columns first to end. */
static void score_keys(const float *query, int64_t heads, int64_t size, const bf16 *keys, int64_t first, int64_t end,
                       int64_t padded, float *scores) {
    float four[16] __attribute__((aligned(64)));
    for (int64_t column = first; column < end; column += 4) {
        __m512 sum[4][4];
        for (int h = 0; h < 4; h++)
            for (int j = 0; j < 4; j++) sum[h][j] = _mm512_setzero_ps();
        for (int64_t i = 0; i < size; i += 16)
            for (int j = 0; j < 4; j++) {
                const __m512 key = load_bf16(keys + smaller(column + j, end - 1) * size + i);
                for (int h = 0; h < 4; h++) {
                    const float *part = query + smaller(h, heads - 1) * size + i;
                    sum[h][j] = _mm512_fmadd_ps(key, _mm512_loadu_ps(part), sum[h][j]);
                }
            }
        _mm512_store_ps(four, sums_of_16(sum));
        for (int64_t h = 0; h < heads; h++)
            for (int64_t j = 0; j < smaller(4, end - column); j++)
                scores[h * padded + column - first + j] = four[4 * h + j];
    }
}

/* out (heads, size) = the values of `count` columns, weighted and scaled; 64 channels of four heads at a time. */
static void weigh_values(const float *weights, int64_t padded, const float *scale, int64_t heads, int64_t size,
                         const bf16 *values, int64_t count, float *out) {
    for (int64_t i = 0; i < size; i += 64) {
        const int vectors = (int)smaller(4, (size - i) / 16);
        __m512 sum[4][4];
        for (int h = 0; h < 4; h++)
            for (int v = 0; v < 4; v++) sum[h][v] = _mm512_setzero_ps();
        for (int64_t column = 0; column < count; column++) {
            __m512 value[4];
            for (int v = 0; v < 4; v++)
                value[v] = v < vectors ? load_bf16(values + column * size + i + 16 * v) : _mm512_setzero_ps();
            for (int h = 0; h < 4; h++) {
                const __m512 weight = _mm512_set1_ps(weights[smaller(h, heads - 1) * padded + column]);
                for (int v = 0; v < 4; v++) sum[h][v] = _mm512_fmadd_ps(weight, value[v], sum[h][v]);
            }
        }
        for (int64_t h = 0; h < heads; h++)
            for (int v = 0; v < vectors; v++)
                _mm512_storeu_ps(out + h * size + i + 16 * v, _mm512_mul_ps(sum[h][v], _mm512_set1_ps(scale[h])));
    }
}

/* `heads` rotated queries of one group (at most four), overwritten with what they attend to. */
static void attend_group(float *query, int64_t heads, int64_t size, const bf16 *keys, const bf16 *values, int64_t first,
                         int64_t end, float *scores) {
    const int64_t count = end - first, padded = round_up(count, 16);
    float inverse[HEADS_AT_ONCE];
    score_keys(query, heads, size, keys, first, end, padded, scores);
    for (int64_t h = 0; h < heads; h++)
        inverse[h] = softmax_row(scores + h * padded, NULL, count, padded, 1.0f / sqrtf((float)size));
    weigh_values(scores, padded, inverse, heads, size, values + first * size, count, query);
}

void attend_cached(const decoder *d, const key_value_cache *cache, int64_t layer, int64_t batch, const float *cosine,
                   const float *sine, float *query, const float *key, const float *value, float *scores) {
    const int64_t size = d->head_size, group = d->heads / d->kv_heads;
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < batch * d->kv_heads; item++) {
        const int64_t row = item / d->kv_heads, head = item % d->kv_heads, angle = row * size / 2;
        bf16 *keys = cache->keys[layer] + row * cache->row_stride + head * cache->head_stride;
        bf16 *values = cache->values[layer] + row * cache->row_stride + head * cache->head_stride;
        float *queries = query + item * group * size, turned[MOST_CHANNELS];
        memcpy(turned, key + item * size, size * sizeof(float));
        rotate(turned, size, cosine + angle, sine + angle);
        for (int64_t i = 0; i < size; i += 16) {
            store_bf16(keys + (cache->length - 1) * size + i, _mm512_loadu_ps(turned + i));
            store_bf16(values + (cache->length - 1) * size + i, _mm512_loadu_ps(value + item * size + i));
        }
        for (int64_t h = 0; h < group; h++) rotate(queries + h * size, size, cosine + angle, sine + angle);
        const int64_t first = cache->padding ? cache->padding[row] : 0;
        for (int64_t h = 0; h < group; h += HEADS_AT_ONCE)
            attend_group(queries + h * size, smaller(HEADS_AT_ONCE, group - h), size, keys, values, first,
                         cache->length, scores);
    }
}
