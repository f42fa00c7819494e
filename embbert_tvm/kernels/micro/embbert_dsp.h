/* Micro-kernels for the DSP extension (SMLAD: two 16-bit products an instruction). Under #else of each stands its plain
 * C, which is its specification and what every other CPU runs.
 *
 * Layouts. A pairs matrix (n / 2, k, 2) holds rows 2i and 2i + 1 side by side: the word at column k, k even, is
 *     row 2i [k], row 2i + 1 [k], row 2i [k + 1], row 2i + 1 [k + 1]
 * of which SXTB16 takes two neighbours of the first row, and SXTB16 with ROR #8 two of the second.
 * A block operand (k / 2, 4, 2) holds four rows in 16 bits: for each pair of columns the four rows' pairs.
 *
 * Two forms of the inner loops: LDRD is fewer instructions; single loads are fewer cycles where two instructions issue
 * at once but LDRD does not (EMBBERT_DUAL_ISSUE).
 */
#ifndef EMBBERT_DSP_H
#define EMBBERT_DSP_H

#include <stdint.h>

#if defined(__ARM_FEATURE_DSP) && defined(__thumb2__) && defined(__OPTIMIZE__)
#define EMBBERT_DSP 1
#define EMBBERT_INLINE static inline __attribute__((always_inline))
/* Two samples of 16 bits, or four of 8, taken as one word. */
typedef int32_t embbert_word_t __attribute__((may_alias));
#else
#define EMBBERT_DSP 0
#define EMBBERT_INLINE static inline
#endif

#if EMBBERT_DSP

#define EMBBERT_TILE_OPERANDS(c)                                                                                       \
    [c0] "+r"(c[0]), [c1] "+r"(c[1]), [c2] "+r"(c[2]), [c3] "+r"(c[3]), [c4] "+r"(c[4]), [c5] "+r"(c[5]),              \
        [c6] "+r"(c[6]), [c7] "+r"(c[7])

/* Two rows (x, y) against two columns (w, v). */
#define EMBBERT_TILE_TOP                                                                                               \
    "smlad %[c0], %[x], %[w], %[c0]\n smlad %[c1], %[x], %[v], %[c1]\n"
#define EMBBERT_TILE_2                                                                                                 \
    "smlad %[c2], %[y], %[w], %[c2]\n smlad %[c3], %[y], %[v], %[c3]\n"
#define EMBBERT_TILE_4                                                                                                 \
    "smlad %[c4], %[x], %[w], %[c4]\n smlad %[c5], %[x], %[v], %[c5]\n"
#define EMBBERT_TILE_6                                                                                                 \
    "smlad %[c6], %[y], %[w], %[c6]\n smlad %[c7], %[y], %[v], %[c7]\n"

#if EMBBERT_DUAL_ISSUE
#define EMBBERT_DOT_STEP(n)                                                                                            \
    "ldr %[w], [%[b], #4*" #n "]\n ldr %[x], [%[a], #16*" #n "]\n sxtb16 %[v], %[w], ror #8\n"                         \
    "ldr %[y], [%[a], #16*" #n "+4]\n sxtb16 %[w], %[w]\n" EMBBERT_TILE_TOP                                            \
    "ldr %[x], [%[a], #16*" #n "+8]\n" EMBBERT_TILE_2                                                                  \
    "ldr %[y], [%[a], #16*" #n "+12]\n" EMBBERT_TILE_4 EMBBERT_TILE_6
#define EMBBERT_DOT_ADVANCE "add %[b], %[b], #64\n add %[a], %[a], #256\n"
#else
#define EMBBERT_DOT_STEP(n)                                                                                            \
    "ldr %[w], [%[b]], #4\n ldrd %[x], %[y], [%[a]], #8\n sxtb16 %[v], %[w], ror #8\n sxtb16 %[w], %[w]\n"             \
    EMBBERT_TILE_TOP EMBBERT_TILE_2 "ldrd %[x], %[y], [%[a]], #8\n" EMBBERT_TILE_4 EMBBERT_TILE_6
#define EMBBERT_DOT_ADVANCE
#endif
#endif

/* acc (4, 2) += block operand a (pairs, 4, 2) . rows of one pair b (2 * pairs, 2), over their 2 * pairs columns.
 * pairs is a multiple of 16. */
EMBBERT_INLINE void embbert_dsp_dot_4x2(int32_t *acc, const int16_t *a, const int8_t *b, int32_t pairs)
{
#if EMBBERT_DSP
    int32_t c[8] = {acc[0], acc[1], acc[2], acc[3], acc[4], acc[5], acc[6], acc[7]};
    int32_t w, v, x, y;
    const int8_t *const end = b + 4 * pairs;
    __asm__ volatile(
        "1:\n" EMBBERT_DOT_STEP(0) EMBBERT_DOT_STEP(1) EMBBERT_DOT_STEP(2) EMBBERT_DOT_STEP(3) EMBBERT_DOT_STEP(4)
        EMBBERT_DOT_STEP(5) EMBBERT_DOT_STEP(6) EMBBERT_DOT_STEP(7) EMBBERT_DOT_STEP(8) EMBBERT_DOT_STEP(9)
        EMBBERT_DOT_STEP(10) EMBBERT_DOT_STEP(11) EMBBERT_DOT_STEP(12) EMBBERT_DOT_STEP(13) EMBBERT_DOT_STEP(14)
        EMBBERT_DOT_STEP(15) EMBBERT_DOT_ADVANCE
        "ldr %[w], %[end]\n cmp %[b], %[w]\n bne 1b\n"
        : EMBBERT_TILE_OPERANDS(c), [a] "+r"(a), [b] "+r"(b), [w] "=&r"(w), [v] "=&r"(v), [x] "=&r"(x), [y] "=&r"(y)
        : [end] "m"(end)
        : "cc", "memory");
    for (int32_t i = 0; i < 8; i++) {
        acc[i] = c[i];
    }
#else
    for (int32_t p = 0; p < pairs; p++) {
        for (int32_t r = 0; r < 4; r++) {
            for (int32_t h = 0; h < 2; h++) {
                const int32_t left = a[8 * p + 2 * r + h];
                acc[2 * r] += left * b[4 * p + 2 * h];
                acc[2 * r + 1] += left * b[4 * p + 2 * h + 1];
            }
        }
    }
#endif
}

#if EMBBERT_DSP
/* From the word of two rows and two columns to the two columns' pairs of rows, in v and w. */
#define EMBBERT_COLUMN_PAIRS                                                                                           \
    "sxtb16 %[v], %[w], ror #8\n sxtb16 %[w], %[w]\n"                                                                  \
    "pkhbt %[e], %[w], %[v], lsl #16\n pkhtb %[v], %[v], %[w], asr #16\n"
#define EMBBERT_CONTEXT_TOP                                                                                            \
    "smlad %[c0], %[w], %[e], %[c0]\n smlad %[c1], %[w], %[v], %[c1]\n"
#define EMBBERT_CONTEXT_2                                                                                              \
    "smlad %[c2], %[x], %[e], %[c2]\n smlad %[c3], %[x], %[v], %[c3]\n"
#define EMBBERT_CONTEXT_4                                                                                              \
    "smlad %[c4], %[w], %[e], %[c4]\n smlad %[c5], %[w], %[v], %[c5]\n"
#define EMBBERT_CONTEXT_6                                                                                              \
    "smlad %[c6], %[x], %[e], %[c6]\n smlad %[c7], %[x], %[v], %[c7]\n"
#if EMBBERT_DUAL_ISSUE
#define EMBBERT_CONTEXT_STEP(n)                                                                                        \
    "ldr %[w], [%[b], %[stride]*" #n "]\n" EMBBERT_COLUMN_PAIRS                                                        \
    "ldr %[w], [%[a], #16*" #n "]\n ldr %[x], [%[a], #16*" #n "+4]\n" EMBBERT_CONTEXT_TOP                              \
    "ldr %[w], [%[a], #16*" #n "+8]\n" EMBBERT_CONTEXT_2                                                               \
    "ldr %[x], [%[a], #16*" #n "+12]\n" EMBBERT_CONTEXT_4 EMBBERT_CONTEXT_6
#define EMBBERT_CONTEXT_ADVANCE(n) "add %[b], %[b], %[stride]*" #n "\n add %[a], %[a], #16*" #n "\n"
#else
#define EMBBERT_CONTEXT_STEP(n)                                                                                        \
    "ldr %[w], [%[b], %[stride]*" #n "]\n" EMBBERT_COLUMN_PAIRS                                                        \
    "ldrd %[w], %[x], [%[a]], #8\n" EMBBERT_CONTEXT_TOP EMBBERT_CONTEXT_2                                              \
    "ldrd %[w], %[x], [%[a]], #8\n" EMBBERT_CONTEXT_4 EMBBERT_CONTEXT_6
#define EMBBERT_CONTEXT_ADVANCE(n) "add %[b], %[b], %[stride]*" #n "\n"
#endif
#endif

/* acc (4, 2) += block operand a (pairs, 4, 2) . columns 0 and 1 of the pairs matrix b (pairs, stride / 2, 2), over its
 * 2 * pairs rows. stride is in bytes and a constant. */
EMBBERT_INLINE void embbert_dsp_context_4x2(int32_t *acc, const int16_t *a, const int8_t *b, const int32_t stride,
                                            int32_t pairs)
{
#if EMBBERT_DSP
    int32_t c[8] = {acc[0], acc[1], acc[2], acc[3], acc[4], acc[5], acc[6], acc[7]};
    int32_t w, v, x, e;
    const int8_t *const end4 = b + stride * (pairs & ~3);
    const int8_t *const end = b + stride * pairs;
    __asm__ volatile(
        "ldr %[w], %[end4]\n cmp %[b], %[w]\n beq 2f\n"
        "1:\n" EMBBERT_CONTEXT_STEP(0) EMBBERT_CONTEXT_STEP(1) EMBBERT_CONTEXT_STEP(2) EMBBERT_CONTEXT_STEP(3)
        EMBBERT_CONTEXT_ADVANCE(4)
        "ldr %[w], %[end4]\n cmp %[b], %[w]\n bne 1b\n"
        "2:\n ldr %[w], %[end]\n cmp %[b], %[w]\n beq 4f\n"
        "3:\n" EMBBERT_CONTEXT_STEP(0) EMBBERT_CONTEXT_ADVANCE(1)
        "ldr %[w], %[end]\n cmp %[b], %[w]\n bne 3b\n"
        "4:\n"
        : EMBBERT_TILE_OPERANDS(c), [a] "+r"(a), [b] "+r"(b), [w] "=&r"(w), [v] "=&r"(v), [x] "=&r"(x), [e] "=&r"(e)
        : [end4] "m"(end4), [end] "m"(end), [stride] "i"(stride)
        : "cc", "memory");
    for (int32_t i = 0; i < 8; i++) {
        acc[i] = c[i];
    }
#else
    for (int32_t p = 0; p < pairs; p++) {
        for (int32_t r = 0; r < 4; r++) {
            for (int32_t h = 0; h < 2; h++) {
                const int32_t left = a[8 * p + 2 * r + h];
                acc[2 * r] += left * b[p * stride + h];
                acc[2 * r + 1] += left * b[p * stride + 2 + h];
            }
        }
    }
#endif
}

/* The block operand a (k / 2, 4, 2) of four rows: pairs b0 and b1 (k, 2) of a pairs matrix. */
EMBBERT_INLINE void embbert_dsp_widen_4(int16_t *a, const int8_t *b0, const int8_t *b1, int32_t k)
{
#if EMBBERT_DSP
    const embbert_word_t *top = (const embbert_word_t *)(const void *)b0;
    const embbert_word_t *bottom = (const embbert_word_t *)(const void *)b1;
    embbert_word_t *out = (embbert_word_t *)(void *)a;
    for (int32_t p = 0; p < k / 2; p++, out += 4) {
        const int32_t u = top[p], v = bottom[p];
        __asm__("sxtb16 %0, %1" : "=r"(out[0]) : "r"(u));
        __asm__("sxtb16 %0, %1, ror #8" : "=r"(out[1]) : "r"(u));
        __asm__("sxtb16 %0, %1" : "=r"(out[2]) : "r"(v));
        __asm__("sxtb16 %0, %1, ror #8" : "=r"(out[3]) : "r"(v));
    }
#else
    for (int32_t i = 0; i < k; i++) {
        int16_t *const at = a + 8 * (i / 2) + i % 2;
        at[0] = b0[2 * i];
        at[2] = b0[2 * i + 1];
        at[4] = b1[2 * i];
        at[6] = b1[2 * i + 1];
    }
#endif
}

/* Four neighbouring outputs of a filter of `taps` taps over a line of samples that starts `taps` before the first:
 *     acc[o] += sum over k of tap[k] * line[o + 1 + k]
 * weight (taps / 2 + 1, 2, 2): for each pair of samples the taps that meet it, for an odd output, then for an even:
 *     (tap[2i], tap[2i + 1]), (tap[2i - 1], tap[2i]), taps outside being 0. line and weight are aligned to words. */
EMBBERT_INLINE void embbert_dsp_fir_4(int32_t *acc, const int16_t *line, const int16_t *weight, const int32_t taps)
{
#if EMBBERT_DSP
#define EMBBERT_SMLAD(c, a, b) __asm__("smlad %0, %1, %2, %0" : "+r"(c) : "r"(a), "r"(b))
    const embbert_word_t *s = (const embbert_word_t *)(const void *)line;
    const embbert_word_t *w = (const embbert_word_t *)(const void *)weight;
    int32_t c0 = acc[0], c1 = acc[1], c2 = acc[2], c3 = acc[3];
    int32_t even = w[1], sample = s[0], next;
    EMBBERT_SMLAD(c0, sample, even);
    int32_t odd = 0;
#pragma GCC unroll 32
    for (int32_t i = 0; i < taps / 2; i++) {
        next = s[i + 1];
        EMBBERT_SMLAD(c2, next, even);
        if (i > 0) {
            EMBBERT_SMLAD(c3, next, odd);
        }
        odd = w[2 * i];
        EMBBERT_SMLAD(c1, next, odd);
        even = w[2 * i + 3];
        EMBBERT_SMLAD(c0, next, even);
    }
    next = s[taps / 2 + 1];
    EMBBERT_SMLAD(c2, next, even);
    EMBBERT_SMLAD(c3, next, odd);
    acc[0] = c0, acc[1] = c1, acc[2] = c2, acc[3] = c3;
#undef EMBBERT_SMLAD
#else
    for (int32_t i = 0; i <= taps / 2; i++) {
        for (int32_t h = 0; h < 2; h++) {
            acc[0] += line[2 * i + h] * weight[4 * i + 2 + h];
            acc[2] += line[2 * i + 2 + h] * weight[4 * i + 2 + h];
            if (i < taps / 2) {
                acc[1] += line[2 * i + 2 + h] * weight[4 * i + h];
                acc[3] += line[2 * i + 4 + h] * weight[4 * i + h];
            }
        }
    }
#endif
}

#endif
