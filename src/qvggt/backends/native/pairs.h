/* Matrix products of 16-bit integers with 32-bit sums: the inner kernel of attention and convolutions. */
#ifndef QVGGT_PAIRS_H
#define QVGGT_PAIRS_H
#include "vectors.h"

#define ROWS 6             /* rows of a register block */
#define WIDE (2 * LANES)   /* columns of a register block */

/* sums[r][n] = sum over pairs i of a[r][2i] * b[i][n][0] + a[r][2i + 1] * b[i][n][1]
 *
 * a: ROWS rows, `row` values apart; b: `pairs` times WIDE pairs, `step` values apart, aligned to 32 bytes. */
ALWAYS void multiply_pairs(const int16_t *a, int64_t row, const int16_t *b, int64_t step, int pairs,
                           __m256i sums[ROWS][2]) {
    __m256i s00 = _mm256_setzero_si256(), s01 = s00, s10 = s00, s11 = s00, s20 = s00, s21 = s00;
    __m256i s30 = s00, s31 = s00, s40 = s00, s41 = s00, s50 = s00, s51 = s00;
    const int16_t *below = a + 3 * row;
    for (int i = 0; i < pairs; i++, a += 2, below += 2, b += step) {
        const __m256i b0 = _mm256_load_si256((const __m256i *)b), b1 = _mm256_load_si256((const __m256i *)(b + WIDE));
#define ADD_ROW(from, left, right)                                                              \
    do {                                                                                        \
        const __m256i pair = _mm256_castps_si256(_mm256_broadcast_ss((const float *)(from)));   \
        left = ADD_PAIRS(left, pair, b0);                                                       \
        right = ADD_PAIRS(right, pair, b1);                                                     \
    } while (0)
        ADD_ROW(a, s00, s01);
        ADD_ROW(a + row, s10, s11);
        ADD_ROW(a + 2 * row, s20, s21);
        ADD_ROW(below, s30, s31);
        ADD_ROW(below + row, s40, s41);
        ADD_ROW(below + 2 * row, s50, s51);
#undef ADD_ROW
        KEEP(s00); KEEP(s01); KEEP(s10); KEEP(s11); KEEP(s20); KEEP(s21);
        KEEP(s30); KEEP(s31); KEEP(s40); KEEP(s41); KEEP(s50); KEEP(s51);
    }
    const __m256i all[ROWS][2] = {{s00, s01}, {s10, s11}, {s20, s21}, {s30, s31}, {s40, s41}, {s50, s51}};
    memcpy(sums, all, sizeof all);
}

/* Narrow sixteen 32-bit values to 16 bits, in order, saturating. */
ALWAYS __m256i in_16_bits(__m256i first, __m256i second) {
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0xD8);
}

/* Sixteen floats times a factor, rounded to 16-bit integers. */
ALWAYS __m256i rounded(const float *x, __m256 factor) {
    const __m256i first = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), factor));
    return in_16_bits(first, _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + LANES), factor)));
}

ALWAYS float largest_lane(__m256 x) {
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}

ALWAYS int32_t sum_of_lanes(__m256i x) {
    __m128i y = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    y = _mm_add_epi32(y, _mm_shuffle_epi32(y, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(y, _mm_shuffle_epi32(y, 0xB1)));
}

#endif
