/* Unigram: of all ways to cut a word into tokens the one with the largest sum of scores, by Viterbi's algorithm.
 *
 * Sums are doubles, added from the word's beginning as the library adds them: two ways whose sums are equal but for
 * their rounding must be told apart as there.
 *
 *   TOKENIZER_WINDOW         characters of a word that are looked at together
 *   TOKENIZER_LONGEST        characters of the longest token; TOKENIZER_SUMS, a power of 2, is more
 *   TOKENIZER_UNK, TOKENIZER_UNK_SCORE   of a character that is no token
 *   TOKENIZER_BYTE_FALLBACK  such characters become the tokens of their bytes, byte_symbol[byte]; a symbol of one that
 *                            is in tokens is found with its code point in lone_symbols, up to TOKENIZER_NO_SYMBOL
 *   unigram_scores           by a token's rank */
#ifndef EMBBERT_UNIGRAM_H
#define EMBBERT_UNIGRAM_H

#include "embbert_trie.h"
#include "embbert_unicode.h"

/* [TOKENIZER_SUMS] the best sum up to a position, counted from the word's beginning, modulo TOKENIZER_SUMS. */
static inline double *sums_of(const tokenizer_t *t)
{
    return (double *)t->window;
}

/* [TOKENIZER_WINDOW] */
static inline tokenizer_symbol_t *symbols_of(const tokenizer_t *t)
{
    return (tokenizer_symbol_t *)(void *)(sums_of(t) + TOKENIZER_SUMS);
}

/* [TOKENIZER_WINDOW + 1] characters of the last token on the best way to a position; 0: not reached yet. */
static inline uint8_t *lengths_of(const tokenizer_t *t)
{
    return (uint8_t *)(void *)(symbols_of(t) + TOKENIZER_WINDOW);
}

#if TOKENIZER_OFFSETS
/* [TOKENIZER_WINDOW] where the characters come from. */
static inline place_t *places_of(const tokenizer_t *t)
{
    return (place_t *)(void *)((uint8_t *)t->window + TOKENIZER_PLACES_AT);
}

/* Where `length` characters from `start` on come from. */
static place_t place_of(const tokenizer_t *t, size_t start, size_t length)
{
    place_t place = places_of(t)[start];
    for (size_t i = 1; i < length; i++) {
        place = join_places(place, places_of(t)[start + i]);
    }
    return place;
}
#endif

static inline double *sum_at(const tokenizer_t *t, size_t position)
{
    return &sums_of(t)[(t->base + position) & (TOKENIZER_SUMS - 1u)];
}

static void reach(const tokenizer_t *t, size_t start, size_t length, double score)
{
    double sum = score + *sum_at(t, start);
    uint8_t *found = &lengths_of(t)[start + length];
    if (*found == 0 || sum > *sum_at(t, start + length)) {
        *sum_at(t, start + length) = sum;
        *found = (uint8_t)length;
    }
}

/* Follow all tokens that begin at a position. */
static void follow(const tokenizer_t *t, size_t start)
{
    const tokenizer_symbol_t *symbols = symbols_of(t);
    bool single = false;
    uint32_t node = symbols[start] < TOKENIZER_NO_SYMBOL ? trie_begin(0, symbols[start]) : 0;
    for (size_t length = 1; node != 0; length++) {
        if (trie_is_end(node)) {
            reach(t, start, length, unigram_scores[trie_rank_of(node)]);
            single = single || length == 1;
        }
        bool more = start + length < t->n && symbols[start + length] < TOKENIZER_NO_SYMBOL;
        node = more ? trie_step(node, symbols[start + length]) : 0;
    }
    if (!single) {
        reach(t, start, 1, TOKENIZER_UNK_SCORE);
    }
}

/* The token that the characters from `start` on are, or TOKENIZER_UNK. */
static uint32_t token_at(const tokenizer_t *t, size_t start, size_t length)
{
    const tokenizer_symbol_t *symbols = symbols_of(t);
    uint32_t node = symbols[start] < TOKENIZER_NO_SYMBOL ? trie_begin(0, symbols[start]) : 0;
    for (size_t i = 1; i < length && node != 0; i++) {
        node = trie_step(node, symbols[start + i]);
    }
    return node != 0 && trie_is_end(node) ? trie_tokens[trie_rank_of(node)] : TOKENIZER_UNK;
}

#if TOKENIZER_BYTE_FALLBACK
static void write_bytes(tokenizer_t *t, uint32_t symbol PLACE_PARAMETER)
{
    uint32_t c = UNIT_POINT(symbol);
    for (size_t i = 0; symbol < TOKENIZER_NO_SYMBOL && lone_symbols[i][0] != TOKENIZER_NO_SYMBOL; i++) {
        if (lone_symbols[i][0] == symbol) {
            c = lone_symbols[i][1];
        }
    }
    uint32_t tail = utf8_bytes(c) - 1u;
    WRITE_ID(t, byte_symbol[tail == 0 ? c : (0xF0u << (3u - tail) & 0xFFu) | c >> 6 * tail], place);
    while (tail-- > 0 && t->end == TOKENIZER_DONE) {
        WRITE_ID(t, byte_symbol[0x80u | (c >> 6 * tail & 0x3Fu)], place);
    }
}
#endif

/* Write the tokens of the best way to `end`, one id for those unknown that follow one another. */
static void emit(tokenizer_t *t, size_t end)
{
    uint8_t *lengths = lengths_of(t), ahead = 0;
    PLACES(here)
    KEEP_PLACE(here);
#if TOKENIZER_OFFSETS && TOKENIZER_BYTE_FALLBACK
    t->run_end = 0;
#endif
    for (size_t at = end; at > 0;) { /* turn the links around: lengths[start] is that of the token that begins there */
        uint8_t length = lengths[at];
        lengths[at] = ahead;
        ahead = length;
        at -= length;
    }
    lengths[0] = ahead;
    for (size_t at = 0; at < end && t->end == TOKENIZER_DONE;) {
        size_t length = lengths[at];
        uint32_t token = token_at(t, at, length);
#if TOKENIZER_BYTE_FALLBACK
#if TOKENIZER_OFFSETS
        if (token != TOKENIZER_UNK) {
            t->run_end = at + length;
        } else if (at >= t->run_end) { /* all bytes of a run of unknown characters are where the run is */
            t->run_end = at + length;
            while (t->run_end < end && token_at(t, t->run_end, lengths[t->run_end]) == TOKENIZER_UNK) {
                t->run_end += lengths[t->run_end];
            }
            t->run_place = place_of(t, at, t->run_end - at);
        }
#endif
        for (size_t i = 0; token == TOKENIZER_UNK && i < length; i++) {
#if TOKENIZER_OFFSETS
            write_bytes(t, symbols_of(t)[at + i], t->run_place);
#else
            write_bytes(t, symbols_of(t)[at + i]);
#endif
        }
        if (token != TOKENIZER_UNK) {
            WRITE_ID(t, token, place_of(t, at, length));
        }
#else
        if (token != TOKENIZER_UNK || !t->unknown) {
            WRITE_ID(t, token, place_of(t, at, length));
        }
#if TOKENIZER_OFFSETS
        if (token == TOKENIZER_UNK && t->unknown) {
            t->place = place_of(t, at, length);
            extend_token(t);
        }
#endif
        t->unknown = token == TOKENIZER_UNK;
#endif
        at += length;
    }
    SET_PLACE(here);
}

static void end_word(tokenizer_t *t)
{
    if (t->n == 0) {
        return;
    }
    while (t->done < t->n) {
        follow(t, t->done++);
    }
    emit(t, t->n);
    t->n = 0;
    t->unknown = false;
}

static void begin_word(tokenizer_t *t)
{
    t->done = 0;
    t->base = 0;
    *sum_at(t, 0) = 0.0;
    for (size_t i = 0; i <= TOKENIZER_WINDOW; i++) {
        lengths_of(t)[i] = 0;
    }
}

/* The window is full and the word goes on. The best ways to the positions that tokens still may begin at have a
 * beginning in common: write that. */
static void commit_prefix(tokenizer_t *t)
{
    uint8_t *lengths = lengths_of(t);
    while (t->done + TOKENIZER_LONGEST <= t->n) {
        follow(t, t->done++);
    }
    size_t common = t->done;
    for (size_t each = t->done + 1; each <= t->n; each++) {
        size_t other = each;
        while (lengths[each] != 0 && other != common) {
            if (other > common) {
                other -= lengths[other];
            } else {
                common -= lengths[common];
            }
        }
    }
    if (common == 0) {
        t->end = TOKENIZER_LOST;
        return;
    }
    uint8_t kept = lengths[common];
    emit(t, common);
    lengths[common] = kept;
    t->n -= common;
    t->done -= common;
    t->base += (uint32_t)common;
    for (size_t i = 0; i < t->n; i++) {
        symbols_of(t)[i] = symbols_of(t)[common + i];
#if TOKENIZER_OFFSETS
        places_of(t)[i] = places_of(t)[common + i];
#endif
        lengths[i] = lengths[common + i];
    }
    lengths[t->n] = lengths[common + t->n];
    for (size_t i = t->n + 1; i <= TOKENIZER_WINDOW; i++) {
        lengths[i] = 0;
    }
    lengths[0] = 0;
}

/* Append a symbol, TOKENIZER_NO_SYMBOL or more for a character that no token has, to the word. */
static void push(tokenizer_t *t, uint32_t symbol)
{
    if (t->n == 0) {
        begin_word(t);
    } else if (t->n == TOKENIZER_WINDOW) {
        commit_prefix(t);
        if (t->end != TOKENIZER_DONE) {
            return;
        }
    }
    KEEP_PLACE(places_of(t)[t->n]);
    symbols_of(t)[t->n++] = (tokenizer_symbol_t)symbol;
}

#endif
