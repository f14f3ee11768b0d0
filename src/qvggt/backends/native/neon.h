/* The AVX2 intrinsics that products of packed weights use, in terms of NEON: a vector is two 128-bit halves. */
#ifndef QVGGT_NEON_H
#define QVGGT_NEON_H
#include <arm_neon.h>

typedef struct { int32x4_t low, high; } __m256i;
typedef struct { float32x4_t low, high; } __m256;

ALWAYS __m256i _mm256_set1_epi32(int32_t x) { return (__m256i){vdupq_n_s32(x), vdupq_n_s32(x)}; }
ALWAYS __m256i _mm256_setzero_si256(void) { return _mm256_set1_epi32(0); }
ALWAYS __m256i _mm256_loadu_si256(const __m256i *from) {
    const int32_t *x = (const int32_t *)(const void *)from;
    return (__m256i){vld1q_s32(x), vld1q_s32(x + 4)};
}
ALWAYS __m256i _mm256_load_si256(const __m256i *from) { return _mm256_loadu_si256(from); }
ALWAYS __m256i eight_bytes(const int8_t *from) {
    const int16x8_t wide = vmovl_s8(vld1_s8(from));
    return (__m256i){vmovl_s16(vget_low_s16(wide)), vmovl_s16(vget_high_s16(wide))};
}
ALWAYS __m256i _mm256_add_epi32(__m256i a, __m256i b) {
    return (__m256i){vaddq_s32(a.low, b.low), vaddq_s32(a.high, b.high)};
}
ALWAYS __m256i _mm256_slli_epi32(__m256i x, int bits) {
    const int32x4_t left = vdupq_n_s32(bits);
    return (__m256i){vshlq_s32(x.low, left), vshlq_s32(x.high, left)};
}
ALWAYS __m256i _mm256_srai_epi32(__m256i x, int bits) { return _mm256_slli_epi32(x, -bits); }

ALWAYS __m256 _mm256_set1_ps(float x) { return (__m256){vdupq_n_f32(x), vdupq_n_f32(x)}; }
ALWAYS __m256 _mm256_broadcast_ss(const float *x) { return _mm256_set1_ps(*x); }
ALWAYS __m256 _mm256_setzero_ps(void) { return _mm256_set1_ps(0.0f); }
ALWAYS __m256 _mm256_loadu_ps(const float *x) { return (__m256){vld1q_f32(x), vld1q_f32(x + 4)}; }
ALWAYS void _mm256_storeu_ps(float *to, __m256 x) { vst1q_f32(to, x.low), vst1q_f32(to + 4, x.high); }
ALWAYS __m256 _mm256_mul_ps(__m256 a, __m256 b) { return (__m256){vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
ALWAYS __m256 _mm256_fmadd_ps(__m256 a, __m256 b, __m256 sum) {
    return (__m256){vfmaq_f32(sum.low, a.low, b.low), vfmaq_f32(sum.high, a.high, b.high)};
}
ALWAYS __m256 _mm256_add_ps(__m256 a, __m256 b) { return (__m256){vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
ALWAYS __m256 _mm256_sub_ps(__m256 a, __m256 b) { return (__m256){vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)}; }
ALWAYS __m256 _mm256_max_ps(__m256 a, __m256 b) { return (__m256){vmaxq_f32(a.low, b.low), vmaxq_f32(a.high, b.high)}; }
ALWAYS __m256 _mm256_andnot_ps(__m256 a, __m256 b) {
    const uint32x4_t low = vbicq_u32(vreinterpretq_u32_f32(b.low), vreinterpretq_u32_f32(a.low));
    const uint32x4_t high = vbicq_u32(vreinterpretq_u32_f32(b.high), vreinterpretq_u32_f32(a.high));
    return (__m256){vreinterpretq_f32_u32(low), vreinterpretq_f32_u32(high)};
}
ALWAYS __m256 _mm256_cvtepi32_ps(__m256i x) { return (__m256){vcvtq_f32_s32(x.low), vcvtq_f32_s32(x.high)}; }

ALWAYS int32x4_t add_fours_of_half(int32x4_t sum, int8x16_t a, int8x16_t b) {
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(sum, a, b);
#else
    const int16x8_t first = vmull_s8(vget_low_s8(a), vget_low_s8(b)), second = vmull_high_s8(a, b);
    return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(first), vpaddlq_s16(second)));
#endif
}

/* Both operands signed: FLIP has removed the zero point of the codes. */
ALWAYS __m256i add_fours(__m256i sum, __m256i a, __m256i b) {
    const int8x16_t low = vreinterpretq_s8_s32(a.low), high = vreinterpretq_s8_s32(a.high);
    return (__m256i){add_fours_of_half(sum.low, low, vreinterpretq_s8_s32(b.low)),
                     add_fours_of_half(sum.high, high, vreinterpretq_s8_s32(b.high))};
}

#define ADD_FOURS(sum, a, b) add_fours(sum, a, b)
#define FLIP 0x80808080u
#define KEEP(x) (void)0 /* 32 registers: nothing spills */

#endif
