/* What the targets share: bytes of the fuzzer taken one after another, and an arena between guards. */
#ifndef FUZZ_COMMON_H
#define FUZZ_COMMON_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embbert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Calls over an arena whose guards were checked; drive.c prints it. */
static unsigned long long checked;

/* What must hold: the fuzzer keeps the input where it does not. */
#define REQUIRE(condition)                                                        \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "%s:%d: not %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                              \
        }                                                                         \
    } while (0)

typedef struct {
    const uint8_t *at, *end;
} input_t;

static inline uint8_t take(input_t *input) { return input->at < input->end ? *input->at++ : 0; }

static inline size_t left(const input_t *input) { return (size_t)(input->end - input->at); }

enum { GUARD = 64, GUARDED = 0xA5 };

static uint8_t memory[GUARD + EMBBERT_ARENA_BYTES + GUARD] __attribute__((aligned(64)));

/* A model over an arena full of `paint`. */
static inline embbert_t painted(uint8_t paint)
{
    embbert_t model;
    memset(memory, GUARDED, sizeof memory);
    memset(memory + GUARD, paint, EMBBERT_ARENA_BYTES);
    REQUIRE(embbert_init(&model, memory + GUARD, EMBBERT_ARENA_BYTES) == EMBBERT_OK);
    return model;
}

static inline void check_guards(void)
{
    checked++;
    for (size_t i = 0; i < GUARD; i++)
        REQUIRE(memory[i] == GUARDED && memory[GUARD + EMBBERT_ARENA_BYTES + i] == GUARDED);
}

/* A copy in memory of its own, so that a byte read past its end is seen. */
static inline void *copied(const void *from, size_t bytes)
{
    void *to = malloc(bytes ? bytes : 1);
    REQUIRE(to != NULL);
    if (bytes)
        memcpy(to, from, bytes);
    return to;
}

#endif
