/* A package whose logits are how many bytes of each micro-kernel's output differ from its plain C. */
#include <string.h>

#include "embbert.h"

#define TWIN(kernel) mve_##kernel
#include "mve_twins.h"
#undef TWIN
#define TWIN(kernel) plain_##kernel
#include "mve_twins.h"

typedef void twin_t(outputs_t *o, const inputs_t *in, int32_t a, int32_t b);

static inputs_t in;
static outputs_t found, expected;

static uint32_t random_word(void)
{
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return state;
}

/* Every fourth at one end. */
static int8_t random_byte(void)
{
    static const int8_t ends[4] = {-128, -127, 127, 0};
    const uint32_t word = random_word();
    return word >> 30 ? (int8_t)(word >> 8 & 255) : ends[word >> 28];
}

static int32_t differs(twin_t *mve, twin_t *plain, int32_t a, int32_t b)
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

embbert_status_t embbert_run(embbert_t *model, const int32_t *ids, size_t n, float *logits)
{
    (void)model, (void)ids, (void)n;
    for (size_t i = 0; i < sizeof in.left; i++) {
        in.left[i] = random_byte();
    }
    for (size_t i = 0; i < sizeof in.right; i++) {
        in.right[i] = random_byte();
    }
    for (int32_t i = 0; i < 256; i++) {
        in.table[i] = (int8_t)(random_word() >> 25);
        in.bias[i] = (int32_t)random_word() >> 12;
        in.multiplier[i] = (int32_t)random_word() >> (i % 3 * 4);
    }
    for (int32_t i = 0; i < 2048; i++) {
        in.sums[i] = (int32_t)random_word() >> 12;
    }
    for (int32_t r = 0; r < 4; r++) {
        in.shift[r] = 4 * r - 2 * (r == 3);
        in.inverse[r] = (int32_t)(random_word() >> 1);
    }
    int32_t count[EMBBERT_CLASSES] = {0};
#define CHECK(c, kernel, a, b) count[c] += differs(mve_##kernel, plain_##kernel, a, b)
    for (int32_t k = 32; k <= 160; k += 32) {
        for (int32_t pairs = 1; pairs <= 18; pairs += 1 + pairs / 5) {
            CHECK(0, product, pairs, k);
        }
    }
    CHECK(0, product, 20, 256);
    for (int32_t rows = 1; rows <= 70; rows += 1 + rows / 20) {
        CHECK(1, context, rows, rows % 3 == 0 ? 128 : rows % 3 == 1 ? 32 : 18);
        CHECK(2, softmax, rows, rows % 2 ? 1 << 20 : 1 << 28);
        CHECK(9, rows, 1 + rows / 10, rows);
    }
    for (int32_t n = 16; n <= 128; n += 16) {
        CHECK(3, widen, n, 0);
        CHECK(4, requantize, n, 0);
        CHECK(5, rescale, n, 0);
        CHECK(6, scale, n, 77);
        CHECK(7, normalize, n, 0);
    }
    for (int32_t pairs = 2; pairs <= 22; pairs += 2) {
        CHECK(8, filter, pairs, 32);
        CHECK(8, filter, pairs, 16);
        CHECK(8, filter, pairs, 8);
    }
    for (size_t c = 0; c < EMBBERT_CLASSES; c++) {
        logits[c] = (float)count[c];
    }
    return EMBBERT_OK;
}
