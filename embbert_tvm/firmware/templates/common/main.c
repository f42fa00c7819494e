/* SPDX-License-Identifier: Apache-2.0 */
/* Classifies one text and prints its label, or a label a token, to the debugger. */

#include "@prefix@.h"
#include "classify.h"
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

int main(void)
{
    size_t count = 0;
    if (@prefix@_init(&model, arena, sizeof arena@blob@) != @upper@_OK || classify(&model, &count) != @upper@_OK) {
        semihosting_write("the model refused\n");
        semihosting_exit(0);
    }
    for (size_t i = 0; i < count; i++) {
        const char *name = @prefix@_label(@of_model@labels[i]);
        semihosting_write(name ? name : "done");
        semihosting_write("\n");
    }
    semihosting_exit(1);
    return 0;
}
