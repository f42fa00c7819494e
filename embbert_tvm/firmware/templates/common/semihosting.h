/* Text and an exit status to the debugger, or to QEMU, by Arm's semihosting. Without either, a call ends in a fault. */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include <stdint.h>

enum { SEMIHOSTING_WRITE0 = 0x04, SEMIHOSTING_EXIT = 0x18 };

static inline void semihosting_call(uint32_t operation, uintptr_t argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register uintptr_t r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
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
