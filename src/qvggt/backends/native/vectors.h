/* Vector instructions shared by all kernels. */
#ifndef QVGGT_VECTORS_H
#define QVGGT_VECTORS_H
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 8  /* 32-bit values per vector */
#define ZERO 128 /* zero point of 8-bit activation codes */

#define ALWAYS static inline __attribute__((always_inline))

#ifndef __AVX2__
#include "neon.h"
#else
#include <immintrin.h>

#define KEEP(x) __asm__("" : "+x"(x)) /* keep x in a register: the compiler would otherwise reorder sums and spill them */

/* ADD_PAIRS adds products of neighboring 16-bit values, by twos, to 32-bit sums. ADD_FOURS adds products of unsigned and
 * signed 8-bit values: by fours to 32-bit sums if WIDE_SUMS, else by twos to 16-bit sums, which SUM_BY_FOURS widens. */
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
#define ADD_PAIRS(sum, a, b) _mm256_dpwssd_epi32(sum, a, b)
#define ADD_FOURS(sum, a, b) _mm256_dpbusd_epi32(sum, a, b)
#elif defined(__AVXVNNI__)
#define ADD_PAIRS(sum, a, b) _mm256_dpwssd_avx_epi32(sum, a, b)
#define ADD_FOURS(sum, a, b) _mm256_dpbusd_avx_epi32(sum, a, b)
#else
#define ADD_PAIRS(sum, a, b) _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
#endif

#ifdef EMULATE_VNNI /* VNNI arithmetic with AVX2 instructions, for tests */
ALWAYS __m256i add_fours(__m256i sum, __m256i a, __m256i b) {
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(a, _mm256_set1_epi16(255)),
                                           _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8));
    return _mm256_add_epi32(_mm256_add_epi32(sum, even),
                            _mm256_madd_epi16(_mm256_srli_epi16(a, 8), _mm256_srai_epi16(b, 8)));
}
#define ADD_FOURS(sum, a, b) add_fours(sum, a, b)
#endif

/* Widen eight bytes to 32 bits. */
ALWAYS __m256i eight_bytes(const int8_t *from) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from)); }

#define FLIP 0
#endif

/* FLIP is XORed with four activation codes to give the form that ADD_FOURS takes. */
#ifdef ADD_FOURS
#define WIDE_SUMS 1
#define SUM_BY_FOURS(sum) (sum)
#else
#define WIDE_SUMS 0
#define ADD_FOURS(sum, a, b) _mm256_add_epi16(sum, _mm256_maddubs_epi16(a, b))
#define SUM_BY_FOURS(sum) _mm256_madd_epi16(sum, _mm256_set1_epi16(1))
#endif

#endif
