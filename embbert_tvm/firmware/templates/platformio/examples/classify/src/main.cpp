// SPDX-License-Identifier: Apache-2.0
// Classifies a text every second and prints its label, or a label a token.

#include <Arduino.h>

#include <@prefix@.h>
#include "classify.h"

static uint8_t arena[@upper@_ARENA_BYTES] __attribute__((aligned(@upper@_ARENA_ALIGN)));
static @prefix@_t model;

void setup()
{
    Serial.begin(115200);
    if (@prefix@_init(&model, arena, sizeof arena@blob@) != @upper@_OK)
        Serial.println("the model refused its arena");
}

void loop()
{
    size_t count = 0;
    @prefix@_status_t status = classify(&model, &count);
    if (status != @upper@_OK)
        Serial.println(@prefix@_status_text(status));
    for (size_t i = 0; status == @upper@_OK && i < count; i++) {
        const char *name = @prefix@_label(@of_model@labels[i]);
        Serial.println(name ? name : "(no label)");
    }
    delay(1000);
}
