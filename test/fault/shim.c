/* See shim.h. */
#define _GNU_SOURCE
#include "shim.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static _Atomic(shim_fault) armed;
static atomic_long left, live, allocations;
static atomic_bool happened;
static const char *_Atomic what = "";

void shim_arm(shim_fault fault, long n)
{
    atomic_store(&left, n);
    atomic_store(&happened, false);
    atomic_store(&what, "");
    atomic_store(&armed, fault);
}

bool shim_disarm(void)
{
    atomic_store(&armed, SHIM_NOTHING);
    return atomic_load(&happened);
}

const char *shim_what(void)
{
    return atomic_load(&what);
}
long shim_live(void)
{
    return atomic_load(&live);
}

long shim_allocations(void)
{
    return atomic_load(&allocations);
}

static bool now(shim_fault fault, const char *name)
{
    if (atomic_load_explicit(&armed, memory_order_relaxed) != fault) return false;
    long n = atomic_fetch_sub(&left, 1);
    if (n != 1 && !(fault == SHIM_FULL && n < 1)) return false;
    atomic_store(&happened, true);
    atomic_store(&what, name);
    return true;
}

/* ---- memory */
#ifdef SHIM_WRAP_MALLOC
#define OURS(f) __wrap_##f
#define REAL(f) __real_##f
#else
#define OURS(f) f
#define REAL(f) __libc_##f
#endif
void *REAL(malloc)(size_t n);
void *REAL(calloc)(size_t n, size_t m);
void *REAL(realloc)(void *p, size_t n);
void REAL(free)(void *p);
void *OURS(malloc)(size_t n);
void *OURS(calloc)(size_t n, size_t m);
void *OURS(realloc)(void *p, size_t n);
void OURS(free)(void *p);
void *OURS(aligned_alloc)(size_t align, size_t n);
int OURS(posix_memalign)(void **out, size_t align, size_t n);

static void *counted(void *p)
{
    if (p) atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return p;
}

static bool refused(const char *name)
{
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    if (!now(SHIM_MEMORY, name)) return false;
    errno = ENOMEM;
    return true;
}

void *OURS(malloc)(size_t n)
{
    return refused("malloc") ? NULL : counted(REAL(malloc)(n));
}
void *OURS(calloc)(size_t n, size_t m)
{
    return refused("calloc") ? NULL : counted(REAL(calloc)(n, m));
}

void *OURS(realloc)(void *p, size_t n)
{
    if (refused("realloc")) return NULL;
    void *q = REAL(realloc)(p, n);
    return p ? q : counted(q);
}

void OURS(free)(void *p)
{
    if (p) atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    REAL(free)(p);
}

#ifdef SHIM_WRAP_MALLOC
void *__real_aligned_alloc(size_t align, size_t n);
static void *aligned(size_t align, size_t n)
{
    return __real_aligned_alloc(align, n);
}
#else
void *__libc_memalign(size_t align, size_t n);
static void *aligned(size_t align, size_t n)
{
    return __libc_memalign(align, n);
}
void *memalign(size_t align, size_t n);
void *memalign(size_t align, size_t n)
{
    return refused("memalign") ? NULL : counted(aligned(align, n));
}
#endif
void *OURS(aligned_alloc)(size_t align, size_t n)
{
    return refused("aligned_alloc") ? NULL : counted(aligned(align, n));
}

int OURS(posix_memalign)(void **out, size_t align, size_t n)
{
    if (refused("posix_memalign")) return ENOMEM;
    *out = counted(aligned(align, (n + align - 1) / align * align));
    return *out ? 0 : ENOMEM;
}

/* ---- files */
static bool broken(const char *name)
{
    if (!now(SHIM_CALL, name)) return false;
    errno = EIO;
    return true;
}

static bool full(const char *name)
{
    if (!now(SHIM_FULL, name)) return false;
    errno = ENOSPC;
    return true;
}

static int opened(int fd)
{
    if (fd >= 0) atomic_fetch_add(&live, 1);
    return fd;
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    int mode = flags & O_CREAT ? va_arg(ap, int) : 0;
    va_end(ap);
    return broken("open") ? -1 : opened(__real_open(path, flags, mode));
}

int __real_mkostemp(char *name, int flags);
int __wrap_mkostemp(char *name, int flags);
int __wrap_mkostemp(char *name, int flags)
{
    return broken("mkostemp") || full("mkostemp") ? -1 : opened(__real_mkostemp(name, flags));
}

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
    int r = __real_close(fd);
    if (!r) atomic_fetch_sub(&live, 1);
    return broken("close") ? -1 : r;
}

#define TRANSFER(name, type, extra, ...)                                                                     \
    ssize_t __real_##name(int fd, type p, size_t n extra);                                                   \
    ssize_t __wrap_##name(int fd, type p, size_t n extra);                                                   \
    ssize_t __wrap_##name(int fd, type p, size_t n extra)                                                    \
    {                                                                                                        \
        if (broken(#name) || (#name[strlen(#name) - 1] == 'e' && full(#name))) return -1;                    \
        if (#name[strlen(#name) - 1] == 'd' && now(SHIM_CUT, #name)) return 0;                               \
        if (n > 1 && now(SHIM_PARTIAL, #name)) n = 1 + (n - 1) / 3;                                          \
        return __real_##name(__VA_ARGS__);                                                                   \
    }
#define AT , off_t at
TRANSFER(read, void *, , fd, p, n)
TRANSFER(write, const void *, , fd, p, n)
TRANSFER(pread, void *, AT, fd, p, n, at)
TRANSFER(pwrite, const void *, AT, fd, p, n, at)

#define FAILING(type, none, name, params, ...)                                                               \
    type __real_##name params;                                                                               \
    type __wrap_##name params;                                                                               \
    type __wrap_##name params                                                                                \
    {                                                                                                        \
        return broken(#name) ? none : __real_##name(__VA_ARGS__);                                            \
    }
FAILING(int, -1, fstat, (int fd, struct stat *st), fd, st)
FAILING(int, -1, rename, (const char *from, const char *to), from, to)
FAILING(DIR *, NULL, opendir, (const char *path), path)
FAILING(FILE *, NULL, fopen, (const char *path, const char *mode), path, mode)
FAILING(int, -1, mkdir, (const char *path, mode_t mode), path, mode)
FAILING(int, -1, fchmod, (int fd, mode_t mode), fd, mode)
FAILING(int, -1, mprotect, (void *p, size_t n, int mode), p, n, mode)

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    return broken("fsync") || full("fsync") ? -1 : __real_fsync(fd);
}

void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t from);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t from);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t from)
{
    void *p = broken("mmap") || refused("mmap") ? MAP_FAILED : __real_mmap(at, n, prot, flags, fd, from);
    if (p != MAP_FAILED) atomic_fetch_add(&live, 1);
    return p;
}

int __real_munmap(void *p, size_t n);
int __wrap_munmap(void *p, size_t n);
int __wrap_munmap(void *p, size_t n)
{
    int r = __real_munmap(p, n);
    if (!r) atomic_fetch_sub(&live, 1);
    return r;
}

/* The standard library's own reading of files, as far as our libraries use it. */
size_t __real_fread(void *p, size_t size, size_t n, FILE *f);
size_t __wrap_fread(void *p, size_t size, size_t n, FILE *f);
size_t __wrap_fread(void *p, size_t size, size_t n, FILE *f)
{
    return broken("fread") ? 0 : __real_fread(p, size, n, f);
}
