/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes and strings. Words at a time where both ends allow it. */

#include <stdint.h>
#include <string.h>

typedef uint32_t __attribute__((may_alias)) word_t;

/* Else the compiler would make calls of the functions out of their own loops. */
#define AS_WRITTEN __attribute__((optimize("no-tree-loop-distribute-patterns")))

AS_WRITTEN void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if ((((uintptr_t)t | (uintptr_t)f) & 3u) == 0) {
        for (; n >= 4u; n -= 4u, t += 4, f += 4)
            *(word_t *)(void *)t = *(const word_t *)(const void *)f;
    }
    while (n-- > 0)
        *t++ = *f++;
    return to;
}

AS_WRITTEN void *memmove(void *to, const void *from, size_t n)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if ((uintptr_t)t - (uintptr_t)f >= n)
        return memcpy(to, from, n);
    while (n-- > 0)
        t[n] = f[n];
    return to;
}

AS_WRITTEN void *memset(void *to, int value, size_t n)
{
    uint8_t *t = to;
    const word_t word = 0x01010101u * (uint8_t)value;
    for (; n > 0 && ((uintptr_t)t & 3u) != 0; n--)
        *t++ = (uint8_t)value;
    for (; n >= 4u; n -= 4u, t += 4)
        *(word_t *)(void *)t = word;
    while (n-- > 0)
        *t++ = (uint8_t)value;
    return to;
}

AS_WRITTEN int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;
    for (; n > 0; n--, x++, y++) {
        if (*x != *y)
            return *x < *y ? -1 : 1;
    }
    return 0;
}

AS_WRITTEN size_t strlen(const char *text)
{
    const char *end = text;
    while (*end != 0)
        end++;
    return (size_t)(end - text);
}
