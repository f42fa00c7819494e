/* Products by weights of four or two bits with MVE, unpacked on their way into the multiplication. Under #else stands
 * the plain C, which is the specification. No kernel calls them yet; kernels/mve_codes.py packs for them.
 *
 * Codes are levels in two's complement. Sixteen bytes of four bits hold sixteen columns of a pair of rows: the low
 * halves the first row's, the high halves the second's. Sixteen bytes of two bits hold thirty-two columns: from the
 * lowest bits on the first row's and the second's of sixteen columns, then those of the next sixteen. A weight is its
 * level times the multiplier of its block and fits int8. Sixteen bytes past the codes, and a multiplier, are read. */
#ifndef EMBBERT_MVE_CODES_H
#define EMBBERT_MVE_CODES_H

#include "embbert_mve.h"

/* The level of row r and column k of a pair whose codes begin at `codes`. */
static inline int32_t embbert_mve_level(const uint8_t *codes, int32_t r, int32_t k, const int32_t bits)
{
    const int32_t columns = 64 / bits, shift = (k % columns / 16 * 2 + r) * bits;
    const int32_t code = codes[k / columns * 16 + k % 16] >> shift & ((1 << bits) - 1);
    return code >= 1 << (bits - 1) ? code - (1 << bits) : code;
}

#if EMBBERT_MVE
/* A step as EMBBERT_MVE_AHEAD has it, its loads as four pieces. */
#define EMBBERT_MVE_CODES_AHEAD(a, v, w, third, x, load, first, second, scale, base, at)                               \
    EMBBERT_MVE_AHEAD(a, v, w, third, x, load, first, base, at, second, scale)
#define EMBBERT_MVE_CODES_STEP(...) EMBBERT_MVE_CODES_AHEAD(__VA_ARGS__)
/* In the last step of a block: on to the next sixteen columns of the operand or, at its end, back to its start, and the
 * next multiplier. [SP + 4]: the operand's end. */
#define EMBBERT_MVE_NEXT_BLOCK(bytes)                                                                                  \
    "add r1, r1, #" bytes "\n ldr r9, [sp, #4]\n cmp r1, r9\n it eq\n moveq r1, r11\n ldrsb r9, [r7], #1\n"
/* Sixteen columns of both rows into v and w: their codes shifted up to the sign, down again, times R9. */
#define EMBBERT_MVE_PIECES_4(v, w)                                                                                     \
    "vldrw.u32 " w ", [r3], #16\n", "vshl.i8 " v ", " w ", #4\n vshr.s8 " w ", " w ", #4\n",                           \
        "vshr.s8 " v ", " v ", #4\n vmul.i8 " w ", " w ", r9\n", "vmul.i8 " v ", " v ", r9\n"
/* The first sixteen columns of thirty-two, then the others, of the same bytes. */
#define EMBBERT_MVE_PIECES_2_LOW(v, w)                                                                                 \
    "vldrw.u32 " w ", [r3]\n", "vshl.i8 " v ", " w ", #6\n vshl.i8 " w ", " w ", #4\n",                                \
        "vshr.s8 " v ", " v ", #6\n vshr.s8 " w ", " w ", #6\n vmul.i8 " w ", " w ", r9\n", "vmul.i8 " v ", " v ", r9\n"
#define EMBBERT_MVE_PIECES_2_HIGH(v, w)                                                                                \
    "vldrw.u32 " w ", [r3], #16\n", "vshl.i8 " v ", " w ", #2\n vshr.s8 " w ", " w ", #6\n",                           \
        "vshr.s8 " v ", " v ", #6\n vmul.i8 " w ", " w ", r9\n", "vmul.i8 " v ", " v ", r9\n"
/* All tiles: `first` is a block of an operand's first columns, `next` another; both end by EMBBERT_MVE_NEXT_BLOCK,
 * whose comparison still holds. On the stack: the tiles left, the operand's end, where the tiles of a block of sums
 * end. */
#define EMBBERT_MVE_CODES_PRODUCT(start, first, next)                                                                  \
    "push {r7}\n ldrd r0, r2, [r1]\n ldr r7, [r1, #8]\n sub sp, sp, #16\n strd r0, r2, [sp]\n ldrsb r9, [r7], #1\n"    \
    start EMBBERT_MVE_ROWS_START "mov r1, r11\n"                                                                       \
    "1:\n" EMBBERT_MVE_TILES("r4") "str r4, [sp, #8]\n"                                                                \
    "2:\n" first "beq 4f\n"                                                                                            \
    "3:\n" next "bne 3b\n"                                                                                             \
    "4:\n" EMBBERT_MVE_TILE_STORE "ldr r0, [sp, #8]\n cmp r5, r0\n bne 2b\n" EMBBERT_MVE_TILES_LEFT "bne 1b\n"         \
    "add sp, sp, #16\n pop {r7}\n"
#define EMBBERT_MVE_BLOCK_4(a)                                                                                         \
    EMBBERT_MVE_CODES_STEP(a, "q0", "q1", "[r1, #48]", "", EMBBERT_MVE_PIECES_4("q6", "q7"), "r1", "64")               \
    EMBBERT_MVE_CODES_STEP("a", "q6", "q7", "[r1, #112]", "", EMBBERT_MVE_PIECES_4("q0", "q1"), "r1", "128")           \
    EMBBERT_MVE_CODES_STEP("a", "q0", "q1", "[r1, #176]", "", EMBBERT_MVE_PIECES_4("q6", "q7"), "r1", "192")           \
    EMBBERT_MVE_CODES_STEP("a", "q6", "q7", "[r1, #240]", EMBBERT_MVE_NEXT_BLOCK("256"),                               \
                           EMBBERT_MVE_PIECES_4("q0", "q1"), "r1", "0")
#define EMBBERT_MVE_BLOCK_2(a)                                                                                         \
    EMBBERT_MVE_CODES_STEP(a, "q0", "q1", "[r1, #48]", "", EMBBERT_MVE_PIECES_2_HIGH("q6", "q7"), "r1", "64")          \
    EMBBERT_MVE_CODES_STEP("a", "q6", "q7", "[r1, #112]", EMBBERT_MVE_NEXT_BLOCK("128"),                               \
                           EMBBERT_MVE_PIECES_2_LOW("q0", "q1"), "r1", "0")
#endif

/* The sums (pairs / 8, 4, 16) of the block operand a (k / 16, 4, 16) . rows of an interleaved matrix (pairs, k, 2) of
 * codes of `bits` bits, 4 or 2, times the multipliers (pairs, k / block) of their blocks of 64 columns, or 32. pairs is
 * at least 1, k a multiple of the block. */
EMBBERT_MVE_APART void embbert_mve_product_codes(int32_t *sums, const int8_t *a, const uint8_t *codes,
                                                 const int8_t *multipliers, int32_t pairs, int32_t k,
                                                 const int32_t bits)
{
#if EMBBERT_MVE
    const uintptr_t frame[3] __attribute__((aligned(8))) = {(uintptr_t)pairs, (uintptr_t)(a + 4 * k),
                                                            (uintptr_t)multipliers};
    register uintptr_t cursor __asm__("r1") = (uintptr_t)frame;
    register uintptr_t right __asm__("r3") = (uintptr_t)codes;
    register uintptr_t out __asm__("r5") = (uintptr_t)sums;
    register uintptr_t left __asm__("r11") = (uintptr_t)a;
    if (bits == 4) {
        __asm__ volatile(EMBBERT_MVE_CODES_PRODUCT(
                             "vldrw.u32 q1, [r3], #16\n vshl.i8 q0, q1, #4\n vshr.s8 q1, q1, #4\n"
                             "vshr.s8 q0, q0, #4\n vmul.i8 q1, q1, r9\n vmul.i8 q0, q0, r9\n",
                             EMBBERT_MVE_BLOCK_4(""), EMBBERT_MVE_BLOCK_4("a"))
                         : "+r"(cursor), "+r"(right), "+r"(out)
                         : "r"(left), "m"(frame)
                         : "r9", EMBBERT_MVE_TILE_REGISTERS);
    } else {
        __asm__ volatile(EMBBERT_MVE_CODES_PRODUCT(
                             "vldrw.u32 q1, [r3]\n vshl.i8 q0, q1, #6\n vshl.i8 q1, q1, #4\n vshr.s8 q0, q0, #6\n"
                             "vshr.s8 q1, q1, #6\n vmul.i8 q1, q1, r9\n vmul.i8 q0, q0, r9\n",
                             EMBBERT_MVE_BLOCK_2(""), EMBBERT_MVE_BLOCK_2("a"))
                         : "+r"(cursor), "+r"(right), "+r"(out)
                         : "r"(left), "m"(frame)
                         : "r9", EMBBERT_MVE_TILE_REGISTERS);
    }
#else
    const int32_t block = 16 * bits;
    for (int32_t j = 0; j < 2 * pairs; j++) {
        for (int32_t r = 0; r < 4; r++) {
            int32_t sum = 0;
            for (int32_t i = 0; i < k; i++) {
                const int32_t level = embbert_mve_level(codes + j / 2 * k * bits / 4, j % 2, i, bits);
                sum += a[embbert_mve_at(r, i)] * (int8_t)(level * multipliers[j / 2 * (k / block) + i / block]);
            }
            sums[embbert_mve_at(r, j)] = sum;
        }
    }
#endif
}

#endif
