/* SPDX-License-Identifier: Apache-2.0 */
/* Byte-pair encoding: a word's symbols to token ids.
 *
 *   TOKENIZER_WINDOW        symbols of a word that are looked at together
 *   TOKENIZER_UNK           id of what has no token; TOKENIZER_NONE if that is left out
 *   TOKENIZER_FUSE_UNK      one such id for a run of them in a word
 *   TOKENIZER_MERGES        how many; merge r joins pair_left[r] and pair_right[r]
 *   TOKENIZER_WIDE          ids and ranks are above 16 bits
 *   TOKENIZER_ORDERED_MERGES  merges are in the order that commit_prefix() needs
 *   TOKENIZER_CUT           no token has this symbol behind another: a word may be cut before it. TOKENIZER_NONE: none
 *   TOKENIZER_WHOLES        words that are tokens as they are, though no merges make them: ignore_merges
 *   token_of(r), merge_of(token)   the token that merge r makes; the merge that makes a token, or TOKENIZER_MERGES */
#ifndef EMBBERT_BPE_H
#define EMBBERT_BPE_H

#include "embbert_text.h"

/* [TOKENIZER_WINDOW] of the word so far, its tokens as far as they are merged. */
static inline tokenizer_symbol_t *symbols_of(const tokenizer_t *t)
{
    return (tokenizer_symbol_t *)t->window;
}

/* [TOKENIZER_WINDOW] the merge of symbols i and i + 1, or TOKENIZER_NONE. */
static inline tokenizer_symbol_t *ranks_of(const tokenizer_t *t)
{
    return (tokenizer_symbol_t *)t->window + TOKENIZER_WINDOW;
}

#if TOKENIZER_OFFSETS
/* [TOKENIZER_WINDOW] where the symbols come from. */
static inline place_t *places_of(const tokenizer_t *t)
{
    return (place_t *)(void *)((uint8_t *)t->window + TOKENIZER_PLACES_AT);
}
#endif

/* The rank of the merge of two tokens, or TOKENIZER_NONE: a perfect hash finds the only one that it can be. */
static inline tokenizer_symbol_t pair_rank(tokenizer_symbol_t left, tokenizer_symbol_t right)
{
#if TOKENIZER_WIDE
    uint32_t hash = ((uint32_t)left * 0x85EBCA77u + right) * 0x9E3779B1u;
    hash ^= hash >> 15;
    uint32_t shift = pair_shift[hash >> TOKENIZER_BUCKET_SHIFT];
    hash ^= (uint32_t)right * 0xC2B2AE3Du;
#else
    uint32_t hash = ((uint32_t)left << 16 | right) * 0x9E3779B1u;
    hash ^= hash >> 15;
    uint32_t shift = pair_shift[hash >> TOKENIZER_BUCKET_SHIFT];
#endif
    hash += shift * 0x85EBCA6Bu;
    hash ^= hash >> 13; /* else the shift would move the pairs of a bucket together */
    hash *= 0xC2B2AE35u;
#if TOKENIZER_WIDE
    tokenizer_symbol_t rank = pair_at[(uint64_t)hash * TOKENIZER_SLOTS >> 32];
#else
    tokenizer_symbol_t rank = pair_at[((hash >> 16) * TOKENIZER_SLOTS) >> 16];
#endif
    return rank < TOKENIZER_MERGES && pair_left[rank] == left && pair_right[rank] == right ? rank : TOKENIZER_NONE;
}

/* The pair of lowest rank whose symbols are both below n, the first of equals; its rank may be TOKENIZER_NONE. */
static size_t best_pair(const tokenizer_symbol_t *ranks, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; i++) {
        if (ranks[i] < ranks[best]) {
            best = i;
        }
    }
    return best;
}

static void merge_pair(tokenizer_t *t, size_t at)
{
    tokenizer_symbol_t *symbols = symbols_of(t), *ranks = ranks_of(t);
    symbols[at] = (tokenizer_symbol_t)token_of(ranks[at]);
#if TOKENIZER_OFFSETS
    places_of(t)[at] = join_places(places_of(t)[at], places_of(t)[at + 1]);
#endif
    t->n--;
    for (size_t i = at + 1; i < t->n; i++) {
        symbols[i] = symbols[i + 1];
        ranks[i] = ranks[i + 1];
#if TOKENIZER_OFFSETS
        places_of(t)[i] = places_of(t)[i + 1];
#endif
    }
    if (at > 0) {
        ranks[at - 1] = pair_rank(symbols[at - 1], symbols[at]);
    }
    if (at + 1 < t->n) {
        ranks[at] = pair_rank(symbols[at], symbols[at + 1]);
    }
}

static void rank_pairs(tokenizer_t *t)
{
    const tokenizer_symbol_t *symbols = symbols_of(t);
    tokenizer_symbol_t *ranks = ranks_of(t);
    for (size_t i = 0; i + 1 < t->n; i++) {
        ranks[i] = pair_rank(symbols[i], symbols[i + 1]);
    }
}

/* Write the first n symbols as ids. */
static void emit(tokenizer_t *t, size_t n)
{
    for (size_t i = 0; i < n && t->end == TOKENIZER_DONE; i++) {
        WRITE_ID(t, symbols_of(t)[i], places_of(t)[i]);
    }
}

#if TOKENIZER_WHOLES > 0
/* The token that a word is as it is, if the word's merged symbols are those of one; else TOKENIZER_NONE. */
static uint32_t whole_token(const tokenizer_symbol_t *symbols, size_t n)
{
    size_t low = 0, high = TOKENIZER_WHOLES;
    while (low < high) { /* sorted by their first symbols */
        size_t middle = (low + high) / 2;
        if (whole_parts[whole_at[middle]] < symbols[0]) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (; low < TOKENIZER_WHOLES && whole_parts[whole_at[low]] == symbols[0]; low++) {
        size_t length = whole_at[low + 1] - whole_at[low], i = 1;
        while (i < length && i < n && whole_parts[whole_at[low] + i] == symbols[i]) {
            i++;
        }
        if (i == length && i == n) {
            return whole_token_ids[low];
        }
    }
    return TOKENIZER_NONE;
}
#endif

static void end_word(tokenizer_t *t)
{
    rank_pairs(t);
    while (t->n > 1) {
        size_t best = best_pair(ranks_of(t), t->n);
        if (ranks_of(t)[best] == TOKENIZER_NONE) {
            break;
        }
        merge_pair(t, best);
    }
#if TOKENIZER_WHOLES > 0
    uint32_t whole = t->n > 1 && !t->committed ? whole_token(symbols_of(t), t->n) : TOKENIZER_NONE;
    if (whole != TOKENIZER_NONE) {
        symbols_of(t)[0] = (tokenizer_symbol_t)whole;
#if TOKENIZER_OFFSETS
        for (size_t i = 1; i < t->n; i++) {
            places_of(t)[0] = join_places(places_of(t)[0], places_of(t)[i]);
        }
#endif
        t->n = 1;
    }
    t->committed = false;
#endif
    emit(t, t->n);
    t->n = 0;
    t->unknown = false;
}

#if TOKENIZER_ORDERED_MERGES
/* Whether token `last` may merge, at rank `rank`, with what grows out of token `next` (any token where there is none
 * yet): with `next` or a token that begins with it. */
static bool may_merge(tokenizer_symbol_t rank, tokenizer_symbol_t last, int64_t next)
{
    if (pair_left[rank] != last) {
        return false;
    }
    uint32_t right = pair_right[rank];
    while (next >= 0 && right != next) {
        uint32_t made_by = merge_of(right);
        if (made_by == TOKENIZER_MERGES) {
            return false;
        }
        right = pair_left[made_by];
    }
    return true;
}
#endif

/* The window is full and the word goes on. Merges happen in the order of their ranks; what stands at the window's end
 * may merge with what is still to come. So follow the merges, and at each rank give up the last symbol of those that
 * are certain if it may merge to the right then. What is certain at the end is so whatever follows: write it. What was
 * given up stays in the window as it was at that rank; it would come to that again. */
static void commit_prefix(tokenizer_t *t)
{
    size_t certain = t->n;
    tokenizer_symbol_t *symbols = symbols_of(t);
#if TOKENIZER_ORDERED_MERGES
    int64_t next = -1; /* the symbol right of the last certain one, as it was given up; -1: not yet seen */
    tokenizer_symbol_t now = 0;
    rank_pairs(t);
    while (certain > 0) {
        size_t best = best_pair(ranks_of(t), certain);
        tokenizer_symbol_t rank = TOKENIZER_MERGES;
        if (certain > 1 && ranks_of(t)[best] != TOKENIZER_NONE) {
            rank = ranks_of(t)[best];
        }
        tokenizer_symbol_t last = symbols[certain - 1];
        while (now < rank && !may_merge(now, last, next)) {
            now++;
        }
        if (now < rank) {
            next = last;
            certain--;
        } else if (rank < TOKENIZER_MERGES) {
            merge_pair(t, best);
            certain--;
        } else {
            break;
        }
    }
#else
    certain = 0;
#endif
    if (certain == 0) {
        t->end = TOKENIZER_LOST;
        return;
    }
    emit(t, certain);
    t->n -= certain;
    for (size_t i = 0; i < t->n; i++) {
        symbols[i] = symbols[certain + i];
#if TOKENIZER_OFFSETS
        places_of(t)[i] = places_of(t)[certain + i];
#endif
    }
#if TOKENIZER_WHOLES > 0
    t->committed = true;
#endif
}

/* Append a symbol, a token id or TOKENIZER_NONE, to the word. */
static void push(tokenizer_t *t, uint32_t symbol)
{
    bool unknown = symbol == TOKENIZER_UNK;
    if (symbol == TOKENIZER_NONE || (TOKENIZER_FUSE_UNK && unknown && t->unknown)) {
#if TOKENIZER_OFFSETS && TOKENIZER_FUSE_UNK
        if (symbol != TOKENIZER_NONE && t->n > 0) {
            places_of(t)[t->n - 1] = join_places(places_of(t)[t->n - 1], t->place);
        }
#endif
        return;
    }
#if TOKENIZER_CUT != TOKENIZER_NONE
    if (symbol == TOKENIZER_CUT && t->last != TOKENIZER_CUT && t->n > 0) {
        end_word(t);
    }
    t->last = symbol;
#endif
    t->unknown = unknown;
    if (t->n == TOKENIZER_WINDOW) {
        commit_prefix(t);
        if (t->end != TOKENIZER_DONE) {
            return;
        }
    }
    KEEP_PLACE(places_of(t)[t->n]);
    symbols_of(t)[t->n++] = (tokenizer_symbol_t)symbol;
}

#endif
