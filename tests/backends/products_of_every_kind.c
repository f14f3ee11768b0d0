/* Prints the bits of products, roundings and expansions of every kind, to be compared between processors.
 *
 * All that is no number is printed alike: processors differ in which of many such they make. */
#include "products.c"
#include "few.c"
#include "expand.c"
#include "rounding.c"

#include <stdio.h>

#define TOKENS 21
#define OUTPUTS 35
#define WIDTH 264 /* not of whole vectors of 32 */

static uint32_t state = 1;

static uint32_t any(void) { /* xorshift */
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;
    return state;
}

static float number(void) { return (float)(int32_t)any() / 2147483648.0f; }

static void show(const float *x, int count) {
    for (int i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, 4);
        if (x[i] != x[i]) printf("none ");
        else printf("%08x ", bits);
    }
    printf("\n");
}

/* Rows as nobody wishes for: zeros, one that is not finite, very small, very large. */
static void spoil(float *x) {
    for (int k = 0; k < WIDTH; k++) x[k] = 0.0f, x[3 * WIDTH + k] *= 1e-40f, x[4 * WIDTH + k] *= 3e38f;
    x[WIDTH + 7] = NAN, x[2 * WIDTH + 263] = -INFINITY;
}

static void multiply(int bits, int groups, int zeros) {
    static uint8_t packed[OUTPUTS * WIDTH], codes[TOKENS * WIDTH];
    static float x[TOKENS * WIDTH], scale[OUTPUTS * WIDTH], bias[OUTPUTS], out[TOKENS * OUTPUTS], a_scale[TOKENS];
    static float expanded[OUTPUTS * WIDTH];
    static int8_t zero[OUTPUTS * WIDTH];
    for (int i = 0; i < OUTPUTS * WIDTH; i++) packed[i] = (uint8_t)any(), scale[i] = number();
    for (int i = 0; i < OUTPUTS * WIDTH; i++) zero[i] = (int8_t)((int)(any() % (1u << bits)) - (1 << (bits - 1)));
    for (int i = 0; i < TOKENS * WIDTH; i++) x[i] = number();
    spoil(x);
    for (int i = 0; i < OUTPUTS; i++) bias[i] = number();
    Rounding rounding = {.x = x, .codes = codes, .scale = a_scale, .rows = TOKENS, .channels = WIDTH};
    qvggt_round(&rounding);
    for (int i = 0; i < TOKENS * WIDTH; i++) printf("%02x", codes[i]);
    show(a_scale, TOKENS);
    Product p = {.codes = codes, .a_scale = a_scale, .packed = packed, .w_scale = scale, .w_zero = zeros ? zero : NULL,
                 .bias = bias, .out = out, .row_bytes = WIDTH * bits / 8, .rows = TOKENS, .channels = WIDTH,
                 .outputs = OUTPUTS, .groups = groups, .bits = bits};
    p.job.threads = 1;
    qvggt_multiply(&p);
    show(out, TOKENS * OUTPUTS);
    FewRows f = {.x = x, .packed = packed, .scale = scale, .zero = zeros ? zero : NULL, .bias = bias, .out = out,
                 .row_bytes = WIDTH * bits / 8, .rows = TOKENS, .channels = WIDTH, .outputs = OUTPUTS, .groups = groups,
                 .bits = bits};
    qvggt_multiply_few(&f);
    show(out, TOKENS * OUTPUTS);
    Expansion e = {.packed = packed, .scale = scale, .zero = zeros ? zero : NULL, .out = expanded,
                   .row_bytes = WIDTH * bits / 8, .rows = OUTPUTS, .width = WIDTH, .groups = groups, .bits = bits};
    qvggt_expand(&e);
    show(expanded, OUTPUTS * WIDTH);
}

int main(void) {
    for (int bits = 2; bits <= 8; bits++)
        for (int zeros = 0; zeros < 2; zeros++)
            multiply(bits, 1, zeros), multiply(bits, 3, zeros), multiply(bits, 33, zeros), multiply(bits, 66, zeros);
    return 0;
}
