/* Any bytes to the protocol server with its model: what it sends is frames, each with a right CRC. */
#include "wire.h"

#define main server_main
#include "main.c"
#undef main

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    make_wire(data, size);
    if (setjmp(dry) == 0)
        server_main();
    check_sent();
    return 0;
}
