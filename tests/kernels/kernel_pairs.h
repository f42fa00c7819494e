/* What packages have in common whose logits count the bytes of each micro-kernel's output that differ from its plain C.
 * KERNELS: the header that declares the kernels. */
#include <string.h>

#include "embbert.h"

#define KERNEL(kernel) mve_##kernel
#include KERNELS
#undef KERNEL
#define KERNEL(kernel) plain_##kernel
#include KERNELS

typedef void kernel_t(outputs_t *o, const inputs_t *in, int32_t a, int32_t b);

static inputs_t in;
static outputs_t found, expected;

static uint32_t random_word(void)
{
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return state;
}

static int32_t differs(kernel_t *mve, kernel_t *plain, int32_t a, int32_t b)
{
    memset(&found, 85, sizeof found);
    memset(&expected, 85, sizeof expected);
    mve(&found, &in, a, b);
    plain(&expected, &in, a, b);
    int32_t count = 0;
    for (size_t i = 0; i < sizeof found; i++) {
        count += ((const uint8_t *)&found)[i] != ((const uint8_t *)&expected)[i];
    }
    return count;
}

embbert_status_t embbert_init(embbert_t *model, void *arena, size_t bytes)
{
    (void)bytes;
    model->arena = arena;
    return EMBBERT_OK;
}

/* Count in logit c of embbert_run. */
#define CHECK(c, kernel, a, b) logits[c] += (float)differs(mve_##kernel, plain_##kernel, a, b)
