/* SPDX-License-Identifier: Apache-2.0 */
/* Start-up for an Xtensa core with the call0 ABI: exception vectors, memory. link.ld gives the symbols. Cadence,
   Xtensa Instruction Set Architecture Reference Manual. */

#include <stdint.h>

#include "start.h"
#include "start_memory.h"

extern uint32_t link_vectors[];

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
    const uint32_t *stack_pointer;
    __asm__ volatile("mov %0, a1" : "=r"(stack_pointer));
    start_program(prepared, stack_pointer);
}

uint32_t port_stack_used(void) { return start_stack_used(); }

__attribute__((used)) static void report_trap(void)
{
    uint32_t cause, address;
    __asm__ volatile("rsr %0, exccause\n\trsr %1, epc1" : "=r"(cause), "=r"(address));
    server_fault(cause, address);
}
