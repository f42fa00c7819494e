/* Products by ternary weights without a multiplication: of three columns a table has all 27 sums, for four rows at once.
 * kernels/lookup.py packs for them.
 *
 * A word of the table is the sums of two rows, s + 65536 t. Of a block of 32 columns they are within +-4096, so that
 * words are added as they are: what is borrowed from the upper half is known from the lower one. */
#ifndef EMBBERT_LOOKUP_H
#define EMBBERT_LOOKUP_H

#include "embbert_dsp.h"

/* table (11, 27, 2): for three columns each of a block of the operand a (16, 4, 2), rows 0 and 1, then rows 2 and 3. */
static inline void embbert_lookup_table(uint32_t *table, const int16_t *a)
{
    for (int32_t half = 0; half < 2; half++, a += 4) {
        uint32_t *to = table + half;
        for (int32_t column = 0; column < 32; column += 3) {
            uint32_t x[3];
            for (int32_t i = 0; i < 3; i++) {
                const int16_t *const from = a + (column + i) / 2 * 8 + (column + i) % 2;
                x[i] = column + i < 32 ? (uint32_t)from[0] + ((uint32_t)from[2] << 16) : 0;
            }
            uint32_t third = 0 - x[0] - x[1] - x[2];
            for (int32_t i = 0; i < 3; i++, third += x[2]) {
                uint32_t second = third;
                for (int32_t j = 0; j < 3; j++, second += x[1], to += 6) {
                    to[0] = second, to[2] = second + x[0], to[4] = second + 2 * x[0];
                }
            }
        }
    }
}

/* Adds to low and high what the table has for group i, in a word of indices from the group `first` on. */
#define EMBBERT_LOOKUP(i, first, word)                                                                                 \
    {                                                                                                                  \
        const uint32_t *const entry = table + ((word) >> 5 * ((i) - (first)) & 31) * 2;                                \
        low += entry[54 * (i)], high += entry[54 * (i) + 1];                                                           \
    }
/* Adds both sums of a word, times m, to those of two rows. */
#if EMBBERT_DSP
#define EMBBERT_LOOKUP_ADD(sums, word, m)                                                                              \
    __asm__("smlabb %0, %1, %2, %0" : "+r"((sums)[0]) : "r"((word) + 0), "r"(m));                                      \
    __asm__("smlatb %0, %1, %2, %0" : "+r"((sums)[2]) : "r"((word) + ((word) << 1 & 0x10000)), "r"(m));
#else
#define EMBBERT_LOOKUP_ADD(sums, word, m)                                                                              \
    (sums)[0] += (int16_t)(word) * (m);                                                                                \
    (sums)[2] += ((int32_t)((word) + 0x8000) >> 16) * (m);
#endif

/* sums (n / 2, 4, 2) += four rows, the block operand a (k / 2, 4, 2), . n rows of weights. n even, k whole blocks. table:
 * room for one. */
EMBBERT_INLINE void embbert_lookup_product(int32_t *sums, const int16_t *a, const int32_t *weight, int32_t *room,
                                           const int32_t n, const int32_t k)
{
    uint32_t *const table = (uint32_t *)room;
    for (const int16_t *const end = a + 4 * k; a != end; a += 128) {
        const uint8_t *multiplier = (const uint8_t *)(weight + 2 * n);
        int32_t *to = sums;
        embbert_lookup_table(table, a);
        for (int32_t pair = 0; pair < n / 2; pair++, to += 8) {
            const int32_t m = *multiplier++;
            for (int32_t c = 0; c < 2; c++, weight += 2) {
                uint32_t low = 0, high = 0, word = (uint32_t)weight[0];
                EMBBERT_LOOKUP(0, 0, word)
                EMBBERT_LOOKUP(1, 0, word)
                EMBBERT_LOOKUP(2, 0, word)
                EMBBERT_LOOKUP(3, 0, word)
                EMBBERT_LOOKUP(4, 0, word)
                EMBBERT_LOOKUP(5, 0, word)
                word = (uint32_t)weight[1];
                EMBBERT_LOOKUP(6, 6, word)
                EMBBERT_LOOKUP(7, 6, word)
                EMBBERT_LOOKUP(8, 6, word)
                EMBBERT_LOOKUP(9, 6, word)
                EMBBERT_LOOKUP(10, 6, word)
                EMBBERT_LOOKUP_ADD(to + c, low, m)
                EMBBERT_LOOKUP_ADD(to + c + 4, high, m)
            }
        }
        weight += (n / 2 + 3) / 4;
    }
}

#endif
