/* SPDX-License-Identifier: Apache-2.0 */
/* Classifies one text, prints its label and what it took. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "esp_timer.h"

#include "@prefix@.h"

static uint8_t arena[@upper@_ARENA_BYTES] __attribute__((aligned(@upper@_ARENA_ALIGN)));
static @prefix@_t model;

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
    *label = 0;
    for (size_t i = 1; i < @upper@_CLASSES; i++) {
        if (logits[i] > logits[*label])
            *label = i;
    }
    return status;
}

#endif

void app_main(void)
{
    size_t label = 0;
    if (@prefix@_init(&model, arena, sizeof arena) != @upper@_OK) {
        printf("the model refused its arena\n");
        return;
    }
    int64_t start = esp_timer_get_time();
    @prefix@_status_t status = classify(&label);
    int64_t microseconds = esp_timer_get_time() - start;
    if (status != @upper@_OK) {
        printf("%s\n", @prefix@_status_text(status));
        return;
    }
    const char *name = @prefix@_label(label);
    printf("label: %s\n", name ? name : "(none)");
    printf("took %" PRId64 " us\n", microseconds);
}
