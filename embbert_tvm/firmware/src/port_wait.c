/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for the host on a board, by the port's ticks of the processor's clock. */

#include "port.h"

int port_wait(uint32_t milliseconds)
{
    uint64_t limit = (uint64_t)milliseconds * (board_clock_hz() / 1000u);
    port_ticks_restart();
    while (!port_ready()) {
        if (port_ticks() >= limit)
            return 0;
    }
    return 1;
}
