/* SPDX-License-Identifier: Apache-2.0 */
#include "embbert_update.h"

#include <string.h>

enum { NUMBER, TRIED, KEPT }; /* the marks of a slot, in their order */
enum { HEADER_WORDS = 4 }; /* magic, version, layout, bytes */

static size_t mark_at(int mark) { return EMBBERT_UPDATE_MARKS + (size_t)mark * EMBBERT_UPDATE_PIECE; }

static uint32_t word_at(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* The number of a mark; 0 where there is none, or one that was written half. */
static uint32_t mark_of(const embbert_flash_t *flash, int slot, int mark)
{
    const uint8_t *at = flash->slots[slot] + mark_at(mark);
    uint32_t number = word_at(at);
    return number == ~word_at(at + 4) && number != UINT32_MAX ? number : 0u;
}

static bool put_mark(const embbert_flash_t *flash, int slot, int mark, uint32_t number)
{
    uint8_t piece[EMBBERT_UPDATE_PIECE];
    memset(piece, 0xFF, sizeof piece);
    for (unsigned i = 0; i < 4u; i++) {
        piece[i] = (uint8_t)(number >> (8u * i));
        piece[4u + i] = (uint8_t)(~number >> (8u * i));
    }
    return flash->write(flash->context, slot, mark_at(mark), piece);
}

int embbert_update_start(const embbert_flash_t *flash, embbert_t *model, void *arena, size_t bytes,
                         embbert_status_t *status)
{
    int newest = mark_of(flash, 1, NUMBER) > mark_of(flash, 0, NUMBER) ? 1 : 0;
    for (int i = 0; i < 2; i++) {
        int slot = i == 0 ? newest : 1 - newest;
        bool kept = mark_of(flash, slot, KEPT) != 0u;
        if (mark_of(flash, slot, NUMBER) == 0u || (!kept && mark_of(flash, slot, TRIED) != 0u)) {
            continue;
        }
        *status = embbert_init(model, arena, bytes, flash->slots[slot]);
        /* On trial only where that can be written down: else a blob that crashes would be tried for ever. */
        if (*status == EMBBERT_OK && (kept || put_mark(flash, slot, TRIED, 1u))) {
            return slot;
        }
    }
    *status = embbert_init(model, arena, bytes, &embbert_blob);
    return EMBBERT_UPDATE_FACTORY;
}

bool embbert_update_keep(const embbert_flash_t *flash, int running)
{
    return running == EMBBERT_UPDATE_FACTORY || mark_of(flash, running, KEPT) != 0u
           || put_mark(flash, running, KEPT, 1u);
}

embbert_status_t embbert_update_begin(embbert_update_t *update, const embbert_flash_t *flash, int running)
{
    memset(update, 0, sizeof *update);
    update->flash = flash;
    update->slot = running == 0 ? 1 : 0;
    /* What is written over is what a blob on trial would go back to. */
    bool ready = embbert_update_keep(flash, running) && flash->erase(flash->context, update->slot);
    update->status = ready ? EMBBERT_OK : EMBBERT_E_DAMAGED;
    return update->status;
}

/* Whether a blob that begins with these words may be of this firmware's layout. */
static embbert_status_t header_says(const uint8_t *piece)
{
    const uint8_t *ours = (const uint8_t *)&embbert_blob;
    static const embbert_status_t says[HEADER_WORDS] = {
        EMBBERT_E_MAGIC, EMBBERT_E_VERSION, EMBBERT_E_LAYOUT, EMBBERT_E_SIZE};
    for (size_t i = 0; i < HEADER_WORDS; i++) {
        if (word_at(piece + 4u * i) != word_at(ours + 4u * i)) {
            return says[i];
        }
    }
    return EMBBERT_OK;
}

static void put_piece(embbert_update_t *update, size_t at)
{
    if (at == 0) {
        update->status = header_says(update->piece);
    }
    if (update->status == EMBBERT_OK
        && !update->flash->write(update->flash->context, update->slot, at, update->piece)) {
        update->status = EMBBERT_E_DAMAGED;
    }
}

embbert_status_t embbert_update_write(embbert_update_t *update, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n && update->status == EMBBERT_OK; i++) {
        if (update->bytes == EMBBERT_BLOB_BYTES) {
            update->status = EMBBERT_E_SIZE;
            break;
        }
        size_t filled = update->bytes % EMBBERT_UPDATE_PIECE;
        update->piece[filled] = bytes[i];
        update->bytes++;
        if (filled + 1u == EMBBERT_UPDATE_PIECE) {
            put_piece(update, update->bytes - EMBBERT_UPDATE_PIECE);
        }
    }
    return update->status;
}

embbert_status_t embbert_update_end(embbert_update_t *update)
{
    size_t filled = update->bytes % EMBBERT_UPDATE_PIECE;
    if (update->status == EMBBERT_OK && update->bytes != EMBBERT_BLOB_BYTES) {
        update->status = EMBBERT_E_SIZE;
    }
    if (update->status == EMBBERT_OK && filled > 0) {
        memset(update->piece + filled, 0xFF, EMBBERT_UPDATE_PIECE - filled);
        put_piece(update, update->bytes - filled);
    }
    if (update->status == EMBBERT_OK) {
        update->status = embbert_check_blob(update->flash->slots[update->slot]);
    }
    if (update->status == EMBBERT_OK) {
        uint32_t other = mark_of(update->flash, 1 - update->slot, NUMBER);
        if (!put_mark(update->flash, update->slot, NUMBER, other + 1u)) {
            update->status = EMBBERT_E_DAMAGED;
        }
    }
    return update->status;
}
