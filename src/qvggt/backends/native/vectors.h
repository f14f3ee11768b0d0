/* What all of the compiled code says about vectors. */
#ifndef QVGGT_VECTORS_H
#define QVGGT_VECTORS_H
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 8  /* numbers of 32 bits in a vector */
#define ZERO 128 /* of codes of 8 bits */

#define ALWAYS static inline __attribute__((always_inline))

#ifndef __AVX2__
#include "neon.h"
#else
#include <immintrin.h>

#define KEEP(x) __asm__("" : "+x"(x)) /* in a register, here: the compiler would move sums apart and spill them */

/* Add products of neighbours: of 16 bits by twos, or of unsigned and signed 8 bits by fours. Unless sums are wide, those of
 * the latter stay in 16 bits, by twos, for as long as they fit; SUM_BY_FOURS is what they come to. */
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
#define ADD_PAIRS(sum, a, b) _mm256_dpwssd_epi32(sum, a, b)
#define ADD_FOURS(sum, a, b) _mm256_dpbusd_epi32(sum, a, b)
#elif defined(__AVXVNNI__)
#define ADD_PAIRS(sum, a, b) _mm256_dpwssd_avx_epi32(sum, a, b)
#define ADD_FOURS(sum, a, b) _mm256_dpbusd_avx_epi32(sum, a, b)
#else
#define ADD_PAIRS(sum, a, b) _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
#endif

#ifdef EMULATE_VNNI /* for tests on a CPU that has it not */
ALWAYS __m256i add_fours(__m256i sum, __m256i a, __m256i b) {
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(a, _mm256_set1_epi16(255)),
                                           _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8));
    return _mm256_add_epi32(_mm256_add_epi32(sum, even),
                            _mm256_madd_epi16(_mm256_srli_epi16(a, 8), _mm256_srai_epi16(b, 8)));
}
#define ADD_FOURS(sum, a, b) add_fours(sum, a, b)
#endif

#define FLIP 0
#endif

/* FLIP is what turns four codes into what ADD_FOURS takes. */
#ifdef ADD_FOURS
#define WIDE_SUMS 1
#define SUM_BY_FOURS(sum) (sum)
#else
#define WIDE_SUMS 0
#define ADD_FOURS(sum, a, b) _mm256_add_epi16(sum, _mm256_maddubs_epi16(a, b))
#define SUM_BY_FOURS(sum) _mm256_madd_epi16(sum, _mm256_set1_epi16(1))
#endif

#endif
