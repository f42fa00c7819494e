/* SPDX-License-Identifier: Apache-2.0 */
/* Classifies one text, prints its label, or a label a token, and what it took. */

#include <inttypes.h>
#include <stdio.h>

#include "esp_timer.h"

#include "@prefix@.h"
#include "classify.h"

static uint8_t arena[@upper@_ARENA_BYTES] __attribute__((aligned(@upper@_ARENA_ALIGN)));
static @prefix@_t model;

void app_main(void)
{
    size_t count = 0;
    if (@prefix@_init(&model, arena, sizeof arena@blob@) != @upper@_OK) {
        printf("the model refused its arena\n");
        return;
    }
    int64_t start = esp_timer_get_time();
    @prefix@_status_t status = classify(&model, &count);
    int64_t microseconds = esp_timer_get_time() - start;
    if (status != @upper@_OK) {
        printf("%s\n", @prefix@_status_text(status));
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const char *name = @prefix@_label(@of_model@labels[i]);
        printf("label: %s\n", name ? name : "(none)");
    }
    printf("took %" PRId64 " us\n", microseconds);
}
