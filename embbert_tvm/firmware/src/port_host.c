/* The port of a program on a desk: stdin and stdout, no count. */

#include <stdio.h>
#include <stdlib.h>

#include "port.h"

void port_init(void) {}

uint8_t port_read(void)
{
    fflush(stdout); /* what was answered goes out before waiting */
    int byte = getchar();
    if (byte == EOF)
        exit(0);
    return (uint8_t)byte;
}

void port_write(uint8_t byte) { putchar(byte); }

uint64_t port_ticks(void) { return 0; }

void port_ticks_restart(void) {}

uint8_t port_ticks_are(void) { return PORT_TICKS_NONE; }

uint32_t port_stack_used(void) { return 0; }
