/* Any arena, and calls in any order on a model that may not have one: a status for each, and nothing else. */
#include "common.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input_t input = {data, data + size};
    embbert_t model;
    memset(&model, 0, sizeof model);
    memset(memory, GUARDED, sizeof memory);
    int ready = 0;
    while (left(&input)) {
        uint8_t kind = take(&input), shift = take(&input) % GUARD, less = take(&input);
        size_t tokens = 7;
        bool truncated;
        int32_t ids[EMBBERT_MAX_LENGTH];
        float logits[EMBBERT_CLASSES];
        embbert_status_t status;
        switch (kind % 6) {
        case 0:
            status = embbert_init(&model, memory + shift, sizeof memory - shift - (size_t)less * (less > 200 ? 64 : 0));
            REQUIRE((status == EMBBERT_OK || status == EMBBERT_E_ALIGN || status == EMBBERT_E_ARENA));
            ready = ready || status == EMBBERT_OK;
            break;
        case 1:
            REQUIRE(embbert_init(NULL, memory, sizeof memory) == EMBBERT_E_ARGUMENT);
            REQUIRE(embbert_init(&model, NULL, less) == EMBBERT_E_ARGUMENT);
            break;
        case 2:
            ids[0] = less % EMBBERT_VOCABULARY;
            REQUIRE(embbert_run(&model, ids, 1, logits) == (ready ? EMBBERT_OK : EMBBERT_E_INIT));
            break;
        case 3:
            status = embbert_tokenize(&model, "a b", less % 4u, NULL, 0, ids, &tokens, &truncated);
            REQUIRE(status == (ready ? EMBBERT_OK : EMBBERT_E_INIT));
            break;
        case 4:
            REQUIRE(embbert_run(&model, NULL, 1, logits) == EMBBERT_E_ARGUMENT);
            REQUIRE(embbert_run(&model, ids, 1, NULL) == EMBBERT_E_ARGUMENT);
            REQUIRE(embbert_classify(&model, NULL, 1, NULL) == EMBBERT_E_ARGUMENT);
            break;
        default:
            REQUIRE((embbert_label(less) != NULL) == (less < EMBBERT_CLASSES));
            REQUIRE(embbert_status_text((embbert_status_t)(less % 16)) != NULL);
        }
    }
    return 0;
}
