/* Micro-kernels for MVE, Helium (VMLADAV: sixteen 8-bit products and their sum an instruction). Under #else of each
 * stands its plain C, which is its specification and what every other CPU runs. Layouts. A row-interleaved matrix (n
 * / 2, k, 2) holds rows 2i and 2i + 1 side by side: VLD20 and VLD21 take sixteen columns of both apart. A block (k /
 * 16, 4, 16) holds four rows, sixteen columns of each together: int8 as an operand, int32 as the sums of a product.
 * Where k is no multiple of 16 the last columns hold anything, unless it says otherwise. */
#ifndef EMBBERT_MVE_H
#define EMBBERT_MVE_H

#include <stdint.h>

#include "embbert_arithmetic.h"

#if defined(__ARM_FEATURE_MVE) && defined(__OPTIMIZE__)
#include <arm_mve.h>
#define EMBBERT_MVE 1
/* What takes LR for a sum must not lie in a loop that counts in LR, so it keeps a frame of its own. */
#define EMBBERT_MVE_APART static __attribute__((noinline, unused))
#else
#define EMBBERT_MVE 0
#define EMBBERT_MVE_APART static inline
#endif

/* Where column k of row r lies in a block. */
static inline int32_t embbert_mve_at(int32_t r, int32_t k) { return k / 16 * 64 + r * 16 + k % 16; }

#if EMBBERT_MVE
/* VMLADAV sums into even registers, of which a tile of four rows by two columns takes all eight: row 0 in R0 and R2,
 * row 1 in R4 and R6, row 2 in R8 and R10, row 3 in R12 and LR. `a` makes it VMLADAVA, which adds to what is there. */
#define EMBBERT_MVE_TILE_0(a, x, v, w) "vmladav" a ".s8 r0, " x ", " v "\n vmladav" a ".s8 r2, " x ", " w "\n"
#define EMBBERT_MVE_TILE_1(a, x, v, w) "vmladav" a ".s8 r4, " x ", " v "\n vmladav" a ".s8 r6, " x ", " w "\n"
#define EMBBERT_MVE_TILE_2(a, x, v, w) "vmladav" a ".s8 r8, " x ", " v "\n vmladav" a ".s8 r10, " x ", " w "\n"
#define EMBBERT_MVE_TILE_3(a, x, v, w) "vmladav" a ".s8 r12, " x ", " v "\n vmladav" a ".s8 lr, " x ", " w "\n"
/* The tile to the block of sums at R5, and R5 on to the next tile. */
#define EMBBERT_MVE_TILE_STORE                                                                                         \
    "strd r4, r6, [r5, #64]\n strd r8, r10, [r5, #128]\n strd r12, lr, [r5, #192]\n strd r0, r2, [r5], #8\n"
/* Eight tiles stand side by side in a block of sums, then come the next sixteen columns. Of the tiles left, whose
 * count lies at [SP], take up to eight; `end` is where the last of them ends. */
#define EMBBERT_MVE_TILES(end)                                                                                         \
    "ldr r0, [sp]\n subs r2, r0, #8\n it lt\n movlt r2, #0\n str r2, [sp]\n sub r0, r0, r2\n add " end ", r5, r0, lsl #3\n"
/* Set the flags for whether tiles are left. */
#define EMBBERT_MVE_TILES_LEFT "ldr r0, [sp]\n add r5, r5, #192\n cmp r0, #0\n"
#define EMBBERT_MVE_TILE_REGISTERS                                                                                     \
    "r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "cc", "memory"

/* Sixteen columns of the block operand at R1 and of the pair at R3. */
#define EMBBERT_MVE_DOT(n, a)                                                                                          \
    "vld20.8 {q0, q1}, [r3]\n vldrw.u32 q2, [r1, #64*(" #n ")]\n"                                                      \
    "vld21.8 {q0, q1}, [r3]!\n vldrw.u32 q3, [r1, #64*(" #n ")+16]\n" EMBBERT_MVE_TILE_0(a, "q2", "q0", "q1")          \
    "vldrw.u32 q4, [r1, #64*(" #n ")+32]\n" EMBBERT_MVE_TILE_1(a, "q3", "q0", "q1")                                    \
    "vldrw.u32 q5, [r1, #64*(" #n ")+48]\n" EMBBERT_MVE_TILE_2(a, "q4", "q0", "q1")                                    \
    EMBBERT_MVE_TILE_3(a, "q5", "q0", "q1")
#endif

#if EMBBERT_MVE
/* A product whose loads are a step ahead of its multiplications, which never wait: 16 cycles a step of 128. A step
 * multiplies sixteen columns of the pair in v and w by the rows in Q2 to Q5, of which the last comes from `third`, and
 * loads the next sixteen: of the pair by `load_v` and `load_w`, of the first three rows from [base, #at]. x, y, z are
 * what else there is to do meanwhile. */
#define EMBBERT_MVE_AHEAD(a, v, w, third, x, load_v, load_w, base, at, y, z)                                           \
    "vmladav" a ".s8 r0, q2, " v "\n vldrw.u32 q5, " third "\n vmladav" a ".s8 r2, q2, " w "\n" x load_v               \
    "vmladav" a ".s8 r4, q3, " v "\n vldrw.u32 q2, [" base ", #" at "]\n vmladav" a ".s8 r6, q3, " w "\n" load_w       \
    "vmladav" a ".s8 r8, q4, " v "\n vldrw.u32 q3, [" base ", #" at "+16]\n vmladav" a ".s8 r10, q4, " w "\n" y        \
    "vmladav" a ".s8 r12, q5, " v "\n vldrw.u32 q4, [" base ", #" at "+32]\n vmladav" a ".s8 lr, q5, " w "\n" z
/* What a frame at R1 holds goes on the stack: at [SP] the tiles left, at [SP + 4] the last place to load a pair
 * from. */
#define EMBBERT_MVE_ENTER "push {r7}\n ldrd r0, r2, [r1]\n push {r0, r2}\n"
#define EMBBERT_MVE_LEAVE "add sp, sp, #8\n pop {r7}\n"
/* Nothing is loaded from beyond a matrix: the last step of all loads again what is there. */
#define EMBBERT_MVE_STAY "ldr r1, [sp, #4]\n cmp r3, r1\n it hi\n movhi r3, r1\n"
#define EMBBERT_MVE_ROWS_START "vldrw.u32 q2, [r11]\n vldrw.u32 q3, [r11, #16]\n vldrw.u32 q4, [r11, #32]\n"
#endif

#if EMBBERT_MVE
/* One tile after another. What a tile's last step has summed is stored in that step and the next tile's first, whose
 * stores and loads together keep the port to memory as long as the multiplications take; so the third row of what comes
 * then is loaded late. On the stack: where the matrix's last sixteen columns are, the bytes of eight tiles' rows. R7 is
 * sixteen columns before the rows of the next eight tiles, R9 the operand's last round of steps. */
#define EMBBERT_MVE_STEP_OF(a, v, w, s0, s1, s2, s3, s4, s5, s6, s7)                                                   \
    "vmladav" a ".s8 r0, q2, " v "\n" s0 "vmladav" a ".s8 r2, q2, " w "\n" s1 "vmladav" a ".s8 r4, q3, " v "\n" s2     \
    "vmladav" a ".s8 r6, q3, " w "\n" s3 "vmladav" a ".s8 r8, q4, " v "\n" s4 "vmladav" a ".s8 r10, q4, " w "\n" s5    \
    "vmladav" a ".s8 r12, q5, " v "\n" s6 "vmladav" a ".s8 lr, q5, " w "\n" s7
#define EMBBERT_MVE_ROW(q, base, at) "vldrw.u32 " q ", [" base ", #" at "]\n"
#define EMBBERT_MVE_LOAD_EVEN "vld20.8 {q0, q1}, [r3]\n", "vld21.8 {q0, q1}, [r3]!\n"
#define EMBBERT_MVE_LOAD_ODD "vld20.8 {q6, q7}, [r3]\n", "vld21.8 {q6, q7}, [r3]!\n"
/* Step n of a round, of an even and an odd number; `base` + `at` is where the next step's rows lie. */
#define EMBBERT_MVE_BETWEEN(a, v, w, load_v, load_w, n, x, base, at, y, z)                                             \
    EMBBERT_MVE_STEP_OF(a, v, w, EMBBERT_MVE_ROW("q5", "r1", "64*(" #n ")+48"), x load_v,                              \
                        EMBBERT_MVE_ROW("q2", base, at), load_w, EMBBERT_MVE_ROW("q3", base, at "+16"), y,             \
                        EMBBERT_MVE_ROW("q4", base, at "+32"), z)
/* A macro's arguments are parted only when it is expanded a second time. */
#define EMBBERT_MVE_BETWEEN_(...) EMBBERT_MVE_BETWEEN(__VA_ARGS__)
#define EMBBERT_MVE_EVEN(n)                                                                                            \
    EMBBERT_MVE_BETWEEN_("a", "q0", "q1", EMBBERT_MVE_LOAD_ODD, n, "", "r1", "64*(" #n ")+64", "", "")
#define EMBBERT_MVE_ODD(n, y, z)                                                                                       \
    EMBBERT_MVE_BETWEEN_("a", "q6", "q7", EMBBERT_MVE_LOAD_EVEN, n, "", "r1", "64*(" #n ")+64", y, z)
/* The last step of a round before another. */
#define EMBBERT_MVE_TURN(steps)                                                                                        \
    EMBBERT_MVE_BETWEEN_("a", "q6", "q7", EMBBERT_MVE_LOAD_EVEN, steps-1, "add r1, r1, #64*" #steps "\n", "r1", "0",   \
                         "", "")
/* A round's first step, which leaves the third row to its second. */
#define EMBBERT_MVE_START(a, base, x, y, z)                                                                            \
    EMBBERT_MVE_STEP_OF(a, "q0", "q1", EMBBERT_MVE_ROW("q5", base, "48"), "vld20.8 {q6, q7}, [r3]\n",                  \
                        EMBBERT_MVE_ROW("q2", base, "64"), "vld21.8 {q6, q7}, [r3]!\n",                                \
                        EMBBERT_MVE_ROW("q3", base, "80"), x, y, z)
#define EMBBERT_MVE_LATE EMBBERT_MVE_ROW("q4", "r1", "96")
#define EMBBERT_MVE_SECOND_STEP(z)                                                                                     \
    EMBBERT_MVE_STEP_OF("a", "q6", "q7", EMBBERT_MVE_LATE, "vld20.8 {q0, q1}, [r3]\n",                                 \
                        EMBBERT_MVE_ROW("q2", "r1", "128"), "vld21.8 {q0, q1}, [r3]!\n",                               \
                        EMBBERT_MVE_ROW("q5", "r1", "112"), EMBBERT_MVE_ROW("q3", "r1", "144"),                        \
                        EMBBERT_MVE_ROW("q4", "r1", "160"), z)
/* Before a round's last step but one: lower is set if rounds follow, higher if another tile does. R3 is sixteen columns
 * before where it will be. After it R1 is where the next step's rows lie, as another tile has them. */
#define EMBBERT_MVE_ROUNDS_LEFT "cmp r1, r9\n"
#define EMBBERT_MVE_TILE_FOLLOWS "it eq\n cmpeq r7, r3\n"
#define EMBBERT_MVE_DECIDED(n)                                                                                         \
    EMBBERT_MVE_STEP_OF("a", "q0", "q1", EMBBERT_MVE_ROW("q5", "r1", "64*(" #n ")+48"), "vld20.8 {q6, q7}, [r3]\n",    \
                        EMBBERT_MVE_ROW("q2", "r1", "64*(" #n ")+64"), "vld21.8 {q6, q7}, [r3]!\n",                    \
                        EMBBERT_MVE_ROW("q3", "r1", "64*(" #n ")+80"), EMBBERT_MVE_ROW("q4", "r1", "64*(" #n ")+96"),  \
                        "it hi\n movhi r1, r11\n", "")                                                                 \
    "bhi 1b\n blo 4f\n"
/* The last step of a tile, and the first of the next. */
#define EMBBERT_MVE_LAST(steps, stay)                                                                                  \
    EMBBERT_MVE_STEP_OF("a", "q6", "q7", EMBBERT_MVE_ROW("q5", "r9", "64*(" #steps ")-16") stay,                       \
                        "vld20.8 {q0, q1}, [r3]\n",                                                                    \
                        EMBBERT_MVE_ROW("q2", "r11", "0"), "vld21.8 {q0, q1}, [r3]!\n",                                \
                        EMBBERT_MVE_ROW("q3", "r11", "16"), "strd r0, r2, [r5], #64\n",                                \
                        EMBBERT_MVE_ROW("q4", "r11", "32"), "strd r4, r6, [r5], #64\n")
#define EMBBERT_MVE_FIRST                                                                                              \
    EMBBERT_MVE_STEP_OF("", "q0", "q1", EMBBERT_MVE_ROW("q5", "r11", "48"), "strd r8, r10, [r5], #64\n",               \
                        EMBBERT_MVE_ROW("q2", "r11", "64"), "vld20.8 {q6, q7}, [r3]\n", "vld21.8 {q6, q7}, [r3]!\n",   \
                        "str r12, [r5], #4\n", "str lr, [r5], #-188\n", EMBBERT_MVE_ROW("q3", "r11", "80"))
/* `middle`: the steps between the first and the last of a round, and what is decided meanwhile. */
#define EMBBERT_MVE_IN_ROUNDS(steps, middle)                                                                           \
    "push {r7}\n ldrd r0, r2, [r1]\n push {r0, r2}\n sub r7, r3, #32\n"                                                \
    "vld20.8 {q0, q1}, [r3]\n vld21.8 {q0, q1}, [r3]!\n" EMBBERT_MVE_ROWS_START "b 5f\n"                               \
    "1:\n" EMBBERT_MVE_LAST(steps, "") EMBBERT_MVE_FIRST                                                               \
    "2:\n" middle "ldr r1, [sp]\n"                                                                                     \
    EMBBERT_MVE_LAST(steps, "cmp r3, r1\n it hi\n movhi r3, r1\n")                                                     \
    "strd r8, r10, [r5], #64\n strd r12, lr, [r5], #8\n bhi 6f\n"                                                      \
    "5:\n" EMBBERT_MVE_START("", "r11", "ldr r1, [sp, #4]\n", "add r7, r7, r1\n", "ldr r1, [sp]\n")                    \
    "cmp r7, r1\n it hi\n movhi r7, r1\n mov r1, r11\n b 2b\n"                                                         \
    "4:\n" EMBBERT_MVE_TURN(steps) EMBBERT_MVE_START("a", "r1", "", "", "") "b 2b\n"                                   \
    "6:\n" EMBBERT_MVE_LEAVE
#define EMBBERT_MVE_MIDDLE_2                                                                                           \
    EMBBERT_MVE_LATE "cmp r1, r9\n bne 4f\n sub r1, r3, #32\n cmp r7, r1\n mov r1, r11\n bhi 1b\n"
#define EMBBERT_MVE_MIDDLE_4                                                                                           \
    EMBBERT_MVE_SECOND_STEP(EMBBERT_MVE_ROUNDS_LEFT EMBBERT_MVE_TILE_FOLLOWS) EMBBERT_MVE_DECIDED(2)
#define EMBBERT_MVE_MIDDLE_8                                                                                           \
    EMBBERT_MVE_SECOND_STEP("") EMBBERT_MVE_EVEN(2) EMBBERT_MVE_ODD(3, "", "") EMBBERT_MVE_EVEN(4)                     \
    EMBBERT_MVE_ODD(5, EMBBERT_MVE_ROUNDS_LEFT, EMBBERT_MVE_TILE_FOLLOWS) EMBBERT_MVE_DECIDED(6)
#define EMBBERT_MVE_PRODUCT_BY(name, steps)                                                                            \
    EMBBERT_MVE_APART void name(int32_t *sums, const int8_t *a, const int8_t *b, int32_t pairs, int32_t k)             \
    {                                                                                                                  \
        const uintptr_t frame[2] __attribute__((aligned(8))) = {(uintptr_t)(b + 2 * k * pairs - 32),                   \
                                                                (uintptr_t)(16 * k)};                                  \
        register uintptr_t cursor __asm__("r1") = (uintptr_t)frame;                                                    \
        register uintptr_t right __asm__("r3") = (uintptr_t)b;                                                         \
        register uintptr_t out __asm__("r5") = (uintptr_t)sums;                                                        \
        register uintptr_t end __asm__("r9") = (uintptr_t)(a + 4 * k - 64 * (steps));                                  \
        register uintptr_t left __asm__("r11") = (uintptr_t)a;                                                         \
        __asm__ volatile(EMBBERT_MVE_IN_ROUNDS(steps, EMBBERT_MVE_MIDDLE_##steps)                                      \
                         : "+r"(cursor), "+r"(right), "+r"(out)                                                        \
                         : "r"(end), "r"(left), "m"(frame)                                                             \
                         : EMBBERT_MVE_TILE_REGISTERS);                                                                \
    }
#else
#define EMBBERT_MVE_PRODUCT_BY(name, steps)                                                                            \
    static inline void name(int32_t *sums, const int8_t *a, const int8_t *b, int32_t pairs, int32_t k)                 \
    {                                                                                                                  \
        for (int32_t j = 0; j < 2 * pairs; j++) {                                                                      \
            for (int32_t r = 0; r < 4; r++) {                                                                          \
                int32_t sum = 0;                                                                                       \
                for (int32_t i = 0; i < k; i++) {                                                                      \
                    sum += a[embbert_mve_at(r, i)] * b[(j / 2 * k + i) * 2 + j % 2];                                   \
                }                                                                                                      \
                sums[embbert_mve_at(r, j)] = sum;                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }
#endif

/* The sums (pairs / 8, 4, 16) of the block operand a (k / 16, 4, 16) . rows of the interleaved matrix b (pairs, k,
 * 2), over their k columns, 32, 64 or 128 of them a round, of which k is a multiple. pairs is at least 1. */
EMBBERT_MVE_PRODUCT_BY(embbert_mve_product_32, 2)
EMBBERT_MVE_PRODUCT_BY(embbert_mve_product_64, 4)
EMBBERT_MVE_PRODUCT_BY(embbert_mve_product_128, 8)

/* The same, with as many columns a round as k, a multiple of 32, allows. */
static inline void embbert_mve_product(int32_t *sums, const int8_t *a, const int8_t *b, int32_t pairs, const int32_t k)
{
    if (k % 128 == 0) {
        embbert_mve_product_128(sums, a, b, pairs, k);
    } else if (k % 64 == 0) {
        embbert_mve_product_64(sums, a, b, pairs, k);
    } else {
        embbert_mve_product_32(sums, a, b, pairs, k);
    }
}

/* The same for an interleaved matrix (pairs, stride / 2, 2), whose first k columns are read: stride in bytes, k a
 * multiple of 16. */
#if EMBBERT_MVE
#define EMBBERT_MVE_DOT_2(n) EMBBERT_MVE_DOT(n, "a") EMBBERT_MVE_DOT(n+1, "a")
#define EMBBERT_MVE_STRIDED(columns, rest)                                                                             \
    __asm__ volatile("push {r7}\n ldrd r0, r2, [r1]\n push {r0, r2}\n"                                                 \
                     "1:\n" EMBBERT_MVE_TILES("r7")                                                                    \
                     "2:\n mov r1, r11\n" EMBBERT_MVE_DOT(0, "") "b 4f\n"                                              \
                     "3:\n" EMBBERT_MVE_DOT(0, "a")                                                                    \
                     "4:\n" rest "add r1, r1, #4*" #columns "\n cmp r1, r9\n bne 3b\n" EMBBERT_MVE_TILE_STORE          \
                     "ldr r0, [sp, #4]\n add r3, r3, r0\n cmp r5, r7\n bne 2b\n" EMBBERT_MVE_TILES_LEFT "bne 1b\n"     \
                     "add sp, sp, #8\n pop {r7}\n"                                                                     \
                     : "+r"(cursor), "+r"(right), "+r"(out)                                                            \
                     : "r"(end), "r"(left)                                                                             \
                     : EMBBERT_MVE_TILE_REGISTERS)
#endif
EMBBERT_MVE_APART void embbert_mve_product_strided(int32_t *sums, const int8_t *a, const int8_t *b, int32_t pairs,
                                                   int32_t k, int32_t stride)
{
#if EMBBERT_MVE
    const uintptr_t frame[2] __attribute__((aligned(8))) = {(uintptr_t)pairs, (uintptr_t)(stride - 2 * k)};
    register uintptr_t cursor __asm__("r1") = (uintptr_t)frame;
    register uintptr_t right __asm__("r3") = (uintptr_t)b;
    register uintptr_t out __asm__("r5") = (uintptr_t)sums;
    register uintptr_t end __asm__("r9") = (uintptr_t)(a + 4 * k);
    register uintptr_t left __asm__("r11") = (uintptr_t)a;
    if (k % 64 == 0) {
        EMBBERT_MVE_STRIDED(64, EMBBERT_MVE_DOT(1, "a") EMBBERT_MVE_DOT_2(2));
    } else if (k % 32 == 0) {
        EMBBERT_MVE_STRIDED(32, EMBBERT_MVE_DOT(1, "a"));
    } else {
        EMBBERT_MVE_STRIDED(16, "");
    }
#else
    for (int32_t j = 0; j < 2 * pairs; j++) {
        for (int32_t r = 0; r < 4; r++) {
            int32_t sum = 0;
            for (int32_t i = 0; i < k; i++) {
                sum += a[embbert_mve_at(r, i)] * b[j / 2 * stride + i * 2 + j % 2];
            }
            sums[embbert_mve_at(r, j)] = sum;
        }
    }
#endif
}

#if EMBBERT_MVE
/* Sixteen rows of two columns, in Q1 and Q2, against the block operand in Q4 to Q7, and meanwhile the next sixteen.
 * Words of two rows and two columns are gathered, which takes half as long as gathering two columns of halfwords: the
 * odd pairs of rows from `odd` into Q3, the even ones from [Q0] into Q1. Then one column's halves of both go together
 * in Q1, the other's in Q2, of which the odd pairs' come a step later. The operand's last row comes late, from `last`,
 * the next one's others from `row0` to `row2`. p, t: VPST and what it adds to a name, where not all sixteen rows may
 * be there; to_even, on: Q0 from odd to even pairs and to the next sixteen rows. Between the two parts is a cycle for
 * anything else. */
#define EMBBERT_MVE_CONTEXT_PART(a, odd, p, t, last)                                                                   \
    "vmladav" a ".s8 r0, q4, q1\n vldrw.u32 q7, " last "\n vmladav" a ".s8 r4, q5, q1\n vshrnt.i32 q2, q3, #16\n"      \
    "vmladav" a ".s8 r8, q6, q1\n" p "vldrw" t ".u32 q3, " odd "\n vmladav" a ".s8 r12, q7, q1\n"
#define EMBBERT_MVE_CONTEXT_REST(a, to_even, p, t, on, row0, row1, row2)                                               \
    to_even "vmladav" a ".s8 lr, q7, q2\n" p "vldrw" t ".u32 q1, [q0]\n vmladav" a ".s8 r2, q4, q2\n" on               \
    "vmladav" a ".s8 r6, q5, q2\n vldrw.u32 q4, " row0 "\n vmladav" a ".s8 r10, q6, q2\n vshr.u32 q2, q1, #16\n"       \
    "vldrw.u32 q5, " row1 "\n vsli.32 q1, q3, #16\n vldrw.u32 q6, " row2 "\n"
/* Of sixteen rows that are all there, with sixteen after them. */
#define EMBBERT_MVE_CONTEXT_PART_(a, odd) EMBBERT_MVE_CONTEXT_PART(a, odd, "", "", "[r1, #48]")
#define EMBBERT_MVE_CONTEXT_REST_(a, to_even)                                                                          \
    EMBBERT_MVE_CONTEXT_REST(a, to_even, "", "", "vadd.i32 q0, q0, r7\n", "[r1, #64]!", "[r1, #16]", "[r1, #32]")
#define EMBBERT_MVE_CONTEXT_BOTH(a, odd, to_even)                                                                      \
    EMBBERT_MVE_CONTEXT_PART_(a, odd) EMBBERT_MVE_CONTEXT_REST_(a, to_even)
/* The last but one of a tile, of which R9 is two before, and from which `turn` leads Q0 to the next two columns; the
 * last, and the tile to the block of sums: R0 is then where those of the block end, R2 the step to go on from. */
#define EMBBERT_MVE_CONTEXT_TAIL(a, odd, to_even, turn)                                                                \
    EMBBERT_MVE_CONTEXT_PART(a, odd, "vpst\n", "t", "[r9, #176]")                                                      \
    EMBBERT_MVE_CONTEXT_REST(a, to_even, "vpst\n", "t", turn, "[r9, #192]", "[r9, #208]", "[r9, #224]")
#define EMBBERT_MVE_CONTEXT_LAST(odd, to_even)                                                                         \
    EMBBERT_MVE_CONTEXT_PART("a", odd, "", "", "[r9, #240]") "mov r1, r11\n"                                           \
    EMBBERT_MVE_CONTEXT_REST("a", to_even, "", "", "vadd.i32 q0, q0, r7\n", "[r11]", "[r11, #16]", "[r11, #32]")       \
    "strd r0, r2, [r5], #8\n ldrd r0, r2, [sp, #4]\n strd r4, r6, [r5, #56]\n strd r8, r10, [r5, #120]\n"              \
    "strd r12, lr, [r5, #184]\n"
#define EMBBERT_MVE_FAR "ldr r1, [sp, #12]\n vadd.i32 q0, q0, r1\n"
/* Of a text of more than sixteen rows. On the stack: the tiles left, where those of a block end, from which step to go
 * on (the last but one if it is negative, that before a round if 1 is carried; 0 if the first is the last but one),
 * from the last rows to the first of the next two columns. No column ends the matrix in its first sixteen rows, so that
 * what is gathered last of all lies in it. */
#define EMBBERT_MVE_CONTEXT_BY(name, odd, to_even, turn, ahead)                                                        \
    EMBBERT_MVE_APART void name(int32_t *sums, const int8_t *a, const int8_t *b, int32_t rows, int32_t width,          \
                                int32_t columns)                                                                       \
    {                                                                                                                  \
        const uint32_t before = (uint32_t)(rows - 1) / 16, pair = 2 * (uint32_t)columns, at = (ahead) * pair;          \
        const uint32_t way = before == 1 ? 0 : before == 2 ? 1u << 30 : (before % 2 << 31) + 1;                        \
        const uint32_t wrap = 4 - 8 * pair * before + at, from = (uint32_t)(uintptr_t)b + at;                          \
        const uint32_t frame[9] __attribute__((aligned(8))) = {                                                        \
            (uint32_t)width / 2, 8 * pair + at, way, wrap,                                                             \
            from, from + 2 * pair, from + 4 * pair, from + 6 * pair, ((uint32_t)rows - 16 * before + 3) / 4,           \
        };                                                                                                             \
        register uintptr_t cursor __asm__("r1") = (uintptr_t)frame;                                                    \
        register uintptr_t back __asm__("r3") = (ahead) ? 0 - at : wrap;                                               \
        register uintptr_t out __asm__("r5") = (uintptr_t)sums;                                                        \
        register uintptr_t end __asm__("r9") = (uintptr_t)a + 64 * before - 192;                                       \
        register uintptr_t left __asm__("r11") = (uintptr_t)a;                                                         \
        __asm__ volatile(                                                                                              \
            "push {r7}\n ldrd r0, r7, [r1]\n ldrd r4, r6, [r1, #8]\n vldrw.u32 q0, [r1, #16]\n ldr r1, [r1, #32]\n"    \
            "vctp.32 r1\n push {r0, r2, r4, r6}\n mov r1, r11\n vldrw.u32 q3, " odd "\n" to_even                       \
            "vldrw.u32 q1, [q0]\n vldrw.u32 q4, [r11]\n vldrw.u32 q5, [r11, #16]\n vshr.u32 q2, q1, #16\n"             \
            "vadd.i32 q0, q0, r7\n vsli.32 q1, q3, #16\n vldrw.u32 q6, [r11, #32]\n"                                   \
            "1:\n" EMBBERT_MVE_TILES("r0") "str r0, [sp, #4]\n ldr r2, [sp, #8]\n"                                     \
            "2:\n lsls r2, r2, #1\n beq 7f\n"                                                                          \
            EMBBERT_MVE_CONTEXT_BOTH("", odd, to_even) "bcs 3f\n bmi 5f\n" EMBBERT_MVE_CONTEXT_BOTH("a", odd, to_even) \
            "3:\n" EMBBERT_MVE_CONTEXT_PART_("a", odd) "cmp r1, r9\n bhi 9f\n"                                         \
            "4:\n" EMBBERT_MVE_CONTEXT_REST_("a", to_even) EMBBERT_MVE_CONTEXT_PART_("a", odd) "cmp r1, r9\n"          \
            EMBBERT_MVE_CONTEXT_REST_("a", to_even) EMBBERT_MVE_CONTEXT_PART_("a", odd) "bne 4b\n"                     \
            "9:\n" EMBBERT_MVE_CONTEXT_REST_("a", to_even)                                                             \
            "5:\n" EMBBERT_MVE_CONTEXT_TAIL("a", odd, to_even, turn)                                                   \
            "6:\n" EMBBERT_MVE_CONTEXT_LAST(odd, to_even) "cmp r5, r0\n bne 2b\n"                                      \
            EMBBERT_MVE_TILES_LEFT "bne 1b\n b 8f\n"                                                                   \
            "7:\n" EMBBERT_MVE_CONTEXT_TAIL("", odd, to_even, turn) "b 6b\n"                                           \
            "8:\n add sp, sp, #16\n pop {r7}\n"                                                                        \
            : "+r"(cursor), "+r"(out)                                                                                  \
            : "r"(back), "r"(end), "r"(left), "m"(frame)                                                               \
            : EMBBERT_MVE_TILE_REGISTERS);                                                                             \
    }
#else
#define EMBBERT_MVE_CONTEXT_BY(name, odd, to_even, turn, ahead)                                                        \
    static inline void name(int32_t *sums, const int8_t *a, const int8_t *b, int32_t rows, int32_t width,              \
                            int32_t columns)                                                                           \
    {                                                                                                                  \
        for (int32_t c = 0; c < width; c++) {                                                                          \
            for (int32_t r = 0; r < 4; r++) {                                                                          \
                int32_t sum = 0;                                                                                       \
                for (int32_t j = 0; j < rows; j++) {                                                                   \
                    sum += a[embbert_mve_at(r, j)] * b[(j / 2 * columns + c) * 2 + j % 2];                             \
                }                                                                                                      \
                sums[embbert_mve_at(r, c)] = sum;                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }
#endif

/* The sums (width / 16, 4, 16) of the block operand a (rows / 16, 4, 16) . the first `width` columns of the
 * interleaved matrix b (rows / 2, columns, 2), over its rows, of 64 or 128 columns or of any number. rows is more than
 * 16, width and columns are even, b aligned to words; a is 0 from `rows` to the next multiple of 16. */
EMBBERT_MVE_CONTEXT_BY(embbert_mve_context_64, "[q0, #128]", "", "vadd.i32 q0, q0, r3\n", 0)
EMBBERT_MVE_CONTEXT_BY(embbert_mve_context_128, "[q0, #256]", "", "vadd.i32 q0, q0, r3\n", 0)
EMBBERT_MVE_CONTEXT_BY(embbert_mve_context_any, "[q0]", "vadd.i32 q0, q0, r3\n", EMBBERT_MVE_FAR, 1)

/* The same of at most 16 rows. */
EMBBERT_MVE_APART void embbert_mve_context_short(int32_t *sums, const int8_t *a, const int8_t *b, int32_t rows,
                                                 int32_t width, int32_t columns)
{
#if EMBBERT_MVE
    const uint32_t pair = 2 * (uint32_t)columns;
    const uint32_t frame[7] __attribute__((aligned(8))) = {
        (uint32_t)(uintptr_t)(sums + 16), (uint32_t)(uintptr_t)(b + 2 * width - 4), ((uint32_t)rows + 3) / 4, 0,
        2 * pair, 4 * pair, 6 * pair,
    };
    register uintptr_t cursor __asm__("r1") = (uintptr_t)frame;
    register uintptr_t even __asm__("r3") = (uintptr_t)b;
    register uintptr_t odd __asm__("r5") = (uintptr_t)(b + pair);
    register uintptr_t left __asm__("r9") = (uintptr_t)a;
    register uintptr_t out __asm__("r11") = (uintptr_t)sums;
    /* R7: where the tiles of a block end, R11: the last columns. Three rows of the operand stay in Q4 to Q6. */
    __asm__ volatile(
        "push {r7}\n ldr r0, [r1, #8]\n vctp.32 r0\n vldrw.u32 q0, [r1, #12]\n ldrd r7, r0, [r1]\n"
        "mov r1, r11\n mov r11, r0\n vpstt\n vldrwt.u32 q1, [r3, q0]\n vldrwt.u32 q2, [r5, q0]\n"
        "vldrw.u32 q4, [r9]\n vldrw.u32 q5, [r9, #16]\n vldrw.u32 q6, [r9, #32]\n"
        "vmov q7, q1\n vsli.32 q1, q2, #16\n vsri.32 q2, q7, #16\n"
        "2:\n cmp r3, r11\n itt ne\n addne r3, r3, #4\n addne r5, r5, #4\n"
        "vmladav.s8 r0, q4, q1\n vpst\n vldrwt.u32 q3, [r5, q0]\n vmladav.s8 r4, q5, q1\n vmladav.s8 r8, q6, q1\n"
        "vldrw.u32 q7, [r9, #48]\n vmladav.s8 r12, q7, q1\n vpst\n vldrwt.u32 q1, [r3, q0]\n vmladav.s8 lr, q7, q2\n"
        "vmladav.s8 r2, q4, q2\n vmladav.s8 r6, q5, q2\n vmladav.s8 r10, q6, q2\n strd r4, r6, [r1, #64]\n"
        "vmov q7, q1\n strd r0, r2, [r1]\n vmov q2, q3\n strd r12, lr, [r1, #192]\n vsli.32 q1, q3, #16\n"
        "strd r8, r10, [r1, #128]\n vsri.32 q2, q7, #16\n beq 6f\n"
        "add r1, r1, #8\n cmp r1, r7\n bne 2b\n add r1, r1, #192\n add r7, r1, #64\n b 2b\n"
        "6:\n pop {r7}\n"
        : "+r"(cursor), "+r"(even), "+r"(odd), "+r"(out)
        : "r"(left), "m"(frame)
        : EMBBERT_MVE_TILE_REGISTERS);
#else
    embbert_mve_context_any(sums, a, b, rows, width, columns);
#endif
}

/* The same of any number of rows. */
static inline void embbert_mve_context_strided(int32_t *sums, const int8_t *a, const int8_t *b, int32_t rows,
                                               int32_t width, const int32_t columns)
{
    if (rows <= 16) {
        embbert_mve_context_short(sums, a, b, rows, width, columns);
    } else if (columns == 128) {
        embbert_mve_context_128(sums, a, b, rows, width, columns);
    } else if (columns == 64) {
        embbert_mve_context_64(sums, a, b, rows, width, columns);
    } else {
        embbert_mve_context_any(sums, a, b, rows, width, columns);
    }
}

/* The same of a matrix of `width` columns. */
static inline void embbert_mve_context(int32_t *sums, const int8_t *a, const int8_t *b, int32_t rows,
                                       const int32_t width)
{
    embbert_mve_context_strided(sums, a, b, rows, width, width);
}

/* The columns of the interleaved matrix y (rows / 2, width, 2) as embbert_mve_context_transposed reads them: t
 * (width / 2, groups, 2, 16), of two columns sixteen rows of the one and of the other, groups being
 * (rows + 15) / 16; 0 past the last pair of rows. width is even. */
static inline void embbert_mve_transpose(int8_t *t, const int8_t *y, int32_t rows, int32_t width)
{
    const int32_t pairs = (rows + 1) / 2, groups = (rows + 15) / 16;
#if EMBBERT_MVE
    const uint16x8_t offsets = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)(2 * width));
    for (int32_t g = 0; g < groups; g++) {
        const int8_t *from = y + 16 * width * g;
        int8_t *to = t + 32 * g;
        const mve_pred16_t there = vctp16q((uint32_t)(pairs - 8 * g));
        for (int32_t c = 0; c < width; c += 2, from += 4, to += 32 * groups) {
            const uint16_t *halves = (const uint16_t *)(const void *)from;
            const uint16x8_t first = vldrhq_gather_offset_z_u16(halves, offsets, there);
            const uint16x8_t second = vldrhq_gather_offset_z_u16(halves + 1, offsets, there);
            vst1q_u8((uint8_t *)to, vreinterpretq_u8_u16(first));
            vst1q_u8((uint8_t *)to + 16, vreinterpretq_u8_u16(second));
        }
    }
#else
    for (int32_t c = 0; c < width; c++) {
        for (int32_t j = 0; j < 16 * groups; j++) {
            t[((c / 2 * groups + j / 16) * 2 + c % 2) * 16 + j % 16] =
                j < 2 * pairs ? y[(j / 2 * width + c) * 2 + j % 2] : (int8_t)0;
        }
    }
#endif
}

/* embbert_mve_context of a matrix that lies transposed: the sums (width / 16, 4, 16) of the block operand a (groups,
 * 4, 16) . t (width / 2, groups, 2, 16). width is even. Gathers nothing: 16 cycles for 128 multiplications. */
EMBBERT_MVE_APART void embbert_mve_context_transposed(int32_t *sums, const int8_t *a, const int8_t *t, int32_t groups,
                                                      int32_t width)
{
#if EMBBERT_MVE
    const uintptr_t frame[2] __attribute__((aligned(8))) = {(uintptr_t)(width / 2),
                                                            (uintptr_t)(t + 16 * width * groups - 16)};
    register uintptr_t cursor __asm__("r1") = (uintptr_t)frame;
    register uintptr_t right __asm__("r3") = (uintptr_t)t;
    register uintptr_t out __asm__("r5") = (uintptr_t)sums;
    register uintptr_t end __asm__("r9") = (uintptr_t)(a + 64 * groups - 64);
    register uintptr_t left __asm__("r11") = (uintptr_t)a;
    /* Sixteen rows of both columns, and of what comes next the first column and three rows of the operand. */
#define EMBBERT_MVE_SIXTEEN_ROWS(a, next, at, x, y)                                                                    \
    "vmladav" a ".s8 r0, q2, q0\n vldrw.u32 q5, [r1, #48]\n vmladav" a ".s8 r4, q3, q0\n vldrw.u32 q1, [r3], #16\n"    \
    "vmladav" a ".s8 r8, q4, q0\n" x "vmladav" a ".s8 r12, q5, q0\n vldrw.u32 q0, [r3], #16\n"                         \
    "vmladav" a ".s8 r2, q2, q1\n vldrw.u32 q2, [" next ", #" at "]\n vmladav" a ".s8 r6, q3, q1\n"                    \
    "vldrw.u32 q3, [" next ", #" at "+16]\n vmladav" a ".s8 r10, q4, q1\n vldrw.u32 q4, [" next ", #" at "+32]\n"      \
    "vmladav" a ".s8 lr, q5, q1\n" y
    __asm__ volatile(
        EMBBERT_MVE_ENTER "vldrw.u32 q0, [r3], #16\n" EMBBERT_MVE_ROWS_START
        "1:\n" EMBBERT_MVE_TILES("r7")
        "2:\n mov r1, r11\n cmp r1, r9\n beq 5f\n"
        EMBBERT_MVE_SIXTEEN_ROWS("", "r1", "64", "", "add r1, r1, #64\n cmp r1, r9\n")
        "beq 4f\n"
        "3:\n" EMBBERT_MVE_SIXTEEN_ROWS("a", "r1", "64", "", "add r1, r1, #64\n cmp r1, r9\n") "bne 3b\n"
        "4:\n" EMBBERT_MVE_SIXTEEN_ROWS("a", "r11", "0", EMBBERT_MVE_STAY, "") "b 6f\n"
        "5:\n" EMBBERT_MVE_SIXTEEN_ROWS("", "r11", "0", EMBBERT_MVE_STAY, "")
        "6:\n" EMBBERT_MVE_TILE_STORE "cmp r5, r7\n bne 2b\n" EMBBERT_MVE_TILES_LEFT "bne 1b\n" EMBBERT_MVE_LEAVE
        : "+r"(cursor), "+r"(right), "+r"(out)
        : "r"(end), "r"(left), "m"(frame)
        : EMBBERT_MVE_TILE_REGISTERS);
#undef EMBBERT_MVE_SIXTEEN_ROWS
#else
    for (int32_t c = 0; c < width; c++) {
        for (int32_t r = 0; r < 4; r++) {
            int32_t sum = 0;
            for (int32_t j = 0; j < 16 * groups; j++) {
                sum += a[embbert_mve_at(r, j)] * t[((c / 2 * groups + j / 16) * 2 + c % 2) * 16 + j % 16];
            }
            sums[embbert_mve_at(r, c)] = sum;
        }
    }
#endif
}

/* The block operand a (k / 16, 4, 16) of four rows: pairs b0 and b1 (k, 2) of an interleaved matrix. k is a multiple
 * of 16. */
static inline void embbert_mve_widen(int8_t *a, const int8_t *b0, const int8_t *b1, int32_t k)
{
#if EMBBERT_MVE
    for (int32_t i = 0; i < k; i += 16) {
        const int8_t *first = b0 + 2 * i, *second = b1 + 2 * i;
        /* GCC 12 would step the pointer by a register, which VLD2 cannot do. */
        __asm__("" : "+r"(first), "+r"(second));
        const int8x16x2_t top = vld2q_s8(first), bottom = vld2q_s8(second);
        vst1q_s8(a + 4 * i, top.val[0]);
        vst1q_s8(a + 4 * i + 16, top.val[1]);
        vst1q_s8(a + 4 * i + 32, bottom.val[0]);
        vst1q_s8(a + 4 * i + 48, bottom.val[1]);
    }
#else
    for (int32_t i = 0; i < k; i++) {
        a[embbert_mve_at(0, i)] = b0[2 * i];
        a[embbert_mve_at(1, i)] = b0[2 * i + 1];
        a[embbert_mve_at(2, i)] = b1[2 * i];
        a[embbert_mve_at(3, i)] = b1[2 * i + 1];
    }
#endif
}

#if EMBBERT_MVE
/* Sixteen words at `p` to Q0 to Q3: the first of each four, the second, ... EIGHT words to two registers, the first of
 * each two and the second, which VQMOVNB and VQMOVNT put in order. */
#define EMBBERT_MVE_LOW(p)                                                                                             \
    "vld40.32 {q0, q1, q2, q3}, [" p "]\n vld41.32 {q0, q1, q2, q3}, [" p "]\n"                                        \
    "vld42.32 {q0, q1, q2, q3}, [" p "]\n vld43.32 {q0, q1, q2, q3}, [" p "]\n"
#define EMBBERT_MVE_EIGHT(q, p) "vld20.32 {" q "}, [" p "]\n vld21.32 {" q "}, [" p "]\n"
#define EMBBERT_MVE_LOW_REGISTERS "q0", "q1", "q2", "q3", "memory"
#define EMBBERT_MVE_ALL_REGISTERS EMBBERT_MVE_LOW_REGISTERS, "q4", "q5", "q6", "q7"
#endif

/* out (n / 16, 4, 16) from sums of the same layout: clamp(multiply_high(sum + bias[j], multiplier[j])) in column j.
 * n is a multiple of 16. */
static inline void embbert_mve_requantize(int8_t *out, const int32_t *sums, const int32_t *bias,
                                          const int32_t *multiplier, int32_t n)
{
#if EMBBERT_MVE
    for (int32_t j = 0; j < n; j += 16, sums += 64, out += 64) {
        for (int32_t half = 0; half < 16; half += 8) {
            const int32_t *from = sums + half, *added = bias + j + half, *by = multiplier + j + half;
            __asm__ volatile(EMBBERT_MVE_EIGHT("q4, q5", "%0") EMBBERT_MVE_EIGHT("q6, q7", "%1")
                             :
                             : "r"(added), "r"(by)
                             : "q4", "q5", "q6", "q7", "memory");
            for (int32_t r = 0; r < 4; r += 2) {
                __asm__ volatile(
                    EMBBERT_MVE_EIGHT("q0, q1", "%0") "vld20.32 {q2, q3}, [%1]\n vadd.i32 q0, q0, q4\n"
                    "vld21.32 {q2, q3}, [%1]\n vadd.i32 q1, q1, q5\n vrmulh.s32 q0, q0, q6\n vadd.i32 q2, q2, q4\n"
                    "vrmulh.s32 q1, q1, q7\n vadd.i32 q3, q3, q5\n vrmulh.s32 q2, q2, q6\n vqmovnb.s32 q0, q0\n"
                    "vrmulh.s32 q3, q3, q7\n vqmovnt.s32 q0, q1\n vqmovnb.s32 q2, q2\n vqmovnb.s16 q0, q0\n"
                    "vqmovnt.s32 q2, q3\n vstrb.16 q0, [%2]\n vqmovnb.s16 q2, q2\n vstrb.16 q2, [%2, #16]\n"
                    :
                    : "r"(from + 16 * r), "r"(from + 16 * r + 16), "l"(out + 16 * r + half)
                    : EMBBERT_MVE_LOW_REGISTERS);
            }
        }
    }
#else
    for (int32_t j = 0; j < n; j++) {
        for (int32_t r = 0; r < 4; r++) {
            const int32_t at = embbert_mve_at(r, j);
            out[at] = (int8_t)saturate_i8(multiply_high(sums[at] + bias[j], multiplier[j]));
        }
    }
#endif
}

/* out (n / 16, 4, 16) from sums of the same layout: clamp(multiply_high(sum, factor[r])) in row r. n is a multiple
 * of 16. */
static inline void embbert_mve_rescale(int8_t *out, const int32_t *sums, const int32_t *factor, int32_t n)
{
#if EMBBERT_MVE
    for (int32_t r = 0; r < 4; r += 2) {
        const int32x4_t factor0 = vdupq_n_s32(factor[r]), factor1 = vdupq_n_s32(factor[r + 1]);
        const int32_t *from = sums + 16 * r;
        int8_t *to = out + 16 * r;
        for (int32_t j = 0; j < n; j += 16, from += 64, to += 64) {
            for (int32_t half = 0; half < 16; half += 8) {
                __asm__ volatile(
                    EMBBERT_MVE_EIGHT("q0, q1", "%0") "vld20.32 {q2, q3}, [%1]\n vrmulh.s32 q0, q0, %q3\n"
                    "vld21.32 {q2, q3}, [%1]\n vrmulh.s32 q1, q1, %q3\n vqmovnb.s32 q0, q0\n"
                    "vrmulh.s32 q2, q2, %q4\n vqmovnt.s32 q0, q1\n vrmulh.s32 q3, q3, %q4\n vqmovnb.s16 q0, q0\n"
                    "vqmovnb.s32 q2, q2\n vstrb.16 q0, [%2]\n vqmovnt.s32 q2, q3\n vqmovnb.s16 q2, q2\n"
                    "vstrb.16 q2, [%2, #16]\n"
                    :
                    : "r"(from + half), "r"(from + half + 16), "l"(to + half), "w"(factor0), "w"(factor1)
                    : EMBBERT_MVE_LOW_REGISTERS);
            }
        }
    }
#else
    for (int32_t j = 0; j < n; j++) {
        for (int32_t r = 0; r < 4; r++) {
            const int32_t at = embbert_mve_at(r, j);
            out[at] = (int8_t)saturate_i8(multiply_high(sums[at], factor[r]));
        }
    }
#endif
}

/* Softmax weights (columns / 16, 4, 16) from scores of the same layout, and each row's sum of them in total[4]:
 *     weights = table[min(255, multiply_high(row's largest score - score, step))]
 * They are 0 from `columns` to the next multiple of 16; the scores there are overwritten. step is not negative. */
static inline void embbert_mve_softmax(int8_t *weights, int32_t *total, int32_t *scores, const int8_t *table,
                                       int32_t step, int32_t columns)
{
#if EMBBERT_MVE
    const int32x4_t steps = vdupq_n_s32(step);
    for (int32_t r = 0; r < 4; r++) {
        int32_t *const row = scores + 16 * r;
        const int32_t first = row[0];
        /* What is not there becomes a copy of a score that is. */
        for (int32_t j = columns; j % 16 != 0; j++) {
            row[j / 16 * 64 + j % 16] = first;
        }
        int32x4_t largest = vdupq_n_s32(first), other = largest;
        const int32_t *score = row;
        for (int32_t j = 0; j < columns; j += 16) {
            __asm__ volatile(
                "vldrw.u32 q0, [%0], #256\n vmax.s32 %q1, %q1, q0\n vldrw.u32 q1, [%0, #-240]\n"
                "vmax.s32 %q2, %q2, q1\n vldrw.u32 q0, [%0, #-224]\n vmax.s32 %q1, %q1, q0\n"
                "vldrw.u32 q1, [%0, #-208]\n vmax.s32 %q2, %q2, q1\n"
                : "+r"(score), "+w"(largest), "+w"(other)
                :
                : "q0", "q1", "memory");
        }
        const int32x4_t peak = vdupq_n_s32(vmaxvq_s32(INT32_MIN, vmaxq_s32(largest, other)));
        int8_t *out = weights + 16 * r;
        int32_t sum = 0;
        int32_t groups = (columns + 15) / 16;
        score = row;
        /* Sixteen entries of the table are gathered while the next sixteen indices are made. */
#define EMBBERT_MVE_INDICES(keep, sum)                                                                                 \
    "vsub.i32 q0, %q[peak], q0\n vsub.i32 q1, %q[peak], q1\n vrmulh.s32 q0, q0, %q[steps]\n"                           \
    "vsub.i32 q2, %q[peak], q2\n vrmulh.s32 q1, q1, %q[steps]\n vsub.i32 q3, %q[peak], q3\n"                           \
    "vrmulh.s32 q2, q2, %q[steps]\n vqmovunb.s32 q0, q0\n vrmulh.s32 q3, q3, %q[steps]\n vqmovunb.s32 q1, q1\n"        \
    "subs %[groups], %[groups], #1\n vqmovunt.s32 q0, q2\n vqmovunt.s32 q1, q3\n" keep "vqmovnb.u16 q0, q0\n" sum      \
    "vqmovnt.u16 q0, q1\n add %[score], %[score], #256\n vmov q7, q0\n"
        __asm__ volatile(EMBBERT_MVE_LOW("%[score]") EMBBERT_MVE_INDICES("", "") "b 2f\n"
                         "1:\n" EMBBERT_MVE_LOW("%[score]") "vldrb.u8 q6, [%[table], q7]\n"
                         EMBBERT_MVE_INDICES("vstrb.8 q6, [%[out]], #64\n", "vaddva.s8 %[sum], q6\n")
                         "2:\n bne 1b\n"
                         "vctp.8 %[rest]\n vpst\n vldrbt.u8 q6, [%[table], q7]\n vstrb.8 q6, [%[out]]\n"
                         "vaddva.s8 %[sum], q6\n"
                         : [sum] "+Te"(sum), [score] "+r"(score), [out] "+r"(out), [groups] "+r"(groups)
                         : [peak] "w"(peak), [steps] "w"(steps), [table] "r"(table),
                           [rest] "r"(columns - 16 * groups + 16)
                         : EMBBERT_MVE_LOW_REGISTERS, "q6", "q7", "cc");
#undef EMBBERT_MVE_INDICES
        total[r] = sum;
    }
#else
    for (int32_t r = 0; r < 4; r++) {
        int32_t peak = scores[embbert_mve_at(r, 0)], sum = 0;
        for (int32_t j = 1; j < columns; j++) {
            peak = max_i32(peak, scores[embbert_mve_at(r, j)]);
        }
        for (int32_t j = 0; j < (columns + 15) / 16 * 16; j++) {
            int32_t weight = 0;
            if (j < columns) {
                weight = table[saturate_u8(multiply_high(peak - scores[embbert_mve_at(r, j)], step))];
            }
            weights[embbert_mve_at(r, j)] = (int8_t)weight;
            sum += weight;
        }
        total[r] = sum;
    }
#endif
}

/* In sums (n / 16, 4, 16), each becomes multiply_high(sum + bias[j], rescale[j]) in column j; squares[r] is epsilon and
 * the squares of row r. n is a multiple of 16. */
static inline void embbert_mve_scale(int64_t *squares, int32_t *sums, const int32_t *bias, const int32_t *rescale,
                                     int32_t epsilon, int32_t n)
{
#if EMBBERT_MVE
    for (int32_t r = 0; r < 4; r += 2) {
        int64_t square0 = epsilon, square1 = epsilon;
        for (int32_t j = 0; j < n; j += 16) {
            for (int32_t i = 0; i < 16; i += 8) {
                int32_t *row = sums + 4 * j + 16 * r + i;
                /* Eight columns of two rows. */
                __asm__ volatile(
                    "vldrw.u32 q4, [%3]\n vldrw.u32 q0, [%2]\n vldrw.u32 q1, [%2, #64]\n vadd.i32 q0, q0, q4\n"
                    "vldrw.u32 q5, [%4]\n vadd.i32 q1, q1, q4\n vldrw.u32 q6, [%3, #16]\n vrmulh.s32 q0, q0, q5\n"
                    "vldrw.u32 q2, [%2, #16]\n vrmulh.s32 q1, q1, q5\n vldrw.u32 q3, [%2, #80]\n vadd.i32 q2, q2, q6\n"
                    "vstrw.32 q0, [%2]\n vmlaldava.s32 %Q0, %R0, q0, q0\n vldrw.u32 q7, [%4, #16]\n"
                    "vadd.i32 q3, q3, q6\n vmlaldava.s32 %Q1, %R1, q1, q1\n vstrw.32 q1, [%2, #64]\n vrmulh.s32 q2, q2, q7\n"
                    "vrmulh.s32 q3, q3, q7\n vmlaldava.s32 %Q0, %R0, q2, q2\n vstrw.32 q2, [%2, #16]\n"
                    "vmlaldava.s32 %Q1, %R1, q3, q3\n vstrw.32 q3, [%2, #80]\n"
                    : "+r"(square0), "+r"(square1)
                    : "r"(row), "r"(bias + j + i), "r"(rescale + j + i)
                    : EMBBERT_MVE_ALL_REGISTERS);
            }
        }
        squares[r] = square0, squares[r + 1] = square1;
    }
#else
    for (int32_t r = 0; r < 4; r++) {
        squares[r] = epsilon;
        for (int32_t j = 0; j < n; j++) {
            int32_t *const at = sums + embbert_mve_at(r, j);
            *at = multiply_high(*at + bias[j], rescale[j]);
            squares[r] += (int64_t)*at * *at;
        }
    }
#endif
}

/* Four rows of an interleaved matrix, pairs out0 and out1 (n, 2), from scaled (n / 16, 4, 16):
 *     clamp(multiply_high(multiply_high(scaled << left[r], inverse[r]), gain[j]))
 * n is a multiple of 16. */
static inline void embbert_mve_normalize(int8_t *out0, int8_t *out1, const int32_t *scaled, const int32_t *left,
                                         const int32_t *inverse, const int32_t *gain, int32_t n)
{
#if EMBBERT_MVE
    for (int32_t r = 0; r < 4; r += 2) {
        const int32x4_t inverse0 = vdupq_n_s32(inverse[r]), inverse1 = vdupq_n_s32(inverse[r + 1]);
        int8_t *out = r == 0 ? out0 : out1;
        const int32_t left0 = left[r], left1 = left[r + 1], *row0 = scaled + 16 * r, *row1 = row0 + 16, *by = gain;
        for (int32_t j = 0; j < n; j += 16, out += 32, row0 += 56, row1 += 56) {
            /* Eight columns of two rows, which lie side by side when the second's bytes go on top of the first's. */
#define EMBBERT_MVE_UNITS(step, at)                                                                                    \
    "vld20.32 {q0, q1}, [%0]\n vld21.32 {q0, q1}, [%0]" step "\n vld20.32 {q2, q3}, [%1]\n vshl.s32 q0, %4\n"          \
    "vld21.32 {q2, q3}, [%1]" step "\n vshl.s32 q1, %4\n vrmulh.s32 q0, q0, %q6\n vld20.32 {q4, q5}, [%2]\n"           \
    "vshl.s32 q2, %5\n vrmulh.s32 q1, q1, %q6\n vld21.32 {q4, q5}, [%2]!\n vshl.s32 q3, %5\n"                          \
    "vrmulh.s32 q2, q2, %q7\n vrmulh.s32 q0, q0, q4\n vrmulh.s32 q3, q3, %q7\n vqmovnb.s32 q0, q0\n"                   \
    "vrmulh.s32 q1, q1, q5\n vrmulh.s32 q2, q2, q4\n vqmovnt.s32 q0, q1\n vrmulh.s32 q3, q3, q5\n"                     \
    "vqmovnb.s32 q2, q2\n vqmovnb.s16 q0, q0\n vqmovnt.s32 q2, q3\n vqmovnt.s16 q0, q2\n vstrw.32 q0, [%3, #" at "]\n"
            __asm__ volatile(EMBBERT_MVE_UNITS("!", "0") EMBBERT_MVE_UNITS("", "16")
                             : "+r"(row0), "+r"(row1), "+r"(by)
                             : "r"(out), "r"(left0), "r"(left1), "w"(inverse0), "w"(inverse1)
                             : EMBBERT_MVE_LOW_REGISTERS, "q4", "q5");
#undef EMBBERT_MVE_UNITS
        }
    }
#else
    for (int32_t r = 0; r < 4; r++) {
        for (int32_t j = 0; j < n; j++) {
            const int32_t unit = multiply_high(scaled[embbert_mve_at(r, j)] * (1 << left[r]), inverse[r]);
            (r < 2 ? out0 : out1)[2 * j + r % 2] = (int8_t)saturate_i8(multiply_high(unit, gain[j]));
        }
    }
#endif
}

/* The inverse of widen: pairs b0 and b1 (k, 2) of an interleaved matrix from the block operand a (k / 16, 4, 16). k is
 * a multiple of 16. */
static inline void embbert_mve_interleave(int8_t *b0, int8_t *b1, const int8_t *a, int32_t k)
{
#if EMBBERT_MVE
    for (int32_t i = 0; i < k; i += 16) {
        int8_t *first = b0 + 2 * i, *second = b1 + 2 * i;
        __asm__("" : "+r"(first), "+r"(second));
        const int8x16x2_t top = {{vld1q_s8(a + 4 * i), vld1q_s8(a + 4 * i + 16)}};
        const int8x16x2_t bottom = {{vld1q_s8(a + 4 * i + 32), vld1q_s8(a + 4 * i + 48)}};
        vst2q_s8(first, top);
        vst2q_s8(second, bottom);
    }
#else
    for (int32_t i = 0; i < k; i++) {
        b0[2 * i] = a[embbert_mve_at(0, i)];
        b0[2 * i + 1] = a[embbert_mve_at(1, i)];
        b1[2 * i] = a[embbert_mve_at(2, i)];
        b1[2 * i + 1] = a[embbert_mve_at(3, i)];
    }
#endif
}

/* Of the block operand a (n / 16, 4, 16), each becomes table[128 + it]. n is a multiple of 16. */
static inline void embbert_mve_table(int8_t *a, const int8_t *table, int32_t n)
{
#if EMBBERT_MVE
    const uint8x16_t sign = vdupq_n_u8(128);
    for (int32_t i = 0; i < 4 * n; i += 16) {
        const uint8x16_t level = veorq_u8(vld1q_u8((const uint8_t *)a + i), sign);
        vst1q_s8(a + i, vldrbq_gather_offset_s8(table, level));
    }
#else
    for (int32_t i = 0; i < 4 * n; i++) {
        a[i] = table[128 + a[i]];
    }
#endif
}

/* sums (n / 16, 4, 16) += (a * factor[j] + 128) >> 8 in column j, of the block operand a. n is a multiple of 16. */
static inline void embbert_mve_residual(int32_t *sums, const int8_t *a, const int32_t *factor, int32_t n)
{
#if EMBBERT_MVE
    for (int32_t j = 0; j < n; j += 16) {
        for (int32_t r = 0; r < 4; r++, sums += 16, a += 16) {
            for (int32_t i = 0; i < 16; i += 4) {
                const int32x4_t added = vmulq_s32(vldrbq_s32(a + i), vld1q_s32(factor + j + i));
                vst1q_s32(sums + i, vaddq_s32(vld1q_s32(sums + i), vrshrq_n_s32(added, 8)));
            }
        }
    }
#else
    for (int32_t j = 0; j < n; j++) {
        for (int32_t r = 0; r < 4; r++) {
            const int32_t at = embbert_mve_at(r, j);
            sums[at] += (a[at] * factor[j] + 128) >> 8;
        }
    }
#endif
}

/* A row of the sums (n / 16, 4, 16) += row (n) << shift. n is a multiple of 16. */
static inline void embbert_mve_add_row(int32_t *sums, const int8_t *row, int32_t shift, int32_t n)
{
    const int32_t factor = (int32_t)(1u << shift);
#if EMBBERT_MVE
    for (int32_t j = 0; j < n; j += 16, sums += 64, row += 16) {
        for (int32_t i = 0; i < 16; i += 4) {
            vst1q_s32(sums + i, vmlaq_n_s32(vld1q_s32(sums + i), vldrbq_s32(row + i), factor));
        }
    }
#else
    for (int32_t j = 0; j < n; j++) {
        sums[embbert_mve_at(0, j)] += row[j] * factor;
    }
#endif
}

/* scale, less the mean of the first `width` columns, cut to an integer: squares[r] is epsilon and the squares of
 * those. bias and rescale are 0 from `width` on. n is a multiple of 16. */
static inline void embbert_mve_scale_centred(int64_t *squares, int32_t *sums, const int32_t *bias,
                                             const int32_t *rescale, int32_t epsilon, int32_t n, int32_t width)
{
#if EMBBERT_MVE
    for (int32_t r = 0; r < 4; r++) {
        int32_t *row = sums + 16 * r;
        int64_t total = 0;
        for (int32_t j = 0; j < n; j += 16, row += 64) {
            for (int32_t i = 0; i < 16; i += 4) {
                const int32x4_t start = vaddq_s32(vld1q_s32(row + i), vld1q_s32(bias + j + i));
                const int32x4_t scaled = vrmulhq_s32(start, vld1q_s32(rescale + j + i));
                vst1q_s32(row + i, scaled);
                total = vaddlvaq_s32(total, scaled);
            }
        }
        const int32_t mean = (int32_t)(total / width);
        int64_t square = (int64_t)epsilon - (int64_t)(n - width) * mean * mean;
        row = sums + 16 * r;
        for (int32_t j = 0; j < n; j += 16, row += 64) {
            for (int32_t i = 0; i < 16; i += 4) {
                const int32x4_t centred = vsubq_n_s32(vld1q_s32(row + i), mean);
                vst1q_s32(row + i, centred);
                square = vmlaldavaq_s32(square, centred, centred);
            }
        }
        squares[r] = square;
    }
#else
    for (int32_t r = 0; r < 4; r++) {
        int64_t total = 0;
        for (int32_t j = 0; j < n; j++) {
            int32_t *const at = sums + embbert_mve_at(r, j);
            *at = multiply_high(*at + bias[j], rescale[j]);
            total += *at;
        }
        const int32_t mean = (int32_t)(total / width);
        squares[r] = epsilon;
        for (int32_t j = 0; j < n; j++) {
            int32_t *const at = sums + embbert_mve_at(r, j);
            *at -= mean;
            squares[r] += j < width ? (int64_t)*at * *at : 0;
        }
    }
#endif
}

/* normalize to a block operand out (n / 16, 4, 16). */
static inline void embbert_mve_normalize_block(int8_t *out, const int32_t *scaled, const int32_t *left,
                                               const int32_t *inverse, const int32_t *gain, int32_t n)
{
    for (int32_t j = 0; j < n; j += 16) {
        for (int32_t r = 0; r < 4; r++, scaled += 16, out += 16) {
#if EMBBERT_MVE
            const int32x4_t factor = vdupq_n_s32(inverse[r]);
            for (int32_t i = 0; i < 16; i += 4) {
                const int32x4_t unit = vrmulhq_s32(vshlq_r_s32(vld1q_s32(scaled + i), left[r]), factor);
                const int32x4_t level = vrmulhq_s32(unit, vld1q_s32(gain + j + i));
                vstrbq_s32(out + i, vminq_s32(vmaxq_s32(level, vdupq_n_s32(-128)), vdupq_n_s32(127)));
            }
#else
            for (int32_t i = 0; i < 16; i++) {
                const int32_t unit = multiply_high(scaled[i] * (1 << left[r]), inverse[r]);
                out[i] = (int8_t)saturate_i8(multiply_high(unit, gain[j + i]));
            }
#endif
        }
    }
}

/* The same with a shift: clamp((multiply_high(unit, gain[j]) + shift[j]) >> 8). */
static inline void embbert_mve_normalize_shifted(int8_t *out, const int32_t *scaled, const int32_t *left,
                                                 const int32_t *inverse, const int32_t *gain, const int32_t *shift,
                                                 int32_t n)
{
    for (int32_t j = 0; j < n; j += 16) {
        for (int32_t r = 0; r < 4; r++, scaled += 16, out += 16) {
#if EMBBERT_MVE
            const int32x4_t factor = vdupq_n_s32(inverse[r]);
            for (int32_t i = 0; i < 16; i += 4) {
                const int32x4_t unit = vrmulhq_s32(vshlq_r_s32(vld1q_s32(scaled + i), left[r]), factor);
                const int32x4_t level = vrmulhq_s32(unit, vld1q_s32(gain + j + i));
                const int32x4_t moved = vshrq_n_s32(vaddq_s32(level, vld1q_s32(shift + j + i)), 8);
                vstrbq_s32(out + i, vminq_s32(vmaxq_s32(moved, vdupq_n_s32(-128)), vdupq_n_s32(127)));
            }
#else
            for (int32_t i = 0; i < 16; i++) {
                const int32_t unit = multiply_high(scaled[i] * (1 << left[r]), inverse[r]);
                out[i] = (int8_t)saturate_i8((multiply_high(unit, gain[j + i]) + shift[j + i]) >> 8);
            }
#endif
        }
    }
}

#if EMBBERT_MVE
/* A filter, its taps in w0 and w1, 0 past the last. */
static inline void embbert_mve_filter_by(int8_t *out, const int8_t *x, int8_t *line, int8x16_t w0, int8x16_t w1,
                                         int32_t bias, int32_t multiplier, const int8_t *table, int32_t pairs,
                                         const int32_t channels, const int32_t taps)
{
    const uint16x8_t offsets = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)(2 * channels));
    vst1q_s8(line, vdupq_n_s8(0));
    vst1q_s8(line + 16, vdupq_n_s8(0));
    int8_t *at = line + taps;
    const int8_t *from = x;
    for (int32_t p = 0; p < pairs; p += 8, at += 16, from += 16 * channels) {
        __asm__ volatile("vctp.16 %0\n vpst\n vldrht.u16 q0, [%1, %q2]\n vstrb.8 q0, [%3]\n"
                         :
                         : "r"(pairs - p), "r"(from), "w"(offsets), "r"(at)
                         : "q0", "memory");
    }
    /* Output o into a register; two such into two words of a vector; eight, in two vectors, into halfwords. */
#define EMBBERT_MVE_ONE(o, sum, second)                                                                                \
    "vldrb.u8 q0, [%[at], #" #o "]\n vmladav.s8 %[" #sum "], q0, %q[w0]\n" second(o, sum)
#define EMBBERT_MVE_SECOND(o, sum) "vldrb.u8 q0, [%[at], #16+" #o "]\n vmladava.s8 %[" #sum "], q0, %q[w1]\n"
#define EMBBERT_MVE_NO_SECOND(o, sum)
#define EMBBERT_MVE_TWO(q, i, k, s, t) "vmov " q "[" #k "], " q "[" #i "], %[" #s "], %[" #t "]\n"
#define EMBBERT_MVE_HALVES(p, q)                                                                                       \
    "vadd.i32 " p ", " p ", %[bias]\n", "vadd.i32 " q ", " q ", %[bias]\n vrmulh.s32 " p ", " p ", q3\n",              \
        "vrmulh.s32 " q ", " q ", q3\n vqmovnb.s32 " p ", " p "\n", "vqmovnt.s32 " p ", " q "\n"
    /* Every other output from o on. w, x, y, z: what else is done meanwhile. */
#define EMBBERT_MVE_EVERY_OTHER(o, p, q, second, w, x, y, z)                                                           \
    EMBBERT_MVE_ONE(0+o, s0, second) EMBBERT_MVE_ONE(8+o, s1, second) w EMBBERT_MVE_ONE(4+o, s2, second)               \
    EMBBERT_MVE_TWO(p, 0, 2, s0, s1) EMBBERT_MVE_ONE(12+o, s3, second) x EMBBERT_MVE_ONE(2+o, s0, second)              \
    EMBBERT_MVE_TWO(p, 1, 3, s2, s3) EMBBERT_MVE_ONE(10+o, s1, second) y EMBBERT_MVE_ONE(6+o, s2, second)              \
    EMBBERT_MVE_TWO(q, 0, 2, s0, s1) EMBBERT_MVE_ONE(14+o, s3, second) z
#define EMBBERT_MVE_EVERY_OTHER_(...) EMBBERT_MVE_EVERY_OTHER(__VA_ARGS__)
#define EMBBERT_MVE_ALL_OF(w, x, y, z) w x y z
#define EMBBERT_MVE_ALL_OF_(...) EMBBERT_MVE_ALL_OF(__VA_ARGS__)
#define EMBBERT_MVE_SIXTEEN(second, place, first)                                                                      \
    __asm__ volatile("vdup.32 q3, %[factor]\n"                                                                         \
                     EMBBERT_MVE_EVERY_OTHER(0, "%q[out]", "q1", second, "", "", "", "")                               \
                     EMBBERT_MVE_TWO("q1", 1, 3, s2, s3)                                                               \
                     EMBBERT_MVE_EVERY_OTHER_(1, "q4", "q2", second, EMBBERT_MVE_HALVES("%q[out]", "q1"))              \
                     EMBBERT_MVE_TWO("q2", 1, 3, s2, s3)                                                               \
                     EMBBERT_MVE_ALL_OF_(EMBBERT_MVE_HALVES("q4", "q2"))                                               \
                     "vqmovnb.s16 %q[out], %q[out]\n vqmovnt.s16 %q[out], q4\n"                                        \
                     : [s0] "=&Te"(s0), [s1] "=&Te"(s1), [s2] "=&Te"(s2), [s3] "=&Te"(s3), [out] "=&w"(levels)         \
                     : [at] "r"(place), [bias] "r"(bias), [factor] "r"(multiplier), [w0] "w"(first), [w1] "w"(w1)      \
                     : EMBBERT_MVE_LOW_REGISTERS, "q4")
    at = line + 1;
    for (int32_t p = 0; p < pairs; p += 8, at += 16, out += 16 * channels) {
        int32_t s0, s1, s2, s3;
        int8x16_t levels;
        if (taps == 32 && p == 0) {
            /* The first half of the taps meets what lies before the text. */
            EMBBERT_MVE_SIXTEEN(EMBBERT_MVE_NO_SECOND, at + 16, w1);
        } else if (taps > 16) {
            EMBBERT_MVE_SIXTEEN(EMBBERT_MVE_SECOND, at, w0);
        } else {
            EMBBERT_MVE_SIXTEEN(EMBBERT_MVE_NO_SECOND, at, w0);
        }
        __asm__ volatile("vmov.i8 q1, #128\n vctp.16 %0\n veor q0, %q1, q1\n vldrb.u8 q1, [%2, q0]\n"
                         "vpst\n vstrht.16 q1, [%3, %q4]\n"
                         :
                         : "r"(pairs - p), "w"(levels), "r"(table), "r"(out), "w"(offsets)
                         : "q0", "q1", "memory");
    }
#undef EMBBERT_MVE_ONE
#undef EMBBERT_MVE_SECOND
#undef EMBBERT_MVE_NO_SECOND
#undef EMBBERT_MVE_TWO
#undef EMBBERT_MVE_HALVES
#undef EMBBERT_MVE_EVERY_OTHER
#undef EMBBERT_MVE_EVERY_OTHER_
#undef EMBBERT_MVE_ALL_OF
#undef EMBBERT_MVE_ALL_OF_
#undef EMBBERT_MVE_SIXTEEN
}
#endif

/* A filter along the text, causal, on one channel of an interleaved matrix x (pairs, channels, 2), to the same of out:
 *     out = table[128 + clamp(multiply_high(bias + sum over k of tap[k] * x[t - taps + 1 + k], multiplier))]
 * weight (taps, 2): every other one is a tap. line: taps + 2 * pairs + 31 bytes to work in. taps is at most 32,
 * channels at most 4096. */
static inline void embbert_mve_filter(int8_t *out, const int8_t *x, int8_t *line, const int8_t *weight, int32_t bias,
                                      int32_t multiplier, const int8_t *table, int32_t pairs, const int32_t channels,
                                      const int32_t taps)
{
#if EMBBERT_MVE
    const uint8x16_t twos = vidupq_n_u8(0, 2);
    const int8x16_t w0 = vldrbq_gather_offset_z_s8(weight, twos, vctp8q((uint32_t)taps));
    const int8x16_t w1 = vldrbq_gather_offset_z_s8(weight + 32, twos, vctp8q((uint32_t)(taps > 16 ? taps - 16 : 0)));
    embbert_mve_filter_by(out, x, line, w0, w1, bias, multiplier, table, pairs, channels, taps);
#else
    for (int32_t k = 0; k < taps; k++) {
        line[k] = 0;
    }
    for (int32_t t = 0; t < 2 * pairs; t++) {
        line[taps + t] = x[t / 2 * 2 * channels + t % 2];
        int32_t sum = bias;
        for (int32_t k = 0; k < taps; k++) {
            sum += weight[2 * k] * line[t + 1 + k];
        }
        out[t / 2 * 2 * channels + t % 2] = table[128 + saturate_i8(multiply_high(sum, multiplier))];
    }
#endif
}

/* The same with the channel's taps side by side: weight (taps,). */
static inline void embbert_mve_filter_laid(int8_t *out, const int8_t *x, int8_t *line, const int8_t *weight,
                                           int32_t bias, int32_t multiplier, const int8_t *table, int32_t pairs,
                                           const int32_t channels, const int32_t taps)
{
#if EMBBERT_MVE
    const int8x16_t w0 = taps < 16 ? vldrbq_z_s8(weight, vctp8q((uint32_t)taps)) : vld1q_s8(weight);
    int8x16_t w1 = vdupq_n_s8(0);
    if (taps == 32) {
        w1 = vld1q_s8(weight + 16);
    } else if (taps > 16) {
        w1 = vldrbq_z_s8(weight + 16, vctp8q((uint32_t)(taps - 16)));
    }
    embbert_mve_filter_by(out, x, line, w0, w1, bias, multiplier, table, pairs, channels, taps);
#else
    for (int32_t k = 0; k < taps; k++) {
        line[k] = 0;
    }
    for (int32_t t = 0; t < 2 * pairs; t++) {
        line[taps + t] = x[t / 2 * 2 * channels + t % 2];
        int32_t sum = bias;
        for (int32_t k = 0; k < taps; k++) {
            sum += weight[k] * line[t + 1 + k];
        }
        out[t / 2 * 2 * channels + t % 2] = table[128 + saturate_i8(multiply_high(sum, multiplier))];
    }
#endif
}

/* sums[j] += x (k,) . row j of weight (n, k). */
static inline void embbert_mve_rows(int32_t *sums, const int8_t *x, const int8_t *weight, int32_t n, int32_t k)
{
#if EMBBERT_MVE
    /* Four rows share what is loaded of x. The columns that are no sixteen come first. */
    const int32_t first = (k - 1) % 16 + 1;
    const mve_pred16_t there = vctp8q((uint32_t)first);
    const int8x16_t start = vldrbq_z_s8(x, there);
    int32_t j = 0;
    for (; j < n - 3; j += 4, weight += 4 * k) {
        const int8_t *w0 = weight, *w1 = w0 + k, *w2 = w1 + k, *w3 = w2 + k;
        int32_t s0 = vmladavaq_s8(sums[j], start, vldrbq_z_s8(w0, there));
        int32_t s1 = vmladavaq_s8(sums[j + 1], start, vldrbq_z_s8(w1, there));
        int32_t s2 = vmladavaq_s8(sums[j + 2], start, vldrbq_z_s8(w2, there));
        int32_t s3 = vmladavaq_s8(sums[j + 3], start, vldrbq_z_s8(w3, there));
        for (int32_t i = first; i < k; i += 16) {
            const int8x16_t columns = vldrbq_s8(x + i);
            s0 = vmladavaq_s8(s0, columns, vldrbq_s8(w0 + i));
            s1 = vmladavaq_s8(s1, columns, vldrbq_s8(w1 + i));
            s2 = vmladavaq_s8(s2, columns, vldrbq_s8(w2 + i));
            s3 = vmladavaq_s8(s3, columns, vldrbq_s8(w3 + i));
        }
        sums[j] = s0, sums[j + 1] = s1, sums[j + 2] = s2, sums[j + 3] = s3;
    }
    for (int32_t left = n % 4; left > 0; left--, j++, weight += k) { /* `j < n` GCC 12 takes for endless */
        int32_t sum = vmladavaq_s8(sums[j], start, vldrbq_z_s8(weight, there));
        for (int32_t i = first; i < k; i += 16) {
            sum = vmladavaq_s8(sum, vldrbq_s8(x + i), vldrbq_s8(weight + i));
        }
        sums[j] = sum;
    }
#else
    for (int32_t j = 0; j < n; j++) {
        for (int32_t i = 0; i < k; i++) {
            sums[j] += x[i] * weight[j * k + i];
        }
    }
#endif
}

#endif
