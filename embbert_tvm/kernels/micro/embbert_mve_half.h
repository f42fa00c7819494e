/* Micro-kernels in half precision for MVE with floating point (VFMA: eight products and their sums an instruction).
 * What they compute is written once, in operations on eight lanes: an MVE instruction each, or under #else plain C that
 * rounds each result to half precision as the instruction does, so that every CPU gives the same bits.
 *
 * Layout. A packed matrix (rows / 8, k, 8) holds eight rows side by side: column k of all eight is a vector, and no
 * sum is ever one of lanes. What a row past the last holds is read into no other row's result.
 *
 * A sum of many products is kept in half precision for EMBBERT_HALF_CHUNK of them, then added to what went before.
 */
#ifndef EMBBERT_MVE_HALF_H
#define EMBBERT_MVE_HALF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "embbert_half.h"

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2) && defined(__OPTIMIZE__)
#include <arm_mve.h>
#define EMBBERT_MVE_HALF 1
#else
#define EMBBERT_MVE_HALF 0
#endif

#define EMBBERT_HALF_CHUNK 64

#if EMBBERT_MVE_HALF

/* Eight halves, and the same eight as floats: the even ones and the odd ones. */
typedef float16x8_t embbert_h8_t;
typedef struct {
    float32x4_t even, odd;
} embbert_f8_t;

static inline embbert_h8_t h8_load(const uint16_t *p) { return vreinterpretq_f16_u16(vld1q_u16(p)); }
static inline void h8_store(uint16_t *p, embbert_h8_t a) { vst1q_u16(p, vreinterpretq_u16_f16(a)); }
static inline embbert_h8_t h8_all(uint16_t bits) { return vreinterpretq_f16_u16(vdupq_n_u16(bits)); }
static inline embbert_h8_t h8_add(embbert_h8_t a, embbert_h8_t b) { return vaddq_f16(a, b); }
static inline embbert_h8_t h8_sub(embbert_h8_t a, embbert_h8_t b) { return vsubq_f16(a, b); }
static inline embbert_h8_t h8_mul(embbert_h8_t a, embbert_h8_t b) { return vmulq_f16(a, b); }
static inline embbert_h8_t h8_max(embbert_h8_t a, embbert_h8_t b) { return vmaxnmq_f16(a, b); }
static inline embbert_h8_t h8_fma(embbert_h8_t c, embbert_h8_t a, embbert_h8_t b) { return vfmaq_f16(c, a, b); }
static inline embbert_h8_t h8_fms(embbert_h8_t c, embbert_h8_t a, embbert_h8_t b) { return vfmsq_f16(c, a, b); }

static inline embbert_h8_t h8_minus_size(embbert_h8_t a)
{
    return vreinterpretq_f16_u16(vorrq_u16(vreinterpretq_u16_f16(a), vdupq_n_u16(0x8000)));
}

/* a, or 0 where b is below 0. */
static inline embbert_h8_t h8_unless_negative(embbert_h8_t a, embbert_h8_t b)
{
    const int16x8_t below = vshrq_n_s16(vreinterpretq_s16_f16(b), 15);
    return vreinterpretq_f16_s16(vbicq_s16(vreinterpretq_s16_f16(a), below));
}

/* a where b is not below 0, c where it is. */
static inline embbert_h8_t h8_by_sign(embbert_h8_t b, embbert_h8_t a, embbert_h8_t c)
{
    const int16x8_t below = vshrq_n_s16(vreinterpretq_s16_f16(b), 15);
    const int16x8_t kept = vbicq_s16(vreinterpretq_s16_f16(a), below);
    return vreinterpretq_f16_s16(vorrq_s16(kept, vandq_s16(vreinterpretq_s16_f16(c), below)));
}

/* a * 2^n, both normal, where b = 1536 + n for a whole number n: its last bits are n. */
static inline embbert_h8_t h8_scale(embbert_h8_t a, embbert_h8_t b)
{
    const int16x8_t exponents = vshlq_n_s16(vreinterpretq_s16_f16(b), 10);
    return vreinterpretq_f16_s16(vaddq_s16(vreinterpretq_s16_f16(a), exponents));
}

/* VCVTB and VCVTT between floats and halves, in numbers: GNU as 2.40 writes those of other registers than are asked
 * for. */
static inline embbert_f8_t f8_widen(embbert_h8_t a)
{
    register embbert_h8_t source __asm__("q1") = a;
    register float32x4_t even __asm__("q0"), odd __asm__("q1");
    __asm__(".inst.w 0xfe3f0e03 @ vcvtb.f32.f16 q0, q1\n"
            ".inst.w 0xfe3f3e03 @ vcvtt.f32.f16 q1, q1\n"
            : "=&w"(even), "=w"(odd)
            : "w"(source));
    return (embbert_f8_t){even, odd};
}

static inline embbert_h8_t f8_narrow(embbert_f8_t a)
{
    register float32x4_t even __asm__("q0") = a.even, odd __asm__("q1") = a.odd;
    register embbert_h8_t out __asm__("q0");
    __asm__(".inst.w 0xee3f0e01 @ vcvtb.f16.f32 q0, q0\n"
            ".inst.w 0xee3f1e03 @ vcvtt.f16.f32 q0, q1\n"
            : "=w"(out)
            : "w"(even), "w"(odd));
    return out;
}

static inline embbert_f8_t f8_all(float a) { return (embbert_f8_t){vdupq_n_f32(a), vdupq_n_f32(a)}; }

static inline embbert_f8_t f8_add(embbert_f8_t a, embbert_f8_t b)
{
    return (embbert_f8_t){vaddq_f32(a.even, b.even), vaddq_f32(a.odd, b.odd)};
}

static inline embbert_f8_t f8_sub(embbert_f8_t a, embbert_f8_t b)
{
    return (embbert_f8_t){vsubq_f32(a.even, b.even), vsubq_f32(a.odd, b.odd)};
}

static inline embbert_f8_t f8_mul(embbert_f8_t a, embbert_f8_t b)
{
    return (embbert_f8_t){vmulq_f32(a.even, b.even), vmulq_f32(a.odd, b.odd)};
}

/* The lanes one after the other, in any order, and back from it. */
static inline void f8_store(float *p, embbert_f8_t a)
{
    vst1q_f32(p, a.even);
    vst1q_f32(p + 4, a.odd);
}

static inline embbert_f8_t f8_load(const float *p) { return (embbert_f8_t){vld1q_f32(p), vld1q_f32(p + 4)}; }

#else

/* Eight halves as the doubles that they are: the product of two and its sum with a third come out of a double as if it
 * had been rounded once. */
typedef struct {
    double lane[8];
} embbert_h8_t;
typedef struct {
    float lane[8];
} embbert_f8_t;

/* The half nearest to a. */
static inline double half_nearest(double a)
{
    uint64_t bits, magic;
    double size, shifter, rounded;
    memcpy(&bits, &a, sizeof bits);
    /* 2^42 times the power of two below |a|, at least that of the least normal half: adding it leaves 11 bits. */
    magic = bits & UINT64_C(0x7ff0000000000000);
    magic = (magic > UINT64_C(0x3f10000000000000) ? magic : UINT64_C(0x3f10000000000000)) + (UINT64_C(42) << 52);
    bits &= UINT64_C(0x7fffffffffffffff);
    memcpy(&size, &bits, sizeof size);
    if (!(size < 65520.0)) {
        return a != a ? a : a > 0.0 ? (double)INFINITY : -(double)INFINITY;
    }
    memcpy(&shifter, &magic, sizeof shifter);
    rounded = (size + shifter) - shifter;
    return copysign(rounded, a);
}

static inline double half_bits_to_double(uint16_t bits) { return (double)half_to_float(bits); }

#define EMBBERT_H8_EACH(expression)                                                                                    \
    embbert_h8_t out;                                                                                                  \
    for (int i = 0; i < 8; i++) {                                                                                      \
        out.lane[i] = expression;                                                                                      \
    }                                                                                                                  \
    return out
#define EMBBERT_F8_EACH(expression)                                                                                    \
    embbert_f8_t out;                                                                                                  \
    for (int i = 0; i < 8; i++) {                                                                                      \
        out.lane[i] = expression;                                                                                      \
    }                                                                                                                  \
    return out

static inline embbert_h8_t h8_load(const uint16_t *p) { EMBBERT_H8_EACH(half_bits_to_double(p[i])); }

static inline void h8_store(uint16_t *p, embbert_h8_t a)
{
    for (int i = 0; i < 8; i++) {
        p[i] = a.lane[i] != a.lane[i] ? 0x7e00u : half_from_float((float)a.lane[i]);
    }
}

static inline embbert_h8_t h8_all(uint16_t bits)
{
    const double value = half_bits_to_double(bits);
    EMBBERT_H8_EACH(value);
}

static inline embbert_h8_t h8_add(embbert_h8_t a, embbert_h8_t b)
{
    EMBBERT_H8_EACH(half_nearest(a.lane[i] + b.lane[i]));
}

static inline embbert_h8_t h8_sub(embbert_h8_t a, embbert_h8_t b)
{
    EMBBERT_H8_EACH(half_nearest(a.lane[i] - b.lane[i]));
}

static inline embbert_h8_t h8_mul(embbert_h8_t a, embbert_h8_t b)
{
    EMBBERT_H8_EACH(half_nearest(a.lane[i] * b.lane[i]));
}

static inline embbert_h8_t h8_max(embbert_h8_t a, embbert_h8_t b)
{
    EMBBERT_H8_EACH(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]);
}

static inline embbert_h8_t h8_fma(embbert_h8_t c, embbert_h8_t a, embbert_h8_t b)
{
    EMBBERT_H8_EACH(half_nearest(c.lane[i] + a.lane[i] * b.lane[i]));
}

static inline embbert_h8_t h8_fms(embbert_h8_t c, embbert_h8_t a, embbert_h8_t b)
{
    EMBBERT_H8_EACH(half_nearest(c.lane[i] - a.lane[i] * b.lane[i]));
}

static inline embbert_h8_t h8_minus_size(embbert_h8_t a) { EMBBERT_H8_EACH(-fabs(a.lane[i])); }

static inline embbert_h8_t h8_unless_negative(embbert_h8_t a, embbert_h8_t b)
{
    EMBBERT_H8_EACH(signbit(b.lane[i]) ? 0.0 : a.lane[i]);
}

static inline embbert_h8_t h8_by_sign(embbert_h8_t b, embbert_h8_t a, embbert_h8_t c)
{
    EMBBERT_H8_EACH(signbit(b.lane[i]) ? c.lane[i] : a.lane[i]);
}

static inline embbert_h8_t h8_scale(embbert_h8_t a, embbert_h8_t b)
{
    EMBBERT_H8_EACH(ldexp(a.lane[i], (int)(b.lane[i] - 1536.0)));
}

static inline embbert_f8_t f8_widen(embbert_h8_t a) { EMBBERT_F8_EACH((float)a.lane[i]); }
static inline embbert_h8_t f8_narrow(embbert_f8_t a) { EMBBERT_H8_EACH(half_nearest((double)a.lane[i])); }
static inline embbert_f8_t f8_all(float a) { EMBBERT_F8_EACH(a); }
static inline embbert_f8_t f8_add(embbert_f8_t a, embbert_f8_t b) { EMBBERT_F8_EACH(a.lane[i] + b.lane[i]); }
static inline embbert_f8_t f8_sub(embbert_f8_t a, embbert_f8_t b) { EMBBERT_F8_EACH(a.lane[i] - b.lane[i]); }
static inline embbert_f8_t f8_mul(embbert_f8_t a, embbert_f8_t b) { EMBBERT_F8_EACH(a.lane[i] * b.lane[i]); }
static inline void f8_store(float *p, embbert_f8_t a) { memcpy(p, a.lane, sizeof a.lane); }

static inline embbert_f8_t f8_load(const float *p)
{
    embbert_f8_t out;
    memcpy(out.lane, p, sizeof out.lane);
    return out;
}

#endif

/* exp(x) for x <= 0, within 0.2 %; 0 below -9.5, where a half of it would not be normal. */
static inline embbert_h8_t h8_exp(embbert_h8_t x)
{
    const embbert_h8_t least = h8_all(0xc8c0);  /* -9.5 */
    const embbert_h8_t whole = h8_all(0x6600);  /* 1536: halves from 1024 to 2048 are whole numbers */
    const embbert_h8_t log2e = h8_all(0x3dc5), rest = h8_all(0x0d1e);
    const embbert_h8_t near = h8_max(x, least);
    const embbert_h8_t shifted = h8_fma(whole, near, log2e);
    /* 2^f by a polynomial, |f| <= 1/2. */
    embbert_h8_t f = h8_fma(h8_sub(whole, shifted), near, log2e);
    f = h8_fma(f, near, rest);
    embbert_h8_t power = h8_fma(h8_all(0x33c0), f, h8_all(0x2b0b));
    power = h8_fma(h8_all(0x398c), f, power);
    power = h8_fma(h8_all(0x3c00), f, power);
    return h8_unless_negative(h8_scale(power, shifted), h8_sub(x, least));
}

/* 1 / (1 + exp(-x)) times y. */
static inline embbert_h8_t h8_sigmoid_times(embbert_h8_t x, embbert_h8_t y)
{
    const embbert_h8_t one = h8_all(0x3c00);
    const embbert_h8_t e = h8_exp(h8_minus_size(x));
    const embbert_h8_t d = h8_add(one, e);
    /* 1 / d by Newton's iteration, from a line within 1/17 of it on [1, 2]. */
    embbert_h8_t r = h8_fma(h8_all(0x3da6), d, h8_all(0xb788));
    r = h8_fma(r, r, h8_fms(one, d, r));
    r = h8_fma(r, r, h8_fms(one, d, r));
    return h8_mul(h8_mul(y, h8_by_sign(x, one, e)), r);
}

/* sums (n, 8) = bias[j]. */
static inline void embbert_mve_half_start(uint16_t *sums, const uint16_t *bias, int32_t n)
{
    for (int32_t j = 0; j < n; j++) {
        h8_store(sums + 8 * j, h8_all(bias[j]));
    }
}

/* sums (n, 8) += x of the same layout. */
static inline void embbert_mve_half_add(uint16_t *sums, const uint16_t *x, int32_t n)
{
    for (int32_t j = 0; j < n; j++) {
        h8_store(sums + 8 * j, h8_add(h8_load(sums + 8 * j), h8_load(x + 8 * j)));
    }
}

/* Four sums of a chunk. */
typedef struct {
    embbert_h8_t sum[4];
} embbert_h8x4_t;

static inline embbert_h8x4_t h8x4_zero(void)
{
    const embbert_h8_t zero = h8_all(0);
    return (embbert_h8x4_t){{zero, zero, zero, zero}};
}

/* sums (4, 8) += chunk. */
static inline void h8x4_add_to(uint16_t *sums, const embbert_h8x4_t *chunk)
{
    for (int32_t i = 0; i < 4; i++) {
        h8_store(sums + 8 * i, h8_add(h8_load(sums + 8 * i), chunk->sum[i]));
    }
}

#if EMBBERT_MVE_HALF
/* VFMA by the lower half of a register, then by its upper half, which has to be shifted down. */
#define EMBBERT_HALF_BOTH(x, y, low, high, word)                                                                       \
    "vfma.f16 " low ", " x ", " word "\n lsr " word ", " word ", #16\n vfma.f16 " high ", " y ", " word "\n"
#define EMBBERT_HALF_WORDS "r0", "r1", "r2", "r3"
/* Two of x for four sums, by the words that `load` brings from w. */
#define EMBBERT_HALF_STEP(load)                                                                                        \
    load "vldrw.u32 q4, [%[x]], #16\n vldrw.u32 q5, [%[x]], #16\n"                                                     \
    EMBBERT_HALF_BOTH("q4", "q4", "%q[a]", "%q[b]", "r0") EMBBERT_HALF_BOTH("q4", "q4", "%q[c]", "%q[d]", "r1")        \
    EMBBERT_HALF_BOTH("q5", "q5", "%q[a]", "%q[b]", "r2") EMBBERT_HALF_BOTH("q5", "q5", "%q[c]", "%q[d]", "r3")
#define EMBBERT_HALF_ASM(code, chunk, from, words)                                                                     \
    __asm__(code                                                                                                       \
            : [a] "+w"(chunk.sum[0]), [b] "+w"(chunk.sum[1]), [c] "+w"(chunk.sum[2]), [d] "+w"(chunk.sum[3]),          \
              [x] "+r"(from), [w] "+r"(words)                                                                          \
            :                                                                                                          \
            : EMBBERT_HALF_WORDS, "q4", "q5", "memory")
#define EMBBERT_HALF_STEPS(load, chunk, from, words, steps)                                                            \
    do {                                                                                                               \
        int32_t left = steps;                                                                                          \
        for (; left >= 4; left -= 4) {                                                                                 \
            EMBBERT_HALF_ASM(EMBBERT_HALF_STEP(load) EMBBERT_HALF_STEP(load) EMBBERT_HALF_STEP(load)                   \
                             EMBBERT_HALF_STEP(load), chunk, from, words);                                             \
        }                                                                                                              \
        for (; left > 0; left--) {                                                                                     \
            EMBBERT_HALF_ASM(EMBBERT_HALF_STEP(load), chunk, from, words);                                             \
        }                                                                                                              \
    } while (0)
#endif

/* sums (4 * tiles, 8) += x (k, 8) . weight, of which weight (tiles, k / 2, 2, 4) holds for four columns of sums and two
 * of x the factors of the first, then those of the second. k is even. */
static inline void embbert_mve_half_product(uint16_t *sums, const uint16_t *x, const uint16_t *weight, int32_t tiles,
                                            int32_t k)
{
    for (int32_t q = 0; q < tiles; q++, sums += 32) {
        for (int32_t start = 0; start < k; start += EMBBERT_HALF_CHUNK) {
            const int32_t rest = k - start, steps = (rest < EMBBERT_HALF_CHUNK ? rest : EMBBERT_HALF_CHUNK) / 2;
            const uint16_t *from = x + 8 * start;
            embbert_h8x4_t chunk = h8x4_zero();
#if EMBBERT_MVE_HALF
            EMBBERT_HALF_STEPS("ldm %[w]!, {r0, r1, r2, r3}\n ", chunk, from, weight, steps);
#else
            for (int32_t step = 0; step < 2 * steps; step++, from += 8, weight += 4) {
                const embbert_h8_t column = h8_load(from);
                for (int32_t i = 0; i < 4; i++) {
                    chunk.sum[i] = h8_fma(chunk.sum[i], column, h8_all(weight[i]));
                }
            }
#endif
            h8x4_add_to(sums, &chunk);
        }
    }
}

/* scores (8 * blocks, 8): those of every key for eight queries, query (k, 8) . keys (blocks, k, 8). k is even. */
static inline void embbert_mve_half_scores(uint16_t *scores, const uint16_t *query, const uint16_t *keys,
                                           int32_t blocks, int32_t k)
{
    for (int32_t tile = 0; tile < 2 * blocks; tile++, scores += 32) {
        const uint16_t *key = keys + tile / 2 * 8 * k + tile % 2 * 4, *from = query;
        embbert_mve_half_start(scores, (const uint16_t[4]){0, 0, 0, 0}, 4);
        for (int32_t start = 0; start < k; start += EMBBERT_HALF_CHUNK) {
            const int32_t rest = k - start, steps = (rest < EMBBERT_HALF_CHUNK ? rest : EMBBERT_HALF_CHUNK) / 2;
            embbert_h8x4_t chunk = h8x4_zero();
#if EMBBERT_MVE_HALF
            EMBBERT_HALF_STEPS("ldrd r0, r1, [%[w]], #16\n ldrd r2, r3, [%[w]], #16\n ", chunk, from, key, steps);
#else
            for (int32_t step = 0; step < 2 * steps; step++, from += 8, key += 8) {
                const embbert_h8_t column = h8_load(from);
                for (int32_t i = 0; i < 4; i++) {
                    chunk.sum[i] = h8_fma(chunk.sum[i], column, h8_all(key[i]));
                }
            }
#endif
            h8x4_add_to(scores, &chunk);
        }
    }
}

/* In scores (columns, 8), each becomes exp(score - the largest of its row); those from `columns` to the next multiple
 * of eight become 0. inverse[8] is one over each row's sum. */
static inline void embbert_mve_half_softmax(uint16_t *scores, uint16_t *inverse, int32_t columns)
{
    embbert_h8_t peak = h8_load(scores);
    for (int32_t j = 1; j < columns; j++) {
        peak = h8_max(peak, h8_load(scores + 8 * j));
    }
    embbert_f8_t total = f8_all(0.0f);
    for (int32_t j = 0; j < columns; j++) {
        const embbert_h8_t weight = h8_exp(h8_sub(h8_load(scores + 8 * j), peak));
        h8_store(scores + 8 * j, weight);
        total = f8_add(total, f8_widen(weight));
    }
    for (int32_t j = columns; j % 8 != 0; j++) {
        h8_store(scores + 8 * j, h8_all(0));
    }
    float sums[8];
    f8_store(sums, total);
    for (int32_t i = 0; i < 8; i++) {
        sums[i] = 1.0f / sums[i];
    }
    h8_store(inverse, f8_narrow(f8_load(sums)));
}

/* out (width, 8) = inverse[8] * (weights (8 * blocks, 8) . values (blocks, width, 8)). width is a multiple of 4. */
static inline void embbert_mve_half_context(uint16_t *out, const uint16_t *weights, const uint16_t *values,
                                            const uint16_t *inverse, int32_t blocks, int32_t width)
{
    for (int32_t c = 0; c < width; c += 4, out += 32) {
        embbert_mve_half_start(out, (const uint16_t[4]){0, 0, 0, 0}, 4);
        for (int32_t start = 0; start < blocks; start += EMBBERT_HALF_CHUNK / 8) {
            const int32_t rest = blocks - start, last = rest < EMBBERT_HALF_CHUNK / 8 ? rest : EMBBERT_HALF_CHUNK / 8;
            const uint16_t *weight = weights + 64 * start, *value = values + 8 * (start * width + c);
            embbert_h8x4_t chunk = h8x4_zero();
            for (int32_t p = 0; p < last; p++, value += 8 * width) {
#if EMBBERT_MVE_HALF
#define EMBBERT_HALF_PAIR(a, b, first)                                                                                 \
    "ldrd r0, r1, [%[v], #" first "]\n ldrd r2, r3, [%[v], #16+" first "]\n"                                           \
    EMBBERT_HALF_BOTH("q4", "q5", a, a, "r0") EMBBERT_HALF_BOTH("q4", "q5", b, b, "r2")                                \
    EMBBERT_HALF_BOTH("q6", "q7", a, a, "r1") EMBBERT_HALF_BOTH("q6", "q7", b, b, "r3")
#define EMBBERT_HALF_FOUR(first)                                                                                       \
    "vldrw.u32 q4, [%[p]], #16\n vldrw.u32 q5, [%[p]], #16\n vldrw.u32 q6, [%[p]], #16\n vldrw.u32 q7, [%[p]], #16\n"  \
    EMBBERT_HALF_PAIR("%q[a]", "%q[b]", first) EMBBERT_HALF_PAIR("%q[c]", "%q[d]", "32+" first)
                __asm__(EMBBERT_HALF_FOUR("0") EMBBERT_HALF_FOUR("8")
                        : [a] "+w"(chunk.sum[0]), [b] "+w"(chunk.sum[1]), [c] "+w"(chunk.sum[2]),
                          [d] "+w"(chunk.sum[3]), [p] "+r"(weight)
                        : [v] "r"(value)
                        : EMBBERT_HALF_WORDS, "q4", "q5", "q6", "q7", "memory");
#undef EMBBERT_HALF_PAIR
#undef EMBBERT_HALF_FOUR
#else
                for (int32_t j = 0; j < 8; j++, weight += 8) {
                    const embbert_h8_t row = h8_load(weight);
                    for (int32_t i = 0; i < 4; i++) {
                        chunk.sum[i] = h8_fma(chunk.sum[i], row, h8_all(value[8 * i + j]));
                    }
                }
#endif
            }
            h8x4_add_to(out, &chunk);
        }
        const embbert_h8_t factor = h8_load(inverse);
        for (int32_t i = 0; i < 4; i++) {
            h8_store(out + 8 * i, h8_mul(h8_load(out + 8 * i), factor));
        }
    }
}

/* out (n, 8) = gain[j] * x / sqrt(mean of the row's squares + epsilon) of x (n, 8). */
static inline void embbert_mve_half_rms_norm(uint16_t *out, const uint16_t *x, const uint16_t *gain, float epsilon,
                                             int32_t n)
{
    embbert_f8_t squares = f8_all(0.0f);
    for (int32_t j = 0; j < n; j++) {
        const embbert_f8_t value = f8_widen(h8_load(x + 8 * j));
        squares = f8_add(squares, f8_mul(value, value));
    }
    float roots[8];
    f8_store(roots, squares);
    for (int32_t i = 0; i < 8; i++) {
        roots[i] = 1.0f / sqrtf(roots[i] / (float)n + epsilon);
    }
    const embbert_f8_t factor = f8_load(roots);
    for (int32_t j = 0; j < n; j++) {
        const embbert_h8_t unit = f8_narrow(f8_mul(f8_widen(h8_load(x + 8 * j)), factor));
        h8_store(out + 8 * j, h8_mul(unit, h8_all(gain[j])));
    }
}

/* out (n, 8) = gain[j] * (x - mean) / sqrt(variance + epsilon) + shift[j] of x (n, 8), along each row. */
static inline void embbert_mve_half_layer_norm(uint16_t *out, const uint16_t *x, const uint16_t *gain,
                                               const uint16_t *shift, float epsilon, int32_t n)
{
    embbert_f8_t sum = f8_all(0.0f), squares = f8_all(0.0f);
    for (int32_t j = 0; j < n; j++) {
        sum = f8_add(sum, f8_widen(h8_load(x + 8 * j)));
    }
    const embbert_f8_t mean = f8_mul(sum, f8_all(1.0f / (float)n));
    for (int32_t j = 0; j < n; j++) {
        const embbert_f8_t centred = f8_sub(f8_widen(h8_load(x + 8 * j)), mean);
        squares = f8_add(squares, f8_mul(centred, centred));
    }
    float roots[8];
    f8_store(roots, squares);
    for (int32_t i = 0; i < 8; i++) {
        roots[i] = 1.0f / sqrtf(roots[i] / (float)n + epsilon);
    }
    const embbert_f8_t factor = f8_load(roots);
    for (int32_t j = 0; j < n; j++) {
        const embbert_f8_t centred = f8_sub(f8_widen(h8_load(x + 8 * j)), mean);
        const embbert_h8_t unit = f8_narrow(f8_mul(centred, factor));
        h8_store(out + 8 * j, h8_fma(h8_all(shift[j]), unit, h8_all(gain[j])));
    }
}

/* out (n, 8) = the function of x (n, 8). GELU is x times the sigmoid of 1.5958 x + 0.07135 x^3 (Hendrycks and Gimpel),
 * which is within half a step of 1 of the one by erf. */
static inline void embbert_mve_half_silu(uint16_t *out, const uint16_t *x, int32_t n)
{
    for (int32_t j = 0; j < n; j++) {
        const embbert_h8_t value = h8_load(x + 8 * j);
        h8_store(out + 8 * j, h8_sigmoid_times(value, value));
    }
}

static inline void embbert_mve_half_gelu(uint16_t *out, const uint16_t *x, int32_t n)
{
    for (int32_t j = 0; j < n; j++) {
        const embbert_h8_t value = h8_load(x + 8 * j);
        const embbert_h8_t slope = h8_fma(h8_all(0x3e62), h8_mul(value, value), h8_all(0x2c91));
        h8_store(out + 8 * j, h8_sigmoid_times(h8_mul(value, slope), value));
    }
}

static inline void embbert_mve_half_sigmoid(uint16_t *out, const uint16_t *x, int32_t n)
{
    for (int32_t j = 0; j < n; j++) {
        h8_store(out + 8 * j, h8_sigmoid_times(h8_load(x + 8 * j), h8_all(0x3c00)));
    }
}

static inline void embbert_mve_half_tanh(uint16_t *out, const uint16_t *x, int32_t n)
{
    for (int32_t j = 0; j < n; j++) {
        const embbert_h8_t value = h8_load(x + 8 * j);
        const embbert_h8_t twice = h8_sigmoid_times(h8_add(value, value), h8_all(0x4000));
        h8_store(out + 8 * j, h8_sub(twice, h8_all(0x3c00)));
    }
}

static inline void embbert_mve_half_relu(uint16_t *out, const uint16_t *x, int32_t n)
{
    for (int32_t j = 0; j < n; j++) {
        h8_store(out + 8 * j, h8_max(h8_load(x + 8 * j), h8_all(0)));
    }
}

/* A causal filter along the rows, on one column of x (blocks, channels, 8), to the same of out (blocks, filters, 8):
 *     out = bias + sum over k of tap[k] * x[t - taps + 1 + k]
 * line: taps + 8 * blocks + 24 halves to work in. */
static inline void embbert_mve_half_filter(uint16_t *out, const uint16_t *x, uint16_t *line, const uint16_t *tap,
                                           uint16_t bias, int32_t blocks, int32_t channels, int32_t filters,
                                           int32_t taps)
{
    memset(line, 0, (size_t)taps * sizeof *line);
    for (int32_t p = 0; p < blocks; p++) {
        h8_store(line + taps + 8 * p, h8_load(x + 8 * p * channels));
    }
    for (int32_t p = 0; p < blocks; p += 4) {
        const uint16_t *from = line + 8 * p + 1;
        const embbert_h8_t start = h8_all(bias);
        embbert_h8_t sum0 = start, sum1 = start, sum2 = start, sum3 = start;
        if (p + 1 < blocks) {
            for (int32_t k = 0; k < taps; k++) {
                const embbert_h8_t factor = h8_all(tap[k]);
                sum0 = h8_fma(sum0, h8_load(from + k), factor);
                sum1 = h8_fma(sum1, h8_load(from + k + 8), factor);
                sum2 = h8_fma(sum2, h8_load(from + k + 16), factor);
                sum3 = h8_fma(sum3, h8_load(from + k + 24), factor);
            }
        } else {
            for (int32_t k = 0; k < taps; k++) {
                sum0 = h8_fma(sum0, h8_load(from + k), h8_all(tap[k]));
            }
        }
        uint16_t *to = out + 8 * p * filters;
        const embbert_h8_t made[4] = {sum0, sum1, sum2, sum3};
        for (int32_t i = 0; i < 4 && p + i < blocks; i++) {
            h8_store(to + 8 * i * filters, made[i]);
        }
    }
}

#endif
