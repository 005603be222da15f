/* What the kernels share: 16 floats at a time, whatever type they are stored in. */
#ifndef PERCEPTIC_COMMON_H
#define PERCEPTIC_COMMON_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef float f32;
typedef uint16_t bf16; /* the upper half of a float32 */

static inline __m512 load_f32(const f32 *p) { return _mm512_loadu_ps(p); }
static inline void store_f32(f32 *p, __m512 v) { _mm512_storeu_ps(p, v); }

static inline __m512 load_bf16(const bf16 *p) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* To the nearest bfloat16, halves to even, in the upper half of each word. */
static inline __m512i rounded_to_bf16(__m512 v) {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i is_odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i sum = _mm512_add_epi32(bits, _mm512_add_epi32(is_odd, _mm512_set1_epi32(0x7fff)));
    return _mm512_and_si512(sum, _mm512_set1_epi32((int)0xffff0000));
}

static inline void store_bf16(bf16 *p, __m512 v) {
#ifdef __AVX512BF16__
    const __m256i narrow = (__m256i)_mm512_cvtneps_pbh(v);
#else
    const __m256i narrow = _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded_to_bf16(v), 16));
#endif
    _mm256_storeu_si256((__m256i *)p, narrow);
}

static inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* 16 biases, or zeros where there is no bias. */
static inline __m512 load_bias(const float *bias, int64_t i) {
    return bias ? _mm512_loadu_ps(bias + i) : _mm512_setzero_ps();
}

/* 2^x to 2e-7 relative: a polynomial on [-1/2, 1/2] and the exponent added by the hardware. */
static inline __m512 exp2_16(__m512 x) {
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 f = _mm512_sub_ps(x, whole);
    __m512 p = _mm512_set1_ps(1.339887440e-3f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.618437357e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.550332548e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.402264791e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.931472028e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, whole);
}

/* Transpose 16 x 16 words of 32 bit; `rows` is used up, `out` has 16 words a row. */
static inline void transpose_16x16(__m512i rows[16], uint32_t *out) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        rows[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        _mm512_store_si512(out + 16 * i, _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88));
        _mm512_store_si512(out + 16 * (i + 4), _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88));
        _mm512_store_si512(out + 16 * (i + 8), _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd));
        _mm512_store_si512(out + 16 * (i + 12), _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd));
    }
}

#endif
