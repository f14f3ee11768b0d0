/* Dequantization of packed weights to float32, bfloat16 or float16. */
#include "job.h"
#include "unpack.h"

#define LINES 16 /* rows per task */

typedef struct {
    Job job;
    const uint8_t *packed;  /* [rows][row_bytes] */
    const float *scale;     /* [rows][groups] */
    const int8_t *zero;     /* [rows][groups] or NULL */
    void *out;              /* [rows][width] */
    int64_t row_bytes, rows;
    int32_t width, groups, bits, type; /* of the output: 0 float32, 1 bfloat16, 2 float16 */
} Expansion;

ALWAYS uint16_t in_bfloat16(float value) {
    uint32_t word;
    memcpy(&word, &value, 4);
    return (uint16_t)((word + 0x7FFF + (word >> 16 & 1)) >> 16); /* levels and scales are finite */
}

/* Round four values to float16. */
ALWAYS void in_float16(const float *four, uint16_t *to) {
#ifdef __AVX2__
    _mm_storel_epi64((__m128i *)to, _mm_cvtps_ph(_mm_loadu_ps(four), _MM_FROUND_TO_NEAREST_INT));
#else
    vst1_u16(to, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(four))));
#endif
}

/* Write levels times a factor, rounded once to the output's type, from index `at` on. */
static void write_levels(const Expansion *e, const int8_t *levels, int offset, float factor, int64_t at, int size) {
    if (e->type == 0) {
        float *to = (float *)e->out + at;
        for (int k = 0; k < size; k++) to[k] = (float)(levels[k] - offset) * factor;
    } else if (e->type == 1) {
        uint16_t *to = (uint16_t *)e->out + at;
        for (int k = 0; k < size; k++) to[k] = in_bfloat16((float)(levels[k] - offset) * factor);
    } else {
        uint16_t *to = (uint16_t *)e->out + at;
        for (int k = 0; k < size; k += 4) { /* a group is a multiple of four */
            float four[4];
            for (int i = 0; i < 4; i++) four[i] = (float)(levels[k + i] - offset) * factor;
            in_float16(four, to + k);
        }
    }
}

/* Dequantize a packed weight: levels times their group's scale. */
void qvggt_expand(Expansion *e) {
    const int size = e->width / e->groups;
    int8_t *levels = malloc((size_t)size);
    if (!levels) atomic_store(&e->job.failed, 1);
    for (int task; levels && (task = take(&e->job, (e->rows + LINES - 1) / LINES)) >= 0;)
        for (int64_t n = (int64_t)task * LINES; n < e->rows && n < ((int64_t)task + 1) * LINES; n++)
            for (int g = 0; g < e->groups; g++) {
                const float factor = e->scale[n * e->groups + g];
                const int offset = e->zero ? e->zero[n * e->groups + g] : 0;
                unpack(e->packed + n * e->row_bytes, e->row_bytes, e->bits, (int64_t)g * size, size, levels);
                write_levels(e, levels, offset, factor, n * e->width + (int64_t)g * size, size);
            }
    free(levels);
}
