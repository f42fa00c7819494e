/* SPDX-License-Identifier: Apache-2.0 */
/* Frames between the host and main.c: requests in, replies out, over the port.

   A frame is, little-endian:
       0xEB 0xB7  version(1)  type(1)  sequence(2)  length(2)  payload(length)  crc32(4)
   and its CRC covers version to payload. A reply's payload begins with the CRC of the request that it answers, so that
   none is ever taken for the answer to another question, whatever is lost or repeated on the way. */
#ifndef EMBBERT_FRAMES_H
#define EMBBERT_FRAMES_H

#include <stddef.h>
#include <stdint.h>

enum { /* types of request; a reply is its request's with REPLY set */
    INFO = 0x01,
    RUN = 0x02,
    PROFILE = 0x03, /* known to a firmware that is built with EMBBERT_PROFILE */
    TEXT = 0x04,     /* this and TOKENIZE: known where the package has a tokenizer */
    SELF_TEST = 0x05,
    TOKENIZE = 0x06,
    TRACE = 0x07, /* known to a firmware that is built with EMBBERT_TRACE */
    SLICES = 0x08,
    TAG = 0x09, /* known where the model finds slots in texts */
    EXAMPLES = 0x0A, /* known to a firmware that is built with SERVER_EXAMPLES */
    REPLY = 0x80,
    ERROR = 0xFF
};

enum { /* what an error reply says; DAMAGED and a LENGTH over the buffer come with 0 for the request's CRC */
    ERROR_DAMAGED = 1,
    ERROR_TYPE = 2,
    ERROR_LENGTH = 3,
    ERROR_VERSION = 4,
    ERROR_FAULT = 5,
    ERROR_STACK = 6
};

/* Where a frame is received, and the longest payload that it may have: as long as what is served asks for, so that
   main.c has both, and frames.c is the same for all. */
enum { HEADER_BYTES = 8, CRC_BYTES = 4 };
#define FRAME_BYTES(payload) (HEADER_BYTES + (payload) + CRC_BYTES)
extern uint8_t frame_buffer[];
extern const size_t payload_max;

typedef struct {
    uint8_t type;
    uint16_t sequence;
    uint16_t length;
    uint32_t crc;
    const uint8_t *payload;
} request_t;

/* Wait for a request that is whole and right, and answer those that are not. Its payload stays where it is until
   next_request() is called again. */
request_t next_request(void);

/* A reply of `length` bytes, which the put functions send as they are made, between begin and end. */
void reply_begin(const request_t *request, uint16_t length);
void reply_end(void);
void put_u8(uint8_t value);
void put_u16(uint16_t value);
void put_u32(uint32_t value);
void put_u64(uint64_t value);

/* An error reply. */
void reply_error(const request_t *request, uint8_t code);
void reply_fault(const request_t *request, uint32_t status, uint32_t address);

uint16_t get_u16(const uint8_t *bytes);
uint32_t get_u32(const uint8_t *bytes);

/* CRC-32 as in zlib, a byte at a time: start with ~0, end with its complement. */
uint32_t crc32_update(uint32_t crc, uint8_t byte);

#endif
