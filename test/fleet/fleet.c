/* One cache, many processes, and things that go wrong: fleet FOLDER [KILLS]. Writers are killed at random
 * points while others read, write and shrink the cache; bytes of objects change; the disk is full; the folder
 * is read-only, moved, or has files from the future. Whatever is read must be the right object or none, and
 * `list` must find every object whole. */
#define _GNU_SOURCE
#include "../../cache/cache.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { OBJECTS = 40, MOST_B = 100000, NOBODY = 65534 };
static char folder[4096];
static uint64_t seed = 1;

static void fail(const char *what, const char *detail)
{
    fprintf(stderr, "fleet: %s: %s\n", what, detail);
    _exit(1);
}

static uint64_t draw(uint64_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 33) % n;
}

static ccc_cache *open_cache(const char *dir)
{
    ccc_cache *c;
    ccc_err err = {0};
    if (ccc_cache_open(&c, dir, &err) != CCC_OK) fail("open", err.msg);
    return c;
}

/* ---- objects: the content follows from the number */
static size_t content(uint8_t *to, unsigned i)
{
    size_t n = 100 + (size_t)i * 7919 % MOST_B;
    for (size_t k = 0; k < n; k++) to[k] = (uint8_t)(k * 31 + i * 17 + (k >> 8));
    return n;
}

static ccc_factors factors(unsigned i)
{
    ccc_factors f = {0};
    ccc_factor_str(&f, "label", "fleet");
    ccc_factor_int(&f, "number", i);
    return f;
}

static void put(ccc_cache *c, unsigned i)
{
    uint8_t data[MOST_B + 100];
    ccc_err err = {0};
    ccc_factors f = factors(i);
    if (ccc_cache_put(c, i % 4 ? CCC_CACHE_KERNEL : CCC_CACHE_ARTIFACT, &f, data, content(data, i), &err) !=
        CCC_OK)
        fail("put", err.msg);
    ccc_factors_free(&f);
}

static bool get(ccc_cache *c, unsigned i)
{
    uint8_t data[MOST_B + 100];
    ccc_err err = {0};
    ccc_factors f = factors(i);
    ccc_buf out = {0};
    bool found;
    size_t n = content(data, i);
    if (ccc_cache_get(c, i % 4 ? CCC_CACHE_KERNEL : CCC_CACHE_ARTIFACT, &f, &out, &found, &err) != CCC_OK)
        fail("get", err.msg);
    if (found && (out.size_B != n || memcmp(out.data, data, n) != 0)) fail("get", "a wrong object");
    ccc_buf_free(&out);
    ccc_factors_free(&f);
    return found;
}

typedef struct {
    unsigned n, damaged;
} census;
static void count(void *payload, ccc_cache_kind kind, ccc_key key, uint64_t size_B, const char *label,
                  const char *status)
{
    census *s = payload;
    (void)kind, (void)key, (void)size_B, (void)label;
    s->n++;
    if (status) s->damaged++;
}

static census look(ccc_cache *c)
{
    census s = {0};
    ccc_err err = {0};
    if (ccc_cache_list(c, true, count, &s, &err) != CCC_OK) fail("list", err.msg);
    return s;
}

/* ---- killed writers */
static void work(bool shrink)
{
    ccc_cache *c = open_cache(folder);
    ccc_err err = {0};
    uint64_t freed_B, left_B;
    for (;;) {
        unsigned i = (unsigned)draw(OBJECTS);
        if (shrink && draw(4) == 0 && ccc_cache_gc(c, draw(1000000), &freed_B, &left_B, &err) != CCC_OK)
            fail("gc", err.msg);
        if (!get(c, i)) put(c, i);
    }
}

static pid_t start(bool shrink)
{
    pid_t pid = fork();
    seed += (uint64_t)pid;
    if (!pid) work(shrink);
    if (pid < 0) fail("fork", strerror(errno));
    return pid;
}

static void killed_writers(unsigned kills)
{
    pid_t pid[4];
    ccc_cache *c = open_cache(folder);
    for (unsigned i = 0; i < 4; i++) pid[i] = start(i == 3);
    for (unsigned k = 0; k < kills; k++) {
        unsigned i = (unsigned)draw(4);
        int status;
        usleep((useconds_t)draw(4000));
        kill(pid[i], SIGKILL);
        if (waitpid(pid[i], &status, 0) != pid[i] || !WIFSIGNALED(status))
            fail("a writer", "failed by itself");
        census s = look(c);
        if (s.damaged) fail("a killed writer", "left half an object");
        if (ccc_cache_warning(c)) fail("a killed writer", "left something to warn about");
        pid[i] = start(i == 3);
    }
    for (unsigned i = 0; i < 4; i++) kill(pid[i], SIGKILL), waitpid(pid[i], NULL, 0);
    for (unsigned i = 0; i < OBJECTS; i++)
        if (!get(c, i)) put(c, i);
    census s = look(c);
    if (s.n != OBJECTS || s.damaged) fail("at the end", "objects are missing");
    ccc_cache_close(c);
    printf("%u writers killed, %u objects whole\n", kills, s.n);
}

/* ---- damage and places */
static unsigned flipped;
static int flip(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)at;
    if (type != FTW_F || !st->st_size) return 0;
    int fd = open(path, O_RDWR);
    uint8_t byte;
    off_t place = (off_t)draw((uint64_t)st->st_size);
    if (fd < 0 || pread(fd, &byte, 1, place) != 1) return 1;
    byte ^= (uint8_t)(1 + draw(255));
    if (pwrite(fd, &byte, 1, place) != 1) return 1;
    close(fd);
    flipped++;
    return 0;
}

static void damage(unsigned rounds)
{
    unsigned missed = 0;
    flipped = 0;
    for (unsigned r = 0; r < rounds; r++) {
        ccc_cache *c = open_cache(folder);
        if (nftw(folder, flip, 16, FTW_PHYS)) fail("damage", "cannot be done");
        for (unsigned i = 0; i < OBJECTS; i++) {
            if (get(c, i)) fail("a damaged object", "was used");
            missed++;
            if (!ccc_cache_warning(c)) fail("a damaged object", "was not reported");
        }
        if (look(c).damaged != OBJECTS) fail("verify", "does not see the damage");
        for (unsigned i = 0; i < OBJECTS; i++) put(c, i); /* and it is made good */
        if (look(c).damaged) fail("a put", "does not replace a damaged object");
        ccc_cache_close(c);
    }
    printf("%u bytes of objects changed, %u misses, all reported\n", flipped, missed);
}

static void moved(void)
{
    char other[4200];
    snprintf(other, sizeof other, "%s.moved", folder);
    ccc_cache *before = open_cache(folder);
    if (rename(folder, other)) fail("rename", strerror(errno));
    if (get(before, 1)) fail("a moved folder", "is still there");
    ccc_cache *c = open_cache(other);
    for (unsigned i = 0; i < OBJECTS; i++)
        if (!get(c, i)) fail("a moved folder", "has lost an object");
    ccc_cache_close(c);
    if (rename(other, folder)) fail("rename", strerror(errno));
    if (!get(before, 1)) fail("a folder that came back", "is not seen");
    ccc_cache_close(before);
}

static int to_future(const char *path, const struct stat *st, int type, struct FTW *at)
{
    struct timespec t[2] = {{.tv_sec = time(NULL) + 90000}, {.tv_sec = time(NULL) + 90000}};
    (void)at, (void)st;
    return type == FTW_F ? utimensat(AT_FDCWD, path, t, 0) : 0;
}

static void other_clocks(void)
{
    ccc_cache *c = open_cache(folder);
    ccc_err err = {0};
    uint64_t freed_B, left_B;
    if (nftw(folder, to_future, 16, FTW_PHYS)) fail("times", strerror(errno));
    for (unsigned i = 0; i < OBJECTS; i++)
        if (!get(c, i)) fail("an object from the future", "is not found");
    if (ccc_cache_gc(c, UINT64_MAX, &freed_B, &left_B, &err) != CCC_OK || freed_B)
        fail("gc", "took objects from the future");
    ccc_cache_close(c);
}

static void read_only(void)
{
    pid_t pid = fork();
    if (!pid) {
        if (geteuid() == 0 && (setgid(NOBODY) || setuid(NOBODY))) fail("setuid", strerror(errno));
        ccc_cache *c = open_cache(folder);
        ccc_cache_warning(c);
        for (unsigned i = 0; i < OBJECTS; i++)
            if (!get(c, i)) fail("a read-only folder", "gives no objects");
        put(c, OBJECTS + 1);
        const char *w = ccc_cache_warning(c);
        if (!w || !strstr(w, "cannot write")) fail("a read-only folder", "was not reported");
        ccc_cache_close(c);
        _exit(0);
    }
    int status;
    if (waitpid(pid, &status, 0) != pid || status) fail("a read-only folder", "is trouble");
}

static unsigned fill(const char *dir)
{
    ccc_cache *c = open_cache(dir);
    unsigned full = 0, kept = 0;
    for (unsigned i = 0; i < OBJECTS; i++) {
        put(c, i);
        const char *w = ccc_cache_warning(c);
        full += w != NULL;
        if (w && !strstr(w, "cannot write to the cache folder")) fail("a full disk", w);
    }
    for (unsigned i = 0; i < OBJECTS; i++) kept += get(c, i);
    if (look(c).damaged) fail("a full disk", "left half an object");
    if (!full || full + kept != OBJECTS) fail("a full disk", "was not noticed");
    ccc_cache_close(c);
    return full;
}

/* A small file system where that is allowed, else a limit on the size of a file. */
static void full_disk(void)
{
    char dir[4200];
    snprintf(dir, sizeof dir, "%s.small", folder);
    mkdir(dir, 0777);
    bool mounted = mount("none", dir, "tmpfs", 0, "size=400k,mode=0755") == 0;
    if (!mounted) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){30000, RLIM_INFINITY});
    }
    unsigned full = fill(dir);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
    if (mounted) {
        umount(dir);
    } else {
        ccc_cache *c = open_cache(dir);
        uint64_t freed_B;
        ccc_cache_clear(c, &freed_B, NULL);
        ccc_cache_close(c);
    }
    rmdir(dir);
    printf("%u objects found the disk full (%s)\n", full,
           mounted ? "a small file system" : "limited file sizes");
}

int main(int argc, char **argv)
{
    if (argc < 2) return 2;
    snprintf(folder, sizeof folder, "%s", argv[1]);
    umask(022);
    ccc_cache *c = open_cache(folder);
    uint64_t freed_B;
    ccc_cache_clear(c, &freed_B, NULL);
    ccc_cache_close(c);
    killed_writers(argc > 2 ? (unsigned)atol(argv[2]) : 50);
    moved();
    other_clocks();
    read_only();
    damage(10);
    full_disk();
    c = open_cache(folder);
    ccc_cache_clear(c, &freed_B, NULL);
    ccc_cache_close(c);
    rmdir(folder);
    return 0;
}
