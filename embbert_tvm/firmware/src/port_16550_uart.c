/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes over a 16550 UART whose registers are bytes side by side, by polling. National Semiconductor PC16550D data
   sheet; QEMU's riscv `virt` machine. Its registers are bytes, which alone it answers to. */

#include "board.h"
#include "port.h"
#include "uart.h"

#define REGISTER(offset) (*(volatile uint8_t *)(uintptr_t)(BOARD_UART_BASE + (offset)))
#define DATA REGISTER(0)
#define FIFO_CONTROL REGISTER(2) /* bit 0: FIFOs on */
#define LINE_CONTROL REGISTER(3) /* bits 0 and 1: eight bits a word */
#define LINE_STATUS REGISTER(5)  /* bit 0: received, bit 5: room to send, bit 6: all sent */

void port_init(void)
{
    uart_prepare();
    LINE_CONTROL = 3u;
    FIFO_CONTROL = 1u;
}

int port_ready(void) { return (LINE_STATUS & 1u) != 0; }

uint8_t port_read(void)
{
    while (!port_ready()) {
    }
    return DATA;
}

void port_write(uint8_t byte)
{
    while (!(LINE_STATUS & 1u << 5)) {
    }
    DATA = byte;
}

void port_flush(void)
{
    while (!(LINE_STATUS & 1u << 6)) {
    }
}
