// SPDX-License-Identifier: Apache-2.0
// Classifies a text every second and prints its label.

#include <Arduino.h>
#include <string.h>

#include <@prefix@.h>

static uint8_t arena[@upper@_ARENA_BYTES] __attribute__((aligned(@upper@_ARENA_ALIGN)));
static @prefix@_t model;

#if @upper@_HAS_TOKENIZER

static @prefix@_status_t classify(size_t *label)
{
    static const char text[] = "@text@";
    static @prefix@_result_t result;
    @prefix@_status_t status = @prefix@_classify(&model, text, strlen(text), &result);
    *label = result.label;
    return status;
}

#else // the package takes token ids alone: those of one of its reference vectors

static @prefix@_status_t classify(size_t *label)
{
    static const int32_t ids[] = {@ids@};
    static float logits[@upper@_CLASSES];
    @prefix@_status_t status = @prefix@_run(&model, ids, sizeof ids / sizeof ids[0], logits);
    *label = 0;
    for (size_t i = 1; i < @upper@_CLASSES; i++) {
        if (logits[i] > logits[*label])
            *label = i;
    }
    return status;
}

#endif

void setup()
{
    Serial.begin(115200);
    if (@prefix@_init(&model, arena, sizeof arena@blob@) != @upper@_OK)
        Serial.println("the model refused its arena");
}

void loop()
{
    size_t label = 0;
    @prefix@_status_t status = classify(&label);
    const char *name = @prefix@_label(@of_model@label);
    Serial.println(status != @upper@_OK ? @prefix@_status_text(status) : name ? name : "(no label)");
    delay(1000);
}
