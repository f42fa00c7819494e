/* WordPiece: the longest token that a word begins with, and so on with what is left, its tokens having a prefix.
 *
 *   TOKENIZER_WINDOW   characters of a word; a longer one is unknown
 *   TOKENIZER_UNK      id of a word that tokens do not cover
 *   TOKENIZER_INSIDE   the s of trie_start for what is not a word's beginning */
#ifndef EMBBERT_WORDPIECE_H
#define EMBBERT_WORDPIECE_H

#include "embbert_trie.h"

#if TOKENIZER_OFFSETS
/* [TOKENIZER_WINDOW] where the characters, then the tokens, come from. */
static inline place_t *places_of(const tokenizer_t *t)
{
    return (place_t *)(void *)((uint8_t *)t->window + TOKENIZER_PLACES_AT);
}
#endif

/* Split the word into tokens, their ids in place of its characters; how many, 0 for a word that is unknown. */
static size_t split_word(tokenizer_t *t)
{
    tokenizer_symbol_t *symbols = (tokenizer_symbol_t *)t->window;
    size_t pieces = 0, at = 0;
    while (at < t->n) {
        uint32_t node = trie_begin(at == 0 ? 0 : TOKENIZER_INSIDE, symbols[at]), last = 0;
        size_t end = at;
#if TOKENIZER_OFFSETS
        size_t begin = at;
#endif
        while (node != 0) {
            end++;
            if (trie_is_end(node)) {
                last = node;
                at = end;
            }
            node = end < t->n ? trie_step(node, symbols[end]) : 0;
        }
        if (last == 0) {
            return 0;
        }
#if TOKENIZER_OFFSETS
        place_t place = places_of(t)[begin];
        for (size_t i = begin + 1; i < at; i++) {
            place = join_places(place, places_of(t)[i]);
        }
        places_of(t)[pieces] = place;
#endif
        symbols[pieces++] = (tokenizer_symbol_t)trie_tokens[trie_rank_of(last)];
    }
    return pieces;
}

static void end_word(tokenizer_t *t)
{
    if (t->n == 0) {
        return;
    }
    size_t pieces = t->unknown ? 0 : split_word(t);
    if (pieces == 0) {
#if TOKENIZER_OFFSETS
        for (size_t i = 1; i < t->n; i++) {
            places_of(t)[0] = join_places(places_of(t)[0], places_of(t)[i]);
        }
#endif
        WRITE_ID(t, TOKENIZER_UNK, places_of(t)[0]);
    }
    for (size_t i = 0; i < pieces && t->end == TOKENIZER_DONE; i++) {
        WRITE_ID(t, ((const tokenizer_symbol_t *)t->window)[i], places_of(t)[i]);
    }
    t->n = 0;
    t->unknown = false;
}

/* Append a symbol, TOKENIZER_NO_SYMBOL for a character that no token has, to the word. */
static void push(tokenizer_t *t, uint32_t symbol)
{
    if (t->n == TOKENIZER_WINDOW || symbol == TOKENIZER_NO_SYMBOL) {
        t->unknown = true;
    }
#if TOKENIZER_OFFSETS
    if (t->n == TOKENIZER_WINDOW) {
        places_of(t)[t->n - 1] = join_places(places_of(t)[t->n - 1], t->place);
    }
#endif
    if (t->n < TOKENIZER_WINDOW) {
        KEEP_PLACE(places_of(t)[t->n]);
        ((tokenizer_symbol_t *)t->window)[t->n++] = (tokenizer_symbol_t)symbol;
    }
}

#endif
