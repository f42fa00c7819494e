/* Any bytes as a text, or as two: the answer is whole, and the same over an arena of other content. */
#include "common.h"

static embbert_status_t answer(uint8_t paint, const uint8_t *data, size_t size, embbert_result_t *result)
{
    embbert_t model = painted(paint);
    input_t input = {data, data + size};
    uint8_t kind = take(&input);
    size_t first = kind % 3 == 0 ? left(&input) : take(&input);
    if (first > left(&input))
        first = left(&input);
    char *text = copied(input.at, first), *pair = copied(input.at + first, left(&input) - first);
    embbert_status_t status =
        kind % 3 == 0 ? embbert_classify(&model, text, first, result)
                      : embbert_classify_pair(&model, text, first, pair, left(&input) - first, result);
    free(text);
    free(pair);
    check_guards();
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    embbert_result_t one, other;
    memset(&one, 0, sizeof one);
    memset(&other, 0, sizeof other);
    embbert_status_t status = answer(0x00, data, size, &one);
    REQUIRE(status == answer(0xFF, data, size, &other));
    REQUIRE(status == EMBBERT_OK || status == EMBBERT_E_WORD);
    if (status != EMBBERT_OK)
        return 0;
    REQUIRE(memcmp(one.logits, other.logits, sizeof one.logits) == 0);
    REQUIRE(one.label == other.label && one.tokens == other.tokens && one.truncated == other.truncated);
    REQUIRE(one.label < EMBBERT_CLASSES && one.tokens >= 1 && one.tokens <= EMBBERT_MAX_LENGTH);
    REQUIRE(one.label_text == embbert_label(one.label));
    float sum = 0.0f;
    for (size_t i = 0; i < EMBBERT_CLASSES; i++) {
        REQUIRE(one.scores[i] >= 0.0f && one.scores[i] <= 1.0f);
        sum += one.scores[i];
    }
    REQUIRE(sum > 0.999f && sum < 1.001f);
    return 0;
}
