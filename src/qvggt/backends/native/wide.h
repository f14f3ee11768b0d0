/* The widest vectors that multiply bytes by fours: of 512 bits with AVX-512 VNNI, else of 256. V(name) is an instruction. */
#ifndef QVGGT_WIDE_H
#define QVGGT_WIDE_H
#include "vectors.h"

#if defined(EMULATE_WIDE) /* two vectors of 256 bits, for tests */
#define WIDE_LANES 16
#define V(name) pair_##name
typedef struct { __m256i low, high; } Ints;
typedef struct { __m256 low, high; } Floats;
#define ALIKE(type, name, ...) ALWAYS type pair_##name(__VA_ARGS__)
#define BOTH(type, name, left, right) (type){_mm256_##name left, _mm256_##name right}
ALIKE(Ints, set1_epi32, int32_t x) { return BOTH(Ints, set1_epi32, (x), (x)); }
ALIKE(Ints, add_epi32, Ints a, Ints b) { return BOTH(Ints, add_epi32, (a.low, b.low), (a.high, b.high)); }
ALIKE(Ints, slli_epi32, Ints a, int bits) { return BOTH(Ints, slli_epi32, (a.low, bits), (a.high, bits)); }
ALIKE(Floats, cvtepi32_ps, Ints a) { return BOTH(Floats, cvtepi32_ps, (a.low), (a.high)); }
ALIKE(Floats, set1_ps, float x) { return BOTH(Floats, set1_ps, (x), (x)); }
ALIKE(Floats, loadu_ps, const float *x) { return BOTH(Floats, loadu_ps, (x), (x + LANES)); }
ALIKE(void, storeu_ps, float *to, Floats x) { _mm256_storeu_ps(to, x.low), _mm256_storeu_ps(to + LANES, x.high); }
ALIKE(Floats, mul_ps, Floats a, Floats b) { return BOTH(Floats, mul_ps, (a.low, b.low), (a.high, b.high)); }
ALIKE(Floats, fmadd_ps, Floats a, Floats b, Floats sum) {
    return BOTH(Floats, fmadd_ps, (a.low, b.low, sum.low), (a.high, b.high, sum.high));
}
ALWAYS Ints load_ints(const void *x) {
    return BOTH(Ints, loadu_si256, ((const __m256i *)x), ((const __m256i *)x + 1));
}
ALWAYS Ints wide_fours(Ints sum, Ints a, Ints b) {
    return (Ints){ADD_FOURS(sum.low, a.low, b.low), ADD_FOURS(sum.high, a.high, b.high)};
}
#define KEEP_WIDE(x) (void)0
#elif defined(__AVX512VNNI__)
#define WIDE_LANES 16
#define V(name) _mm512_##name
typedef __m512i Ints;
typedef __m512 Floats;
ALWAYS Ints load_ints(const void *x) { return _mm512_loadu_si512(x); }
#define wide_fours(sum, a, b) _mm512_dpbusd_epi32(sum, a, b)
#define KEEP_WIDE(x) __asm__("" : "+v"(x))
#else
#define WIDE_LANES LANES
#define V(name) _mm256_##name
typedef __m256i Ints;
typedef __m256 Floats;
ALWAYS Ints load_ints(const void *x) { return _mm256_loadu_si256((const __m256i *)x); }
#define wide_fours(sum, a, b) ADD_FOURS(sum, a, b)
#define KEEP_WIDE(x) KEEP(x)
#endif

#endif
