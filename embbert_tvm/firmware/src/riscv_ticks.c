/* SPDX-License-Identifier: Apache-2.0 */
/* Ticks of a RISC-V core in machine mode: its cycles; in QEMU with -icount, its instructions. */

#include "port.h"

#define CSR(name)                                                                                                      \
    static uint32_t csr_##name(void)                                                                                   \
    {                                                                                                                  \
        uint32_t value;                                                                                                \
        __asm__ volatile("csrr %0, " #name : "=r"(value)::"memory");                                                   \
        return value;                                                                                                  \
    }
CSR(mcycle)
CSR(mcycleh)

static uint64_t ticks_start;

static uint64_t cycles(void)
{
    uint32_t high, low, again;
    do {
        high = csr_mcycleh();
        low = csr_mcycle();
        again = csr_mcycleh();
    } while (high != again);
    return (uint64_t)high << 32 | low;
}

void port_ticks_restart(void)
{
    __asm__ volatile("csrwi mcountinhibit, 0"); /* some cores start with their counters stopped */
    ticks_start = cycles();
}

uint64_t port_ticks(void) { return cycles() - ticks_start; }

uint8_t port_ticks_are(void) { return PORT_TICKS_PROCESSOR; }
