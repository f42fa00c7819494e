/* SPDX-License-Identifier: Apache-2.0 */
/* The examples' one text, or one vector of token ids, and its label, or one label a token. */
#ifndef @upper@_CLASSIFY_H
#define @upper@_CLASSIFY_H

#include <string.h>

#include "@prefix@.h"

static size_t labels[@upper@_OF_TOKENS ? @upper@_MAX_LENGTH : 1];

#if @upper@_HAS_TOKENIZER
static const char text[] = "@text@";
#endif

#if @upper@_HAS_TOKENIZER && @upper@_OF_TOKENS

static @prefix@_status_t classify(@prefix@_t *model, size_t *count)
{
    static @prefix@_token_t tokens[@upper@_MAX_LENGTH];
    static float logits[@upper@_LOGITS];
    bool truncated;
    @prefix@_status_t status =
        @prefix@_label_tokens(model, text, strlen(text), NULL, 0, tokens, logits, count, &truncated);
    for (size_t i = 0; status == @upper@_OK && i < *count; i++)
        labels[i] = tokens[i].label;
    return status;
}

#elif @upper@_HAS_TOKENIZER

static @prefix@_status_t classify(@prefix@_t *model, size_t *count)
{
    static @prefix@_result_t result;
    @prefix@_status_t status = @prefix@_classify(model, text, strlen(text), &result);
    labels[0] = result.label;
    *count = 1;
    return status;
}

#else /* the package takes token ids alone: those of one of its reference vectors */

static @prefix@_status_t classify(@prefix@_t *model, size_t *count)
{
    static const int32_t ids[] = {@ids@};
    static float logits[@upper@_LOGITS];
    const size_t tokens = sizeof ids / sizeof ids[0];
    @prefix@_status_t status = @prefix@_run(model, ids, tokens, logits);
    *count = @upper@_OF_TOKENS ? tokens : 1;
    for (size_t row = 0; row < *count; row++) {
        const float *of_row = logits + row * @upper@_CLASSES;
        labels[row] = 0;
        for (size_t i = 1; i < @upper@_CLASSES; i++) {
            if (of_row[i] > of_row[labels[row]])
                labels[row] = i;
        }
    }
    return status;
}

#endif

#endif
