/* SPDX-License-Identifier: Apache-2.0 */
/* Ticks of the processor clock on any Cortex-M: SysTick is 24 bits wide, an interrupt counts the wraps. It takes SysTick
   and its interrupt for itself: a firmware with a tick of its own leaves this file out. */

#include "port.h"

typedef struct {
    volatile uint32_t ctrl; /* bit 0: on, bit 1: interrupt at the wrap, bit 2: processor clock */
    volatile uint32_t reload;
    volatile uint32_t current; /* counts down; a write clears it */
    volatile uint32_t calib;
} systick_t;

#define SYSTICK ((systick_t *)0xE000E010u)
#define SCB_ICSR (*(volatile uint32_t *)0xE000ED04u)

enum { SYSTICK_PENDING = 1u << 26, SYSTICK_CLEAR_PENDING = 1u << 25 };

#ifndef PORT_SYSTICK_RELOAD
#define PORT_SYSTICK_RELOAD 0xFFFFFFu /* all of the 24 bits; less where a test is to see many wraps */
#endif

static const uint32_t reload = PORT_SYSTICK_RELOAD;
static volatile uint32_t wraps;

void SysTick_Handler(void);
void SysTick_Handler(void) { wraps++; }

void port_ticks_restart(void)
{
    SYSTICK->ctrl = 0;
    SCB_ICSR = SYSTICK_CLEAR_PENDING;
    wraps = 0;
    SYSTICK->reload = reload;
    SYSTICK->current = 0;
    SYSTICK->ctrl = 7u;
}

uint64_t port_ticks(void)
{
    uint32_t masked; /* whether interrupts were off before, as they are to stay then */
    __asm__ volatile("mrs %0, primask\n\tcpsid i" : "=r"(masked)::"memory");
    uint32_t left = SYSTICK->current;
    uint64_t over = wraps;
    if (SCB_ICSR & SYSTICK_PENDING) { /* it wrapped meanwhile, before or after `left` was read: read again */
        left = SYSTICK->current;
        over++;
    }
    __asm__ volatile("msr primask, %0" ::"r"(masked) : "memory");
    /* The first tick after the restart loads `reload`. The interrupt comes one tick before that, at 0. */
    if (left == 0)
        return over ? over * (reload + 1u) - 1u : 0;
    return over * (reload + 1u) + (reload - left);
}

uint8_t port_ticks_are(void) { return PORT_TICKS_PROCESSOR; }
