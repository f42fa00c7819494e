/* SPDX-License-Identifier: Apache-2.0 */
/* The part of main.c that keeps intents by example: room for SERVER_EXAMPLES of them, by the vector of the model or, of
   one of labels, by what its head reads. */
#ifndef EMBBERT_SERVER_EXAMPLES_H
#define EMBBERT_SERVER_EXAMPLES_H

#include "embbert_examples.h"

#ifdef EMBBERT_KNOWN_CLASSES
#define VECTOR_AT(tokens) EMBBERT_KNOWN_AT(tokens)
#else
#define VECTOR_AT(tokens) 0u
#endif

static embbert_example_t entries[SERVER_EXAMPLES];
static embbert_examples_t store = {entries, SERVER_EXAMPLES, 0};
static uint8_t blob[EMBBERT_EXAMPLES_BLOB(SERVER_EXAMPLES)];

/* A payload: what to do (u8), bytes of the name (u8), 0 (u16), a number (u32), the name, and what is behind it: a text
   of ADD and NEAREST, a piece of the blob of LOAD. The number: NEAREST's threshold as a float32, the place in the blob
   of SAVE and LOAD; a LOAD without a piece takes the blob of so many bytes. */
enum { EXAMPLES_HEADER = 8, EXAMPLES_PIECE = 4096 };
enum { EXAMPLE_ADD = 1, EXAMPLE_FORGET, EXAMPLE_NEAREST, EXAMPLE_SAVE, EXAMPLE_LOAD };

typedef struct {
    embbert_status_t status;
    embbert_examples_status_t stored;
    float cosine;
    uint64_t model_ticks, look_up_ticks;
    const uint8_t *tail;
    size_t tail_bytes;
} examples_reply_t;

/* The vector of a text in `logits`; NULL where there is none. By the text, since its n-grams may add to the vector. */
static const float *vector_of(const char *text, size_t n, examples_reply_t *reply)
{
    port_ticks_restart();
    embbert_status_t status = embbert_begin(&model, text, n, NULL, 0);
    if (status == EMBBERT_OK) {
        do {
            status = embbert_continue(&model, INT32_MAX, logits);
        } while (status == EMBBERT_MORE);
    }
    reply->model_ticks = port_ticks();
    reply->status = status;
    return status == EMBBERT_OK ? logits + VECTOR_AT((size_t)model.tokens) : NULL;
}

static void find_nearest(const float *vector, float threshold, examples_reply_t *reply)
{
    port_ticks_restart();
    embbert_nearest_t found = embbert_examples_nearest(&store, vector, threshold);
    reply->look_up_ticks = port_ticks();
    reply->cosine = found.cosine;
    if (found.entry != NULL) {
        reply->tail = (const uint8_t *)found.entry->name;
        reply->tail_bytes = strlen(found.entry->name);
    }
}

static void save_piece(uint32_t from, examples_reply_t *reply)
{
    size_t bytes = EMBBERT_EXAMPLES_BLOB(store.count);
    if (from == 0)
        reply->stored = embbert_examples_save(&store, blob, sizeof blob);
    if (reply->stored == EMBBERT_EXAMPLES_OK && from < bytes) {
        reply->tail = blob + from;
        reply->tail_bytes = bytes - from < EXAMPLES_PIECE ? bytes - from : (size_t)EXAMPLES_PIECE;
    }
}

static void load_piece(uint32_t at, const uint8_t *piece, size_t n, examples_reply_t *reply)
{
    if (at > sizeof blob || n > sizeof blob - at)
        reply->stored = EMBBERT_EXAMPLES_E_ROOM;
    else if (n > 0)
        memcpy(blob + at, piece, n);
    else
        reply->stored = embbert_examples_load(&store, blob, at);
}

static void answer_examples(void)
{
    char name[EMBBERT_EXAMPLES_NAME];
    size_t length = request.length > 1 ? request.payload[1] : 0;
    if (request.length < EXAMPLES_HEADER + length || length >= sizeof name) {
        reply_error(&request, ERROR_LENGTH);
        return;
    }
    memset(name, 0, sizeof name);
    memcpy(name, request.payload + EXAMPLES_HEADER, length);
    const uint8_t *rest = request.payload + EXAMPLES_HEADER + length;
    size_t n = request.length - EXAMPLES_HEADER - length;
    uint32_t number = get_u32(request.payload + 4), cosine;
    examples_reply_t reply = {EMBBERT_OK, EMBBERT_EXAMPLES_OK, 0.0f, 0, 0, NULL, 0};
    const float *vector;
    float threshold;
    switch (request.payload[0]) {
    case EXAMPLE_ADD:
        vector = vector_of((const char *)rest, n, &reply);
        if (vector != NULL)
            reply.stored = embbert_examples_add(&store, name, vector);
        break;
    case EXAMPLE_FORGET:
        reply.stored = embbert_examples_forget(&store, name);
        break;
    case EXAMPLE_NEAREST:
        vector = vector_of((const char *)rest, n, &reply);
        memcpy(&threshold, &number, sizeof threshold);
        if (vector != NULL)
            find_nearest(vector, threshold, &reply);
        break;
    case EXAMPLE_SAVE:
        save_piece(number, &reply);
        break;
    case EXAMPLE_LOAD:
        load_piece(number, rest, n, &reply);
        break;
    default:
        reply_error(&request, ERROR_TYPE);
        return;
    }
    if (port_stack_used() == PORT_STACK_OVER)
        stack_ran_over();
    memcpy(&cosine, &reply.cosine, sizeof cosine);
    reply_begin(&request, (uint16_t)(24u + reply.tail_bytes));
    put_u8((uint8_t)reply.status);
    put_u8((uint8_t)reply.stored);
    put_u16((uint16_t)store.count);
    put_u32(cosine);
    put_u64(reply.model_ticks);
    put_u64(reply.look_up_ticks);
    for (size_t i = 0; i < reply.tail_bytes; i++)
        put_u8(reply.tail[i]);
    reply_end();
}

#endif
