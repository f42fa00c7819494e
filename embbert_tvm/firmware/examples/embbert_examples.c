/* SPDX-License-Identifier: Apache-2.0 */
#include "embbert_examples.h"

#include <string.h>

enum {
    WIDTH = EMBBERT_EXAMPLES_WIDTH,
    WORDS = EMBBERT_EXAMPLES_WORDS,
    NAME = EMBBERT_EXAMPLES_NAME,
    HEADER = 12,
    VERSION = 2,
    LARGEST = 7,     /* of a vector's numbers */
    ZERO = 8,        /* the four bits of 0 */
    WORDS_A_SUM = 32 /* of products whose halves do not run over */
};

/* An entry that has heard more follows what it hears last: in four bits one of many unit vectors would be rounded away. */
static const float longest = 6.0f;

static const uint8_t magic[4] = {'E', 'B', 'E', 'X'};

/* 1 / sqrt(x) of x > 0, by Newton's steps from a first guess by its bits. */
static float inverse_root(float x)
{
    union {
        float value;
        uint32_t bits;
    } guess;
    guess.value = x;
    guess.bits = 0x5F3759DFu - (guess.bits >> 1);
    for (int i = 0; i < 4; i++) {
        guess.value *= 1.5f - 0.5f * x * guess.value * guess.value;
    }
    return guess.value;
}

static float magnitude(float x)
{
    return x < 0.0f ? -x : x;
}

static float largest_of(const float *vector)
{
    float largest = 0.0f, sum = 0.0f;
    for (size_t i = 0; i < WIDTH; i++) {
        const float size = magnitude(vector[i]);
        largest = size > largest ? size : largest;
        sum += size; /* no number where one is none, or infinite */
    }
    return sum <= 1e30f && largest >= 1e-30f ? largest : 0.0f;
}

/* What one is worth of a vector whose largest number is LARGEST; 0 where it has no direction. */
static float step_of(const float *vector)
{
    return largest_of(vector) / (float)LARGEST;
}

static uint32_t four_bits(float x)
{
    return (uint32_t)(int32_t)(x + ((float)ZERO + 0.5f));
}

static void pack(const float *vector, float step, uint32_t *words)
{
    for (size_t w = 0; w < WORDS; w++) {
        words[w] = 0;
        for (size_t i = 8u * w + 8u; i-- > 8u * w;) {
            words[w] = words[w] << 4u | (i < WIDTH ? four_bits(vector[i] / step) : ZERO);
        }
    }
}

static int32_t number_at(const uint32_t *words, size_t i)
{
    return (int32_t)(words[i / 8u] >> 4u * (i % 8u) & 15u) - ZERO;
}

static float inverse_length_of(const uint32_t *words)
{
    int32_t square = 0;
    for (size_t i = 0; i < WIDTH; i++) {
        square += number_at(words, i) * number_at(words, i);
    }
    return inverse_root((float)square);
}

/* The vector of a look-up. Numbers k and k + 4 of an entry's word, the fours of bits at 4k and 16 + 4k, are the halves
 * of (word >> 4k & MASK); the query's have a word of their own, the first in the upper half. The upper half of the product
 * of the two is the inner product, for k = 0 to 3. Of the first the word itself is multiplied: what the others give too
 * much then is taken from their pairs, pair[k] - 2^4k pair[0]. */
typedef struct {
    uint32_t pairs[4 * WORDS];
    int32_t zeros; /* what the entry's numbers have in common, ZERO, gives */
    float inverse_length;
} query_t;

/* In a variable, as an operand of `and` beside a shift: with a constant the shift would be an instruction of its own. */
static const volatile uint32_t MASK = 0x000F000Fu;

static void ask(query_t *query, const float *vector, float step)
{
    uint32_t words[WORDS], *pairs = query->pairs;
    int32_t sum = 0, square = 0;
    pack(vector, step, words);
    for (size_t w = 0; w < WORDS; w++, pairs += 4) {
        for (size_t k = 0; k < 4; k++) {
            int32_t upper = number_at(&words[w], k), lower = number_at(&words[w], k + 4u);
            pairs[k] = ((uint32_t)upper << 16u) + (uint32_t)lower - (k > 0 ? pairs[0] << 4u * k : 0);
            sum += upper + lower;
            square += upper * upper + lower * lower;
        }
    }
    query->zeros = ZERO * sum;
    query->inverse_length = inverse_root((float)square);
}

static uint32_t product(uint32_t word, uint32_t mask, const uint32_t *pairs)
{
    return word * pairs[0] + (word >> 4u & mask) * pairs[1] + (word >> 8u & mask) * pairs[2]
        + (word >> 12u & mask) * pairs[3];
}

/* The inner products of two entries, so that a pair is loaded once for both. The sum of WORDS_A_SUM words' products keeps
 * its halves apart: 8 * 32 products of 7 and 15 are below 2^15. */
static void inner_products(const query_t *query, const uint32_t *first, const uint32_t *second, int32_t *found)
{
    const uint32_t mask = MASK, *pairs = query->pairs;
    found[0] = found[1] = -query->zeros;
    for (size_t from = 0; from < WORDS; from += WORDS_A_SUM) {
        uint32_t sums[2] = {0x80008000u, 0x80008000u}; /* so that neither half is negative */
        for (size_t w = from; w < WORDS && w < from + WORDS_A_SUM; w++, pairs += 4) {
            sums[0] += product(first[w], mask, pairs);
            sums[1] += product(second[w], mask, pairs);
        }
        found[0] += (int32_t)(sums[0] >> 16u) - 0x8000;
        found[1] += (int32_t)(sums[1] >> 16u) - 0x8000;
    }
}

/* Bytes of a name, 0 for one that does not fit. */
static size_t length_of(const char *name)
{
    size_t length = 0;
    while (name != NULL && length < NAME && name[length] != '\0') {
        length++;
    }
    return length < NAME ? length : 0;
}

/* The place of a name, count where it is not there. */
static size_t find(const embbert_examples_t *store, const char *name, size_t length)
{
    size_t place = 0;
    while (place < store->count && memcmp(store->entries[place].name, name, length + 1u) != 0) {
        place++;
    }
    return place;
}

embbert_examples_status_t embbert_examples_add(embbert_examples_t *store, const char *name, const float *vector)
{
    size_t length = length_of(name);
    if (length == 0) {
        return EMBBERT_EXAMPLES_E_NAME;
    }
    const float largest = largest_of(vector);
    if (!(largest > 0.0f)) {
        return EMBBERT_EXAMPLES_E_VECTOR;
    }
    size_t place = find(store, name, length);
    if (place == store->count && store->count == store->room) {
        return EMBBERT_EXAMPLES_E_ROOM;
    }
    embbert_example_t *entry = &store->entries[place];
    if (place == store->count) {
        memset(entry, 0, sizeof *entry);
        memcpy(entry->name, name, length);
        store->count++;
    }
    float square = 0.0f;
    for (size_t i = 0; i < WIDTH; i++) {
        float part = vector[i] / largest; /* at most 1, so that no square overflows */
        square += part * part;
    }
    const float unit = inverse_root(square) / largest;
    float kept = entry->scale;
    if (entry->count > 0 && entry->scale > longest * entry->inverse_length) {
        kept = longest * entry->inverse_length;
    }
    float sum[WIDTH];
    for (size_t i = 0; i < WIDTH; i++) {
        sum[i] = kept * (float)number_at(entry->words, i) + vector[i] * unit;
    }
    const float step = step_of(sum);
    if (step > 0.0f) { /* else the vectors cancel, and the direction stays what it was */
        pack(sum, step, entry->words);
        entry->scale = step;
        entry->inverse_length = inverse_length_of(entry->words);
    }
    entry->count = (uint16_t)(entry->count < UINT16_MAX ? entry->count + 1 : UINT16_MAX);
    return EMBBERT_EXAMPLES_OK;
}

embbert_examples_status_t embbert_examples_forget(embbert_examples_t *store, const char *name)
{
    size_t length = length_of(name);
    size_t place = length == 0 ? store->count : find(store, name, length);
    if (place == store->count) {
        return EMBBERT_EXAMPLES_E_NAME;
    }
    store->count--;
    memmove(&store->entries[place], &store->entries[place + 1u], (store->count - place) * sizeof *store->entries);
    return EMBBERT_EXAMPLES_OK;
}

embbert_nearest_t embbert_examples_nearest(const embbert_examples_t *store, const float *vector, float threshold)
{
    embbert_nearest_t found = {NULL, -1.0f};
    const float step = step_of(vector);
    if (!(step > 0.0f)) {
        return found;
    }
    query_t query;
    ask(&query, vector, step);
    const embbert_example_t *entries = store->entries, *nearest = NULL;
    float most = 0.0f; /* of the cosines, times the query's length */
    for (size_t place = 0; place < store->count; place += 2) {
        const size_t pair[2] = {place, place + 1u < store->count ? place + 1u : place};
        int32_t dots[2];
        inner_products(&query, entries[pair[0]].words, entries[pair[1]].words, dots);
        for (size_t j = 0; j < 2; j++) {
            const float along = (float)dots[j] * entries[pair[j]].inverse_length;
            if (nearest == NULL || along > most) {
                most = along;
                nearest = &entries[pair[j]];
            }
        }
    }
    if (nearest != NULL) {
        found.cosine = most * query.inverse_length;
    }
    if (found.cosine >= threshold) {
        found.entry = nearest;
    }
    return found;
}

/* ---- the blob: magic, version u16, width u16, count u32, entries, CRC-32; all little-endian ---- */

static void put(uint8_t **at, uint32_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        *(*at)++ = (uint8_t)(value >> (8u * i));
    }
}

static uint32_t take(const uint8_t **at, size_t bytes)
{
    uint32_t value = 0;
    for (size_t i = 0; i < bytes; i++) {
        value |= (uint32_t)*(*at)++ << (8u * i);
    }
    return value;
}

static uint32_t crc_of(const uint8_t *bytes, size_t n)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1u ? 0xEDB88320u : 0u);
        }
    }
    return ~crc;
}

embbert_examples_status_t embbert_examples_save(const embbert_examples_t *store, uint8_t *blob, size_t bytes)
{
    if (blob == NULL || bytes < EMBBERT_EXAMPLES_BLOB(store->count)) {
        return EMBBERT_EXAMPLES_E_ROOM;
    }
    uint8_t *at = blob + sizeof magic;
    memcpy(blob, magic, sizeof magic);
    put(&at, VERSION, 2);
    put(&at, WIDTH, 2);
    put(&at, (uint32_t)store->count, 4);
    for (size_t place = 0; place < store->count; place++) {
        const embbert_example_t *entry = &store->entries[place];
        uint32_t bits;
        memcpy(&bits, &entry->scale, sizeof bits);
        memcpy(at, entry->name, NAME);
        at += NAME;
        put(&at, entry->count, 2);
        put(&at, bits, 4);
        for (size_t w = 0; w < WORDS; w++) {
            put(&at, entry->words[w], 4);
        }
    }
    put(&at, crc_of(blob, (size_t)(at - blob)), 4);
    return EMBBERT_EXAMPLES_OK;
}

embbert_examples_status_t embbert_examples_load(embbert_examples_t *store, const uint8_t *blob, size_t bytes)
{
    if (blob == NULL || bytes < EMBBERT_EXAMPLES_BLOB(0) || memcmp(blob, magic, sizeof magic) != 0) {
        return EMBBERT_EXAMPLES_E_BLOB;
    }
    const uint8_t *at = blob + sizeof magic;
    uint32_t version = take(&at, 2), width = take(&at, 2), count = take(&at, 4);
    if (version != VERSION || width != WIDTH || count > (bytes - EMBBERT_EXAMPLES_BLOB(0)) / EMBBERT_EXAMPLES_ENTRY) {
        return EMBBERT_EXAMPLES_E_BLOB;
    }
    const uint8_t *end = blob + HEADER + (size_t)count * EMBBERT_EXAMPLES_ENTRY;
    if (take(&end, 4) != crc_of(blob, HEADER + (size_t)count * EMBBERT_EXAMPLES_ENTRY)) {
        return EMBBERT_EXAMPLES_E_BLOB;
    }
    if (count > store->room) {
        return EMBBERT_EXAMPLES_E_ROOM;
    }
    for (store->count = 0; store->count < count; store->count++) {
        embbert_example_t *entry = &store->entries[store->count];
        memcpy(entry->name, at, NAME);
        entry->name[NAME - 1] = '\0';
        at += NAME;
        entry->count = (uint16_t)take(&at, 2);
        uint32_t bits = take(&at, 4);
        memcpy(&entry->scale, &bits, sizeof bits);
        for (size_t w = 0; w < WORDS; w++) {
            entry->words[w] = take(&at, 4);
        }
        entry->inverse_length = inverse_length_of(entry->words);
    }
    return EMBBERT_EXAMPLES_OK;
}
