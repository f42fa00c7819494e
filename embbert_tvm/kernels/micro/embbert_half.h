/* IEEE half precision as it is stored, 16 bits in a uint16_t, to and from float; rounded to nearest, ties to even. Every
 * CPU gives the same bits: one instruction where it has it, whole numbers elsewhere. */
#ifndef EMBBERT_HALF_H
#define EMBBERT_HALF_H

#include <stdint.h>
#include <string.h>

#if defined(__ARM_FP) && (__ARM_FP & 2)
#define EMBBERT_HALF_INSTRUCTION 1
#else
#define EMBBERT_HALF_INSTRUCTION 0
#endif

static inline float half_to_float(uint16_t half)
{
    float value;
#if EMBBERT_HALF_INSTRUCTION
    float bits;
    const uint32_t word = half;
    memcpy(&bits, &word, sizeof bits);
    __asm__("vcvtb.f32.f16 %0, %1" : "=t"(value) : "t"(bits));
#else
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, rest = half & 0x7fffu;
    uint32_t bits;
    if (rest >= 0x7c00u) {
        bits = 0x7f800000u | rest << 13;
    } else if (rest >= 0x0400u) {
        bits = (rest << 13) + 0x38000000u;
    } else {
        /* Steps of 2^-24, exact in a float. */
        const float steps = (float)rest * 5.9604644775390625e-8f;
        memcpy(&bits, &steps, sizeof bits);
    }
    bits |= sign;
    memcpy(&value, &bits, sizeof value);
#endif
    return value;
}

static inline uint16_t half_from_float(float value)
{
    uint32_t bits;
#if EMBBERT_HALF_INSTRUCTION
    float half = 0.0f;
    __asm__("vcvtb.f16.f32 %0, %1" : "+t"(half) : "t"(value));
    memcpy(&bits, &half, sizeof bits);
    return (uint16_t)bits;
#else
    memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u | (rest >> 13 & 0x1ffu));
    }
    if (rest >= 0x477ff000u) {
        return (uint16_t)(sign | 0x7c00u);
    }
    if (rest >= 0x38800000u) {
        const uint32_t scaled = rest - 0x38000000u;
        return (uint16_t)(sign | (scaled + 0x0fffu + (scaled >> 13 & 1u)) >> 13);
    }
    if (rest < 0x33000000u) {
        return (uint16_t)sign;
    }
    /* A mantissa of 24 bits to steps of 2^-24. */
    const uint32_t mantissa = (rest & 0x007fffffu) | 0x00800000u, shift = 126u - (rest >> 23);
    const uint32_t kept = mantissa >> shift, lost = mantissa & ((1u << shift) - 1u), middle = 1u << (shift - 1u);
    return (uint16_t)(sign | (kept + (lost > middle || (lost == middle && (kept & 1u)))));
#endif
}

#endif
