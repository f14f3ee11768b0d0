/* Quantization of activations to 8 bits: unsigned codes with zero point 128, one scale per row. */
#include "job.h"
#include "vectors.h"

#define LINES 16 /* rows per task */

typedef struct {
    Job job;
    const float *x;   /* [rows][channels] */
    uint8_t *codes;   /* [rows][channels], zero point 128 */
    float *scale;     /* [rows]; NaN if the row is not finite */
    int64_t rows;
    int32_t channels;
} Rounding;

/* Quantize 32 values. */
ALWAYS void round_some(const float *x, float inverse, uint8_t *to) {
#ifdef __AVX2__
    __m256i part[4];
    for (int i = 0; i < 4; i++) {
        const __m256 value = _mm256_mul_ps(_mm256_loadu_ps(x + LANES * i), _mm256_set1_ps(inverse));
        part[i] = _mm256_add_epi32(_mm256_cvtps_epi32(value), _mm256_set1_epi32(ZERO));
    }
    const __m256i low = _mm256_packs_epi32(part[0], part[1]), high = _mm256_packs_epi32(part[2], part[3]);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256((__m256i *)to, _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order));
#else
    for (int i = 0; i < 32; i += 4) {
        int32_t part[4];
        vst1q_s32(part, vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), inverse)));
        for (int j = 0; j < 4; j++) to[i + j] = (uint8_t)(part[j] + ZERO);
    }
#endif
}

static void round_rows(const Rounding *o, int64_t begin, int64_t end) {
    const int channels = o->channels;
    const __m256 sign = _mm256_set1_ps(-0.0f);
    for (int64_t m = begin; m < end; m++) {
        const float *row = o->x + m * channels;
        uint8_t *to = o->codes + m * channels;
        __m256 most = _mm256_setzero_ps(), wrong = _mm256_setzero_ps();
        int k = 0;
        for (; k + LANES <= channels; k += LANES) {
            const __m256 value = _mm256_loadu_ps(row + k);
            most = _mm256_max_ps(most, _mm256_andnot_ps(sign, value));
            wrong = _mm256_add_ps(wrong, _mm256_sub_ps(value, value));
        }
        float lanes[LANES], bad[LANES], largest = 0.0f, nan = 0.0f;
        _mm256_storeu_ps(lanes, most), _mm256_storeu_ps(bad, wrong);
        for (int i = 0; i < LANES; i++) largest = fmaxf(largest, lanes[i]), nan += bad[i];
        for (int i = k; i < channels; i++) largest = fmaxf(largest, fabsf(row[i])), nan += row[i] - row[i];
        const float scale = fmaxf(largest / 127.0f, 1e-30f);
        if (nan != 0.0f) { /* the sum is 0 if all are finite, else NaN */
            memset(to, ZERO, (size_t)channels);
            o->scale[m] = NAN;
            continue;
        }
        o->scale[m] = scale;
        for (k = 0; k + 32 <= channels; k += 32) round_some(row + k, 1.0f / scale, to + k);
        for (; k < channels; k++) to[k] = (uint8_t)(lrintf(row[k] / scale) + ZERO);
    }
}

/* Quantize rows to 8 bits, each with its own scale. */
void qvggt_round(Rounding *o) {
    for (int task; (task = take(&o->job, (o->rows + LINES - 1) / LINES)) >= 0;) {
        const int64_t begin = (int64_t)task * LINES, end = begin + LINES < o->rows ? begin + LINES : o->rows;
        round_rows(o, begin, end);
    }
}
