/* Winograd convolution F(2x2, 3x3): 16 multiplications per 2x2 outputs and channel instead of 36.
 *
 * The input is cut into overlapping tiles of 4x4 pixels, two pixels apart; each gives 2x2 outputs. Tiles and kernels are
 * transformed; at each of the 16 positions, tiles times kernels is a matrix product over the channels, whose result is
 * transformed back. Input tiles are transformed after quantization, which is exact. Kernels are quantized after their
 * transform, with one scale per position and output, so that a sum over CHUNK channels stays below 2^31 for any input;
 * chunks are accumulated in float.
 */
#include "convolution.h"

#define SIDE 4
#define POSITIONS 16
#define STEP 2           /* distance between tiles, and outputs per tile, along a side */
#define CHUNK 128        /* 4 * 8191 * the sum over CHUNK channels < 2^31; the caller chooses the scales so */
#define CACHED (3 << 17) /* bytes of transformed tiles at a time, about: they stay in cache */

ALWAYS __m256i plus(__m256i a, __m256i b) { return _mm256_add_epi16(a, b); }
ALWAYS __m256i minus(__m256i a, __m256i b) { return _mm256_sub_epi16(a, b); }

/* Transform the 4x4 tile at `rows`; the 16 positions are written `apart` values from one another. */
static void transform_tile(const int16_t *const rows[SIDE], int channels, int16_t *to, int64_t apart) {
    for (int c = 0; c < channels; c += WIDE) {
        __m256i down[SIDE][SIDE];
        for (int j = 0; j < SIDE; j++) {
            __m256i x[SIDE];
            for (int i = 0; i < SIDE; i++) x[i] = _mm256_loadu_si256((const __m256i *)(rows[i] + j * channels + c));
            down[0][j] = minus(x[0], x[2]), down[1][j] = plus(x[1], x[2]);
            down[2][j] = minus(x[2], x[1]), down[3][j] = minus(x[1], x[3]);
        }
        for (int i = 0; i < SIDE; i++) {
            const __m256i *x = down[i];
            const __m256i both[SIDE] = {minus(x[0], x[2]), plus(x[1], x[2]), minus(x[2], x[1]), minus(x[1], x[3])};
            for (int j = 0; j < SIDE; j++)
                _mm256_store_si256((__m256i *)(to + (i * SIDE + j) * apart + c), both[j]);
        }
    }
}

/* Offset in the padded input of a tile's row. A row below the image is clamped: it affects no stored output. */
static int64_t row_of(const Convolution *c, int image, int tile, int row) {
    const int across = (c->out_width + STEP - 1) / STEP, left = tile % across * STEP;
    const int y = tile / across * STEP + row, last = c->height - 1;
    return (((int64_t)image * c->height + (y < last ? y : last)) * c->width + left) * c->channels;
}

/* Transform the tiles [begin, begin + count) of an image to [POSITIONS][capacity][channels]. */
static void transform_tiles(const Convolution *c, int image, int begin, int count, int capacity, int16_t *to) {
    for (int t = 0; t < count; t++) {
        const int16_t *rows[SIDE];
        for (int i = 0; i < SIDE; i++) rows[i] = (const int16_t *)c->x + row_of(c, image, begin + t, i);
        transform_tile(rows, c->channels, to + (int64_t)t * c->channels, (int64_t)capacity * c->channels);
    }
}

/* Multiply ROWS tiles with a panel at one position, into [ROWS][POSITIONS][WIDE]; add to it unless is_first. */
ALWAYS void add_position(const int16_t *x, int64_t stride, const int16_t *w, int channels, const float *scale, int is_first,
                         float *to) {
    __m256i products[ROWS][2];
    multiply_pairs(x, stride, w, 2 * WIDE, channels / 2, products);
    for (int r = 0; r < ROWS; r++, to += POSITIONS * WIDE)
        for (int i = 0; i < 2; i++) {
            float *at = to + i * LANES;
            const __m256 before = is_first ? _mm256_setzero_ps() : _mm256_load_ps(at);
            const __m256 factor = _mm256_loadu_ps(scale + i * LANES);
            _mm256_store_ps(at, _mm256_fmadd_ps(_mm256_cvtepi32_ps(products[r][i]), factor, before));
        }
}

/* Multiply `count` tiles with a panel: [capacity][POSITIONS][WIDE]. */
static void multiply_tiles(const Convolution *c, const int16_t *tiles, int count, int capacity, int panel, float *sums) {
    for (int p = 0; p < POSITIONS; p++)
        for (int first = 0; first < c->channels; first += CHUNK) {
            const int channels = c->channels - first < CHUNK ? c->channels - first : CHUNK;
            const int64_t place = (int64_t)panel * POSITIONS + p;
            const int16_t *w = (const int16_t *)c->w + (place * c->channels + first) * WIDE;
            const float *scale = c->scale + place * WIDE;
            for (int t = 0; t < count; t += ROWS) {
                const int16_t *x = tiles + ((int64_t)p * capacity + t) * c->channels + first;
                float *to = sums + ((int64_t)t * POSITIONS + p) * WIDE;
                if (channels == CHUNK) add_position(x, c->channels, w, CHUNK, scale, !first, to);
                else add_position(x, c->channels, w, channels, scale, !first, to);
            }
        }
}

/* Inverse transform of a tile's sums [POSITIONS][WIDE] to outputs [STEP][STEP][WIDE]. */
static void transform_back(const float *sums, float factor, const float *bias, float *to) {
    for (int n = 0; n < WIDE; n += LANES) {
        const __m256 add = _mm256_loadu_ps(bias + n), times = _mm256_set1_ps(factor);
        __m256 down[STEP][SIDE];
        for (int j = 0; j < SIDE; j++) {
            __m256 x[SIDE];
            for (int i = 0; i < SIDE; i++) x[i] = _mm256_load_ps(sums + (i * SIDE + j) * WIDE + n);
            down[0][j] = _mm256_add_ps(_mm256_add_ps(x[0], x[1]), x[2]);
            down[1][j] = _mm256_sub_ps(_mm256_sub_ps(x[1], x[2]), x[3]);
        }
        for (int i = 0; i < STEP; i++) {
            const __m256 *x = down[i];
            const __m256 left = _mm256_add_ps(_mm256_add_ps(x[0], x[1]), x[2]);
            const __m256 right = _mm256_sub_ps(_mm256_sub_ps(x[1], x[2]), x[3]);
            _mm256_store_ps(to + i * STEP * WIDE + n, _mm256_fmadd_ps(left, times, add));
            _mm256_store_ps(to + (i * STEP + 1) * WIDE + n, _mm256_fmadd_ps(right, times, add));
        }
    }
}

/* Inverse-transform a panel's sums of the tiles [begin, begin + count) and store the outputs. */
static void store_tiles(const Convolution *c, int image, int begin, int count, int panel, const float *sums) {
    const int across = (c->out_width + STEP - 1) / STEP, first = panel * WIDE;
    const size_t valid = sizeof(float) * (size_t)(c->outputs - first < WIDE ? c->outputs - first : WIDE);
    const float factor = c->x_scale ? c->x_scale[image] : 1.0f;
    float *out = c->out + (int64_t)image * c->out_height * c->out_width * c->outputs + first;
    for (int t = 0; t < count; t++) {
        const int top = (begin + t) / across * STEP, left = (begin + t) % across * STEP;
        _Alignas(32) float values[STEP][STEP][WIDE];
        transform_back(sums + (int64_t)t * POSITIONS * WIDE, factor, c->bias + first, values[0][0]);
        for (int i = 0; i < STEP && top + i < c->out_height; i++)
            for (int j = 0; j < STEP && left + j < c->out_width; j++) {
                float *to = out + ((int64_t)(top + i) * c->out_width + left + j) * c->outputs;
                if (valid == sizeof values[i][j]) memcpy(to, values[i][j], sizeof values[i][j]);
                else memcpy(to, values[i][j], valid);
            }
    }
}

/* Transform a tile of floats. */
static void transform_float_tile(const float *const rows[SIDE], int channels, float *to, int64_t apart) {
    for (int c = 0; c < channels; c += LANES) {
        __m256 down[SIDE][SIDE];
        for (int j = 0; j < SIDE; j++) {
            __m256 x[SIDE];
            for (int i = 0; i < SIDE; i++) x[i] = _mm256_loadu_ps(rows[i] + j * channels + c);
            down[0][j] = _mm256_sub_ps(x[0], x[2]), down[1][j] = _mm256_add_ps(x[1], x[2]);
            down[2][j] = _mm256_sub_ps(x[2], x[1]), down[3][j] = _mm256_sub_ps(x[1], x[3]);
        }
        for (int i = 0; i < SIDE; i++) {
            const __m256 *x = down[i];
            const __m256 both[SIDE] = {_mm256_sub_ps(x[0], x[2]), _mm256_add_ps(x[1], x[2]), _mm256_sub_ps(x[2], x[1]),
                                       _mm256_sub_ps(x[1], x[3])};
            for (int j = 0; j < SIDE; j++) _mm256_store_ps(to + (i * SIDE + j) * apart + c, both[j]);
        }
    }
}

static void transform_float_tiles(const Convolution *c, int image, int begin, int count, int capacity, float *to) {
    for (int t = 0; t < count; t++) {
        const float *rows[SIDE];
        for (int i = 0; i < SIDE; i++) rows[i] = (const float *)c->x + row_of(c, image, begin + t, i);
        transform_float_tile(rows, c->channels, to + (int64_t)t * c->channels, (int64_t)capacity * c->channels);
    }
}

/* Multiply ROWS float tiles with a panel at one position, into [ROWS][POSITIONS][WIDE]. */
ALWAYS void multiply_floats(const float *x, int64_t stride, const float *w, int channels, float *to) {
    __m256 sums[ROWS][2];
    for (int r = 0; r < ROWS; r++) sums[r][0] = sums[r][1] = _mm256_setzero_ps();
    for (int c = 0; c < channels; c++, w += WIDE) {
        const __m256 left = _mm256_load_ps(w), right = _mm256_load_ps(w + LANES);
#pragma GCC unroll 6
        for (int r = 0; r < ROWS; r++) {
            const __m256 value = _mm256_broadcast_ss(x + r * stride + c);
            sums[r][0] = _mm256_fmadd_ps(value, left, sums[r][0]);
            sums[r][1] = _mm256_fmadd_ps(value, right, sums[r][1]);
        }
    }
    for (int r = 0; r < ROWS; r++, to += POSITIONS * WIDE)
        _mm256_store_ps(to, sums[r][0]), _mm256_store_ps(to + LANES, sums[r][1]);
}

static void multiply_float_tiles(const Convolution *c, const float *tiles, int count, int capacity, int panel,
                                       float *sums) {
    for (int p = 0; p < POSITIONS; p++) {
        const float *w = (const float *)c->w + ((int64_t)panel * POSITIONS + p) * c->channels * WIDE;
        for (int t = 0; t < count; t += ROWS)
            multiply_floats(tiles + ((int64_t)p * capacity + t) * c->channels, c->channels, w, c->channels,
                            sums + ((int64_t)t * POSITIONS + p) * WIDE);
    }
}

/* Take tasks of a Winograd convolution, on 16-bit integers or floats, until none is left. */
static void convolve_winograd(Convolution *c, int floats) {
    const size_t size = floats ? sizeof(float) : sizeof(int16_t);
    const int fitting = CACHED / POSITIONS / (int)size / c->channels / ROWS * ROWS;
    const int capacity = fitting > ROWS ? fitting : ROWS;
    const int tiles = ((c->out_height + STEP - 1) / STEP) * ((c->out_width + STEP - 1) / STEP);
    const int tasks = (tiles + capacity - 1) / capacity;
    void *transformed = aligned_alloc(64, size * POSITIONS * (size_t)capacity * (size_t)c->channels);
    float *sums = aligned_alloc(64, sizeof(float) * POSITIONS * WIDE * (size_t)capacity);
    if (!transformed || !sums) atomic_store(&c->job.failed, 1);
    for (int task; transformed && sums && (task = take(&c->job, (int64_t)tasks * c->batch)) >= 0;) {
        const int image = task / tasks, begin = task % tasks * capacity;
        const int count = tiles - begin < capacity ? tiles - begin : capacity;
        if (floats) transform_float_tiles(c, image, begin, count, capacity, transformed);
        else transform_tiles(c, image, begin, count, capacity, transformed);
        for (int panel = 0; panel * WIDE < c->outputs; panel++) {
            if (floats) multiply_float_tiles(c, transformed, count, capacity, panel, sums);
            else multiply_tiles(c, transformed, count, capacity, panel, sums);
            store_tiles(c, image, begin, count, panel, sums);
        }
    }
    free(transformed);
    free(sums);
}

void qvggt_convolve_winograd(Convolution *c) { convolve_winograd(c, 0); }

void qvggt_convolve_winograd_floats(Convolution *c) { convolve_winograd(c, 1); }

/* One-dimensional kernel transform, three values to four, for each channel; values lie `apart` from one another. */
static void transform_three(const float *restrict x, int channels, int64_t apart, float *restrict to, int64_t to_apart) {
    for (int c = 0; c < channels; c++) {
        const float outer = 0.5f * (x[c] + x[2 * apart + c]), inner = 0.5f * x[apart + c];
        to[c] = x[c], to[to_apart + c] = outer + inner, to[2 * to_apart + c] = outer - inner;
        to[3 * to_apart + c] = x[2 * apart + c];
    }
}

/* Transform one kernel [channels][3][3] to [POSITIONS][channels]; scratch holds [9 + 3 * SIDE][channels]. */
static void transform_kernel(const float *x, int channels, float *scratch, float *to) {
    float *down = scratch + (int64_t)9 * channels; /* [SIDE][3][channels] */
    for (int tap = 0; tap < 9; tap++)
        for (int c = 0; c < channels; c++) scratch[tap * channels + c] = x[c * 9 + tap];
    for (int j = 0; j < 3; j++)
        transform_three(scratch + j * channels, channels, 3 * channels, down + j * channels, 3 * channels);
    for (int i = 0; i < SIDE; i++)
        transform_three(down + i * 3 * channels, channels, channels, to + i * SIDE * channels, channels);
}

/* Largest factor for which the absolute values of any CHUNK channels sum to at most `levels` and all fit 16 bits. */
static float factor_of(const float *x, int channels, float levels) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 largest = _mm256_set1_ps(1e-30f);
    float most = 1e-30f;
    for (int first = 0; first < channels; first += CHUNK) {
        const int end = channels - first < CHUNK ? channels : first + CHUNK;
        __m256 sums = _mm256_setzero_ps();
        for (int c = first; c < end; c += LANES) {
            const __m256 size = _mm256_andnot_ps(sign, _mm256_loadu_ps(x + c));
            sums = _mm256_add_ps(sums, size), largest = _mm256_max_ps(largest, size);
        }
        float parts[LANES], sum = 0;
        _mm256_storeu_ps(parts, sums);
        for (int i = 0; i < LANES; i++) sum += parts[i];
        most = fmaxf(most, sum);
    }
    return fminf(levels / most, INT16_MAX / largest_lane(largest));
}

static void quantize_transformed(const RoundedKernels *k, int n, const float *transformed, int16_t *codes) {
    for (int p = 0; p < POSITIONS; p++) {
        const float *x = transformed + (int64_t)p * k->channels, factor = factor_of(x, k->channels, k->levels);
        const int64_t place = (int64_t)(n / WIDE) * POSITIONS + p;
        int16_t *to = (int16_t *)k->to + place * k->channels * WIDE + n % WIDE * 2;
        k->scale[place * WIDE + n % WIDE] = 1 / factor;
        for (int c = 0; c < k->channels; c += WIDE)
            _mm256_storeu_si256((__m256i *)(codes + c), rounded(x + c, _mm256_set1_ps(factor)));
        for (int c = 0; c < k->channels; c += 2) memcpy(to + c * WIDE, codes + c, 2 * sizeof *codes);
    }
}

/* Copy a transformed kernel into its panel, unquantized. */
static void copy_transformed(const RoundedKernels *k, int n, const float *transformed) {
    for (int p = 0; p < POSITIONS; p++) {
        const int64_t place = (int64_t)(n / WIDE) * POSITIONS + p;
        float *to = (float *)k->to + place * k->channels * WIDE + n % WIDE;
        for (int c = 0; c < k->channels; c++) to[c * WIDE] = transformed[p * k->channels + c];
    }
}

/* Transform 3x3 kernels, one panel per task, and quantize them unless `floats`. */
static void transform_kernels(RoundedKernels *k, int floats) {
    const size_t count = (size_t)k->channels;
    float *scratch = malloc(sizeof(float) * (9 + 3 * SIDE + POSITIONS) * count);
    float *transformed = scratch + (9 + 3 * SIDE) * count;
    int16_t *codes = malloc(sizeof(int16_t) * count);
    if (!scratch || !codes) atomic_store(&k->job.failed, 1);
    for (int task; scratch && codes && (task = take(&k->job, (k->outputs + WIDE - 1) / WIDE)) >= 0;)
        for (int n = task * WIDE; n < (task + 1) * WIDE; n++) {
            if (n < k->outputs) transform_kernel(k->x + (int64_t)n * k->channels * 9, k->channels, scratch, transformed);
            else memset(transformed, 0, sizeof(float) * POSITIONS * count);
            if (floats) copy_transformed(k, n, transformed);
            else quantize_transformed(k, n, transformed, codes);
        }
    free(scratch);
    free(codes);
}

void qvggt_transform_kernels(RoundedKernels *k) { transform_kernels(k, 0); }

void qvggt_transform_floats(RoundedKernels *k) { transform_kernels(k, 1); }
