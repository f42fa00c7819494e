/* SPDX-License-Identifier: Apache-2.0 */
/* What drivers of UARTs ask of the board's file. */
#ifndef EMBBERT_UART_H
#define EMBBERT_UART_H

#include <stdint.h>

enum { UART_BAUD = 115200 };

/* Give the UART its clocks and pins. */
void uart_prepare(void);

/* What feeds its baud rate. */
uint32_t uart_clock_hz(void);

/* That clock over the baud rate, rounded. */
uint32_t uart_divisor(void);

#endif
