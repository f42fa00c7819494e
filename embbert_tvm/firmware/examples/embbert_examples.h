/* SPDX-License-Identifier: Apache-2.0 */
/* Intents by example: names, each with the direction of the vectors that were added under it, in the caller's memory.
 *
 *     static embbert_example_t entries[200];
 *     embbert_examples_t store = {entries, 200, 0};
 *     embbert_embed(&model, text, strlen(text), vector, &truncated);
 *     embbert_examples_add(&store, "lights_party", vector);
 *     ...
 *     found = embbert_examples_nearest(&store, vector, 0.6f);
 *     if (found.entry != NULL) ... found.entry->name, found.cosine
 *
 * A vector is EMBBERT_EXAMPLES_WIDTH floats of any length, no NaN. It is kept in four bits a number: 152 bytes an entry
 * with the width of 240. C99, no allocation, no state but the caller's, no library but memcpy, memcmp, memset, memmove. */
#ifndef EMBBERT_EXAMPLES_H
#define EMBBERT_EXAMPLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef EMBBERT_EXAMPLES_WIDTH
#define EMBBERT_EXAMPLES_WIDTH 240
#endif
#define EMBBERT_EXAMPLES_WORDS ((EMBBERT_EXAMPLES_WIDTH + 7) / 8) /* of eight numbers, the first in the lowest bits */
#define EMBBERT_EXAMPLES_NAME 22                                  /* bytes of a name, with the NUL that ends it */
#define EMBBERT_EXAMPLES_ENTRY (EMBBERT_EXAMPLES_NAME + 2 + 4 + 4 * EMBBERT_EXAMPLES_WORDS) /* bytes of one in a blob */
#define EMBBERT_EXAMPLES_BLOB(count) (12u + (size_t)(count) * EMBBERT_EXAMPLES_ENTRY + 4u)

/* The sum of the unit vectors of a name is scale * vector, whose numbers are 8 less than the words' fours of bits, -7 to
 * 7. A sum longer than 6 is made 6 long before the next is added, so that what is added last is always heard. */
typedef struct {
    char name[EMBBERT_EXAMPLES_NAME]; /* UTF-8, NUL behind it */
    uint16_t count;                   /* of vectors that were added */
    float scale;
    float inverse_length; /* of vector */
    uint32_t words[EMBBERT_EXAMPLES_WORDS];
} embbert_example_t;

typedef struct {
    embbert_example_t *entries;
    size_t room, count;
} embbert_examples_t;

typedef enum {
    EMBBERT_EXAMPLES_OK = 0,
    EMBBERT_EXAMPLES_E_NAME,   /* a name is empty or too long; of `forget`: it is not there */
    EMBBERT_EXAMPLES_E_ROOM,   /* the store, or the caller's buffer, is too small */
    EMBBERT_EXAMPLES_E_VECTOR, /* a vector of zeros, or of what is no number */
    EMBBERT_EXAMPLES_E_BLOB    /* no blob of this version and width, or a damaged one */
} embbert_examples_status_t;

typedef struct {
    const embbert_example_t *entry; /* NULL where none is as near as was asked */
    float cosine;                   /* of the nearest, even then; -1 of an empty store */
} embbert_nearest_t;

/* Add a vector under a name, a new one or one that is there. */
embbert_examples_status_t embbert_examples_add(embbert_examples_t *store, const char *name, const float *vector);

/* Take a name away with all that was added under it. */
embbert_examples_status_t embbert_examples_forget(embbert_examples_t *store, const char *name);

/* The entry of the largest cosine, the first of equals, where that is `threshold` or more. */
embbert_nearest_t embbert_examples_nearest(const embbert_examples_t *store, const float *vector, float threshold);

/* The store as one blob of EMBBERT_EXAMPLES_BLOB(store->count) bytes, for flash; the same bytes on every machine. */
embbert_examples_status_t embbert_examples_save(const embbert_examples_t *store, uint8_t *blob, size_t bytes);

/* Read a blob into a store, all of it or, with an error, nothing. */
embbert_examples_status_t embbert_examples_load(embbert_examples_t *store, const uint8_t *blob, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
