#ifndef PERCEPTIC_GELU_H
#define PERCEPTIC_GELU_H

#include "common.h"

/* x * Phi(x), within 1e-6 of the erf formula: Phi - 1/2 is x times a polynomial in x^2 (minimax on |x| <= 5, in the
 * variable 2 x^2 / 25 - 1, where its coefficients do not cancel). Beyond 5, Phi is 3e-7 from 0 or 1. */
static inline __m512 gelu_16(__m512 x) {
    static const float coefficients[13] = {
        0.1413637805f,   -0.07029665238f, 0.05152142088f,  -0.04043294955f,  0.03142622951f, -0.02333673049f, 0.01649765621f,
        -0.01097323317f, 0.006165431147f, -0.002915671358f, 0.002001859234f, -0.001514154541f, 0.0004929700057f};
    const __m512 edge = _mm512_set1_ps(5.0f);
    const __m512 near = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-5.0f)), edge);
    const __m512 w = _mm512_fmsub_ps(_mm512_mul_ps(near, near), _mm512_set1_ps(2.0f / 25.0f), _mm512_set1_ps(1.0f));
    __m512 p = _mm512_set1_ps(coefficients[12]);
#pragma GCC unroll 12
    for (int i = 11; i >= 0; i--) p = _mm512_fmadd_ps(p, w, _mm512_set1_ps(coefficients[i]));
    return _mm512_mul_ps(x, _mm512_fmadd_ps(near, p, _mm512_set1_ps(0.5f)));
}

#endif
