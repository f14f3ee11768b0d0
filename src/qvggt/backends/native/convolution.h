/* Arguments of convolutions, direct and Winograd. */
#ifndef QVGGT_CONVOLUTION_H
#define QVGGT_CONVOLUTION_H
#include "job.h"
#include "pairs.h"

typedef struct {
    Job job;
    const void *x;         /* [batch][height][width][channels], zero-padded, with ROWS readable pixels after the end */
    const void *w;         /* 16 bits [panels][taps or POSITIONS][channels / 2][WIDE][2], or floats
                              [panels][POSITIONS][channels][WIDE] */
    const float *scale;    /* of the kernels: [panels][WIDE], Winograd [panels][POSITIONS][WIDE], NULL for floats */
    const float *x_scale;  /* [batch], or NULL for floats */
    const float *bias;     /* [panels][WIDE] */
    float *out;            /* [batch][out_height][out_width][outputs] */
    int32_t batch, height, width, channels, outputs, out_height, out_width, kernel_height, kernel_width, down, across;
} Convolution;

typedef struct {
    Job job;
    const float *x;      /* [outputs][channels][taps] */
    void *to;            /* Convolution.w */
    float *scale;        /* Convolution.scale, or NULL for floats */
    int32_t outputs, channels, taps;
    float levels;        /* largest code; Winograd: largest sum of absolute codes over CHUNK channels */
} RoundedKernels;

#endif
