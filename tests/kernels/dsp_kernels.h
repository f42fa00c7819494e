/* The micro-kernels of DSP as functions, named KERNEL(kernel): once as the CPU runs them, once in their plain C. */
#include "embbert_dsp.h"

#ifndef DSP_KERNELS_H
#define DSP_KERNELS_H
typedef struct {
    int32_t sums[2048];
    int16_t halves[2048];
    int8_t bytes[8192];
} outputs_t;

typedef struct {
    int16_t left[2048];
    int8_t right[20000] __attribute__((aligned(4)));
    int32_t sums[2048];
    int8_t table[256];
} inputs_t;
#endif

void KERNEL(dot)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t unused);
void KERNEL(context)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t stride);
void KERNEL(widen)(outputs_t *o, const inputs_t *in, int32_t k, int32_t unused);
void KERNEL(fir)(outputs_t *o, const inputs_t *in, int32_t unused, int32_t neither);
void KERNEL(raw)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t unused);
void KERNEL(transpose)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t width);
void KERNEL(context_transposed)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t unused);
void KERNEL(filter)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t taps);
void KERNEL(rows)(outputs_t *o, const inputs_t *in, int32_t n, int32_t k);
void KERNEL(softmax)(outputs_t *o, const inputs_t *in, int32_t columns, int32_t step);
void KERNEL(offset)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t width);
void KERNEL(scores)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t k);
void KERNEL(values)(outputs_t *o, const inputs_t *in, int32_t fours, int32_t width);
void KERNEL(softmax_fours)(outputs_t *o, const inputs_t *in, int32_t columns, int32_t step);
void KERNEL(normalize)(outputs_t *o, const inputs_t *in, int32_t width, int32_t left);
void KERNEL(codes)(outputs_t *o, const inputs_t *in, int32_t bits, int32_t block);
void KERNEL(lookup)(outputs_t *o, const inputs_t *in, int32_t rows, int32_t blocks);
void KERNEL(unpack)(outputs_t *o, const inputs_t *in, int32_t bits, int32_t block);
