/* LayerNorm and GELU over rows of 16*n floats, in float32 arithmetic for either storage type.
 *
 * They exist to pass over memory fewer times: the bias of the product before is added on the way, LayerNorm writes
 * the shifted input that the next product accumulates into, GELU works in place.
 */
#include "gelu.h"

/* x = gelu(x + bias) in place; bias may be NULL.
 *
 * y = LayerNorm(x) * weight + bias. Where `shift` is given, shifted = x + shift as well. */
#define DEFINE(T)                                                                                                      \
    void gelu_##T(T *x, const float *bias, int64_t rows, int64_t width, int threads) {                                 \
        _Pragma("omp parallel for num_threads(threads) schedule(static)") for (int64_t r = 0; r < rows; r++) {         \
            T *row = x + r * width;                                                                                    \
            for (int64_t i = 0; i < width; i += 16)                                                                    \
                store_##T(row + i, gelu_16(_mm512_add_ps(load_##T(row + i), load_bias(bias, i))));                     \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    static void layer_norm_row_##T(const T *x, const float *weight, const float *bias, T *y, int64_t width,            \
                                   float epsilon) {                                                                    \
        __m512 sum = _mm512_setzero_ps(), square = _mm512_setzero_ps();                                                \
        for (int64_t i = 0; i < width; i += 16) sum = _mm512_add_ps(sum, load_##T(x + i));                             \
        const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / width);                                         \
        for (int64_t i = 0; i < width; i += 16) {                                                                      \
            const __m512 d = _mm512_sub_ps(load_##T(x + i), mean);                                                     \
            square = _mm512_fmadd_ps(d, d, square);                                                                    \
        }                                                                                                              \
        const __m512 scale = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(square) / width + epsilon));             \
        for (int64_t i = 0; i < width; i += 16) {                                                                      \
            const __m512 normal = _mm512_mul_ps(_mm512_sub_ps(load_##T(x + i), mean), scale);                          \
            store_##T(y + i, _mm512_fmadd_ps(normal, _mm512_loadu_ps(weight + i), _mm512_loadu_ps(bias + i)));         \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    void layer_norm_##T(const T *x, const float *weight, const float *bias, T *y, const float *shift, T *shifted,      \
                        int64_t rows, int64_t width, float epsilon, int threads) {                                     \
        _Pragma("omp parallel for num_threads(threads) schedule(static)") for (int64_t r = 0; r < rows; r++) {         \
            const T *row = x + r * width;                                                                              \
            layer_norm_row_##T(row, weight, bias, y + r * width, width, epsilon);                                      \
            for (int64_t i = 0; shift && i < width; i += 16)                                                           \
                store_##T(shifted + r * width + i, _mm512_add_ps(load_##T(row + i), _mm512_loadu_ps(shift + i)));      \
        }                                                                                                              \
    }

DEFINE(f32)
#ifdef __AVX512BF16__
DEFINE(bf16)
#endif
