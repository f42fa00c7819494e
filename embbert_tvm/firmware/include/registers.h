/* SPDX-License-Identifier: Apache-2.0 */
/* Registers, and the steps that a board's file asks for. */
#ifndef EMBBERT_REGISTERS_H
#define EMBBERT_REGISTERS_H

#include <stddef.h>
#include <stdint.h>

/* A register of 1, 2 or 4 bytes. */
#ifdef REGISTERS_TRACED /* a test keeps account of what is read and written */
uint32_t register_read_sized(uint32_t address, uint32_t bytes);
void register_write_sized(uint32_t address, uint32_t value, uint32_t bytes);
#else
static inline uint32_t register_read_sized(uint32_t address, uint32_t bytes)
{
    if (bytes == 1u)
        return *(volatile uint8_t *)(uintptr_t)address;
    if (bytes == 2u)
        return *(volatile uint16_t *)(uintptr_t)address;
    return *(volatile uint32_t *)(uintptr_t)address;
}

static inline void register_write_sized(uint32_t address, uint32_t value, uint32_t bytes)
{
    if (bytes == 1u)
        *(volatile uint8_t *)(uintptr_t)address = (uint8_t)value;
    else if (bytes == 2u)
        *(volatile uint16_t *)(uintptr_t)address = (uint16_t)value;
    else
        *(volatile uint32_t *)(uintptr_t)address = value;
}
#endif

static inline uint32_t register_read(uint32_t address) { return register_read_sized(address, 4u); }

static inline void register_write(uint32_t address, uint32_t value) { register_write_sized(address, value, 4u); }

/* Write the register's value without the bits of `clear` and with those of `set`; or, where `wait` is not 0, write
   nothing and wait until the bits of `wait` read as those of `set`. The register is of `bytes` bytes and is read `reads`
   times afterwards, so that what it switched can settle. */
typedef struct {
    uint32_t address, clear, set, wait, bytes, reads;
} register_step_t;

/* Take n steps in turn; 0 where a wait did not end, and what follows it was left out. */
int registers_apply(const register_step_t *steps, size_t n);

#endif
