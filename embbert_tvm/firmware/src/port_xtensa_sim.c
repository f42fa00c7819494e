/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes over the console of Xtensa's simulator, which QEMU's `sim` machine offers by SIMCALL. */

#include "port.h"

enum { CALL_READ = 3, CALL_WRITE = 4, CALL_SELECT_ONE = 29 };
enum { STDIN = 0, STDOUT = 1, TO_READ = 1 };

static int simcall(int call, int a, int b, int c)
{
    register int a2 __asm__("a2") = call;
    register int a3 __asm__("a3") = a;
    register int a4 __asm__("a4") = b;
    register int a5 __asm__("a5") = c;
    __asm__ volatile("simcall" : "+r"(a2), "+r"(a3) : "r"(a4), "r"(a5) : "memory");
    return a2;
}

void port_init(void) {}

int port_ready(void)
{
    static const int at_once[2]; /* seconds, microseconds */
    return simcall(CALL_SELECT_ONE, STDIN, TO_READ, (int)(uintptr_t)at_once) > 0;
}

uint8_t port_read(void)
{
    uint8_t byte;
    while (!port_ready()) {
    }
    (void)simcall(CALL_READ, STDIN, (int)(uintptr_t)&byte, 1);
    return byte;
}

void port_write(uint8_t byte) { (void)simcall(CALL_WRITE, STDOUT, (int)(uintptr_t)&byte, 1); }

void port_flush(void) {}
