/* SPDX-License-Identifier: Apache-2.0 */
/* Ticks of an Xtensa core: CCOUNT, 32 bits of the processor's clock; in QEMU with -icount a fixed number of instructions. */

#include "port.h"

static uint32_t ticks_start;

static uint32_t count(void)
{
    uint32_t value;
    __asm__ volatile("rsr %0, ccount" : "=r"(value)::"memory");
    return value;
}

void port_ticks_restart(void) { ticks_start = count(); }

uint64_t port_ticks(void) { return count() - ticks_start; }

uint8_t port_ticks_are(void) { return PORT_TICKS_PROCESSOR; }
