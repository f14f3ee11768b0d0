/* Matrix products of bfloat16 in tiles (AMX): 16 rows of 64 bytes, which are 16 floats or 32 numbers of 16 bits.
 *
 * TILE_MULTIPLY(c, a, b) adds to tile c, 16 rows and 16 columns of floats, the product of 16 rows of 32 numbers (a) and of
 * 16 rows of 16 pairs (b): pair k of column n is what multiplies numbers 2 k and 2 k + 1 of a row. A thread's tiles are
 * usable from `begin_tiles` to `end_tiles`, if the system allows them to the process (processors.py asks). */
#ifndef QVGGT_TILES_H
#define QVGGT_TILES_H
#include "vectors.h"

#if defined(EMULATE_TILES) /* the same with AVX-512 BF16, for tests */
#define TILES 1

static __thread float tiles[8][16][16];

static inline void begin_tiles(void) {}
static inline void end_tiles(void) {}

static inline void copy_tile(void *to, int64_t to_step, const void *from, int64_t from_step) {
    for (int r = 0; r < 16; r++) memcpy((char *)to + r * to_step, (const char *)from + r * from_step, 64);
}

static inline void multiply_tile(float (*c)[16], const void *a, const void *b) {
    for (int r = 0; r < 16; r++)
        for (int k = 0; k < 16; k++) {
            const __m512i pair = _mm512_set1_epi32(((const int32_t *)a)[16 * r + k]);
            const __m512i pairs = _mm512_loadu_si512((const int32_t *)b + 16 * k);
            _mm512_storeu_ps(c[r], _mm512_dpbf16_ps(_mm512_loadu_ps(c[r]), (__m512bh)pair, (__m512bh)pairs));
        }
}

#define TILE_ZERO(t) memset(tiles[t], 0, sizeof tiles[t])
#define TILE_LOAD(t, from, step) copy_tile(tiles[t], 64, from, step)
#define TILE_STORE(t, to, step) copy_tile(to, step, tiles[t], 64)
#define TILE_MULTIPLY(c, a, b) multiply_tile(tiles[c], tiles[a], tiles[b])

#elif defined(__AMX_BF16__)
#define TILES 1

static inline void begin_tiles(void) {
    struct { uint8_t palette, first, reserved[14]; uint16_t row_bytes[16]; uint8_t rows[16]; } shapes = {.palette = 1};
    for (int i = 0; i < 8; i++) shapes.row_bytes[i] = 64, shapes.rows[i] = 16;
    _tile_loadconfig(&shapes);
}
static inline void end_tiles(void) { _tile_release(); }

#define TILE_ZERO(t) _tile_zero(t)
#define TILE_LOAD(t, from, step) _tile_loadd(t, from, step)
#define TILE_STORE(t, to, step) _tile_stored(t, to, step)
#define TILE_MULTIPLY(c, a, b) _tile_dpbf16ps(c, a, b)

#else
static inline void begin_tiles(void) {}
static inline void end_tiles(void) {}
#endif

#endif
