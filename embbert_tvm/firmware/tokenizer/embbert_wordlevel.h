/* WordLevel: a token a word, found while it is read.
 *
 *   TOKENIZER_UNK   id of a word that is no token */
#ifndef EMBBERT_WORDLEVEL_H
#define EMBBERT_WORDLEVEL_H

#include "embbert_trie.h"

static void end_word(tokenizer_t *t)
{
    if (t->n > 0) {
        uint32_t id = t->node != 0 && trie_is_end(t->node) ? trie_tokens[trie_rank_of(t->node)] : TOKENIZER_UNK;
        WRITE_ID(t, id, t->word_place);
    }
    t->n = 0;
}

/* Append a symbol, TOKENIZER_NO_SYMBOL for a character that no token has, to the word. */
static void push(tokenizer_t *t, uint32_t symbol)
{
    if (symbol == TOKENIZER_NO_SYMBOL) {
        t->node = 0;
    } else if (t->n == 0) {
        t->node = trie_begin(0, symbol);
    } else if (t->node != 0) {
        t->node = trie_step(t->node, symbol);
    }
#if TOKENIZER_OFFSETS
    t->word_place = t->n == 0 ? t->place : join_places(t->word_place, t->place);
#endif
    t->n = 1; /* the word is not empty */
}

#endif
