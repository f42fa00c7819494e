/* What the regular expressions of GPT-2 and llama-3 tell apart, in the order of their classes.
 *
 *   pattern_class(kind)           the class of a unit's kind
 *   PATTERN_PUT(t, unit), PATTERN_END(t)   give the word a unit; end it, if it has any */
#ifndef EMBBERT_PATTERN_H
#define EMBBERT_PATTERN_H

#include "embbert_text.h"

enum {
    CLASS_BLANK, /* the space itself */
    CLASS_NEWLINE,
    CLASS_SPACE, /* other white space */
    CLASS_OTHER,
    CLASS_APOSTROPHE,
    CLASS_NUMBER,
    CLASS_LETTER,
    CLASS_STMD, /* 's 't 'm 'd are words */
    CLASS_R,    /* as are 're 've 'll */
    CLASS_V,
    CLASS_L,
    CLASS_E
};

/* Keep a unit, and the letter behind it, back. */
static inline void hold_unit(tokenizer_t *t, uint32_t unit)
{
    t->held_unit = unit;
    KEEP_PLACE(t->held_place);
}

static inline void hold_letter(tokenizer_t *t, uint32_t unit)
{
    t->held_letter = unit;
    KEEP_PLACE(t->letter_place);
}

static inline void put_held(tokenizer_t *t)
{
    PLACES(here)
    KEEP_PLACE(here);
    SET_PLACE(t->held_place);
    PATTERN_PUT(t, t->held_unit);
    SET_PLACE(here);
}

static inline void put_letter(tokenizer_t *t)
{
    PLACES(here)
    KEEP_PLACE(here);
    SET_PLACE(t->letter_place);
    PATTERN_PUT(t, t->held_letter);
    SET_PLACE(here);
}

static inline bool is_space(uint32_t class)
{
    return class <= CLASS_SPACE;
}

static inline bool is_other(uint32_t class)
{
    return class == CLASS_OTHER || class == CLASS_APOSTROPHE;
}

static inline bool is_letter(uint32_t class)
{
    return class >= CLASS_LETTER;
}

static inline bool is_newline(uint32_t class)
{
    return class == CLASS_NEWLINE;
}

/* Whether an apostrophe and two letters are a word: 're 've 'll. */
static inline bool is_contraction(uint32_t first, uint32_t second)
{
    return first == CLASS_L ? second == CLASS_L : (first == CLASS_R || first == CLASS_V) && second == CLASS_E;
}

#endif
