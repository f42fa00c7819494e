/* SPDX-License-Identifier: Apache-2.0 */
/* Register steps. Nothing here needs memory that is initialized: it runs before that. */

#include "registers.h"

/* Reads before a wait is given up: 30 ms and more at the clocks that processors start with. A crystal oscillator takes
   two or three. */
enum { PATIENCE = 200000 };

static int reads_as(uint32_t address, uint32_t mask, uint32_t value)
{
    for (uint32_t i = 0; i < PATIENCE; i++) {
        if ((register_read(address) & mask) == value)
            return 1;
    }
    return 0;
}

int registers_apply(const register_step_t *steps, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const register_step_t *step = &steps[i];
        if (step->wait != 0) {
            if (!reads_as(step->address, step->wait, step->set))
                return 0;
        } else if (step->clear == 0xFFFFFFFFu) {
            register_write(step->address, step->set);
        } else {
            register_write(step->address, (register_read(step->address) & ~step->clear) | step->set);
            (void)register_read(step->address); /* the clock of a peripheral is on once it reads so */
        }
    }
    return 1;
}
