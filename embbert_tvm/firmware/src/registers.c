/* SPDX-License-Identifier: Apache-2.0 */
/* Register steps. Nothing here needs memory that is initialized: it runs before that. */

#include "registers.h"

/* Reads before a wait is given up: 30 ms and more at the clocks that processors start with. A crystal oscillator takes
   two or three. */
enum { PATIENCE = 200000 };

static int reads_as(const register_step_t *step)
{
    for (uint32_t i = 0; i < PATIENCE; i++) {
        if ((register_read_sized(step->address, step->bytes) & step->wait) == step->set)
            return 1;
    }
    return 0;
}

int registers_apply(const register_step_t *steps, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const register_step_t *step = &steps[i];
        uint32_t reads = step->reads;
        if (step->wait != 0) {
            if (!reads_as(step))
                return 0;
        } else if (step->clear == 0xFFFFFFFFu) {
            register_write_sized(step->address, step->set, step->bytes);
        } else {
            const uint32_t value = register_read_sized(step->address, step->bytes);
            register_write_sized(step->address, (value & ~step->clear) | step->set, step->bytes);
            reads++; /* the clock of a peripheral is on once its register reads so */
        }
        while (reads-- > 0)
            (void)register_read_sized(step->address, step->bytes);
    }
    return 1;
}
