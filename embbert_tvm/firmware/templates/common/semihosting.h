/* SPDX-License-Identifier: Apache-2.0 */
/* Text and an exit status to the debugger, or to QEMU, by semihosting (on Xtensa by its simulator's calls). Without
   either, a call ends in a fault. */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include <stdint.h>
#include <string.h>

#if defined(__XTENSA__)

static inline void semihosting_simcall(int call, int a, int b, int c)
{
    register int a2 __asm__("a2") = call;
    register int a3 __asm__("a3") = a;
    register int a4 __asm__("a4") = b;
    register int a5 __asm__("a5") = c;
    __asm__ volatile("simcall" : "+r"(a2), "+r"(a3) : "r"(a4), "r"(a5) : "memory");
}

static inline void semihosting_write(const char *text)
{
    semihosting_simcall(4, 2, (int)(uintptr_t)text, (int)strlen(text)); /* to stderr */
}

static inline void semihosting_exit(int good)
{
    semihosting_simcall(1, good ? 0 : 1, 0, 0);
    for (;;) {
    }
}

#else

enum { SEMIHOSTING_WRITE0 = 0x04, SEMIHOSTING_EXIT = 0x18 };

static inline void semihosting_call(uint32_t operation, uintptr_t argument)
{
#if defined(__riscv)
    register uint32_t a0 __asm__("a0") = operation;
    register uintptr_t a1 __asm__("a1") = argument;
    /* The three must be four bytes each and lie in one page. */
    __asm__ volatile(".option push\n\t.option norvc\n\t.balign 16\n\t"
                     "slli x0, x0, 0x1f\n\tebreak\n\tsrai x0, x0, 7\n\t.option pop"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
#else
    register uint32_t r0 __asm__("r0") = operation;
    register uintptr_t r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
#endif
}

static inline void semihosting_write(const char *text) { semihosting_call(SEMIHOSTING_WRITE0, (uintptr_t)text); }

/* End the program; QEMU's own status is 0 where `good`, else 1. */
static inline void semihosting_exit(int good)
{
    semihosting_call(SEMIHOSTING_EXIT, good ? 0x20026u : 0x20024u);
    for (;;) {
    }
}

#endif

#endif
