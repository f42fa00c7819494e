/* SPDX-License-Identifier: Apache-2.0 */
/* Frames over the port. Bytes that are no frame are skipped: after a frame that turns out wrong, the search for the
   next goes on one byte after that frame's first, so none is lost inside it. A frame whose bytes stop coming is given
   up after GAP_MS, so that what follows is not taken for its end. */

#include <string.h>

#include "frames.h"
#include "port.h"

enum {
    SYNC_0 = 0xEB,
    SYNC_1 = 0xB7,
    VERSION = 2,
    IDLE_MS = 1000, /* between two looks at the watchdog while nothing is asked */
    GAP_MS = 50 /* far over the pauses that USB adapters and schedulers of desks make inside of a frame */
};

/* The receive buffer: the first `received` bytes of a frame, or of what may become one. */
static uint8_t *const frame = frame_buffer;
static size_t received;

/* ---- CRC-32: reflected polynomial 0xEDB88320, four bits a step ---- */

uint32_t crc32_update(uint32_t crc, uint8_t byte)
{
    static const uint32_t table[16] = {
        0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
        0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
    crc ^= byte;
    crc = table[crc & 15u] ^ (crc >> 4);
    return table[crc & 15u] ^ (crc >> 4);
}

static uint32_t crc32(const uint8_t *bytes, size_t n)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < n; i++)
        crc = crc32_update(crc, bytes[i]);
    return ~crc;
}

/* ---- little-endian ---- */

uint16_t get_u16(const uint8_t *bytes) { return (uint16_t)(bytes[0] | bytes[1] << 8); }

uint32_t get_u32(const uint8_t *bytes) { return get_u16(bytes) | (uint32_t)get_u16(bytes + 2) << 16; }

/* ---- replies: a frame is sent as it is made, only its CRC is kept ---- */

static uint32_t reply_crc;

void put_u8(uint8_t value)
{
    reply_crc = crc32_update(reply_crc, value);
    port_write(value);
}

void put_u16(uint16_t value)
{
    put_u8((uint8_t)value);
    put_u8((uint8_t)(value >> 8));
}

void put_u32(uint32_t value)
{
    put_u16((uint16_t)value);
    put_u16((uint16_t)(value >> 16));
}

void put_u64(uint64_t value)
{
    put_u32((uint32_t)value);
    put_u32((uint32_t)(value >> 32));
}

static void begin(uint8_t type, const request_t *request, uint16_t length)
{
    port_write(SYNC_0);
    port_write(SYNC_1);
    reply_crc = 0xFFFFFFFFu;
    put_u8(VERSION);
    put_u8(type);
    put_u16(request->sequence);
    put_u16((uint16_t)(4u + length));
    put_u32(request->crc);
}

void reply_begin(const request_t *request, uint16_t length) { begin(request->type | REPLY, request, length); }

void reply_end(void)
{
    uint32_t crc = ~reply_crc;
    put_u32(crc);
}

void reply_error(const request_t *request, uint8_t code)
{
    begin(ERROR, request, 1);
    put_u8(code);
    reply_end();
}

void reply_fault(const request_t *request, uint32_t status, uint32_t address)
{
    begin(ERROR, request, 9);
    put_u8(ERROR_FAULT);
    put_u32(status);
    put_u32(address);
    reply_end();
}

/* ---- requests ---- */

/* Forget the first `n` bytes in the buffer. */
static void drop(size_t n)
{
    received -= n;
    memmove(frame, frame + n, received);
}

/* What is in the buffer is no frame: forget its first byte, and what follows up to the next that may begin one. */
static void resync(void)
{
    size_t start = 1;
    while (start < received && frame[start] != SYNC_0)
        start++;
    drop(start);
}

/* Take bytes until the buffer holds `n`; 0 if they stop looking like a frame on the way, or stop coming. */
static int receive(size_t n)
{
    for (;;) {
        if (received > 0 && frame[0] != SYNC_0)
            return 0;
        if (received > 1 && frame[1] != SYNC_1)
            return 0;
        if (received >= n)
            return 1;
        if (received > 0 && !port_ready() && !port_wait(GAP_MS))
            return 0;
        while (received == 0 && !port_wait(IDLE_MS))
            watchdog_feed();
        frame[received++] = port_read();
    }
}

/* The request at the start of the buffer, or one of type 0 after bytes that are none have been dealt with. */
static request_t take_request(size_t *taken)
{
    request_t request = {0, 0, 0, 0, frame + HEADER_BYTES};
    if (!receive(HEADER_BYTES)) {
        resync();
        return request;
    }
    request.sequence = get_u16(frame + 4);
    request.length = get_u16(frame + 6);
    if (request.length > payload_max) {
        reply_error(&request, ERROR_LENGTH);
        resync();
        return request;
    }
    size_t end = HEADER_BYTES + (size_t)request.length;
    if (!receive(end + CRC_BYTES) || get_u32(frame + end) != crc32(frame + 2, end - 2)) {
        reply_error(&request, ERROR_DAMAGED);
        resync();
        return request;
    }
    request.crc = get_u32(frame + end);
    *taken = end + CRC_BYTES;
    if (frame[2] != VERSION)
        reply_error(&request, ERROR_VERSION);
    else if (frame[3] == 0)
        reply_error(&request, ERROR_TYPE);
    else
        request.type = frame[3];
    return request;
}

request_t next_request(void)
{
    static size_t taken; /* bytes of the request before */
    for (;;) {
        drop(taken);
        taken = 0;
        request_t request = take_request(&taken);
        if (request.type != 0)
            return request;
    }
}
