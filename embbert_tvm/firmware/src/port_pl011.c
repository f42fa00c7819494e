/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes over Arm's PL011, by polling. Arm DDI 0183, PrimeCell UART (PL011) Technical Reference Manual; RP2350 Datasheet,
   chapter UART. */

#include "board.h"
#include "port.h"
#include "registers.h"
#include "uart.h"

#define UARTDR (BOARD_UART_BASE + 0x000u)
#define UARTFR (BOARD_UART_BASE + 0x018u) /* bit 3: busy, bit 4: receiver empty, bit 5: transmitter full */
#define UARTIBRD (BOARD_UART_BASE + 0x024u)
#define UARTFBRD (BOARD_UART_BASE + 0x028u)
#define UARTLCR_H (BOARD_UART_BASE + 0x02Cu) /* bit 4: FIFOs on, bits 5 and 6: eight bits a word */
#define UARTCR (BOARD_UART_BASE + 0x030u)    /* bit 0: UART on, bit 8: transmitter on, bit 9: receiver on */

enum { BUSY = 1u << 3, NOTHING_RECEIVED = 1u << 4, FULL = 1u << 5 };

void port_init(void)
{
    uart_prepare();
    /* Clock / (16 baud) in 64ths: clock * 4 / baud, rounded. */
    const uint32_t divisor = (uart_clock_hz() * 8u / UART_BAUD + 1u) / 2u;
    register_write(UARTCR, 0);
    register_write(UARTIBRD, divisor >> 6);
    register_write(UARTFBRD, divisor & 63u);
    register_write(UARTLCR_H, 3u << 5 | 1u << 4); /* after the divisors, which it takes over */
    register_write(UARTCR, 1u << 9 | 1u << 8 | 1u << 0);
}

int port_ready(void) { return !(register_read(UARTFR) & NOTHING_RECEIVED); }

uint8_t port_read(void)
{
    while (!port_ready()) {
    }
    return (uint8_t)register_read(UARTDR);
}

void port_write(uint8_t byte)
{
    while (register_read(UARTFR) & FULL) {
    }
    register_write(UARTDR, byte);
}

void port_flush(void)
{
    while (register_read(UARTFR) & BUSY) {
    }
}
