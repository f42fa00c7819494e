/* Orders of the SMLAD tile's instructions (embbert_dsp.h), written by benchmarks/orders.py, which has the
 * clean text of each. START loads what the first pair needs; STEP(n) is pair n of a round and begins the
 * next; LAST ends a round of `steps` pairs, moves R12 and LR on and compares R12 with what lies at `end`. */

#ifndef EMBBERT_DSP_ORDERS_H
#define EMBBERT_DSP_ORDERS_H

/* clang-format off */

#define EMBBERT_DOT_SINGLE_START "ldr r7, [lr, #16*(0)+0]\n ldr r9, [r12, #4*(0)+4]\n sxtb16 r10, r9, ror #8\n" \
    "ldr r11, [lr, #16*(0)+8]\n"
#define EMBBERT_DOT_SINGLE_STEP(n) "sxtb16 r9, r9\n smlad r1, r7, r10, r1\n smlad r0, r7, r9, r0\n" \
    "ldr r7, [lr, #16*(" #n ")+12]\n smlad r5, r11, r10, r5\n smlad r4, r11, r9, r4\n" \
    "ldr r11, [lr, #16*(" #n ")+4]\n smlad r6, r7, r9, r6\n smlad r8, r7, r10, r8\n" \
    "ldr r7, [lr, #16*(" #n "+1)+0]\n smlad r2, r11, r9, r2\n ldr r9, [r12, #4*(" #n "+1)+4]\n" \
    "smlad r3, r11, r10, r3\n sxtb16 r10, r9, ror #8\n ldr r11, [lr, #16*(" #n "+1)+8]\n"
#define EMBBERT_DOT_SINGLE_LAST(steps, end) "sxtb16 r9, r9\n smlad r1, r7, r10, r1\n smlad r0, r7, r9, r0\n" \
    "ldr r7, [lr, #16*(" #steps "-1)+12]\n smlad r5, r11, r10, r5\n smlad r4, r11, r9, r4\n" \
    "ldr r11, [lr, #16*(" #steps "-1)+4]\n smlad r6, r7, r9, r6\n add r12, r12, #4*" #steps "\n" \
    "smlad r8, r7, r10, r8\n ldr r7, " end "\n add lr, lr, #16*" #steps "\n smlad r2, r11, r9, r2\n" \
    "smlad r3, r11, r10, r3\n cmp r12, r7\n"

#define EMBBERT_DOT_RAW_SINGLE_START "ldr r11, [lr, #16*(0)+0]\n ldr r9, [r12, #4*(0)+4]\n ldr r7, [lr, #16*(0)+4]\n"
#define EMBBERT_DOT_RAW_SINGLE_STEP(n) "sxtb16 r10, r9\n smlad r1, r11, r9, r1\n smlad r0, r11, r10, r0\n" \
    "ldr r11, [lr, #16*(" #n ")+8]\n smlad r3, r7, r9, r3\n smlad r2, r7, r10, r2\n" \
    "ldr r7, [lr, #16*(" #n ")+12]\n smlad r4, r11, r10, r4\n smlad r5, r11, r9, r5\n" \
    "ldr r11, [lr, #16*(" #n "+1)+0]\n smlad r8, r7, r9, r8\n ldr r9, [r12, #4*(" #n "+1)+4]\n" \
    "smlad r6, r7, r10, r6\n ldr r7, [lr, #16*(" #n "+1)+4]\n"
#define EMBBERT_DOT_RAW_SINGLE_LAST(steps, end) "sxtb16 r10, r9\n smlad r1, r11, r9, r1\n" \
    "smlad r0, r11, r10, r0\n ldr r11, [lr, #16*(" #steps "-1)+8]\n smlad r3, r7, r9, r3\n" \
    "smlad r2, r7, r10, r2\n ldr r7, [lr, #16*(" #steps "-1)+12]\n smlad r4, r11, r10, r4\n" \
    "add r12, r12, #4*" #steps "\n smlad r5, r11, r9, r5\n ldr r11, " end "\n add lr, lr, #16*" #steps "\n" \
    "smlad r8, r7, r9, r8\n smlad r6, r7, r10, r6\n cmp r12, r11\n"

#define EMBBERT_DOT_RAW_TWO_START "ldr r4, [r12, #8*(0)+4]\n ldr r7, [lr, #32*(0)+0]\n ldr r9, [lr, #32*(0)+4]\n" \
    "sxtb16 r6, r4\n"
#define EMBBERT_DOT_RAW_TWO_STEP(n) "ldr r5, [r12, #8*(" #n ")+8]\n smlad r1, r7, r4, r1\n" \
    "ldr r8, [lr, #32*(" #n ")+16]\n smlad r0, r7, r6, r0\n ldr r10, [lr, #32*(" #n ")+20]\n" \
    "smlad r3, r9, r4, r3\n sxtb16 r11, r5\n smlad r2, r9, r6, r2\n ldr r4, [r12, #8*(" #n "+1)+4]\n" \
    "smlad r1, r8, r5, r1\n ldr r7, [lr, #32*(" #n "+1)+0]\n smlad r0, r8, r11, r0\n" \
    "ldr r9, [lr, #32*(" #n "+1)+4]\n smlad r3, r10, r5, r3\n sxtb16 r6, r4\n smlad r2, r10, r11, r2\n"
#define EMBBERT_DOT_RAW_TWO_LAST(steps, end) "ldr r5, [r12, #8*(" #steps "-1)+8]\n smlad r1, r7, r4, r1\n" \
    "ldr r8, [lr, #32*(" #steps "-1)+16]\n smlad r0, r7, r6, r0\n ldr r7, " end "\n" \
    "ldr r10, [lr, #32*(" #steps "-1)+20]\n smlad r3, r9, r4, r3\n add r12, r12, #8*" #steps "\n sxtb16 r11, r5\n" \
    "add lr, lr, #32*" #steps "\n smlad r2, r9, r6, r2\n smlad r1, r8, r5, r1\n smlad r0, r8, r11, r0\n" \
    "smlad r3, r10, r5, r3\n smlad r2, r10, r11, r2\n cmp r12, r7\n"

#define EMBBERT_CONTEXT_SINGLE_START "ldr r7, [r12, %[stride]*(0)]\n sxtb16 r9, r7, ror #8\n sxtb16 r11, r7\n"
#define EMBBERT_CONTEXT_SINGLE_STEP(n) "pkhbt r10, r11, r9, lsl #16\n ldr r7, [lr, #16*(" #n ")+0]\n" \
    "pkhtb r9, r9, r11, asr #16\n ldr r11, [lr, #16*(" #n ")+4]\n smlad r1, r7, r9, r1\n smlad r0, r7, r10, r0\n" \
    "ldr r7, [lr, #16*(" #n ")+8]\n smlad r3, r11, r9, r3\n smlad r2, r11, r10, r2\n smlad r5, r7, r9, r5\n" \
    "ldr r11, [lr, #16*(" #n ")+12]\n smlad r4, r7, r10, r4\n ldr r7, [r12, %[stride]*(" #n "+1)]\n" \
    "smlad r8, r11, r9, r8\n sxtb16 r9, r7, ror #8\n smlad r6, r11, r10, r6\n sxtb16 r11, r7\n"
#define EMBBERT_CONTEXT_SINGLE_LAST(steps, end) "pkhbt r10, r11, r9, lsl #16\n" \
    "ldr r7, [lr, #16*(" #steps "-1)+0]\n pkhtb r9, r9, r11, asr #16\n ldr r11, [lr, #16*(" #steps "-1)+4]\n" \
    "smlad r1, r7, r9, r1\n smlad r0, r7, r10, r0\n ldr r7, [lr, #16*(" #steps "-1)+8]\n smlad r3, r11, r9, r3\n" \
    "smlad r2, r11, r10, r2\n smlad r5, r7, r9, r5\n ldr r11, [lr, #16*(" #steps "-1)+12]\n" \
    "smlad r4, r7, r10, r4\n ldr r7, " end "\n add r12, r12, %[stride]*" #steps "\n smlad r8, r11, r9, r8\n" \
    "add lr, lr, #16*" #steps "\n smlad r6, r11, r10, r6\n cmp r12, r7\n"

#define EMBBERT_DOT_GROUPED_START "ldr r11, [lr, #16*(0)+0]\n ldr r9, [r12, #4*(0)+4]\n ldr r7, [lr, #16*(0)+4]\n" \
    "sxtb16 r10, r9, ror #8\n sxtb16 r9, r9\n"
#define EMBBERT_DOT_GROUPED_STEP(n) "smlad r3, r7, r10, r3\n smlad r0, r11, r9, r0\n smlad r2, r7, r9, r2\n" \
    "smlad r1, r11, r10, r1\n ldr r11, [lr, #16*(" #n ")+8]\n ldr r7, [lr, #16*(" #n ")+12]\n" \
    "smlad r5, r11, r10, r5\n smlad r4, r11, r9, r4\n smlad r8, r7, r10, r8\n smlad r6, r7, r9, r6\n" \
    "ldr r11, [lr, #16*(" #n "+1)+0]\n ldr r9, [r12, #4*(" #n "+1)+4]\n ldr r7, [lr, #16*(" #n "+1)+4]\n" \
    "sxtb16 r10, r9, ror #8\n sxtb16 r9, r9\n"
#define EMBBERT_DOT_GROUPED_LAST(steps, end) "smlad r3, r7, r10, r3\n smlad r0, r11, r9, r0\n" \
    "smlad r2, r7, r9, r2\n smlad r1, r11, r10, r1\n ldr r11, [lr, #16*(" #steps "-1)+8]\n" \
    "ldr r7, [lr, #16*(" #steps "-1)+12]\n smlad r5, r11, r10, r5\n add r12, r12, #4*" #steps "\n" \
    "smlad r4, r11, r9, r4\n ldr r11, " end "\n add lr, lr, #16*" #steps "\n smlad r8, r7, r10, r8\n" \
    "smlad r6, r7, r9, r6\n cmp r12, r11\n"

#define EMBBERT_DOT_RAW_GROUPED_START ""
#define EMBBERT_DOT_RAW_GROUPED_STEP(n) "ldr r9, [r12, #4*(" #n ")+4]\n ldr r7, [lr, #16*(" #n ")+4]\n" \
    "ldr r11, [lr, #16*(" #n ")+0]\n sxtb16 r10, r9\n smlad r3, r7, r9, r3\n smlad r2, r7, r10, r2\n" \
    "smlad r0, r11, r10, r0\n smlad r1, r11, r9, r1\n ldr r11, [lr, #16*(" #n ")+8]\n" \
    "ldr r7, [lr, #16*(" #n ")+12]\n smlad r5, r11, r9, r5\n smlad r8, r7, r9, r8\n smlad r6, r7, r10, r6\n" \
    "smlad r4, r11, r10, r4\n"
#define EMBBERT_DOT_RAW_GROUPED_LAST(steps, end) "ldr r9, [r12, #4*(" #steps "-1)+4]\n" \
    "ldr r7, [lr, #16*(" #steps "-1)+4]\n ldr r11, [lr, #16*(" #steps "-1)+0]\n sxtb16 r10, r9\n" \
    "smlad r3, r7, r9, r3\n smlad r2, r7, r10, r2\n smlad r0, r11, r10, r0\n smlad r1, r11, r9, r1\n" \
    "ldr r11, [lr, #16*(" #steps "-1)+8]\n ldr r7, [lr, #16*(" #steps "-1)+12]\n smlad r5, r11, r9, r5\n" \
    "add r12, r12, #4*" #steps "\n smlad r8, r7, r9, r8\n ldr r9, " end "\n add lr, lr, #16*" #steps "\n" \
    "smlad r6, r7, r10, r6\n smlad r4, r11, r10, r4\n cmp r12, r9\n"

#define EMBBERT_DOT_RAW_2X4_START ""
#define EMBBERT_DOT_RAW_2X4_STEP(n) "ldr r7, [lr, #16*(" #n ")+0]\n ldr r9, [lr, #16*(" #n ")+4]\n" \
    "ldr r10, [r12, #4*(" #n ")+4]\n ldr r11, [r12, #4*(" #n ")+4+%c[next]]\n smlad r1, r7, r10, r1\n" \
    "smlad r5, r9, r10, r5\n sxtb16 r10, r10\n smlad r0, r7, r10, r0\n smlad r4, r9, r10, r4\n" \
    "smlad r3, r7, r11, r3\n smlad r8, r9, r11, r8\n sxtb16 r11, r11\n smlad r2, r7, r11, r2\n" \
    "smlad r6, r9, r11, r6\n"
#define EMBBERT_DOT_RAW_2X4_LAST(steps, end) "ldr r7, [lr, #16*(" #steps "-1)+0]\n" \
    "ldr r9, [lr, #16*(" #steps "-1)+4]\n ldr r10, [r12, #4*(" #steps "-1)+4]\n" \
    "ldr r11, [r12, #4*(" #steps "-1)+4+%c[next]]\n smlad r1, r7, r10, r1\n add r12, r12, #4*" #steps "\n" \
    "smlad r5, r9, r10, r5\n add lr, lr, #16*" #steps "\n sxtb16 r10, r10\n smlad r0, r7, r10, r0\n" \
    "smlad r4, r9, r10, r4\n ldr r10, " end "\n smlad r3, r7, r11, r3\n smlad r8, r9, r11, r8\n sxtb16 r11, r11\n" \
    "smlad r2, r7, r11, r2\n smlad r6, r9, r11, r6\n cmp r12, r10\n"

#define EMBBERT_DOT_CODES_4_GROUPED_START ""
#define EMBBERT_DOT_CODES_4_GROUPED_STEP(n) "ldr r10, [r12, #4*(" #n ")+4]\n ldr r9, [lr, #16*(" #n ")+4]\n" \
    "ldr r7, [lr, #16*(" #n ")+0]\n bic r11, r10, #0xF000F000\n smlad r6, r9, r11, r6\n smlad r2, r7, r11, r2\n" \
    "and r11, r10, #0x00FF00FF\n smlad r3, r7, r10, r3\n smlad r1, r7, r11, r1\n smlad r5, r9, r11, r5\n" \
    "and r11, r10, #0x000F000F\n smlad r8, r9, r10, r8\n smlad r0, r7, r11, r0\n smlad r4, r9, r11, r4\n"
#define EMBBERT_DOT_CODES_4_GROUPED_LAST(steps, end) "ldr r10, [r12, #4*(" #steps "-1)+4]\n" \
    "ldr r9, [lr, #16*(" #steps "-1)+4]\n ldr r7, [lr, #16*(" #steps "-1)+0]\n bic r11, r10, #0xF000F000\n" \
    "add r12, r12, #4*" #steps "\n smlad r6, r9, r11, r6\n add lr, lr, #16*" #steps "\n smlad r2, r7, r11, r2\n" \
    "and r11, r10, #0x00FF00FF\n smlad r3, r7, r10, r3\n smlad r1, r7, r11, r1\n smlad r5, r9, r11, r5\n" \
    "and r11, r10, #0x000F000F\n smlad r8, r9, r10, r8\n ldr r10, " end "\n smlad r0, r7, r11, r0\n" \
    "smlad r4, r9, r11, r4\n cmp r12, r10\n"

#define EMBBERT_DOT_CODES_4_STACK_START "ldr r10, [r12, #4*(0)+0]\n ldr r7, [sp, #8*(0)+0]\n" \
    "bic r11, r10, #0xF000F000\n"
#define EMBBERT_DOT_CODES_4_STACK_STEP(n) "ldr r9, [sp, #8*(" #n ")+4]\n smlad r3, r7, r10, r3\n" \
    "smlad r2, r7, r11, r2\n and lr, r10, #0x00FF00FF\n smlad r8, r9, r10, r8\n smlad r6, r9, r11, r6\n" \
    "and r11, r10, #0x000F000F\n smlad r1, r7, lr, r1\n ldr r10, [r12, #4*(" #n "+1)+0]\n smlad r0, r7, r11, r0\n" \
    "ldr r7, [sp, #8*(" #n "+1)+0]\n smlad r4, r9, r11, r4\n bic r11, r10, #0xF000F000\n smlad r5, r9, lr, r5\n"
#define EMBBERT_DOT_CODES_4_STACK_LAST(steps, end) "ldr r9, [sp, #8*(" #steps "-1)+4]\n smlad r3, r7, r10, r3\n" \
    "smlad r2, r7, r11, r2\n and lr, r10, #0x00FF00FF\n smlad r8, r9, r10, r8\n smlad r6, r9, r11, r6\n" \
    "and r11, r10, #0x000F000F\n smlad r1, r7, lr, r1\n smlad r0, r7, r11, r0\n smlad r4, r9, r11, r4\n" \
    "smlad r5, r9, lr, r5\n"

#define EMBBERT_DOT_CODES_2_GROUPED_START ""
#define EMBBERT_DOT_CODES_2_GROUPED_STEP(n) "ldr r10, [r12, #4*(" #n ")+4]\n ldr r7, [lr, #32*(" #n ")+0]\n" \
    "ldr r9, [lr, #32*(" #n ")+4]\n and r11, r10, #0x00FF00FF\n smlad r3, r7, r11, r3\n smlad r8, r9, r11, r8\n" \
    "and r11, r10, #0x003F003F\n smlad r2, r7, r11, r2\n smlad r6, r9, r11, r6\n and r11, r10, #0x000F000F\n" \
    "smlad r1, r7, r11, r1\n smlad r5, r9, r11, r5\n and r11, r10, #0x00030003\n smlad r0, r7, r11, r0\n" \
    "smlad r4, r9, r11, r4\n ldr r7, [lr, #32*(" #n ")+16]\n ldr r9, [lr, #32*(" #n ")+20]\n" \
    "uxtb16 r10, r10, ror #8\n and r11, r10, #0x003F003F\n smlad r3, r7, r10, r3\n smlad r6, r9, r11, r6\n" \
    "smlad r2, r7, r11, r2\n and r11, r10, #0x000F000F\n smlad r5, r9, r11, r5\n smlad r1, r7, r11, r1\n" \
    "and r11, r10, #0x00030003\n smlad r0, r7, r11, r0\n smlad r4, r9, r11, r4\n smlad r8, r9, r10, r8\n"
#define EMBBERT_DOT_CODES_2_GROUPED_LAST(steps, end) "ldr r10, [r12, #4*(" #steps "-1)+4]\n" \
    "ldr r7, [lr, #32*(" #steps "-1)+0]\n ldr r9, [lr, #32*(" #steps "-1)+4]\n and r11, r10, #0x00FF00FF\n" \
    "smlad r3, r7, r11, r3\n smlad r8, r9, r11, r8\n and r11, r10, #0x003F003F\n smlad r2, r7, r11, r2\n" \
    "smlad r6, r9, r11, r6\n and r11, r10, #0x000F000F\n smlad r1, r7, r11, r1\n smlad r5, r9, r11, r5\n" \
    "and r11, r10, #0x00030003\n smlad r0, r7, r11, r0\n smlad r4, r9, r11, r4\n" \
    "ldr r7, [lr, #32*(" #steps "-1)+16]\n ldr r9, [lr, #32*(" #steps "-1)+20]\n uxtb16 r10, r10, ror #8\n" \
    "add r12, r12, #4*" #steps "\n and r11, r10, #0x003F003F\n add lr, lr, #32*" #steps "\n" \
    "smlad r3, r7, r10, r3\n smlad r6, r9, r11, r6\n smlad r2, r7, r11, r2\n and r11, r10, #0x000F000F\n" \
    "smlad r5, r9, r11, r5\n smlad r1, r7, r11, r1\n and r11, r10, #0x00030003\n smlad r0, r7, r11, r0\n" \
    "ldr r7, " end "\n smlad r4, r9, r11, r4\n smlad r8, r9, r10, r8\n cmp r12, r7\n"

#define EMBBERT_DOT_CODES_2_SINGLE_START "ldr r10, [r12, #4*(0)+4]\n ldr r7, [lr, #32*(0)+0]\n"
#define EMBBERT_DOT_CODES_2_SINGLE_STEP(n) "ldr r9, [lr, #32*(" #n ")+4]\n and r11, r10, #0x00FF00FF\n" \
    "smlad r3, r7, r11, r3\n smlad r8, r9, r11, r8\n and r11, r10, #0x003F003F\n smlad r6, r9, r11, r6\n" \
    "smlad r2, r7, r11, r2\n and r11, r10, #0x000F000F\n smlad r5, r9, r11, r5\n smlad r1, r7, r11, r1\n" \
    "and r11, r10, #0x00030003\n uxtb16 r10, r10, ror #8\n smlad r4, r9, r11, r4\n" \
    "ldr r9, [lr, #32*(" #n ")+20]\n smlad r0, r7, r11, r0\n ldr r7, [lr, #32*(" #n ")+16]\n" \
    "and r11, r10, #0x003F003F\n smlad r6, r9, r11, r6\n smlad r2, r7, r11, r2\n and r11, r10, #0x000F000F\n" \
    "smlad r3, r7, r10, r3\n smlad r5, r9, r11, r5\n smlad r1, r7, r11, r1\n and r11, r10, #0x00030003\n" \
    "smlad r8, r9, r10, r8\n ldr r10, [r12, #4*(" #n "+1)+4]\n smlad r0, r7, r11, r0\n" \
    "ldr r7, [lr, #32*(" #n "+1)+0]\n smlad r4, r9, r11, r4\n"
#define EMBBERT_DOT_CODES_2_SINGLE_LAST(steps, end) "ldr r9, [lr, #32*(" #steps "-1)+4]\n" \
    "and r11, r10, #0x00FF00FF\n smlad r3, r7, r11, r3\n smlad r8, r9, r11, r8\n and r11, r10, #0x003F003F\n" \
    "smlad r6, r9, r11, r6\n smlad r2, r7, r11, r2\n and r11, r10, #0x000F000F\n smlad r5, r9, r11, r5\n" \
    "smlad r1, r7, r11, r1\n and r11, r10, #0x00030003\n uxtb16 r10, r10, ror #8\n smlad r4, r9, r11, r4\n" \
    "ldr r9, [lr, #32*(" #steps "-1)+20]\n smlad r0, r7, r11, r0\n ldr r7, [lr, #32*(" #steps "-1)+16]\n" \
    "and r11, r10, #0x003F003F\n add r12, r12, #4*" #steps "\n smlad r6, r9, r11, r6\n" \
    "add lr, lr, #32*" #steps "\n smlad r2, r7, r11, r2\n and r11, r10, #0x000F000F\n smlad r3, r7, r10, r3\n" \
    "smlad r5, r9, r11, r5\n smlad r1, r7, r11, r1\n and r11, r10, #0x00030003\n smlad r8, r9, r10, r8\n" \
    "ldr r10, " end "\n smlad r0, r7, r11, r0\n smlad r4, r9, r11, r4\n cmp r12, r10\n"

#define EMBBERT_VALUES_TWO_START "ldr r8, [r12, %[stride]*2*(0)+%c[stride]]\n ldr r5, [r12, %[stride]*2*(0)]\n" \
    "ldr r4, [lr, #32*(0)+4]\n ldr r11, [lr, #32*(0)+0]\n pkhtb r9, r8, r5, asr #16\n ldr r7, [lr, #32*(0)+20]\n"
#define EMBBERT_VALUES_TWO_STEP(n) "pkhbt r8, r5, r8, lsl #16\n smlad r3, r4, r9, r3\n uxtb16 r10, r8\n" \
    "smlad r2, r4, r8, r2\n ldr r4, [lr, #32*(" #n ")+16]\n smlad r0, r11, r8, r0\n uxtb16 r6, r9\n" \
    "smlad r1, r11, r9, r1\n ldr r8, [r12, %[stride]*2*(" #n "+1)+%c[stride]]\n smlad r1, r4, r6, r1\n" \
    "ldr r5, [r12, %[stride]*2*(" #n "+1)]\n smlad r0, r4, r10, r0\n ldr r4, [lr, #32*(" #n "+1)+4]\n" \
    "smlad r3, r7, r6, r3\n ldr r11, [lr, #32*(" #n "+1)+0]\n smlad r2, r7, r10, r2\n pkhtb r9, r8, r5, asr #16\n" \
    "ldr r7, [lr, #32*(" #n "+1)+20]\n"
#define EMBBERT_VALUES_TWO_LAST(steps, end) "pkhbt r8, r5, r8, lsl #16\n ldr r5, " end "\n smlad r3, r4, r9, r3\n" \
    "uxtb16 r10, r8\n smlad r2, r4, r8, r2\n ldr r4, [lr, #32*(" #steps "-1)+16]\n smlad r0, r11, r8, r0\n" \
    "add r12, r12, %[stride]*2*" #steps "\n uxtb16 r6, r9\n add lr, lr, #32*" #steps "\n smlad r1, r11, r9, r1\n" \
    "smlad r1, r4, r6, r1\n smlad r0, r4, r10, r0\n smlad r3, r7, r6, r3\n smlad r2, r7, r10, r2\n cmp r12, r5\n"

#define EMBBERT_VALUES_GROUPED_START "ldr r9, [r12, %[stride]*2*(0)+%c[stride]]\n"
#define EMBBERT_VALUES_GROUPED_STEP(n) "ldr r7, [r12, %[stride]*2*(" #n ")]\n pkhbt r10, r7, r9, lsl #16\n" \
    "pkhtb r9, r9, r7, asr #16\n ldr r7, [lr, #32*(" #n ")+0]\n ldr r11, [lr, #32*(" #n ")+4]\n" \
    "smlad r1, r7, r9, r1\n smlad r0, r7, r10, r0\n smlad r2, r11, r10, r2\n smlad r3, r11, r9, r3\n" \
    "ldr r7, [lr, #32*(" #n ")+8]\n ldr r11, [lr, #32*(" #n ")+12]\n smlad r5, r7, r9, r5\n" \
    "smlad r4, r7, r10, r4\n smlad r6, r11, r10, r6\n uxtb16 r10, r10\n smlad r8, r11, r9, r8\n" \
    "ldr r7, [lr, #32*(" #n ")+16]\n ldr r11, [lr, #32*(" #n ")+20]\n smlad r0, r7, r10, r0\n uxtb16 r9, r9\n" \
    "smlad r1, r7, r9, r1\n smlad r3, r11, r9, r3\n smlad r2, r11, r10, r2\n ldr r11, [lr, #32*(" #n ")+28]\n" \
    "ldr r7, [lr, #32*(" #n ")+24]\n smlad r4, r7, r10, r4\n smlad r8, r11, r9, r8\n smlad r5, r7, r9, r5\n" \
    "smlad r6, r11, r10, r6\n ldr r9, [r12, %[stride]*2*(" #n "+1)+%c[stride]]\n"
#define EMBBERT_VALUES_GROUPED_LAST(steps, end) "ldr r7, [r12, %[stride]*2*(" #steps "-1)]\n" \
    "pkhbt r10, r7, r9, lsl #16\n pkhtb r9, r9, r7, asr #16\n ldr r7, [lr, #32*(" #steps "-1)+0]\n" \
    "ldr r11, [lr, #32*(" #steps "-1)+4]\n smlad r1, r7, r9, r1\n smlad r0, r7, r10, r0\n" \
    "smlad r2, r11, r10, r2\n smlad r3, r11, r9, r3\n ldr r7, [lr, #32*(" #steps "-1)+8]\n" \
    "ldr r11, [lr, #32*(" #steps "-1)+12]\n smlad r5, r7, r9, r5\n smlad r4, r7, r10, r4\n" \
    "smlad r6, r11, r10, r6\n uxtb16 r10, r10\n smlad r8, r11, r9, r8\n ldr r7, [lr, #32*(" #steps "-1)+16]\n" \
    "ldr r11, [lr, #32*(" #steps "-1)+20]\n smlad r0, r7, r10, r0\n uxtb16 r9, r9\n smlad r1, r7, r9, r1\n" \
    "smlad r3, r11, r9, r3\n smlad r2, r11, r10, r2\n ldr r11, [lr, #32*(" #steps "-1)+28]\n" \
    "ldr r7, [lr, #32*(" #steps "-1)+24]\n smlad r4, r7, r10, r4\n add r12, r12, %[stride]*2*" #steps "\n" \
    "smlad r8, r11, r9, r8\n add lr, lr, #32*" #steps "\n smlad r5, r7, r9, r5\n ldr r7, " end "\n" \
    "smlad r6, r11, r10, r6\n cmp r12, r7\n"

#define EMBBERT_SOFTMAX_SINGLE_START "ldr r10, [lr, #64*(0)+4]\n sub r5, r1, r10\n ldr r9, [lr, #64*(0)+36]\n"
#define EMBBERT_SOFTMAX_SINGLE_STEP(n) "sub r10, r1, r9\n smmulr r8, r5, r2\n smmulr r10, r10, r2\n" \
    "usat r6, #8, r8\n usat r11, #8, r10\n ldr r8, [lr, #64*(" #n ")+0]\n sub r9, r1, r8\n ldrsb r5, [r0, r6]\n" \
    "ldrsb r6, [r0, r11]\n smmulr r10, r9, r2\n ldr r9, [lr, #64*(" #n ")+32]\n usat r8, #8, r10\n" \
    "sub r11, r1, r9\n smmulr r11, r11, r2\n usat r9, #8, r11\n ldr r10, [lr, #64*(" #n "+1)+4]\n" \
    "pkhbt r5, r5, r6, lsl #16\n ldrsb r11, [r0, r8]\n str r5, [r12, #32*(" #n ")+0]\n ldrsb r9, [r0, r9]\n" \
    "pkhbt r11, r11, r9, lsl #16\n add r3, r3, r5\n lsl r9, r11, #8\n add r4, r4, r11\n ssub16 r9, r9, r5\n" \
    "sub r5, r1, r10\n str r9, [r12, #32*(" #n ")+16]\n ldr r9, [lr, #64*(" #n "+1)+36]\n"
#define EMBBERT_SOFTMAX_SINGLE_LAST(steps, end) "sub r10, r1, r9\n smmulr r8, r5, r2\n smmulr r10, r10, r2\n" \
    "usat r6, #8, r8\n usat r11, #8, r10\n ldr r8, [lr, #64*(" #steps "-1)+0]\n sub r9, r1, r8\n" \
    "ldrsb r5, [r0, r6]\n ldrsb r6, [r0, r11]\n smmulr r10, r9, r2\n ldr r9, [lr, #64*(" #steps "-1)+32]\n" \
    "usat r8, #8, r10\n ldr r10, " end "\n sub r11, r1, r9\n smmulr r11, r11, r2\n usat r9, #8, r11\n" \
    "pkhbt r5, r5, r6, lsl #16\n ldrsb r11, [r0, r8]\n str r5, [r12, #32*(" #steps "-1)+0]\n ldrsb r9, [r0, r9]\n" \
    "pkhbt r11, r11, r9, lsl #16\n add r3, r3, r5\n lsl r9, r11, #8\n add r4, r4, r11\n ssub16 r9, r9, r5\n" \
    "str r9, [r12, #32*(" #steps "-1)+16]\n add r12, r12, #32*" #steps "\n add lr, lr, #64*" #steps "\n" \
    "cmp r12, r10\n"

#define EMBBERT_SOFTMAX_GROUPED_START "ldr r5, [lr, #64*(0)+4]\n"
#define EMBBERT_SOFTMAX_GROUPED_STEP(n) "ldr r8, [lr, #64*(" #n ")+0]\n ldr r9, [lr, #64*(" #n ")+36]\n" \
    "sub r8, r1, r8\n sub r6, r1, r9\n sub r5, r1, r5\n smmulr r11, r5, r2\n smmulr r10, r8, r2\n" \
    "usat r8, #8, r10\n smmulr r6, r6, r2\n usat r9, #8, r6\n usat r5, #8, r11\n ldrsb r6, [r0, r9]\n" \
    "ldr r9, [lr, #64*(" #n ")+32]\n ldrsb r11, [r0, r5]\n ldrsb r8, [r0, r8]\n sub r9, r1, r9\n" \
    "smmulr r10, r9, r2\n usat r9, #8, r10\n pkhbt r5, r11, r6, lsl #16\n ldrsb r9, [r0, r9]\n" \
    "pkhbt r8, r8, r9, lsl #16\n add r3, r3, r5\n str r5, [r12, #32*(" #n ")+0]\n lsl r11, r8, #8\n" \
    "add r4, r4, r8\n ssub16 r8, r11, r5\n str r8, [r12, #32*(" #n ")+16]\n ldr r5, [lr, #64*(" #n "+1)+4]\n"
#define EMBBERT_SOFTMAX_GROUPED_LAST(steps, end) "ldr r8, [lr, #64*(" #steps "-1)+0]\n" \
    "ldr r9, [lr, #64*(" #steps "-1)+36]\n sub r8, r1, r8\n sub r6, r1, r9\n sub r5, r1, r5\n" \
    "smmulr r11, r5, r2\n smmulr r10, r8, r2\n usat r8, #8, r10\n smmulr r6, r6, r2\n usat r9, #8, r6\n" \
    "usat r5, #8, r11\n ldrsb r6, [r0, r9]\n ldr r9, [lr, #64*(" #steps "-1)+32]\n ldrsb r11, [r0, r5]\n" \
    "ldrsb r8, [r0, r8]\n sub r9, r1, r9\n smmulr r10, r9, r2\n usat r9, #8, r10\n ldr r10, " end "\n" \
    "pkhbt r5, r11, r6, lsl #16\n ldrsb r9, [r0, r9]\n pkhbt r8, r8, r9, lsl #16\n add r3, r3, r5\n" \
    "str r5, [r12, #32*(" #steps "-1)+0]\n lsl r11, r8, #8\n add r4, r4, r8\n ssub16 r8, r11, r5\n" \
    "str r8, [r12, #32*(" #steps "-1)+16]\n add r12, r12, #32*" #steps "\n add lr, lr, #64*" #steps "\n" \
    "cmp r12, r10\n"

#define EMBBERT_DOT_KEYS_TWO_START "ldr r4, [r12, #8*(0)+4]\n ldr r7, [lr, #32*(0)+0]\n ldr r9, [lr, #32*(0)+4]\n" \
    "uxtb16 r6, r4\n"
#define EMBBERT_DOT_KEYS_TWO_STEP(n) "ldr r5, [r12, #8*(" #n ")+8]\n smlad r1, r7, r4, r1\n" \
    "ldr r8, [lr, #32*(" #n ")+16]\n smlad r0, r7, r6, r0\n ldr r10, [lr, #32*(" #n ")+20]\n" \
    "smlad r3, r9, r4, r3\n uxtb16 r11, r5\n smlad r2, r9, r6, r2\n ldr r4, [r12, #8*(" #n "+1)+4]\n" \
    "smlad r1, r8, r5, r1\n ldr r7, [lr, #32*(" #n "+1)+0]\n smlad r0, r8, r11, r0\n" \
    "ldr r9, [lr, #32*(" #n "+1)+4]\n smlad r3, r10, r5, r3\n uxtb16 r6, r4\n smlad r2, r10, r11, r2\n"
#define EMBBERT_DOT_KEYS_TWO_LAST(steps, end) "ldr r5, [r12, #8*(" #steps "-1)+8]\n smlad r1, r7, r4, r1\n" \
    "ldr r8, [lr, #32*(" #steps "-1)+16]\n smlad r0, r7, r6, r0\n ldr r7, " end "\n" \
    "ldr r10, [lr, #32*(" #steps "-1)+20]\n smlad r3, r9, r4, r3\n add r12, r12, #8*" #steps "\n uxtb16 r11, r5\n" \
    "add lr, lr, #32*" #steps "\n smlad r2, r9, r6, r2\n smlad r1, r8, r5, r1\n smlad r0, r8, r11, r0\n" \
    "smlad r3, r10, r5, r3\n smlad r2, r10, r11, r2\n cmp r12, r7\n"

#define EMBBERT_DOT_KEYS_GROUPED_START ""
#define EMBBERT_DOT_KEYS_GROUPED_STEP(n) "ldr r9, [r12, #4*(" #n ")+4]\n ldr r7, [lr, #16*(" #n ")+4]\n" \
    "ldr r11, [lr, #16*(" #n ")+0]\n uxtb16 r10, r9\n smlad r3, r7, r9, r3\n smlad r2, r7, r10, r2\n" \
    "smlad r0, r11, r10, r0\n smlad r1, r11, r9, r1\n ldr r11, [lr, #16*(" #n ")+8]\n" \
    "ldr r7, [lr, #16*(" #n ")+12]\n smlad r5, r11, r9, r5\n smlad r8, r7, r9, r8\n smlad r6, r7, r10, r6\n" \
    "smlad r4, r11, r10, r4\n"
#define EMBBERT_DOT_KEYS_GROUPED_LAST(steps, end) "ldr r9, [r12, #4*(" #steps "-1)+4]\n" \
    "ldr r7, [lr, #16*(" #steps "-1)+4]\n ldr r11, [lr, #16*(" #steps "-1)+0]\n uxtb16 r10, r9\n" \
    "smlad r3, r7, r9, r3\n smlad r2, r7, r10, r2\n smlad r0, r11, r10, r0\n smlad r1, r11, r9, r1\n" \
    "ldr r11, [lr, #16*(" #steps "-1)+8]\n ldr r7, [lr, #16*(" #steps "-1)+12]\n smlad r5, r11, r9, r5\n" \
    "add r12, r12, #4*" #steps "\n smlad r8, r7, r9, r8\n ldr r9, " end "\n add lr, lr, #16*" #steps "\n" \
    "smlad r6, r7, r10, r6\n smlad r4, r11, r10, r4\n cmp r12, r9\n"

#define EMBBERT_DOT_KEYS_2X4_START ""
#define EMBBERT_DOT_KEYS_2X4_STEP(n) "ldr r7, [lr, #16*(" #n ")+0]\n ldr r9, [lr, #16*(" #n ")+4]\n" \
    "ldr r10, [r12, #4*(" #n ")+4]\n ldr r11, [r12, #4*(" #n ")+4+%c[next]]\n smlad r1, r7, r10, r1\n" \
    "smlad r5, r9, r10, r5\n uxtb16 r10, r10\n smlad r0, r7, r10, r0\n smlad r4, r9, r10, r4\n" \
    "smlad r3, r7, r11, r3\n smlad r8, r9, r11, r8\n uxtb16 r11, r11\n smlad r2, r7, r11, r2\n" \
    "smlad r6, r9, r11, r6\n"
#define EMBBERT_DOT_KEYS_2X4_LAST(steps, end) "ldr r7, [lr, #16*(" #steps "-1)+0]\n" \
    "ldr r9, [lr, #16*(" #steps "-1)+4]\n ldr r10, [r12, #4*(" #steps "-1)+4]\n" \
    "ldr r11, [r12, #4*(" #steps "-1)+4+%c[next]]\n smlad r1, r7, r10, r1\n add r12, r12, #4*" #steps "\n" \
    "smlad r5, r9, r10, r5\n add lr, lr, #16*" #steps "\n uxtb16 r10, r10\n smlad r0, r7, r10, r0\n" \
    "smlad r4, r9, r10, r4\n ldr r10, " end "\n smlad r3, r7, r11, r3\n smlad r8, r9, r11, r8\n uxtb16 r11, r11\n" \
    "smlad r2, r7, r11, r2\n smlad r6, r9, r11, r6\n cmp r12, r10\n"

/* clang-format on */
#endif
