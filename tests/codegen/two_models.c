/* Two models of different prefixes in one program, each in its own arena. Prints the logits of both as bits. */
#include "first.h"
#include "second.h"

#include <stdio.h>
#include <string.h>

static uint8_t one[FIRST_ARENA_BYTES] __attribute__((aligned(FIRST_ARENA_ALIGN)));
static uint8_t two[SECOND_ARENA_BYTES] __attribute__((aligned(SECOND_ARENA_ALIGN)));

static void print(const char *name, const float *logits, size_t n)
{
    printf("%s", name);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &logits[i], sizeof bits);
        printf(" %08x", (unsigned)bits);
    }
    printf("\n");
}

int main(void)
{
    static const int32_t ids[] = {2, 17, 9, 30, 21};
    first_t first;
    second_t second;
    float a[FIRST_CLASSES], b[SECOND_CLASSES];
    if (first_init(&first, one, sizeof one) != FIRST_OK || second_init(&second, two, sizeof two) != SECOND_OK) {
        return 1;
    }
    for (int turn = 0; turn < 2; turn++) { /* twice, in turn: neither disturbs the other */
        if (first_run(&first, ids, 5, a) != FIRST_OK || second_run(&second, ids, 5, b) != SECOND_OK) {
            return 1;
        }
        print("first", a, FIRST_CLASSES);
        print("second", b, SECOND_CLASSES);
    }
    return 0;
}
