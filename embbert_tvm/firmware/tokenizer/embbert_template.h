/* Texts to ids, with what the template puts around them, cut as the library cuts them.
 *
 *   tokenize_text(t, bytes, n, room, counts_on)   the ids of one text
 *   template_single, template_pair   ids, and TEMPLATE_A and TEMPLATE_B where the texts' own stand
 *   TEMPLATE_SINGLE, TEMPLATE_PAIR   how many */
#ifndef EMBBERT_TEMPLATE_H
#define EMBBERT_TEMPLATE_H

#include "embbert_text.h"

#if TOKENIZER_OFFSETS
#define OFFSETS_PARAMETERS , uint16_t *begins, uint16_t *ends
#define OFFSETS_ARGUMENTS , begins, ends
#else
#define OFFSETS_PARAMETERS
#define OFFSETS_ARGUMENTS
#endif

enum { TEMPLATE_A = -1, TEMPLATE_B = -2 };

/* Append a template's ids from `at` on up to the next text's place, which it gives. */
static size_t put_template(const int32_t *template, size_t n, size_t at, int32_t *ids, size_t *count OFFSETS_PARAMETERS)
{
    while (at < n && template[at] >= 0) {
#if TOKENIZER_OFFSETS
        if (begins != NULL) {
            begins[*count] = ends[*count] = 0;
        }
#endif
        ids[(*count)++] = template[at++];
    }
    return at;
}

/* The next text's ids are written from the n-th on. */
static void write_from(tokenizer_t *t, int32_t *ids, size_t n OFFSETS_PARAMETERS)
{
    t->ids = ids + n;
#if TOKENIZER_OFFSETS
    t->begins = begins == NULL ? NULL : begins + n;
    t->ends = begins == NULL ? NULL : ends + n;
#endif
}

/* How many ids of two texts, which have a and b, are kept where `room` are fewer: the longer one gives way, until both
 * are of one length (the library's LongestFirst). TOKENIZER_TOGETHER ids are a token, which is not cut. */
static void share(size_t a, size_t b, size_t room, size_t *kept_a, size_t *kept_b)
{
    size_t less = a < b ? a : b;
    size_t more = less > room || room - less < less ? less : room - less;
    if (less + more > room) {
        less = room / TOKENIZER_TOGETHER / 2 * TOKENIZER_TOGETHER;
        more = room - less;
    }
    *kept_a = a > b ? more : less;
    *kept_b = a > b ? less : more;
}

/* The ids of a text or, where pair is not NULL, of two, at most `most`; *cut: there are more. The template's own fit,
 * and have the place 0 to 0. */
static tokenizer_end_t tokenize_texts(void *window, const char *utf8, size_t n, const char *pair, size_t pair_n,
                                      int32_t *ids, size_t most, size_t *count, bool *cut OFFSETS_PARAMETERS)
{
    const int32_t *template = pair != NULL ? template_pair : template_single;
    size_t size = pair != NULL ? TEMPLATE_PAIR : TEMPLATE_SINGLE;
    size_t room = (most - (size - (pair != NULL ? 2u : 1u))) / TOKENIZER_TOGETHER * TOKENIZER_TOGETHER, written = 0;
    tokenizer_t t;
    t.window = window;
    size_t at = put_template(template, size, 0, ids, &written OFFSETS_ARGUMENTS);
    write_from(&t, ids, written OFFSETS_ARGUMENTS);
    tokenize_text(&t, (const uint8_t *)utf8, n, room, pair != NULL);
    *cut = t.end == TOKENIZER_FULL;
    size_t a = t.count, kept = a < room ? a : room;
    if (pair != NULL && t.end != TOKENIZER_LOST) {
        size_t begin = written;
        written += kept;
        size_t next = put_template(template, size, at + 1, ids, &written OFFSETS_ARGUMENTS);
        write_from(&t, ids, written OFFSETS_ARGUMENTS);
        tokenize_text(&t, (const uint8_t *)pair, pair_n, room - kept, true);
        size_t b = t.count;
        kept = b;
        if (t.end == TOKENIZER_DONE && a + b > room) {
            size_t kept_a;
            share(a, b, room, &kept_a, &kept);
            written = begin + kept_a;
            next = put_template(template, size, at + 1, ids, &written OFFSETS_ARGUMENTS);
            write_from(&t, ids, written OFFSETS_ARGUMENTS);
            tokenize_text(&t, (const uint8_t *)pair, pair_n, kept, false);
            *cut = true;
        }
        at = next;
    }
    if (t.end == TOKENIZER_LOST) {
        return TOKENIZER_LOST;
    }
    written += kept;
    put_template(template, size, at + 1, ids, &written OFFSETS_ARGUMENTS);
    *count = written;
    return TOKENIZER_DONE;
}

#endif
