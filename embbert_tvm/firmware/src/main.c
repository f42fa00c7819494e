/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol server: answers requests (frames.h) with what the model says. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "frames.h"
#include "model.h"
#include "port.h"

#ifndef EMBBERT_LOGITS /* a package of before, which has one label a text */
#define EMBBERT_LOGITS EMBBERT_CLASSES
#define EMBBERT_OF_TOKENS 0
#endif

enum { FEATURE_TEXT = 1, FEATURE_PROFILE = 2, FEATURE_TRACE = 4, FEATURE_OF_TOKENS = 8, FEATURE_SLICES = 16, FEATURE_TAG = 32, FEATURE_EXAMPLES = 64 };

#if defined(EMBBERT_API) && EMBBERT_API >= 2
#define HAS_API_2
#endif

/* The arena between guards that nothing may write. */
static struct {
    uint8_t before[EMBBERT_ARENA_ALIGN];
    uint8_t arena[EMBBERT_ARENA_BYTES];
    uint8_t after[EMBBERT_ARENA_ALIGN];
} memory __attribute__((aligned(EMBBERT_ARENA_ALIGN), section(".bss.embbert_arena"))); /* device/linker.py */
static int32_t ids[EMBBERT_MAX_LENGTH];
static float logits[EMBBERT_LOGITS];
static embbert_t model;

/* Ids are of two bytes, or of four where there are more than those can tell apart. */
#if EMBBERT_VOCABULARY > 65536
enum { ID_BYTES = 4 };
#define get_id get_u32
#define put_id put_u32
#else
enum { ID_BYTES = 2 };
#define get_id get_u16
#define put_id(id) put_u16((uint16_t)(id))
#endif

/* The longest payload: the ids of the longest text after what TRACE puts before them, or a text. */
#ifndef SERVER_TEXT_BYTES
#define SERVER_TEXT_BYTES (4u * EMBBERT_MAX_LENGTH)
#endif
#if EMBBERT_HAS_TOKENIZER
#define PAYLOAD_MAX (8u + SERVER_TEXT_BYTES)
#else
#define PAYLOAD_MAX (8u + ID_BYTES * EMBBERT_MAX_LENGTH)
#endif
uint8_t frame_buffer[FRAME_BYTES(PAYLOAD_MAX)];
const size_t payload_max = PAYLOAD_MAX;

static request_t request; /* in hand; server_fault() needs it too */

void server_fault(uint32_t status, uint32_t address)
{
    reply_fault(&request, status, address);
    port_flush();
    restart();
}

/* What lies below the stack may be spoilt, so nothing goes on from here. */
static void stack_ran_over(void)
{
    reply_error(&request, ERROR_STACK);
    port_flush();
    restart();
}

static void answer_info(void)
{
    if (request.length != 0) {
        reply_error(&request, ERROR_LENGTH);
        return;
    }
    uint8_t features = 0;
#if EMBBERT_HAS_TOKENIZER
    features |= FEATURE_TEXT;
#endif
#ifdef EMBBERT_PROFILE
    features |= FEATURE_PROFILE;
#endif
#ifdef EMBBERT_TRACE
    features |= FEATURE_TRACE;
#endif
#if EMBBERT_OF_TOKENS
    features |= FEATURE_OF_TOKENS;
#endif
#ifdef HAS_API_2
    features |= FEATURE_SLICES;
#endif
#ifdef EMBBERT_HAS_SLOTS
    features |= FEATURE_TAG;
#endif
#ifdef SERVER_EXAMPLES
    features |= FEATURE_EXAMPLES;
#endif
    reply_begin(&request, 24);
    put_u16(EMBBERT_MAX_LENGTH);
    put_u16(EMBBERT_CLASSES);
    put_u32(EMBBERT_VOCABULARY);
    put_u32(EMBBERT_ARENA_BYTES);
#ifdef EMBBERT_BLOB_BYTES
    put_u32(embbert_model_hash(&model));
#else
    put_u32(EMBBERT_HASH);
#endif
    put_u16(PAYLOAD_MAX);
    put_u8(port_ticks_are());
    put_u8(features);
    put_u32(board_clock_hz());
    reply_end();
}

typedef struct {
    embbert_status_t status;
    uint64_t ticks;
} outcome_t;

/* How many logits a text of so many tokens has. */
static size_t logits_of(size_t tokens)
{
#ifdef EMBBERT_LOGITS_OF
    return EMBBERT_LOGITS_OF(tokens);
#elif EMBBERT_OF_TOKENS
    return tokens * EMBBERT_CLASSES;
#else
    (void)tokens;
    return EMBBERT_CLASSES;
#endif
}

/* The ids of n bytes of a request. */
static size_t ids_in(size_t bytes)
{
    return bytes / ID_BYTES;
}

/* Run the model on n token ids. */
static outcome_t run(const uint8_t *packed, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ids[i] = get_id(packed + ID_BYTES * i);
    memset(logits, 0, sizeof logits);

    outcome_t outcome;
    port_ticks_restart();
    outcome.status = embbert_run(&model, ids, n, logits);
    outcome.ticks = port_ticks();
    return outcome;
}

static uint32_t logit_bits(size_t index)
{
    uint32_t bits;
    memcpy(&bits, &logits[index], sizeof bits);
    return bits;
}

static void answer_run(void)
{
    size_t count = logits_of(ids_in(request.length));
    outcome_t outcome = run(request.payload, ids_in(request.length));
    uint32_t stack = port_stack_used();
    if (stack == PORT_STACK_OVER) {
        stack_ran_over();
    }
    reply_begin(&request, (uint16_t)(12u + 4u * count));
    put_u8((uint8_t)outcome.status);
    put_u8(0);
    put_u16((uint16_t)(stack > 0xFFFFu ? 0xFFFFu : stack));
    put_u64(outcome.ticks);
    for (size_t i = 0; i < count; i++)
        put_u32(logit_bits(i));
    reply_end();
}

/* ---- self-test: the same ids twice, each time over an arena full of something else ---- */

enum { WRONG_LOGITS = 1, WRONG_GUARD = 2, WRONG_MEMORY = 4, WRONG_ANSWER = 8 };

/* CRC of the logits of a run over an arena full of `paint`. Raises *used to the highest byte of the arena that was
   changed, sets bits of *wrong. */
static uint32_t painted_run(uint8_t paint, embbert_status_t *status, uint32_t *used, uint8_t *wrong)
{
    memset(&memory, paint, sizeof memory);
    *status = run(request.payload, ids_in(request.length)).status;
    uint32_t top = EMBBERT_ARENA_BYTES;
    while (top > *used && memory.arena[top - 1u] == paint)
        top--;
    *used = top;
    for (size_t i = 0; i < EMBBERT_ARENA_ALIGN; i++) {
        if (memory.before[i] != paint || memory.after[i] != paint)
            *wrong |= WRONG_GUARD;
    }
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < logits_of(ids_in(request.length)); i++) {
        uint32_t bits = logit_bits(i);
        for (unsigned shift = 0; shift < 32u; shift += 8u)
            crc = crc32_update(crc, (uint8_t)(bits >> shift));
    }
    return ~crc;
}

static void answer_self_test(void)
{
    embbert_status_t status, again;
    uint32_t used = 0;
    uint8_t wrong = 0;
    uint32_t crc = painted_run(0xA5u, &status, &used, &wrong);
    if (painted_run(0x5Au, &again, &used, &wrong) != crc || status != again)
        wrong |= WRONG_LOGITS;
#ifdef HAS_API_2 /* against what was compiled, where the runs above compare the model with itself */
    embbert_check_t check;
    memset(&check, 0, sizeof check);
#ifdef EMBBERT_BLOB_BYTES
    if (embbert_check(&model, &check, SIZE_MAX) != EMBBERT_OK)
#else
    if (embbert_check(&check, SIZE_MAX) != EMBBERT_OK)
#endif
        wrong |= WRONG_MEMORY;
    if (embbert_known_answer(&model, logits) != EMBBERT_OK)
        wrong |= WRONG_ANSWER;
#endif
    uint32_t stack = port_stack_used();
    if (stack == PORT_STACK_OVER) {
        stack_ran_over();
    }
    reply_begin(&request, 16);
    put_u8((uint8_t)status);
    put_u8(wrong);
    put_u16(0);
    put_u32(stack);
    put_u32(used);
    put_u32(crc);
    reply_end();
}

#ifdef EMBBERT_PROFILE /* how many steps embbert_run() has, each of which calls embbert_step() when it is done */

static uint64_t step_ticks[EMBBERT_PROFILE];

void embbert_step(int32_t step);
void embbert_step(int32_t step)
{
    if (step < EMBBERT_PROFILE)
        step_ticks[step] = port_ticks();
    watchdog_feed();
}

static void answer_profile(void)
{
    memset(step_ticks, 0, sizeof step_ticks);
    outcome_t outcome = run(request.payload, ids_in(request.length));
    reply_begin(&request, (uint16_t)(4u + 8u * EMBBERT_PROFILE));
    put_u8((uint8_t)outcome.status);
    put_u8(0);
    put_u16(EMBBERT_PROFILE);
    for (size_t i = 0; i < EMBBERT_PROFILE; i++)
        put_u64(step_ticks[i]);
    reply_end();
}

#endif

#ifdef EMBBERT_TRACE /* how many tensors the steps of embbert_run() make, each of which comes by embbert_trace() */

enum { EVERY = 0xFFFF, TRACE_HEADER = 8, TRACE_BYTES = 16384 };

static struct {
    uint32_t bytes, crc;
} traced[EMBBERT_TRACE];
static uint16_t wanted; /* the output that is requested, or EVERY for the CRC of each */
static uint32_t wanted_from;
static int trace_sent;

static void put_trace_header(uint8_t status)
{
    put_u8(status);
    put_u8(0);
    put_u16(EMBBERT_TRACE);
}

void embbert_trace(int32_t output, const void *data, size_t bytes);
void embbert_trace(int32_t output, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    if (wanted == EVERY && output < EMBBERT_TRACE) {
        uint32_t crc = 0xFFFFFFFFu;
        for (size_t i = 0; i < bytes; i++)
            crc = crc32_update(crc, at[i]);
        traced[output].bytes = (uint32_t)bytes;
        traced[output].crc = ~crc;
    } else if (output == wanted && !trace_sent) { /* now, as a later step overwrites it */
        uint32_t from = wanted_from < bytes ? wanted_from : (uint32_t)bytes;
        uint32_t n = (uint32_t)bytes - from < TRACE_BYTES ? (uint32_t)bytes - from : (uint32_t)TRACE_BYTES;
        reply_begin(&request, (uint16_t)(8u + n));
        put_trace_header(EMBBERT_OK);
        put_u32((uint32_t)bytes);
        for (uint32_t i = 0; i < n; i++)
            put_u8(at[from + i]);
        reply_end();
        trace_sent = 1;
    }
}

static void answer_trace(void)
{
    if (request.length < TRACE_HEADER || (request.length - TRACE_HEADER) % ID_BYTES != 0
        || request.length > TRACE_HEADER + ID_BYTES * EMBBERT_MAX_LENGTH) {
        reply_error(&request, ERROR_LENGTH);
        return;
    }
    wanted = get_u16(request.payload);
    wanted_from = get_u32(request.payload + 4);
    trace_sent = 0;
    memset(traced, 0, sizeof traced);
    memset(&memory, 0, sizeof memory); /* so that what no step writes is the same everywhere */
    outcome_t outcome = run(request.payload + TRACE_HEADER, ids_in(request.length - TRACE_HEADER));
    if (trace_sent)
        return;
    uint16_t outputs = wanted == EVERY ? EMBBERT_TRACE : 0;
    reply_begin(&request, (uint16_t)(4u + 8u * outputs));
    put_trace_header((uint8_t)outcome.status);
    for (size_t i = 0; i < outputs; i++) {
        put_u32(traced[i].bytes);
        put_u32(traced[i].crc);
    }
    reply_end();
}

#endif

#if EMBBERT_HAS_TOKENIZER

/* A payload of one text or two: whether there is a pair (u8), 0 (u8), bytes of the first text (u16), the texts. */
typedef struct {
    const char *text, *pair; /* pair: NULL where there is one text */
    size_t text_bytes, pair_bytes;
} texts_t;

enum { TEXT_HEADER = 4 };

static int texts_of_request(texts_t *texts)
{
    if (request.length < TEXT_HEADER || get_u16(request.payload + 2) > request.length - TEXT_HEADER)
        return 0;
    texts->text = (const char *)request.payload + TEXT_HEADER;
    texts->text_bytes = get_u16(request.payload + 2);
    texts->pair = request.payload[0] ? texts->text + texts->text_bytes : NULL;
    texts->pair_bytes = request.payload[0] ? request.length - TEXT_HEADER - texts->text_bytes : 0;
    return 1;
}

typedef struct {
    embbert_status_t status;
    size_t label, tokens;
    bool truncated;
} said_t;

/* What the model says of texts, its logits in `logits`. Of tokens' labels the host finds the largest itself. */
static said_t answer_of(const texts_t *texts)
{
    said_t said = {EMBBERT_OK, 0, 0, false};
#if EMBBERT_OF_TOKENS
    static embbert_token_t tokens[EMBBERT_MAX_LENGTH];
    said.status = embbert_label_tokens(&model, texts->text, texts->text_bytes, texts->pair, texts->pair_bytes, tokens,
                                       logits, &said.tokens, &said.truncated);
#else
    static embbert_result_t result;
    memset(&result, 0, sizeof result);
    said.status =
        embbert_classify_pair(&model, texts->text, texts->text_bytes, texts->pair, texts->pair_bytes, &result);
    memcpy(logits, result.logits, sizeof logits);
    said.label = result.label;
    said.tokens = result.tokens;
    said.truncated = result.truncated;
#endif
    return said;
}

static void answer_text(void)
{
    texts_t texts;
    if (!texts_of_request(&texts)) {
        reply_error(&request, ERROR_LENGTH);
        return;
    }
    port_ticks_restart();
    said_t said = answer_of(&texts);
    uint64_t ticks = port_ticks();
    uint32_t stack = port_stack_used();
    if (stack == PORT_STACK_OVER) {
        stack_ran_over();
    }
    size_t count = logits_of(said.tokens);
    reply_begin(&request, (uint16_t)(16u + 4u * count));
    put_u8((uint8_t)said.status);
    put_u8(said.truncated);
    put_u16((uint16_t)(stack > 0xFFFFu ? 0xFFFFu : stack));
    put_u64(ticks);
    put_u16((uint16_t)said.label);
    put_u16((uint16_t)said.tokens);
    for (size_t i = 0; i < count; i++)
        put_u32(logit_bits(i));
    reply_end();
}

#ifdef EMBBERT_HAS_SLOTS

/* The label of a text, its logits, and the slots of a text: what its words fill. */
static void answer_tag(void)
{
    texts_t texts;
    if (!texts_of_request(&texts) || texts.pair != NULL) {
        reply_error(&request, ERROR_LENGTH);
        return;
    }
    static embbert_result_t result;
    static embbert_slot_t slots[EMBBERT_MAX_LENGTH];
    memset(&result, 0, sizeof result);
    size_t count = 0;
    port_ticks_restart();
    embbert_status_t status =
        embbert_tag(&model, texts.text, texts.text_bytes, &result, slots, EMBBERT_MAX_LENGTH, &count);
    uint64_t ticks = port_ticks();
    uint32_t stack = port_stack_used();
    if (stack == PORT_STACK_OVER) {
        stack_ran_over();
    }
    if (status != EMBBERT_OK)
        count = 0;
    memcpy(logits, result.logits, EMBBERT_CLASSES * sizeof logits[0]);
    reply_begin(&request, (uint16_t)(18u + 4u * EMBBERT_CLASSES + 6u * count));
    put_u8((uint8_t)status);
    put_u8(result.truncated);
    put_u16((uint16_t)(stack > 0xFFFFu ? 0xFFFFu : stack));
    put_u64(ticks);
    put_u16((uint16_t)result.label);
    put_u16((uint16_t)result.tokens);
    put_u16((uint16_t)count);
    for (size_t i = 0; i < EMBBERT_CLASSES; i++)
        put_u32(logit_bits(i));
    for (size_t i = 0; i < count; i++) {
        put_u16((uint16_t)slots[i].begin);
        put_u16((uint16_t)slots[i].end);
        put_u16((uint16_t)slots[i].slot);
    }
    reply_end();
}

#endif

#ifdef SERVER_EXAMPLES
#include "examples.h"
#endif

static void answer_tokenize(void)
{
    texts_t texts;
    if (!texts_of_request(&texts)) {
        reply_error(&request, ERROR_LENGTH);
        return;
    }
    size_t tokens = 0;
    bool truncated = false;
    embbert_status_t status = embbert_tokenize(
        &model, texts.text, texts.text_bytes, texts.pair, texts.pair_bytes, ids, &tokens, &truncated);
    if (status != EMBBERT_OK)
        tokens = 0;
    reply_begin(&request, (uint16_t)(4u + ID_BYTES * tokens));
    put_u8((uint8_t)status);
    put_u8(truncated);
    put_u16((uint16_t)tokens);
    for (size_t i = 0; i < tokens; i++)
        put_id((uint32_t)ids[i]);
    reply_end();
}

#endif

#ifdef HAS_API_2

/* Run the model on token ids in slices of a budget, and say how many there were and how long the longest took. */
static void answer_slices(void)
{
    enum { SLICES_HEADER = 4 };
    if (request.length < SLICES_HEADER || (request.length - SLICES_HEADER) % ID_BYTES != 0
        || request.length > SLICES_HEADER + ID_BYTES * EMBBERT_MAX_LENGTH) {
        reply_error(&request, ERROR_LENGTH);
        return;
    }
    int32_t budget = (int32_t)get_u32(request.payload);
    size_t n = ids_in(request.length - SLICES_HEADER);
    for (size_t i = 0; i < n; i++)
        ids[i] = get_id(request.payload + SLICES_HEADER + ID_BYTES * i);
    memset(logits, 0, sizeof logits);

    uint32_t slices = 0;
    uint64_t longest = 0, all = 0;
    embbert_status_t status = embbert_begin_ids(&model, ids, n);
    if (status == EMBBERT_OK) {
        do {
            port_ticks_restart();
            status = embbert_continue(&model, budget, logits);
            uint64_t ticks = port_ticks();
            longest = ticks > longest ? ticks : longest;
            all += ticks;
            slices++;
            watchdog_feed();
        } while (status == EMBBERT_MORE);
    }
    reply_begin(&request, (uint16_t)(24u + 4u * logits_of(n)));
    put_u8((uint8_t)status);
    put_u8(0);
    put_u16(0);
    put_u32(slices);
    put_u64(longest);
    put_u64(all);
    for (size_t i = 0; i < logits_of(n); i++)
        put_u32(logit_bits(i));
    reply_end();
}

#endif

/* Answer requests whose payload is token ids. */
static void answer_ids(void (*answer)(void))
{
    if (request.length % ID_BYTES != 0 || request.length > ID_BYTES * EMBBERT_MAX_LENGTH)
        reply_error(&request, ERROR_LENGTH);
    else
        answer();
}

int main(void)
{
    port_init();
    watchdog_start();
#ifdef EMBBERT_BLOB_BYTES
    if (embbert_init(&model, memory.arena, sizeof memory.arena, &embbert_blob) != EMBBERT_OK)
#else
    if (embbert_init(&model, memory.arena, sizeof memory.arena) != EMBBERT_OK)
#endif
        server_fault(0, 0);
    for (;;) {
        request = next_request();
        switch (request.type) {
        case INFO:
            answer_info();
            break;
        case RUN:
            answer_ids(answer_run);
            break;
        case SELF_TEST:
            answer_ids(answer_self_test);
            break;
#ifdef HAS_API_2
        case SLICES:
            answer_slices();
            break;
#endif
#ifdef EMBBERT_PROFILE
        case PROFILE:
            answer_ids(answer_profile);
            break;
#endif
#ifdef EMBBERT_TRACE
        case TRACE:
            answer_trace();
            break;
#endif
#if EMBBERT_HAS_TOKENIZER
        case TEXT:
            answer_text();
            break;
        case TOKENIZE:
            answer_tokenize();
            break;
#ifdef SERVER_EXAMPLES
        case EXAMPLES:
            answer_examples();
            break;
#endif
#ifdef EMBBERT_HAS_SLOTS
        case TAG:
            answer_tag();
            break;
#endif
#endif
        default:
            reply_error(&request, ERROR_TYPE);
        }
    }
}
