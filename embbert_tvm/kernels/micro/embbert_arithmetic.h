/* The fixed-point arithmetic of the kernels. Each function is defined by its plain C; an instruction that does the
 * same stands beside it where the CPU has one. */
#ifndef EMBBERT_ARITHMETIC_H
#define EMBBERT_ARITHMETIC_H

#include <stdint.h>

static inline int32_t min_i32(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t max_i32(int32_t a, int32_t b) { return a > b ? a : b; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

/* round(a * m / 2^32), ties upward. Needs a compiler that shifts negative numbers arithmetically, as all do. */
static inline int32_t multiply_high(int32_t a, int32_t m)
{
#if defined(__ARM_FEATURE_DSP)
    int32_t product;
    __asm__("smmulr %0, %1, %2" : "=r"(product) : "r"(a), "r"(m));
    return product;
#else
    return (int32_t)(((int64_t)a * m + INT64_C(0x80000000)) >> 32);
#endif
}

/* value clamped to [-128, 127] */
static inline int32_t saturate_i8(int32_t value)
{
#if defined(__ARM_FEATURE_SAT)
    int32_t clamped;
    __asm__("ssat %0, #8, %1" : "=r"(clamped) : "r"(value));
    return clamped;
#else
    return max_i32(min_i32(value, 127), -128);
#endif
}

/* value clamped to [0, 255] */
static inline int32_t saturate_u8(int32_t value)
{
#if defined(__ARM_FEATURE_SAT)
    int32_t clamped;
    __asm__("usat %0, #8, %1" : "=r"(clamped) : "r"(value));
    return clamped;
#else
    return max_i32(min_i32(value, 255), 0);
#endif
}

#endif
