/* Any bytes over the wire: the requests that are found in them are those of a parser that is only right. */
#include "wire.h"

#define PAYLOAD_MAX 264u
uint8_t frame_buffer[FRAME_BYTES(PAYLOAD_MAX)];
const size_t payload_max = PAYLOAD_MAX;

/* Fed while the server waits: where nothing comes any more, the input is at its end. */
void watchdog_feed(void)
{
    if (!port_ready())
        longjmp(dry, 1);
}

void server_fault(uint32_t status, uint32_t address)
{
    (void)status;
    (void)address;
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    make_wire(data, size);
    static size_t at;
    at = 0;
    if (setjmp(dry) == 0) {
        for (;;) {
            request_t request = next_request();
            size_t n = 0;
            while (at < wire_bytes && !((n = frame_at(wire + at, wire_bytes - at, PAYLOAD_MAX)) && wire[at + 2] == 2
                                        && wire[at + 3] != 0))
                at += n ? n : 1; /* another version's frame is whole, and skipped as one */
            REQUIRE(at < wire_bytes);
            REQUIRE(request.type == wire[at + 3] && request.length == n - 12);
            REQUIRE(request.sequence == (wire[at + 4] | wire[at + 5] << 8));
            REQUIRE(memcmp(request.payload, wire + at + 8, request.length) == 0);
            at += n;
        }
    }
    while (at < wire_bytes) { /* no request is left over */
        size_t n = frame_at(wire + at, wire_bytes - at, PAYLOAD_MAX);
        REQUIRE(!n || wire[at + 2] != 2 || wire[at + 3] == 0);
        at += n ? n : 1;
    }
    check_sent();
    return 0;
}
