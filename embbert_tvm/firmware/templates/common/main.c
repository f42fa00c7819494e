/* SPDX-License-Identifier: Apache-2.0 */
/* Classifies one text and prints its label to the debugger. */

#include <string.h>

#include "@prefix@.h"
#include "semihosting.h"
#include "start.h"

/* The linker script knows the section: the arena may lie in a RAM of its own. */
static uint8_t arena[@upper@_ARENA_BYTES]
    __attribute__((aligned(@upper@_ARENA_ALIGN), section(".bss.embbert_arena")));
static @prefix@_t model;

void server_fault(uint32_t status, uint32_t address)
{
    (void)status;
    (void)address;
    semihosting_write("fault\n");
    semihosting_exit(0);
}

#if @upper@_HAS_TOKENIZER

static @prefix@_status_t classify(size_t *label)
{
    static const char text[] = "@text@";
    static @prefix@_result_t result;
    @prefix@_status_t status = @prefix@_classify(&model, text, strlen(text), &result);
    *label = result.label;
    return status;
}

#else /* the package takes token ids alone: those of one of its reference vectors */

static @prefix@_status_t classify(size_t *label)
{
    static const int32_t ids[] = {@ids@};
    static float logits[@upper@_CLASSES];
    @prefix@_status_t status = @prefix@_run(&model, ids, sizeof ids / sizeof ids[0], logits);
    for (size_t i = 1; i < @upper@_CLASSES; i++) {
        if (logits[i] > logits[*label])
            *label = i;
    }
    return status;
}

#endif

int main(void)
{
    size_t label = 0;
    if (@prefix@_init(&model, arena, sizeof arena) != @upper@_OK || classify(&label) != @upper@_OK) {
        semihosting_write("the model refused\n");
        semihosting_exit(0);
    }
    const char *name = @prefix@_label(label);
    semihosting_write(name ? name : "done");
    semihosting_write("\n");
    semihosting_exit(1);
    return 0;
}
