/* SPDX-License-Identifier: Apache-2.0 */
/* From a stack that stands to main(): what every architecture's start-up does with memory. link.ld gives the symbols. */
#ifndef EMBBERT_START_MEMORY_H
#define EMBBERT_START_MEMORY_H

#include <stdint.h>

#include "start.h"

extern uint32_t link_stack_bottom[], link_stack_top[];
extern uint32_t link_data_load[], link_data_start[], link_data_end[];
extern uint32_t link_bss_start[], link_bss_end[];
extern void (*const link_init_start[])(void), (*const link_init_end[])(void);

int main(void);

/* What unused stack holds, so that its deepest use shows; the lowest words must never change. */
enum { START_PAINT = 0x5AFE57AC, START_GUARD_WORDS = 16 };

/* Paint the stack below `stack_pointer`, initialize memory, run constructors, then main(). Inlined: a frame of its own
   would lie in what it paints. prepared: what board_prepare() said. */
__attribute__((always_inline)) static inline void start_program(int prepared, const uint32_t *stack_pointer)
{
    for (uint32_t *word = link_stack_bottom; word < stack_pointer;)
        *word++ = START_PAINT;
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

/* The deepest use of the stack, by the paint that is left: port_stack_used() of start.h. */
static inline uint32_t start_stack_used(void)
{
    const uint32_t *word = link_stack_bottom;
    while (word < link_stack_top && *word == START_PAINT)
        word++;
    if (word < link_stack_bottom + START_GUARD_WORDS)
        return PORT_STACK_OVER;
    return (uint32_t)(link_stack_top - word) * sizeof *word;
}

#endif
