/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic that GCC calls by name and that Debian's libgcc for the LX106 lacks, as the ESP8266 has it in its ROM:
   division, wide products, and float32, rounded to nearest, ties to even. */

#include <stdint.h>

#ifndef ARITHMETIC_NAME /* a test gives them other names, under which a desk's compiler does not call them */
#define ARITHMETIC_NAME(name) name
#endif

uint32_t ARITHMETIC_NAME(__udivsi3)(uint32_t a, uint32_t b);
uint32_t ARITHMETIC_NAME(__umodsi3)(uint32_t a, uint32_t b);
int32_t ARITHMETIC_NAME(__divsi3)(int32_t a, int32_t b);
uint64_t ARITHMETIC_NAME(__umulsidi3)(uint32_t a, uint32_t b);
uint64_t ARITHMETIC_NAME(__muldi3)(uint64_t a, uint64_t b);
float ARITHMETIC_NAME(__addsf3)(float a, float b);
float ARITHMETIC_NAME(__subsf3)(float a, float b);
float ARITHMETIC_NAME(__mulsf3)(float a, float b);
float ARITHMETIC_NAME(__floatsisf)(int32_t a);
float ARITHMETIC_NAME(__floatunsisf)(uint32_t a);

/* ---- integers ---- */

uint32_t ARITHMETIC_NAME(__udivsi3)(uint32_t a, uint32_t b)
{
    uint32_t quotient = 0, bit = 1;
    if (b == 0)
        return 0xFFFFFFFFu;
    while (b < a && !(b & 0x80000000u)) {
        b <<= 1;
        bit <<= 1;
    }
    for (; bit != 0; bit >>= 1, b >>= 1) {
        if (a >= b) {
            a -= b;
            quotient |= bit;
        }
    }
    return quotient;
}

uint32_t ARITHMETIC_NAME(__umodsi3)(uint32_t a, uint32_t b) { return a - ARITHMETIC_NAME(__udivsi3)(a, b) * b; }

int32_t ARITHMETIC_NAME(__divsi3)(int32_t a, int32_t b)
{
    const uint32_t x = a < 0 ? 0u - (uint32_t)a : (uint32_t)a, y = b < 0 ? 0u - (uint32_t)b : (uint32_t)b;
    const uint32_t quotient = ARITHMETIC_NAME(__udivsi3)(x, y);
    return (int32_t)((a < 0) != (b < 0) ? 0u - quotient : quotient);
}

/* Joined by a union, as shifts of 64 bits may be calls too. */
typedef union {
    uint64_t whole;
    struct {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        uint32_t high, low;
#else
        uint32_t low, high;
#endif
    } part;
} wide_t;

uint64_t ARITHMETIC_NAME(__umulsidi3)(uint32_t a, uint32_t b)
{
    const uint32_t a0 = a & 0xFFFFu, a1 = a >> 16, b0 = b & 0xFFFFu, b1 = b >> 16;
    const uint32_t low = a0 * b0, middle = a1 * b0 + (low >> 16), other = a0 * b1 + (middle & 0xFFFFu);
    wide_t product;
    product.part.low = other << 16 | (low & 0xFFFFu);
    product.part.high = a1 * b1 + (middle >> 16) + (other >> 16);
    return product.whole;
}

uint64_t ARITHMETIC_NAME(__muldi3)(uint64_t a, uint64_t b)
{
    wide_t x, y, product;
    x.whole = a;
    y.whole = b;
    product.whole = ARITHMETIC_NAME(__umulsidi3)(x.part.low, y.part.low);
    product.part.high += x.part.low * y.part.high + x.part.high * y.part.low;
    return product.whole;
}

/* ---- float32: sign, exponent biased by 127, 23 bits of fraction ---- */

enum { FRACTION_BITS = 23, GUARD_BITS = 3, EXPONENT_MAX = 255 };
static const uint32_t SIGN = 0x80000000u, HIDDEN = 0x00800000u, INFINITE = 0x7F800000u, NOT_A_NUMBER = 0x7FC00000u;

typedef union {
    float value;
    uint32_t bits;
} real_t;

static float of_bits(uint32_t bits)
{
    real_t real;
    real.bits = bits;
    return real.value;
}

static uint32_t bits_of(float value)
{
    real_t real;
    real.value = value;
    return real.bits;
}

/* A right shift whose lowest bit tells whether ones were lost. */
static uint32_t shift_sticky(uint32_t value, int32_t by)
{
    if (by <= 0)
        return value;
    if (by > 31)
        return value != 0;
    return value >> by | ((value << (32 - by)) != 0);
}

/* The float of a significand with GUARD_BITS below its last place; not 0. Subnormal where the exponent is too small. */
static float rounded(uint32_t sign, int32_t exponent, uint32_t significand)
{
    while (significand >= HIDDEN << (GUARD_BITS + 1)) {
        significand = shift_sticky(significand, 1);
        exponent++;
    }
    while (significand < HIDDEN << GUARD_BITS && exponent > 1) {
        significand <<= 1;
        exponent--;
    }
    if (exponent < 1) {
        significand = shift_sticky(significand, 1 - exponent);
        exponent = 1;
    }
    const uint32_t rest = significand & 7u;
    significand = (significand >> GUARD_BITS) + (rest > 4u || (rest == 4u && (significand & 8u)));
    if (significand >= HIDDEN << 1) {
        significand >>= 1;
        exponent++;
    }
    if (exponent >= EXPONENT_MAX)
        return of_bits(sign | INFINITE);
    if (significand < HIDDEN)
        return of_bits(sign | significand);
    return of_bits(sign | (uint32_t)exponent << FRACTION_BITS | (significand & (HIDDEN - 1u)));
}

static int32_t exponent_of(uint32_t magnitude)
{
    const int32_t biased = (int32_t)(magnitude >> FRACTION_BITS);
    return biased ? biased : 1;
}

static uint32_t significand_of(uint32_t magnitude)
{
    const uint32_t fraction = magnitude & (HIDDEN - 1u);
    return magnitude >= HIDDEN ? fraction | HIDDEN : fraction;
}

float ARITHMETIC_NAME(__addsf3)(float a, float b)
{
    uint32_t x = bits_of(a), y = bits_of(b);
    if ((x & ~SIGN) < (y & ~SIGN)) {
        const uint32_t swap = x;
        x = y;
        y = swap;
    }
    const uint32_t large = x & ~SIGN, small = y & ~SIGN, sign = x & SIGN;
    const int subtract = ((x ^ y) & SIGN) != 0;
    if (large >= INFINITE)
        return of_bits(large > INFINITE || (small == INFINITE && subtract) ? NOT_A_NUMBER : x);
    const int32_t exponent = exponent_of(large);
    const uint32_t wide = significand_of(large) << GUARD_BITS;
    const uint32_t narrow = shift_sticky(significand_of(small) << GUARD_BITS, exponent - exponent_of(small));
    const uint32_t sum = subtract ? wide - narrow : wide + narrow;
    if (sum == 0)
        return of_bits(subtract ? 0u : sign);
    return rounded(sign, exponent, sum);
}

float ARITHMETIC_NAME(__subsf3)(float a, float b) { return ARITHMETIC_NAME(__addsf3)(a, of_bits(bits_of(b) ^ SIGN)); }

float ARITHMETIC_NAME(__mulsf3)(float a, float b)
{
    const uint32_t x = bits_of(a) & ~SIGN, y = bits_of(b) & ~SIGN, sign = (bits_of(a) ^ bits_of(b)) & SIGN;
    if (x >= INFINITE || y >= INFINITE) {
        const int nothing = x > INFINITE || y > INFINITE || x == 0 || y == 0;
        return of_bits(nothing ? NOT_A_NUMBER : sign | INFINITE);
    }
    if (x == 0 || y == 0)
        return of_bits(sign);
    uint32_t p = significand_of(x), q = significand_of(y);
    int32_t exponent = exponent_of(x) + exponent_of(y) - 127;
    for (; p < HIDDEN; exponent--)
        p <<= 1;
    for (; q < HIDDEN; exponent--)
        q <<= 1;
    /* 48 bits, of which 27 are kept: the significand, its guard bits and one that may be ahead. */
    wide_t product;
    product.whole = ARITHMETIC_NAME(__umulsidi3)(p, q);
    const uint32_t kept = product.part.high << 12 | product.part.low >> 20;
    return rounded(sign, exponent, kept | ((product.part.low & 0xFFFFFu) != 0));
}

static float of_magnitude(uint32_t sign, uint32_t magnitude)
{
    int32_t exponent = 127 + FRACTION_BITS + GUARD_BITS;
    if (magnitude == 0)
        return of_bits(0);
    return rounded(sign, exponent, magnitude);
}

float ARITHMETIC_NAME(__floatsisf)(int32_t a)
{
    return a < 0 ? of_magnitude(SIGN, 0u - (uint32_t)a) : of_magnitude(0, (uint32_t)a);
}

float ARITHMETIC_NAME(__floatunsisf)(uint32_t a) { return of_magnitude(0, a); }
