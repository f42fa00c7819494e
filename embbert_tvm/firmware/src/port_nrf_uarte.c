/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes over the UARTE of Nordic's nRF52, nRF53 and nRF91, which works by DMA alone: a transfer of one byte each way, by
   polling. nRF52840 Product Specification v1.7 and nRF5340 Product Specification v1.3, chapter UARTE. */

#include "board.h"
#include "port.h"
#include "registers.h"
#include "uart.h"

#define STARTRX (BOARD_UART_BASE + 0x000u)
#define STARTTX (BOARD_UART_BASE + 0x008u)
#define ENDRX (BOARD_UART_BASE + 0x110u)
#define ENDTX (BOARD_UART_BASE + 0x120u)
#define ENABLE (BOARD_UART_BASE + 0x500u)
#define PSEL_RTS (BOARD_UART_BASE + 0x508u)
#define PSEL_TXD (BOARD_UART_BASE + 0x50Cu)
#define PSEL_CTS (BOARD_UART_BASE + 0x510u)
#define PSEL_RXD (BOARD_UART_BASE + 0x514u)
#define BAUDRATE (BOARD_UART_BASE + 0x524u)
#define RXD_PTR (BOARD_UART_BASE + 0x534u)
#define RXD_MAXCNT (BOARD_UART_BASE + 0x538u)
#define TXD_PTR (BOARD_UART_BASE + 0x544u)
#define TXD_MAXCNT (BOARD_UART_BASE + 0x548u)
#define CONFIG (BOARD_UART_BASE + 0x56Cu)

enum { NOT_CONNECTED = -1, ON = 8 };

static volatile uint8_t received, sent; /* in RAM, which is all that the DMA reaches */

static void receive(void)
{
    register_write(ENDRX, 0);
    register_write(STARTRX, 1u);
}

void port_init(void)
{
    uart_prepare();
    register_write(ENABLE, 0);
    register_write(PSEL_TXD, BOARD_UART_TX_PIN);
    register_write(PSEL_RXD, BOARD_UART_RX_PIN);
    register_write(PSEL_RTS, (uint32_t)NOT_CONNECTED);
    register_write(PSEL_CTS, (uint32_t)NOT_CONNECTED);
    register_write(BAUDRATE, 0x01D60000u); /* 115200 */
    register_write(CONFIG, 0);             /* no parity, no flow control, one stop bit */
    register_write(ENABLE, ON);
    register_write(RXD_PTR, (uint32_t)(uintptr_t)&received);
    register_write(RXD_MAXCNT, 1u);
    register_write(TXD_PTR, (uint32_t)(uintptr_t)&sent);
    register_write(TXD_MAXCNT, 1u);
    receive();
}

int port_ready(void) { return register_read(ENDRX) != 0; }

uint8_t port_read(void)
{
    while (!port_ready()) {
    }
    const uint8_t byte = received;
    receive();
    return byte;
}

void port_write(uint8_t byte)
{
    sent = byte;
    register_write(ENDTX, 0);
    register_write(STARTTX, 1u);
    while (!register_read(ENDTX)) {
    }
}

void port_flush(void) {} /* a byte is gone once ENDTX is set */
