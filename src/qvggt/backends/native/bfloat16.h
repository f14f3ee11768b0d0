/* Vectors of 16 bfloat16 numbers, computed with in float32. */
#ifndef QVGGT_BFLOAT16_H
#define QVGGT_BFLOAT16_H
#include "vectors.h"

#ifdef __AVX512BF16__

typedef __m512 Vector;

/* 2^x to a relative error of 1e-4, a tenth of what rounding to bfloat16 costs; exact for whole numbers. */
ALWAYS Vector power_of_two(Vector x) {
    const Vector part = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); /* x less the whole below it */
    Vector y = _mm512_fmadd_ps(part, _mm512_set1_ps(0.07706269f), _mm512_set1_ps(0.22764974f));
    y = _mm512_fmadd_ps(part, y, _mm512_set1_ps(0.69511572f));
    y = _mm512_fmadd_ps(part, y, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(y, x);
}

ALWAYS __m256i in_bfloat16(Vector x) { return (__m256i)_mm512_cvtneps_pbh(x); }

ALWAYS Vector widened(const uint16_t *from) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16));
}

#endif
#endif
