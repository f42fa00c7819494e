/* A plugin of QEMU: how often each block of instructions ran, in a file that another process reads meanwhile.
   What it takes of QEMU's plugin interface is declared here, as Debian packs no qemu-plugin.h. */

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct qemu_plugin_tb;
extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*translated)(uint64_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*ran)(unsigned, void *), int flags,
                                                 void *data);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);

int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/* The file is an array of these; the first without instructions ends it. */
typedef struct {
    uint64_t first; /* address */
    uint64_t instructions;
    uint64_t times;
} block_t;

static block_t *blocks;
static size_t used;

static void ran(unsigned cpu, void *block)
{
    (void)cpu;
    ((block_t *)block)->times++;
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    if (used + 1 == BLOCKS)
        return;
    block_t *block = &blocks[used++];
    block->first = qemu_plugin_tb_vaddr(tb);
    block->instructions = qemu_plugin_tb_n_insns(tb);
    qemu_plugin_register_vcpu_tb_exec_cb(tb, ran, 0, block);
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "to=", 3) != 0)
        return -1;
    int file = open(argv[0] + 3, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, BLOCKS * (off_t)sizeof *blocks) != 0)
        return -1;
    blocks = mmap(NULL, BLOCKS * sizeof *blocks, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (blocks == MAP_FAILED)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
