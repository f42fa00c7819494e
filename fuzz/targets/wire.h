/* A port whose bytes come from the fuzzer's input, in which some stand for whole frames with a right CRC. */
#ifndef FUZZ_WIRE_H
#define FUZZ_WIRE_H

#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frames.h"
#include "port.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Frames that were put on the wire, whole, damaged or cut off; drive.c prints it. */
static unsigned long long checked;

#ifndef REQUIRE
#define REQUIRE(condition)                                                        \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "%s:%d: not %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                              \
        }                                                                         \
    } while (0)
#endif

enum { WIRE_BYTES = 1 << 16, FRAME = 0xF0, DAMAGED_FRAME = 0xF1, CUT_FRAME = 0xF2 };

static uint8_t wire[WIRE_BYTES], sent[1 << 20];
static size_t wire_bytes, wire_at, sent_bytes;
static jmp_buf dry;

/* The CRC of the reference: a table of 256, made a bit at a time. */
static uint32_t reference_crc(const uint8_t *bytes, size_t n)
{
    static uint32_t table[256];
    for (uint32_t i = 0; i < 256 && table[255] == 0; i++) {
        uint32_t one = i;
        for (int bit = 0; bit < 8; bit++)
            one = one & 1u ? one >> 1 ^ 0xEDB88320u : one >> 1;
        table[i] = one;
    }
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < n; i++)
        crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 255u];
    return ~crc;
}

static void on_wire(uint8_t byte)
{
    if (wire_bytes < WIRE_BYTES)
        wire[wire_bytes++] = byte;
}

/* The input as what comes over the wire: bytes as they are, but FRAME and its like are followed by type, sequence,
   version, length and payload of a frame, which is put there with its CRC. */
static void make_wire(const uint8_t *data, size_t size)
{
    wire_bytes = wire_at = sent_bytes = 0;
    for (size_t i = 0; i < size;) {
        uint8_t kind = data[i++];
        if (kind < FRAME || kind > CUT_FRAME || size - i < 4) {
            on_wire(kind);
            continue;
        }
        checked++;
        size_t start = wire_bytes, length = data[i + 3];
        if (length > size - i - 4)
            length = size - i - 4;
        if (start + length + 12 > WIRE_BYTES)
            return;
        const uint8_t head[] = {0xEB, 0xB7, data[i + 2] < 250 ? 2 : data[i + 2], data[i], data[i + 1], 0};
        for (size_t k = 0; k < sizeof head; k++)
            on_wire(head[k]);
        on_wire((uint8_t)length);
        on_wire(0);
        for (size_t k = 0; k < length; k++)
            on_wire(data[i + 4 + k]);
        uint32_t crc = reference_crc(wire + start + 2, wire_bytes - start - 2) ^ (kind == DAMAGED_FRAME ? 4u : 0u);
        for (unsigned shift = 0; shift < 32u; shift += 8u)
            on_wire((uint8_t)(crc >> shift));
        if (kind == CUT_FRAME)
            wire_bytes -= wire_bytes - start > 3 ? 3 : 0;
        i += 4 + length;
    }
}

void port_init(void) {}

int port_ready(void) { return wire_at < wire_bytes; }

int port_wait(uint32_t milliseconds)
{
    (void)milliseconds;
    return port_ready();
}

uint8_t port_read(void)
{
    if (wire_at == wire_bytes)
        longjmp(dry, 1);
    return wire[wire_at++];
}

void port_write(uint8_t byte)
{
    REQUIRE(sent_bytes < sizeof sent);
    sent[sent_bytes++] = byte;
}

uint64_t port_ticks(void) { return 0; }

void port_ticks_restart(void) {}

uint8_t port_ticks_are(void) { return PORT_TICKS_NONE; }

uint32_t port_stack_used(void) { return 0; }

/* The frame at a place of some bytes: how many it has, 0 where there is none. */
static inline size_t frame_at(const uint8_t *bytes, size_t n, size_t most)
{
    if (n < 12 || bytes[0] != 0xEB || bytes[1] != 0xB7)
        return 0;
    size_t end = 8 + (size_t)(bytes[6] | bytes[7] << 8);
    if (end - 8 > most || end + 4 > n)
        return 0;
    uint32_t crc = bytes[end] | (uint32_t)bytes[end + 1] << 8 | (uint32_t)bytes[end + 2] << 16
        | (uint32_t)bytes[end + 3] << 24;
    return reference_crc(bytes + 2, end - 2) == crc ? end + 4 : 0;
}

/* Everything that was sent is frames, one after another. */
static inline void check_sent(void)
{
    for (size_t at = 0; at < sent_bytes;) {
        size_t n = frame_at(sent + at, sent_bytes - at, 65535);
        REQUIRE(n > 0 && sent[at + 2] == 2 && sent[at + 3] & REPLY);
        at += n;
    }
}

#endif
