/* A layer of EmbBERT by CMSIS-NN's kernels, each a step: of all rows of a text, and of the one row that the last layer's
 * head reads. Norms, the embedding and the head are left out. */
#include "arm_nnfunctions.h"
#include "arm_nnsupportfunctions.h"
#include "embbert.h"

#define LONGEST EMBBERT_MAX_LENGTH
#define WIDTH 128
#define TAPS 32

#ifdef EMBBERT_PROFILE
void embbert_step(int32_t step);
#else
static void embbert_step(int32_t step) { (void)step; }
#endif

static int8_t text[LONGEST * WIDTH], transposed[LONGEST * WIDTH], queries[LONGEST * WIDTH], out[LONGEST * WIDTH];
static int8_t scores[LONGEST * LONGEST], weights[WIDTH * WIDTH], filter[TAPS * WIDTH];
static int32_t bias[LONGEST], multipliers[LONGEST], shifts[LONGEST];
static int32_t scratch[4 * LONGEST * WIDTH / 4 + TAPS * WIDTH];
static uint32_t failures;

static void fill(int8_t *bytes, size_t n)
{
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        bytes[i] = (int8_t)(state >> 24);
    }
}

embbert_status_t embbert_init(embbert_t *model, void *arena, size_t bytes)
{
    (void)bytes;
    model->arena = arena;
    fill(text, sizeof text);
    fill(weights, sizeof weights);
    fill(filter, sizeof filter);
    for (size_t i = 0; i < LONGEST; i++) {
        multipliers[i] = 1 << 30;
        shifts[i] = -7;
    }
    return EMBBERT_OK;
}

static void check(arm_cmsis_nn_status status) { failures += status != ARM_CMSIS_NN_SUCCESS; }

/* to = left (rows, inner) x right (columns, inner)^T */
static void product(const int8_t *left, const int8_t *right, int8_t *to, int32_t rows, int32_t columns, int32_t inner)
{
    check(arm_nn_mat_mult_nt_t_s8(left, right, bias, to, multipliers, shifts, rows, columns, inner, 0, 0, -128, 127, 1,
                                  inner));
}

static void transpose(int32_t n)
{
    const uint32_t order[4] = {0, 1, 3, 2};
    const cmsis_nn_transpose_params parameters = {4, order};
    const cmsis_nn_dims from = {1, 1, n, WIDTH}, to = {1, 1, WIDTH, n};
    check(arm_transpose_s8(text, transposed, &from, &to, &parameters));
}

/* Scores of a sixteenth a step: exp(-8) and less is nothing in eight bits. */
static void softmax(int32_t rows, int32_t n) { arm_softmax_s8(scores, rows, n, 1 << 30, 23, -124, scores); }

/* `given` rows of the text to `wanted` rows, of 32 taps each. */
static void convolve(int32_t given, int32_t wanted, int32_t before)
{
    const cmsis_nn_dw_conv_params parameters = {0, 0, 1, {1, 1}, {before, 0}, {1, 1}, {-128, 127}};
    const cmsis_nn_per_channel_quant_params scales = {multipliers, shifts};
    const cmsis_nn_dims from = {1, 1, given, WIDTH}, kernel = {1, 1, TAPS, WIDTH}, to = {1, 1, wanted, WIDTH};
    const cmsis_nn_dims biases = {1, 1, 1, WIDTH};
    const int32_t bytes = arm_depthwise_conv_wrapper_s8_get_buffer_size(&parameters, &from, &kernel, &to);
    const cmsis_nn_context context = {scratch, bytes};
    failures += bytes > (int32_t)sizeof scratch;
    check(arm_depthwise_conv_wrapper_s8(&context, &parameters, &scales, &from, text, &kernel, filter, &biases, bias, &to,
                                        out));
}

embbert_status_t embbert_run(embbert_t *model, const int32_t *ids, size_t length, float *logits)
{
    const int32_t n = (int32_t)length, rows[2] = {n, 1};
    (void)model, (void)ids;
    int32_t step = 0;
    failures = 0;
    embbert_step(step++);
    for (int of = 0; of < 2; of++) {
        product(text, weights, queries, rows[of], WIDTH, WIDTH);
        embbert_step(step++);
        product(queries, text, scores, rows[of], n, WIDTH);
        embbert_step(step++);
        softmax(rows[of], n);
        embbert_step(step++);
        transpose(n);
        embbert_step(step++);
        product(scores, transposed, out, rows[of], WIDTH, n);
        embbert_step(step++);
        convolve(of == 0 || n < TAPS ? n : TAPS, rows[of], of == 0 ? TAPS / 2 - 1 : 0);
        embbert_step(step++);
    }
    logits[0] = (float)failures;
    return failures == 0 ? EMBBERT_OK : EMBBERT_E_ARGUMENT;
}
