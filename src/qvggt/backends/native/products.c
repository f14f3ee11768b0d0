/* Products of 8-bit activations with packed weights of 2 to 8 bits, unpacked on the fly.
 *
 * out[m][n] = bias[n] + sum over groups g of  a_scale[m, g] * w_scale[n, g] * sum over k in g of a[m][k] * w[n][k]
 *
 * Activations are unsigned bytes with zero point 128, weights are signed integers (levels). A panel of 16 outputs, 32 with
 * AVX-512, is unpacked into the L1 cache and reused for many rows. With VNNI or NEON, products are summed by fours in 32
 * bits. Without, they are summed by pairs in 16 bits for as many steps as cannot overflow (8 for 4-bit weights), then
 * widened to 32 bits. At the end of a group, sums become float. Weights whose levels are too large are split into two 4-bit
 * planes.
 */
#include "job.h"
#include "unpack.h"
#include "wide.h"

#define VECTORS 2                /* vectors per panel */
#define PANEL (WIDE_LANES * VECTORS)  /* outputs per panel */
#define PANELS (256 / PANEL)     /* panels unpacked together */
#define ROWS 4                   /* rows per tile */
#define BLOCK 64                 /* rows multiplied with a panel before the next panel */
#define PART 2048                /* most rows per task */
#define CHUNK 1024               /* weights of an output unpacked at a time, about */
#define LINES 16                 /* rows per task of an expansion */

typedef struct {
    Job job;
    const uint8_t *codes;   /* [rows][channels], zero point 128 */
    const float *a_scale;   /* [rows] */
    const uint8_t *packed;  /* [outputs][row_bytes], a stream of `bits`-bit codes */
    const float *w_scale;   /* [outputs][groups] */
    const int8_t *w_zero;   /* [outputs][groups] or NULL */
    const float *bias;      /* [outputs] or NULL */
    float *out;             /* [rows][outputs] */
    int64_t row_bytes, rows;
    int32_t channels, outputs, groups, bits;
} Product;

typedef struct {
    int8_t *levels;     /* [PANELS][groups of the chunk][planes][group / 4][PANEL][4] */
    int32_t *offset;    /* [PANELS][groups of the chunk][PANEL]: -ZERO * the sum of the group's levels */
    float *scale;       /* [PANELS][groups of the chunk][PANEL] */
    int8_t *row;        /* [planes][group] */
    uint8_t *codes;     /* [BLOCK / ROWS][group / 4 of the chunk][ROWS][4] */
} Scratch;

typedef struct {
    const uint8_t *codes;     /* [group / 4 of the chunk][ROWS][4] */
    float *out[ROWS], a_scale[ROWS];
    const float *bias;        /* [outputs] or NULL */
    int panel, valid, outputs; /* rows and outputs to be written; the rest are computed only */
} Tile;

static int largest_level(const Product *p) {
    return p->w_zero ? (1 << p->bits) - 1 : 1 << (p->bits - 1);
}

static int planes_of(const Product *p) { return largest_level(p) > (WIDE_SUMS ? 128 : 64) ? 2 : 1; }

/* Steps of ADD_FOURS before 16-bit sums must be widened: 255 * 2 * level * steps < 2^15. */
static int steps_of(const Product *p) {
    int level = largest_level(p), steps = 8;
    if (planes_of(p) == 2) level = 16;
    while (steps > 1 && 510 * level * steps > 32767) steps /= 2;
    return steps;
}

/* Inputs per group. */
static int size_of(const Product *p) { return p->channels / p->groups; }

/* Unpack the groups [first, last) of the panel that begins at `output`; `row` is scratch for one group's planes. */
static void unpack_panel(const Product *p, int output, int first, int last, int8_t *row, int8_t *levels,
                         int32_t *offset, float *scale) {
    const int size = size_of(p), planes = planes_of(p);
    for (int lane = 0; lane < PANEL; lane++) {
        const int n = output + lane;
        for (int g = first; g < last; g++) {
            const int at = (g - first) * PANEL + lane;
            int32_t *to = (int32_t *)(levels + (int64_t)(g - first) * planes * size * PANEL) + lane;
            int32_t sum = 0, four;
            if (n < p->outputs) {
                const int zero = p->w_zero ? p->w_zero[(int64_t)n * p->groups + g] : 0;
                unpack(p->packed + n * p->row_bytes, p->row_bytes, p->bits, (int64_t)g * size, size, row);
                for (int k = 0; k < size; k++) sum += row[k];
                sum -= zero * size;
                if (planes == 2) {
                    for (int k = 0; k < size; k++) {
                        const int level = row[k] - zero;
                        row[k] = (int8_t)(level >> 4), row[size + k] = (int8_t)(level & 15);
                    }
                } else if (zero) {
                    for (int k = 0; k < size; k++) row[k] = (int8_t)(row[k] - zero);
                }
            } else {
                memset(row, 0, (size_t)(size * planes));
            }
            for (int k = 0; k < size * planes / 4; k++) {
                memcpy(&four, row + 4 * k, 4);
                to[(int64_t)k * PANEL] = four;
            }
            offset[at] = FLIP ? 0 : -ZERO * sum;
            scale[at] = n < p->outputs ? p->w_scale[(int64_t)n * p->groups + g] : 0.0f;
        }
    }
}

ALWAYS Ints four(const uint8_t *bytes) {
    int32_t value;
    memcpy(&value, bytes, 4);
    return V(set1_epi32)(value);
}

/* Add the products of one plane of a group to the sums of a tile. */
ALWAYS void add_plane(const uint8_t *a, const int8_t *w, int size, Ints sums[ROWS][VECTORS], const int steps) {
    for (int k = 0; k < size; k += 4 * steps) {
        Ints p00 = V(set1_epi32)(0), p01 = p00, p10 = p00, p11 = p00, p20 = p00, p21 = p00, p30 = p00, p31 = p00;
        const int8_t *at = w + (int64_t)k * PANEL;
        const uint8_t *from = a + k * ROWS;
#pragma GCC unroll 8
        for (int step = 0; step < steps; step++) {
            const Ints w0 = load_ints(at + step * 4 * PANEL), w1 = load_ints(at + step * 4 * PANEL + 4 * WIDE_LANES);
            Ints x = four(from + 4 * (step * ROWS + 0));
            p00 = wide_fours(p00, x, w0);
            p01 = wide_fours(p01, x, w1);
            x = four(from + 4 * (step * ROWS + 1));
            p10 = wide_fours(p10, x, w0);
            p11 = wide_fours(p11, x, w1);
            x = four(from + 4 * (step * ROWS + 2));
            p20 = wide_fours(p20, x, w0);
            p21 = wide_fours(p21, x, w1);
            x = four(from + 4 * (step * ROWS + 3));
            p30 = wide_fours(p30, x, w0);
            p31 = wide_fours(p31, x, w1);
            KEEP_WIDE(p00); KEEP_WIDE(p01); KEEP_WIDE(p10); KEEP_WIDE(p11);
            KEEP_WIDE(p20); KEEP_WIDE(p21); KEEP_WIDE(p30); KEEP_WIDE(p31);
        }
        const Ints parts[ROWS][VECTORS] = {{p00, p01}, {p10, p11}, {p20, p21}, {p30, p31}};
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 2
            for (int v = 0; v < VECTORS; v++)
                sums[r][v] = V(add_epi32)(sums[r][v], SUM_BY_FOURS(parts[r][v]));
    }
}

ALWAYS void add_planes(const uint8_t *a, const int8_t *w, int size, int planes,
                       Ints sums[ROWS][VECTORS], const int steps) {
    add_plane(a, w, size, sums, steps);
    if (planes == 2) {
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < VECTORS; v++) sums[r][v] = V(slli_epi32)(sums[r][v], 4);
        add_plane(a, w + (int64_t)size * PANEL, size, sums, steps);
    }
}

ALWAYS void load_totals(Floats total[ROWS][VECTORS], const Tile *t, int begin) {
    for (int r = 0; r < ROWS; r++) {
        float edge[PANEL] = {0};
        const float *source = begin ? t->bias : t->out[r];
        if (source && t->outputs < PANEL) source = memcpy(edge, source, sizeof(float) * (size_t)t->outputs);
        for (int v = 0; v < VECTORS; v++)
            total[r][v] = source ? V(loadu_ps)(source + v * WIDE_LANES) : V(set1_ps)(0.0f);
    }
}

ALWAYS void store_totals(Floats total[ROWS][VECTORS], const Tile *t) {
    for (int r = 0; r < t->valid; r++) {
        float edge[PANEL];
        for (int v = 0; v < VECTORS; v++)
            V(storeu_ps)((t->outputs < PANEL ? edge : t->out[r]) + v * WIDE_LANES, total[r][v]);
        if (t->outputs < PANEL) memcpy(t->out[r], edge, sizeof(float) * (size_t)t->outputs);
    }
}

/* Add the groups [first, last) to a tile. */
static void tile(const Product *p, const Scratch *s, const Tile *t, int first, int last) {
    const int size = size_of(p), planes = planes_of(p), steps = steps_of(p), chunk = last - first;
    const int8_t *w = s->levels + (int64_t)t->panel * chunk * planes * size * PANEL;
    const int32_t *offset = s->offset + (int64_t)t->panel * chunk * PANEL;
    const float *scale = s->scale + (int64_t)t->panel * chunk * PANEL;
    const uint8_t *a = t->codes;
    Floats total[ROWS][VECTORS];
    load_totals(total, t, first == 0);
    for (int g = 0; g < chunk; g++, w += planes * size * PANEL, a += size * ROWS, offset += PANEL, scale += PANEL) {
        Ints sums[ROWS][VECTORS];
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < VECTORS; v++) sums[r][v] = V(set1_epi32)(0);
        if (WIDE_SUMS) add_planes(a, w, size, planes, sums, size / 4);
        else if (steps == 8 && size % 32 == 0) add_planes(a, w, size, planes, sums, 8);
        else if (steps >= 4 && size % 16 == 0) add_planes(a, w, size, planes, sums, 4);
        else if (steps >= 2 && size % 8 == 0) add_planes(a, w, size, planes, sums, 2);
        else add_planes(a, w, size, planes, sums, 1);
        for (int r = 0; r < ROWS; r++) {
            const Floats row = V(set1_ps)(t->a_scale[r]);
            for (int v = 0; v < VECTORS; v++) {
                const Floats factor = V(mul_ps)(row, V(loadu_ps)(scale + v * WIDE_LANES));
                const Floats sum = V(cvtepi32_ps)(V(add_epi32)(sums[r][v], load_ints(offset + v * WIDE_LANES)));
                total[r][v] = V(fmadd_ps)(sum, factor, total[r][v]);
            }
        }
    }
    store_totals(total, t);
}

/* Interleave the codes of a tile's rows, four of each row at a time. */
static void gather(const uint8_t *const rows[ROWS], int width, uint8_t *to) {
    int k = 0;
#ifdef __AVX2__
    for (; k + 16 <= width; k += 16, to += 16 * ROWS) {
        __m128i r[ROWS];
        for (int i = 0; i < ROWS; i++) r[i] = _mm_loadu_si128((const __m128i *)(rows[i] + k));
        const __m128i t0 = _mm_unpacklo_epi32(r[0], r[1]), t1 = _mm_unpacklo_epi32(r[2], r[3]);
        const __m128i t2 = _mm_unpackhi_epi32(r[0], r[1]), t3 = _mm_unpackhi_epi32(r[2], r[3]);
        _mm_storeu_si128((__m128i *)to, _mm_unpacklo_epi64(t0, t1));
        _mm_storeu_si128((__m128i *)(to + 16), _mm_unpackhi_epi64(t0, t1));
        _mm_storeu_si128((__m128i *)(to + 32), _mm_unpacklo_epi64(t2, t3));
        _mm_storeu_si128((__m128i *)(to + 48), _mm_unpackhi_epi64(t2, t3));
    }
#endif
    for (; k < width; k += 4)
        for (int r = 0; r < ROWS; r++, to += 4) {
            uint32_t codes;
            memcpy(&codes, rows[r] + k, 4);
            codes ^= FLIP;
            memcpy(to, &codes, 4);
        }
}

/* Multiply the rows [begin, end) with PANELS panels from `output` on, `per_chunk` groups at a time. */
static void do_task(const Product *p, const Scratch *s, int output, int64_t begin, int64_t end, int per_chunk) {
    const int size = size_of(p), planes = planes_of(p), left = (p->outputs - output + PANEL - 1) / PANEL;
    const int panels = left < PANELS ? left : PANELS;
    for (int first = 0; first < p->groups; first += per_chunk) {
        const int last = first + per_chunk < p->groups ? first + per_chunk : p->groups, chunk = last - first;
        for (int panel = 0; panel < panels; panel++) {
            const int64_t at = (int64_t)panel * chunk * PANEL;
            unpack_panel(p, output + panel * PANEL, first, last, s->row, s->levels + at * planes * size, s->offset + at,
                         s->scale + at);
        }
        for (int64_t block = begin; block < end; block += BLOCK) {
            const int64_t stop = block + BLOCK < end ? block + BLOCK : end;
            for (int64_t m = block; m < stop; m += ROWS) {
                const uint8_t *rows[ROWS];
                for (int r = 0; r < ROWS; r++)
                    rows[r] = p->codes + (m + r < stop ? m + r : stop - 1) * p->channels + first * size;
                gather(rows, chunk * size, s->codes + (m - block) * chunk * size);
            }
            for (int panel = 0; panel < panels; panel++)
                for (int64_t m = block; m < stop; m += ROWS) {
                    const int n = output + panel * PANEL;
                    Tile t = {.panel = panel, .codes = s->codes + (m - block) * chunk * size};
                    t.outputs = p->outputs - n < PANEL ? p->outputs - n : PANEL;
                    t.valid = stop - m < ROWS ? (int)(stop - m) : ROWS;
                    t.bias = p->bias ? p->bias + n : NULL;
                    for (int r = 0; r < ROWS; r++) {
                        const int64_t row = m + (r < t.valid ? r : t.valid - 1);
                        t.out[r] = p->out + row * p->outputs + n;
                        t.a_scale[r] = p->a_scale[row];
                    }
                    for (int r = 0; r < ROWS; r++) __builtin_prefetch(t.out[r], 1);
                    tile(p, s, &t, first, last);
                }
        }
    }
}

/* Take tasks of a product until none is left. */
void qvggt_multiply(Product *p) {
    const int size = size_of(p);
    const int per_chunk = size >= CHUNK ? 1 : (CHUNK / size < p->groups ? CHUNK / size : p->groups);
    const int wide = PANELS * PANEL, columns = (p->outputs + wide - 1) / wide;
    int64_t parts = (p->rows + PART - 1) / PART;
    while (columns * parts < 4 * p->job.threads && p->rows / parts > 4 * BLOCK) parts++;
    const int64_t part = (((p->rows + parts - 1) / parts) + ROWS - 1) / ROWS * ROWS;
    const size_t values = (size_t)PANELS * PANEL * (size_t)per_chunk;
    Scratch s = {aligned_alloc(64, values * (size_t)size * (size_t)planes_of(p)), malloc(values * sizeof(int32_t)),
                 malloc(values * sizeof(float)), malloc((size_t)size * 2),
                 malloc((size_t)BLOCK * (size_t)per_chunk * (size_t)size)};
    const int failed = !s.levels || !s.offset || !s.scale || !s.row || !s.codes;
    if (failed) atomic_store(&p->job.failed, 1);
    for (int task; !failed && (task = take(&p->job, columns * parts)) >= 0;) {
        const int64_t begin = task / columns * part, end = begin + part < p->rows ? begin + part : p->rows;
        if (begin < end) do_task(p, &s, task % columns * wide, begin, end, per_chunk);
    }
    free(s.levels), free(s.offset), free(s.scale), free(s.row), free(s.codes);
}
