/* SPDX-License-Identifier: Apache-2.0 */
/* Start-up for a 32-bit RISC-V core in machine mode: memory, a guard below the stack, traps. link.ld gives the
   symbols. The RISC-V Instruction Set Manual, volume II. */

#include <stdint.h>

#include "start.h"

extern uint32_t link_guard[], link_stack_bottom[], link_stack_top[];
extern uint32_t link_data_load[], link_data_start[], link_data_end[];
extern uint32_t link_bss_start[], link_bss_end[];
extern void (*const link_init_start[])(void), (*const link_init_end[])(void);

int main(void);
void Reset_Handler(void);
void Trap_Handler(void);

/* What unused stack holds, so that its deepest use shows; the lowest words must never change. */
enum { PAINT = 0x5AFE57AC, GUARD_WORDS = 16 };

#define CSR_READ(name)                                                                                                 \
    __extension__({                                                                                                    \
        uint32_t csr_value;                                                                                            \
        __asm__ volatile("csrr %0, " #name : "=r"(csr_value)::"memory");                                               \
        csr_value;                                                                                                     \
    })
#define CSR_WRITE(name, value) __asm__ volatile("csrw " #name ", %0" ::"r"(value) : "memory")

/* The first instruction of the image. */
__attribute__((naked, section(".vectors"), used)) void Reset_Handler(void)
{
    __asm__ volatile(".option push\n\t"
                     ".option norelax\n\t"
                     "la gp, __global_pointer$\n\t"
                     ".option pop\n\t"
                     "la sp, link_stack_top\n\t"
                     "j start");
}

/* The 4096 bytes below the stack may not be touched, not even in machine mode: a naturally aligned, locked region of
   physical memory protection without any right. */
static void guard_stack(void)
{
    CSR_WRITE(pmpaddr0, ((uint32_t)(uintptr_t)link_guard >> 2) | (4096u / 8u - 1u));
    CSR_WRITE(pmpcfg0, 0x98u);
}

__attribute__((used)) static void start(void)
{
    CSR_WRITE(mtvec, (uint32_t)(uintptr_t)Trap_Handler);
    const int prepared = board_prepare();
    guard_stack();
    uint32_t *stack_pointer;
    __asm__ volatile("mv %0, sp" : "=r"(stack_pointer));
    for (uint32_t *word = link_stack_bottom; word < stack_pointer;)
        *word++ = PAINT;
    const uint32_t *from = link_data_load;
    for (uint32_t *to = link_data_start; to < link_data_end;)
        *to++ = *from++;
    for (uint32_t *to = link_bss_start; to < link_bss_end;)
        *to++ = 0;
    board_prepared(prepared);
    for (void (*const *constructor)(void) = link_init_start; constructor < link_init_end;)
        (*constructor++)();
    main();
    for (;;) {
    }
}

uint32_t port_stack_used(void)
{
    const uint32_t *word = link_stack_bottom;
    while (word < link_stack_top && *word == PAINT)
        word++;
    if (word < link_stack_bottom + GUARD_WORDS)
        return PORT_STACK_OVER;
    return (uint32_t)(link_stack_top - word) * sizeof *word;
}

__attribute__((used)) static void report_trap(void) { server_fault(CSR_READ(mcause), CSR_READ(mepc)); }

/* Every trap comes here: no interrupt is enabled. The stack may be what failed, so it starts again from the top. */
__attribute__((naked, aligned(4))) void Trap_Handler(void)
{
    __asm__ volatile("la sp, link_stack_top\n\t"
                     "j report_trap");
}
