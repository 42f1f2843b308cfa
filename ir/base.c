/* Memory and bytes. The arena is a list of zeroed chunks, each twice as large as the one before up to 1 MiB;
 * a request that is larger than a chunk gets one of its own. Files are read whole, and written whole or not
 * at all: a temporary file in the same folder, synced and renamed. What exists and is no regular file (a
 * terminal, a pipe, /dev/null) is written in place. */
#include "base.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST_CHUNK_B = 4096, LAST_CHUNK_B = 1 << 20, ALIGN_B = 16 };

typedef struct chunk {
    struct chunk *next;
    size_t used_B, cap_B;
    _Alignas(16) char data[];
} chunk;

struct ccc_arena {
    chunk *head;
    size_t next_B;
};

ccc_arena *ccc_arena_new(void)
{
    ccc_arena *a = calloc(1, sizeof *a);
    if (a) a->next_B = FIRST_CHUNK_B;
    return a;
}

void ccc_arena_free(ccc_arena *a)
{
    if (!a) return;
    for (chunk *c = a->head, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(a);
}

static chunk *new_chunk(ccc_arena *a, size_t size_B)
{
    size_t cap_B = size_B > a->next_B ? size_B : a->next_B;
    if (cap_B > SIZE_MAX - sizeof(chunk)) return NULL;
    chunk *c = calloc(1, sizeof *c + cap_B);
    if (!c) return NULL;
    c->cap_B = cap_B;
    if (a->next_B < LAST_CHUNK_B) a->next_B *= 2;
    if (a->head && size_B == cap_B &&
        size_B > a->head->cap_B - a->head->used_B) { /* keep filling the chunk at hand */
        c->next = a->head->next;
        a->head->next = c;
    } else {
        c->next = a->head;
        a->head = c;
    }
    return c;
}

void *ccc_arena_alloc(ccc_arena *a, size_t size_B)
{
    if (size_B > SIZE_MAX / 2) return NULL;
    size_B = (size_B + ALIGN_B - 1) & ~(size_t)(ALIGN_B - 1);
    chunk *c = a->head;
    if (!c || size_B > c->cap_B - c->used_B) c = new_chunk(a, size_B);
    if (!c) return NULL;
    void *p = c->data + c->used_B;
    c->used_B += size_B;
    return p;
}

char *ccc_arena_strndup(ccc_arena *a, const char *s, size_t n)
{
    if (n > SIZE_MAX / 2) return NULL;
    char *p = ccc_arena_alloc(a, n + 1);
    if (p) memcpy(p, s, n);
    return p;
}

char *ccc_arena_strdup(ccc_arena *a, const char *s)
{
    return ccc_arena_strndup(a, s, strlen(s));
}

char *ccc_arena_printf(ccc_arena *a, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *p = n < 0 ? NULL : ccc_arena_alloc(a, (size_t)n + 1);
    if (p) vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return p;
}

bool ccc_grow_(ccc_arena *mem, void **ptr, uint32_t n, uint32_t *cap, size_t elem_B)
{
    if (*cap > UINT32_MAX / 2) return false;
    uint32_t wanted = *cap ? *cap * 2 : 16;
    if (wanted > SIZE_MAX / 2 / elem_B) return false;
    void *p = ccc_arena_alloc(mem, wanted * elem_B);
    if (!p) return false;
    if (n) memcpy(p, *ptr, n * elem_B);
    *ptr = p;
    *cap = wanted;
    return true;
}

/* ---- buffers */

/* Makes room for n more bytes and the 0 behind them. */
static bool reserve(ccc_buf *b, size_t n)
{
    if (b->failed) return false;
    if (n < b->cap_B - b->size_B) return true; /* cap_B is 0 or larger than size_B */
    size_t wanted = b->cap_B < 64 ? 64 : b->cap_B;
    if (n > SIZE_MAX / 4 || b->size_B > SIZE_MAX / 4) wanted = 0;
    while (wanted && wanted <= b->size_B + n) wanted *= 2;
    char *p = wanted ? realloc(b->data, wanted) : NULL;
    if (!p) {
        b->failed = true;
        return false;
    }
    b->data = p;
    b->cap_B = wanted;
    return true;
}

void ccc_buf_put(ccc_buf *b, const void *bytes, size_t n)
{
    if (!reserve(b, n)) return;
    if (n) memcpy(b->data + b->size_B, bytes, n);
    b->size_B += n;
    b->data[b->size_B] = 0;
}

void ccc_buf_printf(ccc_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n < 0) b->failed = true;
    if (n >= 0 && reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->size_B, (size_t)n + 1, fmt, again);
        b->size_B += (size_t)n;
    }
    va_end(again);
    va_end(ap);
}

static void put_le(ccc_buf *b, uint64_t v, unsigned n)
{
    unsigned char bytes[8];
    for (unsigned i = 0; i < n; i++) bytes[i] = (unsigned char)(v >> (8 * i));
    ccc_buf_put(b, bytes, n);
}

void ccc_buf_u8(ccc_buf *b, uint8_t v)
{
    put_le(b, v, 1);
}

void ccc_buf_u16(ccc_buf *b, uint16_t v)
{
    put_le(b, v, 2);
}

void ccc_buf_u32(ccc_buf *b, uint32_t v)
{
    put_le(b, v, 4);
}

void ccc_buf_u64(ccc_buf *b, uint64_t v)
{
    put_le(b, v, 8);
}

void ccc_buf_str(ccc_buf *b, const char *s)
{
    size_t n = strlen(s);
    if (n > UINT32_MAX) {
        b->failed = true;
        return;
    }
    ccc_buf_u32(b, (uint32_t)n);
    ccc_buf_put(b, s, n);
}

void ccc_buf_free(ccc_buf *b)
{
    free(b->data);
    *b = (ccc_buf){0};
}

/* ---- files */

ccc_status ccc_read_file(ccc_buf *out, const char *path, ccc_err *err)
{
    bool is_stdin = strcmp(path, "-") == 0;
    const char *shown = is_stdin ? "standard input" : path;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return ccc_fail(err, CCC_E_IO, "cannot open '%s': %m", shown);
    ccc_status status = CCC_OK;
    ccc_buf_put(out, "", 0);
    for (;;) {
        struct stat st;
        size_t step = 65536;
        if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size > out->size_B)
            step = (size_t)st.st_size - out->size_B + 1;
        if (!reserve(out, step)) {
            status = ccc_fail(err, CCC_E_NOMEM, "out of memory while reading '%s'", shown);
            break;
        }
        ssize_t n = read(fd, out->data + out->size_B, step);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) status = ccc_fail(err, CCC_E_IO, "cannot read '%s': %m", shown);
        if (n <= 0) break;
        out->size_B += (size_t)n;
        out->data[out->size_B] = 0;
    }
    if (!is_stdin) close(fd);
    return status;
}

static bool write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t done = write(fd, p, n);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return false;
        p += done;
        n -= (size_t)done;
    }
    return true;
}

/* A new file beside `path`, with the permissions that a plain open would give it. */
static int open_temporary(char *name, size_t name_B, const char *path)
{
    for (unsigned i = 0; i < 1000; i++) {
        if ((size_t)snprintf(name, name_B, "%s.%ld-%u.tmp", path, (long)getpid(), i) >= name_B) {
            errno = ENAMETOOLONG;
            return -1;
        }
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST) return fd;
    }
    return -1;
}

ccc_status ccc_write_file(const char *path, const void *data, size_t size_B, ccc_err *err)
{
    if (strcmp(path, "-") == 0) {
        if (!write_all(STDOUT_FILENO, data, size_B))
            return ccc_fail(err, CCC_E_IO, "cannot write standard output: %m");
        return CCC_OK;
    }
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        bool ok = fd >= 0 && write_all(fd, data, size_B);
        ccc_status status = ok ? CCC_OK : ccc_fail(err, CCC_E_IO, "cannot write '%s': %m", path);
        if (fd >= 0) close(fd);
        return status;
    }
    char name[PATH_MAX];
    int fd = open_temporary(name, sizeof name, path);
    if (fd < 0) return ccc_fail(err, CCC_E_IO, "cannot write '%s': %m", path);
    bool ok = write_all(fd, data, size_B) && fsync(fd) == 0;
    if (close(fd) != 0) ok = false;
    if (ok && rename(name, path) == 0) return CCC_OK;
    ccc_status status = ccc_fail(err, CCC_E_IO, "cannot write '%s': %m", path);
    unlink(name);
    return status;
}
