/* Weights of fewer than 8 bits to int8. Under #else stands the plain C, which is its specification.
 *
 * A plane of `bits` bits is words of 32 / bits codes: byte lane i of a word holds codes i, 4 + i, 8 + i, ..., the first
 * lowest. So a shift and a mask take four neighbours at once, one multiplication scales all four, as a code times its
 * block's multiplier stays below 256, and one subtraction by lanes makes them signed.
 */
#ifndef EMBBERT_LOW_BITS_H
#define EMBBERT_LOW_BITS_H

#include <stdint.h>

#if defined(__ARM_FEATURE_DSP) && defined(__OPTIMIZE__)
#define EMBBERT_LANES 1
#define EMBBERT_UNROLL _Pragma("GCC unroll 8")
typedef uint32_t embbert_lanes_t __attribute__((may_alias));
#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
#define EMBBERT_LANES_MVE 1
#else
#define EMBBERT_LANES_MVE 0
#endif
#else
#define EMBBERT_LANES 0
#define EMBBERT_LANES_MVE 0
#endif

/* The multiplier of block `at`: four bits, less one. */
static inline int32_t embbert_multiplier(const uint8_t *multipliers, int32_t at)
{
    return ((multipliers[at / 2] >> (at % 2 * 4)) & 15) + 1;
}

static inline int32_t embbert_code(const uint8_t *plane, int32_t i, const int32_t bits)
{
    const int32_t codes = 32 / bits;
    return (plane[i / codes * 4 + i % 4] >> (i % codes / 4 * bits)) & ((1 << bits) - 1);
}

#if EMBBERT_LANES_MVE
/* out[i] = (first + code i) * multiplier of 64 codes of two bits, of which the last 32 have another one. */
static inline void embbert_unpack_64(int8_t *out, const uint8_t *codes, int32_t first, int32_t multiplier, int32_t other)
{
    const uint8x16_t all = vld1q_u8(codes), mask = vdupq_n_u8(3), offset = vdupq_n_u8((uint8_t)first);
    const uint32x4_t factors = {(uint32_t)multiplier, (uint32_t)multiplier, (uint32_t)other, (uint32_t)other};
    const uint8x16_t m = vreinterpretq_u8_u32(vmulq_n_u32(factors, 0x01010101u));
    uint32x4x4_t words;
    words.val[0] = vreinterpretq_u32_u8(vmulq_u8(vaddq_u8(vandq_u8(all, mask), offset), m));
    words.val[1] = vreinterpretq_u32_u8(vmulq_u8(vaddq_u8(vandq_u8(vshrq_n_u8(all, 2), mask), offset), m));
    words.val[2] = vreinterpretq_u32_u8(vmulq_u8(vaddq_u8(vandq_u8(vshrq_n_u8(all, 4), mask), offset), m));
    words.val[3] = vreinterpretq_u32_u8(vmulq_u8(vaddq_u8(vshrq_n_u8(all, 6), offset), m));
    vst4q_u32((uint32_t *)(void *)out, words);
}
#endif

/* out[i] = (first + step * code i) * the multiplier of block at + i / block, for i < count. low: the plane of the codes'
 * low bits; high: of the others, where high_bits is not 0. block 0: `most` is the multiplier of all. count is whole
 * blocks. A block, or count where there is none, is a multiple of 32 or, of fewer codes, whole words of each plane. */
static inline void embbert_unpack(int8_t *out, const uint8_t *low, const uint8_t *high, const uint8_t *multipliers,
                                  int32_t at, const int32_t count, const int32_t block, const int32_t low_bits,
                                  const int32_t high_bits, const int32_t first, const int32_t step, const int32_t most)
{
#if EMBBERT_LANES
    const int32_t run = block == 0 ? count : block, parts = run < 32 ? run / 4 : 8;
#if EMBBERT_LANES_MVE
    if (low_bits == 2 && high_bits == 0 && step == 1 && count % 64 == 0 && (run == 32 || run % 64 == 0)) {
        for (int32_t i = 0; i < count; i += 64) {
            const int32_t m = block == 0 ? most : embbert_multiplier(multipliers, at + i / run);
            embbert_unpack_64(out + i, low + i / 4, first, m,
                              run == 32 ? embbert_multiplier(multipliers, at + i / run + 1) : m);
        }
        return;
    }
#endif
    for (int32_t i = 0; i < count; i += run, at++) {
        const int32_t m = block == 0 ? most : embbert_multiplier(multipliers, at);
        const uint32_t factor = (uint32_t)(m * step), zero = (uint32_t)(m * -first) * 0x01010101u;
#if EMBBERT_LANES_MVE
        if (low_bits == 4 && high_bits == 0 && run % 32 == 0) {
            for (int32_t c = 0; c < run; c += 32, low += 16, out += 32) {
                const uint8x16_t codes = vld1q_u8(low);
                uint32x4x2_t words;
                words.val[0] = vreinterpretq_u32_u8(
                    vsubq_n_u8(vmulq_n_u8(vandq_u8(codes, vdupq_n_u8(15)), (uint8_t)factor), (uint8_t)zero));
                words.val[1] =
                    vreinterpretq_u32_u8(vsubq_n_u8(vmulq_n_u8(vshrq_n_u8(codes, 4), (uint8_t)factor), (uint8_t)zero));
                vst2q_u32((uint32_t *)(void *)out, words);
            }
            continue;
        }
#endif
        embbert_lanes_t *to = (embbert_lanes_t *)(void *)out;
        const embbert_lanes_t *words = (const embbert_lanes_t *)(const void *)low;
        const embbert_lanes_t *tops = (const embbert_lanes_t *)(const void *)high;
        const uint32_t mask = (low_bits == 4 ? 15u : low_bits == 2 ? 3u : 1u) * 0x01010101u;
        const uint32_t mask_high = (high_bits == 2 ? 3u : 1u) * 0x01010101u;
        for (int32_t c = 0; c < run; c += 32, to += 8, words += low_bits, tops += high_bits) {
            EMBBERT_UNROLL
            for (int32_t w = 0; w < parts; w++) {
                uint32_t codes = (words[w * low_bits / 8] >> (w * low_bits % 8)) & mask;
                if (high_bits != 0) {
                    codes |= ((tops[w * high_bits / 8] >> (w * high_bits % 8)) & mask_high) << low_bits;
                }
                __asm__("usub8 %0, %1, %2" : "=r"(to[w]) : "r"(codes * factor), "r"(zero));
            }
        }
        out += run, low += run / 8 * low_bits, high += run / 8 * high_bits;
    }
#else
    for (int32_t i = 0; i < count; i++) {
        const int32_t m = block == 0 ? most : embbert_multiplier(multipliers, at + i / block);
        int32_t code = embbert_code(low, i, low_bits);
        if (high_bits != 0) {
            code |= embbert_code(high, i, high_bits) << low_bits;
        }
        out[i] = (int8_t)((first + step * code) * m);
    }
#endif
}

#endif
