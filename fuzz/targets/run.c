/* Any numbers as token ids, any count of them: a status, and logits only where it is good. */
#include "common.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input_t input = {data, data + size};
    uint8_t kind = take(&input);
    size_t n = left(&input) / 2;
    if (n > 2 * EMBBERT_MAX_LENGTH)
        n = 2 * EMBBERT_MAX_LENGTH;
    int32_t *ids = malloc(n * sizeof *ids + 1);
    REQUIRE(ids != NULL);
    int good = n >= 1 && n <= EMBBERT_MAX_LENGTH;
    for (size_t i = 0; i < n; i++) {
        int32_t id = take(&input);
        id = id << 8 | take(&input);
        ids[i] = kind % 4 == 0 ? (int32_t)((uint32_t)id * 65537u - 1u) : id % EMBBERT_VOCABULARY;
        good = good && ids[i] >= 0 && ids[i] < EMBBERT_VOCABULARY;
    }
    float logits[2][EMBBERT_CLASSES];
    memset(logits, 0, sizeof logits);
    for (int which = 0; which < 2; which++) {
        embbert_t model = painted(which ? 0x5A : 0xFF);
        embbert_status_t status = embbert_run(&model, ids, n, logits[which]);
        REQUIRE((status == EMBBERT_OK) == good);
        check_guards();
    }
    REQUIRE(memcmp(logits[0], logits[1], sizeof logits[0]) == 0);
    if (!good) {
        for (size_t i = 0; i < EMBBERT_CLASSES; i++)
            REQUIRE(logits[0][i] == 0.0f);
    }
    free(ids);
    return 0;
}
