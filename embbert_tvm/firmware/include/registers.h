/* SPDX-License-Identifier: Apache-2.0 */
/* Registers, and the steps that a board's file asks for. */
#ifndef EMBBERT_REGISTERS_H
#define EMBBERT_REGISTERS_H

#include <stddef.h>
#include <stdint.h>

#ifdef REGISTERS_TRACED /* a test keeps account of what is read and written */
uint32_t register_read(uint32_t address);
void register_write(uint32_t address, uint32_t value);
#else
static inline uint32_t register_read(uint32_t address) { return *(volatile uint32_t *)(uintptr_t)address; }

static inline void register_write(uint32_t address, uint32_t value)
{
    *(volatile uint32_t *)(uintptr_t)address = value;
}
#endif

/* Write the register's value without the bits of `clear` and with those of `set`; or, where `wait` is not 0, write
   nothing and wait until the bits of `wait` read as those of `set`. */
typedef struct {
    uint32_t address, clear, set, wait;
} register_step_t;

/* Take n steps in turn; 0 where a wait did not end, and what follows it was left out. */
int registers_apply(const register_step_t *steps, size_t n);

#endif
