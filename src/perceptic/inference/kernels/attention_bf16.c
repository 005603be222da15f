/* Rotary attention in bfloat16 on AMX tiles, accumulated in float32. Head sizes are multiples of 32. */
#include "tile_attention.h"

#include <sys/syscall.h>
#include <unistd.h>

/* Linux hands out the tile registers on request. Returns 1 where this processor and kernel have them. */
int prepare_tiles(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static void attend(const bf16 *query, int64_t stride, const attention_shape *s, int64_t first, int64_t padded,
                   const tile_scratch *m, bf16 *out) {
    const int64_t rows = smaller(BLOCK, s->tokens - first), steps = s->size / 32, width = s->heads * s->size;
    const angles turn = {s->cosine, s->sine};
    float inverse[BLOCK];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t channel = 0; channel < s->size; channel += 32)
            _mm512_store_si512(m->query + (r * s->size + channel) / 2,
                               rotated(query + (first + r) * stride, turn, first + r, channel, s->size));
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
        const tile_scratch m = new_scratch(padded, size);
#pragma omp for schedule(static)
        for (int64_t item = 0; item < batch * heads * parts; item++) {
            const int64_t head = item / parts % heads, image = item / parts / heads, part = item % parts;
            const bf16 *query = qkv + image * tokens * stride + head * size;
            pack_keys(query + width, stride, tokens, size, (angles){cosine, sine}, m.keys);
            pack_values(query + 2 * width, stride, tokens, size, m.values);
            for (int64_t b = blocks * part / parts; b < blocks * (part + 1) / parts; b++)
                attend(query, stride, &s, b * BLOCK, padded, &m, out + image * tokens * width + head * size);
        }
        free(m.memory);
        restore_tiles(&before);
    }
}
