/* Flips one bit of what embbert_check() reads at a time, in memory that is made writable for that. Prints how many of
   them it found, and whether the known answer is given. */
#define _DEFAULT_SOURCE

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "embbert_model.c" /* for the list of parts */

static embbert_status_t checked(size_t slice)
{
    embbert_check_t check;
    memset(&check, 0, sizeof check);
    embbert_status_t status = EMBBERT_OK;
    while (!check.done && status == EMBBERT_OK)
        status = embbert_check(&check, slice);
    return status;
}

static uint8_t arena[EMBBERT_ARENA_BYTES] __attribute__((aligned(EMBBERT_ARENA_ALIGN)));

int main(int count, char **arguments)
{
    long flips = count > 1 ? atol(arguments[1]) : 1000, found = 0, restored = 0;
    size_t parts = 0, total = 0, size;
    long page = sysconf(_SC_PAGESIZE);
    for (const char *part; (part = part_of(parts, &size)) != NULL; parts++, total += size) {
        uintptr_t start = (uintptr_t)part / (uintptr_t)page * (uintptr_t)page;
        if (mprotect((void *)start, (uintptr_t)part + size - start, PROT_READ | PROT_WRITE) != 0)
            return 2;
    }
    for (size_t slice = 1; slice < total; slice = slice * 7 + 1)
        restored += checked(slice) != EMBBERT_OK;
    uint32_t rng = 1;
    for (long i = 0; i < flips; i++) {
        rng = rng * 1664525u + 1013904223u;
        size_t at = (size_t)((uint64_t)rng * total >> 32), index = 0;
        uint8_t *part = (uint8_t *)(uintptr_t)part_of(0, &size);
        while (at >= size) {
            at -= size;
            part = (uint8_t *)(uintptr_t)part_of(++index, &size);
        }
        part[at] ^= (uint8_t)(1u << (rng & 7u));
        found += checked(SIZE_MAX) == EMBBERT_E_DAMAGED;
        part[at] ^= (uint8_t)(1u << (rng & 7u));
        restored += i % 100 == 0 && checked(SIZE_MAX) != EMBBERT_OK;
    }
    embbert_t model;
    float logits[EMBBERT_CLASSES];
    embbert_status_t before = embbert_known_answer(&model, NULL);
    embbert_status_t answer = embbert_init(&model, arena, sizeof arena);
    answer = answer == EMBBERT_OK ? embbert_known_answer(&model, logits) : answer;
    printf("%zu parts %zu bytes %ld found %ld wrong %d %d\n", parts, total, found, restored, before, answer);
    printf("%d\n", embbert_check(NULL, 1));
    return 0;
}
