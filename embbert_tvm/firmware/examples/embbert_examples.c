/* SPDX-License-Identifier: Apache-2.0 */
#include "embbert_examples.h"

#include <string.h>

enum { WIDTH = EMBBERT_EXAMPLES_WIDTH, NAME = EMBBERT_EXAMPLES_NAME, HEADER = 12, VERSION = 1 };

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
    float largest = 0.0f;
    for (size_t i = 0; i < WIDTH; i++) {
        if (!(magnitude(vector[i]) <= 1e30f)) {
            return 0.0f; /* NaN or infinite: no direction */
        }
        largest = magnitude(vector[i]) > largest ? magnitude(vector[i]) : largest;
    }
    return largest < 1e-30f ? 0.0f : largest;
}

/* Round a vector to int8, its largest element to 127; what one of them is worth, 0 where it has no direction. */
static float rounded(const float *vector, int8_t *to)
{
    float scale = largest_of(vector) / 127.0f;
    for (size_t i = 0; scale > 0.0f && i < WIDTH; i++) {
        float x = vector[i] / scale;
        to[i] = (int8_t)(x < 0.0f ? x - 0.5f : x + 0.5f);
    }
    return scale;
}

static float inverse_length_of(const int8_t *vector)
{
    int32_t square = 0;
    for (size_t i = 0; i < WIDTH; i++) {
        square += vector[i] * vector[i];
    }
    return inverse_root((float)square);
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
    int8_t rough[WIDTH];
    float scale = rounded(vector, rough);
    if (!(scale > 0.0f)) {
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
        float part = vector[i] / (127.0f * scale); /* at most 1, so that no square overflows */
        square += part * part;
    }
    float unit = inverse_root(square) / (127.0f * scale);
    float sum[WIDTH];
    for (size_t i = 0; i < WIDTH; i++) {
        sum[i] = entry->scale * (float)entry->vector[i] + vector[i] * unit;
    }
    float worth = rounded(sum, entry->vector);
    if (worth > 0.0f) { /* else the vectors cancel, and the direction stays what it was */
        entry->scale = worth;
    }
    entry->inverse_length = inverse_length_of(entry->vector);
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
    int8_t asked[WIDTH];
    if (!(rounded(vector, asked) > 0.0f)) {
        return found;
    }
    float inverse = inverse_length_of(asked);
    const embbert_example_t *nearest = NULL;
    for (size_t place = 0; place < store->count; place++) {
        const embbert_example_t *entry = &store->entries[place];
        int32_t dot = 0;
        for (size_t i = 0; i < WIDTH; i++) {
            dot += asked[i] * entry->vector[i];
        }
        float cosine = (float)dot * inverse * entry->inverse_length;
        if (nearest == NULL || cosine > found.cosine) {
            found.cosine = cosine;
            nearest = entry;
        }
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
        memcpy(at, entry->vector, WIDTH);
        at += WIDTH;
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
        memcpy(entry->vector, at, WIDTH);
        at += WIDTH;
        entry->inverse_length = inverse_length_of(entry->vector);
    }
    return EMBBERT_EXAMPLES_OK;
}
