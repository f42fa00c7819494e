/* SentencePiece's precompiled map, as the library applies it: a grapheme cluster of at most 5 bytes becomes what its
 * shortest beginning that the map has does; in longer ones, and where there is none, each character by itself.
 *
 *   grapheme_flags(c)            the flags below of a code point
 *   grapheme_pairs, GRAPHEME_PAIRS   (first, second, number of a sequence) of the map's entries of two characters
 *   grapheme_at, grapheme_sequences   those sequences
 *   GRAPHEME_ONE(t, c)           gives on what becomes of a character; GRAPHEME_PUT(t, c) gives it on as it is
 *   GRAPHEME_END(t) */
#ifndef EMBBERT_GRAPHEMES_H
#define EMBBERT_GRAPHEMES_H

#include "embbert_text.h"
#include "embbert_unicode.h"

enum {
    GRAPHEME_EXTENDS = 1, /* stays with what is before it */
    GRAPHEME_PREPENDS = 2,
    GRAPHEME_CONTROL = 4,
    GRAPHEME_PICTOGRAPH = 8,
    GRAPHEME_KEY = 16, /* the map has it */
    GRAPHEME_BYTES = 5
};

static void flush_grapheme(tokenizer_t *t)
{
    const uint32_t *c = t->cluster;
    uint32_t n = t->clustered;
    PLACES(here)
    KEEP_PLACE(here);
    t->clustered = 0;
    if (n > 1 && (grapheme_flags(c[0]) & GRAPHEME_KEY)) {
        n = 1;
    } else if (n > 1) {
        uint32_t found = find_pair(grapheme_pairs, GRAPHEME_PAIRS, c[0], c[1]);
        if (found > 0) {
            uint32_t first = grapheme_at[found - 1u];
            for (uint32_t i = first; i < grapheme_at[found]; i++) {
                SET_PLACE(t->cluster_places[i - first < n ? i - first : n - 1u]);
                GRAPHEME_PUT(t, grapheme_sequences[i]);
            }
            SET_PLACE(here);
            return;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        SET_PLACE(t->cluster_places[i]);
        GRAPHEME_ONE(t, c[i]);
    }
    SET_PLACE(here);
}

static bool grapheme_goes_on(const tokenizer_t *t, uint32_t c, uint32_t flags)
{
    if (t->last_point == '\r' && c == '\n') {
        return true;
    }
    if ((t->last_flags | flags) & GRAPHEME_CONTROL) {
        return false;
    }
    return (flags & GRAPHEME_EXTENDS) || (t->last_flags & GRAPHEME_PREPENDS) ||
           (t->pictograph == 2 && (flags & GRAPHEME_PICTOGRAPH));
}

static void split_graphemes(tokenizer_t *t, uint32_t c)
{
    uint32_t flags = grapheme_flags(c);
    if (!t->in_cluster || !grapheme_goes_on(t, c, flags)) {
        flush_grapheme(t);
        t->cluster_bytes = 0;
        t->pictograph = 0;
    }
    t->in_cluster = true;
    t->cluster_bytes = t->cluster_bytes > GRAPHEME_BYTES ? t->cluster_bytes : t->cluster_bytes + utf8_bytes(c);
    if (t->cluster_bytes > GRAPHEME_BYTES) {
        PLACES(here)
        KEEP_PLACE(here);
        for (uint32_t i = 0; i < t->clustered; i++) {
            SET_PLACE(t->cluster_places[i]);
            GRAPHEME_ONE(t, t->cluster[i]);
        }
        SET_PLACE(here);
        t->clustered = 0;
        GRAPHEME_ONE(t, c);
    } else {
        KEEP_PLACE(t->cluster_places[t->clustered]);
        t->cluster[t->clustered++] = c; /* at most GRAPHEME_BYTES */
    }
    t->pictograph = flags & GRAPHEME_PICTOGRAPH ? 1 : t->pictograph == 1 && c == 0x200Du ? 2 : t->pictograph;
    if (!(flags & (GRAPHEME_PICTOGRAPH | GRAPHEME_EXTENDS))) {
        t->pictograph = 0;
    }
    t->last_flags = flags;
    t->last_point = c;
}

static void split_graphemes_end(tokenizer_t *t)
{
    flush_grapheme(t);
    t->in_cluster = false;
    GRAPHEME_END(t);
}

#endif
