/* SPDX-License-Identifier: Apache-2.0 */
/* What the start-up gives to a firmware, and what it takes from it. */
#ifndef EMBBERT_START_H
#define EMBBERT_START_H

#include <stdint.h>

/* Bytes of stack in use at the deepest since the start, 0 where not known, PORT_STACK_OVER if it ran over. */
#define PORT_STACK_OVER 0xFFFFFFFFu
uint32_t port_stack_used(void);

/* The processor's clock: the board's, or the one after reset where the board's could not be started. */
uint32_t board_clock_hz(void);

/* Start the board's watchdog, which resets it unless it is fed; neither does anything where there is none. */
void watchdog_start(void);
void watchdog_feed(void);

/* Begin anew, as after power-on. Does not return. */
void restart(void);

/* Of the firmware: what a fault or an interrupt that nobody requested comes to. `status` says why (CFSR on Cortex-M,
   mcause on RISC-V, EXCCAUSE on Xtensa), `address` is the instruction. */
void server_fault(uint32_t status, uint32_t address);

/* ---- between the files of the start-up ---- */

/* Take the board's register steps to its clock, before memory is initialized; 0 where they came to no end. */
int board_prepare(void);

/* Note, once memory is initialized, what board_prepare() said. */
void board_prepared(int done);

#endif
