/* The micro-kernels of MVE as functions, named TWIN(kernel): once as the CPU runs them, once in their plain C. */
#include "embbert_mve.h"
#include "embbert_mve_codes.h"

#ifndef MVE_TWINS_H
#define MVE_TWINS_H
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

void TWIN(widen)(outputs_t *o, const inputs_t *in, int32_t k, int32_t unused);
void TWIN(product)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t k);
void TWIN(context)(outputs_t *o, const inputs_t *in, int32_t rows, int32_t width);
void TWIN(requantize)(outputs_t *o, const inputs_t *in, int32_t n, int32_t unused);
void TWIN(rescale)(outputs_t *o, const inputs_t *in, int32_t n, int32_t unused);
void TWIN(softmax)(outputs_t *o, const inputs_t *in, int32_t columns, int32_t step);
void TWIN(scale)(outputs_t *o, const inputs_t *in, int32_t n, int32_t epsilon);
void TWIN(normalize)(outputs_t *o, const inputs_t *in, int32_t n, int32_t unused);
void TWIN(filter)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t taps);
void TWIN(rows)(outputs_t *o, const inputs_t *in, int32_t n, int32_t k);
void TWIN(transpose)(outputs_t *o, const inputs_t *in, int32_t rows, int32_t width);
void TWIN(context_transposed)(outputs_t *o, const inputs_t *in, int32_t groups, int32_t width);
void TWIN(product_codes)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t k);
