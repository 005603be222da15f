/* Rotary attention in float32. Head sizes are multiples of 16. */
#include "attention.h"

enum { ROWS = 6, PANEL = 64, BLOCK = 4 * ROWS }; /* 6 x 4 vectors of sums fill the registers */

/* c (6 x 16*vectors) = a (6 x depth) times b (depth x 16*vectors, packed). */
static inline __attribute__((always_inline)) void multiply_rows(const float *a, int64_t a_row, const float *b,
                                                                int64_t depth, float *c, int64_t c_row,
                                                                const int vectors) {
    __m512 sum[ROWS][4];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < vectors; v++) sum[r][v] = _mm512_setzero_ps();
    for (int64_t k = 0; k < depth; k++)
#pragma GCC unroll 6
        for (int r = 0; r < ROWS; r++) {
            const __m512 factor = _mm512_set1_ps(a[r * a_row + k]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[r][v] = _mm512_fmadd_ps(factor, _mm512_loadu_ps(b + k * 16 * vectors + v * 16), sum[r][v]);
        }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < vectors; v++) _mm512_storeu_ps(c + r * c_row + v * 16, sum[r][v]);
}

/* c (rows x columns) = a (rows x depth) times b, packed in panels of 64 columns; rows are rounded up to sixes. */
static void multiply(const float *a, int64_t a_row, const float *b, int64_t depth, float *c, int64_t c_row,
                     int64_t rows, int64_t columns) {
    for (int64_t column = 0; column < columns; column += PANEL)
        for (int64_t r = 0; r < rows; r += ROWS) {
            const float *panel = b + column * depth, *part = a + r * a_row;
            float *place = c + r * c_row + column;
            switch (smaller(PANEL, columns - column) / 16) {
                case 1: multiply_rows(part, a_row, panel, depth, place, c_row, 1); break;
                case 2: multiply_rows(part, a_row, panel, depth, place, c_row, 2); break;
                case 3: multiply_rows(part, a_row, panel, depth, place, c_row, 3); break;
                default: multiply_rows(part, a_row, panel, depth, place, c_row, 4);
            }
        }
}

/* 16 channels of one token plus their bias, turned by the token's angles. */
static inline __m512 rotated(const float *row, const float *bias, const attention_shape *s, int64_t token,
                             int64_t channel) {
    const __m512 x = _mm512_add_ps(_mm512_loadu_ps(row + channel), load_bias(bias, channel));
    if (!s->cosine) return x;
    const int64_t angle = token * (s->size / 2) + channel / 2;
    const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    const __m512 c = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(s->cosine + angle)));
    const __m512 i = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(s->sine + angle)));
    const __m512 swapped = _mm512_permute_ps(x, 0xb1);
    return _mm512_fmaddsub_ps(x, c, _mm512_mul_ps(swapped, i));
}

/* out: panels of 64 tokens (the last one narrower), each (size, tokens of the panel). */
static void pack_keys(const float *key, const float *bias, int64_t stride, const attention_shape *s, int64_t padded,
                      float *out) {
    uint32_t turned[256] __attribute__((aligned(64)));
    for (int64_t token = 0; token < padded; token += 16) {
        const int64_t first = token / PANEL * PANEL, panel = smaller(PANEL, padded - first);
        for (int64_t channel = 0; channel < s->size; channel += 16) {
            __m512i rows[16];
            for (int64_t i = 0; i < 16; i++)
                rows[i] = token + i < s->tokens
                              ? _mm512_castps_si512(rotated(key + (token + i) * stride, bias, s, token + i, channel))
                              : _mm512_setzero_si512();
            transpose_16x16(rows, turned);
            for (int64_t i = 0; i < 16; i++)
                _mm512_store_si512(out + first * s->size + (channel + i) * panel + token - first,
                                   _mm512_load_si512(turned + 16 * i));
        }
    }
}

/* out: panels of 64 channels (the last one narrower), each (tokens, channels of the panel). */
static void pack_values(const float *value, const float *bias, int64_t stride, const attention_shape *s, float *out) {
    for (int64_t first = 0; first < s->size; first += PANEL) {
        const int64_t panel = smaller(PANEL, s->size - first);
        for (int64_t token = 0; token < s->tokens; token++)
            for (int64_t channel = first; channel < first + panel; channel += 16)
                _mm512_storeu_ps(
                    out + first * s->tokens + token * panel + channel - first,
                    _mm512_add_ps(_mm512_loadu_ps(value + token * stride + channel), load_bias(bias, channel)));
    }
}

typedef struct {
    float *keys, *values, *query, *scores, *sums, *memory;
} scratch;

static scratch new_scratch(int64_t tokens, int64_t padded, int64_t size) {
    scratch s;
    const int64_t floats = (padded + tokens) * size + BLOCK * (padded + 2 * size);
    s.keys = s.memory = aligned_alloc(64, round_up(floats * 4, 64));
    s.query = s.keys + padded * size;
    s.scores = s.query + BLOCK * size;
    s.sums = s.scores + BLOCK * padded;
    s.values = s.sums + BLOCK * size;
    /* Rows past the last query are computed and dropped; let them be numbers. */
    memset(s.query, 0, BLOCK * (padded + size) * 4);
    return s;
}

static void attend(const float *query, const float *bias, int64_t stride, const attention_shape *s, int64_t first,
                   int64_t padded, const scratch *m, float *out) {
    const int64_t rows = smaller(BLOCK, s->tokens - first), size = s->size, width = s->heads * size;
    float inverse[BLOCK];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t channel = 0; channel < size; channel += 16)
            _mm512_storeu_ps(m->query + r * size + channel,
                             rotated(query + (first + r) * stride, bias, s, first + r, channel));
    multiply(m->query, size, m->keys, size, m->scores, padded, rows, padded);
    for (int64_t r = 0; r < rows; r++)
        inverse[r] = softmax_row(m->scores + r * padded, NULL, s->tokens, padded, 1.0f / sqrtf((float)size));
    multiply(m->scores, padded, m->values, s->tokens, m->sums, size, rows, size);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t channel = 0; channel < size; channel += 16)
            _mm512_storeu_ps(out + (first + r) * width + channel,
                             _mm512_mul_ps(_mm512_loadu_ps(m->sums + r * size + channel), _mm512_set1_ps(inverse[r])));
}

void attention_f32(const float *qkv, const float *bias, const float *cosine, const float *sine, float *out,
                   int64_t batch, int64_t tokens, int64_t heads, int64_t size, int threads) {
    const attention_shape s = {batch, tokens, heads, size, cosine, sine};
    const int64_t width = heads * size, stride = 3 * width, padded = round_up(tokens, 16);
    const int64_t blocks = round_up(tokens, BLOCK) / BLOCK, parts = query_parts(&s, blocks, threads);
#pragma omp parallel num_threads(threads)
    {
        const scratch m = new_scratch(tokens, padded, size);
#pragma omp for schedule(static)
        for (int64_t item = 0; item < batch * heads * parts; item++) {
            const int64_t head = item / parts % heads, image = item / parts / heads, part = item % parts;
            const float *query = qkv + image * tokens * stride + head * size;
            const float *query_bias = bias ? bias + head * size : NULL;
            pack_keys(query + width, bias ? query_bias + width : NULL, stride, &s, padded, m.keys);
            pack_values(query + 2 * width, bias ? query_bias + 2 * width : NULL, stride, &s, m.values);
            for (int64_t b = blocks * part / parts; b < blocks * (part + 1) / parts; b++)
                attend(query, query_bias, stride, &s, b * BLOCK, padded, &m,
                       out + image * tokens * width + head * size);
        }
        free(m.memory);
    }
}
