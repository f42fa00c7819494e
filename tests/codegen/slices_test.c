/* A text classified at once and in slices, two of them taking turns, and what is wrong to ask. Prints a line for each. */
#include "embbert.h"

#include <stdio.h>
#include <string.h>

static uint8_t one[EMBBERT_ARENA_BYTES] __attribute__((aligned(EMBBERT_ARENA_ALIGN)));
static uint8_t two[EMBBERT_ARENA_BYTES] __attribute__((aligned(EMBBERT_ARENA_ALIGN)));

static void print(const char *name, const embbert_result_t *result)
{
    printf("%s %u %u %d", name, (unsigned)result->label, (unsigned)result->tokens, result->truncated);
    for (size_t i = 0; i < EMBBERT_CLASSES; i++) {
        uint32_t bits[2];
        memcpy(&bits[0], &result->logits[i], sizeof bits[0]);
        memcpy(&bits[1], &result->scores[i], sizeof bits[1]);
        printf(" %08x %08x", (unsigned)bits[0], (unsigned)bits[1]);
    }
    printf("\n");
}

int main(void)
{
    static const char first[] = "turn the lights on", second[] = "no";
    static const int32_t ids[] = {2, 17, 9};
    float logits[EMBBERT_CLASSES];
    embbert_t a, b;
    embbert_result_t result, other;
    memset(&result, 0, sizeof result);
    memset(&other, 0, sizeof other);
    if (embbert_init(&a, one, sizeof one) != EMBBERT_OK || embbert_init(&b, two, sizeof two) != EMBBERT_OK) {
        return 1;
    }
    printf("statuses %d", embbert_continue(&a, 0, result.logits));
    printf(" %d %d", embbert_begin(NULL, first, 1, NULL, 0), embbert_begin_ids(&a, ids, EMBBERT_MAX_LENGTH + 1));
    embbert_begin_ids(&a, ids, 3);
    printf(" %d", embbert_continue(&a, 0, result.logits));
    embbert_run(&a, ids, 3, logits); /* which ends what was begun */
    printf(" %d\n", embbert_continue(&a, 0, result.logits));

    embbert_classify(&a, first, sizeof first - 1, &result);
    print("first", &result);
    embbert_classify(&a, second, sizeof second - 1, &result);
    print("second", &result);
    embbert_status_t of_a = embbert_begin(&a, first, sizeof first - 1, NULL, 0);
    embbert_status_t of_b = embbert_begin(&b, second, sizeof second - 1, NULL, 0);
    if (of_a != EMBBERT_OK || of_b != EMBBERT_OK) {
        return 1;
    }
    for (int turn = 0; of_a != EMBBERT_OK || of_b != EMBBERT_OK || turn == 0; turn++) {
        of_a = turn == 0 || of_a == EMBBERT_MORE ? embbert_continue(&a, 100, result.logits) : of_a;
        of_b = turn == 0 || of_b == EMBBERT_MORE ? embbert_continue(&b, -1, other.logits) : of_b;
    }
    embbert_complete(&a, &result);
    embbert_complete(&b, &other);
    print("first", &result);
    print("second", &other);
    return 0;
}
