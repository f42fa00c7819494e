/* SPDX-License-Identifier: Apache-2.0 */
/* The port of a program on a desk: stdin and stdout, no count. */

#define _POSIX_C_SOURCE 200112L

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "port.h"

static uint8_t bytes[4096];
static size_t taken, filled;

void port_init(void) {}

static int wait(int milliseconds)
{
    struct pollfd input = {STDIN_FILENO, POLLIN, 0};
    return taken < filled || poll(&input, 1, milliseconds) > 0;
}

int port_ready(void) { return wait(0); }

int port_wait(uint32_t milliseconds)
{
    fflush(stdout);
    return wait((int)milliseconds);
}

uint8_t port_read(void)
{
    if (taken == filled) {
        fflush(stdout); /* what was answered goes out before waiting */
        ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
        if (n <= 0)
            exit(0);
        taken = 0;
        filled = (size_t)n;
    }
    return bytes[taken++];
}

void port_write(uint8_t byte) { putchar(byte); }

void port_flush(void) { fflush(stdout); }

uint32_t board_clock_hz(void) { return 0; }

void watchdog_start(void) {}

void watchdog_feed(void) {}

void restart(void)
{
    port_flush();
    exit(1);
}

uint64_t port_ticks(void) { return 0; }

void port_ticks_restart(void) {}

uint8_t port_ticks_are(void) { return PORT_TICKS_NONE; }

uint32_t port_stack_used(void) { return 0; }
