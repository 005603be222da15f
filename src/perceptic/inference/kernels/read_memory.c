/* How fast this machine reads memory: what bounds a decoder's step. */
#include "common.h"

enum { PIECE = 1 << 14 }; /* words */

/* The sum of all words, read by all threads, each from four places at once as the products do. */
int64_t sum_words(const uint64_t *words, int64_t count, int threads) {
    int64_t sum = 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(+ : sum)
    for (int64_t first = 0; first < count / PIECE * PIECE; first += PIECE) {
        __m512i parts[4];
        for (int p = 0; p < 4; p++) parts[p] = _mm512_setzero_si512();
        for (int64_t i = first; i < first + PIECE / 4; i += 8)
            for (int p = 0; p < 4; p++) {
                const uint64_t *place = words + i + p * PIECE / 4;
                _mm_prefetch((const char *)place + 1024, _MM_HINT_T1);
                parts[p] = _mm512_add_epi64(parts[p], _mm512_loadu_si512(place));
            }
        for (int p = 0; p < 4; p++) sum += _mm512_reduce_add_epi64(parts[p]);
    }
    for (int64_t i = count / PIECE * PIECE; i < count; i++) sum += (int64_t)words[i];
    return sum;
}
