/* The micro-kernels in half precision as functions, named KERNEL(kernel): once as the CPU runs them, once in plain C. */
#include "embbert_mve_half.h"

#ifndef HALF_KERNELS_H
#define HALF_KERNELS_H
typedef struct {
    uint16_t out[16384], more[8], line[256];
} outputs_t;

typedef struct {
    uint16_t x[16384], y[16384], gain[256], shift[256];
} inputs_t;
#endif

void KERNEL(product)(outputs_t *o, const inputs_t *in, int32_t tiles, int32_t k);
void KERNEL(scores)(outputs_t *o, const inputs_t *in, int32_t blocks, int32_t k);
void KERNEL(softmax)(outputs_t *o, const inputs_t *in, int32_t columns, int32_t unused);
void KERNEL(context)(outputs_t *o, const inputs_t *in, int32_t blocks, int32_t width);
void KERNEL(rms_norm)(outputs_t *o, const inputs_t *in, int32_t n, int32_t unused);
void KERNEL(layer_norm)(outputs_t *o, const inputs_t *in, int32_t n, int32_t unused);
void KERNEL(filter)(outputs_t *o, const inputs_t *in, int32_t blocks, int32_t taps);
void KERNEL(add)(outputs_t *o, const inputs_t *in, int32_t n, int32_t unused);
void KERNEL(activation)(outputs_t *o, const inputs_t *in, int32_t which, int32_t first);
void KERNEL(narrow)(outputs_t *o, const inputs_t *in, int32_t first, int32_t unused);
