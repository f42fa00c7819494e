/* SPDX-License-Identifier: Apache-2.0 */
/* What a tuning task gives to tuning.c. */
#ifndef EMBBERT_TUNING_H
#define EMBBERT_TUNING_H

#include <stddef.h>
#include <stdint.h>

/* Bytes that a kernel writes, as they are before each run. */
typedef struct {
    void *to;
    const void *from;
    uint32_t bytes;
} input_t;

/* Float32 within tolerance and `relative` of what is expected, or bytes that must be equal where tolerance is negative. */
typedef struct {
    const void *got, *expected;
    uint32_t bytes;
    float tolerance, relative;
} output_t;

extern const input_t inputs[];
extern const size_t task_inputs;
extern const output_t outputs[];
extern const size_t task_outputs;
extern void (*const candidates[])(void);
extern const size_t task_candidates;

#endif
