/* SPDX-License-Identifier: Apache-2.0 */
/* Classifies one text and prints its label, or a label a token, on the console. */

#include <zephyr/kernel.h>

#include "@prefix@.h"
#include "classify.h"

static uint8_t arena[@upper@_ARENA_BYTES] __attribute__((aligned(@upper@_ARENA_ALIGN)));
static @prefix@_t model;

int main(void)
{
    size_t count = 0;
    if (@prefix@_init(&model, arena, sizeof arena@blob@) != @upper@_OK) {
        printk("the model refused its arena\n");
        return 1;
    }
    @prefix@_status_t status = classify(&model, &count);
    if (status != @upper@_OK) {
        printk("the model refused: status %d\n", (int)status);
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        const char *name = @prefix@_label(@of_model@labels[i]);
        printk("label: %s\n", name ? name : "(none)");
    }
    return 0;
}
