/* A shim that is loaded before the C library (LD_PRELOAD) and lets one call that writes fail: the n-th that creates a
   file or folder, writes to a file, flushes or renames one, since fault_arm(n, error). */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls, wanted;
static int error;

void fault_arm(long at, int number);
long fault_count(void);

/* Fail at the call of that number, 0 at none, -1 to count none; the count starts anew. A negative error kills. */
void fault_arm(long at, int number)
{
    error = number;
    atomic_store(&calls, 0);
    atomic_store(&wanted, at);
}

/* How many calls there were since fault_arm(). */
long fault_count(void) { return atomic_load(&calls); }

static int fails(void)
{
    if (atomic_load(&wanted) < 0)
        return 0;
    if (atomic_fetch_add(&calls, 1) + 1 != atomic_load(&wanted))
        return 0;
    if (error < 0)
        kill(getpid(), SIGKILL);
    errno = error;
    return 1;
}

/* Not stderr, on which the failure is told. */
static int is_file(int number)
{
    struct stat status;
    return number != 2 && fstat(number, &status) == 0 && S_ISREG(status.st_mode);
}

#define REAL(name, ...) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))(__VA_ARGS__)

ssize_t write(int number, const void *bytes, size_t n)
{
    return is_file(number) && fails() ? -1 : REAL(write, number, bytes, n);
}

ssize_t pwrite(int number, const void *bytes, size_t n, off_t at)
{
    return is_file(number) && fails() ? -1 : REAL(pwrite, number, bytes, n, at);
}

ssize_t pwrite64(int number, const void *bytes, size_t n, off64_t at)
{
    return is_file(number) && fails() ? -1 : REAL(pwrite64, number, bytes, n, at);
}

int ftruncate(int number, off_t n) { return fails() ? -1 : REAL(ftruncate, number, n); }

int ftruncate64(int number, off64_t n) { return fails() ? -1 : REAL(ftruncate64, number, n); }

int fsync(int number) { return fails() ? -1 : REAL(fsync, number); }

int mkdir(const char *path, mode_t mode) { return fails() ? -1 : REAL(mkdir, path, mode); }

int mkdirat(int folder, const char *path, mode_t mode) { return fails() ? -1 : REAL(mkdirat, folder, path, mode); }

int rename(const char *from, const char *to) { return fails() ? -1 : REAL(rename, from, to); }

int renameat(int a, const char *from, int b, const char *to) { return fails() ? -1 : REAL(renameat, a, from, b, to); }

int renameat2(int a, const char *from, int b, const char *to, unsigned flags)
{
    return fails() ? -1 : REAL(renameat2, a, from, b, to, flags);
}

#define MODE(flags)                     \
    mode_t mode = 0;                    \
    if ((flags) & O_CREAT) {            \
        va_list rest;                   \
        va_start(rest, flags);          \
        mode = va_arg(rest, mode_t);    \
        va_end(rest);                   \
    }                                   \
    if ((flags) & O_CREAT && fails()) \
        return -1;

int open(const char *path, int flags, ...)
{
    MODE(flags)
    return REAL(open, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    MODE(flags)
    return REAL(open64, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
    MODE(flags)
    return REAL(openat, folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...)
{
    MODE(flags)
    return REAL(openat64, folder, path, flags, mode);
}
