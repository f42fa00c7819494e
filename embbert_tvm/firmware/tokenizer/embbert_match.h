/* Added tokens in the normalized text, of which there is no more than what passes: the longest of those that begin at
 * the first place where one does.
 *
 *   match_points, match_at   code points of the tokens, longer ones first; match_flags, match_ids, MATCH_TOKENS
 *   MATCH_LONGEST            of their lengths
 *   MATCH_PUT(t, c), MATCH_END(t)   give on a code point of the text between tokens; end that text */
#ifndef EMBBERT_MATCH_H
#define EMBBERT_MATCH_H

#include "embbert_added.h"

/* Whether token k is what the first characters ahead are. */
static bool match_is(const tokenizer_t *t, size_t k, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (i >= t->ahead_n || match_points[match_at[k] + i] != t->ahead[i]) {
            return false;
        }
    }
    return true;
}

/* Whether it counts there: one that is to be a word of its own may not be. */
static bool match_counts(const tokenizer_t *t, size_t k, size_t size)
{
#if TOKENIZER_SINGLE_WORDS
    if ((match_flags[k] & ADDED_SINGLE_WORD) &&
        (t->behind_is_word || (size < t->ahead_n && tokenizer_is_word(t->ahead[size])))) {
        return false;
    }
#else
    (void)t, (void)size;
#endif
    return !(match_flags[k] & ADDED_IS_TEXT);
}

static void match_drop(tokenizer_t *t, size_t n)
{
#if TOKENIZER_SINGLE_WORDS
    t->behind_is_word = tokenizer_is_word(t->ahead[n - 1]);
#endif
    t->ahead_n -= (uint32_t)n;
    for (size_t i = 0; i < t->ahead_n; i++) {
        t->ahead[i] = t->ahead[n + i];
#if TOKENIZER_OFFSETS
        t->ahead_places[i] = t->ahead_places[n + i];
#endif
    }
}

static void match_put_spaces(tokenizer_t *t)
{
    while (t->spaces_ahead.n > 0) {
        uint32_t c = release(t, &t->spaces_ahead);
        MATCH_PUT(t, c);
    }
}

/* Decide on the first character ahead: a token begins there, or it is text. */
static void match_first(tokenizer_t *t)
{
    for (size_t k = 0; k < MATCH_TOKENS && t->no_match == 0; k++) {
        size_t size = (size_t)(match_at[k + 1] - match_at[k]);
        if (!match_is(t, k, size)) {
            continue;
        }
        if (!match_counts(t, k, size)) {
            t->no_match = (uint32_t)size; /* none begins in a token that does not count */
            break;
        }
#if TOKENIZER_OFFSETS
        place_t place = {t->ahead_places[0].begin, t->ahead_places[size - 1].end};
        if ((match_flags[k] & ADDED_STRIPS_LEFT) && t->spaces_ahead.n > 0) {
#if TOKENIZER_TRIMS
            t->first_is_blank = t->count == 0 && t->spaces_ahead.n == 1 && t->spaces_ahead.counts[0] == 1;
#else
            place.begin = t->spaces_ahead.places[0].begin;
#endif
        }
#endif
        if (match_flags[k] & ADDED_STRIPS_LEFT) {
            t->spaces_ahead.n = 0;
        }
        match_put_spaces(t);
        MATCH_END(t);
        WRITE_ID(t, match_ids[k], place);
        t->strips = (match_flags[k] & ADDED_STRIPS_RIGHT) != 0;
        match_drop(t, size);
        return;
    }
    t->no_match -= t->no_match > 0 ? 1u : 0u;
    uint32_t c = t->ahead[0];
    PLACES(here)
    SET_PLACE(t->ahead_places[0]);
    KEEP_PLACE(here);
    match_drop(t, 1);
    if (is_white_space(c)) {
#if TOKENIZER_OFFSETS && !TOKENIZER_TRIMS
        if (t->strips) {
            extend_token(t);
        }
#endif
        if (!t->strips && !hold(t, &t->spaces_ahead, c)) {
            t->end = TOKENIZER_LOST;
        }
        return;
    }
    t->strips = false;
    match_put_spaces(t);
    SET_PLACE(here);
    MATCH_PUT(t, c);
}

static void match(tokenizer_t *t, uint32_t c)
{
    PLACES(here)
    KEEP_PLACE(here);
    KEEP_PLACE(t->ahead_places[t->ahead_n]);
    t->ahead[t->ahead_n++] = c;
    if (t->ahead_n > MATCH_LONGEST) {
        match_first(t);
    }
    SET_PLACE(here);
}

static void match_end(tokenizer_t *t)
{
    while (t->ahead_n > 0 && t->end == TOKENIZER_DONE) {
        match_first(t);
    }
    match_put_spaces(t);
    MATCH_END(t);
    t->strips = false;
    t->no_match = 0;
#if TOKENIZER_SINGLE_WORDS
    t->behind_is_word = false;
#endif
}

#endif
