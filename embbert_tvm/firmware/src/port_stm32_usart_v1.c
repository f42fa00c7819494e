/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes over the USART of ST's STM32F1, F2 and F4, by polling. RM0090 and RM0390, chapter USART. */

#include "board.h"
#include "port.h"
#include "registers.h"
#include "uart.h"

#define SR (BOARD_UART_BASE + 0x00u) /* bit 5: receiver full, bit 6: all sent, bit 7: transmitter empty */
#define DR (BOARD_UART_BASE + 0x04u)
#define BRR (BOARD_UART_BASE + 0x08u)
#define CR1 (BOARD_UART_BASE + 0x0Cu) /* bit 2: receiver on, bit 3: transmitter on, bit 13: USART on */

void port_init(void)
{
    uart_prepare();
    register_write(BRR, uart_divisor());
    register_write(CR1, 1u << 13 | 1u << 3 | 1u << 2);
}

int port_ready(void) { return (register_read(SR) & 1u << 5) != 0; }

uint8_t port_read(void)
{
    while (!port_ready()) {
    }
    return (uint8_t)register_read(DR);
}

void port_write(uint8_t byte)
{
    while (!(register_read(SR) & 1u << 7)) {
    }
    register_write(DR, byte);
}

void port_flush(void)
{
    while (!(register_read(SR) & 1u << 6)) {
    }
}
