/* Bytes over the UART of Nordic's nRF51, by polling. The board's YAML gives PORT_UART_BASE and the pins. */

#include "port.h"

#define REGISTER(offset) (*(volatile uint32_t *)(uintptr_t)(PORT_UART_BASE + (offset)))
#define START_RX REGISTER(0x000u)
#define START_TX REGISTER(0x008u)
#define RX_READY REGISTER(0x108u)
#define TX_READY REGISTER(0x11Cu)
#define ENABLE REGISTER(0x500u)
#define PIN_TX REGISTER(0x50Cu)
#define PIN_RX REGISTER(0x514u)
#define RXD REGISTER(0x518u)
#define TXD REGISTER(0x51Cu)
#define BAUD_RATE REGISTER(0x524u)

void port_init(void)
{
    PIN_TX = PORT_UART_TX_PIN;
    PIN_RX = PORT_UART_RX_PIN;
    BAUD_RATE = 0x01D7E000u; /* 115200 */
    ENABLE = 4u;
    START_RX = 1u;
    START_TX = 1u;
}

int port_ready(void) { return RX_READY != 0; }

uint8_t port_read(void)
{
    while (!port_ready()) {
    }
    RX_READY = 0;
    return (uint8_t)RXD;
}

void port_write(uint8_t byte)
{
    TX_READY = 0;
    TXD = byte;
    while (!TX_READY) {
    }
}
