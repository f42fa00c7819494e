/* HashedWords: each word becomes some ids, hashes of the word and the least hashes of its runs of characters.
 *
 * What is hashed, and how, is defined by embbert_tvm/data/hashed_words.py, whose tests hold this file to it.
 *
 *   TOKENIZER_WORDS, TOKENIZER_LEAST    ids of a word by its own hash, by the least of its runs'
 *   TOKENIZER_SHORTEST, TOKENIZER_LONGEST    characters of a run
 *   TOKENIZER_FIRST, TOKENIZER_BUCKETS       the first id, and how many there are */
#ifndef EMBBERT_HASHED_WORDS_H
#define EMBBERT_HASHED_WORDS_H

#include "embbert_text.h"

static uint32_t hash_mixed(uint32_t hash)
{
    hash = (hash ^ hash >> 15) * 0x2C1B3C6Du;
    hash = (hash ^ hash >> 12) * 0x297A2D39u;
    return hash ^ hash >> 15;
}

static inline uint32_t hash_salt(uint32_t number)
{
    return (number + 1u) * 0x632BE5ABu;
}

static inline uint32_t hash_id(uint32_t hash)
{
    return TOKENIZER_FIRST + (uint32_t)((uint64_t)hash * TOKENIZER_BUCKETS >> 32);
}

/* One more feature of the word: the least hashes of all are kept. */
static void hash_feature(tokenizer_t *t, uint32_t feature)
{
    for (uint32_t k = 0; k < TOKENIZER_LEAST; k++) {
        uint32_t hash = hash_mixed(feature + hash_salt(TOKENIZER_WORDS + k));
        t->least[k] = hash < t->least[k] ? hash : t->least[k];
    }
}

/* A character of the word, or a space on either side of it: the runs that end in it. */
static void hash_character(tokenizer_t *t, uint32_t point)
{
    for (uint32_t length = TOKENIZER_LONGEST; length > 0; length--) {
        t->runs[length] = t->runs[length - 1] * 0x9E3779B1u + point + 1u;
    }
    t->seen += t->seen < TOKENIZER_LONGEST ? 1u : 0u;
    for (uint32_t length = TOKENIZER_SHORTEST; length <= t->seen; length++) {
        hash_feature(t, t->runs[length] + length * 0x7F4A7C15u);
    }
}

static void end_word(tokenizer_t *t)
{
    if (t->n > 0) {
        hash_character(t, ' ');
        hash_feature(t, t->word);
        for (uint32_t k = 0; k < TOKENIZER_WORDS; k++) {
            WRITE_ID(t, hash_id(hash_mixed(t->word + hash_salt(k))), t->word_place);
        }
        for (uint32_t k = 0; k < TOKENIZER_LEAST; k++) {
            WRITE_ID(t, hash_id(hash_mixed(t->least[k])), t->word_place);
        }
    }
    t->n = 0;
}

/* Append a character to the word. */
static void push(tokenizer_t *t, uint32_t value)
{
    uint32_t point = UNIT_POINT(value);
    if (t->n == 0) {
        t->word = t->seen = 0;
        t->runs[0] = 0;
        for (uint32_t k = 0; k < TOKENIZER_LEAST; k++) {
            t->least[k] = 0xFFFFFFFFu;
        }
        hash_character(t, ' ');
    }
    t->word = t->word * 0x9E3779B1u + point + 1u;
    hash_character(t, point);
#if TOKENIZER_OFFSETS
    t->word_place = t->n == 0 ? t->place : join_places(t->word_place, t->place);
#endif
    t->n = 1; /* the word is not empty */
}

#endif
