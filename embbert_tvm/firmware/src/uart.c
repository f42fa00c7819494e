/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks and pins of the board's UART. */

#include "uart.h"
#include "board.h"
#include "registers.h"
#include "start.h"

void uart_prepare(void)
{
#ifdef BOARD_UART_SETUP
    static const register_step_t steps[] = {BOARD_UART_SETUP};
    (void)registers_apply(steps, sizeof steps / sizeof steps[0]);
#endif
}

uint32_t uart_clock_hz(void)
{
#ifdef BOARD_UART_CLOCK_HZ
    return BOARD_UART_CLOCK_HZ;
#else
    const uint32_t clock = board_clock_hz();
    return clock == BOARD_CLOCK_HZ ? clock / BOARD_UART_CLOCK_DIVIDER : clock;
#endif
}

uint32_t uart_divisor(void) { return (uart_clock_hz() + UART_BAUD / 2u) / UART_BAUD; }
