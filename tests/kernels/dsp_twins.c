#ifdef PLAIN
#undef __ARM_FEATURE_DSP
#define TWIN(kernel) plain_##kernel
#else
#define TWIN(kernel) mve_##kernel
#endif
#include "dsp_twins.h"

/* Every form of a kernel that takes so many pairs, one block of sums after another. */
#define EACH(call, form) call(form##_4, 4) call(form##_8, 8) call(form##_16, 16) call(form##_32, 32)

void TWIN(dot)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t unused)
{
    (void)unused;
    int32_t *acc = o->sums;
    for (int32_t i = 0; i < 256; i++) {
        acc[i] = in->sums[i];
    }
#define CALL(name, steps)                                                                                              \
    if (pairs % steps == 0) {                                                                                          \
        name(acc, in->left, in->right, pairs);                                                                         \
    }                                                                                                                  \
    acc += 8;
    EACH(CALL, embbert_dsp_dot_single)
    EACH(CALL, embbert_dsp_dot_ldrd)
    EACH(CALL, embbert_dsp_dot_grouped)
    if (pairs % 16 == 0) {
        embbert_dsp_dot_4x2(acc, in->left, in->right, pairs);
    }
#undef CALL
}

void TWIN(context)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t stride)
{
    int32_t *acc = o->sums;
    for (int32_t i = 0; i < 256; i++) {
        acc[i] = in->sums[i];
    }
#define CALL(name)                                                                                                     \
    if (stride == 256) {                                                                                               \
        name(acc, in->left, in->right, 256, pairs);                                                                    \
    } else {                                                                                                           \
        name(acc, in->left, in->right, 20, pairs);                                                                     \
    }                                                                                                                  \
    acc += 8;
    CALL(embbert_dsp_context_single_2)
    CALL(embbert_dsp_context_single_4)
    CALL(embbert_dsp_context_single_8)
    CALL(embbert_dsp_context_ldrd_2)
    CALL(embbert_dsp_context_ldrd_4)
    CALL(embbert_dsp_context_ldrd_8)
    CALL(embbert_dsp_context_4x2)
#undef CALL
}

void TWIN(widen)(outputs_t *o, const inputs_t *in, int32_t k, int32_t unused)
{
    (void)unused;
    embbert_dsp_widen_4(o->halves, in->right, in->right + 2 * k, k);
}

void TWIN(fir)(outputs_t *o, const inputs_t *in, int32_t taps, int32_t unused)
{
    (void)unused;
    for (int32_t i = 0; i < 16; i++) {
        o->sums[i] = in->sums[i];
    }
    if (taps == 32) {
        embbert_dsp_fir_4(o->sums, in->left, in->left + 64, 32);
    } else {
        embbert_dsp_fir_4(o->sums + 4, in->left, in->left + 64, 8);
    }
}
