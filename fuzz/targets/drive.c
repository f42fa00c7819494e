/* A target on inputs that a seed makes, without libFuzzer: many more of them a second, and counted.

   cc -DTARGET='"frames.c"' drive.c; ./a.out SEED COUNT FOUND: prints what was checked. Where the target fails, the input
   is written to FOUND. */
#include TARGET

#include <sanitizer/common_interface_defs.h>

enum { MOST_BYTES = 2048 };

static uint64_t state;
static uint8_t input[MOST_BYTES];
static size_t input_bytes;
static const char *found;

static uint32_t below(uint32_t n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 16) % n);
}

static void put(uint32_t byte)
{
    if (input_bytes < MOST_BYTES)
        input[input_bytes++] = (uint8_t)byte;
}

/* A character as UTF-8 writes it, also one that it forbids. */
static void put_character(uint32_t c)
{
    if (c < 0x80) {
        put(c);
    } else if (c < 0x800) {
        put(0xC0 | c >> 6);
        put(0x80 | (c & 63));
    } else if (c < 0x10000) {
        put(0xE0 | c >> 12);
        put(0x80 | (c >> 6 & 63));
        put(0x80 | (c & 63));
    } else {
        put(0xF0 | c >> 18);
        put(0x80 | (c >> 12 & 63));
        put(0x80 | (c >> 6 & 63));
        put(0x80 | (c & 63));
    }
}

/* A frame as wire.h reads it: kind, type, sequence, version and a payload. */
static void put_frame(void)
{
    uint32_t bytes = below(64) ? below(10) : below(256);
    put(below(8) ? 0xF0 : 0xF0 + below(3));
    put(below(16));
    put(below(256));
    put(below(8) ? 0 : below(256));
    put(bytes);
    for (uint32_t i = 0; i < bytes; i++)
        put(below(16) ? below(256) : below(2) ? 0xEB : 0xB7);
}

static void put_text(void)
{
    static const char *const words[] = {"turn ", "the lights", "off", "[SEP]", "  ", "don't", "e\xCC\x81", "\xE2\x80\x8B", "song"};
    static const uint32_t starts[] = {0x20, 0x80, 0x300, 0x900, 0x1E00, 0x2000, 0x4E00, 0xAC00, 0xD7F0, 0xFB00, 0x1F300, 0x20000};
    for (uint32_t n = 1 + below(8); n > 0; n--) {
        uint32_t kind = below(4);
        if (kind == 0)
            put_character(starts[below(sizeof starts / sizeof *starts)] + below(96));
        else if (kind == 1)
            put(0x20 + below(96));
        else
            for (const char *at = words[below(sizeof words / sizeof *words)]; *at; at++)
                put((uint8_t)*at);
    }
}

static void make_input(void)
{
    input_bytes = 0;
    uint32_t parts = below(8) ? below(6) : below(200);
    uint32_t of = below(4);
    for (uint32_t i = 0; i < parts && input_bytes < MOST_BYTES; i++) {
        uint32_t kind = below(8) ? of : below(4);
        if (kind == 0)
            put_text();
        else if (kind == 1)
            put_frame();
        else if (kind == 2)
            for (uint32_t n = below(32); n > 0; n--)
                put(below(256));
        else
            for (uint32_t n = below(24), byte = below(256); n > 0; n--)
                put(below(4) ? byte : 0);
    }
}

static void keep_input(void)
{
    FILE *file = fopen(found, "wb");
    if (file) {
        fwrite(input, 1, input_bytes, file);
        fclose(file);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    state = 0x9E3779B97F4A7C15u * (strtoull(argv[1], NULL, 10) + 1);
    unsigned long count = strtoul(argv[2], NULL, 10);
    found = argv[3];
    __sanitizer_set_death_callback(keep_input);
    for (unsigned long i = 0; i < count; i++) {
        make_input();
        uint8_t *exact = malloc(input_bytes ? input_bytes : 1);
        if (!exact)
            return 2;
        memcpy(exact, input, input_bytes);
        LLVMFuzzerTestOneInput(exact, input_bytes);
        free(exact);
    }
    printf("%llu\n", checked);
    return 0;
}
