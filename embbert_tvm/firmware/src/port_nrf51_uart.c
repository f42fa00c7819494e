/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes over the UART of Nordic's nRF51, by polling. nRF51 Series Reference Manual v3.0, chapter UART. */

#include "board.h"
#include "port.h"
#include "registers.h"
#include "uart.h"

#define START_RX (BOARD_UART_BASE + 0x000u)
#define START_TX (BOARD_UART_BASE + 0x008u)
#define RX_READY (BOARD_UART_BASE + 0x108u)
#define TX_READY (BOARD_UART_BASE + 0x11Cu)
#define ENABLE (BOARD_UART_BASE + 0x500u)
#define PIN_TX (BOARD_UART_BASE + 0x50Cu)
#define PIN_RX (BOARD_UART_BASE + 0x514u)
#define RXD (BOARD_UART_BASE + 0x518u)
#define TXD (BOARD_UART_BASE + 0x51Cu)
#define BAUD_RATE (BOARD_UART_BASE + 0x524u)

void port_init(void)
{
    uart_prepare();
    register_write(PIN_TX, BOARD_UART_TX_PIN);
    register_write(PIN_RX, BOARD_UART_RX_PIN);
    register_write(BAUD_RATE, 0x01D7E000u); /* 115200 */
    register_write(ENABLE, 4u);
    register_write(START_RX, 1u);
    register_write(START_TX, 1u);
}

int port_ready(void) { return register_read(RX_READY) != 0; }

uint8_t port_read(void)
{
    while (!port_ready()) {
    }
    register_write(RX_READY, 0);
    return (uint8_t)register_read(RXD);
}

void port_write(uint8_t byte)
{
    register_write(TX_READY, 0);
    register_write(TXD, byte);
    while (!register_read(TX_READY)) {
    }
}

void port_flush(void) {} /* a byte is gone once TX_READY is set */
