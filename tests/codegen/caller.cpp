// A user's class in C++ around the C of the small model. Prints the logits of three ids as bits.
#include "embbert.h"

#include <cstdio>
#include <cstring>

class Classifier {
  public:
    bool begin() { return embbert_init(&model_, arena_, sizeof arena_) == EMBBERT_OK; }
    embbert_status_t run(const int32_t *ids, size_t n, float *logits) { return embbert_run(&model_, ids, n, logits); }

  private:
    alignas(EMBBERT_ARENA_ALIGN) uint8_t arena_[EMBBERT_ARENA_BYTES];
    embbert_t model_;
};

static Classifier classifier;

int main()
{
    const int32_t ids[] = {2, 17, 9};
    float logits[EMBBERT_CLASSES];
    if (!classifier.begin() || classifier.run(ids, 3, logits) != EMBBERT_OK || embbert_label(0) == nullptr) {
        return 1;
    }
    for (float logit : logits) {
        uint32_t bits;
        std::memcpy(&bits, &logit, sizeof bits);
        std::printf("%08x ", static_cast<unsigned>(bits));
    }
    std::printf("\n");
    return 0;
}
