/* The C API of the small model, called as a firmware would and as it must not be. Prints a line for each wrong answer,
 * the logits as bits, and the labels as hexadecimal. Run under the address and undefined-behaviour sanitizers. */
#include "embbert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64 };

/* An arena of exactly EMBBERT_ARENA_BYTES between bytes that nobody may touch. */
static uint8_t memory[GUARD + EMBBERT_ARENA_BYTES + GUARD] __attribute__((aligned(EMBBERT_ARENA_ALIGN)));
static uint8_t *const arena = memory + GUARD;
static int wrong;

static void expect(const char *what, embbert_status_t found, embbert_status_t status)
{
    if (found != status) {
        printf("wrong %s: %d, not %d\n", what, (int)found, (int)status);
        wrong = 1;
    }
}

static void untouched(const char *when)
{
    for (size_t i = 0; i < GUARD; i++) {
        if (memory[i] != 0xA5 || memory[GUARD + EMBBERT_ARENA_BYTES + i] != 0xA5) {
            printf("wrong: a byte beside the arena was written %s\n", when);
            wrong = 1;
        }
    }
}

static void classify(embbert_t *model, size_t n, uint8_t dirt)
{
    int32_t *ids = malloc(n * sizeof *ids); /* not a byte longer, for the sanitizer */
    float *logits = malloc(EMBBERT_CLASSES * sizeof *logits);
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)((i * 31 + n) % EMBBERT_VOCABULARY);
    }
    memset(arena, dirt, EMBBERT_ARENA_BYTES);
    expect("run", embbert_run(model, ids, n, logits), EMBBERT_OK);
    untouched("by embbert_run");
    printf("logits %u", (unsigned)n);
    for (size_t c = 0; c < EMBBERT_CLASSES; c++) {
        uint32_t bits;
        memcpy(&bits, &logits[c], sizeof bits);
        printf(" %08x", (unsigned)bits);
    }
    printf("\n");
    free(logits);
    free(ids);
}

int main(void)
{
    embbert_t model = {NULL};
    int32_t ids[EMBBERT_MAX_LENGTH + 1] = {0};
    float logits[EMBBERT_CLASSES];
    memset(memory, 0xA5, sizeof memory);
    for (size_t c = 0; c < EMBBERT_CLASSES; c++) {
        logits[c] = -77.0f;
    }

    expect("init without model", embbert_init(NULL, arena, EMBBERT_ARENA_BYTES), EMBBERT_E_ARGUMENT);
    expect("init without arena", embbert_init(&model, NULL, EMBBERT_ARENA_BYTES), EMBBERT_E_ARGUMENT);
    expect("init too small", embbert_init(&model, arena, EMBBERT_ARENA_BYTES - 1), EMBBERT_E_ARENA);
    expect("init of nothing", embbert_init(&model, arena, 0), EMBBERT_E_ARENA);
    for (size_t shift = 1; shift < EMBBERT_ARENA_ALIGN; shift++) {
        expect("init askew", embbert_init(&model, arena + shift, EMBBERT_ARENA_BYTES), EMBBERT_E_ALIGN);
    }
    expect("run before init", embbert_run(&model, ids, 1, logits), EMBBERT_E_INIT);
    expect("init", embbert_init(&model, arena, EMBBERT_ARENA_BYTES), EMBBERT_OK);
    expect("init with more", embbert_init(&model, arena, EMBBERT_ARENA_BYTES + 1000), EMBBERT_OK);

    expect("run without model", embbert_run(NULL, ids, 1, logits), EMBBERT_E_ARGUMENT);
    expect("run without ids", embbert_run(&model, NULL, 1, logits), EMBBERT_E_ARGUMENT);
    expect("run without logits", embbert_run(&model, ids, 1, NULL), EMBBERT_E_ARGUMENT);
    expect("run of none", embbert_run(&model, ids, 0, logits), EMBBERT_E_LENGTH);
    expect("run too long", embbert_run(&model, ids, EMBBERT_MAX_LENGTH + 1, logits), EMBBERT_E_LENGTH);
    expect("run far too long", embbert_run(&model, ids, SIZE_MAX, logits), EMBBERT_E_LENGTH);
    static const int32_t bad[] = {-1, INT32_MIN, EMBBERT_VOCABULARY, INT32_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ids[EMBBERT_MAX_LENGTH - 1] = bad[i];
        expect("run of a bad id", embbert_run(&model, ids, EMBBERT_MAX_LENGTH, logits), EMBBERT_E_TOKEN);
        ids[EMBBERT_MAX_LENGTH - 1] = 0;
    }
    for (size_t c = 0; c < EMBBERT_CLASSES; c++) {
        if (logits[c] != -77.0f) {
            printf("wrong: a refused run wrote logits\n");
            wrong = 1;
        }
    }
    untouched("by a refused run");

    static const size_t lengths[] = {1, 2, 3, EMBBERT_MAX_LENGTH - 1, EMBBERT_MAX_LENGTH, 1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        classify(&model, lengths[i], 0x00);
        classify(&model, lengths[i], 0xFF);
        classify(&model, lengths[i], 0x5A);
    }
    for (int status = EMBBERT_OK; status <= EMBBERT_E_SIZE; status++) {
        printf("status %s\n", embbert_status_text((embbert_status_t)status));
    }
    for (size_t c = 0; embbert_label(c) != NULL; c++) {
        printf("label ");
        for (const char *p = embbert_label(c); *p; p++) {
            printf("%02x", (unsigned char)*p);
        }
        printf("\n");
    }
    if (embbert_label(EMBBERT_CLASSES) != NULL || embbert_label(SIZE_MAX) != NULL) {
        printf("wrong: a label past the last\n");
        wrong = 1;
    }
    return wrong;
}
