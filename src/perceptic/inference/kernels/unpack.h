/* Rows of a matrix of any kind as bfloat16 tile rows. */
#ifndef PERCEPTIC_UNPACK_H
#define PERCEPTIC_UNPACK_H

#include "products.h"

static inline __m512 widened_int8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

/* Columns k to `end` of one row, 32 to a tile row; tiles of a row of W are `step` words apart. Lines `ahead` bytes
 * further are fetched. int8 stays unscaled. */
static inline void unpack_row(const matrix *w, int64_t row, int64_t k, int64_t end, int64_t ahead, uint32_t *out,
                              int64_t step) {
    if (w->kind == KIND_BF16) {
        const bf16 *code = (const bf16 *)w->codes + row * w->columns;
        for (; k < end; k += 32, out += step) {
            _mm_prefetch((const char *)(code + k) + ahead, _MM_HINT_T0);
            _mm512_store_si512(out, _mm512_loadu_si512(code + k));
        }
    } else if (w->kind == KIND_INT8) {
        const int8_t *code = (const int8_t *)w->codes + row * w->columns;
        for (; k < end; k += 32, out += step) {
            _mm_prefetch((const char *)(code + k) + ahead, _MM_HINT_T0);
            _mm512_store_si512(out, (__m512i)_mm512_cvtne2ps_pbh(widened_int8(code + k + 16), widened_int8(code + k)));
        }
    } else {
        const int64_t stored = stored_columns(w);
        const uint8_t *code = (const uint8_t *)w->codes + row * stored / 2;
        const bf16 *scales = (const bf16 *)w->scales + row * stored / 32;
        const __m512 codebook = _mm512_loadu_ps(w->codebook);
        for (; k < end; k += 128) {
            _mm_prefetch((const char *)(code + k / 2) + ahead, _MM_HINT_T0);
            const __m512i words = _mm512_loadu_si512(code + k / 2);
#pragma GCC unroll 4
            for (int group = 0; group < 4; group++, out += step) {
                const __m512 even = _mm512_permutexvar_ps(_mm512_srli_epi32(words, 4 * group), codebook);
                const __m512 odd = _mm512_permutexvar_ps(_mm512_srli_epi32(words, 4 * group + 16), codebook);
                const uint32_t bits = (uint32_t)scales[k / 32 + group] << 16;
                const __m512 scale = _mm512_castsi512_ps(_mm512_set1_epi32((int)bits));
                _mm512_store_si512(
                    out, (__m512i)_mm512_cvtne2ps_pbh(_mm512_mul_ps(odd, scale), _mm512_mul_ps(even, scale)));
            }
        }
    }
}

#endif
