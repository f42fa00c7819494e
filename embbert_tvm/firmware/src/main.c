/* The protocol server: reads requests, runs the model, sends replies.

   A frame is, little-endian:
       0xEB 0xB7  version(1)  type(1)  sequence(2)  length(2)  payload(length)  crc32(4)
   and its CRC covers version to payload. Bytes that are no frame are skipped: after a frame that turns out
   wrong, the search for the next goes on one byte after that frame's first, so none is lost inside it. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A package of another prefix is served through macros that its build gives, device/build.py. */
#ifndef EMBBERT_HEADER
#define EMBBERT_HEADER "embbert.h"
#endif
#include EMBBERT_HEADER

#include "port.h"

enum {
    SYNC_0 = 0xEB,
    SYNC_1 = 0xB7,
    VERSION = 1,
    HEADER_BYTES = 8,
    CRC_BYTES = 4
};

enum { /* types of request; a reply is its request's with REPLY set */
    INFO = 0x01,
    RUN = 0x02,
    PROFILE = 0x03, /* known to a firmware that is built with EMBBERT_PROFILE */
    REPLY = 0x80,
    ERROR = 0xFF
};

enum { /* what an error reply says */
    ERROR_CRC = 1,
    ERROR_TYPE = 2,
    ERROR_LENGTH = 3,
    ERROR_VERSION = 4,
    ERROR_FAULT = 5,
    ERROR_STACK = 6
};

#define PAYLOAD_MAX (2u * EMBBERT_MAX_LENGTH) /* the ids of the longest text */

typedef struct {
    uint8_t type;
    uint16_t sequence;
    uint16_t length;
    const uint8_t *payload;
} request_t;

/* The receive buffer: the first `received` bytes of a frame, or of what may become one. */
static uint8_t frame[HEADER_BYTES + PAYLOAD_MAX + CRC_BYTES];
static size_t received;

static uint8_t arena[EMBBERT_ARENA_BYTES] __attribute__((aligned(EMBBERT_ARENA_ALIGN)));
static int32_t ids[EMBBERT_MAX_LENGTH];
static float logits[EMBBERT_CLASSES];
static embbert_t model;

static volatile uint16_t sequence_now; /* of the request in hand, for server_fault() */

/* ---- CRC-32 as in zlib: reflected polynomial 0xEDB88320, four bits a step ---- */

static uint32_t crc_update(uint32_t crc, uint8_t byte)
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
        crc = crc_update(crc, bytes[i]);
    return ~crc;
}

/* ---- little-endian ---- */

static uint16_t get_u16(const uint8_t *bytes) { return (uint16_t)(bytes[0] | bytes[1] << 8); }

static uint32_t get_u32(const uint8_t *bytes) { return get_u16(bytes) | (uint32_t)get_u16(bytes + 2) << 16; }

/* ---- replies: a frame is sent as it is made, only its CRC is kept ---- */

static uint32_t reply_crc;

static void put_u8(uint8_t value)
{
    reply_crc = crc_update(reply_crc, value);
    port_write(value);
}

static void put_u16(uint16_t value)
{
    put_u8((uint8_t)value);
    put_u8((uint8_t)(value >> 8));
}

static void put_u32(uint32_t value)
{
    put_u16((uint16_t)value);
    put_u16((uint16_t)(value >> 16));
}

static void put_u64(uint64_t value)
{
    put_u32((uint32_t)value);
    put_u32((uint32_t)(value >> 32));
}

static void reply_begin(uint8_t type, uint16_t sequence, uint16_t length)
{
    port_write(SYNC_0);
    port_write(SYNC_1);
    reply_crc = 0xFFFFFFFFu;
    put_u8(VERSION);
    put_u8(type);
    put_u16(sequence);
    put_u16(length);
}

static void reply_end(void)
{
    uint32_t crc = ~reply_crc;
    put_u32(crc);
}

static void reply_error(uint16_t sequence, uint8_t code)
{
    reply_begin(ERROR, sequence, 1);
    put_u8(code);
    reply_end();
}

void server_fault(uint32_t status, uint32_t address)
{
    reply_begin(ERROR, sequence_now, 9);
    put_u8(ERROR_FAULT);
    put_u32(status);
    put_u32(address);
    reply_end();
    for (;;) {
    }
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

/* Take bytes until the buffer holds `n`; 0 if they stop looking like a frame on the way. */
static int receive(size_t n)
{
    for (;;) {
        if (received > 0 && frame[0] != SYNC_0)
            return 0;
        if (received > 1 && frame[1] != SYNC_1)
            return 0;
        if (received >= n)
            return 1;
        frame[received++] = port_read();
    }
}

/* Wait for a request that is whole and right, and answer those that are not. Its payload stays in the receive
   buffer until next_request() is called again. */
static request_t next_request(void)
{
    static size_t taken; /* bytes of the request before */
    drop(taken);
    taken = 0;
    for (;;) {
        if (!receive(HEADER_BYTES)) {
            resync();
            continue;
        }
        request_t request = {frame[3], get_u16(frame + 4), get_u16(frame + 6), frame + HEADER_BYTES};
        if (request.length > PAYLOAD_MAX) {
            reply_error(request.sequence, ERROR_LENGTH);
            resync();
            continue;
        }
        size_t end = HEADER_BYTES + (size_t)request.length;
        receive(end + CRC_BYTES); /* true: the first two bytes are there, and right */
        if (get_u32(frame + end) != crc32(frame + 2, end - 2)) {
            reply_error(request.sequence, ERROR_CRC);
            resync();
            continue;
        }
        taken = end + CRC_BYTES;
        if (frame[2] != VERSION) {
            reply_error(request.sequence, ERROR_VERSION);
            drop(taken);
            taken = 0;
            continue;
        }
        return request;
    }
}

static void answer_info(const request_t *request)
{
    if (request->length != 0) {
        reply_error(request->sequence, ERROR_LENGTH);
        return;
    }
    reply_begin(INFO | REPLY, request->sequence, 13);
    put_u16(EMBBERT_MAX_LENGTH);
    put_u16(EMBBERT_CLASSES);
    put_u32(EMBBERT_VOCABULARY);
    put_u32(EMBBERT_ARENA_BYTES);
    put_u8(port_ticks_are());
    reply_end();
}

typedef struct {
    embbert_status_t status;
    uint64_t ticks;
} outcome_t;

/* Run the model on the ids of a request. */
static outcome_t run(const request_t *request)
{
    size_t n = request->length / 2u;
    for (size_t i = 0; i < n; i++)
        ids[i] = get_u16(request->payload + 2 * i);
    memset(logits, 0, sizeof logits);

    outcome_t outcome;
    port_ticks_restart();
    outcome.status = embbert_run(&model, ids, n, logits);
    outcome.ticks = port_ticks();
    return outcome;
}

static void answer_run(const request_t *request)
{
    if (request->length % 2u != 0) {
        reply_error(request->sequence, ERROR_LENGTH);
        return;
    }
    outcome_t outcome = run(request);
    uint32_t stack = port_stack_used();
    if (stack == PORT_STACK_OVER) {
        reply_error(request->sequence, ERROR_STACK);
        return;
    }
    reply_begin(RUN | REPLY, request->sequence, (uint16_t)(12u + 4u * EMBBERT_CLASSES));
    put_u8((uint8_t)outcome.status);
    put_u8(0);
    put_u16((uint16_t)(stack > 0xFFFFu ? 0xFFFFu : stack));
    put_u64(outcome.ticks);
    for (size_t i = 0; i < EMBBERT_CLASSES; i++) {
        uint32_t bits;
        memcpy(&bits, &logits[i], sizeof bits);
        put_u32(bits);
    }
    reply_end();
}

#ifdef EMBBERT_PROFILE /* how many steps embbert_run() has, each of which calls embbert_step() when it is done */

static uint64_t step_ticks[EMBBERT_PROFILE];

void embbert_step(int32_t step);
void embbert_step(int32_t step)
{
    if (step < EMBBERT_PROFILE)
        step_ticks[step] = port_ticks();
}

static void answer_profile(const request_t *request)
{
    if (request->length % 2u != 0) {
        reply_error(request->sequence, ERROR_LENGTH);
        return;
    }
    memset(step_ticks, 0, sizeof step_ticks);
    outcome_t outcome = run(request);
    reply_begin(PROFILE | REPLY, request->sequence, (uint16_t)(4u + 8u * EMBBERT_PROFILE));
    put_u8((uint8_t)outcome.status);
    put_u8(0);
    put_u16(EMBBERT_PROFILE);
    for (size_t i = 0; i < EMBBERT_PROFILE; i++)
        put_u64(step_ticks[i]);
    reply_end();
}

#endif

int main(void)
{
    port_init();
    if (embbert_init(&model, arena, sizeof arena) != EMBBERT_OK)
        server_fault(0, 0);
    for (;;) {
        request_t request = next_request();
        sequence_now = request.sequence;
        if (request.type == INFO)
            answer_info(&request);
        else if (request.type == RUN)
            answer_run(&request);
#ifdef EMBBERT_PROFILE
        else if (request.type == PROFILE)
            answer_profile(&request);
#endif
        else
            reply_error(request.sequence, ERROR_TYPE);
    }
}
