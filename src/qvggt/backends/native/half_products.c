/* Products of bfloat16 activations with packed weights, unpacked to bfloat16 on the fly, summed by pairs in float32.
 *
 * Some panels of 32 outputs are unpacked into the L2 cache, pair of inputs by pair, and multiplied with all rows, 12 at a
 * time. */
#include "job.h"
#include "tiles.h"
#include "unpack.h"

#ifdef __AVX512BF16__

#define PANEL 32              /* outputs per panel: two vectors */
#ifdef TILES
#define TILE 32               /* rows multiplied together */
#define UNPACKED (1 << 20)    /* most bytes unpacked together */
#else
#define TILE 12               /* rows per tile: 24 sums in registers */
#define UNPACKED (512 << 10)
#endif
#define SIDE 16               /* rows and columns that are transposed together */

typedef struct {
    Job job;
    const uint16_t *x;      /* [rows][channels] */
    const uint8_t *packed;  /* [outputs][row_bytes] */
    const float *scale;     /* [outputs][groups] */
    const int8_t *zero;     /* [outputs][groups] or NULL */
    const float *bias;      /* [outputs] or NULL */
    uint16_t *out;          /* [rows][outputs] */
    int64_t row_bytes, rows;
    int32_t channels, outputs, groups, bits;
} HalfProduct;

typedef struct {
    uint32_t *weights; /* [panels][channels / 2][PANEL], pairs of inputs */
    uint16_t *lines;   /* [SIDE][group] */
    int8_t *levels;    /* [group] */
    uint16_t *rows;    /* [channels / 32][TILE][32], for products in tiles */
} Scratch;

/* Transpose 16 rows of 16 pairs, `from_step` pairs apart, to rows PANEL pairs apart. */
ALWAYS void transpose(const uint32_t *from, int64_t from_step, uint32_t *to) {
    __m512i a[SIDE], b[SIDE];
#pragma GCC unroll 16
    for (int i = 0; i < SIDE; i++) a[i] = _mm512_loadu_si512(from + i * from_step);
#pragma GCC unroll 8
    for (int i = 0; i < SIDE; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]), b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < SIDE; i += 4) {
        a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]), a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]), a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { /* quarter q of a[i + 4 j] is column 4 q + i of the rows from 4 j on */
        const __m512i low = _mm512_shuffle_i32x4(a[i], a[i + 4], 0x88), high = _mm512_shuffle_i32x4(a[i], a[i + 4], 0xDD);
        const __m512i low2 = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0x88);
        const __m512i high2 = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0xDD);
        _mm512_storeu_si512(to + (int64_t)i * PANEL, _mm512_shuffle_i32x4(low, low2, 0x88));
        _mm512_storeu_si512(to + (int64_t)(i + 4) * PANEL, _mm512_shuffle_i32x4(high, high2, 0x88));
        _mm512_storeu_si512(to + (int64_t)(i + 8) * PANEL, _mm512_shuffle_i32x4(low, low2, 0xDD));
        _mm512_storeu_si512(to + (int64_t)(i + 12) * PANEL, _mm512_shuffle_i32x4(high, high2, 0xDD));
    }
}

ALWAYS __m512 scaled(const int8_t *levels, __m512i offset, __m512 scale) {
    const __m512i level = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)levels));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(level, offset)), scale);
}

/* Unpack the 16 outputs from `output` on into half of a panel. */
static void unpack_outputs(const HalfProduct *p, int output, const Scratch *s, uint32_t *to) {
    const int size = p->channels / p->groups;
    for (int g = 0; g < p->groups; g++) {
        for (int i = 0; i < SIDE; i++) {
            const int64_t n = output + i, at = n * p->groups + g;
            const __m512i offset = _mm512_set1_epi32(p->zero ? p->zero[at] : 0);
            const __m512 scale = _mm512_set1_ps(p->scale[at]);
            unpack(p->packed + n * p->row_bytes, p->row_bytes, p->bits, (int64_t)g * size, size, s->levels);
            for (int k = 0; k < size; k += 32)
                _mm512_storeu_si512(s->lines + (int64_t)i * size + k,
                                    (__m512i)_mm512_cvtne2ps_pbh(scaled(s->levels + k + 16, offset, scale),
                                                                 scaled(s->levels + k, offset, scale)));
        }
        for (int k = 0; k < size / 2; k += SIDE)
            transpose((const uint32_t *)s->lines + k, size / 2, to + ((int64_t)g * size / 2 + k) * PANEL);
    }
}

#ifdef TILES

/* Multiply TILE rows, a copy of which has the tiles' layout, with some panels. */
static void multiply_rows(const HalfProduct *p, const Scratch *s, int64_t row, int first, int last) {
    _Alignas(64) float sums[4][16][16]; /* of the upper rows and the lower, each left and right */
    for (int r = 0; r < TILE; r++)
        for (int k = 0; k < p->channels; k += 32)
            _mm512_store_si512(s->rows + k * TILE + r * 32, _mm512_loadu_si512(p->x + (row + r) * p->channels + k));
    for (int n = first; n < last; n++) {
        const uint32_t *weights = s->weights + (int64_t)(n - first) * p->channels / 2 * PANEL;
        TILE_ZERO(0); TILE_ZERO(1); TILE_ZERO(2); TILE_ZERO(3);
        for (int k = 0; k < p->channels; k += 32) {
            TILE_LOAD(4, s->rows + k * TILE, 64);
            TILE_LOAD(6, weights + k / 2 * PANEL, 4 * PANEL);
            TILE_MULTIPLY(0, 4, 6);
            TILE_LOAD(7, weights + k / 2 * PANEL + 16, 4 * PANEL);
            TILE_MULTIPLY(1, 4, 7);
            TILE_LOAD(5, s->rows + k * TILE + 512, 64);
            TILE_MULTIPLY(2, 5, 6);
            TILE_MULTIPLY(3, 5, 7);
        }
        TILE_STORE(0, sums[0], 64); TILE_STORE(1, sums[1], 64); TILE_STORE(2, sums[2], 64); TILE_STORE(3, sums[3], 64);
        const __m512 left = p->bias ? _mm512_loadu_ps(p->bias + n * PANEL) : _mm512_setzero_ps();
        const __m512 right = p->bias ? _mm512_loadu_ps(p->bias + n * PANEL + 16) : _mm512_setzero_ps();
        for (int r = 0; r < TILE; r++) {
            const __m512 a = _mm512_add_ps(_mm512_load_ps(sums[r / 16 * 2][r % 16]), left);
            const __m512 b = _mm512_add_ps(_mm512_load_ps(sums[r / 16 * 2 + 1][r % 16]), right);
            _mm512_storeu_si512(p->out + (row + r) * p->outputs + n * PANEL, (__m512i)_mm512_cvtne2ps_pbh(b, a));
        }
    }
}

#else

ALWAYS __m512 multiply_add(__m512 sum, uint32_t pair, __m512i weights) {
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32((int)pair), (__m512bh)weights);
}

/* Multiply TILE rows with a panel. Addresses are a base and one, two times the step: pointers would not fit registers. */
ALWAYS void multiply_tile(const HalfProduct *p, const uint32_t *weights, int64_t row, int output) {
    const int64_t step = p->channels / 2;
    const uint32_t *x0 = (const uint32_t *)(p->x + row * p->channels), *x3 = x0 + 3 * step, *x6 = x3 + 3 * step;
    const uint32_t *x9 = x6 + 3 * step, *end = x0 + step;
    __m512 sums[TILE][2];
    const __m512 left = p->bias ? _mm512_loadu_ps(p->bias + output) : _mm512_setzero_ps();
    const __m512 right = p->bias ? _mm512_loadu_ps(p->bias + output + 16) : _mm512_setzero_ps();
#pragma GCC unroll 12
    for (int r = 0; r < TILE; r++) sums[r][0] = left, sums[r][1] = right;
    for (; x0 < end; x0++, x3++, x6++, x9++, weights += PANEL) {
        const __m512i w0 = _mm512_load_si512(weights), w1 = _mm512_load_si512(weights + 16);
#define ADD(r, value) \
    do { const uint32_t pair = value; \
        sums[r][0] = multiply_add(sums[r][0], pair, w0), sums[r][1] = multiply_add(sums[r][1], pair, w1); } while (0)
        ADD(0, x0[0]); ADD(1, x0[step]); ADD(2, x0[2 * step]);
        ADD(3, x3[0]); ADD(4, x3[step]); ADD(5, x3[2 * step]);
        ADD(6, x6[0]); ADD(7, x6[step]); ADD(8, x6[2 * step]);
        ADD(9, x9[0]); ADD(10, x9[step]); ADD(11, x9[2 * step]);
#undef ADD
    }
#pragma GCC unroll 12
    for (int r = 0; r < TILE; r++)
        _mm512_storeu_si512(p->out + (row + r) * p->outputs + output,
                            (__m512i)_mm512_cvtne2ps_pbh(sums[r][1], sums[r][0]));
}

static void multiply_rows(const HalfProduct *p, const Scratch *s, int64_t row, int first, int last) {
    for (int n = first; n < last; n++)
        multiply_tile(p, s->weights + (int64_t)(n - first) * p->channels / 2 * PANEL, row, n * PANEL);
}

#endif

/* Take tasks of a product, some panels times some rows, until none is left. */
void qvggt_multiply_bfloat16(HalfProduct *p) {
    const int all = p->outputs / PANEL, size = p->channels / p->groups;
    const int64_t panel_pairs = (int64_t)p->channels / 2 * PANEL;
    int panels = (int)(UNPACKED / (4 * panel_pairs)), parts = 1;
    if (panels < 1) panels = 1;
    if (panels > all) panels = all;
    while (panels > 1 && (all + panels - 1) / panels < 4 * p->job.threads) panels--;
    const int columns = (all + panels - 1) / panels;
    while (columns * parts < 2 * p->job.threads && p->rows / parts > 16 * TILE) parts++;
    const int64_t part = (p->rows + parts - 1) / parts;
    Scratch s = {aligned_alloc(64, (size_t)(panels * panel_pairs) * 4), aligned_alloc(64, (size_t)(SIDE * size) * 2),
                 malloc((size_t)size)};
    int failed = !s.weights || !s.lines || !s.levels;
#ifdef TILES
    s.rows = aligned_alloc(64, (size_t)p->channels * TILE * 2);
    failed |= !s.rows;
#endif
    begin_tiles();
    if (failed) atomic_store(&p->job.failed, 1);
    for (int task; !failed && (task = take(&p->job, (int64_t)columns * parts)) >= 0;) {
        const int first = task % columns * panels, last = first + panels < all ? first + panels : all;
        const int64_t begin = task / columns * part, end = begin + part < p->rows ? begin + part : p->rows;
        if (begin >= end) continue;
        for (int n = first; n < last; n++)
            for (int half = 0; half < PANEL; half += SIDE)
                unpack_outputs(p, n * PANEL + half, &s, s.weights + (n - first) * panel_pairs + half);
        for (int64_t row = begin; row < end; row += TILE) { /* the last tile may repeat rows */
            const int64_t at = row + TILE <= p->rows ? row : p->rows - TILE;
            multiply_rows(p, &s, at, first, last);
        }
    }
    end_tiles();
    free(s.weights), free(s.lines), free(s.levels), free(s.rows);
}

#endif
