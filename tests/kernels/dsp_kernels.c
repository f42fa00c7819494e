#ifdef PLAIN
#undef __ARM_FEATURE_DSP
#define KERNEL(kernel) plain_##kernel
#else
#define KERNEL(kernel) mve_##kernel
#endif
#include "dsp_kernels.h"
#include "embbert_dsp_codes.h"
#include "embbert_lookup.h"
#include "unpack_kernel.h"

/* Every variant of a kernel that takes so many pairs, one block of sums after another. */
#define EACH(call, variant) call(variant##_4, 4) call(variant##_8, 8) call(variant##_16, 16) call(variant##_32, 32)

void KERNEL(dot)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t unused)
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

void KERNEL(context)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t stride)
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

void KERNEL(widen)(outputs_t *o, const inputs_t *in, int32_t k, int32_t unused)
{
    (void)unused;
    embbert_dsp_widen_4(o->halves, in->right, in->right + 2 * k, k);
}

void KERNEL(fir)(outputs_t *o, const inputs_t *in, int32_t unused, int32_t neither)
{
    (void)unused, (void)neither;
    for (int32_t i = 0; i < 16; i++) {
        o->sums[i] = in->sums[i];
    }
    embbert_dsp_fir_4(o->sums, in->left, in->left + 64, 32);
    embbert_dsp_fir_4(o->sums + 4, in->left + 4, in->left + 64, 16);
    embbert_dsp_fir_4(o->sums + 8, in->left, in->left + 66, 8);
    embbert_dsp_fir_4(o->sums + 12, in->left, in->left + 64, 12);
}

void KERNEL(raw)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t unused)
{
    (void)unused;
    for (int32_t i = 0; i < 8; i++) {
        o->sums[i] = in->sums[i] >> 8;
    }
    embbert_dsp_dot_raw(o->sums, in->left, in->right, pairs);
    for (int32_t i = 8; i < 16; i++) {
        o->sums[i] = in->sums[i] >> 8;
    }
    embbert_dsp_dot_raw_2x2(o->sums + 8, in->left, in->right, pairs);
    embbert_dsp_dot_raw_2x2(o->sums + 12, in->left + 4, in->right, pairs);
    for (int32_t i = 16; i < 24; i++) {
        o->sums[i] = in->sums[i] >> 8;
    }
    if (pairs == 256) {
        embbert_dsp_dot_raw_2x4(o->sums + 16, in->left + 4, in->right, 256);
    } else if (pairs % 32 == 0) {
        embbert_dsp_dot_raw_2x4(o->sums + 16, in->left + 4, in->right, 64);
    } else {
        embbert_dsp_dot_raw_2x4(o->sums + 16, in->left + 4, in->right, 16);
    }
}

void KERNEL(normalize)(outputs_t *o, const inputs_t *in, int32_t width, int32_t left)
{
    int64_t squares[4];
    int32_t lefts[4], inverses[4];
    embbert_dsp_squares(squares, in->sums, width);
    for (int32_t r = 0; r < 4; r++) {
        o->sums[2 * r] = (int32_t)squares[r], o->sums[2 * r + 1] = (int32_t)(squares[r] >> 32);
        lefts[r] = (left + r) & 7, inverses[r] = in->sums[r] & 0x7FFFFFFF;
    }
    embbert_dsp_normalize(o->bytes, o->bytes + 2 * width, in->sums, lefts, inverses, in->sums + 4 * width, width);
}

/* In offset binary, and the two kernels that read it. */
void KERNEL(offset)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t width)
{
    for (int32_t i = 0; i < 2 * pairs * width; i++) {
        o->bytes[i] = in->right[i];
    }
    embbert_dsp_offset(o->bytes, pairs, width);
    embbert_dsp_widen_offset_4(o->halves, in->right, in->right + 2 * width, width);
}

void KERNEL(scores)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t k)
{
#define SCORES(n) embbert_dsp_scores(o->sums, in->left, in->right, pairs, 2 * n + 64, n)
    if (k == 32) {
        SCORES(32);
    } else if (k == 64) {
        SCORES(64);
    } else {
        SCORES(512);
    }
#undef SCORES
}

void KERNEL(values)(outputs_t *o, const inputs_t *in, int32_t fours, int32_t width)
{
    static int16_t weights[16 * 70] __attribute__((aligned(4)));
    int32_t factor[8];
    for (int32_t i = 0; i < 16 * fours; i += 16) {
        for (int32_t h = 0; h < 8; h++) {
            const int32_t odd = in->table[(i + h) & 255] & 127, even = in->table[(3 * i + h + 77) & 255] & 127;
            weights[i + h] = (int16_t)odd, weights[i + 8 + h] = (int16_t)(256 * even - odd);
        }
    }
    for (int32_t i = 0; i < 8; i++) {
        factor[i] = i < 4 ? (i + 1) << 22 : in->sums[i] >> 12;
    }
#define VALUES(stride) embbert_dsp_values(o->halves, o->sums, weights, in->right, factor, fours, stride, width)
    if (width == 20) {
        VALUES(40);
    } else if (width == 8) {
        VALUES(256);
    } else if (width == 4) {
        VALUES(512);
    } else {
        VALUES(2048);
    }
#undef VALUES
    for (int32_t i = 0; i < 4 * width; i++) {
        o->sums[i] = 0; /* what it worked in */
    }
}

void KERNEL(softmax_fours)(outputs_t *o, const inputs_t *in, int32_t columns, int32_t step)
{
    static int32_t scores[512];
    for (int32_t i = 0; i < 512; i++) {
        scores[i] = in->sums[i] >> 4;
    }
    embbert_dsp_softmax_fours(o->halves, o->sums, scores, in->table, step, columns);
}

void KERNEL(transpose)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t width)
{
    embbert_dsp_transpose(o->bytes, in->right, pairs, width);
}

void KERNEL(context_transposed)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t unused)
{
    (void)unused;
    for (int32_t i = 0; i < 8; i++) {
        o->sums[i] = in->sums[i];
    }
    embbert_dsp_context_transposed(o->sums, in->left, in->right, pairs);
}

void KERNEL(rows)(outputs_t *o, const inputs_t *in, int32_t n, int32_t k)
{
    const int8_t *x = in->right + 10000;
    for (int32_t i = 0; i < 32; i++) {
        o->sums[i] = in->sums[i];
    }
    embbert_dsp_rows(o->sums, x, in->right, n, k);
    embbert_dsp_rows(o->sums + 16, x + 1, in->right + 3, n, k);
}

void KERNEL(softmax)(outputs_t *o, const inputs_t *in, int32_t columns, int32_t step)
{
    static int32_t scores[512];
    for (int32_t i = 0; i < 512; i++) {
        scores[i] = in->sums[i] >> 4;
    }
    embbert_dsp_softmax(o->halves, o->sums, scores, in->table, step, columns);
}

void KERNEL(filter)(outputs_t *o, const inputs_t *in, int32_t pairs, int32_t taps)
{
    int16_t line[2 * (32 + 64)] __attribute__((aligned(4))) = {0}, laid[2 * 68] __attribute__((aligned(4)));
    const int8_t *const x = in->right, *const weight = in->right + 4096;
    const int32_t b0 = in->sums[0], b1 = in->sums[1], m0 = 1 << 25, m1 = -(1 << 24);
#define FILTER(n)                                                                                                      \
    embbert_dsp_filter(o->bytes, x, line, laid, weight, b0, b1, m0, m1, in->table, pairs, 6, n)
    if (taps == 2) {
        FILTER(2);
    } else if (taps == 8) {
        FILTER(8);
    } else if (taps == 12) {
        FILTER(12);
    } else if (taps == 16) {
        FILTER(16);
    } else {
        FILTER(32);
    }
#undef FILTER
}

/* Codes of any bits, with multipliers behind each block, of 160 or 256 columns. */
void KERNEL(codes)(outputs_t *o, const inputs_t *in, int32_t bits, int32_t block)
{
    static uint8_t codes[4096] __attribute__((aligned(4)));
    int32_t starts[4 * 8];
    const int32_t k = block == 32 ? 160 : 256, bytes = block * bits / 2 + 4, fours = 3;
    const int32_t offset = bits == 4 ? 8 : 1;
    for (int32_t i = 0; i < fours * (k / block) * bytes; i++) {
        codes[i] = (uint8_t)in->right[i];
    }
    for (int32_t i = bytes - 4; i < fours * (k / block) * bytes; i += bytes) {
        const int32_t first = (in->table[i & 255] & 15) + 1, second = ((in->table[i * 3 & 255] & 15) + 1) << (bits == 4 ? 8 : 10);
        codes[i] = (uint8_t)first, codes[i + 1] = 0, codes[i + 2] = (uint8_t)second, codes[i + 3] = (uint8_t)(second >> 8);
    }
    for (int32_t i = 0; i < 80; i++) {
        o->sums[i] = in->sums[i];
    }
    embbert_dsp_block_sums(starts, in->left, k, block, offset);
#define CODES(k, block, bits)                                                                                          \
    for (int32_t r = 0; r < 4; r += 2) {                                                                               \
        embbert_dsp_codes_2x4(o->sums + 4 * r, in->left + 2 * r, codes + k / block * bytes, starts + r,                \
                              bits == 4 ? 8 : 1, k, block, bits);                                                      \
    }                                                                                                                  \
    embbert_dsp_codes_rows(o->sums + 16, in->right + 8000, codes, bits == 4 ? 8 : 1, 12, k, block, bits)
    if (bits == 4) {
        embbert_dsp_codes_product(o->sums + 32, in->left, codes, starts, 4 * fours, k, block);
    }
    if (bits == 4 && block == 32) {
        CODES(160, 32, 4);
    } else if (bits == 4) {
        CODES(256, 64, 4);
    } else if (block == 32) {
        CODES(160, 32, 2);
    } else {
        CODES(256, 64, 2);
    }
#undef CODES
}

void KERNEL(lookup)(outputs_t *o, const inputs_t *in, int32_t rows, int32_t blocks)
{
    static int32_t weight[1024], table[11 * 27 * 2];
    static int16_t left[2048];
    for (int32_t i = 0; i < 128 * blocks; i++) {
        left[i] = in->right[i + 9000];
    }
    for (int32_t b = 0, i = 0; b < blocks; b++) {
        for (const int32_t end = i + 2 * rows; i < end; i++) {
            weight[i] = 0;
            for (int32_t field = 0; field < 6; field++) {
                weight[i] |= (uint8_t)in->right[6 * i + field] % 27 << 5 * field;
            }
        }
        for (const int32_t end = i + (rows / 2 + 3) / 4; i < end; i++) {
            weight[i] = 0x01100A07 + (in->table[i & 255] & 7);
        }
    }
    for (int32_t i = 0; i < 4 * rows; i++) {
        o->sums[i] = in->sums[i];
    }
    embbert_lookup_product(o->sums, left, weight, table, rows, 32 * blocks);
}

void KERNEL(unpack)(outputs_t *o, const inputs_t *in, int32_t bits, int32_t block)
{
    unpack_all(o->bytes, (const uint8_t *)in->right, (const uint8_t *)in->table, bits, block);
}
