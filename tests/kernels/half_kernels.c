#ifdef PLAIN
#undef __ARM_FEATURE_MVE
#undef __ARM_FP
#define KERNEL(kernel) plain_##kernel
#else
#define KERNEL(kernel) mve_##kernel
#endif
#include "half_kernels.h"

void KERNEL(product)(outputs_t *o, const inputs_t *in, int32_t tiles, int32_t k)
{
    embbert_mve_half_start(o->out, in->gain, 4 * tiles);
    embbert_mve_half_product(o->out, in->x, in->y, tiles, k);
}

void KERNEL(scores)(outputs_t *o, const inputs_t *in, int32_t blocks, int32_t k)
{
    embbert_mve_half_scores(o->out, in->x, in->y, blocks, k);
}

void KERNEL(softmax)(outputs_t *o, const inputs_t *in, int32_t columns, int32_t unused)
{
    (void)unused;
    memcpy(o->out, in->x, sizeof o->out);
    embbert_mve_half_softmax(o->out, o->more, columns);
}

void KERNEL(context)(outputs_t *o, const inputs_t *in, int32_t blocks, int32_t width)
{
    embbert_mve_half_context(o->out, in->x, in->y, in->gain, blocks, width);
}

void KERNEL(rms_norm)(outputs_t *o, const inputs_t *in, int32_t n, int32_t unused)
{
    (void)unused;
    embbert_mve_half_rms_norm(o->out, in->x, in->gain, 1e-5f, n);
}

void KERNEL(layer_norm)(outputs_t *o, const inputs_t *in, int32_t n, int32_t unused)
{
    (void)unused;
    embbert_mve_half_layer_norm(o->out, in->x, in->gain, in->shift, 1e-5f, n);
}

void KERNEL(filter)(outputs_t *o, const inputs_t *in, int32_t blocks, int32_t taps)
{
    embbert_mve_half_filter(o->out + 24, in->x + 8, o->line, in->gain, in->shift[taps], blocks, 3, 5, taps);
    memset(o->line, 0, sizeof o->line);
}

void KERNEL(add)(outputs_t *o, const inputs_t *in, int32_t n, int32_t unused)
{
    (void)unused;
    memcpy(o->out, in->x, sizeof o->out);
    embbert_mve_half_add(o->out, in->y, n);
}

void KERNEL(activation)(outputs_t *o, const inputs_t *in, int32_t which, int32_t first)
{
    uint16_t x[64];
    (void)in;
    for (int32_t i = 0; i < 64; i++) {
        x[i] = (uint16_t)(first + i);
    }
    switch (which) {
    case 0:
        embbert_mve_half_silu(o->out, x, 8);
        break;
    case 1:
        embbert_mve_half_gelu(o->out, x, 8);
        break;
    case 2:
        embbert_mve_half_sigmoid(o->out, x, 8);
        break;
    case 3:
        embbert_mve_half_tanh(o->out, x, 8);
        break;
    default:
        embbert_mve_half_relu(o->out, x, 8);
        break;
    }
}

/* Halves to floats and back, and floats that are none. */
void KERNEL(narrow)(outputs_t *o, const inputs_t *in, int32_t first, int32_t unused)
{
    (void)in, (void)unused;
    for (int32_t i = 0; i < 64; i += 8) {
        uint16_t halves[8];
        float floats[8];
        for (int32_t lane = 0; lane < 8; lane++) {
            halves[lane] = (uint16_t)(first + i + lane);
        }
        const embbert_f8_t wide = f8_widen(h8_load(halves));
        h8_store(o->out + 4 * i, f8_narrow(wide));
        h8_store(o->out + 4 * i + 8, f8_narrow(f8_mul(wide, f8_all(1.0009765625f))));
        h8_store(o->out + 4 * i + 16, f8_narrow(f8_mul(wide, f8_all(0.333333343f))));
        f8_store(floats, wide);
        /* The scalar conversions, which lie in another place of the instruction set. */
        for (int32_t lane = 0; lane < 8; lane++) {
            o->out[4 * i + 24 + lane] = half_from_float(half_to_float(halves[lane]) * 0.7f);
        }
    }
}
