/* What convolutions are told, whichever way they are computed. */
#ifndef QVGGT_CONVOLUTION_H
#define QVGGT_CONVOLUTION_H
#include "job.h"
#include "pairs.h"

typedef struct {
    Job job;
    const void *x;         /* [batch][height][width][channels], zeros around it, and ROWS pixels after it to be read */
    const void *w;         /* of 16 bits [panels][places][channels / 2][WIDE][2]: taps, or positions of transformed
                              kernels; floats [panels][POSITIONS][channels][WIDE] */
    const float *scale;    /* [panels][WIDE] of the kernels; of transformed ones [panels][POSITIONS][WIDE] */
    const float *x_scale;  /* [batch]; of floats there are no scales */
    const float *bias;     /* [panels][WIDE] */
    float *out;            /* [batch][out_height][out_width][outputs] */
    int32_t batch, height, width, channels, outputs, out_height, out_width, kernel_height, kernel_width, down, across;
} Convolution;

typedef struct {
    Job job;
    const float *x;      /* [outputs][channels][taps] */
    void *to;            /* as a convolution takes them */
    float *scale;        /* likewise */
    int32_t outputs, channels, taps;
    float levels;        /* the largest integer; of transformed kernels the largest sum over CHUNK channels, signs apart */
} RoundedKernels;

#endif
