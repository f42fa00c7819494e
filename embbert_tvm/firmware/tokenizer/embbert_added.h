/* Added tokens in the bytes of a text: the longest of those that begin at the first place where one does.
 *
 *   tokenizer_is_word(c)   whether a code point is of a word, for TOKENIZER_SINGLE_WORDS */
#ifndef EMBBERT_ADDED_H
#define EMBBERT_ADDED_H

#include "embbert_text.h"
#include "embbert_unicode.h"

enum { ADDED_SINGLE_WORD = 1, ADDED_STRIPS_LEFT = 2, ADDED_STRIPS_RIGHT = 4, ADDED_IS_TEXT = 8 };

/* Some tokens, longer ones first. */
typedef struct {
    const uint8_t *bytes;  /* of the n-th: bytes[at[n]] to bytes[at[n + 1] - 1] */
    const uint16_t *at;
    const uint8_t *flags;
    const uint32_t *ids;
    const uint32_t *first; /* bit b: a token begins with byte b */
    size_t count;
} added_t;

/* A token that was found, with the white space that it takes. */
typedef struct {
    size_t start, end;
    uint32_t id;
} added_found_t;

/* The longest token that stands at bytes[at], or `count`; *length: its bytes. */
static inline size_t added_at(const added_t *added, const uint8_t *bytes, size_t n, size_t at, size_t *length)
{
    for (size_t k = 0; k < added->count; k++) {
        const uint8_t *token = added->bytes + added->at[k];
        size_t size = (size_t)(added->at[k + 1] - added->at[k]), i = 0;
        if (size > n - at) {
            continue;
        }
        while (i < size && token[i] == bytes[at + i]) {
            i++;
        }
        if (i == size) {
            *length = size;
            return k;
        }
    }
    return added->count;
}

#if TOKENIZER_SINGLE_WORDS
static inline bool stands_alone(const uint8_t *bytes, size_t n, size_t start, size_t end)
{
    size_t used;
    return (start == 0 || !tokenizer_is_word(decode_before(bytes, start, &used))) &&
           (end == n || !tokenizer_is_word(decode(bytes + end, n - end, &used)));
}
#endif

/* The next token at *from or behind; false: there is none. begin: what is before it is taken. */
static inline bool find_added(const added_t *added, const uint8_t *bytes, size_t n, size_t begin, size_t *from,
                              added_found_t *found)
{
    for (size_t at = *from; at < n; at++) {
        if (!(added->first[bytes[at] / 32u] >> bytes[at] % 32u & 1u)) {
            continue;
        }
        size_t length = 0, used, k = added_at(added, bytes, n, at, &length);
        if (k == added->count) {
            continue;
        }
        uint8_t flags = added->flags[k];
        *from = at + length;
#if TOKENIZER_SINGLE_WORDS
        if ((flags & ADDED_SINGLE_WORD) && !stands_alone(bytes, n, at, *from)) {
            flags |= ADDED_IS_TEXT;
        }
#endif
        if (flags & ADDED_IS_TEXT) {
            at = *from - 1;
            continue;
        }
        found->id = added->ids[k];
        found->start = at;
        found->end = *from;
        while ((flags & ADDED_STRIPS_LEFT) && found->start > begin &&
               is_white_space(decode_before(bytes, found->start, &used))) {
            found->start -= used;
        }
        found->start = found->start > begin ? found->start : begin;
        while ((flags & ADDED_STRIPS_RIGHT) && found->end < n &&
               is_white_space(decode(bytes + found->end, n - found->end, &used))) {
            found->end += used;
        }
        return true;
    }
    return false;
}

#endif
