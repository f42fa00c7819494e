/* SPDX-License-Identifier: Apache-2.0 */
/* The examples' one text, or one vector of token ids, and its label. */
#ifndef @upper@_CLASSIFY_H
#define @upper@_CLASSIFY_H

#include <string.h>

#include "@prefix@.h"

#if @upper@_HAS_TOKENIZER

static @prefix@_status_t classify(@prefix@_t *model, size_t *label)
{
    static const char text[] = "@text@";
    static @prefix@_result_t result;
    @prefix@_status_t status = @prefix@_classify(model, text, strlen(text), &result);
    *label = result.label;
    return status;
}

#else /* the package takes token ids alone: those of one of its reference vectors */

static @prefix@_status_t classify(@prefix@_t *model, size_t *label)
{
    static const int32_t ids[] = {@ids@};
    static float logits[@upper@_LOGITS];
    @prefix@_status_t status = @prefix@_run(model, ids, sizeof ids / sizeof ids[0], logits);
    *label = 0;
    for (size_t i = 1; i < @upper@_CLASSES; i++) {
        if (logits[i] > logits[*label])
            *label = i;
    }
    return status;
}

#endif

#endif
