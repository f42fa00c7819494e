#ifdef PLAIN
#undef __ARM_FEATURE_MVE
#undef __ARM_FEATURE_DSP
#define KERNEL(kernel) plain_##kernel
#else
#define KERNEL(kernel) mve_##kernel
#endif
#include <string.h>

#include "mve_kernels.h"
#include "unpack_kernel.h"

void KERNEL(widen)(outputs_t *o, const inputs_t *in, int32_t k, int32_t unused)
{
    (void)unused;
    embbert_mve_widen(o->out8, in->right, in->right + 2 * k, k);
}

void KERNEL(product)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t k)
{
    embbert_mve_product(o->out32, in->left, in->right, pairs, k);
}

void KERNEL(context)(outputs_t *o, const inputs_t *in, int32_t rows, int32_t width)
{
    for (int32_t i = 0; i < 2048; i++) {
        o->out8[i] = i / 64 * 16 + i % 16 < rows ? in->left[i] : 0;
    }
    embbert_mve_context(o->out32, o->out8, in->right, rows, width);
    embbert_mve_context_strided(o->out32 + 1024, o->out8, in->right + 2 * width, rows, width, 2 * width);
}

void KERNEL(requantize)(outputs_t *o, const inputs_t *in, int32_t n, int32_t unused)
{
    (void)unused;
    embbert_mve_requantize(o->out8, in->sums, in->bias, in->multiplier, n);
}

void KERNEL(rescale)(outputs_t *o, const inputs_t *in, int32_t n, int32_t unused)
{
    (void)unused;
    embbert_mve_rescale(o->out8, in->sums, in->multiplier, n);
}

void KERNEL(softmax)(outputs_t *o, const inputs_t *in, int32_t columns, int32_t step)
{
    static int32_t scores[2048];
    for (int32_t i = 0; i < 2048; i++) {
        scores[i] = in->sums[i];
    }
    embbert_mve_softmax(o->out8, o->out32, scores, in->table, step, columns);
}

void KERNEL(scale)(outputs_t *o, const inputs_t *in, int32_t n, int32_t epsilon)
{
    for (int32_t i = 0; i < 2048; i++) {
        o->out32[i] = in->sums[i];
    }
    embbert_mve_scale(o->out64, o->out32, in->bias, in->multiplier, epsilon, n);
}

void KERNEL(normalize)(outputs_t *o, const inputs_t *in, int32_t n, int32_t unused)
{
    (void)unused;
    embbert_mve_normalize(o->out8, o->out8 + 2 * n, in->sums, in->shift, in->inverse, in->multiplier, n);
}

void KERNEL(filter)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t taps)
{
    static int8_t line[256];
    if (taps == 32) {
        embbert_mve_filter(o->out8, in->right, line, in->left, in->bias[0], 1 << 20, in->table, pairs, 48, 32);
    } else if (taps == 16) {
        embbert_mve_filter(o->out8, in->right, line, in->left, in->bias[1], 1 << 21, in->table, pairs, 48, 16);
    } else {
        embbert_mve_filter(o->out8, in->right, line, in->left, in->bias[2], 1 << 22, in->table, pairs, 48, 8);
    }
    int8_t *laid = o->out8 + 4096;
    if (taps == 32) {
        embbert_mve_filter_laid(laid, in->right, line, in->left, in->bias[3], 1 << 20, in->table, pairs, 48, 32);
    } else {
        embbert_mve_filter_laid(laid, in->right, line, in->left, in->bias[4], 1 << 22, in->table, pairs, 48, 8);
    }
}

void KERNEL(rows)(outputs_t *o, const inputs_t *in, int32_t n, int32_t k)
{
    embbert_mve_rows(o->out32, in->left, in->right, n, k);
}

void KERNEL(transpose)(outputs_t *o, const inputs_t *in, int32_t rows, int32_t width)
{
    embbert_mve_transpose(o->out8, in->right, rows, width);
}

void KERNEL(context_transposed)(outputs_t *o, const inputs_t *in, int32_t groups, int32_t width)
{
    embbert_mve_context_transposed(o->out32, in->left, in->right, groups, width);
}

void KERNEL(add_row)(outputs_t *o, const inputs_t *in, int32_t n, int32_t shift)
{
    memcpy(o->out32, in->sums, 4 * sizeof(int32_t) * (size_t)n);
    embbert_mve_add_row(o->out32 + 16, in->left, shift, n);
}

void KERNEL(product_codes)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t k)
{
    const uint8_t *codes = (const uint8_t *)in->right;
    int8_t multipliers[128];
    for (int32_t i = 0; i < 128; i++) {
        multipliers[i] = (int8_t)(in->table[i] % 16 + 1);
    }
    if (k % 64 == 0) {
        int32_t starts[64];
        embbert_mve_product_codes_4(o->out32, in->left, codes, multipliers, starts, pairs, k);
        int8_t parted[1024];
        embbert_mve_codes_rows(o->out32 + 512, in->left, codes, (const uint8_t *)in->table, parted, starts, pairs, k);
    }
    embbert_mve_product_codes_2(o->out32 + 1024, in->left, codes, multipliers, pairs, k);
}

void KERNEL(unpack)(outputs_t *o, const inputs_t *in, int32_t bits, int32_t block)
{
    unpack_all(o->out8, (const uint8_t *)in->right, (const uint8_t *)in->table, bits, block);
}
