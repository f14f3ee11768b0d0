/* Products of few rows of float activations with packed weights, where unpacking dominates.
 *
 * The weights of an output are unpacked once and multiplied with the rows along the channels, so that nothing has to be
 * put in another order. Sums are float; the scale of a group is applied to its sum. */
#include "job.h"
#include "unpack.h"

#define SIDE 16   /* outputs per task */
#define ROWS 4    /* most rows per tile */
#define COLUMNS 2 /* most outputs per tile */
#define PARTS 2   /* most vectors per sum */

typedef struct {
    Job job;
    const float *x;        /* [rows][channels] */
    const uint8_t *packed; /* [outputs][row_bytes], a stream of `bits`-bit codes */
    const float *scale;    /* [outputs][groups] */
    const int8_t *zero;    /* [outputs][groups] or NULL */
    const float *bias;     /* [outputs] or NULL */
    float *out;            /* [rows][outputs] */
    int64_t row_bytes, rows;
    int32_t channels, outputs, groups, bits;
} FewRows;

ALWAYS float sum_of(__m256 x) {
    float lane[LANES];
    _mm256_storeu_ps(lane, x);
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/* Multiply `rows` rows of x, from `row` on, with the unpacked levels of some outputs, from n on, and write the results.
 *
 * Every sum is kept in `parts` vectors, as one alone would wait for itself. */
ALWAYS void multiply_tile(const FewRows *f, const int8_t *levels, int64_t row, int64_t n, const int rows, const int outputs,
                          const int parts) {
    const int size = f->channels / f->groups;
    const float *x = f->x + row * f->channels;
    __m256 total[ROWS][COLUMNS];
    float rest[ROWS][COLUMNS];
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < outputs; o++) total[r][o] = _mm256_setzero_ps(), rest[r][o] = f->bias ? f->bias[n + o] : 0.0f;
    for (int g = 0; g < f->groups; g++, x += size, levels += size) {
        __m256 sum[ROWS][COLUMNS][PARTS];
        int zero[COLUMNS], k = 0;
        for (int o = 0; o < outputs; o++) {
            zero[o] = f->zero ? f->zero[(n + o) * f->groups + g] : 0;
            for (int r = 0; r < rows; r++)
                for (int i = 0; i < parts; i++) sum[r][o][i] = _mm256_setzero_ps();
        }
        for (; k + LANES * parts <= size; k += LANES * parts)
#pragma GCC unroll 4
            for (int i = 0; i < parts; i++)
#pragma GCC unroll 2
                for (int o = 0; o < outputs; o++) {
                    const __m256i level = eight_bytes(levels + (int64_t)o * f->channels + k + LANES * i);
                    const __m256 weight = _mm256_cvtepi32_ps(_mm256_add_epi32(level, _mm256_set1_epi32(-zero[o])));
#pragma GCC unroll 4
                    for (int r = 0; r < rows; r++)
                        sum[r][o][i] = _mm256_fmadd_ps(_mm256_loadu_ps(x + (int64_t)r * f->channels + k + LANES * i),
                                                       weight, sum[r][o][i]);
                }
        for (int o = 0; o < outputs; o++) {
            const float scale = f->scale[(n + o) * f->groups + g];
            for (int r = 0; r < rows; r++) {
                for (int i = 1; i < parts; i++) sum[r][o][0] = _mm256_add_ps(sum[r][o][0], sum[r][o][i]);
                total[r][o] = _mm256_fmadd_ps(sum[r][o][0], _mm256_set1_ps(scale), total[r][o]);
                float tail = 0.0f;
                for (int i = k; i < size; i++)
                    tail = fmaf(x[(int64_t)r * f->channels + i], (float)(levels[o * f->channels + i] - zero[o]), tail);
                rest[r][o] = fmaf(tail, scale, rest[r][o]);
            }
        }
    }
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < outputs; o++) f->out[(row + r) * f->outputs + n + o] = rest[r][o] + sum_of(total[r][o]);
}

/* Multiply all rows with the outputs from n on. */
ALWAYS void multiply_outputs(const FewRows *f, const int8_t *levels, int64_t n, const int outputs) {
    int64_t row = 0;
    for (; row + ROWS <= f->rows; row += ROWS) multiply_tile(f, levels, row, n, ROWS, outputs, 1);
    for (; row + 2 <= f->rows; row += 2) multiply_tile(f, levels, row, n, 2, outputs, PARTS);
    for (; row < f->rows; row++) multiply_tile(f, levels, row, n, 1, outputs, PARTS);
}

/* Take tasks of a product, some outputs of all rows, until none is left. */
void qvggt_multiply_few(FewRows *f) {
    int8_t *levels = malloc((size_t)f->channels * COLUMNS);
    if (!levels) atomic_store(&f->job.failed, 1);
    for (int task; levels && (task = take(&f->job, (f->outputs + SIDE - 1) / SIDE)) >= 0;)
        for (int64_t n = (int64_t)task * SIDE; n < f->outputs && n < ((int64_t)task + 1) * SIDE; n += COLUMNS) {
            const int outputs = n + COLUMNS <= f->outputs ? COLUMNS : 1;
            for (int o = 0; o < outputs; o++)
                unpack(f->packed + (n + o) * f->row_bytes, f->row_bytes, f->bits, 0, f->channels,
                       levels + (int64_t)o * f->channels);
            if (outputs == COLUMNS) multiply_outputs(f, levels, n, COLUMNS);
            else multiply_outputs(f, levels, n, 1);
        }
    free(levels);
}
