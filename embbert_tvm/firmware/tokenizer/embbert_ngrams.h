/* Hashed n-grams of words and characters of UTF-8: the features of a linear model, and their sum.
 *
 * What is hashed, and how, is defined by embbert_tvm/data/ngrams.py, whose tests hold this file to it, bucket by bucket.
 * Included once, behind the tables that codegen/c_ngrams.py writes:
 *
 *   NGRAMS_BUCKETS, NGRAMS_COLUMNS     rows and columns of the model's table
 *   NGRAMS_WORDS                       words in a row, at most 3
 *   NGRAMS_SHORTEST, NGRAMS_LONGEST    runs of characters, at most 6; NGRAMS_LONGEST 0: none
 *   NGRAMS_EMIT(state, bucket)         what is done with a feature, usually ngrams_add_row()
 *   NGRAMS_STATE                       fields of ngrams_t that NGRAMS_EMIT needs besides, where there are any
 *   ngrams_folds[NGRAMS_FOLDS]         code points that are not plain letters, in order
 *   ngrams_bases[NGRAMS_BASES]         blocks of Latin letters that lose case and accent
 *
 * A text of any length streams, a byte a time: ngrams_begin(), then for each text ngrams_start(), ngrams_byte() and
 * ngrams_end(). No heap, no state but the caller's. */
#ifndef EMBBERT_NGRAMS_H
#define EMBBERT_NGRAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NGRAMS_LETTER = 0, NGRAMS_SINGLE = 1, NGRAMS_SPACE = 2, NGRAMS_NOTHING = 3 };

#define NGRAMS_MULTIPLIER 0x9E3779B1u
#define NGRAMS_PAIR_MULTIPLIER 0x85EBCA6Bu
#define NGRAMS_KIND_STEP 0x7F4A7C15u
#define NGRAMS_SECOND_TEXT 16u
#define NGRAMS_REPLACEMENT 0xFFFDu
#define NGRAMS_MOST 0xFFFFFFu /* features of a text that count: 127 times as many fit in an int32_t */

#ifndef NGRAMS_STATE
#define NGRAMS_STATE
#endif

typedef struct {
    int32_t sums[NGRAMS_COLUMNS];
    uint32_t count;                    /* features so far */
    uint32_t base;                     /* of the text's kinds: 0, or that of the second text of a pair */
    uint32_t word;                     /* hash of the word so far */
    uint32_t words[NGRAMS_WORDS];      /* hashes of the last 1, 2, ... words in a row */
    uint32_t runs[NGRAMS_LONGEST + 1]; /* hashes of the last 0, 1, ... characters of the word */
    uint32_t point;                    /* of a code point that is not whole yet: its bits */
    uint32_t missing;                  /* bytes of it */
    uint32_t least, most;              /* what its next byte may be */
    uint32_t letters;                  /* characters of the word and the space before it, at most NGRAMS_LONGEST */
    uint32_t seen;                     /* words so far, at most NGRAMS_WORDS */
    NGRAMS_STATE
} ngrams_t;

static inline void ngrams_emit(ngrams_t *n, uint32_t hash, uint32_t kind)
{
    hash += (n->base + kind) * NGRAMS_KIND_STEP;
    hash = (hash ^ hash >> 15) * 0x2C1B3C6Du;
    hash = (hash ^ hash >> 12) * 0x297A2D39u;
    hash ^= hash >> 15;
    if (n->count < NGRAMS_MOST) {
        n->count++;
        NGRAMS_EMIT(n, (uint32_t)((uint64_t)hash * NGRAMS_BUCKETS >> 32));
    }
}

/* A character of a word of letters, or a space on either side of it: the runs that end in it. */
static inline void ngrams_character(ngrams_t *n, uint32_t character)
{
#if NGRAMS_LONGEST > 0
    for (uint32_t length = NGRAMS_LONGEST; length > 0; length--) {
        n->runs[length] = n->runs[length - 1] * NGRAMS_MULTIPLIER + character + 1;
    }
    n->letters += n->letters < NGRAMS_LONGEST ? 1 : 0;
    for (uint32_t length = NGRAMS_SHORTEST; length <= n->letters; length++) {
        ngrams_emit(n, n->runs[length], length);
    }
#else
    (void)character;
    n->letters = 1;
#endif
}

static inline void ngrams_word(ngrams_t *n, uint32_t hash)
{
    for (uint32_t order = NGRAMS_WORDS - 1; order > 0; order--) {
        n->words[order] = n->words[order - 1] * NGRAMS_PAIR_MULTIPLIER + hash;
    }
    n->words[0] = hash;
    n->seen += n->seen < NGRAMS_WORDS ? 1 : 0;
    for (uint32_t order = 0; order < n->seen; order++) {
        ngrams_emit(n, n->words[order], order);
    }
}

static inline void ngrams_end_word(ngrams_t *n)
{
    if (n->letters > 0) {
        ngrams_character(n, ' ');
        n->letters = 0;
        ngrams_word(n, n->word);
    }
}

static inline void ngrams_letter(ngrams_t *n, uint32_t character)
{
    if (n->letters == 0) {
        n->word = 0;
        ngrams_character(n, ' ');
    }
    n->word = n->word * NGRAMS_MULTIPLIER + character + 1;
    ngrams_character(n, character);
}

/* What a code point beyond ASCII is; a letter's place is taken by what it is folded to. */
static uint32_t ngrams_fold(uint32_t *point)
{
    for (size_t i = 0; i < NGRAMS_BASES; i++) {
        uint32_t place = *point - ngrams_bases[i].first;
        if (place < ngrams_bases[i].count && ngrams_bases[i].letters[place] != '?') {
            *point = (uint8_t)ngrams_bases[i].letters[place];
            return NGRAMS_LETTER;
        }
    }
    size_t low = 0, high = NGRAMS_FOLDS;
    while (low < high) { /* the first range that does not end before the code point */
        size_t middle = (low + high) / 2;
        if (ngrams_folds[middle].last < *point) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == NGRAMS_FOLDS || *point < ngrams_folds[low].first) {
        return NGRAMS_LETTER;
    }
    *point += (uint32_t)ngrams_folds[low].added;
    return ngrams_folds[low].kind;
}

static inline void ngrams_point(ngrams_t *n, uint32_t point)
{
    uint32_t kind = NGRAMS_LETTER;
    if (point < 0x80) {
        if (point - 'A' < 26u) {
            point += 'a' - 'A';
        } else if (point - 'a' >= 26u && point - '0' >= 10u) {
            kind = point <= ' ' || point == 0x7F ? NGRAMS_SPACE : NGRAMS_SINGLE;
        }
    } else {
        kind = ngrams_fold(&point);
    }
    if (kind == NGRAMS_LETTER) {
        ngrams_letter(n, point);
    } else if (kind != NGRAMS_NOTHING) {
        ngrams_end_word(n);
        if (kind == NGRAMS_SINGLE) {
            ngrams_word(n, point + 1);
        }
    }
}

/* Begin anew: no text, no features. */
static inline void ngrams_begin(ngrams_t *n)
{
    static const ngrams_t nothing;
    *n = nothing;
}

/* Begin a text; `second` of a pair, whose first text has ended. The sums and the count of features go on. */
static inline void ngrams_start(ngrams_t *n, bool second)
{
    n->base = second ? NGRAMS_SECOND_TEXT : 0;
    n->missing = n->letters = n->seen = 0;
    n->runs[0] = 0;
}

/* The next byte of the text. What is not UTF-8 reads as U+FFFD, one for each maximal part of a sequence that breaks
 * off, as in Python's decode(errors="replace"). */
static void ngrams_byte(ngrams_t *n, uint32_t byte)
{
    if (n->missing > 0) {
        if (byte >= n->least && byte <= n->most) {
            n->point = n->point << 6 | (byte & 0x3F);
            n->least = 0x80;
            n->most = 0xBF;
            if (--n->missing == 0) {
                ngrams_point(n, n->point);
            }
            return;
        }
        n->missing = 0;
        ngrams_point(n, NGRAMS_REPLACEMENT);
    }
    if (byte < 0x80) {
        ngrams_point(n, byte);
    } else if (byte >= 0xC2 && byte < 0xF5) {
        n->missing = byte >= 0xF0 ? 3 : byte >= 0xE0 ? 2 : 1;
        n->point = byte & (0x3Fu >> n->missing);
        n->least = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
        n->most = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
    } else {
        ngrams_point(n, NGRAMS_REPLACEMENT);
    }
}

/* End a text. */
static inline void ngrams_end(ngrams_t *n)
{
    if (n->missing > 0) {
        n->missing = 0;
        ngrams_point(n, NGRAMS_REPLACEMENT);
    }
    ngrams_end_word(n);
}

/* floor(sqrt(count * 2**24)), of a count below 2**24. */
static uint32_t ngrams_root(uint32_t count)
{
    uint64_t rest = (uint64_t)count << 24;
    uint64_t root = 0;
    for (uint64_t bit = (uint64_t)1 << 46; bit > 0; bit >>= 2) {
        if (rest >= root + bit) {
            rest -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    return (uint32_t)root;
}

#endif
