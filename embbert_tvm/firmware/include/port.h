/* SPDX-License-Identifier: Apache-2.0 */
/* What a place gives to the protocol server of main.c: bytes in, bytes out, time. One port_*.c implements it. */
#ifndef EMBBERT_PORT_H
#define EMBBERT_PORT_H

#include <stdint.h>

#include "start.h" /* server_fault() in main.c tells the host, then begins anew */

/* Make the port ready. Called once, before anything else. */
void port_init(void);

/* Whether port_read() has a byte at hand. */
int port_ready(void);

/* The next byte from the host; waits for it. A port whose host can go away ends the program then. */
uint8_t port_read(void);

/* Wait until a byte is at hand, `milliseconds` at most; 0 if none came. Where nothing counts time it waits on. It may
   restart the count of ticks. */
int port_wait(uint32_t milliseconds);

/* Send one byte to the host; may wait for room. */
void port_write(uint8_t byte);

/* Wait until the host has been sent all. */
void port_flush(void);

/* Ticks since port_ticks_restart(), at any length of time; always 0 where nothing counts. */
uint64_t port_ticks(void);

/* Count from 0 again, in step with this instant, so that the same work gives the same ticks. */
void port_ticks_restart(void);

/* What a tick is: */
enum {
    PORT_TICKS_NONE = 0,     /* nothing counts */
    PORT_TICKS_PROCESSOR = 1 /* the processor clock; in QEMU a fixed number of instructions */
};
uint8_t port_ticks_are(void);

#endif
