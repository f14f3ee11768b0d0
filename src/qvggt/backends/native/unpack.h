/* Unpacking of codes from a stream of `bits`-bit fields. */
#ifndef QVGGT_UNPACK_H
#define QVGGT_UNPACK_H
#include "vectors.h"

/* Unpack `count` codes of a row from index `first`; `available` bytes may be read. */
static void unpack(const uint8_t *row, int64_t available, int bits, int64_t first, int count, int8_t *levels) {
    const int offset = 1 << (bits - 1), mask = (1 << bits) - 1;
    int i = 0;
    if (bits == 4 && first % 2 == 0) {
        const uint8_t *bytes = row + first / 2;
#ifdef __AVX2__
        const __m128i low = _mm_set1_epi8(15), middle = _mm_set1_epi8(8);
        for (; i + 32 <= count; i += 32) {
            __m128i pair = _mm_loadu_si128((const __m128i *)(bytes + i / 2));
            __m128i even = _mm_and_si128(pair, low), odd = _mm_and_si128(_mm_srli_epi16(pair, 4), low);
            _mm_storeu_si128((__m128i *)(levels + i), _mm_sub_epi8(_mm_unpacklo_epi8(even, odd), middle));
            _mm_storeu_si128((__m128i *)(levels + i + 16), _mm_sub_epi8(_mm_unpackhi_epi8(even, odd), middle));
        }
#else
        for (; i + 2 <= count; i += 2)
            levels[i] = (int8_t)((bytes[i / 2] & 15) - 8), levels[i + 1] = (int8_t)((bytes[i / 2] >> 4) - 8);
#endif
    }
    for (; i + 8 <= count && (first + i) % 8 == 0 && (first + i) / 8 * bits + 8 <= available; i += 8) {
        uint64_t eight; /* eight codes fill `bits` bytes */
        memcpy(&eight, row + (first + i) / 8 * bits, 8);
#ifdef __BMI2__
        eight = _pdep_u64(eight, (uint64_t)mask * 0x0101010101010101u);
        if (bits < 8) eight = (eight | 0x8080808080808080u) - (uint64_t)offset * 0x0101010101010101u; /* no borrows */
        eight ^= 0x8080808080808080u;
        memcpy(levels + i, &eight, 8);
#else
        for (int j = 0; j < 8; j++) levels[i + j] = (int8_t)((int)(eight >> (bits * j) & (uint64_t)mask) - offset);
#endif
    }
    for (; i < count; i++) {
        int64_t bit = (first + i) * bits, byte = bit / 8;
        uint32_t word = row[byte];
        if (byte + 1 < available) word |= (uint32_t)row[byte + 1] << 8;
        levels[i] = (int8_t)((int)((word >> (bit % 8)) & mask) - offset);
    }
}

#endif
