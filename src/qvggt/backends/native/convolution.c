/* Convolution on 16-bit integers: one scale per input image, one per output channel of the kernel.
 *
 * Each tap of the kernel is a matrix product of the channels of ROWS neighboring pixels with a panel of WIDE outputs. CHUNK
 * channels of a tap are summed in integers, so that sums stay below 2^31; chunks and taps are accumulated in float.
 */
#include "convolution.h"

#define CHUNK 256      /* CHUNK * 8191 * 1023 < 2^31: largest codes, chosen by the caller */
#define PIXELS 192     /* pixels multiplied with a panel before the next panel, about */

/* Add the products of `channels` channels of one tap to the sums [ROWS][WIDE] of neighboring pixels. */
ALWAYS void add_tap(const int16_t *x, int64_t pixel, const int16_t *w, int channels, float *sums) {
    __m256i products[ROWS][2];
    multiply_pairs(x, pixel, w, 2 * WIDE, channels / 2, products);
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < 2; i++) {
            float *to = sums + r * WIDE + i * LANES;
            _mm256_store_ps(to, _mm256_add_ps(_mm256_load_ps(to), _mm256_cvtepi32_ps(products[r][i])));
        }
}

/* Sums of one panel for the output rows [begin, end) of an image: [end - begin][line][WIDE]. */
static void sum_panel(const Convolution *c, int image, int begin, int end, int panel, int line, float *sums) {
    const int64_t pixel = (int64_t)c->across * c->channels, taps = (int64_t)c->kernel_height * c->kernel_width;
    memset(sums, 0, sizeof(float) * WIDE * (size_t)line * (size_t)(end - begin));
    for (int tap = 0; tap < taps; tap++)
        for (int first = 0; first < c->channels; first += CHUNK) {
            const int channels = c->channels - first < CHUNK ? c->channels - first : CHUNK;
            const int16_t *w = (const int16_t *)c->w + ((panel * taps + tap) * c->channels + first) * WIDE;
            for (int y = begin; y < end; y++) {
                const int64_t from = (int64_t)image * c->height + y * c->down + tap / c->kernel_width;
                const int16_t *x = (const int16_t *)c->x + (from * c->width + tap % c->kernel_width) * c->channels + first;
                float *to = sums + (y - begin) * line * WIDE;
                for (int column = 0; column < c->out_width; column += ROWS) {
                    if (pixel == CHUNK && channels == CHUNK) /* a loop of constant length */
                        add_tap(x + column * CHUNK, CHUNK, w, CHUNK, to + column * WIDE);
                    else add_tap(x + column * pixel, pixel, w, channels, to + column * WIDE);
                }
            }
        }
}

static void do_lines(const Convolution *c, int image, int begin, int end, int line, float *sums) {
    for (int first = 0; first < c->outputs; first += WIDE) {
        const int valid = c->outputs - first < WIDE ? c->outputs - first : WIDE;
        const float *scale = c->scale + first, *bias = c->bias + first, factor = c->x_scale[image];
        sum_panel(c, image, begin, end, first / WIDE, line, sums);
        for (int y = begin; y < end; y++)
            for (int column = 0; column < c->out_width; column++) {
                const float *sum = sums + ((y - begin) * line + column) * WIDE;
                float *to = c->out + (((int64_t)image * c->out_height + y) * c->out_width + column) * c->outputs + first;
                float values[WIDE];
                for (int n = 0; n < WIDE; n++) values[n] = sum[n] * factor * scale[n] + bias[n];
                if (valid == WIDE) memcpy(to, values, sizeof values);
                else memcpy(to, values, sizeof(float) * (size_t)valid);
            }
    }
}

/* Take tasks of a convolution until none is left. */
void qvggt_convolve(Convolution *c) {
    const int line = (c->out_width + ROWS - 1) / ROWS * ROWS, lines = line < PIXELS ? PIXELS / line : 1;
    const int tasks = (c->out_height + lines - 1) / lines;
    float *sums = aligned_alloc(64, sizeof(float) * WIDE * (size_t)line * (size_t)lines);
    if (!sums) atomic_store(&c->job.failed, 1);
    for (int task; sums && (task = take(&c->job, (int64_t)tasks * c->batch)) >= 0;) {
        const int begin = task % tasks * lines, end = begin + lines < c->out_height ? begin + lines : c->out_height;
        do_lines(c, task / tasks, begin, end, line, sums);
    }
    free(sums);
}

typedef struct {
    Job job;
    const float *x;      /* [lines][width] */
    int16_t *to;         /* [top + lines + top][left + width + left] */
    int64_t lines, width, top, left; /* widths in values: pixels times channels */
    float factor;
} RoundedMap;

/* Quantize a feature map and pad it with zeros. */
void qvggt_round_map(RoundedMap *m) {
    const int64_t wide = m->width + 2 * m->left;
    const size_t edge = sizeof(int16_t) * (size_t)m->left;
    for (int task; (task = take(&m->job, m->lines + 2 * m->top)) >= 0;) {
        int16_t *at = m->to + task * wide;
        if (task < m->top || task >= m->top + m->lines) {
            memset(at, 0, sizeof(int16_t) * (size_t)wide);
            continue;
        }
        const float *from = m->x + (task - m->top) * m->width;
        memset(at, 0, edge), memset(at + m->left + m->width, 0, edge);
        at += m->left;
        int64_t i = 0;
        for (; i + WIDE <= m->width; i += WIDE)
            _mm256_storeu_si256((__m256i *)(at + i), rounded(from + i, _mm256_set1_ps(m->factor)));
        for (; i < m->width; i++) at[i] = (int16_t)lrintf(from[i] * m->factor);
    }
}

static void round_kernel(const RoundedKernels *k, int n, int16_t *codes) {
    const int many = k->channels * k->taps, there = n < k->outputs ? many : 0;
    const float *from = k->x + (int64_t)n * many;
    float largest = 1e-30f;
    for (int i = 0; i < there; i++) largest = fabsf(from[i]) > largest ? fabsf(from[i]) : largest;
    k->scale[n] = largest / k->levels;
    memset(codes, 0, sizeof(int16_t) * (size_t)many);
    for (int i = 0; i < there; i++) codes[i] = (int16_t)lrintf(from[i] / k->scale[n]);
    for (int tap = 0; tap < k->taps; tap++) {
        int16_t *to = (int16_t *)k->to + ((int64_t)(n / WIDE) * k->taps + tap) * k->channels * WIDE + n % WIDE * 2;
        for (int c = 0; c < k->channels; c++) to[c / 2 * 2 * WIDE + c % 2] = codes[c * k->taps + tap];
    }
}

/* Quantize kernels, each by its largest value, one panel per task. */
void qvggt_round_kernels(RoundedKernels *k) {
    int16_t *codes = malloc(sizeof(int16_t) * (size_t)k->channels * (size_t)k->taps);
    if (!codes) atomic_store(&k->job.failed, 1);
    for (int task; codes && (task = take(&k->job, (k->outputs + WIDE - 1) / WIDE)) >= 0;)
        for (int n = task * WIDE; n < (task + 1) * WIDE; n++) round_kernel(k, n, codes);
    free(codes);
}
