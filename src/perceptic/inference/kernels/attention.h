/* One image head: pack keys and values once, then for each block of query rows scores, softmax and the weighted sum.
 *
 * The whole row of scores is kept (tokens are hundreds, a block fits the L2 cache), so that softmax is exact and needs
 * no second pass over the values.
 */
#ifndef PERCEPTIC_ATTENTION_H
#define PERCEPTIC_ATTENTION_H

#include "common.h"

/* Input (batch, tokens, 3, heads, size); cosine and sine (tokens, size / 2), or NULL for no rotation; output
 * (batch, tokens, heads, size). */
typedef struct {
    int64_t batch, tokens, heads, size;
    const float *cosine, *sine;
} attention_shape;

/* Heads of images are independent; where there are fewer of them than threads, the query rows are divided too. */
static inline int64_t query_parts(const attention_shape *s, int64_t blocks, int threads) {
    return smaller(blocks, round_up(threads, s->batch * s->heads) / (s->batch * s->heads));
}

/* 2^x to 1e-4 relative, enough for weights that are rounded to bfloat16, in half the work of `exp2_16`. x is 0 or less;
 * below -126 the result is 0. */
static inline __m512 coarse_exp2_16(__m512 x) {
    const __m512 shift = _mm512_set1_ps(12582912.0f); /* adding it leaves the nearest whole number in the low bits */
    const __m512 shifted = _mm512_add_ps(x, shift);
    const __m512 f = _mm512_sub_ps(x, _mm512_sub_ps(shifted, shift));
    __m512 p = _mm512_set1_ps(5.517064e-2f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4260888e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9326095e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.9992821e-1f));
    const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
    const __mmask16 is_normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.0f), _CMP_GE_OQ);
    return _mm512_castsi512_ps(_mm512_maskz_add_epi32(is_normal, _mm512_castps_si512(p), exponent));
}

/* Softmax of one row of `length` scores, not yet divided by the sum, whose inverse is returned. `padded` (a multiple
 * of 16) weights are written, zeros past `length`: as float32 in place, or as bfloat16 to `narrow` if it is given. */
static inline float softmax_row(float *score, bf16 *narrow, int64_t length, int64_t padded, float scale) {
    for (int64_t j = length; j < padded; j++) score[j] = -INFINITY;
    __m512 top = _mm512_loadu_ps(score);
    for (int64_t j = 16; j < padded; j += 16) top = _mm512_max_ps(top, _mm512_loadu_ps(score + j));
    const float to_base_2 = scale * 1.44269504088896f;
    const __m512 factor = _mm512_set1_ps(to_base_2);
    const __m512 highest = _mm512_set1_ps(_mm512_reduce_max_ps(top) * to_base_2);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t j = 0; j < padded; j += 16) {
        const __m512 x = _mm512_fmsub_ps(_mm512_loadu_ps(score + j), factor, highest);
        const __m512 e = narrow ? coarse_exp2_16(x) : exp2_16(x);
        sum = _mm512_add_ps(sum, e);
        if (narrow)
            store_bf16(narrow + j, e);
        else
            _mm512_storeu_ps(score + j, e);
    }
    return 1.0f / _mm512_reduce_add_ps(sum);
}

#endif
