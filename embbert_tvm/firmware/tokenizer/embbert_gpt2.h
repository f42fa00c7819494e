/* GPT-2's words, by one unit after the other (embbert_pattern.h):
 *     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
#ifndef EMBBERT_GPT2_H
#define EMBBERT_GPT2_H

#include "embbert_pattern.h"

enum { /* what the text is in */
    IN_NOTHING,
    IN_SPACES, /* all but the last, which is held, are in the word */
    IN_LETTERS,
    IN_NUMBERS,
    IN_OTHERS,
    IN_APOSTROPHE,       /* one that begins a word is held */
    IN_APOSTROPHE_LETTER /* as is the letter behind it, r, v or l */
};

static inline uint8_t run_of(uint32_t class)
{
    return is_letter(class) ? IN_LETTERS : class == CLASS_NUMBER ? IN_NUMBERS : is_space(class) ? IN_SPACES : IN_OTHERS;
}

static void split_pattern(tokenizer_t *t, uint32_t unit)
{
    uint32_t class = pattern_class(UNIT_KIND(unit));
    for (;;) { /* until the unit is taken; each turn ends a word or takes it */
        uint32_t held = t->held_unit;
        if (t->within == IN_NOTHING) {
            t->within = class == CLASS_APOSTROPHE ? IN_APOSTROPHE : run_of(class);
            if (class == CLASS_APOSTROPHE || is_space(class)) {
                hold_unit(t, unit);
            } else {
                PATTERN_PUT(t, unit);
            }
            return;
        }
        if (t->within == IN_SPACES) {
            if (is_space(class)) {
                put_held(t);
                hold_unit(t, unit);
                return;
            }
            PATTERN_END(t);
            put_held(t);
            if (pattern_class(UNIT_KIND(held)) == CLASS_BLANK) {
                t->within = run_of(class);
                continue;
            }
        } else if (t->within == IN_APOSTROPHE) {
            if (class == CLASS_R || class == CLASS_V || class == CLASS_L) {
                t->within = IN_APOSTROPHE_LETTER;
                hold_letter(t, unit);
                return;
            }
            put_held(t);
            if (class != CLASS_STMD) {
                t->within = IN_OTHERS;
                continue;
            }
            PATTERN_PUT(t, unit);
            PATTERN_END(t);
            t->within = IN_NOTHING;
            return;
        } else if (t->within == IN_APOSTROPHE_LETTER) {
            put_held(t);
            if (is_contraction(pattern_class(UNIT_KIND(t->held_letter)), class)) {
                put_letter(t);
                PATTERN_PUT(t, unit);
                PATTERN_END(t);
                t->within = IN_NOTHING;
                return;
            }
            PATTERN_END(t);
            put_letter(t);
            t->within = IN_LETTERS;
            continue;
        } else if (t->within == run_of(class)) {
            PATTERN_PUT(t, unit);
            return;
        }
        PATTERN_END(t);
        t->within = IN_NOTHING;
    }
}

static void split_pattern_end(tokenizer_t *t)
{
    if (t->within == IN_SPACES) {
        put_held(t);
    } else if (t->within >= IN_APOSTROPHE) {
        put_held(t);
        if (t->within == IN_APOSTROPHE_LETTER) {
            PATTERN_END(t);
            put_letter(t);
        }
    }
    PATTERN_END(t);
    t->within = IN_NOTHING;
}

#endif
