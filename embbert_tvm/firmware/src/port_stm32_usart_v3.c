/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes over the USART of ST's STM32F0, F3, F7, G, H, L and U, by polling. RM0385, RM0433, RM0455 and RM0456, chapter
   USART. An overrun must be cleared, or the receiver takes nothing more. */

#include "board.h"
#include "port.h"
#include "registers.h"
#include "uart.h"

#define CR1 (BOARD_UART_BASE + 0x00u) /* bit 0: USART on, bit 2: receiver on, bit 3: transmitter on */
#define BRR (BOARD_UART_BASE + 0x0Cu)
#define ISR (BOARD_UART_BASE + 0x1Cu) /* bit 3: overrun, 5: receiver full, 6: all sent, 7: transmitter empty */
#define ICR (BOARD_UART_BASE + 0x20u)
#define RDR (BOARD_UART_BASE + 0x24u)
#define TDR (BOARD_UART_BASE + 0x28u)

enum { OVERRUN = 1u << 3, RECEIVED = 1u << 5, ALL_SENT = 1u << 6, EMPTY = 1u << 7 };

void port_init(void)
{
    uart_prepare();
    register_write(CR1, 0);
    register_write(BRR, uart_divisor());
    register_write(CR1, 1u << 0 | 1u << 2 | 1u << 3);
}

int port_ready(void)
{
    const uint32_t state = register_read(ISR);
    if (state & OVERRUN)
        register_write(ICR, OVERRUN);
    return (state & RECEIVED) != 0;
}

uint8_t port_read(void)
{
    while (!port_ready()) {
    }
    return (uint8_t)register_read(RDR);
}

void port_write(uint8_t byte)
{
    while (!(register_read(ISR) & EMPTY)) {
    }
    register_write(TDR, byte);
}

void port_flush(void)
{
    while (!(register_read(ISR) & ALL_SENT)) {
    }
}
