/* What cortex_m_start.c gives to a firmware, and what it takes from it. */
#ifndef EMBBERT_START_H
#define EMBBERT_START_H

#include <stdint.h>

/* Bytes of stack in use at the deepest since the start, 0 where not known, PORT_STACK_OVER if it ran over. */
#define PORT_STACK_OVER 0xFFFFFFFFu
uint32_t port_stack_used(void);

/* Of the firmware: what a fault comes to. `status` says why (CFSR on Cortex-M), `address` is the instruction. */
void server_fault(uint32_t status, uint32_t address);

#endif
