/* SPDX-License-Identifier: Apache-2.0 */
/* What generated and shipped C use of <string.h>, for toolchains that come without a C library. */
#ifndef EMBBERT_STRING_H
#define EMBBERT_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *text);

#endif
