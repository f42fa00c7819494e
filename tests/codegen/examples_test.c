/* SPDX-License-Identifier: Apache-2.0 */
/* Commands from stdin, one a byte, each with a name of 32 bytes and a vector where it has one; a line for each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embbert_examples.h"

int main(void)
{
    static embbert_example_t entries[6], others[6];
    static uint8_t blob[EMBBERT_EXAMPLES_BLOB(6)];
    embbert_examples_t store = {entries, 6, 0};
    char name[32];
    float vector[EMBBERT_EXAMPLES_WIDTH];
    int command;
    while ((command = getchar()) != EOF) {
        if (fread(name, sizeof name, 1, stdin) != 1 || fread(vector, sizeof vector, 1, stdin) != 1) {
            return 1;
        }
        if (command == 'a') {
            printf("%d\n", embbert_examples_add(&store, name, vector));
        } else if (command == 'f') {
            printf("%d\n", embbert_examples_forget(&store, name));
        } else if (command == 'n') {
            embbert_nearest_t found = embbert_examples_nearest(&store, vector, 0.25f);
            printf("%s %.6f\n", found.entry == NULL ? "-" : found.entry->name, (double)found.cosine);
        } else { /* save, load into another, save again, and damage every byte in turn */
            size_t bytes = EMBBERT_EXAMPLES_BLOB(store.count);
            embbert_examples_t other = {others, 6, 0};
            if (embbert_examples_save(&store, blob, bytes - 1u) != EMBBERT_EXAMPLES_E_ROOM
                || embbert_examples_save(&store, blob, bytes) != EMBBERT_EXAMPLES_OK
                || embbert_examples_load(&other, blob, bytes) != EMBBERT_EXAMPLES_OK || other.count != store.count
                || memcmp(others, entries, store.count * sizeof *entries) != 0) {
                return 2;
            }
            for (size_t i = 0; i < bytes; i++) {
                blob[i] ^= 0x10u;
                uint8_t *copy = malloc(bytes); /* so that a sanitizer sees what lies behind it read */
                memcpy(copy, blob, bytes);
                if (embbert_examples_load(&other, copy, bytes) != EMBBERT_EXAMPLES_E_BLOB || other.count != store.count
                    || embbert_examples_load(&other, copy, i) != EMBBERT_EXAMPLES_E_BLOB) {
                    return 3;
                }
                free(copy);
                blob[i] ^= 0x10u;
            }
            other.room = store.count - 1u;
            if (embbert_examples_load(&other, blob, bytes) != EMBBERT_EXAMPLES_E_ROOM) {
                return 4;
            }
            for (size_t i = 0; i < bytes; i++) {
                printf("%02x", blob[i]);
            }
            printf("\n");
        }
    }
    return 0;
}
