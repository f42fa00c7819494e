/* SPDX-License-Identifier: Apache-2.0 */
/* Measures candidates of a kernel: each runs on the same inputs, and its outputs are compared with what they must be.
   A table that tuning/bench.py writes gives the candidates and the data. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "frames.h"
#include "port.h"
#include "tuning.h"

enum { TRIAL = 0x10, TRIAL_BYTES = 2 }; /* a request: the number of a candidate, two bytes */

uint8_t frame_buffer[FRAME_BYTES(TRIAL_BYTES)];
const size_t payload_max = TRIAL_BYTES;

static request_t request; /* in hand; server_fault() needs it too */

void server_fault(uint32_t status, uint32_t address)
{
    reply_fault(&request, status, address);
    port_flush();
    restart();
}

/* Cycles of the Cortex-M's trace unit, which is not there on every core and stands still in QEMU. */
#if defined(__ARM_ARCH) && __ARM_ARCH >= 7
#define DEMCR (*(volatile uint32_t *)0xE000EDFCu)
#define DWT_CTRL (*(volatile uint32_t *)0xE0001000u)
#define DWT_CYCCNT (*(volatile uint32_t *)0xE0001004u)

static void cycles_restart(void)
{
    DEMCR |= 1u << 24;
    DWT_CYCCNT = 0;
    DWT_CTRL |= 1u;
}

static uint32_t cycles(void) { return DWT_CYCCNT; }
#else
static void cycles_restart(void) { }
static uint32_t cycles(void) { return 0; }
#endif

/* How many elements of an output are none of what they must be. */
static uint32_t mismatches(const output_t *output)
{
    uint32_t wrong = 0;
    if (output->tolerance < 0.0f) {
        const uint8_t *got = output->got, *expected = output->expected;
        for (uint32_t i = 0; i < output->bytes; i++)
            wrong += got[i] != expected[i];
        return wrong;
    }
    const float *got = output->got, *expected = output->expected;
    for (uint32_t i = 0; i < output->bytes / 4u; i++) {
        float off = got[i] - expected[i], size = expected[i];
        off = off < 0.0f ? -off : off;
        size = size < 0.0f ? -size : size;
        if (!(off <= output->tolerance + output->relative * size)) /* so that NaN is wrong */
            wrong++;
    }
    return wrong;
}

static void answer_trial(void)
{
    if (request.length != 2 || get_u16(request.payload) >= task_candidates) {
        reply_error(&request, ERROR_LENGTH);
        return;
    }
    for (size_t i = 0; i < task_inputs; i++)
        memcpy(inputs[i].to, inputs[i].from, inputs[i].bytes);
    cycles_restart();
    port_ticks_restart();
    candidates[get_u16(request.payload)]();
    uint64_t ticks = port_ticks();
    uint32_t counted = cycles();
    uint32_t wrong = 0;
    for (size_t i = 0; i < task_outputs; i++)
        wrong += mismatches(&outputs[i]);
    if (port_stack_used() == PORT_STACK_OVER) {
        reply_error(&request, ERROR_STACK);
        return;
    }
    reply_begin(&request, 16);
    put_u32(wrong);
    put_u32(counted);
    put_u64(ticks);
    reply_end();
}

int main(void)
{
    port_init();
    for (;;) {
        request = next_request();
        if (request.type == TRIAL)
            answer_trial();
        else
            reply_error(&request, ERROR_TYPE);
    }
}
