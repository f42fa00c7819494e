/* Micro-kernels for the DSP extension (SMLAD: two 16-bit products an instruction). Under #else of each stands its plain
 * C, which is its specification and what every other CPU runs.
 *
 * Layouts. A row-interleaved matrix (n / 2, k, 2) holds rows 2i and 2i + 1 side by side: the word at column k, even, is
 *     row 2i [k], row 2i + 1 [k], row 2i [k + 1], row 2i + 1 [k + 1]
 * of which SXTB16 takes two neighbours of the first row, and SXTB16 with ROR #8 two of the second.
 * A block operand (k / 2, 4, 2) holds four rows in 16 bits: for each pair of columns the four rows' pairs.
 *
 * Variants of the inner loops, of which kernels/choices.py knows the names: LDRD is fewer instructions; single loads
 * are fewer cycles where two instructions issue at once but LDRD does not (EMBBERT_DUAL_ISSUE); grouped, where a load
 * after a load takes a cycle but LDRD three (ARMv7E-M). The variants of the plain names are those chosen by hand.
 */
#ifndef EMBBERT_DSP_H
#define EMBBERT_DSP_H

#include <stdint.h>

#include "embbert_arithmetic.h"
#include "embbert_dsp_orders.h"

/* EMBBERT_MLA: Thumb-2 without the extension, a multiplication and addition an instruction, on the same tile. */
#if defined(__ARM_FEATURE_DSP) && defined(__thumb2__) && defined(__OPTIMIZE__)
#define EMBBERT_DSP 1
#define EMBBERT_MLA 0
#define EMBBERT_INLINE static inline __attribute__((always_inline))
/* Two samples of 16 bits, or four of 8, taken as one word. */
typedef int32_t embbert_word_t __attribute__((may_alias));
#elif !defined(__ARM_FEATURE_DSP) && defined(__thumb2__) && defined(__OPTIMIZE__)
#define EMBBERT_DSP 0
#define EMBBERT_MLA 1
#define EMBBERT_INLINE static inline __attribute__((always_inline))
#else
#define EMBBERT_DSP 0
#define EMBBERT_MLA 0
#define EMBBERT_INLINE static inline
#endif

#define EMBBERT_TILE_STORE(acc)                                                                                        \
    acc[0] = c0, acc[1] = c1, acc[2] = c2, acc[3] = c3, acc[4] = c4, acc[5] = c5, acc[6] = c6, acc[7] = c7;
/* In plain C: the tile's sums, and to them a column of four rows, two elements apart, times two weights. */
#define EMBBERT_TILE_LOCALS(acc)                                                                                       \
    int32_t c0 = acc[0], c1 = acc[1], c2 = acc[2], c3 = acc[3], c4 = acc[4], c5 = acc[5], c6 = acc[6], c7 = acc[7];
#define EMBBERT_TILE_COLUMN(a, v, w)                                                                                   \
    {                                                                                                                  \
        const int32_t first = (v), second = (w), r0 = (a)[0], r1 = (a)[2], r2 = (a)[4], r3 = (a)[6];                   \
        c0 += r0 * first, c1 += r0 * second, c2 += r1 * first, c3 += r1 * second;                                      \
        c4 += r2 * first, c5 += r2 * second, c6 += r3 * first, c7 += r3 * second;                                      \
    }
#define EMBBERT_TILE_PAIR(a, b)                                                                                        \
    EMBBERT_TILE_COLUMN(a, (b)[0], (b)[1])                                                                             \
    EMBBERT_IN_ORDER                                                                                                   \
    EMBBERT_TILE_COLUMN((a) + 1, (b)[2], (b)[3])                                                                       \
    EMBBERT_IN_ORDER
#define EMBBERT_TILE_ROWS(a, b)                                                                                        \
    EMBBERT_TILE_COLUMN(a, (b)[0], (b)[2])                                                                             \
    EMBBERT_IN_ORDER                                                                                                   \
    EMBBERT_TILE_COLUMN((a) + 1, (b)[1], (b)[3])                                                                       \
    EMBBERT_IN_ORDER
/* Keeps a compiler from loading more ahead than it has registers for. */
#ifdef __GNUC__
#define EMBBERT_IN_ORDER __asm__ volatile("" : : : "memory");
#else
#define EMBBERT_IN_ORDER
#endif

#if EMBBERT_DSP || EMBBERT_MLA

/* A tile needs fourteen registers, all that there are; a build that keeps a frame pointer has thirteen. So every
 * operand has its register, and R7, where the frame pointer would be, is put on the stack for the time, under the
 * address that ends the loop. */
#define EMBBERT_TILE_LOAD(acc)                                                                                         \
    register int32_t c0 __asm__("r0") = acc[0];                                                                        \
    register int32_t c1 __asm__("r1") = acc[1];                                                                        \
    register int32_t c2 __asm__("r2") = acc[2];                                                                        \
    register int32_t c3 __asm__("r3") = acc[3];                                                                        \
    register int32_t c4 __asm__("r4") = acc[4];                                                                        \
    register int32_t c5 __asm__("r5") = acc[5];                                                                        \
    register int32_t c6 __asm__("r6") = acc[6];                                                                        \
    register int32_t c7 __asm__("r8") = acc[7];
#define EMBBERT_TILE_OPERANDS "+r"(c0), "+r"(c1), "+r"(c2), "+r"(c3), "+r"(c4), "+r"(c5), "+r"(c6), "+r"(c7)
#endif

#if EMBBERT_MLA

/* Of four rows at LR a column at `at`, against the weights in R10 and R11; the last load is `last`. */
#define EMBBERT_MLA_ROW(x, y, load) load "mla " x ", r7, r10, " x "\n mla " y ", r7, r11, " y "\n"
#define EMBBERT_MLA_LOAD(at) "ldrsh r7, [lr, #" at "]\n"
#define EMBBERT_MLA_ROWS(at, last)                                                                                     \
    EMBBERT_MLA_ROW("r6", "r8", EMBBERT_MLA_LOAD(at "+12"))                                                            \
    EMBBERT_MLA_ROW("r4", "r5", EMBBERT_MLA_LOAD(at "+8"))                                                             \
    EMBBERT_MLA_ROW("r2", "r3", EMBBERT_MLA_LOAD(at "+4")) EMBBERT_MLA_ROW("r0", "r1", last)
/* A pair of columns at `at`, whose second column's weights lie at v and w, the first's where `first` says. */
#define EMBBERT_MLA_PAIR(at, v, w, first, last)                                                                        \
    "ldrsb r10, [r12, #" v "]\n ldrsb r11, [r12, #" w "]\n"                                                            \
    EMBBERT_MLA_ROWS(at "+2", EMBBERT_MLA_LOAD(at "+2")) first EMBBERT_MLA_ROWS(at, last)
#define EMBBERT_MLA_FIRST(v, w) "ldrsb r10, [r12, #" v "]\n ldrsb r11, [r12, #" w "]\n"
/* Pairs from the last to the first, whose last loads move the pointers on. */
#define EMBBERT_MLA_DOT_STEP(n)                                                                                        \
    EMBBERT_MLA_PAIR("16*" #n, "4*" #n "+2", "4*" #n "+3", EMBBERT_MLA_FIRST("4*" #n, "4*" #n "+1"),                   \
                     EMBBERT_MLA_LOAD("16*" #n))
#define EMBBERT_MLA_DOT_LAST(steps)                                                                                    \
    EMBBERT_MLA_PAIR("0", "2", "3", "ldrsb r11, [r12, #1]\n ldrsb r10, [r12], #4*" #steps "\n",                        \
                     "ldrsh r7, [lr], #16*" #steps "\n")
/* The same of two columns of a matrix whose pairs of rows lie `stride` bytes apart. */
#define EMBBERT_MLA_CONTEXT_STEP(n)                                                                                    \
    EMBBERT_MLA_PAIR("16*" #n, "%c[stride]*" #n "+1", "%c[stride]*" #n "+3",                                           \
                     EMBBERT_MLA_FIRST("%c[stride]*" #n, "%c[stride]*" #n "+2"), EMBBERT_MLA_LOAD("16*" #n))
#define EMBBERT_MLA_CONTEXT_LAST(steps)                                                                                \
    EMBBERT_MLA_PAIR("0", "1", "3", EMBBERT_MLA_FIRST("0", "2"), "ldrsh r7, [lr], #16*" #steps "\n")                   \
    "add r12, r12, #%c[stride]*" #steps "\n"
/* Steps until R12 is where R9 says. */
#define EMBBERT_MLA_LOOP(body) "push {r7}\n 1:\n" body "cmp r12, r9\n bne 1b\n pop {r7}\n"

#endif

#if EMBBERT_DSP

/* One of four rows, in x, against two columns, in v and w. */
#define EMBBERT_TILE_0(x, v, w) "smlad r0, " x ", " v ", r0\n smlad r1, " x ", " w ", r1\n"
#define EMBBERT_TILE_1(x, v, w) "smlad r2, " x ", " v ", r2\n smlad r3, " x ", " w ", r3\n"
#define EMBBERT_TILE_2(x, v, w) "smlad r4, " x ", " v ", r4\n smlad r5, " x ", " w ", r5\n"
#define EMBBERT_TILE_3(x, v, w) "smlad r6, " x ", " v ", r6\n smlad r8, " x ", " w ", r8\n"

/* A step for each of so many numbers from n. */
#define EMBBERT_TIMES_0(step, n)
#define EMBBERT_TIMES_1(step, n) step(n)
#define EMBBERT_TIMES_2(step, n) EMBBERT_TIMES_1(step, n) EMBBERT_TIMES_1(step, n + 1)
#define EMBBERT_TIMES_3(step, n) EMBBERT_TIMES_2(step, n) EMBBERT_TIMES_1(step, n + 2)
#define EMBBERT_TIMES_4(step, n) EMBBERT_TIMES_2(step, n) EMBBERT_TIMES_2(step, n + 2)
#define EMBBERT_TIMES_5(step, n) EMBBERT_TIMES_3(step, n) EMBBERT_TIMES_2(step, n + 3)
#define EMBBERT_TIMES_6(step, n) EMBBERT_TIMES_3(step, n) EMBBERT_TIMES_3(step, n + 3)
#define EMBBERT_TIMES_7(step, n) EMBBERT_TIMES_4(step, n) EMBBERT_TIMES_3(step, n + 4)
#define EMBBERT_TIMES_8(step, n) EMBBERT_TIMES_4(step, n) EMBBERT_TIMES_4(step, n + 4)
#define EMBBERT_TIMES_9(step, n) EMBBERT_TIMES_5(step, n) EMBBERT_TIMES_4(step, n + 5)
#define EMBBERT_TIMES_10(step, n) EMBBERT_TIMES_5(step, n) EMBBERT_TIMES_5(step, n + 5)
#define EMBBERT_TIMES_11(step, n) EMBBERT_TIMES_6(step, n) EMBBERT_TIMES_5(step, n + 6)
#define EMBBERT_TIMES_12(step, n) EMBBERT_TIMES_6(step, n) EMBBERT_TIMES_6(step, n + 6)
#define EMBBERT_TIMES_13(step, n) EMBBERT_TIMES_7(step, n) EMBBERT_TIMES_6(step, n + 7)
#define EMBBERT_TIMES_14(step, n) EMBBERT_TIMES_7(step, n) EMBBERT_TIMES_7(step, n + 7)
#define EMBBERT_TIMES_15(step, n) EMBBERT_TIMES_8(step, n) EMBBERT_TIMES_7(step, n + 8)
#define EMBBERT_TIMES_16(step, n) EMBBERT_TIMES_8(step, n) EMBBERT_TIMES_8(step, n + 8)
#define EMBBERT_TIMES_17(step, n) EMBBERT_TIMES_9(step, n) EMBBERT_TIMES_8(step, n + 9)
#define EMBBERT_TIMES_18(step, n) EMBBERT_TIMES_9(step, n) EMBBERT_TIMES_9(step, n + 9)
#define EMBBERT_TIMES_19(step, n) EMBBERT_TIMES_10(step, n) EMBBERT_TIMES_9(step, n + 10)
#define EMBBERT_TIMES_20(step, n) EMBBERT_TIMES_10(step, n) EMBBERT_TIMES_10(step, n + 10)
#define EMBBERT_TIMES_21(step, n) EMBBERT_TIMES_11(step, n) EMBBERT_TIMES_10(step, n + 11)
#define EMBBERT_TIMES_22(step, n) EMBBERT_TIMES_11(step, n) EMBBERT_TIMES_11(step, n + 11)
#define EMBBERT_TIMES_23(step, n) EMBBERT_TIMES_12(step, n) EMBBERT_TIMES_11(step, n + 12)
#define EMBBERT_TIMES_31(step, n) EMBBERT_TIMES_16(step, n) EMBBERT_TIMES_15(step, n + 16)

/* Four rows of the block operand at LR, two columns of the interleaved matrix at R12: the orders of
 * embbert_dsp_orders.h, and that with LDRD. R12, and LR with LDRD, start early by the offset of their first load, so
 * that the last load of all steps between two branches can move them on. `end` is where the last R12 lies. */
#define EMBBERT_DOT_SINGLE_EARLY 0
#define EMBBERT_DOT_GROUPED_EARLY 0
#define EMBBERT_DOT_RAW_SINGLE_EARLY 0
#define EMBBERT_DOT_RAW_GROUPED_EARLY 0
#define EMBBERT_DOT_KEYS_GROUPED_EARLY 0
#define EMBBERT_DOT_LDRD_START ""
#define EMBBERT_DOT_LDRD_EARLY 8
#define EMBBERT_DOT_LDRD(b, n, last)                                                                                   \
    "ldr r9, " b "\n ldrd r11, r7, [lr, #16*(" n ")+8]\n sxtb16 r10, r9, ror #8\n sxtb16 r9, r9\n"                     \
    EMBBERT_TILE_0("r11", "r9", "r10") EMBBERT_TILE_1("r7", "r9", "r10")                                               \
    "ldrd r11, r7, " last "\n" EMBBERT_TILE_2("r11", "r9", "r10") EMBBERT_TILE_3("r7", "r9", "r10")
#define EMBBERT_DOT_LDRD_STEP(n) EMBBERT_DOT_LDRD("[r12, #4*(" #n ")+4]", #n, "[lr, #16*(" #n ")+16]")
#define EMBBERT_DOT_LDRD_LAST(steps, end)                                                                              \
    EMBBERT_DOT_LDRD("[r12, #4*" #steps "]!", #steps "-1", "[lr, #16*" #steps "]!") "ldr r9, " end "\n cmp r12, r9\n"
#endif

/* acc (4, 2) += block operand a (pairs, 4, 2) . rows of one pair b (2 * pairs, 2), over their 2 * pairs columns, in
 * plain C: `rows` by `columns` sums at a time. rows divides 4, columns 2. */
EMBBERT_INLINE void embbert_dsp_dot_plain(int32_t *acc, const int16_t *a, const int8_t *b, int32_t pairs,
                                          const int32_t rows, const int32_t columns)
{
    for (int32_t at = 0; at < 4; at += rows) {
        for (int32_t from = 0; from < 2; from += columns) {
            for (int32_t p = 0; p < pairs; p++) {
                for (int32_t r = at; r < at + rows; r++) {
                    for (int32_t h = 0; h < 2; h++) {
                        for (int32_t c = from; c < from + columns; c++) {
                            acc[2 * r + c] += a[8 * p + 2 * r + h] * b[4 * p + 2 * h + c];
                        }
                    }
                }
            }
        }
    }
}

/* The same with SMLAD: `steps` pairs between two branches, loads as of `variant`. pairs is a multiple of `steps`. */
#if EMBBERT_DSP
#define EMBBERT_DSP_DOT(name, variant, steps, before)                                                                  \
    EMBBERT_INLINE void name(int32_t *acc, const int16_t *a, const int8_t *b, int32_t pairs)                           \
    {                                                                                                                  \
        register uintptr_t left __asm__("lr") = (uintptr_t)a - EMBBERT_DOT_##variant##_EARLY;                          \
        register uintptr_t right __asm__("r12") = (uintptr_t)b - 4;                                                    \
        register uintptr_t end __asm__("r9") = (uintptr_t)b - 4 + 4 * (uintptr_t)pairs;                                \
        EMBBERT_TILE_LOAD(acc)                                                                                         \
        __asm__ volatile("push {r7, r9}\n"                                                                             \
                         "1:\n" EMBBERT_DOT_##variant##_START before(EMBBERT_DOT_##variant##_STEP, 0)                  \
                         EMBBERT_DOT_##variant##_LAST(steps, "[sp, #4]") "bne 1b\n"                                    \
                         "pop {r7, r9}\n"                                                                              \
                         : EMBBERT_TILE_OPERANDS, "+r"(left), "+r"(right), "+r"(end)                                   \
                         :                                                                                             \
                         : "r10", "r11", "cc", "memory");                                                              \
        EMBBERT_TILE_STORE(acc)                                                                                        \
    }
#elif EMBBERT_MLA
#define EMBBERT_MLA_DOT(body)                                                                                          \
    __asm__ volatile(EMBBERT_MLA_LOOP(body)                                                                            \
                     : EMBBERT_TILE_OPERANDS, "+r"(left), "+r"(right)                                                  \
                     : "r"(end)                                                                                        \
                     : "r10", "r11", "cc", "memory")
#define EMBBERT_DSP_DOT(name, variant, steps, before)                                                                  \
    EMBBERT_INLINE void name(int32_t *acc, const int16_t *a, const int8_t *b, int32_t pairs)                           \
    {                                                                                                                  \
        register uintptr_t left __asm__("lr") = (uintptr_t)a;                                                          \
        register uintptr_t right __asm__("r12") = (uintptr_t)b;                                                        \
        register uintptr_t end __asm__("r9") = (uintptr_t)b + 4 * (uintptr_t)pairs;                                    \
        EMBBERT_TILE_LOAD(acc)                                                                                         \
        if (steps % 4 == 0) {                                                                                          \
            EMBBERT_MLA_DOT(EMBBERT_MLA_DOT_STEP(3) EMBBERT_MLA_DOT_STEP(2) EMBBERT_MLA_DOT_STEP(1)                    \
                                EMBBERT_MLA_DOT_LAST(4));                                                              \
        } else if (steps % 3 == 0) {                                                                                   \
            EMBBERT_MLA_DOT(EMBBERT_MLA_DOT_STEP(2) EMBBERT_MLA_DOT_STEP(1) EMBBERT_MLA_DOT_LAST(3));                  \
        } else if (steps % 2 == 0) {                                                                                   \
            EMBBERT_MLA_DOT(EMBBERT_MLA_DOT_STEP(1) EMBBERT_MLA_DOT_LAST(2));                                          \
        } else {                                                                                                       \
            EMBBERT_MLA_DOT(EMBBERT_MLA_DOT_LAST(1));                                                                  \
        }                                                                                                              \
        EMBBERT_TILE_STORE(acc)                                                                                        \
    }
#else
#define EMBBERT_DSP_DOT(name, variant, steps, before)                                                                  \
    EMBBERT_INLINE void name(int32_t *acc, const int16_t *a, const int8_t *b, int32_t pairs)                           \
    {                                                                                                                  \
        EMBBERT_TILE_LOCALS(acc)                                                                                       \
        const int8_t *const end = b + 4 * pairs;                                                                       \
        if (steps % 4 == 0) {                                                                                          \
            for (; b != end; a += 32, b += 16) {                                                                       \
                EMBBERT_TILE_PAIR(a, b) EMBBERT_TILE_PAIR(a + 8, b + 4)                                                \
                EMBBERT_TILE_PAIR(a + 16, b + 8) EMBBERT_TILE_PAIR(a + 24, b + 12)                                     \
            }                                                                                                          \
        } else {                                                                                                       \
            for (; b != end; a += 8, b += 4) {                                                                         \
                EMBBERT_TILE_PAIR(a, b)                                                                                \
            }                                                                                                          \
        }                                                                                                              \
        EMBBERT_TILE_STORE(acc)                                                                                        \
    }
#endif
EMBBERT_DSP_DOT(embbert_dsp_dot_single_4, SINGLE, 4, EMBBERT_TIMES_3)
EMBBERT_DSP_DOT(embbert_dsp_dot_single_8, SINGLE, 8, EMBBERT_TIMES_7)
EMBBERT_DSP_DOT(embbert_dsp_dot_single_16, SINGLE, 16, EMBBERT_TIMES_15)
EMBBERT_DSP_DOT(embbert_dsp_dot_single_32, SINGLE, 32, EMBBERT_TIMES_31)
EMBBERT_DSP_DOT(embbert_dsp_dot_grouped_4, GROUPED, 4, EMBBERT_TIMES_3)
EMBBERT_DSP_DOT(embbert_dsp_dot_grouped_8, GROUPED, 8, EMBBERT_TIMES_7)
EMBBERT_DSP_DOT(embbert_dsp_dot_grouped_16, GROUPED, 16, EMBBERT_TIMES_15)
EMBBERT_DSP_DOT(embbert_dsp_dot_grouped_32, GROUPED, 32, EMBBERT_TIMES_31)
EMBBERT_DSP_DOT(embbert_dsp_dot_ldrd_4, LDRD, 4, EMBBERT_TIMES_3)
EMBBERT_DSP_DOT(embbert_dsp_dot_ldrd_8, LDRD, 8, EMBBERT_TIMES_7)
EMBBERT_DSP_DOT(embbert_dsp_dot_ldrd_16, LDRD, 16, EMBBERT_TIMES_15)
EMBBERT_DSP_DOT(embbert_dsp_dot_ldrd_32, LDRD, 32, EMBBERT_TIMES_31)
#if EMBBERT_DUAL_ISSUE
#define EMBBERT_DOT_VARIANT SINGLE
#define EMBBERT_DOT_4X2_16 embbert_dsp_dot_single_16
#define EMBBERT_DOT_4X2_32 embbert_dsp_dot_single_32
#elif defined(__ARM_ARCH_7EM__)
#define EMBBERT_DOT_VARIANT GROUPED
#define EMBBERT_DOT_4X2_16 embbert_dsp_dot_grouped_16
#define EMBBERT_DOT_4X2_32 embbert_dsp_dot_grouped_32
#else
#define EMBBERT_DOT_VARIANT LDRD
#define EMBBERT_DOT_4X2_16 embbert_dsp_dot_ldrd_16
#define EMBBERT_DOT_4X2_32 embbert_dsp_dot_ldrd_32
#endif

/* The variant chosen by hand. pairs is a multiple of 16. */
EMBBERT_INLINE void embbert_dsp_dot_4x2(int32_t *acc, const int16_t *a, const int8_t *b, const int32_t pairs)
{
    if (pairs % 32 == 0) {
        EMBBERT_DOT_4X2_32(acc, a, b, pairs);
    } else {
        EMBBERT_DOT_4X2_16(acc, a, b, pairs);
    }
}

/* For other widths: as many pairs between two branches as divide them. */
#define EMBBERT_DSP_DOT_BY(name, steps, before) EMBBERT_DSP_DOT_OF(name, EMBBERT_DOT_VARIANT, steps, before)
#define EMBBERT_DSP_DOT_OF(name, variant, steps, before) EMBBERT_DSP_DOT(name, variant, steps, before)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_2, 2, EMBBERT_TIMES_1)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_3, 3, EMBBERT_TIMES_2)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_4, 4, EMBBERT_TIMES_3)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_5, 5, EMBBERT_TIMES_4)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_6, 6, EMBBERT_TIMES_5)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_7, 7, EMBBERT_TIMES_6)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_8, 8, EMBBERT_TIMES_7)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_9, 9, EMBBERT_TIMES_8)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_10, 10, EMBBERT_TIMES_9)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_11, 11, EMBBERT_TIMES_10)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_12, 12, EMBBERT_TIMES_11)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_13, 13, EMBBERT_TIMES_12)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_14, 14, EMBBERT_TIMES_13)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_15, 15, EMBBERT_TIMES_14)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_16, 16, EMBBERT_TIMES_15)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_17, 17, EMBBERT_TIMES_16)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_18, 18, EMBBERT_TIMES_17)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_19, 19, EMBBERT_TIMES_18)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_20, 20, EMBBERT_TIMES_19)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_21, 21, EMBBERT_TIMES_20)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_22, 22, EMBBERT_TIMES_21)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_23, 23, EMBBERT_TIMES_22)
EMBBERT_DSP_DOT_BY(embbert_dsp_dot_4x2_24, 24, EMBBERT_TIMES_23)

/* The same with b of raw words (kernels/raw_words.py), whose halfwords are 256 times the second row's weight and the
 * first's: one word less is widened. pairs is a multiple of 16 and at most 256; acc needs eight bits more than its
 * sums have: k * 2^7 * 2^7 * 2^8 fits. */
#if EMBBERT_DSP
/* 256 times a second sum, and a first: the second. */
#define EMBBERT_SECOND(both, first) ((int32_t)((uint32_t)(both) - (uint32_t)(first)) >> 8)
#define EMBBERT_DSP_RAW(name, variant, steps, before)                                                                  \
    EMBBERT_DSP_DOT(name##_sums, variant, steps, before)                                                               \
    EMBBERT_INLINE void name(int32_t *acc, const int16_t *a, const int8_t *b, int32_t pairs)                           \
    {                                                                                                                  \
        int32_t start[4];                                                                                              \
        for (int32_t r = 0; r < 4; r++) {                                                                              \
            start[r] = acc[2 * r + 1];                                                                                 \
            acc[2 * r + 1] = acc[2 * r];                                                                               \
        }                                                                                                              \
        name##_sums(acc, a, b, pairs);                                                                                 \
        for (int32_t r = 0; r < 4; r++) {                                                                              \
            acc[2 * r + 1] = start[r] + EMBBERT_SECOND(acc[2 * r + 1], acc[2 * r]);                                    \
        }                                                                                                              \
    }
/* A tile of two rows by two raw words at b and `next` bytes on: four loads in a group, 15 cycles for 16 multiplications
 * on M4, not 16. */
#define EMBBERT_DSP_2X4(name, variant, steps, before)                                                                  \
    EMBBERT_INLINE void name(int32_t *acc, const int16_t *a, const int8_t *b, const int32_t next, int32_t pairs)       \
    {                                                                                                                  \
        register uintptr_t left __asm__("lr") = (uintptr_t)a;                                                          \
        register uintptr_t right __asm__("r12") = (uintptr_t)b - 4;                                                    \
        register uintptr_t end __asm__("r9") = (uintptr_t)b - 4 + 4 * (uintptr_t)pairs;                                \
        EMBBERT_TILE_LOAD(acc)                                                                                         \
        __asm__ volatile("push {r7, r9}\n"                                                                             \
                         "1:\n" EMBBERT_DOT_##variant##_START before(EMBBERT_DOT_##variant##_STEP, 0)                  \
                         EMBBERT_DOT_##variant##_LAST(steps, "[sp, #4]") "bne 1b\n"                                    \
                         "pop {r7, r9}\n"                                                                              \
                         : EMBBERT_TILE_OPERANDS, "+r"(left), "+r"(right), "+r"(end)                                   \
                         : [next] "i"(next)                                                                            \
                         : "r10", "r11", "cc", "memory");                                                              \
        EMBBERT_TILE_STORE(acc)                                                                                        \
    }
EMBBERT_DSP_2X4(embbert_dsp_raw_2x4_16, RAW_2X4, 16, EMBBERT_TIMES_15)
EMBBERT_DSP_2X4(embbert_dsp_raw_2x4_32, RAW_2X4, 32, EMBBERT_TIMES_31)
/* A tile of two rows, where every SMLAD has a load beside it: 8 cycles for 16 multiplications on M7, not 9. */
#define EMBBERT_TWO_LOAD(w, x, y, z)                                                                                   \
    register int32_t c0 __asm__("r0") = w;                                                                             \
    register int32_t c1 __asm__("r1") = x;                                                                             \
    register int32_t c2 __asm__("r2") = y;                                                                             \
    register int32_t c3 __asm__("r3") = z;
#define EMBBERT_TWO_OPERANDS "+r"(c0), "+r"(c1), "+r"(c2), "+r"(c3)
#define EMBBERT_DSP_TWO_SUMS(variant, steps, before)                                                                   \
    register uintptr_t left __asm__("lr") = (uintptr_t)a;                                                              \
    register uintptr_t right __asm__("r12") = (uintptr_t)b - 4;                                                        \
    register uintptr_t end __asm__("r9") = (uintptr_t)b - 4 + 4 * (uintptr_t)pairs;                                    \
    __asm__ volatile("push {r7, r9}\n"                                                                                 \
                     "1:\n" EMBBERT_DOT_##variant##_START before(EMBBERT_DOT_##variant##_STEP, 0)                      \
                     EMBBERT_DOT_##variant##_LAST(steps, "[sp, #4]") "bne 1b\n"                                        \
                     "pop {r7, r9}\n"                                                                                  \
                     : EMBBERT_TWO_OPERANDS, "+r"(left), "+r"(right), "+r"(end)                                        \
                     :                                                                                                 \
                     : "r4", "r5", "r6", "r8", "r10", "r11", "cc", "memory");
#define EMBBERT_DSP_RAW_TWO(name, steps, before)                                                                       \
    EMBBERT_INLINE void name(int32_t *acc, const int16_t *a, const int8_t *b, int32_t pairs)                           \
    {                                                                                                                  \
        EMBBERT_TWO_LOAD(acc[0], acc[0], acc[2], acc[2])                                                               \
        EMBBERT_DSP_TWO_SUMS(RAW_TWO, steps, before)                                                                   \
        acc[0] = c0, acc[1] += EMBBERT_SECOND(c1, c0);                                                                 \
        acc[2] = c2, acc[3] += EMBBERT_SECOND(c3, c2);                                                                 \
    }
#else
/* Of `rows` rows by `columns` columns. */
EMBBERT_INLINE void embbert_dsp_raw_plain(int32_t *acc, const int16_t *a, const int8_t *b, int32_t pairs,
                                          const int32_t rows, const int32_t columns)
{
    for (int32_t c = 0; c < columns; c += 2, b += 4 * pairs) {
        for (int32_t p = 0; p < pairs; p++) {
            for (int32_t h = 0; h < 2; h++) {
                const int32_t first = b[4 * p + 2 * h], second = b[4 * p + 2 * h + 1] + (first < 0);
                for (int32_t r = 0; r < rows; r++) {
                    const int32_t left = a[8 * p + 2 * r + h];
                    acc[columns * r + c] += left * first;
                    acc[columns * r + c + 1] += left * second;
                }
            }
        }
    }
}
#define EMBBERT_DSP_RAW(name, variant, steps, before)                                                                  \
    EMBBERT_INLINE void name(int32_t *acc, const int16_t *a, const int8_t *b, int32_t pairs)                           \
    {                                                                                                                  \
        embbert_dsp_raw_plain(acc, a, b, pairs, 4, 2);                                                                    \
    }
#define EMBBERT_DSP_RAW_TWO(name, steps, before)                                                                       \
    EMBBERT_INLINE void name(int32_t *acc, const int16_t *a, const int8_t *b, int32_t pairs)                           \
    {                                                                                                                  \
        embbert_dsp_raw_plain(acc, a, b, pairs, 2, 2);                                                                    \
    }
#endif
EMBBERT_DSP_RAW(embbert_dsp_dot_raw_single_16, RAW_SINGLE, 16, EMBBERT_TIMES_15)
EMBBERT_DSP_RAW(embbert_dsp_dot_raw_single_32, RAW_SINGLE, 32, EMBBERT_TIMES_31)
EMBBERT_DSP_RAW(embbert_dsp_dot_raw_grouped_16, RAW_GROUPED, 16, EMBBERT_TIMES_15)
EMBBERT_DSP_RAW(embbert_dsp_dot_raw_grouped_32, RAW_GROUPED, 32, EMBBERT_TIMES_31)
EMBBERT_DSP_RAW_TWO(embbert_dsp_raw_two_16, 8, EMBBERT_TIMES_7)
EMBBERT_DSP_RAW_TWO(embbert_dsp_raw_two_32, 16, EMBBERT_TIMES_15)
#if EMBBERT_DUAL_ISSUE
#define EMBBERT_DOT_RAW_16 embbert_dsp_dot_raw_single_16
#define EMBBERT_DOT_RAW_32 embbert_dsp_dot_raw_single_32
#else
#define EMBBERT_DOT_RAW_16 embbert_dsp_dot_raw_grouped_16
#define EMBBERT_DOT_RAW_32 embbert_dsp_dot_raw_grouped_32
#endif

/* The variant chosen by hand. */
EMBBERT_INLINE void embbert_dsp_dot_raw(int32_t *acc, const int16_t *a, const int8_t *b, const int32_t pairs)
{
    if (pairs % 32 == 0) {
        EMBBERT_DOT_RAW_32(acc, a, b, pairs);
    } else {
        EMBBERT_DOT_RAW_16(acc, a, b, pairs);
    }
}

/* The same of two rows of a block: acc (2, 2). */
EMBBERT_INLINE void embbert_dsp_dot_raw_2x2(int32_t *acc, const int16_t *a, const int8_t *b, const int32_t pairs)
{
    if (pairs % 32 == 0) {
        embbert_dsp_raw_two_32(acc, a, b, pairs);
    } else {
        embbert_dsp_raw_two_16(acc, a, b, pairs);
    }
}

/* And of two rows by four columns, two pairs of rows of weights one after the other: acc (2, 4). */
EMBBERT_INLINE void embbert_dsp_dot_raw_2x4(int32_t *acc, const int16_t *a, const int8_t *b, const int32_t pairs)
{
#if EMBBERT_DSP
    int32_t sums[8] = {acc[0], acc[0], acc[2], acc[2], acc[4], acc[4], acc[6], acc[6]};
    if (pairs % 32 == 0) {
        embbert_dsp_raw_2x4_32(sums, a, b, 4 * pairs, pairs);
    } else {
        embbert_dsp_raw_2x4_16(sums, a, b, 4 * pairs, pairs);
    }
    for (int32_t i = 0; i < 8; i += 2) {
        acc[i] = sums[i], acc[i + 1] += EMBBERT_SECOND(sums[i + 1], sums[i]);
    }
#else
    embbert_dsp_raw_plain(acc, a, b, pairs, 2, 4);
#endif
}

/* Two neighbours of a row of a block operand. out is aligned to words. */
EMBBERT_INLINE void embbert_dsp_store(int16_t *out, int32_t x, int32_t y)
{
#if EMBBERT_DSP
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(x) : "r"(x), "r"(y));
    *(embbert_word_t *)(void *)out = x;
#else
    out[0] = (int16_t)x, out[1] = (int16_t)y;
#endif
}

/* In offset binary and back: the first row of each pair of the interleaved matrix y (pairs, width, 2) plus 128, without
 * a sign. width is even; y is aligned to words. */
static inline void embbert_dsp_offset(int8_t *y, int32_t pairs, int32_t width)
{
#if EMBBERT_DSP
    embbert_word_t *word = (embbert_word_t *)(void *)y;
#pragma GCC unroll 8
    for (int32_t i = 0; i < pairs * (width / 2); i++) {
        word[i] ^= 0x00800080;
    }
#else
    for (int32_t i = 0; i < 2 * pairs * width; i += 2) {
        y[i] = (int8_t)(y[i] ^ -128);
    }
#endif
}

/* The scores (4, 2) of a block operand a (pairs, 4, 2) and a pair of keys in offset binary b (2 * pairs, 2), from
 * start[r], which takes back what 128 more adds to the first. pairs is a multiple of 16 and at most 256. */
#if EMBBERT_DSP
#if EMBBERT_DUAL_ISSUE
#define EMBBERT_DSP_KEYS(name, steps, before)                                                                          \
    EMBBERT_INLINE void name##_two(int32_t *scores, const int32_t *start, const int16_t *a, const int8_t *b,           \
                                   int32_t pairs)                                                                      \
    {                                                                                                                  \
        EMBBERT_TWO_LOAD(start[0], start[0], start[1], start[1])                                                       \
        EMBBERT_DSP_TWO_SUMS(KEYS_TWO, steps / 2, before)                                                              \
        scores[0] = c0, scores[1] = EMBBERT_SECOND(c1, c0);                                                            \
        scores[2] = c2, scores[3] = EMBBERT_SECOND(c3, c2);                                                            \
    }                                                                                                                  \
    EMBBERT_INLINE void name(int32_t *scores, const int32_t *start, const int16_t *a, const int8_t *b, int32_t pairs)  \
    {                                                                                                                  \
        name##_two(scores, start, a, b, pairs);                                                                        \
        name##_two(scores + 4, start + 2, a + 4, b, pairs);                                                            \
    }
EMBBERT_DSP_KEYS(embbert_dsp_keys_16, 16, EMBBERT_TIMES_7)
EMBBERT_DSP_KEYS(embbert_dsp_keys_32, 32, EMBBERT_TIMES_15)
#else
EMBBERT_DSP_2X4(embbert_dsp_keys_2x4_16, KEYS_2X4, 16, EMBBERT_TIMES_15)
EMBBERT_DSP_2X4(embbert_dsp_keys_2x4_32, KEYS_2X4, 32, EMBBERT_TIMES_31)
/* Of two pairs of keys, `stride` bytes apart. */
EMBBERT_INLINE void embbert_dsp_keys_two_pairs(int32_t *scores, const int32_t *start, const int16_t *a, const int8_t *b,
                                               const int32_t stride, const int32_t pairs)
{
    for (int32_t r = 0; r < 4; r += 2, scores += 4, a += 4) {
        const int32_t s = start[r], t = start[r + 1];
        int32_t acc[8] = {s, s, s, s, t, t, t, t};
        if (pairs % 32 == 0) {
            embbert_dsp_keys_2x4_32(acc, a, b, stride, pairs);
        } else {
            embbert_dsp_keys_2x4_16(acc, a, b, stride, pairs);
        }
        for (int32_t i = 0; i < 8; i += 2) {
            int32_t *const at = scores + i / 4 * 2 + i % 4 / 2 * 8;
            at[0] = acc[i], at[1] = EMBBERT_SECOND(acc[i + 1], acc[i]);
        }
    }
}
#endif
#endif

/* scores (pairs, 4, 2) = block operand a (k / 2, 4, 2) . the rows of keys in offset binary, pairs `stride` bytes apart,
 * over their first k columns, k a multiple of 32 and at most 512. pairs is even but where two instructions issue at
 * once. */
EMBBERT_INLINE void embbert_dsp_scores(int32_t *scores, const int16_t *a, const int8_t *keys, int32_t pairs,
                                       const int32_t stride, const int32_t k)
{
#if EMBBERT_DSP
    int32_t start[4] = {0, 0, 0, 0};
    for (int32_t i = 0; i < 8 * (k / 2); i += 8) {
        for (int32_t r = 0; r < 4; r++) {
            const int32_t both = *(const embbert_word_t *)(const void *)(a + i + 2 * r);
            __asm__("smlad %0, %1, %2, %0" : "+r"(start[r]) : "r"(both), "r"(0x00010001));
        }
    }
    for (int32_t r = 0; r < 4; r++) {
        start[r] *= -128;
    }
#if EMBBERT_DUAL_ISSUE
    for (int32_t p = 0; p < pairs; p++, scores += 8, keys += stride) {
        if (k % 64 == 0) {
            embbert_dsp_keys_32(scores, start, a, keys, k / 2);
        } else {
            embbert_dsp_keys_16(scores, start, a, keys, k / 2);
        }
    }
#else
    for (int32_t p = 0; p < pairs; p += 2, scores += 16, keys += 2 * stride) {
        embbert_dsp_keys_two_pairs(scores, start, a, keys, stride, k / 2);
    }
#endif
#else
    for (int32_t p = 0; p < pairs; p++, scores += 8, keys += stride) {
        for (int32_t i = 0; i < 8; i++) {
            scores[i] = 0;
            for (int32_t j = 0; j < k; j++) {
                const int32_t key = i % 2 ? keys[2 * j + 1] : (int8_t)(keys[2 * j] ^ -128);
                scores[i] += a[j / 2 * 8 + i / 2 * 2 + j % 2] * key;
            }
        }
    }
#endif
}

/* t (width / 2, pairs, 2, 2) of the interleaved matrix y (pairs, width, 2): of two columns, one after the other, a
 * row's two values side by side. width is even; both are aligned to words. */
static inline void embbert_dsp_transpose(int8_t *t, const int8_t *y, int32_t pairs, int32_t width)
{
#if EMBBERT_DSP
    const embbert_word_t *from = (const embbert_word_t *)(const void *)y;
    embbert_word_t *to = (embbert_word_t *)(void *)t;
    for (int32_t p = 0; p < pairs; p++, to++) {
        embbert_word_t *out = to;
        for (int32_t j = 0; j < width / 2; j++, out += pairs) {
            /* The two bytes in the middle change places. */
            const uint32_t word = (uint32_t)*from++;
            *out = (int32_t)((word & 0xFF0000FFu) | (word >> 8 & 0xFF00u) | (word << 8 & 0xFF0000u));
        }
    }
#else
    for (int32_t p = 0; p < pairs; p++) {
        for (int32_t c = 0; c < width; c++) {
            for (int32_t h = 0; h < 2; h++) {
                t[((c / 2 * pairs + p) * 2 + h) * 2 + c % 2] = y[(p * width + c) * 2 + h];
            }
        }
    }
#endif
}

/* embbert_dsp_context_4x2 of two columns of a matrix that lies transposed, b (pairs, 2, 2): a dot, whose words lie
 * together. pairs is even. */
#if EMBBERT_DSP
#define EMBBERT_DSP_TRANSPOSED(name, variant)                                                                          \
    EMBBERT_INLINE void name(int32_t *acc, const int16_t *a, const int8_t *b, int32_t pairs)                           \
    {                                                                                                                  \
        register uintptr_t left __asm__("lr") = (uintptr_t)a - EMBBERT_DOT_##variant##_EARLY;                          \
        register uintptr_t right __asm__("r12") = (uintptr_t)b - 4;                                                    \
        register uintptr_t end __asm__("r9") = (uintptr_t)b - 4 + 4 * (uintptr_t)pairs;                                \
        register uintptr_t most __asm__("r10") = (uintptr_t)b - 4 + 4 * (uintptr_t)(pairs & ~7);                       \
        EMBBERT_TILE_LOAD(acc)                                                                                         \
        __asm__ volatile("push {r7, r9, r10}\n cmp r12, r10\n beq 2f\n"                                                \
                         "1:\n" EMBBERT_DOT_##variant##_START EMBBERT_TIMES_7(EMBBERT_DOT_##variant##_STEP, 0)         \
                         EMBBERT_DOT_##variant##_LAST(8, "[sp, #8]") "bne 1b\n"                                        \
                         "2:\n ldr r9, [sp, #4]\n cmp r12, r9\n beq 4f\n"                                              \
                         "3:\n" EMBBERT_DOT_##variant##_START EMBBERT_TIMES_1(EMBBERT_DOT_##variant##_STEP, 0)         \
                         EMBBERT_DOT_##variant##_LAST(2, "[sp, #4]") "bne 3b\n"                                        \
                         "4:\n pop {r7, r9, r10}\n"                                                                    \
                         : EMBBERT_TILE_OPERANDS, "+r"(left), "+r"(right), "+r"(end), "+r"(most)                       \
                         :                                                                                             \
                         : "r11", "cc", "memory");                                                                     \
        EMBBERT_TILE_STORE(acc)                                                                                        \
    }
#if EMBBERT_DUAL_ISSUE
EMBBERT_DSP_TRANSPOSED(embbert_dsp_context_transposed, SINGLE)
#elif defined(__ARM_ARCH_7EM__)
EMBBERT_DSP_TRANSPOSED(embbert_dsp_context_transposed, GROUPED)
#else
EMBBERT_DSP_TRANSPOSED(embbert_dsp_context_transposed, LDRD)
#endif
#else
EMBBERT_INLINE void embbert_dsp_context_transposed(int32_t *acc, const int16_t *a, const int8_t *b, int32_t pairs)
{
    embbert_dsp_dot_plain(acc, a, b, pairs, 4, 2);
}
#endif

#if EMBBERT_DSP
/* From the word of two rows and two columns at R12 to the two columns' pairs of rows, in R10 and R9. */
#define EMBBERT_COLUMN_PAIRS(n)                                                                                        \
    "ldr r7, [r12, %[stride]*(" #n ")]\n sxtb16 r9, r7, ror #8\n sxtb16 r7, r7\n"                                      \
    "pkhbt r10, r7, r9, lsl #16\n pkhtb r9, r9, r7, asr #16\n"
#define EMBBERT_CONTEXT_LDRD_START ""
#define EMBBERT_CONTEXT_LDRD_STEP(n)                                                                                   \
    EMBBERT_COLUMN_PAIRS(n)                                                                                            \
    "ldrd r7, r11, [lr, #16*(" #n ")]\n" EMBBERT_TILE_0("r7", "r10", "r9") EMBBERT_TILE_1("r11", "r10", "r9")          \
    "ldrd r7, r11, [lr, #16*(" #n ")+8]\n" EMBBERT_TILE_2("r7", "r10", "r9") EMBBERT_TILE_3("r11", "r10", "r9")
#define EMBBERT_CONTEXT_LDRD_LAST(steps, end)                                                                          \
    EMBBERT_CONTEXT_LDRD_STEP(steps-1)                                                                                 \
    "add r12, r12, %[stride]*" #steps "\n add lr, lr, #16*" #steps "\n ldr r9, " end "\n cmp r12, r9\n"
#endif

/* acc (4, 2) += block operand a (pairs, 4, 2) . columns 0 and 1 of the interleaved matrix b (pairs, stride / 2, 2),
 * over its 2 * pairs rows. `steps` pairs between two branches as long as there are so many, then two, loads as of
 * `variant`. stride is in bytes, a constant, and at most 4096 / steps. */
#if EMBBERT_DSP
#define EMBBERT_DSP_CONTEXT(name, variant, steps, before)                                                              \
    EMBBERT_INLINE void name(int32_t *acc, const int16_t *a, const int8_t *b, const int32_t stride, int32_t pairs)     \
    {                                                                                                                  \
        register uintptr_t left __asm__("lr") = (uintptr_t)a;                                                          \
        register uintptr_t right __asm__("r12") = (uintptr_t)b;                                                        \
        register uintptr_t end __asm__("r9") = (uintptr_t)(b + stride * pairs);                                        \
        register uintptr_t most __asm__("r10") = (uintptr_t)(b + stride * (pairs & ~(steps - 1)));                     \
        register uintptr_t even __asm__("r11") = (uintptr_t)(b + stride * (pairs & ~1));                               \
        EMBBERT_TILE_LOAD(acc)                                                                                         \
        __asm__ volatile("push {r7, r9, r10, r11}\n cmp r12, r10\n beq 2f\n"                                           \
                         "1:\n" EMBBERT_CONTEXT_##variant##_START before(EMBBERT_CONTEXT_##variant##_STEP, 0)          \
                         EMBBERT_CONTEXT_##variant##_LAST(steps, "[sp, #8]") "bne 1b\n"                                \
                         "2:\n ldr r9, [sp, #12]\n cmp r12, r9\n beq 4f\n"                                             \
                         "3:\n" EMBBERT_CONTEXT_##variant##_START EMBBERT_TIMES_1(EMBBERT_CONTEXT_##variant##_STEP, 0) \
                         EMBBERT_CONTEXT_##variant##_LAST(2, "[sp, #12]") "bne 3b\n"                                   \
                         "4:\n ldr r9, [sp, #4]\n cmp r12, r9\n beq 5f\n"                                              \
                         EMBBERT_CONTEXT_##variant##_START EMBBERT_CONTEXT_##variant##_LAST(1, "[sp, #4]")             \
                         "5:\n pop {r7, r9, r10, r11}\n"                                                               \
                         : EMBBERT_TILE_OPERANDS, "+r"(left), "+r"(right), "+r"(end), "+r"(most), "+r"(even)           \
                         : [stride] "i"(stride)                                                                        \
                         : "cc", "memory");                                                                            \
        EMBBERT_TILE_STORE(acc)                                                                                        \
    }
#elif EMBBERT_MLA
#define EMBBERT_MLA_CONTEXT(body)                                                                                      \
    __asm__ volatile(EMBBERT_MLA_LOOP(body)                                                                            \
                     : EMBBERT_TILE_OPERANDS, "+r"(left), "+r"(right)                                                  \
                     : "r"(end), [stride] "i"(stride)                                                                  \
                     : "r10", "r11", "cc", "memory")
#define EMBBERT_DSP_CONTEXT(name, variant, steps, before)                                                              \
    EMBBERT_INLINE void name(int32_t *acc, const int16_t *a, const int8_t *b, const int32_t stride, int32_t pairs)     \
    {                                                                                                                  \
        register uintptr_t left __asm__("lr") = (uintptr_t)a;                                                          \
        register uintptr_t right __asm__("r12") = (uintptr_t)b;                                                        \
        register uintptr_t end __asm__("r9") = (uintptr_t)b + (uintptr_t)(stride * (pairs & ~1));                      \
        EMBBERT_TILE_LOAD(acc)                                                                                         \
        if (pairs > 1) {                                                                                               \
            EMBBERT_MLA_CONTEXT(EMBBERT_MLA_CONTEXT_STEP(1) EMBBERT_MLA_CONTEXT_LAST(2));                              \
        }                                                                                                              \
        if (pairs & 1) {                                                                                               \
            end = right + (uintptr_t)stride;                                                                           \
            EMBBERT_MLA_CONTEXT(EMBBERT_MLA_CONTEXT_LAST(1));                                                          \
        }                                                                                                              \
        EMBBERT_TILE_STORE(acc)                                                                                        \
    }
#else
#define EMBBERT_DSP_CONTEXT(name, variant, steps, before)                                                              \
    EMBBERT_INLINE void name(int32_t *acc, const int16_t *a, const int8_t *b, const int32_t stride, int32_t pairs)     \
    {                                                                                                                  \
        EMBBERT_TILE_LOCALS(acc)                                                                                       \
        const int8_t *const end = b + (pairs & ~1) * stride;                                                           \
        for (; b != end; a += 16, b += 2 * stride) {                                                                   \
            EMBBERT_TILE_ROWS(a, b) EMBBERT_TILE_ROWS(a + 8, b + stride)                                               \
        }                                                                                                              \
        if (pairs & 1) {                                                                                               \
            EMBBERT_TILE_ROWS(a, b)                                                                                    \
        }                                                                                                              \
        EMBBERT_TILE_STORE(acc)                                                                                        \
    }
#endif
EMBBERT_DSP_CONTEXT(embbert_dsp_context_single_2, SINGLE, 2, EMBBERT_TIMES_1)
EMBBERT_DSP_CONTEXT(embbert_dsp_context_single_4, SINGLE, 4, EMBBERT_TIMES_3)
EMBBERT_DSP_CONTEXT(embbert_dsp_context_single_8, SINGLE, 8, EMBBERT_TIMES_7)
EMBBERT_DSP_CONTEXT(embbert_dsp_context_ldrd_2, LDRD, 2, EMBBERT_TIMES_1)
EMBBERT_DSP_CONTEXT(embbert_dsp_context_ldrd_4, LDRD, 4, EMBBERT_TIMES_3)
EMBBERT_DSP_CONTEXT(embbert_dsp_context_ldrd_8, LDRD, 8, EMBBERT_TIMES_7)
#if EMBBERT_DUAL_ISSUE
#define EMBBERT_CONTEXT_4X2_2 embbert_dsp_context_single_2
#define EMBBERT_CONTEXT_4X2_4 embbert_dsp_context_single_4
#define EMBBERT_CONTEXT_4X2_8 embbert_dsp_context_single_8
#else
#define EMBBERT_CONTEXT_4X2_2 embbert_dsp_context_ldrd_2
#define EMBBERT_CONTEXT_4X2_4 embbert_dsp_context_ldrd_4
#define EMBBERT_CONTEXT_4X2_8 embbert_dsp_context_ldrd_8
#endif

/* The variant chosen by hand. stride is at most 2048. */
EMBBERT_INLINE void embbert_dsp_context_4x2(int32_t *acc, const int16_t *a, const int8_t *b, const int32_t stride,
                                            int32_t pairs)
{
    if (stride <= 512) {
        EMBBERT_CONTEXT_4X2_8(acc, a, b, stride, pairs);
    } else if (stride <= 1024) {
        EMBBERT_CONTEXT_4X2_4(acc, a, b, stride, pairs);
    } else {
        EMBBERT_CONTEXT_4X2_2(acc, a, b, stride, pairs);
    }
}

/* Of a tile the sums of weights . two columns of values, from the pairs of rows at R12 on to `end`: `steps` fours, pairs of
 * pairs, between two branches as long as there are so many. A halfword multiplies by the second row's weight, its
 * first row again by what is then missing: both give 256 times the sum. */
#if EMBBERT_DSP
#define EMBBERT_VALUES_LOOP(variant, steps, before)                                                                    \
    "push {r7, r9, r10}\n cmp r12, r10\n beq 2f\n"                                                                     \
    "1:\n" EMBBERT_VALUES_##variant##_START before(EMBBERT_VALUES_##variant##_STEP, 0)                                 \
    EMBBERT_VALUES_##variant##_LAST(steps, "[sp, #8]") "bne 1b\n"                                                      \
    "2:\n ldr r9, [sp, #4]\n cmp r12, r9\n beq 4f\n"                                                                   \
    "3:\n" EMBBERT_VALUES_##variant##_START EMBBERT_VALUES_##variant##_LAST(1, "[sp, #4]") "bne 3b\n"                  \
    "4:\n pop {r7, r9, r10}\n"
#define EMBBERT_VALUES_PLACES(steps)                                                                                   \
    register uintptr_t left __asm__("lr") = (uintptr_t)a;                                                              \
    register uintptr_t right __asm__("r12") = (uintptr_t)b;                                                            \
    register uintptr_t end __asm__("r9") = (uintptr_t)(b + 2 * stride * fours);                                        \
    register uintptr_t most __asm__("r10") = (uintptr_t)(b + 2 * stride * (fours & ~(steps - 1)));
/* Two sums of a row, scaled and narrowed. */
EMBBERT_INLINE void embbert_dsp_values_store(int16_t *out, int32_t x, int32_t y, int32_t factor)
{
    embbert_dsp_store(out, saturate_i8(multiply_high(x, factor)), saturate_i8(multiply_high(y, factor)));
}
/* 256 times the sums of a tile, from 256 times `start` of each row: EMBBERT_VALUES_EACH row r with its sums x and y. The
 * array of starts comes before what lies in registers: with -Og GCC calls memset for it, which would overwrite them. */
#if EMBBERT_DUAL_ISSUE
#define EMBBERT_VALUES_ROWS 2
#define EMBBERT_VALUES_TILE(steps, times, start)                                                                       \
    EMBBERT_VALUES_PLACES(steps)                                                                                       \
    EMBBERT_TWO_LOAD(start(0), start(0), start(1), start(1))                                                           \
    __asm__ volatile(EMBBERT_VALUES_LOOP(TWO, steps, times)                                                            \
                     : EMBBERT_TWO_OPERANDS, "+r"(left), "+r"(right), "+r"(end), "+r"(most)                            \
                     : [stride] "i"(stride)                                                                            \
                     : "r4", "r5", "r6", "r8", "r11", "cc", "memory");
#define EMBBERT_VALUES_EACH(each) each(0, c0, c1) each(1, c2, c3)
#else
#define EMBBERT_VALUES_ROWS 4
#define EMBBERT_VALUES_TILE(steps, times, start)                                                                       \
    const int32_t starts[8] = {start(0), start(0), start(1), start(1), start(2), start(2), start(3), start(3)};        \
    EMBBERT_VALUES_PLACES(steps)                                                                                       \
    EMBBERT_TILE_LOAD(starts)                                                                                          \
    __asm__ volatile(EMBBERT_VALUES_LOOP(GROUPED, steps, times)                                                        \
                     : EMBBERT_TILE_OPERANDS, "+r"(left), "+r"(right), "+r"(end), "+r"(most)                           \
                     : [stride] "i"(stride)                                                                            \
                     : "r11", "cc", "memory");
#define EMBBERT_VALUES_EACH(each) each(0, c0, c1) each(1, c2, c3) each(2, c4, c5) each(3, c6, c7)
#endif
/* Fours of rows a part, at most 64, so that sums fit 24 bits. From a column pair to the next 96 rows, 24 fours, stay in a
 * cache of 16 KB and four ways; tightly coupled memory wants few parts. */
#ifndef EMBBERT_VALUES_FOURS
#define EMBBERT_VALUES_FOURS (EMBBERT_DUAL_ISSUE ? 32 : 64)
#endif
#define EMBBERT_VALUES_BY_STRIDE(start, each)                                                                          \
    if (stride <= 256) {                                                                                               \
        EMBBERT_VALUES_TILE(8, EMBBERT_TIMES_7, start) EMBBERT_VALUES_EACH(each)                                       \
    } else if (stride <= 512) {                                                                                        \
        EMBBERT_VALUES_TILE(4, EMBBERT_TIMES_3, start) EMBBERT_VALUES_EACH(each)                                       \
    } else {                                                                                                           \
        EMBBERT_VALUES_TILE(1, EMBBERT_TIMES_0, start) EMBBERT_VALUES_EACH(each)                                       \
    }
/* The context of EMBBERT_VALUES_ROWS rows where one part of the rows of values is all. */
EMBBERT_INLINE void embbert_dsp_values_all(int16_t *out, const int16_t *a, const int8_t *b, const int32_t *factor,
                                           int32_t fours, const int32_t stride, const int32_t width)
{
    for (int32_t j = 0; j < width / 2; j++, out += 8, b += 4) {
#define EMBBERT_VALUES_START(r) factor[4 + r] * 256
#define EMBBERT_VALUES_ROW(r, x, y) embbert_dsp_values_store(out + 2 * r, x >> 8, y >> 8, factor[r]);
        EMBBERT_VALUES_BY_STRIDE(EMBBERT_VALUES_START, EMBBERT_VALUES_ROW)
    }
}
/* What a part adds to sums. */
EMBBERT_INLINE void embbert_dsp_values_part(int32_t *sums, const int16_t *a, const int8_t *b, int32_t fours,
                                            const int32_t stride, const int32_t width)
{
    for (int32_t j = 0; j < width / 2; j++, sums += 8, b += 4) {
#define EMBBERT_VALUES_NONE(r) 0
#define EMBBERT_VALUES_ADD(r, x, y) sums[2 * r] += x >> 8, sums[2 * r + 1] += y >> 8;
        EMBBERT_VALUES_BY_STRIDE(EMBBERT_VALUES_NONE, EMBBERT_VALUES_ADD)
    }
}
#endif

/* The context out (width / 2, 4, 2) of four rows: the sums of weights . columns of values in offset binary, pairs of
 * rows `stride` bytes apart, each plus factor[4 + r], scaled by factor[r] and narrowed to eight bits. weights (fours, 2,
 * 4, 2), of four weights w of a row: w[1] and w[3]; then 256 w[0] - w[1] and 256 w[2] - w[3]. sums (width / 2, 4, 2):
 * to work in. stride is a constant of at most 2048. */
EMBBERT_INLINE void embbert_dsp_values(int16_t *out, int32_t *sums, const int16_t *weights, const int8_t *values,
                                       const int32_t *factor, int32_t fours, const int32_t stride, const int32_t width)
{
#if EMBBERT_DSP
    if (fours <= EMBBERT_VALUES_FOURS) {
        for (int32_t r = 0; r < 4; r += EMBBERT_VALUES_ROWS) {
            embbert_dsp_values_all(out + 2 * r, weights + 2 * r, values, factor + r, fours, stride, width);
        }
        return;
    }
    for (int32_t r = 0; r < 4; r++) {
        const int32_t start = factor[4 + r];
        for (int32_t i = 2 * r; i < 4 * width; i += 8) {
            sums[i] = start, sums[i + 1] = start;
        }
    }
    /* The last rows first: the scores have just read them, so that a cache has some still. */
    for (int32_t first = (fours - 1) / EMBBERT_VALUES_FOURS * EMBBERT_VALUES_FOURS; first >= 0;
         first -= EMBBERT_VALUES_FOURS) {
        const int32_t left = fours - first, many = left < EMBBERT_VALUES_FOURS ? left : EMBBERT_VALUES_FOURS;
        for (int32_t r = 0; r < 4; r += EMBBERT_VALUES_ROWS) {
            embbert_dsp_values_part(sums + 2 * r, weights + 16 * first + 2 * r, values + 2 * stride * first, many,
                                    stride, width);
        }
    }
    for (int32_t r = 0; r < 4; r++) {
        const int32_t by = factor[r];
#pragma GCC unroll 2
        for (int32_t i = 2 * r; i < 4 * width; i += 8) {
            embbert_dsp_values_store(out + i, sums[i], sums[i + 1], by);
        }
    }
#else
    (void)sums;
    for (int32_t i = 0; i < 4 * width; i++) {
        const int32_t r = i / 2 % 4, column = i / 8 * 2 + i % 2;
        int32_t sum = factor[4 + r];
        for (int32_t p = 0; p < 2 * fours; p++) {
            const int16_t *const w = weights + p / 2 * 16 + 2 * r + p % 2;
            const int8_t *const y = values + p * stride + 2 * column;
            sum += w[0] * y[1] + (w[8] + w[0]) / 256 * (uint8_t)y[0];
        }
        out[i] = (int16_t)saturate_i8(multiply_high(sum, factor[r]));
    }
#endif
}

/* The same in plain C, `rows` by `columns` sums at a time. rows divides 4, columns 2. */
EMBBERT_INLINE void embbert_dsp_context_plain(int32_t *acc, const int16_t *a, const int8_t *b, const int32_t stride,
                                              int32_t pairs, const int32_t rows, const int32_t columns)
{
    for (int32_t at = 0; at < 4; at += rows) {
        for (int32_t from = 0; from < 2; from += columns) {
            for (int32_t p = 0; p < pairs; p++) {
                for (int32_t r = at; r < at + rows; r++) {
                    for (int32_t h = 0; h < 2; h++) {
                        for (int32_t c = from; c < from + columns; c++) {
                            acc[2 * r + c] += a[8 * p + 2 * r + h] * b[p * stride + 2 * c + h];
                        }
                    }
                }
            }
        }
    }
}

/* The block operand a (k / 2, 4, 2) of four rows: pairs b0 and b1 (k, 2) of an interleaved matrix. */
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

/* The same of pairs in offset binary. */
EMBBERT_INLINE void embbert_dsp_widen_offset_4(int16_t *a, const int8_t *b0, const int8_t *b1, int32_t k)
{
#if EMBBERT_DSP
    const embbert_word_t *top = (const embbert_word_t *)(const void *)b0;
    const embbert_word_t *bottom = (const embbert_word_t *)(const void *)b1;
    embbert_word_t *out = (embbert_word_t *)(void *)a;
    for (int32_t p = 0; p < k / 2; p++, out += 4) {
        const int32_t u = top[p] ^ 0x00800080, v = bottom[p] ^ 0x00800080;
        __asm__("sxtb16 %0, %1" : "=r"(out[0]) : "r"(u));
        __asm__("sxtb16 %0, %1, ror #8" : "=r"(out[1]) : "r"(u));
        __asm__("sxtb16 %0, %1" : "=r"(out[2]) : "r"(v));
        __asm__("sxtb16 %0, %1, ror #8" : "=r"(out[3]) : "r"(v));
    }
#else
    for (int32_t i = 0; i < k; i++) {
        int16_t *const at = a + 8 * (i / 2) + i % 2;
        at[0] = (int8_t)(b0[2 * i] ^ -128);
        at[2] = b0[2 * i + 1];
        at[4] = (int8_t)(b1[2 * i] ^ -128);
        at[6] = b1[2 * i + 1];
    }
#endif
}

#if EMBBERT_DSP
/* A step of the filter below: the pair of samples in `s` with the taps for even outputs in `e` and `f`, for odd
 * outputs in `o` and, those of the step before, in `third`. What later steps need is loaded over what is done with:
 * between multiplications where two instructions issue at once, else together, as a load after a load takes a cycle.
 */
#define EMBBERT_FIR_MULTIPLY(c, x, y) "smlad %[" c "], %[" x "], %[" y "], %[" c "]\n"
#define EMBBERT_FIR_SAMPLE(i, t) "ldr %[" t "], [%[line], #4*(" #i ")+8]\n"
#define EMBBERT_FIR_ODD(i, p) "ldr %[" p "], [%[taps], #8*(" #i ")+8]\n"
#define EMBBERT_FIR_EVEN(i, e) "ldr %[" e "], [%[taps], #8*(" #i ")+20]\n"
#if EMBBERT_DUAL_ISSUE
#define EMBBERT_FIR_STEP(s, e, f, o, third, sample, odd, even)                                                         \
    EMBBERT_FIR_MULTIPLY("c2", s, e) sample third odd EMBBERT_FIR_MULTIPLY("c1", s, o) even                            \
        EMBBERT_FIR_MULTIPLY("c0", s, f)
#else
#define EMBBERT_FIR_STEP(s, e, f, o, third, sample, odd, even)                                                         \
    EMBBERT_FIR_MULTIPLY("c2", s, e) third EMBBERT_FIR_MULTIPLY("c1", s, o) EMBBERT_FIR_MULTIPLY("c0", s, f)           \
        sample odd even
#endif
/* Steps 2m + 1 and 2m + 2. */
#define EMBBERT_FIR_TWO(m)                                                                                             \
    EMBBERT_FIR_STEP("s0", "e1", "e0", "o1", EMBBERT_FIR_MULTIPLY("c3", "s0", "o0"), EMBBERT_FIR_SAMPLE(2*(m)+1, "s1"), \
                     EMBBERT_FIR_ODD(2*(m)+1, "o0"), EMBBERT_FIR_EVEN(2*(m)+1, "e1"))                                  \
    EMBBERT_FIR_STEP("s1", "e0", "e1", "o0", EMBBERT_FIR_MULTIPLY("c3", "s1", "o1"), EMBBERT_FIR_SAMPLE(2*(m)+2, "s0"), \
                     EMBBERT_FIR_ODD(2*(m)+2, "o1"), EMBBERT_FIR_EVEN(2*(m)+2, "e0"))
#define EMBBERT_FIR(last, before)                                                                                      \
    __asm__ volatile(                                                                                                  \
        "ldr %[s0], [%[line]]\n ldr %[e0], [%[taps], #4]\n ldr %[s1], [%[line], #4]\n ldr %[o0], [%[taps]]\n"          \
        "ldr %[e1], [%[taps], #12]\n" EMBBERT_FIR_MULTIPLY("c0", "s0", "e0")                                           \
        EMBBERT_FIR_STEP("s1", "e0", "e1", "o0", "", EMBBERT_FIR_SAMPLE(0, "s0"), EMBBERT_FIR_ODD(0, "o1"),            \
                         EMBBERT_FIR_EVEN(0, "e0"))                                                                    \
        before(EMBBERT_FIR_TWO, 0)                                                                                     \
        EMBBERT_FIR_STEP("s0", "e1", "e0", "o1", EMBBERT_FIR_MULTIPLY("c3", "s0", "o0"),                               \
                         EMBBERT_FIR_SAMPLE(last, "s1"), "", "")                                                       \
        EMBBERT_FIR_MULTIPLY("c2", "s1", "e0") EMBBERT_FIR_MULTIPLY("c3", "s1", "o1")                                  \
        : [c0] "+r"(c0), [c1] "+r"(c1), [c2] "+r"(c2), [c3] "+r"(c3), [s0] "=&r"(s0), [s1] "=&r"(s1), [e0] "=&r"(e0),  \
          [e1] "=&r"(e1), [o0] "=&r"(o0), [o1] "=&r"(o1)                                                               \
        : [line] "r"(line), [taps] "r"(weight)                                                                         \
        : "memory")
#endif

/* In plain C: a pair of columns of the filter's weights against the samples of four outputs. */
#define EMBBERT_FIR_PAIR(w, s0, s1, s2, s3, s4, s5)                                                                    \
    {                                                                                                                  \
        const int32_t odd0 = (w)[0], odd1 = (w)[1], even0 = (w)[2], even1 = (w)[3];                                    \
        sums[0] += s0 * even0, sums[1] += s2 * odd0, sums[2] += s2 * even0, sums[3] += s4 * odd0;                      \
        sums[0] += s1 * even1, sums[1] += s3 * odd1, sums[2] += s3 * even1, sums[3] += s5 * odd1;                      \
        EMBBERT_IN_ORDER                                                                                               \
    }

/* Four neighbouring outputs of a filter of `taps` taps over a line of samples that starts `taps` before the first:
 *     acc[o] += sum over k of tap[k] * line[o + 1 + k]
 * weight (taps / 2 + 1, 2, 2): for each pair of samples the taps that meet it, for an odd output, then for an even:
 *     (tap[2i], tap[2i + 1]), (tap[2i - 1], tap[2i]), taps outside being 0. line and weight are aligned to words. In
 * assembly of 8, 16 or 32 taps. */
EMBBERT_INLINE void embbert_dsp_fir_4(int32_t *acc, const int16_t *line, const int16_t *weight, const int32_t taps)
{
#if EMBBERT_DSP
    if (taps == 8 || taps == 16 || taps == 32) {
        int32_t c0 = acc[0], c1 = acc[1], c2 = acc[2], c3 = acc[3], s0, s1, e0, e1, o0, o1;
        if (taps == 8) {
            EMBBERT_FIR(3, EMBBERT_TIMES_1);
        } else if (taps == 16) {
            EMBBERT_FIR(7, EMBBERT_TIMES_3);
        } else {
            EMBBERT_FIR(15, EMBBERT_TIMES_7);
        }
        acc[0] = c0, acc[1] = c1, acc[2] = c2, acc[3] = c3;
        return;
    }
#endif
    const int32_t pairs = taps / 2;
    int32_t sums[4] = {acc[0], acc[1], acc[2], acc[3]};
    int32_t s0 = line[0], s1 = line[1], s2 = line[2], s3 = line[3];
    int32_t i = 0;
    for (; i + 1 < pairs; i += 2) {
        const int32_t s4 = line[2 * i + 4], s5 = line[2 * i + 5];
        EMBBERT_FIR_PAIR(weight + 4 * i, s0, s1, s2, s3, s4, s5)
        const int32_t s6 = line[2 * i + 6], s7 = line[2 * i + 7];
        EMBBERT_FIR_PAIR(weight + 4 * i + 4, s2, s3, s4, s5, s6, s7)
        s0 = s4, s1 = s5, s2 = s6, s3 = s7;
    }
    if (i < pairs) {
        const int32_t s4 = line[2 * i + 4], s5 = line[2 * i + 5];
        EMBBERT_FIR_PAIR(weight + 4 * i, s0, s1, s2, s3, s4, s5)
        s0 = s2, s1 = s3, s2 = s4, s3 = s5;
    }
    const int32_t even0 = weight[4 * pairs + 2], even1 = weight[4 * pairs + 3];
    acc[0] = sums[0] + s0 * even0 + s1 * even1;
    acc[1] = sums[1];
    acc[2] = sums[2] + s2 * even0 + s3 * even1;
    acc[3] = sums[3];
}

/* Pairs of rows, eight or more, of which a filter makes both channels before the next, so that a line of a data cache is
 * fetched once for both; 0 for all, which is faster where nothing is cached. */
#ifndef EMBBERT_FILTER_PAIRS
#define EMBBERT_FILTER_PAIRS 0
#endif

#if EMBBERT_DSP
/* Outputs up to `last` by the last `n` of the taps that are laid out. */
#define EMBBERT_FILTER_UNTIL(last, n)                                                                                  \
    for (; to != last; to += 4 * channels, at += 4) {                                                                  \
        int32_t acc[4] = {bias, bias, bias, bias};                                                                     \
        embbert_dsp_fir_4(acc, at + taps - n, by + 2 * (most - n), n);                                                 \
        to[0] = levels[saturate_i8(multiply_high(acc[0], multiplier))];                                                \
        to[1] = levels[saturate_i8(multiply_high(acc[1], multiplier))];                                                \
        to[2 * channels] = levels[saturate_i8(multiply_high(acc[2], multiplier))];                                     \
        to[2 * channels + 1] = levels[saturate_i8(multiply_high(acc[3], multiplier))];                                 \
    }
#endif
/* Two filters along the text, causal, on two neighbouring channels of an interleaved matrix x (pairs, channels, 2), to
 * the same of out:
 *     out = table[128 + clamp(multiply_high(bias + sum over k of tap[k] * x[t - taps + 1 + k], multiplier))]
 * weight (taps, 2): a tap of the one, a tap of the other. line (2, taps + 2 * pairs): 0 in the first taps of both, the
 * rest to work in; laid (2, taps / 2 + 1, 2, 2): to work in. taps and pairs are even, all pointers but table aligned to
 * words. Of 8, 16 or 32 taps those that meet nothing, as they lie before the text, are left out by halves. */
EMBBERT_INLINE void embbert_dsp_filter(int8_t *out, const int8_t *x, int16_t *line, int16_t *laid, const int8_t *weight,
                                       int32_t bias0, int32_t bias1, int32_t multiplier0, int32_t multiplier1,
                                       const int8_t *table, int32_t pairs, const int32_t channels, const int32_t taps)
{
    const int32_t samples = taps + 2 * pairs;
#if EMBBERT_DSP
    const int32_t halves = taps == 16 || taps == 32;
    const int32_t most = halves && 2 * pairs <= 8 ? 8 : halves && 2 * pairs <= 16 ? 16 : taps;
    const embbert_word_t *from = (const embbert_word_t *)(const void *)(weight + 2 * (taps - most));
    embbert_word_t *first = (embbert_word_t *)(void *)laid, *second = first + taps + 2;
    int32_t before0 = 0, before1 = 0;
    for (int32_t i = 0; i < most / 2; i++, first += 2, second += 2) {
        int32_t taps0, taps1;
        __asm__("sxtb16 %0, %1" : "=r"(taps0) : "r"(from[i]));
        __asm__("sxtb16 %0, %1, ror #8" : "=r"(taps1) : "r"(from[i]));
        first[0] = taps0, second[0] = taps1;
        __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(first[1]) : "r"(before0), "r"(taps0));
        __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(second[1]) : "r"(before1), "r"(taps1));
        before0 = taps0 >> 16, before1 = taps1 >> 16;
    }
    first[0] = 0, first[1] = before0 & 0xFFFF;
    second[0] = 0, second[1] = before1 & 0xFFFF;
    embbert_word_t *top = (embbert_word_t *)(void *)(line + taps), *bottom = (embbert_word_t *)(void *)(line + samples + taps);
    for (const int8_t *const end = x + 2 * channels * pairs; x != end; x += 4 * channels, top += 2, bottom += 2) {
        const int32_t word0 = *(const embbert_word_t *)(const void *)x;
        const int32_t word1 = *(const embbert_word_t *)(const void *)(x + 2 * channels);
        int32_t even0, odd0, even1, odd1;
        __asm__("sxtb16 %0, %1" : "=r"(even0) : "r"(word0));
        __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd0) : "r"(word0));
        __asm__("sxtb16 %0, %1" : "=r"(even1) : "r"(word1));
        __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd1) : "r"(word1));
        __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(top[0]) : "r"(even0), "r"(odd0));
        __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(bottom[0]) : "r"(odd0), "r"(even0));
        __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(top[1]) : "r"(even1), "r"(odd1));
        __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(bottom[1]) : "r"(odd1), "r"(even1));
    }
    /* In a register of its own, so that an entry is a load from there on. */
    const int8_t *levels = table + 128;
    __asm__("" : "+r"(levels));
    int32_t done = 0, next;
    do {
        next = EMBBERT_FILTER_PAIRS ? min_i32(pairs, done + EMBBERT_FILTER_PAIRS) : pairs;
        for (int32_t h = 0; h < 2; h++) {
            const int32_t bias = h == 0 ? bias0 : bias1, multiplier = h == 0 ? multiplier0 : multiplier1;
            const int16_t *at = line + h * samples + 2 * done, *by = laid + h * (2 * taps + 4);
            int8_t *const rows = out + 2 * h, *to = rows + 2 * channels * done, *const end = rows + 2 * channels * next;
            if (done == 0) {
                int8_t *const after8 = rows + 2 * channels * min_i32(next, 4);
                int8_t *const after16 = rows + 2 * channels * min_i32(next, 8);
                if (halves) {
                    EMBBERT_FILTER_UNTIL(after8, 8)
                }
                if (taps == 32) {
                    EMBBERT_FILTER_UNTIL(after16, 16)
                }
            }
            EMBBERT_FILTER_UNTIL(end, taps)
        }
        done = next;
    } while (EMBBERT_FILTER_PAIRS && done < pairs);
#else
    (void)laid;
    for (int32_t h = 0; h < 2; h++) {
        int16_t *const at = line + h * samples + taps;
        for (int32_t p = 0; p < pairs; p++) {
            at[2 * p] = x[2 * (p * channels + h)], at[2 * p + 1] = x[2 * (p * channels + h) + 1];
        }
        for (int32_t t = 0; t < 2 * pairs; t++) {
            int32_t sum = h == 0 ? bias0 : bias1;
            for (int32_t k = max_i32(0, taps - 1 - t); k < taps; k++) {
                sum += weight[2 * k + h] * at[t - taps + 1 + k];
            }
            const int32_t level = saturate_i8(multiply_high(sum, h == 0 ? multiplier0 : multiplier1));
            out[2 * (t / 2 * channels + h) + t % 2] = table[128 + level];
        }
    }
#endif
}

/* sums[j] += x (k,) . row j of weight (n, k). */
static inline void embbert_dsp_rows(int32_t *sums, const int8_t *x, const int8_t *weight, int32_t n, int32_t k)
{
    int32_t j = 0;
#if EMBBERT_DSP
#define EMBBERT_EVEN(x, w) __asm__("sxtb16 %0, %1" : "=r"(x) : "r"(w))
#define EMBBERT_ODD(x, w) __asm__("sxtb16 %0, %1, ror #8" : "=r"(x) : "r"(w))
#define EMBBERT_SMLAD(c, a, b) __asm__("smlad %0, %1, %2, %0" : "+r"(c) : "r"(a), "r"(b))
    /* Four columns of a row at R, of which even and odd columns are pairs. */
#define EMBBERT_FOUR(c, r)                                                                                             \
    __builtin_memcpy(&word, r, 4);                                                                                     \
    EMBBERT_ODD(odd, word);                                                                                            \
    EMBBERT_EVEN(word, word);                                                                                          \
    EMBBERT_SMLAD(c, odds, odd);                                                                                       \
    EMBBERT_SMLAD(c, evens, word);                                                                                     \
    r += 4
    for (; j < n - 3; j += 4) {
        const int8_t *r0 = weight + j * k, *r1 = r0 + k, *r2 = r1 + k, *r3 = r2 + k, *at = x;
        int32_t c0 = sums[j], c1 = sums[j + 1], c2 = sums[j + 2], c3 = sums[j + 3];
        for (int32_t i = 0; i < k - 3; i += 4, at += 4) {
            int32_t word, odd, evens, odds;
            __builtin_memcpy(&word, at, 4);
            EMBBERT_ODD(odds, word);
            EMBBERT_EVEN(evens, word);
            EMBBERT_FOUR(c0, r0);
            EMBBERT_FOUR(c1, r1);
            EMBBERT_FOUR(c2, r2);
            EMBBERT_FOUR(c3, r3);
        }
        for (int32_t i = k & ~3; i < k; i++) {
            c0 += *at * *r0++, c1 += *at * *r1++, c2 += *at * *r2++, c3 += *at++ * *r3++;
        }
        sums[j] = c0, sums[j + 1] = c1, sums[j + 2] = c2, sums[j + 3] = c3;
    }
    /* By pointers: from `j` alone GCC derives a number of rounds that it then warns of. */
    const int8_t *row = weight + j * k;
    sums += j;
    for (int32_t rest = n & 3; rest > 0; rest--, sums++) {
        const int8_t *at = x;
        int32_t sum = *sums;
        for (int32_t i = 0; i < k - 3; i += 4, at += 4) {
            int32_t word, odd, evens, odds;
            __builtin_memcpy(&word, at, 4);
            EMBBERT_ODD(odds, word);
            EMBBERT_EVEN(evens, word);
            EMBBERT_FOUR(sum, row);
        }
        for (int32_t i = k & ~3; i < k; i++) {
            sum += *at++ * *row++;
        }
        *sums = sum;
    }
#undef EMBBERT_EVEN
#undef EMBBERT_ODD
#undef EMBBERT_SMLAD
#undef EMBBERT_FOUR
#else
    for (; j < n; j++) {
        for (int32_t i = 0; i < k; i++) {
            sums[j] += x[i] * weight[j * k + i];
        }
    }
#endif
}

/* The squares of the rows of sums (width / 2, 4, 2), added up. width is even. */
static inline void embbert_dsp_squares(int64_t *squares, const int32_t *sums, int32_t width)
{
    for (int32_t r = 0; r < 4; r += 2, sums += 4) {
        const int32_t *at = sums;
        int64_t first = 0, second = 0;
#pragma GCC unroll 4
        for (int32_t p = 0; p < width / 2; p++, at += 8) {
            const int32_t w = at[0], x = at[1], y = at[2], z = at[3];
            first += (int64_t)w * w, second += (int64_t)y * y;
            first += (int64_t)x * x, second += (int64_t)z * z;
        }
        squares[r] = first, squares[r + 1] = second;
    }
}

/* Pairs of rows out0 and out1 (width, 2) of an interleaved matrix from four rows of sums (width / 2, 4, 2):
 *     saturate(multiply_high(multiply_high(sum << left of its row, inverse of its row), gain of its column))
 * width is even; both are aligned to words. */
static inline void embbert_dsp_normalize(int8_t *out0, int8_t *out1, const int32_t *sums, const int32_t *left,
                                         const int32_t *inverse, const int32_t *gain, int32_t width)
{
    for (int32_t r = 0; r < 4; r += 2, sums += 4) {
        const int32_t *at = sums, *by = gain;
        int8_t *out = r == 0 ? out0 : out1;
        const int32_t left0 = left[r], left1 = left[r + 1], inverse0 = inverse[r], inverse1 = inverse[r + 1];
#pragma GCC unroll 2
        for (const int32_t *const end = gain + width; by != end;) {
#if EMBBERT_DSP
            int32_t w, x, y, z, g;
            __asm__ volatile(
                "ldr %[g], [%[by]], #8\n ldr %[w], [%[at]], #32\n ldr %[y], [%[at], #-24]\n ldr %[x], [%[at], #-28]\n"
                "ldr %[z], [%[at], #-20]\n lsl %[w], %[w], %[l0]\n lsl %[y], %[y], %[l1]\n smmulr %[w], %[w], %[i0]\n"
                "lsl %[x], %[x], %[l0]\n smmulr %[y], %[y], %[i1]\n lsl %[z], %[z], %[l1]\n smmulr %[x], %[x], %[i0]\n"
                "smmulr %[z], %[z], %[i1]\n smmulr %[w], %[w], %[g]\n smmulr %[y], %[y], %[g]\n"
                "ldr %[g], [%[by], #-4]\n ssat %[w], #8, %[w]\n ssat %[y], #8, %[y]\n smmulr %[x], %[x], %[g]\n"
                "smmulr %[z], %[z], %[g]\n bfi %[w], %[y], #8, #8\n ssat %[x], #8, %[x]\n ssat %[z], #8, %[z]\n"
                "bfi %[w], %[x], #16, #8\n bfi %[w], %[z], #24, #8\n str %[w], [%[out]], #4\n"
                : [w] "=&r"(w), [x] "=&r"(x), [y] "=&r"(y), [z] "=&r"(z), [g] "=&r"(g), [at] "+r"(at), [by] "+r"(by),
                  [out] "+r"(out)
                : [l0] "r"(left0), [l1] "r"(left1), [i0] "r"(inverse0), [i1] "r"(inverse1)
                : "memory");
#else
            for (int32_t i = 0; i < 4; i++) {
                const int32_t shifted = (int32_t)((uint32_t)at[i % 2 * 2 + i / 2] << (i % 2 ? left1 : left0));
                const int32_t unit = multiply_high(shifted, i % 2 ? inverse1 : inverse0);
                out[i] = (int8_t)saturate_i8(multiply_high(unit, by[i / 2]));
            }
            at += 8, by += 2, out += 4;
#endif
        }
    }
}

/* Softmax weights (columns / 2, 4, 2) from scores of the same layout, and each row's sum of them in total[4]:
 *     weights = table[min(255, multiply_high(row's largest score - score, step))]
 * An odd number of columns leaves a last weight of 0; the score there is overwritten. step is not negative. */
static inline void embbert_dsp_softmax(int16_t *weights, int32_t *total, int32_t *scores, const int8_t *table,
                                       int32_t step, int32_t columns)
{
    const int32_t pairs = (columns + 1) / 2;
    for (int32_t r = 0; r < 4; r++) {
        int32_t *const row = scores + 2 * r;
        if (columns % 2 != 0) {
            row[8 * (pairs - 1) + 1] = row[0];
        }
        int32_t peak = row[0], sum = 0;
#pragma GCC unroll 4
        for (int32_t p = 0; p < pairs; p++) {
            peak = max_i32(peak, max_i32(row[8 * p], row[8 * p + 1]));
        }
        int16_t *const out = weights + 2 * r;
#pragma GCC unroll 4
        for (int32_t p = 0; p < pairs; p++) {
            const int32_t first = table[saturate_u8(multiply_high(peak - row[8 * p], step))];
            const int32_t second = table[saturate_u8(multiply_high(peak - row[8 * p + 1], step))];
#if EMBBERT_DSP
            int32_t both;
            __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(both) : "r"(first), "r"(second));
            *(embbert_word_t *)(void *)(out + 8 * p) = both;
            __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(both), "r"(0x00010001));
#else
            out[8 * p] = (int16_t)first, out[8 * p + 1] = (int16_t)second;
            sum += first + second;
#endif
        }
        if (columns % 2 != 0) {
            sum -= out[8 * (pairs - 1) + 1];
            out[8 * (pairs - 1) + 1] = 0;
        }
        total[r] = sum;
    }
}

#if EMBBERT_DSP
/* Of a row the scores at LR to weights at R12, to `end`: four columns after four. Packed sums of the odd and of the even
 * weights in odd and even. */
#if EMBBERT_DUAL_ISSUE
#define EMBBERT_SOFTMAX_START EMBBERT_SOFTMAX_SINGLE_START
#define EMBBERT_SOFTMAX_STEP EMBBERT_SOFTMAX_SINGLE_STEP
#define EMBBERT_SOFTMAX_LAST EMBBERT_SOFTMAX_SINGLE_LAST
#else
#define EMBBERT_SOFTMAX_START EMBBERT_SOFTMAX_GROUPED_START
#define EMBBERT_SOFTMAX_STEP EMBBERT_SOFTMAX_GROUPED_STEP
#define EMBBERT_SOFTMAX_LAST EMBBERT_SOFTMAX_GROUPED_LAST
#endif
EMBBERT_INLINE void embbert_dsp_softmax_row(int16_t *weights, const int32_t *scores, const int8_t *levels, int32_t peak,
                                            int32_t step, int32_t fours, uint32_t *odds, uint32_t *evens)
{
    register uintptr_t left __asm__("lr") = (uintptr_t)scores;
    register uintptr_t right __asm__("r12") = (uintptr_t)weights;
    register uintptr_t end __asm__("r9") = (uintptr_t)(weights + 16 * fours);
    register uintptr_t most __asm__("r10") = (uintptr_t)(weights + 16 * (fours & ~3));
    register const int8_t *table __asm__("r0") = levels;
    register int32_t from __asm__("r1") = peak;
    register int32_t by __asm__("r2") = step;
    register uint32_t odd __asm__("r3") = 0;
    register uint32_t even __asm__("r4") = 0;
    __asm__ volatile("push {r9, r10}\n cmp r12, r10\n beq 2f\n"
                     "1:\n" EMBBERT_SOFTMAX_START EMBBERT_TIMES_3(EMBBERT_SOFTMAX_STEP, 0)
                     EMBBERT_SOFTMAX_LAST(4, "[sp, #4]") "bne 1b\n"
                     "2:\n ldr r9, [sp]\n cmp r12, r9\n beq 4f\n"
                     "3:\n" EMBBERT_SOFTMAX_START EMBBERT_SOFTMAX_LAST(1, "[sp]") "bne 3b\n"
                     "4:\n add sp, sp, #8\n"
                     : "+r"(odd), "+r"(even), "+r"(left), "+r"(right), "+r"(end), "+r"(most)
                     : "r"(table), "r"(from), "r"(by)
                     : "r5", "r6", "r8", "r11", "cc", "memory");
    *odds += (odd & 0xFFFF) + (odd >> 16), *evens += (even & 0xFFFF) + (even >> 16);
}
#endif

/* Softmax weights of four rows as embbert_dsp_values takes them, (columns / 4, 2, 4, 2), from scores (columns / 2, 4,
 * 2), columns filled up to a multiple of four with weights of 0; in totals[0] to [3] each row's sum of weights as above,
 * in totals[4] to [7] what its sums start from: -128 times those of the first rows of pairs. */
static inline void embbert_dsp_softmax_fours(int16_t *weights, int32_t *totals, int32_t *scores, const int8_t *table,
                                             int32_t step, int32_t columns)
{
    const int32_t fours = (columns + 3) / 4;
    for (int32_t r = 0; r < 4; r++) {
        int32_t *const row = scores + 2 * r;
        const int32_t start = row[0];
        for (int32_t j = columns; j < 4 * fours; j++) {
            row[j / 2 * 8 + j % 2] = start;
        }
        int32_t peak = start;
        uint32_t odd = 0, even = 0;
#pragma GCC unroll 2
        for (int32_t q = 0; q < fours; q++) {
            const int32_t *const at = row + 16 * q;
            peak = max_i32(peak, max_i32(max_i32(at[0], at[1]), max_i32(at[8], at[9])));
        }
        int16_t *const out = weights + 2 * r;
#if EMBBERT_DSP
        /* So many weights' sums fit 16 bits. */
        for (int32_t q = 0; q < fours; q += 512) {
            const int32_t many = fours - q < 512 ? fours - q : 512;
            embbert_dsp_softmax_row(out + 16 * q, row + 16 * q, table, peak, step, many, &odd, &even);
        }
#else
        for (int32_t q = 0; q < fours; q++) {
            const int32_t *const at = row + 16 * q;
            const int32_t w0 = table[saturate_u8(multiply_high(peak - at[0], step))];
            const int32_t w1 = table[saturate_u8(multiply_high(peak - at[1], step))];
            const int32_t w2 = table[saturate_u8(multiply_high(peak - at[8], step))];
            const int32_t w3 = table[saturate_u8(multiply_high(peak - at[9], step))];
            out[16 * q] = (int16_t)w1, out[16 * q + 1] = (int16_t)w3;
            out[16 * q + 8] = (int16_t)(256 * w0 - w1), out[16 * q + 9] = (int16_t)(256 * w2 - w3);
            even += (uint32_t)(w0 + w2), odd += (uint32_t)(w1 + w3);
        }
#endif
        /* What is not there counts nothing. */
        for (int32_t j = columns; j < 4 * fours; j++) {
            int16_t *const pair = out + 16 * (fours - 1) + j % 4 / 2;
            const int32_t weight = j % 2 ? pair[0] : (pair[8] + pair[0]) / 256;
            pair[8] = (int16_t)(j % 2 ? pair[8] + weight : pair[8] - 256 * weight);
            pair[0] = (int16_t)(j % 2 ? 0 : pair[0]);
            even -= j % 2 ? 0 : (uint32_t)weight, odd -= j % 2 ? (uint32_t)weight : 0;
        }
        totals[r] = (int32_t)(odd + even);
        totals[4 + r] = -128 * (int32_t)even;
    }
}

#endif
