/* Any bytes to the protocol server with its model: what it sends is frames, each with a right CRC. */
#include "wire.h"

#define main server_main
#include "main.c"
#undef main

/* A board without a clock to ask for, a watchdog or a reset. */
void port_flush(void) {}
void restart(void) {}
void watchdog_start(void) {}
/* Fed while the server waits: where nothing comes any more, the input is at its end. */
void watchdog_feed(void)
{
    if (!port_ready())
        longjmp(dry, 1);
}
uint32_t board_clock_hz(void) { return 0; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    make_wire(data, size);
    if (setjmp(dry) == 0)
        server_main();
    check_sent();
    return 0;
}
