/* The protocol server: answers requests (frames.h) with what the model says. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "frames.h"
#include "model.h"
#include "port.h"

enum { FEATURE_PROFILE = 2 }; /* bits of INFO's features */

/* The arena between guards that nothing may write. */
static struct {
    uint8_t before[EMBBERT_ARENA_ALIGN];
    uint8_t arena[EMBBERT_ARENA_BYTES];
    uint8_t after[EMBBERT_ARENA_ALIGN];
} memory __attribute__((aligned(EMBBERT_ARENA_ALIGN), section(".bss.embbert_arena"))); /* device/linker.py */
static int32_t ids[EMBBERT_MAX_LENGTH];
static float logits[EMBBERT_CLASSES];
static embbert_t model;

static request_t request; /* in hand; server_fault() needs it too */

void server_fault(uint32_t status, uint32_t address)
{
    reply_fault(&request, status, address);
    for (;;) {
    }
}

static void answer_info(void)
{
    if (request.length != 0) {
        reply_error(&request, ERROR_LENGTH);
        return;
    }
    uint8_t features = 0;
#ifdef EMBBERT_PROFILE
    features |= FEATURE_PROFILE;
#endif
    reply_begin(&request, 20);
    put_u16(EMBBERT_MAX_LENGTH);
    put_u16(EMBBERT_CLASSES);
    put_u32(EMBBERT_VOCABULARY);
    put_u32(EMBBERT_ARENA_BYTES);
    put_u32(EMBBERT_HASH);
    put_u16(PAYLOAD_MAX);
    put_u8(port_ticks_are());
    put_u8(features);
    reply_end();
}

typedef struct {
    embbert_status_t status;
    uint64_t ticks;
} outcome_t;

/* Run the model on n token ids, two bytes each. */
static outcome_t run(const uint8_t *packed, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ids[i] = get_u16(packed + 2 * i);
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
    outcome_t outcome = run(request.payload, request.length / 2u);
    uint32_t stack = port_stack_used();
    if (stack == PORT_STACK_OVER) {
        reply_error(&request, ERROR_STACK);
        return;
    }
    reply_begin(&request, (uint16_t)(12u + 4u * EMBBERT_CLASSES));
    put_u8((uint8_t)outcome.status);
    put_u8(0);
    put_u16((uint16_t)(stack > 0xFFFFu ? 0xFFFFu : stack));
    put_u64(outcome.ticks);
    for (size_t i = 0; i < EMBBERT_CLASSES; i++)
        put_u32(logit_bits(i));
    reply_end();
}

/* ---- self-test: the same ids twice, each time over an arena full of something else ---- */

enum { WRONG_LOGITS = 1, WRONG_GUARD = 2 };

/* CRC of the logits of a run over an arena full of `paint`. Raises *used to the highest byte of the arena that was
   changed, sets bits of *wrong. */
static uint32_t painted_run(uint8_t paint, embbert_status_t *status, uint32_t *used, uint8_t *wrong)
{
    memset(&memory, paint, sizeof memory);
    *status = run(request.payload, request.length / 2u).status;
    uint32_t top = EMBBERT_ARENA_BYTES;
    while (top > *used && memory.arena[top - 1u] == paint)
        top--;
    *used = top;
    for (size_t i = 0; i < EMBBERT_ARENA_ALIGN; i++) {
        if (memory.before[i] != paint || memory.after[i] != paint)
            *wrong |= WRONG_GUARD;
    }
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < EMBBERT_CLASSES; i++) {
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
    uint32_t stack = port_stack_used();
    if (stack == PORT_STACK_OVER) {
        reply_error(&request, ERROR_STACK);
        return;
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
}

static void answer_profile(void)
{
    memset(step_ticks, 0, sizeof step_ticks);
    outcome_t outcome = run(request.payload, request.length / 2u);
    reply_begin(&request, (uint16_t)(4u + 8u * EMBBERT_PROFILE));
    put_u8((uint8_t)outcome.status);
    put_u8(0);
    put_u16(EMBBERT_PROFILE);
    for (size_t i = 0; i < EMBBERT_PROFILE; i++)
        put_u64(step_ticks[i]);
    reply_end();
}

#endif

/* Answer requests whose payload is token ids. */
static void answer_ids(void (*answer)(void))
{
    if (request.length % 2u != 0 || request.length > 2u * EMBBERT_MAX_LENGTH)
        reply_error(&request, ERROR_LENGTH);
    else
        answer();
}

int main(void)
{
    port_init();
    if (embbert_init(&model, memory.arena, sizeof memory.arena) != EMBBERT_OK)
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
#ifdef EMBBERT_PROFILE
        case PROFILE:
            answer_ids(answer_profile);
            break;
#endif
        default:
            reply_error(&request, ERROR_TYPE);
        }
    }
}
