/* Bytes over the USART of ST's STM32F1, F2 and F4, by polling. The board's YAML gives PORT_UART_BASE, the clock that
   feeds it where that is not the processor's, and the registers that switch clocks and pins to it. */

#include "port.h"

typedef struct {
    volatile uint32_t sr; /* bit 5: receiver full, bit 7: transmitter empty */
    volatile uint32_t dr;
    volatile uint32_t brr; /* clock / baud rate */
    volatile uint32_t cr1; /* bit 2: receiver on, bit 3: transmitter on, bit 13: USART on */
} stm32_usart_t;

#define UART ((stm32_usart_t *)(uintptr_t)PORT_UART_BASE)

#ifndef PORT_UART_CLOCK_HZ
#define PORT_UART_CLOCK_HZ PORT_CLOCK_HZ
#endif

#ifdef PORT_UART_SETUP
static const struct {
    uint32_t address, clear, set;
} setup[] = {PORT_UART_SETUP};

static void prepare(void)
{
    for (uint32_t i = 0; i < sizeof setup / sizeof setup[0]; i++) {
        volatile uint32_t *word = (volatile uint32_t *)(uintptr_t)setup[i].address;
        *word = (*word & ~setup[i].clear) | setup[i].set;
        (void)*word; /* a clock is on once it reads so */
    }
}
#else
static void prepare(void) {}
#endif

void port_init(void)
{
    prepare();
    UART->brr = (PORT_UART_CLOCK_HZ + 57600u) / 115200u;
    UART->cr1 = 1u << 13 | 1u << 3 | 1u << 2;
}

int port_ready(void) { return (UART->sr & 1u << 5) != 0; }

uint8_t port_read(void)
{
    while (!port_ready()) {
    }
    return (uint8_t)UART->dr;
}

void port_write(uint8_t byte)
{
    while (!(UART->sr & 1u << 7)) {
    }
    UART->dr = byte;
}
