/* SPDX-License-Identifier: Apache-2.0 */
/* A model's updates: two slots in flash for its blobs, and the way back to the one before.
 *
 *     static uint8_t arena[EMBBERT_ARENA_BYTES] __attribute__((aligned(EMBBERT_ARENA_ALIGN)));
 *     int running = embbert_update_start(&flash, &model, arena, sizeof arena, &status);
 *     ... the model answers as it should: embbert_update_keep(&flash, running);
 *
 *     embbert_update_t update;
 *     embbert_update_begin(&update, &flash, running);
 *     while (bytes come) embbert_update_write(&update, bytes, n);
 *     if (embbert_update_end(&update) == EMBBERT_OK) reset();
 *
 * A new blob runs on trial: unless embbert_update_keep() follows before the next start, that start goes back to the
 * blob before, or, where there is none, to the one that was compiled with the firmware. So does a blob that is damaged
 * or was written half. A blob of another layout is refused as soon as its first bytes are there.
 *
 * Each slot is memory that can be read at its address, erased to 0xFF as a whole, and written in pieces of
 * EMBBERT_UPDATE_PIECE bytes at multiples of it, each once after an erasure, as flash with ECC asks. Only when a blob
 * is whole and right does the slot get its number, so that the power may fail at any time. Sign your updates: a CRC
 * finds damage and no forgery. For a package of `compile --weights blob`. C99, no allocation, no state but the
 * caller's. */
#ifndef EMBBERT_UPDATE_H
#define EMBBERT_UPDATE_H

#ifndef EMBBERT_HEADER
#define EMBBERT_HEADER "embbert.h"
#endif
#include EMBBERT_HEADER

#ifdef __cplusplus
extern "C" {
#endif

#define EMBBERT_UPDATE_PIECE 32u
/* Of a slot: the blob, and three pieces: its number, that it was tried, that it is kept. */
#define EMBBERT_UPDATE_MARKS \
    ((EMBBERT_BLOB_BYTES + EMBBERT_UPDATE_PIECE - 1u) / EMBBERT_UPDATE_PIECE * EMBBERT_UPDATE_PIECE)
#define EMBBERT_UPDATE_SLOT_BYTES (EMBBERT_UPDATE_MARKS + 3u * EMBBERT_UPDATE_PIECE)

enum { EMBBERT_UPDATE_FACTORY = -1 }; /* in the place of a slot: the blob that was compiled with the firmware */

/* The board's flash. erase and write say whether they could; write is given one piece. */
typedef struct {
    const uint8_t *slots[2]; /* EMBBERT_UPDATE_SLOT_BYTES each, at multiples of EMBBERT_UPDATE_PIECE */
    bool (*erase)(void *context, int slot);
    bool (*write)(void *context, int slot, size_t offset, const uint8_t *piece);
    void *context;
} embbert_flash_t;

/* An update on its way. */
typedef struct {
    const embbert_flash_t *flash;
    int slot;
    size_t bytes; /* so far */
    uint8_t piece[EMBBERT_UPDATE_PIECE];
    embbert_status_t status;
} embbert_update_t;

/* Begin with the newest blob that is sound and either kept or not tried yet: its slot, or EMBBERT_UPDATE_FACTORY.
 * *status is that of embbert_init(). */
int embbert_update_start(const embbert_flash_t *flash, embbert_t *model, void *arena, size_t bytes,
                         embbert_status_t *status);

/* The blob in use is good: later starts take it too. False where flash cannot be written. */
bool embbert_update_keep(const embbert_flash_t *flash, int running);

/* Take a new blob into the slot that is not in use, whose content is lost; the one in use is kept. */
embbert_status_t embbert_update_begin(embbert_update_t *update, const embbert_flash_t *flash, int running);

/* The next n bytes of weights.bin. What is wrong is said at once and by every later call. */
embbert_status_t embbert_update_write(embbert_update_t *update, const uint8_t *bytes, size_t n);

/* All bytes are there: whether the next start will take the blob. */
embbert_status_t embbert_update_end(embbert_update_t *update);

#ifdef __cplusplus
}
#endif

#endif
