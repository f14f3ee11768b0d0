/* Attention on bfloat16, and norm and rotary embedding of its queries and keys, for heads of 64 channels.
 *
 * Products are summed by pairs in float32 (AVX-512 BF16, or AMX); statistics of softmax and norm are in float32. A block of keys
 * and values is packed once and reused by a part of the queries, with running maxima and sums, so that no matrix of scores
 * is stored. Numerators of the softmax are rounded to bfloat16 before they multiply the values. */
#include "bfloat16.h"
#include "job.h"
#include "tiles.h"

#ifdef __AVX512BF16__

#define CHANNELS 64
#define QUARTERS 4   /* vectors of 16 floats in a head */
#ifdef TILES
#define ROWS 32      /* queries whose scores are computed together */
#define GROUP 16     /* whose softmax is */
#define HALF_ROWS 16 /* whose results are */
#define KEYS 64      /* keys packed together */
#else
#define ROWS 12
#define GROUP 12
#define HALF_ROWS 6
#define KEYS 128
#endif
#define VALID ((1 << GROUP) - 1) /* of the 16 queries of a vector */
#define PART (704 / ROWS * ROWS)  /* most queries per task */
#define HIDDEN -1e30f /* score of a key beyond the last */

typedef struct {
    Job job;
    const uint16_t *q, *k, *v; /* [batch][heads][length][CHANNELS] */
    const float *bias;         /* [keys] or NULL */
    uint16_t *out;             /* as q */
    const float *own;          /* [batch][heads][queries] one more score of each query, or NULL */
    const uint16_t *own_value; /* its value, as q */
    int64_t q_step[3], k_step[3], v_step[3], out_step[3], own_value_step[3];
    int32_t batch, heads, queries, keys;
    float scale;
} Attention;

typedef struct {
    uint32_t k[CHANNELS / 2][KEYS];                   /* pairs of channels, key by key */
    uint32_t v[KEYS / 2][CHANNELS];                   /* pairs of keys, channel by channel */
    float bias[KEYS], scores[ROWS][KEYS];
    uint32_t q[ROWS][CHANNELS / 2], p[ROWS][KEYS / 2]; /* pairs of channels, of keys */
    float out[PART][CHANNELS], most[PART + 16], sum[PART + 16];
} Scratch;

ALWAYS Vector multiply_add(Vector sum, uint32_t a, __m512i b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)b);
}

/* Pack `count` keys and values from index `first` on; the rest of the block is hidden. */
static void pack(const Attention *a, const uint16_t *k, const uint16_t *v, int first, int count, Scratch *s) {
    const float log2e = 1.44269504f;
    __m512i low, high;
    uint16_t order[2][32];
    for (int i = 0; i < 32; i++) order[0][i] = (uint16_t)(i / 2 + 32 * (i % 2)), order[1][i] = (uint16_t)(order[0][i] + 16);
    low = _mm512_loadu_si512(order[0]), high = _mm512_loadu_si512(order[1]);
    for (int j = 0; j < KEYS; j++) {
        s->bias[j] = j >= count ? HIDDEN : a->bias ? a->bias[first + j] * log2e : 0.0f;
        uint32_t row[CHANNELS / 2] = {0};
        if (j < count) memcpy(row, k + (first + j) * a->k_step[2], sizeof row);
        for (int c = 0; c < CHANNELS / 2; c++) s->k[c][j] = row[c];
    }
    for (int j = 0; j < KEYS; j += 2)
        for (int half = 0; half < 2; half++) {
            const uint16_t *from = v + (first + j) * a->v_step[2] + 32 * half;
            const __m512i even = j < count ? _mm512_loadu_si512(from) : _mm512_setzero_si512();
            const __m512i odd = j + 1 < count ? _mm512_loadu_si512(from + a->v_step[2]) : _mm512_setzero_si512();
            _mm512_storeu_si512(s->v[j / 2] + 32 * half, _mm512_permutex2var_epi16(even, low, odd));
            _mm512_storeu_si512(s->v[j / 2] + 32 * half + 16, _mm512_permutex2var_epi16(even, high, odd));
        }
}

#ifdef TILES

/* Products of ROWS queries with all keys of a block. */
ALWAYS void score(Scratch *s) {
    for (int j = 0; j < KEYS; j += 32) {
        TILE_ZERO(0); TILE_ZERO(1); TILE_ZERO(2); TILE_ZERO(3);
        for (int c = 0; c < CHANNELS / 2; c += 16) {
            TILE_LOAD(4, s->q[0] + c, sizeof s->q[0]);
            TILE_LOAD(6, s->k[c] + j, sizeof s->k[0]);
            TILE_MULTIPLY(0, 4, 6);
            TILE_LOAD(7, s->k[c] + j + 16, sizeof s->k[0]);
            TILE_MULTIPLY(1, 4, 7);
            TILE_LOAD(5, s->q[16] + c, sizeof s->q[0]);
            TILE_MULTIPLY(2, 5, 6);
            TILE_MULTIPLY(3, 5, 7);
        }
        TILE_STORE(0, s->scores[0] + j, sizeof s->scores[0]);
        TILE_STORE(1, s->scores[0] + j + 16, sizeof s->scores[0]);
        TILE_STORE(2, s->scores[16] + j, sizeof s->scores[0]);
        TILE_STORE(3, s->scores[16] + j + 16, sizeof s->scores[0]);
    }
}

/* Add numerators times values to the results of HALF_ROWS queries. */
ALWAYS void accumulate(const Scratch *s, const uint32_t (*p)[KEYS / 2], float (*out)[CHANNELS], const float *factors) {
    for (int r = 0; r < HALF_ROWS; r++)
        if (factors[r] != 1.0f) /* seldom after the first blocks */
            for (int c = 0; c < CHANNELS; c += 16)
                _mm512_storeu_ps(out[r] + c, _mm512_mul_ps(_mm512_loadu_ps(out[r] + c), _mm512_set1_ps(factors[r])));
    TILE_LOAD(0, out[0], sizeof out[0]);
    TILE_LOAD(1, out[0] + 16, sizeof out[0]);
    TILE_LOAD(2, out[0] + 32, sizeof out[0]);
    TILE_LOAD(3, out[0] + 48, sizeof out[0]);
    for (int j = 0; j < KEYS / 2; j += 16) {
        TILE_LOAD(4, p[0] + j, sizeof p[0]);
        TILE_LOAD(5, s->v[j], sizeof s->v[0]);
        TILE_MULTIPLY(0, 4, 5);
        TILE_LOAD(6, s->v[j] + 16, sizeof s->v[0]);
        TILE_MULTIPLY(1, 4, 6);
        TILE_LOAD(5, s->v[j] + 32, sizeof s->v[0]);
        TILE_MULTIPLY(2, 4, 5);
        TILE_LOAD(6, s->v[j] + 48, sizeof s->v[0]);
        TILE_MULTIPLY(3, 4, 6);
    }
    TILE_STORE(0, out[0], sizeof out[0]);
    TILE_STORE(1, out[0] + 16, sizeof out[0]);
    TILE_STORE(2, out[0] + 32, sizeof out[0]);
    TILE_STORE(3, out[0] + 48, sizeof out[0]);
}

#else

/* Products of ROWS queries with all keys of a block. */
ALWAYS void score(Scratch *s) {
    for (int j = 0; j < KEYS; j += 32) {
        Vector sums[ROWS][2];
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
        for (int c = 0; c < CHANNELS / 2; c++) {
            const __m512i left = _mm512_loadu_si512(s->k[c] + j), right = _mm512_loadu_si512(s->k[c] + j + 16);
#pragma GCC unroll 12
            for (int r = 0; r < ROWS; r++) {
                sums[r][0] = multiply_add(sums[r][0], s->q[r][c], left);
                sums[r][1] = multiply_add(sums[r][1], s->q[r][c], right);
            }
        }
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++) {
            _mm512_storeu_ps(s->scores[r] + j, sums[r][0]);
            _mm512_storeu_ps(s->scores[r] + j + 16, sums[r][1]);
        }
    }
}

/* Add numerators times values to the results of HALF_ROWS queries. */
ALWAYS void accumulate(const Scratch *s, const uint32_t (*p)[KEYS / 2], float (*out)[CHANNELS], const float *factors) {
    Vector sums[HALF_ROWS][QUARTERS];
#pragma GCC unroll 6
    for (int r = 0; r < HALF_ROWS; r++)
#pragma GCC unroll 4
        for (int i = 0; i < QUARTERS; i++)
            sums[r][i] = _mm512_mul_ps(_mm512_loadu_ps(out[r] + 16 * i), _mm512_set1_ps(factors[r]));
    for (int j = 0; j < KEYS / 2; j++) {
        __m512i values[QUARTERS];
#pragma GCC unroll 4
        for (int i = 0; i < QUARTERS; i++) values[i] = _mm512_loadu_si512(s->v[j] + 16 * i);
#pragma GCC unroll 6
        for (int r = 0; r < HALF_ROWS; r++)
#pragma GCC unroll 4
            for (int i = 0; i < QUARTERS; i++) sums[r][i] = multiply_add(sums[r][i], p[r][j], values[i]);
    }
#pragma GCC unroll 6
    for (int r = 0; r < HALF_ROWS; r++)
#pragma GCC unroll 4
        for (int i = 0; i < QUARTERS; i++) _mm512_storeu_ps(out[r] + 16 * i, sums[r][i]);
}

#endif

/* One number from each of 16 vectors, combined by F, in the order of the rows: vector REVERSED(r) belongs to row r. */
#define REVERSED(r) ((r) >> 3 & 1 | (r) >> 1 & 2 | (r) << 1 & 4 | (r) << 3 & 8)
#define COMBINE(name, F)                                                                                        \
    ALWAYS Vector name(Vector x[16]) {                                                                          \
        for (int i = 0; i < 8; i++) x[i] = F(_mm512_unpacklo_ps(x[i], x[i + 8]), _mm512_unpackhi_ps(x[i], x[i + 8])); \
        for (int i = 0; i < 4; i++) {                                                                           \
            const __m512d a = _mm512_castps_pd(x[i]), b = _mm512_castps_pd(x[i + 4]);                           \
            x[i] = F(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));   \
        }                                                                                                       \
        for (int n = 2; n; n /= 2)                                                                              \
            for (int i = 0; i < n; i++)                                                                         \
                x[i] = F(_mm512_shuffle_f32x4(x[i], x[i + n], 0x88), _mm512_shuffle_f32x4(x[i], x[i + n], 0xDD)); \
        return x[0];                                                                                            \
    }
COMBINE(largest, _mm512_max_ps)
COMBINE(totals, _mm512_add_ps)

/* Numerators of the softmax of GROUP queries, relative to their largest scores so far; `factors` are those of earlier ones.
 *
 * A score is a product times the scale and log2(e), plus the bias; scores replace the products. */
ALWAYS void numerators(Scratch *s, int row, Vector scale, float *most, float *sum, float *factors) {
    Vector high[16], total[16];
    for (int r = 0; r < 16; r++) high[r] = total[r] = _mm512_setzero_ps();
#pragma GCC unroll 16
    for (int r = 0; r < GROUP; r++) {
        float *scores = s->scores[row + r];
        Vector x = _mm512_set1_ps(HIDDEN);
#pragma GCC unroll 8
        for (int j = 0; j < KEYS; j += 16) {
            const Vector score = _mm512_fmadd_ps(_mm512_loadu_ps(scores + j), scale, _mm512_loadu_ps(s->bias + j));
            _mm512_storeu_ps(scores + j, score);
            x = _mm512_max_ps(x, score);
        }
        high[REVERSED(r)] = x;
    }
    const Vector before = _mm512_loadu_ps(most), now = _mm512_max_ps(largest(high), before);
    const Vector factor = power_of_two(_mm512_sub_ps(before, now));
    _mm512_mask_storeu_ps(most, VALID, now), _mm512_mask_storeu_ps(factors, VALID, factor);
#pragma GCC unroll 16
    for (int r = 0; r < GROUP; r++) {
        const float *scores = s->scores[row + r];
        const Vector base = _mm512_set1_ps(most[r]);
        Vector x = _mm512_setzero_ps();
#pragma GCC unroll 4
        for (int j = 0; j < KEYS; j += 32) {
            const Vector left = power_of_two(_mm512_sub_ps(_mm512_loadu_ps(scores + j), base));
            const Vector right = power_of_two(_mm512_sub_ps(_mm512_loadu_ps(scores + j + 16), base));
            x = _mm512_add_ps(x, _mm512_add_ps(left, right));
            _mm512_storeu_si512(s->p[row + r] + j / 2, (__m512i)_mm512_cvtne2ps_pbh(right, left));
        }
        total[REVERSED(r)] = x;
    }
    _mm512_mask_storeu_ps(sum, VALID, _mm512_fmadd_ps(_mm512_loadu_ps(sum), factor, totals(total)));
}

/* Let the running maxima and sums begin with each query's own score and value. */
static void start_with_own(const Attention *a, int batch, int head, int begin, int end, Scratch *s) {
    const float *own = a->own + ((int64_t)batch * a->heads + head) * a->queries;
    const uint16_t *value = a->own_value + batch * a->own_value_step[0] + head * a->own_value_step[1];
    for (int i = begin; i < end; i++) {
        if (own[i] == -INFINITY) continue;
        s->most[i - begin] = own[i] * 1.44269504f, s->sum[i - begin] = 1.0f;
        for (int c = 0; c < CHANNELS; c += 16)
            _mm512_storeu_ps(s->out[i - begin] + c, widened(value + i * a->own_value_step[2] + c));
    }
}

/* Attention of the queries [begin, end) of one head. */
static void attend_part(const Attention *a, int batch, int head, int begin, int end, Scratch *s) {
    const uint16_t *q = a->q + batch * a->q_step[0] + head * a->q_step[1];
    const uint16_t *k = a->k + batch * a->k_step[0] + head * a->k_step[1];
    const uint16_t *v = a->v + batch * a->v_step[0] + head * a->v_step[1];
    uint16_t *out = a->out + batch * a->out_step[0] + head * a->out_step[1];
    const Vector scale = _mm512_set1_ps(a->scale * 1.44269504f);
    memset(s->out, 0, sizeof s->out), memset(s->sum, 0, sizeof s->sum), memset(s->q, 0, sizeof s->q);
    for (int i = 0; i < PART + 16; i++) s->most[i] = HIDDEN;
    if (a->own) start_with_own(a, batch, head, begin, end, s);
    for (int first = 0; first < a->keys; first += KEYS) {
        pack(a, k, v, first, a->keys - first < KEYS ? a->keys - first : KEYS, s);
        for (int at = 0; at < end - begin; at += ROWS) {
            float factors[ROWS];
            for (int r = 0; r < ROWS && begin + at + r < end; r++)
                memcpy(s->q[r], q + (begin + at + r) * a->q_step[2], sizeof s->q[r]);
            score(s);
            for (int r = 0; r < ROWS; r += GROUP) numerators(s, r, scale, s->most + at + r, s->sum + at + r, factors + r);
            for (int r = 0; r < ROWS; r += HALF_ROWS) accumulate(s, s->p + r, s->out + at + r, factors + r);
        }
    }
    for (int i = 0; i < end - begin; i++)
        for (int c = 0; c < CHANNELS; c += 16) {
            const Vector result = _mm512_div_ps(_mm512_loadu_ps(s->out[i] + c), _mm512_set1_ps(s->sum[i]));
            _mm256_storeu_si256((__m256i *)(out + (begin + i) * a->out_step[2] + c), in_bfloat16(result));
        }
}

/* Take tasks of an attention until none is left. */
void qvggt_attend_bfloat16(Attention *a) {
    int parts = (a->queries + PART - 1) / PART;
    const int heads = a->batch * a->heads;
    while (heads * parts < 4 * a->job.threads && a->queries / parts > 4 * ROWS) parts++;
    const int part = ((a->queries + parts - 1) / parts + ROWS - 1) / ROWS * ROWS;
    Scratch *s = aligned_alloc(64, (sizeof(Scratch) + 63) / 64 * 64);
    if (!s) atomic_store(&a->job.failed, 1);
    begin_tiles();
    for (int task; s && (task = take(&a->job, (int64_t)heads * parts)) >= 0;) {
        const int head = task / parts, begin = task % parts * part;
        const int end = begin + part < a->queries ? begin + part : a->queries;
        if (begin < end) attend_part(a, head / a->heads, head % a->heads, begin, end, s);
    }
    end_tiles();
    free(s);
}

typedef struct {
    Job job;
    const uint16_t *x;          /* [batch][heads][length][CHANNELS] */
    const float *weight, *bias; /* [CHANNELS] each, of the norm, or NULL */
    const float *cos, *sin;     /* [length][CHANNELS] */
    uint16_t *out;              /* [batch][heads][length][CHANNELS] */
    int64_t x_step[3];
    int32_t batch, heads, length;
    float eps;
} Rotation;

ALWAYS void normalize(Vector x[QUARTERS], const Rotation *t) {
    const Vector sum = _mm512_add_ps(_mm512_add_ps(x[0], x[1]), _mm512_add_ps(x[2], x[3]));
    const Vector mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / CHANNELS);
    Vector squares = _mm512_setzero_ps();
    for (int i = 0; i < QUARTERS; i++) {
        x[i] = _mm512_sub_ps(x[i], mean);
        squares = _mm512_fmadd_ps(x[i], x[i], squares);
    }
    const Vector factor = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / CHANNELS + t->eps));
    for (int i = 0; i < QUARTERS; i++)
        x[i] = _mm512_fmadd_ps(_mm512_mul_ps(x[i], factor), _mm512_loadu_ps(t->weight + 16 * i),
                               _mm512_loadu_ps(t->bias + 16 * i));
}

/* Normalize queries or keys and rotate them by the angles of their tokens, row by row of a batch. */
void qvggt_rotate_bfloat16(Rotation *t) {
    for (int task; (task = take(&t->job, (int64_t)t->batch * t->heads)) >= 0;) {
        const uint16_t *from = t->x + task / t->heads * t->x_step[0] + task % t->heads * t->x_step[1];
        uint16_t *to = t->out + (int64_t)task * t->length * CHANNELS;
        for (int64_t n = 0; n < t->length; n++, to += CHANNELS) {
            const float *cos = t->cos + n * CHANNELS, *sin = t->sin + n * CHANNELS;
            Vector x[QUARTERS];
            for (int i = 0; i < QUARTERS; i++) x[i] = widened(from + n * t->x_step[2] + 16 * i);
            if (t->weight) normalize(x, t);
            for (int i = 0; i < QUARTERS; i += 2) { /* rotated by the row, then by the column */
                const Vector first = _mm512_mul_ps(x[i], _mm512_loadu_ps(cos + 16 * i));
                const Vector second = _mm512_mul_ps(x[i + 1], _mm512_loadu_ps(cos + 16 * i + 16));
                const Vector left = _mm512_fnmadd_ps(x[i + 1], _mm512_loadu_ps(sin + 16 * i), first);
                const Vector right = _mm512_fmadd_ps(x[i], _mm512_loadu_ps(sin + 16 * i + 16), second);
                _mm256_storeu_si256((__m256i *)(to + 16 * i), in_bfloat16(left));
                _mm256_storeu_si256((__m256i *)(to + 16 * i + 16), in_bfloat16(right));
            }
        }
    }
}

#endif
