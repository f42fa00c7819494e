/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes over the CMSDK APB UART of Arm's MPS2 boards, by polling. Arm DDI 0479, CMSDK Technical Reference Manual. */

#include "board.h"
#include "port.h"
#include "registers.h"
#include "uart.h"

#define DATA (BOARD_UART_BASE + 0x00u)
#define STATE (BOARD_UART_BASE + 0x04u) /* bit 0: transmitter full, bit 1: receiver full */
#define CTRL (BOARD_UART_BASE + 0x08u)  /* bit 0: transmitter on, bit 1: receiver on */
#define BAUDDIV (BOARD_UART_BASE + 0x10u)

enum { LEAST_DIVISOR = 16 };

void port_init(void)
{
    uart_prepare();
    register_write(BAUDDIV, uart_divisor() < LEAST_DIVISOR ? (uint32_t)LEAST_DIVISOR : uart_divisor());
    register_write(CTRL, 3u);
    /* QEMU looks for input that came before the receiver was on when the data register is read, else a second later.
       It may lose a byte by that: device/qemu.py sends one that is no frame's. */
    (void)register_read(DATA);
}

int port_ready(void) { return (register_read(STATE) & 2u) != 0; }

uint8_t port_read(void)
{
    while (!port_ready()) {
    }
    return (uint8_t)register_read(DATA);
}

void port_write(uint8_t byte)
{
    port_flush();
    register_write(DATA, byte);
}

void port_flush(void)
{
    while (register_read(STATE) & 1u) {
    }
}
