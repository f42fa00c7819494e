// SPDX-License-Identifier: Apache-2.0
// Classifies what comes over Serial, a line at a time, and prints its label, or a label a token.

#include <@prefix@.h>

static uint8_t arena[@upper@_ARENA_BYTES] __attribute__((aligned(@upper@_ARENA_ALIGN)));
static @prefix@_t model;

static void print_label(size_t label)
{
    const char *name = @prefix@_label(@of_model@label);
    Serial.println(name ? name : "(no label)");
}

void setup()
{
    Serial.begin(115200);
    while (!Serial) {
    }
    if (@prefix@_init(&model, arena, sizeof arena@blob@) != @upper@_OK)
        Serial.println("the model refused its arena");
}

#if @upper@_HAS_TOKENIZER

static char line[512];
static size_t length;

void loop()
{
    if (!Serial.available())
        return;
    char byte = (char)Serial.read();
    if (byte != '\n') {
        if (length < sizeof line)
            line[length++] = byte;
        return;
    }
#if @upper@_OF_TOKENS
    static @prefix@_token_t tokens[@upper@_MAX_LENGTH];
    static float logits[@upper@_LOGITS];
    size_t count = 0;
    bool truncated;
    @prefix@_status_t status =
        @prefix@_label_tokens(&model, line, length, NULL, 0, tokens, logits, &count, &truncated);
    for (size_t i = 0; status == @upper@_OK && i < count; i++)
        print_label(tokens[i].label);
#else
    static @prefix@_result_t result;
    @prefix@_status_t status = @prefix@_classify(&model, line, length, &result);
    if (status == @upper@_OK)
        print_label(result.label);
#endif
    length = 0;
    if (status != @upper@_OK)
        Serial.println(@prefix@_status_text(status));
}

#else // the package takes token ids alone: those of one of its reference vectors

void loop()
{
    static const int32_t ids[] = {@ids@};
    static float logits[@upper@_LOGITS];
    const size_t tokens = sizeof ids / sizeof ids[0], rows = @upper@_OF_TOKENS ? tokens : 1;
    bool right = @prefix@_run(&model, ids, tokens, logits) == @upper@_OK;
    for (size_t row = 0; right && row < rows; row++) {
        const float *of_row = logits + row * @upper@_CLASSES;
        size_t label = 0;
        for (size_t i = 1; i < @upper@_CLASSES; i++) {
            if (of_row[i] > of_row[label])
                label = i;
        }
        print_label(label);
    }
    delay(1000);
}

#endif
