/* SPDX-License-Identifier: Apache-2.0 */
/* Start-up for any Cortex-M: vectors, caches, memory, FPU and MVE, faults. link.ld gives the symbols. */

#include <stdint.h>

#include "start.h"
#include "start_memory.h"

void SysTick_Handler(void);
void Reset_Handler(void);
void Fault_Handler(void);

/* Until cortex_m_systick.c or the firmware brings its own. */
__attribute__((weak)) void SysTick_Handler(void)
{
    for (;;) {
    }
}

#define SCB_CPACR (*(volatile uint32_t *)0xE000ED88u)
#ifdef __ARM_ARCH_6M__ /* vectors stay where they are, and nothing tells why a fault came */
#define SCB_CFSR 0u
#else
#define SCB_VTOR (*(volatile uint32_t *)0xE000ED08u)
#define SCB_CFSR (*(volatile uint32_t *)0xE000ED28u)
#define SCB_CCR (*(volatile uint32_t *)0xE000ED14u)    /* bit 16: data cache on, bit 17: instruction cache on */
#define SCB_CLIDR (*(volatile uint32_t *)0xE000ED78u)  /* bit 0: there is an instruction cache, bit 1: a data cache */
#define SCB_CCSIDR (*(volatile uint32_t *)0xE000ED80u) /* of the data cache: ways - 1 at bit 3, sets - 1 at bit 13 */
#define SCB_CSSELR (*(volatile uint32_t *)0xE000ED84u)
#define SCB_ICIALLU (*(volatile uint32_t *)0xE000EF50u)
#define SCB_DCISW (*(volatile uint32_t *)0xE000EF60u) /* way at the top, set at bit 5 */
#endif

typedef union {
    void (*handler)(void);
    uint32_t *stack;
} vector_t;

#define FAULTS_8                                                                                                       \
    {Fault_Handler}, {Fault_Handler}, {Fault_Handler}, {Fault_Handler}, {Fault_Handler}, {Fault_Handler},              \
        {Fault_Handler}, {Fault_Handler}
#define FAULTS_32 FAULTS_8, FAULTS_8, FAULTS_8, FAULTS_8
#ifdef __ARM_ARCH_6M__
#define INTERRUPTS FAULTS_32
#define VECTORS_ALIGN 256
#else
#define INTERRUPTS FAULTS_32, FAULTS_32, FAULTS_32, FAULTS_32, FAULTS_32, FAULTS_32, FAULTS_32, FAULTS_8, FAULTS_8
#define VECTORS_ALIGN 1024
#endif

/* Every interrupt has a vector, 32 or 240: one that nobody requested is reported as a fault is. */
__attribute__((section(".vectors"), aligned(VECTORS_ALIGN), used)) static const vector_t vectors[] = {
    {.stack = link_stack_top}, {Reset_Handler}, {Fault_Handler}, {Fault_Handler}, {Fault_Handler},
    {Fault_Handler},           {Fault_Handler}, {Fault_Handler}, {Fault_Handler}, {Fault_Handler},
    {Fault_Handler},           {Fault_Handler}, {Fault_Handler}, {Fault_Handler}, {Fault_Handler},
    {SysTick_Handler},         INTERRUPTS,
};

/* Switch on the caches that the processor has, of which the data cache must be emptied first. */
static void enable_caches(void)
{
#ifdef SCB_CLIDR
    const uint32_t present = SCB_CLIDR;
    if (present & 1u) {
        SCB_ICIALLU = 0;
        __asm__ volatile("dsb\n\tisb" ::: "memory");
        SCB_CCR |= 1u << 17;
    }
    if (present & 2u) {
        SCB_CSSELR = 0;
        __asm__ volatile("dsb" ::: "memory");
        const uint32_t ways = (SCB_CCSIDR >> 3 & 0x3FFu) + 1u, sets = (SCB_CCSIDR >> 13 & 0x7FFFu) + 1u;
        uint32_t shift = 32; /* of a way's number, which lies at the top of the word */
        for (uint32_t n = ways; n > 1u; n = (n + 1u) / 2u)
            shift--;
        for (uint32_t set = 0; set < sets; set++) {
            for (uint32_t way = 0; way < ways; way++)
                SCB_DCISW = (ways > 1u ? way << shift : 0u) | set << 5;
        }
        __asm__ volatile("dsb" ::: "memory");
        SCB_CCR |= 1u << 16;
    }
    if (present & 3u)
        __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
}

void Reset_Handler(void)
{
#ifdef SCB_VTOR
    SCB_VTOR = (uint32_t)(uintptr_t)vectors;
#endif
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    SCB_CPACR |= 0xFu << 20; /* full access to the FPU and to MVE */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    enable_caches();
    const int prepared = board_prepare();
    const uint32_t *stack_pointer;
    __asm__ volatile("mov %0, sp" : "=r"(stack_pointer));
    start_program(prepared, stack_pointer);
}

uint32_t port_stack_used(void) { return start_stack_used(); }

/* Tell the host why and where. `stacked` is what the processor pushed: r0-r3, r12, lr, pc, xpsr. */
__attribute__((used)) static void report_fault(const uint32_t *stacked, const uint32_t *lowest)
{
    uint32_t pc = stacked >= lowest ? stacked[6] : 0; /* below: the stack itself ran over, nothing was pushed */
    server_fault(SCB_CFSR, pc);
}

/* Every fault comes here. The stack may be what failed, so it starts again from the top. */
__attribute__((naked)) void Fault_Handler(void)
{
    __asm__ volatile("mrs r0, msp\n\t"
                     "ldr r1, =link_stack_bottom\n\t"
                     "ldr r2, =link_stack_top\n\t"
                     "mov sp, r2\n\t"
                     "ldr r3, =report_fault\n\t"
                     "bx r3\n\t"
                     ".ltorg");
}
