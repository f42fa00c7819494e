/* Characters as the tokens of their bytes: ByteLevel, and byte_fallback. */
#ifndef EMBBERT_BYTES_H
#define EMBBERT_BYTES_H

#include "embbert_unicode.h"

/* The symbol of each byte of a code point's UTF-8, byte_symbol[byte], is pushed. */
static void push_bytes(tokenizer_t *t, uint32_t c)
{
#if TOKENIZER_OFFSETS && TOKENIZER_TRIMS
    PLACES(here)
    KEEP_PLACE(here);
    if (c == ' ') { /* counts in no token's place; one that was put before the text has no place at all */
        t->first_is_blank = t->first_is_blank || (!t->has_bytes && here.begin < here.end);
        if (here.begin < here.end) {
            t->place.begin = t->place.end;
        }
    }
    t->has_bytes = true;
#endif
    if (c < 0x80u) {
        push(t, byte_symbol[c]);
#if TOKENIZER_OFFSETS && TOKENIZER_TRIMS
        t->place = here;
#endif
        return;
    }
    uint32_t tail = utf8_bytes(c) - 1u;
    push(t, byte_symbol[(0xF0u << (3u - tail) & 0xFFu) | c >> 6 * tail]);
    while (tail-- > 0) {
        push(t, byte_symbol[0x80u | (c >> 6 * tail & 0x3Fu)]);
    }
}

#endif
