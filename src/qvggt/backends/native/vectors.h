/* What all of the compiled code says about vectors. */
#ifndef QVGGT_VECTORS_H
#define QVGGT_VECTORS_H
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 8 /* numbers of 32 bits in a vector */

#define ALWAYS static inline __attribute__((always_inline))
#define KEEP(x) __asm__("" : "+x"(x)) /* in a register, here: the compiler would move sums apart and spill them */

#endif
