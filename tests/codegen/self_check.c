/* What a firmware may do when it starts: read what lies in memory, and compute the known answer. */
#include <stdio.h>
#include <string.h>

#include "embbert.h"

static uint8_t arena[EMBBERT_ARENA_BYTES] __attribute__((aligned(EMBBERT_ARENA_ALIGN)));

int main(void)
{
    embbert_check_t check;
    embbert_t model;
    float logits[EMBBERT_CLASSES];
    memset(&check, 0, sizeof check);
    while (!check.done) {
        if (embbert_check(&check, 1000) != EMBBERT_OK)
            return 1;
    }
    if (embbert_init(&model, arena, sizeof arena) != EMBBERT_OK)
        return 2;
    embbert_status_t status = embbert_known_answer(&model, logits);
    puts(embbert_status_text(status));
    return status == EMBBERT_OK ? 0 : 3;
}
