/* UTF-8 to code points, and what is known of them without tables. */
#ifndef EMBBERT_UNICODE_H
#define EMBBERT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/* The code point that ends where n > 0 bytes do; *used: how many bytes it takes. */
static inline uint32_t decode_before(const uint8_t *bytes, size_t n, size_t *used)
{
    for (size_t length = 1; length <= 4 && length <= n; length++) {
        const uint8_t *start = bytes + n - length;
        if ((*start & 0xC0u) != 0x80u) {
            uint32_t c = decode(start, length, used);
            if (*used == length) {
                return c;
            }
            break;
        }
    }
    *used = 1;
    return 0xFFFDu;
}

/* How many bytes a code point takes in UTF-8. */
static inline uint32_t utf8_bytes(uint32_t c)
{
    return c < 0x80u ? 1u : c < 0x800u ? 2u : c < 0x10000u ? 3u : 4u;
}

/* Unicode's White_Space. */
static inline bool is_white_space(uint32_t c)
{
    if (c < 0x1680u) {
        return (c >= 9u && c <= 13u) || c == ' ' || c == 0x85u || c == 0xA0u;
    }
    return c == 0x1680u || (c >= 0x2000u && c <= 0x200Au) || c == 0x2028u || c == 0x2029u || c == 0x202Fu ||
           c == 0x205Fu || c == 0x3000u;
}

/* The made one of (first, second, made), `count` of them sorted; 0 where there is none. */
static inline uint32_t find_pair(const uint32_t (*pairs)[3], size_t count, uint32_t first, uint32_t second)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const uint32_t *pair = pairs[middle];
        if (pair[0] < first || (pair[0] == first && pair[1] < second)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < count && pairs[low][0] == first && pairs[low][1] == second ? pairs[low][2] : 0u;
}

/* Hangul's letters, joined by arithmetic (Unicode 3.12); 0 where they do not join. */
static inline uint32_t join_hangul(uint32_t first, uint32_t second)
{
    if (first - 0x1100u < 19u && second - 0x1161u < 21u) {
        return 0xAC00u + ((first - 0x1100u) * 21u + (second - 0x1161u)) * 28u;
    }
    if (first - 0xAC00u < 11172u && (first - 0xAC00u) % 28u == 0 && second - 0x11A8u < 27u) {
        return first + (second - 0x11A7u);
    }
    return 0u;
}

#endif
