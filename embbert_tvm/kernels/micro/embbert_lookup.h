/* Products by ternary weights without a multiplication: of three columns a table has all 27 sums, of four rows at once.
 * kernels/lookup.py packs for them.
 *
 * A word of the table is the sums of two rows. Of a block of 32 columns they are within +-4096, so that words are added
 * half by half (SADD16), or as they are: then the upper half is one less where the lower one is negative. */
#ifndef EMBBERT_LOOKUP_H
#define EMBBERT_LOOKUP_H

#include "embbert_dsp.h"

/* Whether words are added half by half, by loads in groups; other cores take plain C in the compiler's order faster. */
#if EMBBERT_DSP && !EMBBERT_DUAL_ISSUE && defined(__ARM_ARCH_7EM__)
#define EMBBERT_LOOKUP_HALVES 1
#else
#define EMBBERT_LOOKUP_HALVES 0
#endif

/* The sums of two words, half by half; without SADD16 a half borrows from the other. */
EMBBERT_INLINE uint32_t embbert_lookup_sum(uint32_t x, uint32_t y)
{
#if EMBBERT_LOOKUP_HALVES
    uint32_t word;
    __asm__("sadd16 %0, %1, %2" : "=r"(word) : "r"(x), "r"(y));
    return word;
#else
    return x + y;
#endif
}

/* The word of two rows' values of a column, and of their negatives. */
EMBBERT_INLINE uint32_t embbert_lookup_pair(int32_t first, int32_t second)
{
#if EMBBERT_LOOKUP_HALVES
    uint32_t word;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(word) : "r"(first), "r"(second));
    return word;
#else
    return (uint32_t)first + ((uint32_t)second << 16);
#endif
}

/* table (11, 27, 2): for three columns each of a block of the operand a (16, 4, 2), rows 0 and 1, then rows 2 and 3. */
static inline void embbert_lookup_table(uint32_t *table, const int16_t *a)
{
    for (int32_t half = 0; half < 2; half++, a += 4) {
        uint32_t *to = table + half;
        for (int32_t column = 0; column < 32; column += 3) {
            uint32_t x[3], third = 0;
            for (int32_t i = 0; i < 3; i++) {
                const int16_t *const from = a + (column + i) / 2 * 8 + (column + i) % 2;
                const int32_t first = column + i < 32 ? from[0] : 0, second = column + i < 32 ? from[2] : 0;
                x[i] = embbert_lookup_pair(first, second);
                third = embbert_lookup_sum(third, embbert_lookup_pair(-first, -second));
            }
            for (int32_t i = 0; i < 3; i++, third = embbert_lookup_sum(third, x[2])) {
                uint32_t second = third;
                for (int32_t j = 0; j < 3; j++, second = embbert_lookup_sum(second, x[1]), to += 6) {
                    to[0] = second;
                    to[2] = embbert_lookup_sum(to[0], x[0]);
                    to[4] = embbert_lookup_sum(to[2], x[0]);
                }
            }
        }
    }
}

/* Adds to low and high what the table has for group i, and for the next, of a word of indices from group `first` on. */
#if EMBBERT_LOOKUP_HALVES
#define EMBBERT_LOOKUP_TWO(i, first, word)                                                                             \
    {                                                                                                                  \
        uint32_t x, y, z, w;                                                                                           \
        __asm__("ubfx %[x], %[all], %[shift], #5\n ubfx %[y], %[all], %[shift]+5, #5\n"                                \
                "add %[x], %[at], %[x], lsl #3\n add %[y], %[at], %[y], lsl #3\n"                                      \
                "ldr %[z], [%[x], %[entry]]\n ldr %[x], [%[x], %[entry]+4]\n"                                          \
                "ldr %[w], [%[y], %[entry]+216]\n ldr %[y], [%[y], %[entry]+220]\n"                                    \
                "sadd16 %[low], %[low], %[z]\n sadd16 %[high], %[high], %[x]\n"                                        \
                "sadd16 %[low], %[low], %[w]\n sadd16 %[high], %[high], %[y]\n"                                        \
                : [low] "+r"(low), [high] "+r"(high), [x] "=&r"(x), [y] "=&r"(y), [z] "=&r"(z), [w] "=&r"(w)           \
                : [all] "r"(word), [at] "r"(table), [shift] "i"(5 * ((i) - (first))), [entry] "i"(216 * (i))           \
                : "memory");                                                                                           \
    }
#else
#define EMBBERT_LOOKUP_TWO(i, first, word) EMBBERT_LOOKUP(i, first, word) EMBBERT_LOOKUP((i) + 1, first, word)
#endif
#define EMBBERT_LOOKUP(i, first, word)                                                                                 \
    {                                                                                                                  \
        const uint32_t *const entry = table + ((word) >> 5 * ((i) - (first)) & 31) * 2;                                \
        low = embbert_lookup_sum(low, entry[54 * (i)]), high = embbert_lookup_sum(high, entry[54 * (i) + 1]);          \
    }
/* Adds both sums of a word, times m, to those of two rows. */
#if EMBBERT_LOOKUP_HALVES
#define EMBBERT_LOOKUP_ADD(sums, word, m)                                                                              \
    __asm__("smlabb %0, %1, %2, %0" : "+r"((sums)[0]) : "r"(word), "r"(m));                                            \
    __asm__("smlatb %0, %1, %2, %0" : "+r"((sums)[2]) : "r"(word), "r"(m));
#else
#define EMBBERT_LOOKUP_ADD(sums, word, m)                                                                              \
    (sums)[0] += (int16_t)(word) * (m);                                                                                \
    (sums)[2] += ((int32_t)((word) + 0x8000) >> 16) * (m);
#endif

/* sums (n / 2, 4, 2) += four rows, the block operand a (k / 2, 4, 2), . n rows of weights. n even, k whole blocks.
 * room: for the table of one. */
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
                EMBBERT_LOOKUP_TWO(0, 0, word)
                EMBBERT_LOOKUP_TWO(2, 0, word)
                EMBBERT_LOOKUP_TWO(4, 0, word)
                word = (uint32_t)weight[1];
                EMBBERT_LOOKUP_TWO(6, 6, word)
                EMBBERT_LOOKUP_TWO(8, 6, word)
                EMBBERT_LOOKUP(10, 6, word)
                EMBBERT_LOOKUP_ADD(to + c, low, m)
                EMBBERT_LOOKUP_ADD(to + c + 4, high, m)
            }
        }
        weight += (n / 2 + 3) / 4;
    }
}

#endif
