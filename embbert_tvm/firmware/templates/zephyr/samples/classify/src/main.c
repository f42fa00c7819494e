/* SPDX-License-Identifier: Apache-2.0 */
/* Classifies one text and prints its label on the console. */

#include <string.h>

#include <zephyr/kernel.h>

#include "@prefix@.h"

static uint8_t arena[@upper@_ARENA_BYTES] __attribute__((aligned(@upper@_ARENA_ALIGN)));
static @prefix@_t model;

int main(void)
{
    size_t label = 0;
    if (@prefix@_init(&model, arena, sizeof arena@blob@) != @upper@_OK) {
        printk("the model refused its arena\n");
        return 1;
    }
#if @upper@_HAS_TOKENIZER
    static const char text[] = "@text@";
    static @prefix@_result_t result;
    @prefix@_status_t status = @prefix@_classify(&model, text, strlen(text), &result);
    label = result.label;
#else /* the package takes token ids alone: those of one of its reference vectors */
    static const int32_t ids[] = {@ids@};
    static float logits[@upper@_CLASSES];
    @prefix@_status_t status = @prefix@_run(&model, ids, sizeof ids / sizeof ids[0], logits);
    for (size_t i = 1; i < @upper@_CLASSES; i++) {
        if (logits[i] > logits[label])
            label = i;
    }
#endif
    if (status != @upper@_OK) {
        printk("the model refused: status %d\n", (int)status);
        return 1;
    }
    const char *name = @prefix@_label(@of_model@label);
    printk("label: %s\n", name ? name : "(none)");
    return 0;
}
