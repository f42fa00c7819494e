/* Start-up for any Cortex-M: vectors, memory, FPU and MVE, faults.
   The linker script of embbert_tvm/device/linker.py gives the symbols. */

#include <stdint.h>

#include "start.h"

extern uint32_t link_stack_bottom[], link_stack_top[];
extern uint32_t link_data_load[], link_data_start[], link_data_end[];
extern uint32_t link_bss_start[], link_bss_end[];

int main(void);
void SysTick_Handler(void);
void Reset_Handler(void);
void Fault_Handler(void);

/* Until cortex_m_systick.c or the firmware brings its own. */
__attribute__((weak)) void SysTick_Handler(void)
{
    for (;;) {
    }
}

/* What unused stack holds, so that its deepest use shows; the lowest words must never change. */
enum { PAINT = 0x5AFE57AC, GUARD_WORDS = 16 };

#define SCB_CPACR (*(volatile uint32_t *)0xE000ED88u)
#ifdef __ARM_ARCH_6M__ /* vectors stay where they are, and nothing tells why a fault came */
#define SCB_CFSR 0u
#else
#define SCB_VTOR (*(volatile uint32_t *)0xE000ED08u)
#define SCB_CFSR (*(volatile uint32_t *)0xE000ED28u)
#endif

typedef union {
    void (*handler)(void);
    uint32_t *stack;
} vector_t;

__attribute__((section(".vectors"), used)) static const vector_t vectors[16] = {
    {.stack = link_stack_top}, {Reset_Handler}, {Fault_Handler}, {Fault_Handler}, {Fault_Handler},
    {Fault_Handler},            {Fault_Handler}, {Fault_Handler}, {0},             {0},
    {0},                        {Fault_Handler}, {Fault_Handler}, {0},             {Fault_Handler},
    {SysTick_Handler},
};

void Reset_Handler(void)
{
#ifdef SCB_VTOR
    SCB_VTOR = (uint32_t)(uintptr_t)vectors;
#endif
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    SCB_CPACR |= 0xFu << 20; /* full access to the FPU and to MVE */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    uint32_t *stack_pointer;
    __asm__ volatile("mov %0, sp" : "=r"(stack_pointer));
    for (uint32_t *word = link_stack_bottom; word < stack_pointer;)
        *word++ = PAINT;
    const uint32_t *from = link_data_load;
    for (uint32_t *to = link_data_start; to < link_data_end;)
        *to++ = *from++;
    for (uint32_t *to = link_bss_start; to < link_bss_end;)
        *to++ = 0;
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
