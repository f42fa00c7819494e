/* SPDX-License-Identifier: Apache-2.0 */
/* The tokenizer: UTF-8 to token ids by byte-pair encoding, the same ids as the `tokenizers` library gives.
 *
 * Included once, by <prefix>_tokenizer.c, behind the tables that `compile` made of tokenizer.json (docs/tokenizer.md):
 *
 *   TOKENIZER_BYTE_LEVEL    1: words of bytes, as ByteLevel splits them; 0: words of characters, as Whitespace does
 *   TOKENIZER_SPLIT         ByteLevel splits at all
 *   TOKENIZER_PREFIX_SPACE  ByteLevel puts a space before a text that has none there
 *   TOKENIZER_REORDER       combining marks are brought into canonical order, at most TOKENIZER_MARKS in a run
 *   TOKENIZER_HANGUL        syllables fall apart into letters
 *   TOKENIZER_UNK           id of what has no token; TOKENIZER_NONE, 0xFFFF, if that is left out
 *   TOKENIZER_FUSE_UNK      one such id for a run of them in a word
 *   TOKENIZER_MERGES        how many; merge r joins pair_left[r] and pair_right[r]
 *   TOKENIZER_SETTLES       merges are in the order that settle() needs
 *   TOKENIZER_WINDOW        symbols of a word that are looked at together
 *   token_of(r), merge_of(token)   the token that merge r makes; the merge that makes a token, or TOKENIZER_MERGES
 *
 * All functions are static, so that packages of several prefixes link. No heap, no state but the caller's. */
#ifndef EMBBERT_BPE_H
#define EMBBERT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TOKENIZER_WINDOW_BYTES = 4 * TOKENIZER_WINDOW,
    NO_MERGE = 0xFFFF
};

/* A unit is a character as it leaves the normalizer: what it is (22 bits: a token id or a code point), the kind of
 * word that it belongs to (2 bits), and its canonical combining class (8 bits). */
#define UNIT_VALUE(unit) ((unit) & 0x3FFFFFu)
#define UNIT_KIND(unit) ((unit) >> 22 & 3u)
#define UNIT_CLASS(unit) ((unit) >> 24)

enum { KIND_SPACE = 0, KIND_WORD = 1, KIND_OTHER = 2, KIND_NUMBER = 3 }; /* ByteLevel's \p{L} is KIND_WORD */

typedef enum {
    TOKENIZER_DONE = 0,
    TOKENIZER_FULL, /* there are more tokens than room */
    TOKENIZER_LOST  /* a word or a run of marks whose tokens do not show in the window */
} tokenizer_end_t;

typedef struct {
    uint16_t *symbols; /* [TOKENIZER_WINDOW] of the word so far, its tokens as far as they are merged */
    uint16_t *ranks;   /* [TOKENIZER_WINDOW] ranks[i]: the merge of symbols i and i + 1, or NO_MERGE */
    size_t n;          /* symbols in the window */
    int32_t *ids;
    size_t count, room; /* ids written, at most */
    tokenizer_end_t end;
    uint8_t state;     /* what the splitter is in: see split() */
    bool unknown;      /* the last character of the word became TOKENIZER_UNK */
    bool begun;        /* the text's first character has been seen */
    uint32_t held;     /* a code point whose word is not known yet */
#if TOKENIZER_REORDER
    uint32_t marks[TOKENIZER_MARKS]; /* units of combining marks, sorted by class */
    size_t marked;
#endif
} tokenizer_t;

/* ---- byte-pair encoding ---- */

/* The rank of the merge of two tokens, or NO_MERGE: a perfect hash finds the only one that it can be. */
static inline uint16_t pair_rank(uint16_t left, uint16_t right)
{
#if TOKENIZER_MERGES > 0
    uint32_t key = (uint32_t)left << 16 | right;
    uint32_t hash = key * 0x9E3779B1u;
    hash ^= hash >> 15;
    uint32_t shift = pair_shift[hash >> TOKENIZER_BUCKET_SHIFT];
    hash += shift * 0x85EBCA6Bu;
    hash ^= hash >> 13; /* else the shift would move the pairs of a bucket together */
    hash *= 0xC2B2AE35u;
    uint16_t rank = pair_at[((hash >> 16) * TOKENIZER_SLOTS) >> 16];
    return rank < TOKENIZER_MERGES && pair_left[rank] == left && pair_right[rank] == right ? rank : NO_MERGE;
#else
    (void)left, (void)right;
    return NO_MERGE;
#endif
}

/* The pair of lowest rank whose symbols are both below n, the first of equals; its rank may be NO_MERGE. */
static size_t best_pair(const tokenizer_t *t, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; i++) {
        if (t->ranks[i] < t->ranks[best]) {
            best = i;
        }
    }
    return best;
}

static void merge_pair(tokenizer_t *t, size_t at)
{
    t->symbols[at] = token_of(t->ranks[at]);
    t->n--;
    for (size_t i = at + 1; i < t->n; i++) {
        t->symbols[i] = t->symbols[i + 1];
        t->ranks[i] = t->ranks[i + 1];
    }
    if (at > 0) {
        t->ranks[at - 1] = pair_rank(t->symbols[at - 1], t->symbols[at]);
    }
    if (at + 1 < t->n) {
        t->ranks[at] = pair_rank(t->symbols[at], t->symbols[at + 1]);
    }
}

static void rank_pairs(tokenizer_t *t)
{
    for (size_t i = 0; i + 1 < t->n; i++) {
        t->ranks[i] = pair_rank(t->symbols[i], t->symbols[i + 1]);
    }
}

/* Write the first n symbols as ids. */
static void emit(tokenizer_t *t, size_t n)
{
    for (size_t i = 0; i < n && t->end == TOKENIZER_DONE; i++) {
        if (t->count == t->room) {
            t->end = TOKENIZER_FULL;
            return;
        }
        t->ids[t->count++] = t->symbols[i];
    }
}

static void end_word(tokenizer_t *t)
{
    rank_pairs(t);
    while (t->n > 1) {
        size_t best = best_pair(t, t->n);
        if (t->ranks[best] == NO_MERGE) {
            break;
        }
        merge_pair(t, best);
    }
    emit(t, t->n);
    t->n = 0;
    t->unknown = false;
}

#if TOKENIZER_SETTLES
/* Whether token `last` may merge, at rank `rank`, with what grows out of token `next` (any token where there is none
 * yet): with `next` or a token that begins with it. */
static bool may_merge(uint16_t rank, uint16_t last, int32_t next)
{
    if (pair_left[rank] != last) {
        return false;
    }
    uint16_t right = pair_right[rank];
    while (next >= 0 && right != next) {
        uint16_t made_by = merge_of(right);
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
static void settle(tokenizer_t *t)
{
    size_t certain = t->n;
#if TOKENIZER_SETTLES
    int32_t next = -1; /* the symbol right of the last certain one, as it was given up; -1: not yet seen */
    uint16_t now = 0;
    rank_pairs(t);
    while (certain > 0) {
        size_t best = best_pair(t, certain);
        uint16_t rank = certain > 1 && t->ranks[best] != NO_MERGE ? t->ranks[best] : TOKENIZER_MERGES;
        uint16_t last = t->symbols[certain - 1];
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
        t->symbols[i] = t->symbols[certain + i];
    }
}

/* Append a symbol, a token id or TOKENIZER_NONE, to the word. */
static void push(tokenizer_t *t, uint32_t symbol)
{
    bool unknown = symbol == TOKENIZER_UNK;
    if (symbol == TOKENIZER_NONE || (TOKENIZER_FUSE_UNK && unknown && t->unknown)) {
        return;
    }
    t->unknown = unknown;
    if (t->n == TOKENIZER_WINDOW) {
        settle(t);
        if (t->end != TOKENIZER_DONE) {
            return;
        }
    }
    t->symbols[t->n++] = (uint16_t)symbol;
}

/* ---- words ---- */

#if TOKENIZER_BYTE_LEVEL

/* A code point's UTF-8, a token for each byte. */
static void push_bytes(tokenizer_t *t, uint32_t c)
{
    if (c < 0x80u) {
        push(t, byte_token[c]);
        return;
    }
    uint32_t tail = c < 0x800u ? 1u : c < 0x10000u ? 2u : 3u;
    push(t, byte_token[(0xF0u << (3u - tail) & 0xFFu) | c >> 6 * tail]);
    while (tail-- > 0) {
        push(t, byte_token[0x80u | (c >> 6 * tail & 0x3Fu)]);
    }
}

enum { /* what the text is in; below STATE_START a run of that kind, KIND_SPACE being all but its last space */
    STATE_START = 4,
    STATE_APOSTROPHE,         /* a ' that begins a word */
    STATE_APOSTROPHE_HELD     /* the same, then the letter `held`, r, v or l */
};

#if TOKENIZER_SPLIT
/* One character more, split as by
 *     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static void split(tokenizer_t *t, uint32_t unit)
{
    uint32_t c = UNIT_VALUE(unit), kind = UNIT_KIND(unit);
    for (;;) { /* until the character is taken; each turn ends a word or takes it */
        uint32_t held = t->held;
        if (t->state == STATE_START) {
            t->state = (uint8_t)(c == '\'' ? STATE_APOSTROPHE : kind);
            t->held = c;
            if (c != '\'' && kind != KIND_SPACE) {
                push_bytes(t, c);
            }
            return;
        }
        if (t->state == KIND_SPACE) {
            if (kind == KIND_SPACE) {
                push_bytes(t, held);
                t->held = c;
                return;
            }
            if (t->n > 0) {
                end_word(t);
            }
            push_bytes(t, held);
            if (held == ' ') {
                t->state = (uint8_t)kind;
                continue;
            }
        } else if (t->state == STATE_APOSTROPHE) {
            if (c == 'r' || c == 'v' || c == 'l') {
                t->state = STATE_APOSTROPHE_HELD;
                t->held = c;
                return;
            }
            push_bytes(t, '\'');
            if (c != 's' && c != 't' && c != 'm' && c != 'd') {
                t->state = KIND_OTHER;
                continue;
            }
            push_bytes(t, c);
            end_word(t);
            t->state = STATE_START;
            return;
        } else if (t->state == STATE_APOSTROPHE_HELD) {
            push_bytes(t, '\'');
            if (c == (held == 'l' ? 'l' : 'e')) {
                push_bytes(t, held);
                push_bytes(t, c);
                end_word(t);
                t->state = STATE_START;
                return;
            }
            end_word(t);
            push_bytes(t, held);
            t->state = KIND_WORD;
            continue;
        } else if (t->state == kind) {
            push_bytes(t, c);
            return;
        }
        end_word(t);
        t->state = STATE_START;
    }
}
#endif

static inline void place(tokenizer_t *t, uint32_t unit)
{
#if TOKENIZER_SPLIT
    split(t, unit);
#else
    push_bytes(t, UNIT_VALUE(unit));
#endif
}

static void split_end(tokenizer_t *t)
{
    if (t->state == KIND_SPACE) {
        push_bytes(t, t->held);
    } else if (t->state >= STATE_APOSTROPHE) {
        push_bytes(t, '\'');
        if (t->state == STATE_APOSTROPHE_HELD) {
            end_word(t);
            push_bytes(t, t->held);
        }
    }
    end_word(t);
    t->state = STATE_START;
}

static void take(tokenizer_t *t, uint32_t unit)
{
#if TOKENIZER_PREFIX_SPACE
    if (!t->begun && UNIT_VALUE(unit) != ' ') {
        place(t, (uint32_t)KIND_SPACE << 22 | ' ');
    }
    t->begun = true;
#endif
    place(t, unit);
}

#else /* words of characters: \w+|[^\w\s]+ */

enum { STATE_START = KIND_SPACE };

static void take(tokenizer_t *t, uint32_t unit)
{
    uint32_t kind = UNIT_KIND(unit);
    if (kind != t->state) {
        if (t->n > 0) {
            end_word(t);
        }
        t->unknown = false;
        t->state = (uint8_t)kind;
    }
    if (kind != KIND_SPACE) {
        push(t, UNIT_VALUE(unit));
    }
}

static void split_end(tokenizer_t *t)
{
    end_word(t);
    t->state = STATE_START;
}

#endif

/* ---- characters ---- */

#if TOKENIZER_REORDER

static void flush_marks(tokenizer_t *t)
{
    for (size_t i = 0; i < t->marked; i++) {
        take(t, t->marks[i]);
    }
    t->marked = 0;
}

/* Marks that follow one another stand in the order of their classes, those of one class as they came. */
static void order(tokenizer_t *t, uint32_t unit)
{
    if (UNIT_CLASS(unit) == 0) {
        flush_marks(t);
        take(t, unit);
        return;
    }
    if (t->marked == TOKENIZER_MARKS) {
        t->end = TOKENIZER_LOST;
        return;
    }
    size_t at = t->marked++;
    while (at > 0 && UNIT_CLASS(t->marks[at - 1]) > UNIT_CLASS(unit)) {
        t->marks[at] = t->marks[at - 1];
        at--;
    }
    t->marks[at] = unit;
}

#else
#define order take
#endif

/* What the normalizer makes of a code point: below TOKENIZER_UNITS a unit, else a sequence of none or several. */
static inline uint32_t action(uint32_t c)
{
    uint32_t high = map_top[c >> (TOKENIZER_LOW_BITS + TOKENIZER_MIDDLE_BITS)];
    uint32_t middle = c >> TOKENIZER_LOW_BITS & ((1u << TOKENIZER_MIDDLE_BITS) - 1u);
    uint32_t low = map_middle[high << TOKENIZER_MIDDLE_BITS | middle];
    return map_low[low << TOKENIZER_LOW_BITS | (c & ((1u << TOKENIZER_LOW_BITS) - 1u))];
}

/* The unit of a code point of which the table has the value relative to it, or as it is. */
static inline uint32_t unit_of(uint32_t entry, uint32_t c)
{
#if TOKENIZER_BYTE_LEVEL
    return (entry & ~0x3FFFFFu) | (UNIT_VALUE(entry) + c - 0x110000u);
#else
    (void)c;
    return entry;
#endif
}

static void normalized(tokenizer_t *t, uint32_t c)
{
    uint32_t found = action(c);
    if (found < TOKENIZER_UNITS) {
        order(t, unit_of(units[found], c));
        return;
    }
    found -= TOKENIZER_UNITS;
    for (uint32_t i = sequence_at[found]; i < sequence_at[found + 1]; i++) {
        order(t, sequences[i]);
    }
}

static void character(tokenizer_t *t, uint32_t c)
{
#if TOKENIZER_HANGUL
    uint32_t syllable = c - 0xAC00u; /* it falls apart into two or three letters */
    if (syllable < 11172u) {
        normalized(t, 0x1100u + syllable / 588u);
        normalized(t, 0x1161u + syllable % 588u / 28u);
        if (syllable % 28u > 0) {
            normalized(t, 0x11A7u + syllable % 28u);
        }
        return;
    }
#endif
    normalized(t, c);
}

/* The code point at `bytes`, of which there are n > 0; *used: how many bytes it takes. What is not UTF-8 is U+FFFD, one
 * for each longest part that begins a sequence (Unicode 15, 3.9, U+FFFD substitution of maximal subparts). */
static uint32_t decode(const uint8_t *bytes, size_t n, size_t *used)
{
    uint32_t first = bytes[0];
    *used = 1;
    if (first < 0x80u) {
        return first;
    }
    if (first < 0xC2u || first > 0xF4u) {
        return 0xFFFDu;
    }
    size_t length = first < 0xE0u ? 2 : first < 0xF0u ? 3 : 4;
    uint32_t c = first & (0x7Fu >> length);
    /* The second byte's range keeps out what is too long, surrogates, and what is above U+10FFFF. */
    uint32_t least = first == 0xE0u ? 0xA0u : first == 0xF0u ? 0x90u : 0x80u;
    uint32_t most = first == 0xEDu ? 0x9Fu : first == 0xF4u ? 0x8Fu : 0xBFu;
    while (*used < length) {
        if (*used == n || bytes[*used] < least || bytes[*used] > most) {
            return 0xFFFDu;
        }
        c = c << 6 | (bytes[*used] & 0x3Fu);
        ++*used;
        least = 0x80u;
        most = 0xBFu;
    }
    return c;
}

/* Append the ids of a text to those in t. */
static void tokenize_text(tokenizer_t *t, const char *utf8, size_t n)
{
    const uint8_t *bytes = (const uint8_t *)utf8;
    t->state = STATE_START;
    t->n = 0;
    t->unknown = false;
    t->begun = false;
    while (n > 0 && t->end == TOKENIZER_DONE) {
        size_t used;
        character(t, decode(bytes, n, &used));
        bytes += used;
        n -= used;
    }
    if (t->end == TOKENIZER_DONE) {
#if TOKENIZER_REORDER
        flush_marks(t);
#endif
        split_end(t);
    }
}

static void append(tokenizer_t *t, int32_t id)
{
    if (t->count == t->room) {
        t->end = TOKENIZER_FULL;
    } else {
        t->ids[t->count++] = id;
    }
}

/* `[CLS] utf8` or, where pair is not NULL, `[CLS] utf8 [SEP] pair`, cut to `room` ids.
 * window: TOKENIZER_WINDOW_BYTES bytes, aligned to 2. */
static tokenizer_end_t tokenize_texts(uint8_t *window, const char *utf8, size_t n, const char *pair, size_t pair_n,
                                      int32_t *ids, size_t room, size_t *count)
{
    tokenizer_t t;
    t.symbols = (uint16_t *)(void *)window;
    t.ranks = t.symbols + TOKENIZER_WINDOW;
    t.ids = ids;
    t.count = 0;
    t.room = room;
    t.end = TOKENIZER_DONE;
    t.held = 0;
#if TOKENIZER_REORDER
    t.marked = 0;
#endif
    append(&t, TOKENIZER_CLS);
    tokenize_text(&t, utf8, n);
    if (pair != NULL && t.end == TOKENIZER_DONE) {
        append(&t, TOKENIZER_SEP);
        if (t.end == TOKENIZER_DONE) {
            tokenize_text(&t, pair, pair_n);
        }
    }
    *count = t.count;
    return t.end;
}

#endif
