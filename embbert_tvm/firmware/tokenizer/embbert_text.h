/* The tokenizer's state, and what all its parts use: units, and the writing of ids.
 *
 * <prefix>_tokenizer.c includes the headers that its tokenizer needs, behind the tables that `compile` made of
 * tokenizer.json (docs/tokenizer.md). All functions are static, so that packages of several prefixes link. No heap, no
 * state but the caller's.
 *
 *   TOKENIZER_WINDOW_BYTES   of the memory that the caller gives
 *   TOKENIZER_STATE          fields of tokenizer_t that the stages of this tokenizer have
 *   tokenizer_symbol_t       holds a token id, or TOKENIZER_NONE
 *   TOKENIZER_OFFSETS        where in the text each token stands is told, too
 *   TOKENIZER_PLACES_AT      where in the window the places of a word's symbols lie
 *   TOKENIZER_TRIMS          spaces at a token's ends are not of its place; 2: but the first of a text is
 *
 * Places are the library's, to its least rule, so that both can be compared. */
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

#if TOKENIZER_OFFSETS
/* The bytes of the caller's text that a character or a token came from. */
typedef struct {
    uint16_t begin, end;
} place_t;

/* The place of two that follow one another. */
static inline place_t join_places(place_t left, place_t right)
{
#if TOKENIZER_TRIMS
    if (left.begin > left.end) { /* a space that was put there, which takes a byte away from what follows */
        left.end = left.begin < right.end ? right.end : left.begin;
        return left;
    }
    if (left.begin == left.end) {
        return right;
    }
    if (right.begin == right.end) {
        return left;
    }
#endif
    place_t both = {left.begin, right.end};
    return both;
}

/* A stage that holds characters back keeps their places with them; t->place is that of what is given on. */
#define PLACES(name) place_t name;
#define KEEP_PLACE(kept) ((kept) = t->place)
#define SET_PLACE(kept) (t->place = (kept))
#define WRITE_ID(t, id, place) write_id(t, id, place)
#define PLACE_PARAMETER , place_t place
#else
#define PLACES(name)
#define KEEP_PLACE(kept) ((void)0)
#define SET_PLACE(kept) ((void)0)
#define WRITE_ID(t, id, place) write_id(t, id)
#define PLACE_PARAMETER
#endif

/* Combining marks that follow one another, sorted by class, which is their unit's kind. */
typedef struct {
    uint32_t units[TOKENIZER_MARKS];
    uint32_t n;
    PLACES(places[TOKENIZER_MARKS])
} marks_t;

/* White space that is held back: runs of one character each. */
typedef struct {
    uint32_t units[TOKENIZER_RUNS];
    uint32_t counts[TOKENIZER_RUNS];
    uint32_t n;
    PLACES(places[TOKENIZER_RUNS]) /* of the first of a run; the others follow it at once, as long as it is */
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
#if TOKENIZER_OFFSETS
    const uint8_t *start;    /* of the text */
    uint16_t *begins, *ends; /* of the ids; NULL where nobody wants them */
#endif
    PLACES(place)
    TOKENIZER_STATE
} tokenizer_t;

static void write_id(tokenizer_t *t, uint32_t id PLACE_PARAMETER)
{
    if (t->count < t->room) {
        t->ids[t->count] = (int32_t)id;
#if TOKENIZER_OFFSETS
#if TOKENIZER_TRIMS
        place.end = place.end < place.begin ? place.begin : place.end;
#endif
#if TOKENIZER_TRIMS == 2
        if (t->count == 0 && t->first_is_blank) {
            place.end = place.begin == place.end ? (uint16_t)(place.end - 1u) : place.end;
            place.begin--;
        }
#endif
        if (t->begins != NULL) {
            t->begins[t->count] = place.begin;
            t->ends[t->count] = place.end;
        }
#endif
    } else if (!t->counts_on) {
        t->end = TOKENIZER_FULL;
        return;
    }
    t->count++;
}

#if TOKENIZER_OFFSETS
/* The last token that was written reaches to where t->place ends. */
static inline void extend_token(const tokenizer_t *t)
{
    if (t->begins != NULL && t->count > 0 && t->count <= t->room) {
        t->ends[t->count - 1] = t->place.end;
    }
}
#endif

#if TOKENIZER_OFFSETS
/* Whether what is given on follows the last run at once, and is as long as each of its characters. */
static inline bool follows_run(const tokenizer_t *t, const held_t *held)
{
    place_t first = held->places[held->n - 1];
    uint32_t size = (uint32_t)(first.end - first.begin);
    return t->place.begin == first.begin + size * held->counts[held->n - 1] && t->place.end == t->place.begin + size;
}
#endif

/* Hold one more; false: there is no room for another run. */
static inline bool hold(const tokenizer_t *t, held_t *held, uint32_t unit)
{
    bool same = held->n > 0 && held->units[held->n - 1] == unit;
#if TOKENIZER_OFFSETS
    same = same && follows_run(t, held);
#else
    (void)t;
#endif
    if (same) {
        held->counts[held->n - 1]++;
        return true;
    }
    if (held->n == TOKENIZER_RUNS) {
        return false;
    }
    KEEP_PLACE(held->places[held->n]);
    held->units[held->n] = unit;
    held->counts[held->n++] = 1;
    return true;
}

/* Take the first that is held, of which there must be one. */
static inline uint32_t release(tokenizer_t *t, held_t *held)
{
    uint32_t unit = held->units[0];
    SET_PLACE(held->places[0]);
#if TOKENIZER_OFFSETS
    held->places[0].begin = t->place.end;
    held->places[0].end = (uint16_t)(2u * t->place.end - t->place.begin);
#else
    (void)t;
#endif
    if (--held->counts[0] == 0) {
        held->n--;
        for (uint32_t i = 0; i < held->n; i++) {
            held->units[i] = held->units[i + 1];
            held->counts[i] = held->counts[i + 1];
#if TOKENIZER_OFFSETS
            held->places[i] = held->places[i + 1];
#endif
        }
    }
    return unit;
}

/* Keep a mark behind those of its class or a lower one; false: there are too many. */
static inline bool keep_mark(const tokenizer_t *t, marks_t *marks, uint32_t unit)
{
    (void)t;
    if (marks->n == TOKENIZER_MARKS) {
        return false;
    }
    uint32_t at = marks->n++;
    while (at > 0 && UNIT_KIND(marks->units[at - 1]) > UNIT_KIND(unit)) {
        marks->units[at] = marks->units[at - 1];
#if TOKENIZER_OFFSETS
        marks->places[at] = marks->places[at - 1];
#endif
        at--;
    }
    KEEP_PLACE(marks->places[at]);
    marks->units[at] = unit;
    return true;
}

#endif
