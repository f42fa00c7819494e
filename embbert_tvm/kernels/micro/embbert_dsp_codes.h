/* Products by weights of four or two bits with SMLAD, which multiplies by them as they lie. Under #else stands the plain
 * C, which is the specification; kernels/dsp_codes.py packs for them.
 *
 * Four rows' codes of a column are one number H of four digits, a halfword or a byte. A sum of a * H, one of a * (H
 * without its highest digit), and so on, are four sums of which each is known from the one below. A level is its code
 * less `offset`, which the sums start from; the highest of four bits is the halfword's, with its sign. A weight is its
 * level times the multiplier of its block of columns, which follows the block's codes. All is aligned to words. */
#ifndef EMBBERT_DSP_CODES_H
#define EMBBERT_DSP_CODES_H

#include "embbert_dsp.h"

/* starts (k / block, 4) = -offset times the sums of each row of the block operand a (k / 2, 4, 2) over each block. */
static inline void embbert_dsp_block_sums(int32_t *starts, const int16_t *a, int32_t k, int32_t block, int32_t offset)
{
    for (const int16_t *const end = a + 4 * k; a != end; starts += 4) {
        int32_t sums[4] = {0, 0, 0, 0};
        for (int32_t i = 0; i < block; i += 2, a += 8) {
#if EMBBERT_DSP
            const embbert_word_t *const both = (const embbert_word_t *)(const void *)a;
            const int32_t w = both[0], x = both[1], y = both[2], z = both[3];
            __asm__("smlad %0, %1, %2, %0" : "+r"(sums[0]) : "r"(w), "r"(0x00010001));
            __asm__("smlad %0, %1, %2, %0" : "+r"(sums[1]) : "r"(x), "r"(0x00010001));
            __asm__("smlad %0, %1, %2, %0" : "+r"(sums[2]) : "r"(y), "r"(0x00010001));
            __asm__("smlad %0, %1, %2, %0" : "+r"(sums[3]) : "r"(z), "r"(0x00010001));
#else
            for (int32_t r = 0; r < 4; r++) {
                sums[r] += a[2 * r] + a[2 * r + 1];
            }
#endif
        }
        for (int32_t r = 0; r < 4; r++) {
            starts[r] = -offset * sums[r];
        }
    }
}

/* The weight of row r of four and a column, of blocks of four rows of so many columns. */
static inline int32_t embbert_dsp_weight(const uint8_t *codes, int32_t r, int32_t column, int32_t offset,
                                         const int32_t block, const int32_t bits)
{
    const int32_t i = column % block, byte = bits == 4 ? 2 * i + r / 2 : i / 4 * 4 + i % 2 * 2 + i / 2 % 2;
    codes += column / block * (block * bits / 2 + 4);
    const int32_t code = codes[byte] >> (bits == 4 ? r % 2 * 4 : 2 * r) & ((1 << bits) - 1);
    const uint8_t *const multipliers = codes + block * bits / 2;
    const int32_t second = (multipliers[2] | multipliers[3] << 8) >> (bits == 4 ? 8 : 10);
    return ((bits == 4 && r == 3 ? code ^ 8 : code) - offset) * (r < 2 ? multipliers[0] : second);
}

/* What a block of columns starts from: the sums of as many digits as there are, from those of one in R0 and R4. */
#define EMBBERT_CODES_4_BEGIN                                                                                          \
    "add r1, r0, r0, lsl #4\n add r5, r4, r4, lsl #4\n add r2, r1, r0, lsl #8\n add r6, r5, r4, lsl #8\n"              \
    "mov r3, r2\n mov r8, r6\n"

/* The same of two bits. */
#define EMBBERT_CODES_2_BEGIN                                                                                          \
    "add r1, r0, r0, lsl #2\n add r5, r4, r4, lsl #2\n add r2, r1, r0, lsl #4\n add r6, r5, r4, lsl #4\n"              \
    "add r3, r2, r0, lsl #6\n add r8, r6, r4, lsl #6\n"

#if EMBBERT_DSP
/* A block's sums lie 4, 8 and 12 bits up, or 2, 4 and 6: two of each row are brought to where MLA and SMLAWT with a
 * multiplier that is 8 or 10 bits up take them. */
#define EMBBERT_CODES_4_SHIFT(first, row) EMBBERT_CODES_4_##first##_##row
#define EMBBERT_CODES_4_LOW_0 "asr r1, r1, #4\n"
#define EMBBERT_CODES_4_LOW_1 "asr r5, r5, #4\n"
#define EMBBERT_CODES_4_HIGH_0 "asr r3, r3, #4\n"
#define EMBBERT_CODES_4_HIGH_1 "asr r8, r8, #4\n"
#define EMBBERT_CODES_2_SHIFT(first, row) EMBBERT_CODES_2_##first##_##row
#define EMBBERT_CODES_2_LOW_0 "asr r1, r1, #2\n"
#define EMBBERT_CODES_2_LOW_1 "asr r5, r5, #2\n"
#define EMBBERT_CODES_2_HIGH_0 "lsl r2, r2, #2\n"
#define EMBBERT_CODES_2_HIGH_1 "lsl r6, r6, #2\n"
/* A block's sums times its multipliers, which lie behind its codes, added to the tile's at R7. */
#if EMBBERT_DUAL_ISSUE
#define EMBBERT_CODES_ADD(shift)                                                                                       \
    "sub r3, r3, r2\n ldr r11, [r12, #4]!\n sub r2, r2, r1\n ldr r7, [sp, #8]\n sub r8, r8, r6\n sub r6, r6, r5\n"     \
    "ldr r9, [r7, #8]\n" shift(HIGH, 0) "ldr r10, [r7, #12]\n" shift(HIGH, 1)                                          \
    "sub r1, r1, r0\n smlawt r2, r2, r11, r9\n ldr r9, [r7, #24]\n smlawt r3, r3, r11, r10\n ldr r10, [r7, #28]\n"     \
    "sub r5, r5, r4\n" shift(LOW, 0) "smlawt r6, r6, r11, r9\n ldr r9, [r7]\n smlawt r8, r8, r11, r10\n"               \
    "ldr r10, [r7, #4]\n uxth r11, r11\n" shift(LOW, 1) "mla r0, r0, r11, r9\n ldr r9, [r7, #16]\n"                    \
    "mla r1, r1, r11, r10\n ldr r10, [r7, #20]\n mla r4, r4, r11, r9\n mla r5, r5, r11, r10\n stmia r7, {r0-r6, r8}\n"
#else
#define EMBBERT_CODES_ADD(shift)                                                                                       \
    "ldr r11, [r12, #4]!\n ldr r7, [sp, #8]\n ldr r9, [r7, #8]\n ldr r10, [r7, #12]\n sub r3, r3, r2\n"                \
    "sub r2, r2, r1\n" shift(HIGH, 0) "smlawt r2, r2, r11, r9\n smlawt r3, r3, r11, r10\n ldr r9, [r7, #24]\n"         \
    "ldr r10, [r7, #28]\n sub r8, r8, r6\n sub r6, r6, r5\n" shift(HIGH, 1) "smlawt r6, r6, r11, r9\n"                 \
    "smlawt r8, r8, r11, r10\n ldr r9, [r7]\n ldr r10, [r7, #4]\n uxth r11, r11\n sub r1, r1, r0\n" shift(LOW, 0)      \
    "mla r0, r0, r11, r9\n mla r1, r1, r11, r10\n ldr r9, [r7, #16]\n ldr r10, [r7, #20]\n sub r5, r5, r4\n"           \
    shift(LOW, 1) "mla r4, r4, r11, r9\n mla r5, r5, r11, r10\n stmia r7, {r0-r6, r8}\n"
#endif
#define EMBBERT_DSP_CODES(name, variant, begin, steps, before, shift)                                                  \
    EMBBERT_INLINE void name(int32_t *acc, const int16_t *a, const uint8_t *codes, const int32_t *starts,              \
                             const uint8_t *last)                                                                      \
    {                                                                                                                  \
        register uintptr_t left __asm__("lr") = (uintptr_t)a;                                                          \
        register uintptr_t right __asm__("r12") = (uintptr_t)codes - 4;                                                \
        register uintptr_t at __asm__("r0") = (uintptr_t)starts;                                                       \
        register uintptr_t sums __asm__("r9") = (uintptr_t)acc;                                                        \
        register uintptr_t end __asm__("r10") = (uintptr_t)last;                                                       \
        __asm__ volatile("push {r0, r7, r9, r10}\n"                                                                    \
                         "1:\n ldr r9, [sp]\n ldr r0, [r9], #16\n ldr r4, [r9, #-12]\n str r9, [sp]\n" begin            \
                         EMBBERT_DOT_##variant##_START before(EMBBERT_DOT_##variant##_STEP, 0)                         \
                         EMBBERT_DOT_##variant##_LAST(steps, "[sp, #12]") EMBBERT_CODES_ADD(shift) "bne 1b\n"          \
                         "pop {r0, r7, r9, r10}\n"                                                                     \
                         : "+r"(left), "+r"(right), "+r"(at), "+r"(sums), "+r"(end)                                    \
                         :                                                                                             \
                         : "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r11", "cc", "memory");                           \
    }
EMBBERT_DSP_CODES(embbert_dsp_codes_4_64, CODES_4_GROUPED, EMBBERT_CODES_4_BEGIN, 32, EMBBERT_TIMES_31,
                  EMBBERT_CODES_4_SHIFT)
EMBBERT_DSP_CODES(embbert_dsp_codes_4_32, CODES_4_GROUPED, EMBBERT_CODES_4_BEGIN, 16, EMBBERT_TIMES_15,
                  EMBBERT_CODES_4_SHIFT)
#if EMBBERT_DUAL_ISSUE
EMBBERT_DSP_CODES(embbert_dsp_codes_2_64, CODES_2_SINGLE, EMBBERT_CODES_2_BEGIN, 16, EMBBERT_TIMES_15,
                  EMBBERT_CODES_2_SHIFT)
EMBBERT_DSP_CODES(embbert_dsp_codes_2_32, CODES_2_SINGLE, EMBBERT_CODES_2_BEGIN, 8, EMBBERT_TIMES_7,
                  EMBBERT_CODES_2_SHIFT)
#else
EMBBERT_DSP_CODES(embbert_dsp_codes_2_64, CODES_2_GROUPED, EMBBERT_CODES_2_BEGIN, 16, EMBBERT_TIMES_15,
                  EMBBERT_CODES_2_SHIFT)
EMBBERT_DSP_CODES(embbert_dsp_codes_2_32, CODES_2_GROUPED, EMBBERT_CODES_2_BEGIN, 8, EMBBERT_TIMES_7,
                  EMBBERT_CODES_2_SHIFT)
#endif
#endif

/* acc (2, 4) += two rows of the block operand a (k / 2, 4, 2) . four rows of weights of `bits` bits, 4 or 2, in blocks of
 * 64 or 32 columns. starts (k / block, 4): from the first of the two rows on. */
EMBBERT_INLINE void embbert_dsp_codes_2x4(int32_t *acc, const int16_t *a, const uint8_t *codes, const int32_t *starts,
                                          const int32_t offset, const int32_t k, const int32_t block,
                                          const int32_t bits)
{
#if EMBBERT_DSP
    const uint8_t *const last = codes + k / block * (block * bits / 2 + 4) - 8;
    (void)offset;
    if (bits == 4 && block == 64) {
        embbert_dsp_codes_4_64(acc, a, codes, starts, last);
    } else if (bits == 4) {
        embbert_dsp_codes_4_32(acc, a, codes, starts, last);
    } else if (block == 64) {
        embbert_dsp_codes_2_64(acc, a, codes, starts, last);
    } else {
        embbert_dsp_codes_2_32(acc, a, codes, starts, last);
    }
#else
    (void)starts;
    for (int32_t i = 0; i < k; i++) {
        for (int32_t j = 0; j < 4; j++) {
            const int32_t weight = embbert_dsp_weight(codes, j, i, offset, block, bits);
            for (int32_t r = 0; r < 2; r++) {
                acc[4 * r + j] += a[i / 2 * 8 + 2 * r + i % 2] * weight;
            }
        }
    }
#endif
}

#if EMBBERT_DSP
/* Two rows of a block of 2 * steps columns against all fours of rows of codes of four bits. An M7 needs five registers for
 * values to multiply in every cycle; SP is one more pointer while the rows lie at it:
 *
 *     0   the rows, pairs of columns of both side by side
 *     256 what eight sums start from
 *     288 where the tile's sums lie, bytes from one four rows of codes to the next, and where the last ends
 *
 * Interrupts push below SP and leave it alone. device/footprint.py counts these 304 bytes, and R7. Not inlined: 2 KB. */
#define EMBBERT_CODES_4_COPY                                                                                           \
    "ldrd r4, r5, [r0]\n ldrd r6, r8, [r0, #16]\n ldrd r9, r10, [r0, #32]\n strd r4, r5, [r11]\n"                      \
    "ldrd r4, r5, [r0, #48]\n strd r6, r8, [r11, #8]\n strd r9, r10, [r11, #16]\n strd r4, r5, [r11, #24]\n"           \
    "add r0, r0, #64\n add r11, r11, #32\n"
#define EMBBERT_CODES_4_SUMS                                                                                           \
    "ldr r0, [sp, #256]\n ldr r1, [sp, #260]\n ldr r2, [sp, #264]\n ldr r3, [sp, #268]\n"                              \
    "ldr r4, [sp, #272]\n ldr r5, [sp, #276]\n ldr r6, [sp, #280]\n ldr r8, [sp, #284]\n"
/* The sums lie 0, 4, 8 and 12 bits up. SMLAWT's multiplier is the word's upper half, 8 bits up, SMLAWB's 4. */
#define EMBBERT_CODES_4_OUT(steps)                                                                                     \
    "ldr r11, [r12, #4*" #steps "]\n sub r3, r3, r2\n ldr r7, [sp, #288]\n sub r8, r8, r6\n sub r2, r2, r1\n"          \
    "sub r6, r6, r5\n ldr r9, [r7, #32]\n lsr lr, r11, #20\n ldr r10, [r7, #36]\n sub r1, r1, r0\n"                   \
    "sub r5, r5, r4\n smlawt r2, r2, r11, r9\n ldr r9, [r7, #40]\n smlawb r3, r3, lr, r10\n ldr r10, [r7, #44]\n"     \
    "smlawt r6, r6, r11, r9\n and r11, r11, #31\n smlawb r8, r8, lr, r10\n ldr r9, [r7]\n asr r1, r1, #4\n"           \
    "ldr r10, [r7, #4]\n mla r0, r0, r11, r9\n asr r5, r5, #4\n mla r1, r1, r11, r10\n ldr r9, [r7, #8]\n"            \
    "ldr lr, [sp, #292]\n ldr r10, [r7, #12]\n mla r4, r4, r11, r9\n add r12, r12, lr\n mla r5, r5, r11, r10\n"       \
    "ldr lr, [sp, #296]\n add r10, r7, #32\n stmia r7, {r0, r1, r4, r5}\n add r7, r7, #64\n"                            \
    "stmia r10, {r2, r3, r6, r8}\n cmp r12, lr\n str r7, [sp, #288]\n"
#define EMBBERT_CODES_4_ROWS(name, steps, before)                                                                      \
    static __attribute__((noinline, unused)) void name(int32_t *sums, const int16_t *a, const uint8_t *codes,          \
                                                       const int32_t *starts, int32_t bytes, int32_t fours)            \
    {                                                                                                                  \
        register uintptr_t rows __asm__("r0") = (uintptr_t)a;                                                          \
        register uintptr_t begin __asm__("r1") = (uintptr_t)starts;                                                    \
        register uintptr_t out __asm__("r2") = (uintptr_t)sums;                                                        \
        register int32_t stride __asm__("r3") = bytes;                                                                 \
        register uintptr_t right __asm__("r12") = (uintptr_t)codes;                                                    \
        register uintptr_t end __asm__("lr") = (uintptr_t)codes + (uintptr_t)(bytes * fours);                          \
        __asm__ volatile("push {r7}\n sub sp, sp, #304\n add r4, sp, #288\n stmia r4, {r2, r3, lr}\n mov r11, sp\n"   \
                         "add lr, sp, #8*" #steps "\n 1:\n" EMBBERT_CODES_4_COPY "cmp r11, lr\n bne 1b\n"             \
                         "ldr r0, [r1]\n ldr r4, [r1, #4]\n add r11, sp, #256\n" EMBBERT_CODES_4_BEGIN                \
                         "stmia r11, {r0-r6, r8}\n 2:\n" EMBBERT_CODES_4_SUMS EMBBERT_DOT_CODES_4_STACK_START          \
                         before(EMBBERT_DOT_CODES_4_STACK_STEP, 0) EMBBERT_DOT_CODES_4_STACK_LAST(steps, 0)            \
                         EMBBERT_CODES_4_OUT(steps) "bne 2b\n add sp, sp, #304\n pop {r7}\n"                          \
                         : "+r"(rows), "+r"(begin), "+r"(out), "+r"(stride), "+r"(right), "+r"(end)                    \
                         :                                                                                             \
                         : "r4", "r5", "r6", "r8", "r9", "r10", "r11", "cc", "memory");                                \
    }
EMBBERT_CODES_4_ROWS(embbert_dsp_codes_rows_64, 32, EMBBERT_TIMES_31)
EMBBERT_CODES_4_ROWS(embbert_dsp_codes_rows_32, 16, EMBBERT_TIMES_15)
#endif

/* sums (n / 2, 4, 2) += the block operand a (k / 2, 4, 2) . n rows of weights of four bits, in blocks of 64 or 32 columns.
 * starts (k / block, 4). For cores that issue two instructions at once. */
static inline void embbert_dsp_codes_product(int32_t *sums, const int16_t *a, const uint8_t *codes,
                                             const int32_t *starts, int32_t n, int32_t k, int32_t block)
{
    const int32_t one = 2 * block + 4, bytes = k / block * one;
#if EMBBERT_DSP
    for (const uint8_t *const end = codes + bytes; codes != end; codes += one, a += 4 * block, starts += 4) {
        for (int32_t r = 0; r < 4; r += 2) {
            if (block == 64) {
                embbert_dsp_codes_rows_64(sums + 2 * r, a + 2 * r, codes, starts + r, bytes, n / 4);
            } else {
                embbert_dsp_codes_rows_32(sums + 2 * r, a + 2 * r, codes, starts + r, bytes, n / 4);
            }
        }
    }
#else
    (void)starts;
    for (int32_t j = 0; j < n; j++) {
        for (int32_t i = 0; i < k; i++) {
            const int32_t weight = embbert_dsp_weight(codes + j / 4 * bytes, j % 4, i, 8, block, 4);
            for (int32_t r = 0; r < 4; r++) {
                sums[j / 2 * 8 + 2 * r + j % 2] += a[i / 2 * 8 + 2 * r + i % 2] * weight;
            }
        }
    }
#endif
}

#if EMBBERT_DSP
/* Four columns of a row against four rows of codes of four bits. */
#define EMBBERT_CODES_4_PAIR(x, w)                                                                                     \
    "smlad %[t3], " x ", " w ", %[t3]\n bic " w ", " w ", #0xF000F000\n smlad %[total], " x ", %[ones], %[total]\n"    \
    "smlad %[t2], " x ", " w ", %[t2]\n and " w ", " w ", #0x00FF00FF\n smlad %[t1], " x ", " w ", %[t1]\n"           \
    "and " w ", " w ", #0x000F000F\n smlad %[t0], " x ", " w ", %[t0]\n"
#define EMBBERT_CODES_4_ROW                                                                                            \
    "ldr %[a], [%[at]], #4\n ldr %[c], [%[codes]], #8\n sxtb16 %[b], %[a], ror #8\n sxtb16 %[a], %[a]\n"              \
    "pkhbt %[d], %[a], %[b], lsl #16\n pkhtb %[b], %[b], %[a], asr #16\n" EMBBERT_CODES_4_PAIR("%[d]", "%[c]")         \
    "ldr %[a], [%[codes], #-4]\n" EMBBERT_CODES_4_PAIR("%[b]", "%[a]")
#endif

/* sums[j] += x (k,) . row j of weights (n, k) of `bits` bits, in blocks of 64 or 32 columns. n is a multiple of four; x is
 * aligned to words. */
static inline void embbert_dsp_codes_rows(int32_t *sums, const int8_t *x, const uint8_t *codes, const int32_t offset,
                                          int32_t n, const int32_t k, const int32_t block, const int32_t bits)
{
#if EMBBERT_DSP
#define EMBBERT_SMLAD(c, a, b) __asm__("smlad %0, %1, %2, %0" : "+r"(c) : "r"(a), "r"(b))
    for (int32_t j = 0; j < n; j += 4, sums += 4) {
        int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
        for (const int8_t *at = x; at != x + k; codes += 4) {
            int32_t t0 = 0, t1 = 0, t2 = 0, t3 = 0, total = 0;
            for (const int8_t *const end = at + block; at != end;) {
                int32_t even, odd, low, high, code;
                if (bits == 4) {
                    __asm__ volatile(EMBBERT_CODES_4_ROW EMBBERT_CODES_4_ROW EMBBERT_CODES_4_ROW EMBBERT_CODES_4_ROW
                                     : [t0] "+r"(t0), [t1] "+r"(t1), [t2] "+r"(t2), [t3] "+r"(t3), [total] "+r"(total),
                                       [at] "+r"(at), [codes] "+r"(codes), [a] "=&r"(low), [b] "=&r"(high),
                                       [c] "=&r"(code), [d] "=&r"(odd)
                                     : [ones] "r"(0x00010001)
                                     : "memory");
                    continue;
                }
                const int32_t word = *(const embbert_word_t *)(const void *)codes;
                __asm__("sxtb16 %0, %1" : "=r"(even) : "r"(*(const embbert_word_t *)(const void *)at));
                __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(*(const embbert_word_t *)(const void *)at));
                __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(low) : "r"(even), "r"(odd));
                __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(high) : "r"(odd), "r"(even));
                EMBBERT_SMLAD(total, low, 0x00010001);
                EMBBERT_SMLAD(total, high, 0x00010001);
                for (int32_t h = 0; h < 2; h++) {
                    const int32_t by = h ? high : low;
                    code = word >> 8 * h & 0x00FF00FF;
                    EMBBERT_SMLAD(t3, by, code);
                    EMBBERT_SMLAD(t2, by, code & 0x003F003F);
                    EMBBERT_SMLAD(t1, by, code & 0x000F000F);
                    EMBBERT_SMLAD(t0, by, code & 0x00030003);
                }
                at += 4, codes += 4;
            }
            const int32_t first = codes[0], second = (codes[2] | codes[3] << 8) >> (bits == 4 ? 8 : 10);
            total *= offset;
            s0 += (t0 - total) * first, s1 += (((t1 - t0) >> bits) - total) * first;
            s2 += (((t2 - t1) >> 2 * bits) - total) * second;
            s3 += (((t3 - t2) >> 3 * bits) - (bits == 4 ? 0 : total)) * second;
        }
        sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
    }
#undef EMBBERT_SMLAD
#else
    for (int32_t j = 0; j < n; j++) {
        const uint8_t *const four = codes + j / 4 * (k / block * (block * bits / 2 + 4));
        for (int32_t i = 0; i < k; i++) {
            sums[j] += x[i] * embbert_dsp_weight(four, j % 4, i, offset, block, bits);
        }
    }
#endif
}

#endif
