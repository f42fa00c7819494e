/* The micro-kernels of MVE as functions, named KERNEL(kernel): once as the CPU runs them, once in their plain C. */
#include "embbert_mve.h"
#include "embbert_mve_codes.h"

#ifndef MVE_KERNELS_H
#define MVE_KERNELS_H
typedef struct {
    int8_t out8[8192];
    int32_t out32[2048];
    int64_t out64[4];
} outputs_t;

typedef struct {
    int8_t left[2048], right[40000], table[256];
    int32_t sums[2048], bias[256], multiplier[256], shift[4], inverse[4];
} inputs_t;
#endif

void KERNEL(widen)(outputs_t *o, const inputs_t *in, int32_t k, int32_t unused);
void KERNEL(product)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t k);
void KERNEL(context)(outputs_t *o, const inputs_t *in, int32_t rows, int32_t width);
void KERNEL(requantize)(outputs_t *o, const inputs_t *in, int32_t n, int32_t unused);
void KERNEL(rescale)(outputs_t *o, const inputs_t *in, int32_t n, int32_t unused);
void KERNEL(softmax)(outputs_t *o, const inputs_t *in, int32_t columns, int32_t step);
void KERNEL(scale)(outputs_t *o, const inputs_t *in, int32_t n, int32_t epsilon);
void KERNEL(normalize)(outputs_t *o, const inputs_t *in, int32_t n, int32_t unused);
void KERNEL(filter)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t taps);
void KERNEL(rows)(outputs_t *o, const inputs_t *in, int32_t n, int32_t k);
void KERNEL(transpose)(outputs_t *o, const inputs_t *in, int32_t rows, int32_t width);
void KERNEL(add_row)(outputs_t *o, const inputs_t *in, int32_t n, int32_t shift);
void KERNEL(context_transposed)(outputs_t *o, const inputs_t *in, int32_t groups, int32_t width);
void KERNEL(product_codes)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t k);
void KERNEL(unpack)(outputs_t *o, const inputs_t *in, int32_t bits, int32_t block);
