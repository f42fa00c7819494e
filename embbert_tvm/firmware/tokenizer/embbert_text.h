/* The tokenizer's state, and what all its parts use: units, and the writing of ids.
 *
 * <prefix>_tokenizer.c includes the headers that its tokenizer needs, behind the tables that `compile` made of
 * tokenizer.json (docs/tokenizer.md). All functions are static, so that packages of several prefixes link. No heap, no
 * state but the caller's.
 *
 *   TOKENIZER_WINDOW_BYTES   of the memory that the caller gives
 *   TOKENIZER_STATE          fields of tokenizer_t that the stages of this tokenizer have
 *   tokenizer_symbol_t       holds a token id, or TOKENIZER_NONE */
#ifndef EMBBERT_TEXT_H
#define EMBBERT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A unit is a character as it leaves the normalizer: its value (22 bits: a symbol of the model or, with
 * TOKENIZER_RAW, a code point) and its kind (10 bits), which says where words are split. */
#define TOKENIZER_RAW 0x200000u
#define UNIT_POINT(unit) ((unit) & 0x1FFFFFu)
#define UNIT_VALUE(unit) ((unit) & 0x3FFFFFu)
#define UNIT_KIND(unit) ((unit) >> 22)

enum { TOKENIZER_MARKS = 32, TOKENIZER_RUNS = 16 };

/* Combining marks that follow one another, sorted by class, which is their unit's kind. */
typedef struct {
    uint32_t units[TOKENIZER_MARKS];
    uint32_t n;
} marks_t;

/* White space that is held back: runs of one character each. */
typedef struct {
    uint32_t units[TOKENIZER_RUNS];
    uint32_t counts[TOKENIZER_RUNS];
    uint32_t n;
} held_t;

typedef enum {
    TOKENIZER_DONE = 0,
    TOKENIZER_FULL, /* there are more tokens than room */
    TOKENIZER_LOST  /* a word or a run of marks whose tokens do not show in the window */
} tokenizer_end_t;

typedef struct {
    void *window; /* [TOKENIZER_WINDOW_BYTES] of a word, as the model lays it out */
    size_t n;     /* symbols of the word so far that are held there */
    int32_t *ids;
    size_t count, room; /* ids of the text, at most that are written */
    bool counts_on;     /* ids past the room are counted, and do not end the text */
    tokenizer_end_t end;
    TOKENIZER_STATE
} tokenizer_t;

static void write_id(tokenizer_t *t, uint32_t id)
{
    if (t->count < t->room) {
        t->ids[t->count] = (int32_t)id;
    } else if (!t->counts_on) {
        t->end = TOKENIZER_FULL;
        return;
    }
    t->count++;
}

/* Hold one more; false: there is no room for another run. */
static inline bool hold(held_t *held, uint32_t unit)
{
    if (held->n > 0 && held->units[held->n - 1] == unit) {
        held->counts[held->n - 1]++;
        return true;
    }
    if (held->n == TOKENIZER_RUNS) {
        return false;
    }
    held->units[held->n] = unit;
    held->counts[held->n++] = 1;
    return true;
}

/* Take the first that is held, of which there must be one. */
static inline uint32_t release(held_t *held)
{
    uint32_t unit = held->units[0];
    if (--held->counts[0] == 0) {
        held->n--;
        for (uint32_t i = 0; i < held->n; i++) {
            held->units[i] = held->units[i + 1];
            held->counts[i] = held->counts[i + 1];
        }
    }
    return unit;
}

/* Keep a mark behind those of its class or a lower one; false: there are too many. */
static inline bool keep_mark(marks_t *marks, uint32_t unit)
{
    if (marks->n == TOKENIZER_MARKS) {
        return false;
    }
    uint32_t at = marks->n++;
    while (at > 0 && UNIT_KIND(marks->units[at - 1]) > UNIT_KIND(unit)) {
        marks->units[at] = marks->units[at - 1];
        at--;
    }
    marks->units[at] = unit;
    return true;
}

#endif
