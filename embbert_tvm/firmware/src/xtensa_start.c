/* SPDX-License-Identifier: Apache-2.0 */
/* Start-up for an Xtensa core with the call0 ABI: exception vectors, memory. link.ld gives the symbols. Cadence,
   Xtensa Instruction Set Architecture Reference Manual. */

#include <stdint.h>

#include "start.h"

extern uint32_t link_vectors[], link_stack_bottom[], link_stack_top[];
extern uint32_t link_data_load[], link_data_start[], link_data_end[];
extern uint32_t link_bss_start[], link_bss_end[];
extern void (*const link_init_start[])(void), (*const link_init_end[])(void);

int main(void);

/* What unused stack holds, so that its deepest use shows; the lowest words must never change. */
enum { PAINT = 0x5AFE57AC, GUARD_WORDS = 16 };

/* Vectors by their distance from VECBASE: debug 0x10, NMI 0x20, kernel 0x30, user 0x50, double 0x70. */
__asm__(".section .vectors, \"ax\"\n"
        ".align 256\n"
        ".global link_vectors\n"
        "link_vectors:\n"
        " j Reset_Handler\n" /* where the image is what the core starts with */
        ".org link_vectors + 0x10\n j trap\n"
        ".org link_vectors + 0x20\n j trap\n"
        ".org link_vectors + 0x30\n j trap\n"
        ".org link_vectors + 0x50\n j trap\n"
        ".org link_vectors + 0x70\n j trap\n"
        ".org link_vectors + 0x80\n"
        ".align 4\n"
        ".literal_position\n"
        ".align 4\n"
        "trap:\n" /* the stack may be what failed, so it starts again from the top */
        " movi a1, link_stack_top\n"
        " movi a0, report_trap\n"
        " callx0 a0\n"
        ".align 4\n"
        ".global Reset_Handler\n"
        "Reset_Handler:\n"
        " movi a1, link_stack_top\n"
        " movi a0, start\n"
        " callx0 a0\n"
        ".previous\n");

__attribute__((used)) static void start(void)
{
    __asm__ volatile("wsr %0, vecbase\n\tisync" ::"r"(link_vectors));
    __asm__ volatile("movi a2, 0x20\n\twsr a2, ps\n\trsync" ::: "a2"); /* user vector mode, no exception going on */
    const int prepared = board_prepare();
    uint32_t *stack_pointer;
    __asm__ volatile("mov %0, a1" : "=r"(stack_pointer));
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

__attribute__((used)) static void report_trap(void)
{
    uint32_t cause, address;
    __asm__ volatile("rsr %0, exccause\n\trsr %1, epc1" : "=r"(cause), "=r"(address));
    server_fault(cause, address);
}
