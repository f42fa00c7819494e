/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes over the SCI of Renesas' RA8 ("SCI_B") in its asynchronous mode without FIFO, by polling. RA8M1 Group User's
   Manual: Hardware, chapter Serial Communications Interface. An error must be cleared, or the receiver takes nothing
   more. */

#include "board.h"
#include "port.h"
#include "registers.h"
#include "uart.h"

#define RDR (BOARD_UART_BASE + 0x00u) /* reading it empties the receiver */
#define TDR (BOARD_UART_BASE + 0x04u)
#define CCR0 (BOARD_UART_BASE + 0x08u) /* bit 0: receiver on, bit 4: transmitter on */
#define CCR1 (BOARD_UART_BASE + 0x0Cu) /* bits 4, 5: TXD idles high while the transmitter is off */
#define CCR2 (BOARD_UART_BASE + 0x10u) /* bits 4, 5: 8 clocks a bit in the place of 32, bits 8 to 15: divisor - 1 */
#define CCR3 (BOARD_UART_BASE + 0x14u) /* bits 8, 9: 2 for eight bits a character, bit 12: the lowest bit first */
#define CSR (BOARD_UART_BASE + 0x48u)  /* bit 24: overrun, 27: parity, 28: framing, 30: all sent, 31: receiver full */
#define CFCLR (BOARD_UART_BASE + 0x68u)

enum { CLOCKS_A_BIT = 8 };
#define ALL_SENT (1u << 30)
#define RECEIVED (1u << 31)
#define ERRORS (1u << 24 | 1u << 27 | 1u << 28)

void port_init(void)
{
    uart_prepare();
    const uint32_t divisor = (uart_clock_hz() / (CLOCKS_A_BIT / 2u) / UART_BAUD + 1u) / 2u;
    register_write(CCR0, 0);
    register_write(CCR3, 2u << 8 | 1u << 12);
    register_write(CCR2, (divisor - 1u) << 8 | 1u << 5 | 1u << 4);
    register_write(CCR1, 3u << 4);
    register_write(CFCLR, ERRORS | RECEIVED);
    register_write(CCR0, 1u << 4 | 1u << 0);
}

int port_ready(void)
{
    const uint32_t state = register_read(CSR);
    if (state & ERRORS)
        register_write(CFCLR, ERRORS);
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
    while (!(register_read(CSR) & ALL_SENT)) {
    }
    register_write_sized(TDR, byte, 1u);
}

void port_flush(void)
{
    while (!(register_read(CSR) & ALL_SENT)) {
    }
}
