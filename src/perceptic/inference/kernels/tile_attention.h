/* What attention on AMX tiles is made of: keys and values packed for the tiles, and products of 32 x 32 results. Head
 * sizes are multiples of 32. */
#ifndef PERCEPTIC_TILE_ATTENTION_H
#define PERCEPTIC_TILE_ATTENTION_H

#include "attention.h"
#include "tiles.h"

enum { BLOCK = 32 }; /* a block of queries is two tiles high */

typedef struct {
    uint32_t *keys;   /* (tokens/16, size/32, 16 channel pairs, 16 tokens) */
    uint32_t *values; /* (tokens/32, size/16, 16 token pairs, 16 channels) */
    uint32_t *query;  /* (32, size/2) */
    float *scores;    /* (32, tokens) */
    bf16 *weights;    /* (32, tokens) */
    float *sums;      /* (32, size) */
    void *memory;
} tile_scratch;

static inline tile_scratch new_scratch(int64_t padded, int64_t size) {
    tile_scratch s;
    const int64_t bytes = 2 * padded * size * 2 + BLOCK * padded * (4 + 2) + BLOCK * size * (4 + 2);
    char *next = s.memory = aligned_alloc(64, round_up(bytes, 64));
    s.keys = (uint32_t *)next, next += padded * size * 2;
    s.values = (uint32_t *)next, next += padded * size * 2;
    s.scores = (float *)next, next += BLOCK * padded * 4;
    s.weights = (bf16 *)next, next += BLOCK * padded * 2;
    s.sums = (float *)next, next += BLOCK * size * 4;
    s.query = (uint32_t *)next;
    return s;
}

/* Angles of one head's channels: (tokens, size / 2) each, or NULL for no rotation. */
typedef struct {
    const float *cosine, *sine;
} angles;

/* 16 channel pairs (32 channels) of one token, turned by the token's angles; rounded once, to bfloat16. */
static inline __m512i rotated(const bf16 *row, angles a, int64_t token, int64_t channel, int64_t size) {
    const __m512i pairs = _mm512_loadu_si512(row + channel);
    if (!a.cosine) return pairs;
    const int64_t angle = token * (size / 2) + channel / 2;
    const __m512 c = _mm512_loadu_ps(a.cosine + angle), s = _mm512_loadu_ps(a.sine + angle);
    const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    const __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)));
    const __m512 new_even = _mm512_fmsub_ps(even, c, _mm512_mul_ps(odd, s));
    const __m512 new_odd = _mm512_fmadd_ps(odd, c, _mm512_mul_ps(even, s));
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(new_even));
    const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(new_odd));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

/* Keys of `tokens` tokens, `stride` apart; zeros follow up to the next multiple of 32 tokens. */
static inline void pack_keys(const bf16 *key, int64_t stride, int64_t tokens, int64_t size, angles a, uint32_t *out) {
    for (int64_t token = 0; token < round_up(tokens, 32); token += 16)
        for (int64_t channel = 0; channel < size; channel += 32, out += TILE_WORDS) {
            __m512i rows[16];
            for (int64_t i = 0; i < 16; i++)
                rows[i] = token + i < tokens ? rotated(key + (token + i) * stride, a, token + i, channel, size)
                                             : _mm512_setzero_si512();
            transpose_16x16(rows, out);
        }
}

static inline __m512i widened(const bf16 *value, int64_t stride, int64_t tokens, int64_t token) {
    if (token >= tokens) return _mm512_setzero_si512();
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(value + token * stride)));
}

static inline void pack_values(const bf16 *value, int64_t stride, int64_t tokens, int64_t size, uint32_t *out) {
    const int64_t tiles = size / 16;
    for (int64_t token = 0; token < round_up(tokens, 32); token += 2)
        for (int64_t tile = 0; tile < tiles; tile++) {
            const __m512i even = widened(value + tile * 16, stride, tokens, token);
            const __m512i odd = widened(value + tile * 16, stride, tokens, token + 1);
            uint32_t *row = out + (token / 32 * tiles + tile) * TILE_WORDS + token % 32 / 2 * 16;
            _mm512_store_si512(row, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
        }
}

/* c (32 x 32 floats) = a (32 rows of `steps` * 32 bfloat16) times two columns of packed tiles. */
static inline void multiply(const void *a, int64_t a_bytes, const uint32_t *b, int64_t b_step, int64_t b_column,
                            int64_t steps, float *c, int64_t c_bytes) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t k = 0; k < steps; k++) {
        const char *top = (const char *)a + k * 64;
        _tile_loadd(4, top, a_bytes);
        _tile_loadd(6, b + k * b_step, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + k * b_step + b_column, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, top + 16 * a_bytes, a_bytes);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    float *below = (float *)((char *)c + 16 * c_bytes);
    _tile_stored(0, c, c_bytes);
    _tile_stored(1, c + 16, c_bytes);
    _tile_stored(2, below, c_bytes);
    _tile_stored(3, below + 16, c_bytes);
}

#endif
