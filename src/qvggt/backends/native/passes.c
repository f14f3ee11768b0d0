/* What surrounds the products of a block whose layers compute in bfloat16 and whose tokens are float32: GELU, layer norm, and
 * the sum with a residual branch. Channels come in multiples of 16. */
#include "bfloat16.h"
#include "job.h"

#ifdef __AVX512BF16__

#define PIECE 16384 /* numbers of a task, at least a row */

/* Take the next of some rows, from `begin` to before `end`; returns 0 if none are left. */
ALWAYS int take_rows(Job *job, int64_t rows, int channels, int64_t *begin, int64_t *end) {
    const int64_t piece = channels < PIECE ? PIECE / channels : 1;
    const int task = take(job, (rows + piece - 1) / piece);
    *begin = task * piece, *end = *begin + piece < rows ? *begin + piece : rows;
    return task >= 0;
}

typedef struct {
    Job job;
    uint16_t *x; /* [size], replaced */
    int64_t size;
} Gelu;

/* x times the normal distribution function: its tail below -|x| is 2^(-x² / (2 ln 2)) times a polynomial in 1 / (1 + p |x|)
 * (Abramowitz and Stegun, 7.1.26). */
ALWAYS Vector gelu(Vector x) {
    const Vector t = _mm512_rcp14_ps(_mm512_fmadd_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.23164189f), _mm512_set1_ps(1.0f)));
    Vector y = _mm512_fmadd_ps(t, _mm512_set1_ps(0.5307027f), _mm512_set1_ps(-0.7265760f));
    y = _mm512_fmadd_ps(t, y, _mm512_set1_ps(0.7107069f));
    y = _mm512_fmadd_ps(t, y, _mm512_set1_ps(-0.1422484f));
    y = _mm512_mul_ps(t, _mm512_fmadd_ps(t, y, _mm512_set1_ps(0.1274148f)));
    const Vector power = _mm512_mul_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(-0.72134752f));
    const Vector tail = _mm512_mul_ps(y, power_of_two(_mm512_max_ps(power, _mm512_set1_ps(-200.0f))));
    const __mmask16 below = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    return _mm512_mul_ps(x, _mm512_mask_sub_ps(tail, (__mmask16)~below, _mm512_set1_ps(1.0f), tail));
}

void qvggt_gelu_bfloat16(Gelu *g) {
    for (int64_t begin, end; take_rows(&g->job, g->size / 16, 16, &begin, &end);)
        for (int64_t i = 16 * begin; i < 16 * end; i += 16)
            _mm256_storeu_si256((__m256i *)(g->x + i), in_bfloat16(gelu(widened(g->x + i))));
}

typedef struct {
    Job job;
    const float *x;         /* [rows][channels] */
    const uint16_t *branch; /* as x */
    const float *gain;      /* [channels] */
    float *out;             /* as x, and may be x */
    int64_t rows;
    int32_t channels;
} ScaledSum;

void qvggt_add_scaled_bfloat16(ScaledSum *s) {
    for (int64_t row, end; take_rows(&s->job, s->rows, s->channels, &row, &end);)
        for (; row < end; row++)
            for (int64_t c = 0, i = row * s->channels; c < s->channels; c += 16, i += 16)
                _mm512_storeu_ps(s->out + i, _mm512_fmadd_ps(widened(s->branch + i), _mm512_loadu_ps(s->gain + c),
                                                             _mm512_loadu_ps(s->x + i)));
}

typedef struct {
    Job job;
    const float *x;             /* [rows][channels] */
    const float *weight, *bias; /* [channels] */
    uint16_t *out;              /* as x */
    int64_t rows;
    int32_t channels;
    float eps;
} Norm;

static void normalize_row(const Norm *n, const float *x, uint16_t *out) {
    Vector sum = _mm512_setzero_ps(), squares = sum;
    for (int c = 0; c < n->channels; c += 16) sum = _mm512_add_ps(sum, _mm512_loadu_ps(x + c));
    const Vector mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / n->channels);
    for (int c = 0; c < n->channels; c += 16) {
        const Vector apart = _mm512_sub_ps(_mm512_loadu_ps(x + c), mean);
        squares = _mm512_fmadd_ps(apart, apart, squares);
    }
    const Vector factor = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / n->channels + n->eps));
    for (int c = 0; c < n->channels; c += 16) {
        const Vector even = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + c), mean), factor);
        const Vector y = _mm512_fmadd_ps(even, _mm512_loadu_ps(n->weight + c), _mm512_loadu_ps(n->bias + c));
        _mm256_storeu_si256((__m256i *)(out + c), in_bfloat16(y));
    }
}

void qvggt_normalize_bfloat16(Norm *n) {
    for (int64_t row, end; take_rows(&n->job, n->rows, n->channels, &row, &end);)
        for (; row < end; row++) normalize_row(n, n->x + row * n->channels, n->out + row * n->channels);
}

#endif
