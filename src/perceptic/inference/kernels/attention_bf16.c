/* Rotary attention in bfloat16 on AMX tiles, accumulated in float32. Head sizes are multiples of 32. */
#include "attention.h"
#include "tiles.h"

#include <sys/syscall.h>
#include <unistd.h>

enum { BLOCK = 32 }; /* a block of queries is two tiles high */

/* Linux hands out the tile registers on request. Returns 1 where this processor and kernel have them. */
int prepare_tiles(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

typedef struct {
    uint32_t *keys;   /* (tokens/16, size/32, 16 channel pairs, 16 tokens) */
    uint32_t *values; /* (tokens/32, size/16, 16 token pairs, 16 channels) */
    uint32_t *query;  /* (32, size/2) */
    float *scores;    /* (32, tokens) */
    bf16 *weights;    /* (32, tokens) */
    float *sums;      /* (32, size) */
    void *memory;
} scratch;

static scratch new_scratch(int64_t padded, int64_t size) {
    scratch s;
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

/* 16 channel pairs (32 channels) of one token, turned by the token's angles; rounded once, to bfloat16. */
static inline __m512i rotated(const bf16 *row, const attention_shape *s, int64_t token, int64_t channel) {
    const __m512i pairs = _mm512_loadu_si512(row + channel);
    if (!s->cosine) return pairs;
    const int64_t angle = token * (s->size / 2) + channel / 2;
    const __m512 c = _mm512_loadu_ps(s->cosine + angle), i = _mm512_loadu_ps(s->sine + angle);
    const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    const __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)));
    const __m512 new_even = _mm512_fmsub_ps(even, c, _mm512_mul_ps(odd, i));
    const __m512 new_odd = _mm512_fmadd_ps(odd, c, _mm512_mul_ps(even, i));
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(new_even));
    const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(new_odd));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

static void pack_keys(const bf16 *key, int64_t stride, const attention_shape *s, int64_t padded, uint32_t *out) {
    for (int64_t token = 0; token < padded; token += 16)
        for (int64_t channel = 0; channel < s->size; channel += 32, out += TILE_WORDS) {
            __m512i rows[16];
            for (int64_t i = 0; i < 16; i++)
                rows[i] = token + i < s->tokens ? rotated(key + (token + i) * stride, s, token + i, channel)
                                                : _mm512_setzero_si512();
            transpose_16x16(rows, out);
        }
}

static inline __m512i widened(const bf16 *value, int64_t stride, const attention_shape *s, int64_t token) {
    if (token >= s->tokens) return _mm512_setzero_si512();
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(value + token * stride)));
}

static void pack_values(const bf16 *value, int64_t stride, const attention_shape *s, int64_t padded, uint32_t *out) {
    const int64_t tiles = s->size / 16;
    for (int64_t token = 0; token < padded; token += 2)
        for (int64_t tile = 0; tile < tiles; tile++) {
            const __m512i even = widened(value + tile * 16, stride, s, token);
            const __m512i odd = widened(value + tile * 16, stride, s, token + 1);
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

static void attend(const bf16 *query, int64_t stride, const attention_shape *s, int64_t first, int64_t padded,
                   const scratch *m, bf16 *out) {
    const int64_t rows = smaller(BLOCK, s->tokens - first), steps = s->size / 32, width = s->heads * s->size;
    float inverse[BLOCK];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t channel = 0; channel < s->size; channel += 32)
            _mm512_store_si512(m->query + (r * s->size + channel) / 2,
                               rotated(query + (first + r) * stride, s, first + r, channel));
    for (int64_t token = 0; token < padded; token += 32)
        multiply(m->query, s->size * 2, m->keys + token / 16 * steps * TILE_WORDS, TILE_WORDS, steps * TILE_WORDS,
                 steps, m->scores + token, padded * 4);
    for (int64_t r = 0; r < rows; r++)
        inverse[r] = softmax_row(m->scores + r * padded, m->weights + r * padded, s->tokens, padded,
                                 1.0f / sqrtf((float)s->size));
    for (int64_t channel = 0; channel < s->size; channel += 32)
        multiply(m->weights, padded * 2, m->values + channel / 16 * TILE_WORDS, s->size / 16 * TILE_WORDS, TILE_WORDS,
                 padded / 32, m->sums + channel, s->size * 4);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t channel = 0; channel < s->size; channel += 16)
            store_bf16(out + (first + r) * width + channel,
                       _mm512_mul_ps(_mm512_loadu_ps(m->sums + r * s->size + channel), _mm512_set1_ps(inverse[r])));
}

void attention_bf16(const bf16 *qkv, const float *cosine, const float *sine, bf16 *out, int64_t batch, int64_t tokens,
                    int64_t heads, int64_t size, int threads) {
    const attention_shape s = {batch, tokens, heads, size, cosine, sine};
    const int64_t width = heads * size, stride = 3 * width, padded = round_up(tokens, 32);
    const int64_t blocks = round_up(tokens, BLOCK) / BLOCK, parts = query_parts(&s, blocks, threads);
#pragma omp parallel num_threads(threads)
    {
        const tile_config before = use_full_tiles();
        const scratch m = new_scratch(padded, size);
#pragma omp for schedule(static)
        for (int64_t item = 0; item < batch * heads * parts; item++) {
            const int64_t head = item / parts % heads, image = item / parts / heads, part = item % parts;
            const bf16 *query = qkv + image * tokens * stride + head * size;
            pack_keys(query + width, stride, &s, padded, m.keys);
            pack_values(query + 2 * width, stride, &s, padded, m.values);
            for (int64_t b = blocks * part / parts; b < blocks * (part + 1) / parts; b++)
                attend(query, stride, &s, b * BLOCK, padded, &m, out + image * tokens * width + head * size);
        }
        free(m.memory);
        restore_tiles(&before);
    }
}
