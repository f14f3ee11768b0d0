/* Prints the bits of products, roundings and expansions of every kind, to be compared between processors. */
#include "products.c"
#include "rounding.c"

#include <stdio.h>

#define TOKENS 21
#define OUTPUTS 35
#define WIDTH 256

static uint32_t state = 1;

static uint32_t any(void) { /* xorshift */
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;
    return state;
}

static float number(void) { return (float)(int32_t)any() / 2147483648.0f; }

static void show(const void *what, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) printf("%02x", ((const uint8_t *)what)[i]);
    printf("\n");
}

static void multiply(int bits, int groups, int zeros) {
    static uint8_t packed[OUTPUTS * WIDTH], codes[TOKENS * WIDTH];
    static float x[TOKENS * WIDTH], scale[OUTPUTS * WIDTH], bias[OUTPUTS], out[TOKENS * OUTPUTS], a_scale[TOKENS];
    static float expanded[OUTPUTS * WIDTH];
    static int8_t zero[OUTPUTS * WIDTH];
    for (int i = 0; i < OUTPUTS * WIDTH; i++) packed[i] = (uint8_t)any(), scale[i] = number();
    for (int i = 0; i < OUTPUTS * WIDTH; i++) zero[i] = (int8_t)((int)(any() % (1u << bits)) - (1 << (bits - 1)));
    for (int i = 0; i < TOKENS * WIDTH; i++) x[i] = number();
    for (int i = 0; i < OUTPUTS; i++) bias[i] = number();
    Rounding rounding = {.x = x, .codes = codes, .scale = a_scale, .rows = TOKENS, .channels = WIDTH};
    qvggt_round(&rounding);
    show(codes, sizeof codes), show(a_scale, sizeof a_scale);
    for (int floats = 0; floats < 2; floats++) {
        Product p = {.x = floats ? x : NULL, .codes = codes, .a_scale = a_scale, .packed = packed, .w_scale = scale,
                     .w_zero = zeros ? zero : NULL, .bias = bias, .out = out, .row_bytes = WIDTH * bits / 8,
                     .rows = TOKENS, .channels = WIDTH, .outputs = OUTPUTS, .groups = groups, .bits = bits};
        p.job.threads = 1;
        qvggt_multiply(&p);
        show(out, sizeof out);
    }
    Expansion e = {.packed = packed, .scale = scale, .zero = zeros ? zero : NULL, .out = expanded,
                   .row_bytes = WIDTH * bits / 8, .rows = OUTPUTS, .width = WIDTH, .groups = groups, .bits = bits};
    qvggt_expand(&e);
    show(expanded, sizeof expanded);
}

int main(void) {
    for (int bits = 2; bits <= 8; bits++)
        for (int groups = 1; groups <= 32; groups *= 8)
            for (int zeros = 0; zeros < 2; zeros++) multiply(bits, groups, zeros);
    return 0;
}
