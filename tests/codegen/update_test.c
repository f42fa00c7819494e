/* The updates of embbert_update.h on memory that behaves like flash: each case prints what starts, and its logits.
   NEW, OTHER: files of blobs, of the same layout and of another. */
#include "embbert_update.h"

#include <string.h>

#ifdef ON_TARGET
#include "semihosting.h"
#include "start.h"

void server_fault(uint32_t status, uint32_t address)
{
    (void)status, (void)address;
    semihosting_write("fault\n");
    semihosting_exit(0);
}
#define OUT(text) semihosting_write(text)
#define END() semihosting_exit(1)
#else
#include <stdio.h>
#define OUT(text) fputs(text, stdout)
#define END() fflush(stdout)
#endif

#define FILE_OF(name, path) \
    __asm__(".section .rodata\n.balign 32\n.globl " #name "\n" #name ":\n.incbin \"" path "\"\n" \
            ".globl " #name "_end\n" #name "_end: .byte 0\n.text\n"); \
    extern const uint8_t name[], name##_end[]
FILE_OF(new_blob, NEW);
FILE_OF(other_blob, OTHER);

static uint8_t memory[2][EMBBERT_UPDATE_SLOT_BYTES] __attribute__((aligned(32)));
static uint8_t copy[EMBBERT_BLOB_BYTES] __attribute__((aligned(32)));
static uint8_t arena[EMBBERT_ARENA_BYTES] __attribute__((aligned(EMBBERT_ARENA_ALIGN)));
static embbert_t model;
static long writes_left = -1; /* until the power fails; negative: it does not */

static bool erase(void *context, int slot)
{
    (void)context;
    memset(memory[slot], 0xFF, sizeof memory[slot]);
    return true;
}

static bool write_piece(void *context, int slot, size_t offset, const uint8_t *piece)
{
    (void)context;
    if (offset % EMBBERT_UPDATE_PIECE != 0 || offset + EMBBERT_UPDATE_PIECE > sizeof memory[slot]) {
        return false;
    }
    for (size_t i = 0; i < EMBBERT_UPDATE_PIECE; i++) {
        if (memory[slot][offset + i] != 0xFF || writes_left == 0) {
            return false; /* written before, or in the middle of which the power failed */
        }
        memory[slot][offset + i] = writes_left == 1 && i >= 6 ? 0xFF : piece[i];
    }
    writes_left -= writes_left > 0;
    return true;
}

static const embbert_flash_t flash = {{memory[0], memory[1]}, erase, write_piece, NULL};

static void number(const char *name, uint32_t value)
{
    char text[12] = " ";
    for (int i = 0; i < 8; i++) {
        text[1 + i] = "0123456789abcdef"[value >> (28 - 4 * i) & 15u];
    }
    OUT(name);
    OUT(text);
}

static int start(const char *name)
{
    static const int32_t ids[] = {2, 17, 9, 5};
    float logits[EMBBERT_LOGITS];
    embbert_status_t status;
    embbert_check_t check;
    memset(&check, 0, sizeof check);
    int running = embbert_update_start(&flash, &model, arena, sizeof arena, &status);
    number(name, (uint32_t)running);
    number("", (uint32_t)status);
    number("", (uint32_t)embbert_run(&model, ids, 4, logits));
    number("", (uint32_t)embbert_check(&model, &check, SIZE_MAX));
    number("", embbert_model_hash(&model));
    for (size_t i = 0; i < EMBBERT_CLASSES; i++) {
        uint32_t bits;
        memcpy(&bits, &logits[i], sizeof bits);
        number("", bits);
    }
    OUT(" ");
    OUT(embbert_label(&model, 0));
    OUT("\n");
    return running;
}

static embbert_status_t update(int running, const uint8_t *blob, size_t n, size_t piece)
{
    embbert_update_t taken;
    embbert_update_begin(&taken, &flash, running);
    for (size_t i = 0; i < n; i += piece) {
        embbert_update_write(&taken, blob + i, n - i < piece ? n - i : piece);
    }
    return embbert_update_end(&taken);
}

static void said(const char *name, embbert_status_t status)
{
    number(name, (uint32_t)status);
    OUT("\n");
}

static void spoilt(const char *name, size_t at)
{
    memcpy(copy, new_blob, sizeof copy);
    copy[at] ^= 0x40;
    said(name, embbert_init(&model, arena, sizeof arena, copy));
}

int main(void)
{
    const size_t size = EMBBERT_BLOB_BYTES, other = (size_t)(other_blob_end - other_blob);
    erase(NULL, 0);
    erase(NULL, 1);
    int running = start("first");
    said("update", update(running, new_blob, size, 7));
    running = start("trial");
    running = start("back");
    said("update", update(running, new_blob, size, 1000));
    running = start("trial");
    embbert_update_keep(&flash, running);
    running = start("kept");
    said("other", update(running, other_blob, other, 64));
    said("short", update(running, new_blob, size - 1, 64));
    said("long", update(running, new_blob, size + 1, 64));
    memcpy(copy, new_blob, size);
    copy[size / 2] ^= 1;
    said("broken", update(running, copy, size, 64));
    running = start("still");
    said("update", update(running, (const uint8_t *)&embbert_blob, size, 64));
    running = start("second");
    embbert_update_keep(&flash, running);
    memory[running][100] ^= 8; /* a bit of flash fails */
    running = start("old");
    for (long left = 0; left < 40; left += left < 3 ? 1 : 12) { /* the power fails on the way, and at the marks */
        writes_left = (long)(size / EMBBERT_UPDATE_PIECE) + 1 - left;
        update(running, (const uint8_t *)&embbert_blob, size, 64);
        writes_left = -1;
        embbert_status_t status;
        if (left > 0) {
            running = embbert_update_start(&flash, &model, arena, sizeof arena, &status);
            number(" after", (uint32_t)running);
        }
    }
    OUT("\n");
    spoilt("magic", 0);
    spoilt("version", 4);
    spoilt("layout", 8);
    spoilt("size", 12);
    spoilt("crc", 16);
    spoilt("last", size - 1);
    said("askew", embbert_init(&model, arena, sizeof arena, new_blob + 4));
    said("none", embbert_init(&model, arena, sizeof arena, NULL));
    END();
    return 0;
}
