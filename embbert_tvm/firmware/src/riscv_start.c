/* SPDX-License-Identifier: Apache-2.0 */
/* Start-up for a 32-bit RISC-V core in machine mode: memory, a guard below the stack, traps. link.ld gives the
   symbols. The RISC-V Instruction Set Manual, volume II. */

#include <stdint.h>

#include "start.h"
#include "start_memory.h"

extern uint32_t link_guard[];

void Reset_Handler(void);
void Trap_Handler(void);

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
    const uint32_t *stack_pointer;
    __asm__ volatile("mv %0, sp" : "=r"(stack_pointer));
    start_program(prepared, stack_pointer);
}

uint32_t port_stack_used(void) { return start_stack_used(); }

__attribute__((used)) static void report_trap(void) { server_fault(CSR_READ(mcause), CSR_READ(mepc)); }

/* Every trap comes here: no interrupt is enabled. The stack may be what failed, so it starts again from the top. */
__attribute__((naked, aligned(4))) void Trap_Handler(void)
{
    __asm__ volatile("la sp, link_stack_top\n\t"
                     "j report_trap");
}
