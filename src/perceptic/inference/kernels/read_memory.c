/* How fast this machine reads memory: what bounds a decoder's step. */
#include "common.h"

/* The sum of all words, read by all threads. */
int64_t sum_words(const uint64_t *words, int64_t count, int threads) {
    int64_t sum = 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(+ : sum)
    for (int64_t first = 0; first < count; first += 1 << 14) {
        __m512i parts[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
        const int64_t end = smaller(first + (1 << 14), count / 32 * 32);
        for (int64_t i = first; i < end; i += 32)
            for (int p = 0; p < 4; p++) {
                _mm_prefetch((const char *)(words + i + 8 * p) + 1024, _MM_HINT_T0);
                parts[p] = _mm512_add_epi64(parts[p], _mm512_loadu_si512(words + i + 8 * p));
            }
        for (int p = 0; p < 4; p++) sum += _mm512_reduce_add_epi64(parts[p]);
    }
    return sum;
}
