/* SPDX-License-Identifier: Apache-2.0 */
/* What a board's file says of its start: clock, watchdog, reset, and words for its boot ROM. */

#include "board.h"
#include "registers.h"
#include "start.h"

#ifdef BOARD_IMAGE_BLOCK /* the linker script puts it near the start of the image */
__attribute__((section(".image_block"), used)) static const uint32_t image_block[] = {BOARD_IMAGE_BLOCK};
#endif

static uint32_t clock_hz;

void Reset_Handler(void);

int board_prepare(void)
{
#ifdef BOARD_START
    static const register_step_t steps[] = {BOARD_START};
    return registers_apply(steps, sizeof steps / sizeof steps[0]);
#else
    return 1;
#endif
}

void board_prepared(int done) { clock_hz = done ? BOARD_CLOCK_HZ : BOARD_RESET_CLOCK_HZ; }

uint32_t board_clock_hz(void) { return clock_hz; }

void watchdog_start(void)
{
#ifdef BOARD_WATCHDOG_START
    static const register_step_t steps[] = {BOARD_WATCHDOG_START};
    (void)registers_apply(steps, sizeof steps / sizeof steps[0]);
#endif
}

void watchdog_feed(void)
{
#ifdef BOARD_WATCHDOG_FEED
    static const register_step_t steps[] = {BOARD_WATCHDOG_FEED};
    (void)registers_apply(steps, sizeof steps / sizeof steps[0]);
#endif
}

void restart(void)
{
#ifdef BOARD_RESET
    static const register_step_t steps[] = {BOARD_RESET};
    (void)registers_apply(steps, sizeof steps / sizeof steps[0]);
#elif defined(__arm__)
    __asm__ volatile("dsb" ::: "memory");
    register_write(0xE000ED0Cu, 0x05FA0004u); /* AIRCR: SYSRESETREQ */
#else
    Reset_Handler();
#endif
    for (;;) {
    }
}
