/* llama-3's words, by one unit after the other (embbert_pattern.h), numbers in words of TOKENIZER_DIGITS at most:
 *     (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}
 *     | ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
#ifndef EMBBERT_LLAMA3_H
#define EMBBERT_LLAMA3_H

#include "embbert_pattern.h"

enum { /* what the text is in */
    IN_NOTHING,
    IN_LETTERS,
    IN_NUMBERS,
    IN_OTHERS,
    IN_OTHERS_NEWLINES, /* behind which are newlines */
    IN_SPACES,          /* those behind the last newline are held */
    IN_OTHER,           /* one that begins a word is held */
    IN_APOSTROPHE,
    IN_APOSTROPHE_LETTER /* as is the letter behind it, r, v or l */
};

/* Begin a word. */
static void begin_pattern(tokenizer_t *t, uint32_t unit, uint32_t class)
{
    t->newline = false;
    t->numbers = 1;
    hold_unit(t, unit);
    if (is_space(class)) {
        t->within = IN_SPACES;
        t->newline = is_newline(class);
        if (!t->newline) {
            hold(t, &t->spaces, unit);
            return;
        }
    } else if (is_other(class)) {
        t->within = class == CLASS_APOSTROPHE ? IN_APOSTROPHE : IN_OTHER;
        return;
    } else {
        t->within = is_letter(class) ? IN_LETTERS : IN_NUMBERS;
    }
    PATTERN_PUT(t, unit);
}

/* Put all that is held but the last `kept`, and end the word before those. */
static void put_spaces(tokenizer_t *t, uint32_t kept)
{
    PLACES(here)
    KEEP_PLACE(here);
    while (t->spaces.n > kept || (t->spaces.n > 0 && t->spaces.counts[t->spaces.n - 1] > kept)) {
        uint32_t unit = release(t, &t->spaces);
        PATTERN_PUT(t, unit);
    }
    SET_PLACE(here);
}

/* Take one more in white space; false: the white space is over, and the unit begins a word. */
static bool space_pattern(tokenizer_t *t, uint32_t unit, uint32_t class)
{
    if (is_newline(class)) {
        put_spaces(t, 0);
        PATTERN_PUT(t, unit);
        t->newline = true;
        return true;
    }
    if (is_space(class)) {
        if (!hold(t, &t->spaces, unit)) {
            t->end = TOKENIZER_LOST;
        }
        return true;
    }
    if (t->newline) {
        PATTERN_END(t);
    }
    if (t->spaces.n == 0) {
        return false;
    }
    put_spaces(t, 1);
    PATTERN_END(t);
    PLACES(here)
    KEEP_PLACE(here);
    uint32_t last = release(t, &t->spaces);
    bool blank = pattern_class(UNIT_KIND(last)) == CLASS_BLANK;
    PATTERN_PUT(t, last);
    SET_PLACE(here);
    if (!is_letter(class) && !(blank && is_other(class))) {
        return false;
    }
    PATTERN_PUT(t, unit);
    t->within = is_letter(class) ? IN_LETTERS : IN_OTHERS;
    return true;
}

/* Take one more behind an apostrophe that begins a word; false: both are no contraction. */
static bool apostrophe_pattern(tokenizer_t *t, uint32_t unit, uint32_t class)
{
    if (t->within == IN_APOSTROPHE) {
        if (class == CLASS_R || class == CLASS_V || class == CLASS_L) {
            t->within = IN_APOSTROPHE_LETTER;
            hold_letter(t, unit);
            return true;
        }
        if (class != CLASS_STMD) {
            t->within = IN_OTHER;
            return false;
        }
    }
    put_held(t);
    if (t->within == IN_APOSTROPHE_LETTER) {
        put_letter(t);
        if (!is_contraction(pattern_class(UNIT_KIND(t->held_letter)), class)) {
            t->within = IN_LETTERS;
            return false;
        }
    }
    PATTERN_PUT(t, unit);
    PATTERN_END(t);
    t->within = IN_NOTHING;
    return true;
}

static void split_pattern(tokenizer_t *t, uint32_t unit)
{
    uint32_t class = pattern_class(UNIT_KIND(unit));
    if (t->within >= IN_APOSTROPHE && apostrophe_pattern(t, unit, class)) {
        return;
    }
    bool goes_on = false;
    switch (t->within) {
    case IN_LETTERS:
        goes_on = is_letter(class);
        break;
    case IN_NUMBERS:
        goes_on = class == CLASS_NUMBER && t->numbers++ < TOKENIZER_DIGITS;
        break;
    case IN_OTHER:
        put_held(t);
        goes_on = is_letter(class) || is_other(class) || is_newline(class);
        t->within = is_letter(class) ? IN_LETTERS : is_newline(class) ? IN_OTHERS_NEWLINES : IN_OTHERS;
        break;
    case IN_OTHERS:
        goes_on = is_other(class) || is_newline(class);
        t->within = is_newline(class) ? IN_OTHERS_NEWLINES : IN_OTHERS;
        break;
    case IN_OTHERS_NEWLINES:
        goes_on = is_newline(class);
        break;
    case IN_SPACES:
        if (space_pattern(t, unit, class)) {
            return;
        }
        break;
    default:
        break;
    }
    if (goes_on) {
        PATTERN_PUT(t, unit);
        return;
    }
    PATTERN_END(t);
    begin_pattern(t, unit, class);
}

static void split_pattern_end(tokenizer_t *t)
{
    if (t->within == IN_SPACES) {
        if (t->newline) {
            PATTERN_END(t);
        }
        put_spaces(t, 0);
    } else if (t->within >= IN_OTHER) {
        put_held(t);
        if (t->within == IN_APOSTROPHE_LETTER) {
            put_letter(t);
        }
    }
    PATTERN_END(t);
    t->within = IN_NOTHING;
}

#endif
