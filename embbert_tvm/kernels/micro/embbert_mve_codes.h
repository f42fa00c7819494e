/* Products by weights of four or two bits with MVE, unpacked on their way into the multiplication. Under #else stands
 * the plain C, which is the specification. kernels/mve_codes.py packs for them.
 *
 * Sixteen bytes of four bits hold sixteen columns of a pair of rows: the low halves the first row's levels plus 8, the
 * high halves the second's in two's complement. Sixteen bytes of two bits hold thirty-two columns, all in two's
 * complement: from the lowest bits on the first row's and the second's of sixteen columns, then those of the next
 * sixteen. A weight is its level times the multiplier of its block and fits int8. Sixteen bytes past the codes, and a
 * multiplier, are read. */
#ifndef EMBBERT_MVE_CODES_H
#define EMBBERT_MVE_CODES_H

#include "embbert_mve.h"

/* sums[j] += x (k,) . row j of n rows of codes of four bits as kernels/low_bits.py packs them, levels plus 8, in blocks of two
 * rows by 64 columns, whose multipliers less one are four bits too. Eight codes are a word, whose low halves are those of
 * four columns and whose high halves those of the next four: so words of x lie apart in `parted` (k,), even ones before odd
 * ones. starts (k / 64,): what a block's sums start from. Rows begin at whole words. */
static inline void embbert_mve_codes_rows(int32_t *sums, const int8_t *x, const uint8_t *codes, const uint8_t *multipliers,
                                          int8_t *parted, int32_t *starts, int32_t n, const int32_t k)
{
#if EMBBERT_MVE
    for (int32_t i = 0; i < k; i += 32) {
        const uint32x4x2_t words = vld2q_u32((const uint32_t *)(const void *)(x + i));
        vst1q_u32((uint32_t *)(void *)(parted + i), words.val[0]);
        vst1q_u32((uint32_t *)(void *)(parted + i + 16), words.val[1]);
    }
    for (int32_t b = 0; b < k / 64; b++) {
        int32_t total = 0;
        for (int32_t i = 0; i < 64; i += 16) {
            total = vaddvaq_s8(total, vldrbq_s8(x + 64 * b + i));
        }
        starts[b] = -8 * total;
    }
    int32_t m = 0;
    for (int32_t j = 0; j < n; j += 2, codes += k) {
        /* The last row of an odd number stands for the one that is not there. */
        const uint8_t *first = codes, *second = j + 1 < n ? codes + k / 2 : codes;
        const int8_t *at = parted;
        int32_t s0 = 0, s1 = 0;
        for (int32_t b = 0; b < k / 64; b++, m++) {
            const int32_t multiplier = (multipliers[m / 2] >> m % 2 * 4 & 15) + 1;
            int32_t t0 = starts[b], t1 = t0;
            for (int32_t h = 0; h < 2; h++, at += 32, first += 16, second += 16) {
                /* GCC would load all at once and spill it. */
                __asm__ volatile("" : "+r"(at), "+r"(first), "+r"(second));
                const int8x16_t even = vldrbq_s8(at), odd = vldrbq_s8(at + 16);
                const uint8x16_t c0 = vldrbq_u8(first), c1 = vldrbq_u8(second), low = vdupq_n_u8(15);
                t0 = vmladavaq_s8(t0, even, vreinterpretq_s8_u8(vandq_u8(c0, low)));
                t1 = vmladavaq_s8(t1, even, vreinterpretq_s8_u8(vandq_u8(c1, low)));
                t0 = vmladavaq_s8(t0, odd, vreinterpretq_s8_u8(vshrq_n_u8(c0, 4)));
                t1 = vmladavaq_s8(t1, odd, vreinterpretq_s8_u8(vshrq_n_u8(c1, 4)));
            }
            s0 += t0 * multiplier, s1 += t1 * multiplier;
        }
        sums[j] += s0;
        if (j + 1 < n) {
            sums[j + 1] += s1;
        }
    }
#else
    (void)parted, (void)starts;
    for (int32_t j = 0; j < n; j++) {
        for (int32_t i = 0; i < k; i++) {
            const int32_t m = j / 2 * (k / 64) + i / 64, code = codes[j * k / 2 + i / 8 * 4 + i % 4] >> i % 8 / 4 * 4 & 15;
            sums[j] += x[i] * (code - 8) * ((multipliers[m / 2] >> m % 2 * 4 & 15) + 1);
        }
    }
#endif
}

/* The level of row r and column k of a pair whose codes begin at `codes`. */
static inline int32_t embbert_mve_level(const uint8_t *codes, int32_t r, int32_t k, const int32_t bits)
{
    const int32_t columns = 64 / bits, shift = (k % columns / 16 * 2 + r) * bits, half = 1 << (bits - 1);
    const int32_t code = codes[k / columns * 16 + k % 16] >> shift & ((1 << bits) - 1);
    return (bits == 4 && r == 0) || code < half ? code - (bits == 4 && r == 0 ? half : 0) : code - 2 * half;
}

#if EMBBERT_MVE
/* Four bits. A byte is 16 h + l + 8, h and l being the levels of both rows, and a shift makes h of it. So a tile sums
 * its activations times bytes and times h, 14 instructions for 128 multiplications as with int8, and its first row's sum
 * is that by bytes less 16 times the other, and less 8 times the activations, from which it starts. Sums of a block of
 * 64 columns are multiplied by its multiplier and added in Q6, of bytes, and Q7: lanes 0 to 3 are rows 0, 2, 1, 3. All
 * fits int32, or wraps on the way to what does, where k is at most 8192.
 *
 * A step multiplies the bytes in v and their shifts in w by rows 0 and 1 in Q4 and Q5, then by rows 2 and 3 from R1 +
 * `at`, and loads what the next needs: its bytes, v_, and w_ of them, rows 0 and 1 from R1 + `next`. */
#define EMBBERT_MVE_CODES_ROW(q, at) "vldrw.u32 " q ", [r1, #" at "]\n"
#define EMBBERT_MVE_CODES_STEP(a, v, w, v_, w_, at, next, x, y, z)                                                     \
    "vmladava.s8 r0, q4, " v "\n" x "vmladav" a ".s8 r2, q4, " w "\n" EMBBERT_MVE_CODES_ROW("q4", at "+32") y          \
    "vmladava.s8 r4, q5, " v "\n vldrw.u32 " v_ ", [r3], #16\n vmladav" a ".s8 r6, q5, " w "\n"                        \
    EMBBERT_MVE_CODES_ROW("q5", at "+48") "vmladava.s8 r8, q4, " v "\n" z "vmladav" a ".s8 r10, q4, " w "\n"           \
    EMBBERT_MVE_CODES_ROW("q4", next) "vshr.s8 " w_ ", " v_ ", #4\n vmladava.s8 r12, q5, " v "\n"                      \
    "vmladav" a ".s8 lr, q5, " w "\n" EMBBERT_MVE_CODES_ROW("q5", next "+16")
/* The last step of a block, whose sums go to Q2 and Q1 and, those of bytes, times R9 to Q6; `to` leads R1 to the next
 * rows, of which `next` is the place. The next block's sums start from what R5 points at. The sums of rows 2 and 3 in
 * R10 and LR are left to EMBBERT_MVE_CODES_END, which also gets the next multiplier. */
#define EMBBERT_MVE_CODES_LAST(at, to, next)                                                                           \
    "vmladava.s8 r0, q4, q1\n vldrw.u32 q0, [r3], #16\n vmladava.s8 r2, q4, q3\n" EMBBERT_MVE_CODES_ROW("q4", at "+32")\
    "vmladava.s8 r4, q5, q1\n vmladava.s8 r6, q5, q3\n" EMBBERT_MVE_CODES_ROW("q5", at "+48") to                       \
    "vmladava.s8 r8, q4, q1\n vmov q2[2], q2[0], r0, r4\n vmladava.s8 r12, q5, q1\n vmladava.s8 r10, q4, q3\n"         \
    EMBBERT_MVE_CODES_ROW("q4", next) "vmladava.s8 lr, q5, q3\n vmov q2[3], q2[1], r8, r12\n"                          \
    EMBBERT_MVE_CODES_ROW("q5", next "+16") "vmov q1[2], q1[0], r2, r6\n vmla.s32 q6, q2, r9\n"                        \
    "ldrd r0, r4, [r5], #8\n vshr.s8 q2, q0, #4\n ldrd r8, r12, [r5], #8\n"
#define EMBBERT_MVE_CODES_END_0 "vmov q1[3], q1[1], r10, lr\n"
#define EMBBERT_MVE_CODES_END_1 "vmla.s32 q7, q1, r9\n ldrsb r9, [r7], #1\n"
/* A block from its first column, R1 + `at`; x, y: what the one before left to do. */
#define EMBBERT_MVE_CODES_BLOCK(at, x, y, to, next)                                                                    \
    EMBBERT_MVE_CODES_STEP("", "q0", "q2", "q1", "q3", at, at "+64", x, y, "")                                         \
    EMBBERT_MVE_CODES_STEP("a", "q1", "q3", "q0", "q2", at "+64", at "+128", "", "", "")                               \
    EMBBERT_MVE_CODES_STEP("a", "q0", "q2", "q1", "q3", at "+128", at "+192", "", "", "")                              \
    EMBBERT_MVE_CODES_LAST(at "+192", to, next)
/* At the end of a round of so many bytes of the operand: on to the next, or, at its end, in R11, back to its start. */
#define EMBBERT_MVE_CODES_TURN(bytes)                                                                                  \
    "add r1, r1, #" bytes "\n cmp r1, r11\n itt eq\n ldreq r1, [sp, #4]\n ldreq r5, [sp, #8]\n"
/* Two blocks a round, or one. */
#define EMBBERT_MVE_CODES_ROUND_2                                                                                      \
    EMBBERT_MVE_CODES_BLOCK("0", "", "", "", "256")                                                                    \
    EMBBERT_MVE_CODES_BLOCK("256", EMBBERT_MVE_CODES_END_0, EMBBERT_MVE_CODES_END_1, EMBBERT_MVE_CODES_TURN("512"), "0")
#define EMBBERT_MVE_CODES_ROUND_1 EMBBERT_MVE_CODES_BLOCK("0", "", "", EMBBERT_MVE_CODES_TURN("256"), "0")
/* All tiles. On the stack: where R3 is at the end, the operand, the starts, where R3 is at the end of eight tiles, where
 * a tile's rows of sums lie, less 8, and how far R3 goes in eight tiles. */
#define EMBBERT_MVE_CODES_4(round)                                                                                     \
    "push {r7}\n sub sp, sp, #40\n ldr r0, [r1, #32]\n ldrd r11, r7, [r1, #36]\n vldrw.u32 q0, [r1]\n"                 \
    "vldrw.u32 q1, [r1, #16]\n str r0, [sp, #32]\n vstrw.32 q0, [sp]\n vstrw.32 q1, [sp, #16]\n"                       \
    "ldrd r1, r5, [sp, #4]\n vldrw.u32 q0, [r3], #16\n ldrsb r9, [r7], #1\n ldrd r0, r4, [r5], #8\n"                   \
    "vshr.s8 q2, q0, #4\n vldrw.u32 q4, [r1]\n vldrw.u32 q5, [r1, #16]\n ldrd r8, r12, [r5], #8\n"                     \
    "2:\n vmov.i32 q6, #0\n vmov.i32 q7, #0\n"                                                                         \
    "3:\n" round EMBBERT_MVE_CODES_END_0 EMBBERT_MVE_CODES_END_1 "bne 3b\n"                                            \
    "vshl.i32 q1, q7, #4\n vldrw.u32 q3, [sp, #16]\n vsub.i32 q6, q6, q1\n vstrw.32 q6, [q3, #8]!\n"                   \
    "vstrw.32 q7, [q3, #4]\n vstrw.32 q3, [sp, #16]\n ldr r2, [sp, #12]\n cmp r3, r2\n bne 2b\n"                       \
    "ldr r6, [sp]\n ldr r10, [sp, #32]\n cmp r3, r6\n beq 4f\n mov lr, #192\n vadd.i32 q3, q3, lr\n add r2, r2, r10\n" \
    "cmp r2, r6\n it hi\n movhi r2, r6\n vstrw.32 q3, [sp, #16]\n str r2, [sp, #12]\n b 2b\n"                          \
    "4:\n add sp, sp, #40\n pop {r7}\n"
#endif

/* What the sums of each block of 64 columns of a block operand a (k / 16, 4, 16) start from: starts (k / 64, 4). */
static inline void embbert_mve_code_starts(int32_t *starts, const int8_t *a, int32_t k)
{
    for (int32_t b = 0; b < k / 64; b++) {
        for (int32_t r = 0; r < 4; r++) {
            const int8_t *row = a + b * 256 + r * 16;
            int32_t sum = 0;
#if EMBBERT_MVE
            sum = vaddvq_s8(vld1q_s8(row));
            sum = vaddvaq_s8(sum, vld1q_s8(row + 64));
            sum = vaddvaq_s8(sum, vld1q_s8(row + 128));
            sum = vaddvaq_s8(sum, vld1q_s8(row + 192));
#else
            for (int32_t i = 0; i < 64; i++) {
                sum += row[i / 16 * 64 + i % 16];
            }
#endif
            starts[b * 4 + r] = -8 * sum;
        }
    }
}

/* The sums (pairs / 8, 4, 16) of the block operand a (k / 16, 4, 16) . rows of an interleaved matrix (pairs, k, 2) of
 * codes of four bits times the multipliers (pairs, k / 64) of their blocks. pairs is at least 1, k a multiple of 64 and
 * at most 8192. starts (k / 64, 4) is overwritten. */
EMBBERT_MVE_APART void embbert_mve_product_codes_4(int32_t *sums, const int8_t *a, const uint8_t *codes,
                                                   const int8_t *multipliers, int32_t *starts, int32_t pairs,
                                                   int32_t k)
{
    embbert_mve_code_starts(starts, a, k);
#if EMBBERT_MVE
    const uintptr_t end = (uintptr_t)(codes + pairs * k + 16), rows = (uintptr_t)sums - 8;
    const uintptr_t frame[11] __attribute__((aligned(8))) = {
        end, (uintptr_t)a, (uintptr_t)starts, pairs < 8 ? end : (uintptr_t)(codes + 8 * k + 16),
        rows, rows + 128, rows + 64, rows + 192, (uintptr_t)(8 * k), (uintptr_t)(a + 4 * k), (uintptr_t)multipliers,
    };
    register uintptr_t cursor __asm__("r1") = (uintptr_t)frame;
    register uintptr_t right __asm__("r3") = (uintptr_t)codes;
    if (k % 128 == 0) {
        __asm__ volatile(EMBBERT_MVE_CODES_4(EMBBERT_MVE_CODES_ROUND_2)
                         : "+r"(cursor), "+r"(right)
                         : "m"(frame)
                         : "r5", "r9", "r11", EMBBERT_MVE_TILE_REGISTERS);
    } else {
        __asm__ volatile(EMBBERT_MVE_CODES_4(EMBBERT_MVE_CODES_ROUND_1)
                         : "+r"(cursor), "+r"(right)
                         : "m"(frame)
                         : "r5", "r9", "r11", EMBBERT_MVE_TILE_REGISTERS);
    }
#else
    for (int32_t j = 0; j < 2 * pairs; j++) {
        for (int32_t r = 0; r < 4; r++) {
            int32_t sum = 0;
            for (int32_t i = 0; i < k; i++) {
                const int32_t level = embbert_mve_level(codes + j / 2 * k, j % 2, i, 4);
                sum += a[embbert_mve_at(r, i)] * (int8_t)(level * multipliers[j / 2 * (k / 64) + i / 64]);
            }
            sums[embbert_mve_at(r, j)] = sum;
        }
    }
#endif
}

#if EMBBERT_MVE
/* Two bits. A step as EMBBERT_MVE_AHEAD has it, its loads as three pieces. */
#define EMBBERT_MVE_CODES_AHEAD(a, v, w, third, x, load, first, second, base, at)                                      \
    EMBBERT_MVE_AHEAD(a, v, w, third, x, load, first, base, at, second, "")
#define EMBBERT_MVE_CODES_STEP_2(...) EMBBERT_MVE_CODES_AHEAD(__VA_ARGS__)
/* Sixteen columns of both rows into v and w: their codes shifted up to the sign, down again, times R9. The first sixteen
 * of thirty-two columns, then the others, of the same bytes. */
#define EMBBERT_MVE_PIECES_LOW(v, w)                                                                                   \
    "vldrw.u32 " w ", [r3]\n", "vshl.i8 " v ", " w ", #6\n vshl.i8 " w ", " w ", #4\n",                                \
        "vshr.s8 " v ", " v ", #6\n vshr.s8 " w ", " w ", #6\n vmul.i8 " w ", " w ", r9\n vmul.i8 " v ", " v ", r9\n"
#define EMBBERT_MVE_PIECES_HIGH(v, w)                                                                                  \
    "vldrw.u32 " w ", [r3], #16\n", "vshl.i8 " v ", " w ", #2\n vshr.s8 " w ", " w ", #6\n",                           \
        "vshr.s8 " v ", " v ", #6\n vmul.i8 " w ", " w ", r9\n vmul.i8 " v ", " v ", r9\n"
#define EMBBERT_MVE_NEXT_MULTIPLIER "ldrsb r9, [r7], #1\n"
/* At the end of a round of so many bytes of the operand: on to the next or, at its end, [SP + 4], back to its start. */
#define EMBBERT_MVE_NEXT_ROUND(bytes)                                                                                  \
    "add r1, r1, #" bytes "\n ldr r9, [sp, #4]\n cmp r1, r9\n it eq\n moveq r1, r11\n" EMBBERT_MVE_NEXT_MULTIPLIER
/* A block of thirty-two columns, whose first is at R1 + `at`; `next`: where the rows of the next lie after `to`. */
#define EMBBERT_MVE_BLOCK_2(a, at, to, next)                                                                           \
    EMBBERT_MVE_CODES_STEP_2(a, "q0", "q1", "[r1, #" at "+48]", "", EMBBERT_MVE_PIECES_HIGH("q6", "q7"), "r1", at "+64")\
    EMBBERT_MVE_CODES_STEP_2("a", "q6", "q7", "[r1, #" at "+112]", to, EMBBERT_MVE_PIECES_LOW("q0", "q1"), "r1", next)
/* Four blocks a round, two or one. */
#define EMBBERT_MVE_CODES_ROUND_128(a)                                                                                 \
    EMBBERT_MVE_BLOCK_2(a, "0", EMBBERT_MVE_NEXT_MULTIPLIER, "128")                                                    \
    EMBBERT_MVE_BLOCK_2("a", "128", EMBBERT_MVE_NEXT_MULTIPLIER, "256")                                                \
    EMBBERT_MVE_BLOCK_2("a", "256", EMBBERT_MVE_NEXT_MULTIPLIER, "384")                                                \
    EMBBERT_MVE_BLOCK_2("a", "384", EMBBERT_MVE_NEXT_ROUND("512"), "0")
#define EMBBERT_MVE_CODES_ROUND_32(a) EMBBERT_MVE_BLOCK_2(a, "0", EMBBERT_MVE_NEXT_ROUND("128"), "0")
/* All tiles. On the stack: the tiles left, the operand's end, where the tiles of a block of sums end. */
#define EMBBERT_MVE_CODES_2(round)                                                                                     \
    "push {r7}\n ldrd r0, r2, [r1]\n ldr r7, [r1, #8]\n sub sp, sp, #16\n strd r0, r2, [sp]\n ldrsb r9, [r7], #1\n"    \
    "vldrw.u32 q1, [r3]\n vshl.i8 q0, q1, #6\n vshl.i8 q1, q1, #4\n vshr.s8 q0, q0, #6\n"                              \
    "vshr.s8 q1, q1, #6\n vmul.i8 q1, q1, r9\n vmul.i8 q0, q0, r9\n" EMBBERT_MVE_ROWS_START "mov r1, r11\n"            \
    "1:\n" EMBBERT_MVE_TILES("r4") "str r4, [sp, #8]\n"                                                                \
    "2:\n" round("") "beq 4f\n"                                                                                        \
    "3:\n" round("a") "bne 3b\n"                                                                                       \
    "4:\n" EMBBERT_MVE_TILE_STORE "ldr r0, [sp, #8]\n cmp r5, r0\n bne 2b\n" EMBBERT_MVE_TILES_LEFT "bne 1b\n"         \
    "add sp, sp, #16\n pop {r7}\n"
#endif

/* The same of codes of two bits, times the multipliers (pairs, k / 32) of their blocks. k is a multiple of 32. */
EMBBERT_MVE_APART void embbert_mve_product_codes_2(int32_t *sums, const int8_t *a, const uint8_t *codes,
                                                   const int8_t *multipliers, int32_t pairs, int32_t k)
{
#if EMBBERT_MVE
    const uintptr_t frame[3] __attribute__((aligned(8))) = {(uintptr_t)pairs, (uintptr_t)(a + 4 * k),
                                                            (uintptr_t)multipliers};
    register uintptr_t cursor __asm__("r1") = (uintptr_t)frame;
    register uintptr_t right __asm__("r3") = (uintptr_t)codes;
    register uintptr_t out __asm__("r5") = (uintptr_t)sums;
    register uintptr_t left __asm__("r11") = (uintptr_t)a;
    if (k % 128 == 0) {
        __asm__ volatile(EMBBERT_MVE_CODES_2(EMBBERT_MVE_CODES_ROUND_128)
                         : "+r"(cursor), "+r"(right), "+r"(out)
                         : "r"(left), "m"(frame)
                         : "r9", EMBBERT_MVE_TILE_REGISTERS);
    } else {
        __asm__ volatile(EMBBERT_MVE_CODES_2(EMBBERT_MVE_CODES_ROUND_32)
                         : "+r"(cursor), "+r"(right), "+r"(out)
                         : "r"(left), "m"(frame)
                         : "r9", EMBBERT_MVE_TILE_REGISTERS);
    }
#else
    for (int32_t j = 0; j < 2 * pairs; j++) {
        for (int32_t r = 0; r < 4; r++) {
            int32_t sum = 0;
            for (int32_t i = 0; i < k; i++) {
                const int32_t level = embbert_mve_level(codes + j / 2 * k / 2, j % 2, i, 2);
                sum += a[embbert_mve_at(r, i)] * (int8_t)(level * multipliers[j / 2 * (k / 32) + i / 32]);
            }
            sums[embbert_mve_at(r, j)] = sum;
        }
    }
#endif
}

#endif
