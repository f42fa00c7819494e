/* Bytes over the CMSDK APB UART of Arm's MPS2 boards, by polling. The board's YAML gives PORT_UART_BASE. */

#include "port.h"

typedef struct {
    volatile uint32_t data;
    volatile uint32_t state; /* bit 0: transmitter full, bit 1: receiver full */
    volatile uint32_t ctrl;  /* bit 0: transmitter on, bit 1: receiver on */
    volatile uint32_t intstatus;
    volatile uint32_t bauddiv; /* clock / baud rate, 16 at least */
} cmsdk_uart_t;

#define UART ((cmsdk_uart_t *)(uintptr_t)PORT_UART_BASE)

void port_init(void)
{
    UART->bauddiv = PORT_CLOCK_HZ / 115200u < 16u ? 16u : PORT_CLOCK_HZ / 115200u;
    UART->ctrl = 3u;
    /* QEMU looks for input that came before the receiver was on when the data register is read, else a second later.
       It may lose a byte by that: device/qemu.py sends one that is no frame's. */
    (void)UART->data;
}

int port_ready(void) { return (UART->state & 2u) != 0; }

uint8_t port_read(void)
{
    while (!port_ready()) {
    }
    return (uint8_t)UART->data;
}

void port_write(uint8_t byte)
{
    while (UART->state & 1u) {
    }
    UART->data = byte;
}
