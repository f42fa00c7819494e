/* A plugin of QEMU: how many lines two caches, of instructions and of data, fetch for the code of some functions.
   Lines are replaced least recently used first; a store fetches the line that it writes to. What it takes of QEMU's
   plugin interface is declared here, as Debian packs no qemu-plugin.h. */

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct qemu_plugin_tb;
struct qemu_plugin_insn;
extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*translated)(uint64_t, struct qemu_plugin_tb *));
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*ran)(unsigned, void *), int flags,
                                                   void *data);
extern void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *,
                                             void (*used)(unsigned, uint32_t, uint64_t, void *), int flags, int rw,
                                             void *data);

int qemu_plugin_version = QEMU_PLUGIN_VERSION;

enum { LOADS_AND_STORES = 3, MOST_SETS = 4096, MOST_WAYS = 8, MOST_RANGES = 512 };

typedef struct {
    uint32_t sets, ways, clock;
    uint64_t line[MOST_SETS][MOST_WAYS]; /* its number and one; 0 where there is none */
    uint32_t used[MOST_SETS][MOST_WAYS];
} cache_t;

/* The file. */
typedef struct {
    uint64_t code, flash, ram; /* fetched lines of instructions, of data in flash and elsewhere */
} fills_t;

static cache_t code, data;
static fills_t *fills;
static uint64_t flash_from, flash_to, line_bytes = 32, ranges[MOST_RANGES][2];
static int shared, only_flash; /* one cache for both; whether data elsewhere needs no line */
static int prefetch;           /* the line of code after the one that runs costs nothing */
static size_t range_count;

/* Whether a line had to be fetched. */
static int fetch(cache_t *cache, uint64_t address)
{
    const uint64_t line = address / line_bytes + 1;
    const uint32_t set = (uint32_t)(line % cache->sets);
    uint32_t oldest = 0;
    cache->clock++;
    for (uint32_t way = 0; way < cache->ways; way++) {
        if (cache->line[set][way] == line) {
            cache->used[set][way] = cache->clock;
            return 0;
        }
        if (cache->used[set][way] < cache->used[set][oldest])
            oldest = way;
    }
    cache->line[set][oldest] = line;
    cache->used[set][oldest] = cache->clock;
    return 1;
}

static void ran(unsigned cpu, void *address)
{
    static uint64_t last;
    const uint64_t line = (uint64_t)(uintptr_t)address / line_bytes;
    (void)cpu;
    if (fetch(&code, (uint64_t)(uintptr_t)address))
        fills->code += !prefetch || line != last + 1;
    last = line;
}

static void used(unsigned cpu, uint32_t info, uint64_t address, void *unused)
{
    (void)cpu, (void)info, (void)unused;
    const int in_flash = address >= flash_from && address < flash_to;
    if (address >= 0xE0000000u || (only_flash && !in_flash) || !fetch(shared ? &code : &data, address))
        return;
    if (in_flash)
        fills->flash++;
    else
        fills->ram++;
}

static int weighed(uint64_t address)
{
    for (size_t i = 0; i < range_count; i++)
        if (address >= ranges[i][0] && address < ranges[i][1])
            return 1;
    return 0;
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
        const uint64_t address = qemu_plugin_insn_vaddr(instruction);
        if (weighed(address)) {
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, ran, 0, (void *)(uintptr_t)address);
            qemu_plugin_register_vcpu_mem_cb(instruction, used, 0, LOADS_AND_STORES, NULL);
        }
    }
}

static uint64_t number(const char **text, char after)
{
    char *end;
    const uint64_t value = strtoull(*text, &end, 0);
    *text = *end == after ? end + 1 : end;
    return value;
}

/* to=FILE, line=BYTES, code=SETS:WAYS, data=SETS:WAYS (0:0: that of code), flash=FROM:TO, only_flash=0 or 1,
   prefetch=0 or 1, run=FROM:TO of each function. */
int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        const char *value = strchr(argv[i], '=');
        if (value == NULL)
            return -1;
        value++;
        if (strncmp(argv[i], "to=", 3) == 0) {
            const int file = open(value, O_RDWR | O_CREAT | O_TRUNC, 0600);
            if (file < 0 || ftruncate(file, sizeof *fills) != 0)
                return -1;
            fills = mmap(NULL, sizeof *fills, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
            close(file);
        } else if (strncmp(argv[i], "line=", 5) == 0) {
            line_bytes = number(&value, 0);
        } else if (strncmp(argv[i], "code=", 5) == 0) {
            code.sets = (uint32_t)number(&value, ':'), code.ways = (uint32_t)number(&value, 0);
        } else if (strncmp(argv[i], "data=", 5) == 0) {
            data.sets = (uint32_t)number(&value, ':'), data.ways = (uint32_t)number(&value, 0);
            shared = data.ways == 0;
        } else if (strncmp(argv[i], "only_flash=", 11) == 0) {
            only_flash = number(&value, 0) != 0;
        } else if (strncmp(argv[i], "prefetch=", 9) == 0) {
            prefetch = number(&value, 0) != 0;
        } else if (strncmp(argv[i], "flash=", 6) == 0) {
            flash_from = number(&value, ':'), flash_to = number(&value, 0);
        } else if (strncmp(argv[i], "run=", 4) == 0 && range_count < MOST_RANGES) {
            ranges[range_count][0] = number(&value, ':'), ranges[range_count++][1] = number(&value, 0);
        }
    }
    if (fills == NULL || fills == MAP_FAILED || code.sets - 1 >= MOST_SETS || code.ways - 1 >= MOST_WAYS ||
        (!shared && (data.sets - 1 >= MOST_SETS || data.ways - 1 >= MOST_WAYS)) || line_bytes == 0)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
