/* SPDX-License-Identifier: Apache-2.0 */
/* The vector by embbert_embed() has the bits of embbert_classify()'s, and misuse has a status. */
#include <stdio.h>
#include <string.h>

#include "embbert.h"

int main(void)
{
    static uint8_t arena[EMBBERT_ARENA_BYTES] __attribute__((aligned(EMBBERT_ARENA_ALIGN)));
    static float vector[EMBBERT_CLASSES];
    static embbert_result_t result;
    static const char text[] = "turn the lights off and on";
    bool truncated = true;
    embbert_t model;
    memset(&model, 0, sizeof model);
    if (embbert_embed(&model, text, strlen(text), vector, &truncated) != EMBBERT_E_INIT
        || embbert_init(&model, arena, sizeof arena) != EMBBERT_OK
        || embbert_embed(&model, text, strlen(text), NULL, &truncated) != EMBBERT_E_ARGUMENT
        || embbert_embed(&model, NULL, 1, vector, &truncated) != EMBBERT_E_ARGUMENT || vector[0] != 0.0f || !truncated
        || embbert_embed(&model, text, strlen(text), vector, &truncated) != EMBBERT_OK || truncated
        || embbert_classify(&model, text, strlen(text), &result) != EMBBERT_OK
        || memcmp(vector, result.logits, sizeof vector) != 0 || EMBBERT_HEAD != EMBBERT_HEAD_VECTOR) {
        puts("wrong");
        return 1;
    }
    return 0;
}
