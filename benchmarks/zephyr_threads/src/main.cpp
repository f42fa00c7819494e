// SPDX-License-Identifier: Apache-2.0
// Models in threads that interrupt each other and main(): every answer has the bits of the one given alone. Where flash has
// room for a second model one of the threads runs that; its prefix is the name of a subsystem of Zephyr's (CONFIG_SHELL).

#include <string.h>

#include <zephyr/kernel.h>

#include "one.h"
#ifdef CONFIG_EMBBERT_SHELL
#include "shell.h"
#endif

namespace {

constexpr int ROUNDS = 10;
constexpr size_t STACK = 4096;
constexpr char TEXT[] = "play some music";

// Set by a constructor, which the start-up must have run before main().
struct Constructed {
    bool value;
    Constructed() : value(true) {}
} constructed;

template <typename Model, typename Result, auto init, auto classify, size_t bytes, size_t align> class Classifier {
public:
    // A label's number, -1 where the model refused.
    int alone()
    {
        if (init(&model, arena, sizeof arena) != 0 || classify(&model, TEXT, strlen(TEXT), &first) != 0)
            return -1;
        return static_cast<int>(first.label);
    }

    void again()
    {
        for (int round = 0; round < ROUNDS; round++) {
            if (classify(&model, TEXT, strlen(TEXT), &result) != 0 ||
                memcmp(first.logits, result.logits, sizeof first.logits) != 0)
                wrong++;
        }
    }

    int wrong = 0;

private:
    alignas(align) uint8_t arena[bytes];
    Model model;
    Result first, result;
};

using One = Classifier<one_t, one_result_t, one_init, one_classify, ONE_ARENA_BYTES, ONE_ARENA_ALIGN>;
#ifdef CONFIG_EMBBERT_SHELL
using Two = Classifier<shell_t, shell_result_t, shell_init, shell_classify, SHELL_ARENA_BYTES, SHELL_ARENA_ALIGN>;
#else
using Two = One;
#endif

One one, again_one;
Two two;

K_THREAD_STACK_DEFINE(stack_one, STACK);
K_THREAD_STACK_DEFINE(stack_two, STACK);
k_thread thread_one, thread_two;

} // namespace

int main()
{
    const int label = one.alone(), same = two.alone(), third = again_one.alone();
    if (!constructed.value || label < 0 || label != same || label != third) {
        printk("refused: %d %d %d, constructors %d\n", label, same, third, constructed.value);
        return 1;
    }
    const auto run_one = [](void *, void *, void *) { one.again(); };
    const auto run_two = [](void *, void *, void *) { two.again(); };
    const int priority = k_thread_priority_get(k_current_get());
    k_thread_create(&thread_one, stack_one, STACK, run_one, nullptr, nullptr, nullptr, priority, 0, K_NO_WAIT);
    k_thread_create(&thread_two, stack_two, STACK, run_two, nullptr, nullptr, nullptr, priority, 0, K_NO_WAIT);
    again_one.again();
    k_thread_join(&thread_one, K_FOREVER);
    k_thread_join(&thread_two, K_FOREVER);
    size_t left = 0;
    k_thread_stack_space_get(&thread_one, &left);
    const int wrong = one.wrong + two.wrong + again_one.wrong;
    printk("label: %s; %d of %d answers wrong; %d bytes of stack\n", one_label(label), wrong, 3 * ROUNDS,
           static_cast<int>(STACK - left));
    return 0;
}
