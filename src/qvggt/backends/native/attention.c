/* Attention on 16-bit integers, softmax(scale q k^T + bias) v, with online softmax: the scores are never stored.
 *
 * Queries and keys are quantized per token, values per channel within a block of keys. The exponentials of a block are
 * quantized relative to the block's own largest score, so that blocks with small scores keep their precision. The numbers
 * of levels keep all sums below 2^31.
 */
#include "job.h"
#include "pairs.h"

#define KEYS 128          /* keys per block */
#define PART 768         /* most queries per task */
#define GROUP 4          /* tiles of ROWS queries whose exponentials are computed together */
#define CHANNELS 128     /* most channels per head */
#define QK_LEVELS 4095   /* CHANNELS * 4095^2 < 2^31 */
#define P_BITS 14
#define V_LEVELS 1023    /* KEYS * 2^14 * 1023 < 2^31 */
#define LOWEST -1e30f
#define LOG2_E 1.44269504f

typedef struct {
    Job job;
    const void *q, *k, *v;  /* float32, or float16 if `halves`; channels contiguous */
    const float *bias;      /* [keys] added to the scores, or NULL */
    float *out;
    const float *own;       /* [batch][heads][queries] one more score of each query, or NULL */
    const void *own_value;  /* its value, as q */
    int64_t q_step[3], k_step[3], v_step[3], out_step[3], own_value_step[3]; /* of batch, head, token, in values */
    int32_t batch, heads, queries, keys, channels, halves;
    float scale;
} Attention;

typedef struct {
    int16_t *q;            /* [PART + ROWS][channels] */
    float *q_scale;        /* [PART + ROWS], times the softmax scale and log2(e) */
    float *sum;            /* [PART + ROWS][channels] running sums of exponentials times values */
    float *most, *total;   /* [PART + ROWS] running maximum of scores and sum of exponentials */
    int16_t *k;            /* [channels / 2][KEYS][2] */
    int16_t *v;            /* [KEYS / 2][channels][2] */
    float k_scale[KEYS], k_bias[KEYS], v_scale[CHANNELS];
    float wrong;           /* NaN if any key so far is not finite, else 0 */
} Scratch;

typedef struct { /* ROWS queries against one block of keys */
    int16_t p[ROWS][KEYS] __attribute__((aligned(32)));
    float before[LANES] __attribute__((aligned(32)));  /* factor of the running sums */
    float within[LANES] __attribute__((aligned(32)));  /* factor of this block's sums */
} Tile;

/* 2^x for x < 100, relative error 6e-6; x is clamped to at least -100. */
ALWAYS __m256 power_of_two(__m256 x) {
    const __m256 magic = _mm256_set1_ps(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    x = _mm256_max_ps(x, _mm256_set1_ps(-100.0f));
    const __m256 whole = _mm256_add_ps(x, magic), part = _mm256_sub_ps(x, _mm256_sub_ps(whole, magic));
    __m256 y = _mm256_set1_ps(9.48064e-3f);
    y = _mm256_fmadd_ps(y, part, _mm256_set1_ps(5.583448e-2f));
    y = _mm256_fmadd_ps(y, part, _mm256_set1_ps(2.4025959e-1f));
    y = _mm256_fmadd_ps(y, part, _mm256_set1_ps(6.9313591e-1f));
    y = _mm256_fmadd_ps(y, part, _mm256_set1_ps(1.0f));
    const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(whole), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(y), exponent));
}

/* Load LANES values from index `at`. */
ALWAYS __m256 load(const Attention *a, const void *x, int64_t at) {
    if (!a->halves) return _mm256_loadu_ps((const float *)x + at);
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)x + at)));
}

ALWAYS __m256i scaled_to_int(const Attention *a, const void *x, int64_t at, __m256 factor) {
    return _mm256_cvtps_epi32(_mm256_mul_ps(load(a, x, at), factor));
}

/* Quantize the channels of the token at index `at`; returns its scale, or NaN if a channel is not finite. */
static float round_token(const Attention *a, const void *x, int64_t at, int16_t *to) {
    __m256 most = _mm256_set1_ps(1e-30f), wrong = _mm256_setzero_ps();
    for (int c = 0; c < a->channels; c += LANES) {
        const __m256 value = load(a, x, at + c);
        most = _mm256_max_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), value), most);
        wrong = _mm256_or_ps(wrong, _mm256_sub_ps(value, value)); /* 0 only if finite */
    }
    if (!_mm256_testz_si256(_mm256_castps_si256(wrong), _mm256_castps_si256(wrong))) {
        memset(to, 0, sizeof(int16_t) * (size_t)a->channels);
        return NAN;
    }
    const float scale = largest_lane(most) / QK_LEVELS;
    const __m256 factor = _mm256_set1_ps(1.0f / scale);
    for (int c = 0; c < a->channels; c += WIDE) {
        const __m256i first = scaled_to_int(a, x, at + c, factor);
        _mm256_storeu_si256((__m256i *)(to + c), in_16_bits(first, scaled_to_int(a, x, at + c + LANES, factor)));
    }
    return scale;
}

static void pack_keys(const Attention *a, Scratch *s, int64_t k, int first, int count) {
    int16_t token[CHANNELS];
    for (int key = 0; key < KEYS; key++) {
        const int there = key < count;
        if (!there) memset(token, 0, sizeof token);
        s->k_scale[key] = there ? round_token(a, a->k, k + (first + key) * a->k_step[2], token) : 0.0f;
        s->wrong += 0.0f * s->k_scale[key];
        s->k_bias[key] = there ? (a->bias ? a->bias[first + key] * LOG2_E : 0.0f) : -INFINITY;
        for (int c = 0; c < a->channels; c += 2) memcpy(s->k + (c / 2 * KEYS + key) * 2, token + c, 4);
    }
}

static void pack_values(const Attention *a, Scratch *s, int64_t v, int first, int count) {
    const int64_t step = a->v_step[2];
    for (int c = 0; c < a->channels; c += LANES) {
        const int64_t from = v + first * step + c;
        __m256 most = _mm256_set1_ps(1e-30f), wrong = _mm256_setzero_ps();
        for (int key = 0; key < count; key++) {
            const __m256 value = load(a, a->v, from + key * step);
            most = _mm256_max_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), value), most);
            wrong = _mm256_add_ps(wrong, _mm256_sub_ps(value, value)); /* NaN if one is not finite */
        }
        const __m256 scale = _mm256_mul_ps(most, _mm256_set1_ps(1.0f / V_LEVELS));
        const __m256 factor = _mm256_div_ps(_mm256_set1_ps(1.0f), scale);
        _mm256_storeu_ps(s->v_scale + c, _mm256_add_ps(scale, wrong));
        for (int key = 0; key < KEYS; key += 2) {
            __m256i pair[2];
            for (int i = 0; i < 2; i++)
                pair[i] = key + i < count ? scaled_to_int(a, a->v, from + (key + i) * step, factor)
                                          : _mm256_setzero_si256();
            const __m256i both = _mm256_blend_epi16(pair[0], _mm256_slli_epi32(pair[1], 16), 0xAA);
            _mm256_store_si256((__m256i *)(s->v + ((int64_t)key / 2 * a->channels + c) * 2), both);
        }
    }
}

/* Exponentials of ROWS queries, from `row` on, for a block of `vectors` vectors of keys. */
ALWAYS void weigh(Scratch *s, int row, int channels, int vectors, Tile *t) {
    float scores[ROWS][KEYS] __attribute__((aligned(32))), totals[ROWS];
    __m256i sums[ROWS][2];
    for (int v = 0; v < vectors; v += 2) {
        multiply_pairs(s->q + (int64_t)row * channels, channels, s->k + v * WIDE, 2 * KEYS, channels / 2, sums);
        for (int i = 0; i < 2; i++) {
            const __m256 scale = _mm256_loadu_ps(s->k_scale + (v + i) * LANES);
            const __m256 bias = _mm256_loadu_ps(s->k_bias + (v + i) * LANES);
            for (int r = 0; r < ROWS; r++) {
                const __m256 score = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[r][i]), _mm256_set1_ps(s->q_scale[row + r]));
                _mm256_store_ps(scores[r] + (v + i) * LANES, _mm256_fmadd_ps(score, scale, bias));
            }
        }
    }
    for (int r = 0; r < ROWS; r++) {
        __m256 largest = _mm256_set1_ps(LOWEST);
        for (int v = 0; v < vectors; v++) largest = _mm256_max_ps(_mm256_load_ps(scores[r] + v * LANES), largest);
        const float block = largest_lane(largest), before = s->most[row + r], now = block > before ? block : before;
        t->before[r] = before - now, t->within[r] = block - now;
        s->most[row + r] = now;
        const __m256 shift = _mm256_set1_ps(block - P_BITS);
        __m256i total = _mm256_setzero_si256();
        for (int v = 0; v < vectors; v += 2) {
            const __m256 left = _mm256_load_ps(scores[r] + v * LANES), right = _mm256_load_ps(scores[r] + (v + 1) * LANES);
            const __m256i both = in_16_bits(_mm256_cvtps_epi32(power_of_two(_mm256_sub_ps(left, shift))),
                                            _mm256_cvtps_epi32(power_of_two(_mm256_sub_ps(right, shift))));
            total = _mm256_add_epi32(total, _mm256_madd_epi16(both, _mm256_set1_epi16(1)));
            _mm256_store_si256((__m256i *)(t->p[r] + v * LANES), both);
        }
        totals[r] = (float)sum_of_lanes(total);
    }
    _mm256_store_ps(t->before, power_of_two(_mm256_load_ps(t->before)));
    _mm256_store_ps(t->within, power_of_two(_mm256_load_ps(t->within)));
    for (int r = 0; r < ROWS; r++)
        s->total[row + r] = s->total[row + r] * t->before[r] + totals[r] * t->within[r];
}

/* Add exponentials times values of a block to the running sums of ROWS queries. */
ALWAYS void add_values(Scratch *s, int row, int channels, int vectors, const Tile *t) {
    __m256i sums[ROWS][2];
    for (int c = 0; c < channels; c += WIDE) {
        multiply_pairs(t->p[0], KEYS, s->v + c * 2, 2 * channels, vectors * LANES / 2, sums);
        for (int r = 0; r < ROWS; r++)
            for (int i = 0; i < 2; i++) {
                float *to = s->sum + (int64_t)(row + r) * channels + c + i * LANES;
                const __m256 scale = _mm256_loadu_ps(s->v_scale + c + i * LANES);
                const __m256 kept = _mm256_mul_ps(_mm256_loadu_ps(to), _mm256_set1_ps(t->before[r]));
                const __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[r][i]), scale);
                _mm256_storeu_ps(to, _mm256_fmadd_ps(value, _mm256_set1_ps(t->within[r]), kept));
            }
    }
}

/* Process all queries of a task against one block of keys. The exponentials of GROUP tiles come first, then their values:
 * alternating within one tile would stall on values just stored. */
ALWAYS void attend(Scratch *s, int rows, int channels, int vectors) {
    Tile tiles[GROUP];
    for (int i = 0; i < GROUP; i++) memset(tiles[i].before, 0, 2 * sizeof tiles[i].before);
    for (int first = 0; first < rows; first += GROUP * ROWS) {
        const int last = first + GROUP * ROWS < rows ? first + GROUP * ROWS : rows;
        for (int row = first; row < last; row += ROWS) weigh(s, row, channels, vectors, tiles + (row - first) / ROWS);
        for (int row = first; row < last; row += ROWS) add_values(s, row, channels, vectors, tiles + (row - first) / ROWS);
    }
}

/* Let the running maxima and sums begin with each query's own score and value. */
static void start_with_own(const Attention *a, Scratch *s, int batch, int head, int begin, int rows) {
    const float *own = a->own + ((int64_t)batch * a->heads + head) * a->queries + begin;
    const int64_t value = batch * a->own_value_step[0] + head * a->own_value_step[1] + begin * a->own_value_step[2];
    for (int r = 0; r < rows; r++) {
        if (own[r] == -INFINITY) continue;
        s->most[r] = own[r] * LOG2_E, s->total[r] = 1 << P_BITS;
        for (int c = 0; c < a->channels; c += LANES)
            _mm256_storeu_ps(s->sum + r * a->channels + c,
                             _mm256_mul_ps(load(a, a->own_value, value + r * a->own_value_step[2] + c),
                                           _mm256_set1_ps(1 << P_BITS)));
    }
}

static void do_task(const Attention *a, Scratch *s, int batch, int head, int begin, int end) {
    const int64_t q = batch * a->q_step[0] + head * a->q_step[1] + begin * a->q_step[2];
    const int64_t k = batch * a->k_step[0] + head * a->k_step[1], v = batch * a->v_step[0] + head * a->v_step[1];
    float *out = a->out + batch * a->out_step[0] + head * a->out_step[1] + begin * a->out_step[2];
    const int rows = end - begin, channels = a->channels;
    for (int r = 0; r < rows + ROWS; r++) {
        const int there = r < rows;
        if (!there) memset(s->q + r * channels, 0, sizeof(int16_t) * (size_t)channels);
        s->q_scale[r] = there ? round_token(a, a->q, q + r * a->q_step[2], s->q + r * channels) * a->scale * LOG2_E : 0.0f;
        s->most[r] = LOWEST, s->total[r] = 0.0f;
        memset(s->sum + r * channels, 0, sizeof(float) * (size_t)channels);
    }
    if (a->own) start_with_own(a, s, batch, head, begin, rows);
    s->wrong = 0.0f;
    for (int first = 0; first < a->keys; first += KEYS) {
        const int count = a->keys - first < KEYS ? a->keys - first : KEYS;
        pack_keys(a, s, k, first, count);
        pack_values(a, s, v, first, count);
        const int vectors = (count + WIDE - 1) / WIDE * 2;
        if (channels == 64 && count == KEYS) attend(s, rows, 64, KEYS / LANES); /* loops of constant length */
        else attend(s, rows, channels, vectors);
    }
    for (int r = 0; r < rows; r++) {
        const float factor = 1.0f / s->total[r] + 0.0f * s->q_scale[r] + s->wrong; /* NaN if not finite */
        for (int c = 0; c < channels; c++) out[r * a->out_step[2] + c] = s->sum[r * channels + c] * factor;
    }
}

/* Take tasks of an attention until none is left. */
void qvggt_attend(Attention *a) {
    const int batch_heads = a->batch * a->heads;
    int parts = (a->queries + PART - 1) / PART;
    while (batch_heads * parts < 4 * a->job.threads && a->queries / parts > 4 * KEYS) parts++;
    const int rows = (a->queries + parts - 1) / parts;
    const size_t most = (size_t)(rows + ROWS), wide = (size_t)a->channels;
    Scratch s = {malloc(most * wide * sizeof(int16_t)), malloc(most * sizeof(float)), malloc(most * wide * sizeof(float)),
                 malloc(most * sizeof(float)), malloc(most * sizeof(float)),
                 aligned_alloc(64, KEYS * wide * sizeof(int16_t)), aligned_alloc(64, KEYS * wide * sizeof(int16_t))};
    const int failed = !s.q || !s.q_scale || !s.sum || !s.most || !s.total || !s.k || !s.v;
    if (failed) atomic_store(&a->job.failed, 1);
    for (int task; !failed && (task = take(&a->job, (int64_t)batch_heads * parts)) >= 0;) {
        const int begin = task % parts * rows, end = begin + rows < a->queries ? begin + rows : a->queries;
        if (begin < end) do_task(a, &s, task / parts / a->heads, task / parts % a->heads, begin, end);
    }
    free(s.q), free(s.q_scale), free(s.sum), free(s.most), free(s.total), free(s.k), free(s.v);
}
