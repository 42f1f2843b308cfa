/* Objects go in and come out. Writing: a temporary file beside the final name, sync, rename, so that an
 * object is there whole or not at all and any number of processes can write the same one. Reading: one open,
 * no lock, everything checked; whatever is wrong with a file makes it a miss and a warning. A cache never
 * makes a compile fail, except when memory is out. */
#define _GNU_SOURCE /* mkostemp */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>
#include "store.h"

const char *ccc_cache_kind_name(ccc_cache_kind kind)
{
    return kind == CCC_CACHE_KERNEL ? "kernel" : "artifact";
}

/* ---- warnings: the first since the last question is kept
 * ------------------------------------------------------------------------- */
void ccc_cache_warn(ccc_cache *c, const char *fmt, ...)
{
    va_list ap;
    pthread_mutex_lock(&c->lock);
    va_start(ap, fmt);
    if (!c->pending[0]) vsnprintf(c->pending, sizeof c->pending, fmt, ap);
    va_end(ap);
    pthread_mutex_unlock(&c->lock);
}

const char *ccc_cache_warning(ccc_cache *c)
{
    pthread_mutex_lock(&c->lock);
    memcpy(c->shown, c->pending, sizeof c->shown);
    c->pending[0] = 0;
    pthread_mutex_unlock(&c->lock);
    return c->shown[0] ? c->shown : NULL;
}

/* ---- folders ------------------------------------------------------------------------------------------- */
static bool make_folders(char *path) /* every part of the path; the text is put back */
{
    for (char *p = path + 1;; p++) {
        char c = *p;
        if (c != '/' && c != 0) continue;
        *p = 0;
        bool ok = mkdir(path, 0777) == 0 || errno == EEXIST || errno == EROFS || errno == EACCES;
        *p = c;
        if (!ok) return false;
        if (!c) break;
    }
    struct stat st;
    if (stat(path, &st)) return false;
    errno = ENOTDIR;
    return S_ISDIR(st.st_mode);
}

ccc_status ccc_cache_open(ccc_cache **out, const char *dir, ccc_err *err)
{
    *out = NULL;
    if (!dir[0]) return ccc_fail(err, CCC_E_ARG, "the cache folder has an empty name");
    ccc_cache *c = calloc(1, sizeof *c);
    char *copy = malloc(strlen(dir) + 1);
    if (!c || !copy) {
        free(c);
        free(copy);
        return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    }
    strcpy(copy, dir);
    for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--) copy[n - 1] = 0;
    c->dir = copy;
    pthread_mutex_init(&c->lock, NULL);
    struct stat st;
    if (!make_folders(copy)) ccc_cache_warn(c, "cannot use the cache folder '%s': %s", copy, strerror(errno));
    else if (stat(copy, &st) == 0 && st.st_uid != geteuid() && st.st_uid != 0)
        ccc_cache_warn(c, "the cache folder '%s' belongs to another user, who could put code into it", copy);
    else if (stat(copy, &st) == 0 && (st.st_mode & 022))
        ccc_cache_warn(c, "the cache folder '%s' is writable by other users, who could put code into it",
                       copy);
    *out = c;
    return CCC_OK;
}

void ccc_cache_close(ccc_cache *c)
{
    if (!c) return;
    pthread_mutex_destroy(&c->lock);
    free(c->dir);
    free(c);
}

bool ccc_obj_path_make(ccc_obj_path *p, const ccc_cache *c, ccc_cache_kind kind, ccc_key k)
{
    char hex[33];
    ccc_key_hex(k, hex);
    size_t n = strlen(c->dir) + 64;
    p->dir = malloc(2 * n);
    if (!p->dir) return false;
    p->file = p->dir + n;
    snprintf(p->dir, n, "%s/v1/%s/%.2s", c->dir, ccc_cache_kind_name(kind), hex);
    snprintf(p->file, n, "%s/v1/%s/%.2s/%s", c->dir, ccc_cache_kind_name(kind), hex, hex + 2);
    return true;
}

/* ---- reading ------------------------------------------------------------------------------------------- */
static uint64_t get_le(const char *p, int n)
{
    uint64_t v = 0;
    for (int i = 0; i < n; i++) v |= (uint64_t)(uint8_t)p[i] << (8 * i);
    return v;
}

static bool hash_fits(const void *data, size_t size_B, const uint8_t hash[16])
{
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, XXH3_128bits(data, size_B));
    return memcmp(c.digest, hash, 16) == 0;
}

static const char *check_object(const ccc_buf *b, ccc_obj_header *h)
{
    if (b->size_B < CCC_OBJ_HEADER_B) return "it is cut off";
    if (memcmp(b->data, CCC_OBJ_MAGIC, 8) != 0 || get_le(b->data + 12, 4) != 0)
        return "it is not a cache object";
    h->factors_B = (uint32_t)get_le(b->data + 8, 4);
    h->payload_B = get_le(b->data + 16, 8);
    memcpy(h->hash, b->data + 24, 16);
    uint64_t left_B = b->size_B - CCC_OBJ_HEADER_B;
    if (h->factors_B > left_B || h->payload_B != left_B - h->factors_B) return "its size is wrong";
    if (!hash_fits(b->data + CCC_OBJ_HEADER_B + h->factors_B, h->payload_B, h->hash))
        return "its hash is wrong";
    return NULL;
}

static const char *read_all(ccc_buf *out, int fd)
{
    struct stat st;
    if (fstat(fd, &st)) return strerror(errno);
    if (!S_ISREG(st.st_mode)) return "it is not a file";
    if ((uint64_t)st.st_size > CCC_OBJ_MAX_B) return "it is too large";
    char block[65536];
    for (uint64_t got = 0; got < CCC_OBJ_MAX_B && !out->failed;) {
        ssize_t n = read(fd, block, sizeof block);
        if (n == 0) return NULL;
        if (n < 0 && errno != EINTR) return strerror(errno);
        if (n > 0) ccc_buf_put(out, block, (size_t)n), got += (uint64_t)n;
    }
    return out->failed ? NULL : "it is too large";
}

ccc_status ccc_obj_read(ccc_buf *out, ccc_obj_header *h, const char *path, bool *missing, const char **wrong,
                        ccc_err *err)
{
    *missing = false;
    *wrong = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        *missing = errno == ENOENT || errno == ENOTDIR;
        if (!*missing) *wrong = strerror(errno);
        return CCC_OK;
    }
    *wrong = read_all(out, fd);
    close(fd);
    if (out->failed) return ccc_fail(err, CCC_E_NOMEM, "out of memory for a cache object");
    if (!*wrong) *wrong = check_object(out, h);
    return CCC_OK;
}

/* A hit is noted in the object's time of change, at most once an hour; a folder that cannot be written keeps
 * no such notes. */
static void stamp(const char *path)
{
    struct stat st;
    struct timespec now;
    if (stat(path, &st) || clock_gettime(CLOCK_REALTIME, &now)) return;
    int64_t age_s = (int64_t)now.tv_sec - (int64_t)st.st_mtim.tv_sec;
    if (age_s > CCC_STAMP_S || age_s < -CCC_STAMP_S) utimensat(AT_FDCWD, path, NULL, 0);
}

static ccc_status get(ccc_cache *c, const char *path, const ccc_factors *f, ccc_buf *out, bool *found,
                      ccc_err *err)
{
    ccc_obj_header h;
    const char *wrong;
    bool missing;
    CCC_TRY(ccc_obj_read(out, &h, path, &missing, &wrong, err));
    if (missing) return CCC_OK;
    if (wrong) {
        ccc_cache_warn(c, "cache object '%s' is not used: %s", path, wrong);
        return CCC_OK;
    }
    if (h.factors_B != f->bytes.size_B ||
        memcmp(out->data + CCC_OBJ_HEADER_B, f->bytes.data, h.factors_B) != 0) {
        ccc_cache_warn(c, "cache object '%s' is not used: it was made from other factors", path);
        return CCC_OK;
    }
    memmove(out->data, out->data + CCC_OBJ_HEADER_B + h.factors_B,
            h.payload_B + 1); /* with the 0 behind it */
    out->size_B = h.payload_B;
    *found = true;
    stamp(path);
    return CCC_OK;
}

ccc_status ccc_cache_get(ccc_cache *c, ccc_cache_kind kind, const ccc_factors *f, ccc_buf *out, bool *found,
                         ccc_err *err)
{
    ccc_obj_path p;
    *found = false;
    if (f->bytes.failed || !f->bytes.size_B || !ccc_obj_path_make(&p, c, kind, ccc_factors_key(f)))
        return ccc_fail(err, CCC_E_NOMEM, "out of memory for a cache key");
    ccc_buf object = {0};
    ccc_status s = get(c, p.file, f, &object, found, err);
    free(p.dir);
    if (*found) *out = object;
    else ccc_buf_free(&object);
    return s;
}

/* ---- writing ------------------------------------------------------------------------------------------- */
static bool write_all(int fd, const void *data, size_t size_B)
{
    for (const char *p = data; size_B;) {
        ssize_t n = write(fd, p, size_B);
        if (n < 0 && errno != EINTR) return false;
        if (n > 0) p += n, size_B -= (size_t)n;
    }
    return true;
}

/* 0, or the errno of what went wrong; no temporary file stays behind. */
static int write_object(const char *path, char *tmp, const ccc_buf *head, const void *data, size_t size_B)
{
    int fd = mkostemp(tmp, O_CLOEXEC);
    if (fd < 0) return errno;
    bool ok = fchmod(fd, 0644) == 0 && write_all(fd, head->data, head->size_B) &&
              write_all(fd, data, size_B) && fsync(fd) == 0;
    int e = ok ? 0 : errno;
    if (close(fd) && !e) e = errno;
    if (!e && rename(tmp, path)) e = errno;
    if (e) unlink(tmp);
    return e;
}

static ccc_status put(ccc_cache *c, ccc_obj_path *p, const ccc_factors *f, const void *data, size_t size_B,
                      ccc_err *err)
{
    ccc_buf head = {0}, tmp = {0};
    XXH128_canonical_t hash;
    XXH128_canonicalFromHash(&hash, XXH3_128bits(data, size_B));
    ccc_buf_put(&head, CCC_OBJ_MAGIC, 8);
    ccc_buf_u32(&head, (uint32_t)f->bytes.size_B);
    ccc_buf_u32(&head, 0);
    ccc_buf_u64(&head, size_B);
    ccc_buf_put(&head, hash.digest, sizeof hash.digest);
    ccc_buf_put(&head, f->bytes.data, f->bytes.size_B);
    ccc_buf_printf(&tmp, "%s/" CCC_TMP_PREFIX "XXXXXX", p->dir);
    bool failed = head.failed || tmp.failed;
    int e = 0;
    if (!failed) {
        for (int tries = 0; tries < 3 && (!tries || e == ENOENT);
             tries++) { /* somebody may clear the cache just now */
            strcpy(tmp.data + tmp.size_B - 6, "XXXXXX");
            e = make_folders(p->dir) ? write_object(p->file, tmp.data, &head, data, size_B) : errno;
        }
        if (e) ccc_cache_warn(c, "cannot write to the cache folder '%s': %s", p->dir, strerror(e));
    }
    ccc_buf_free(&head);
    ccc_buf_free(&tmp);
    return failed ? ccc_fail(err, CCC_E_NOMEM, "out of memory for a cache object") : CCC_OK;
}

ccc_status ccc_cache_put(ccc_cache *c, ccc_cache_kind kind, const ccc_factors *f, const void *data,
                         size_t size_B, ccc_err *err)
{
    ccc_obj_path p;
    if (f->bytes.failed || !f->bytes.size_B)
        return ccc_fail(err, CCC_E_NOMEM, "out of memory for a cache key");
    if (f->bytes.size_B > UINT32_MAX || size_B > CCC_OBJ_MAX_B - CCC_OBJ_HEADER_B ||
        f->bytes.size_B > CCC_OBJ_MAX_B - CCC_OBJ_HEADER_B - size_B) {
        ccc_cache_warn(c, "an object of %zu bytes is too large for the cache", size_B);
        return CCC_OK;
    }
    if (!ccc_obj_path_make(&p, c, kind, ccc_factors_key(f)))
        return ccc_fail(err, CCC_E_NOMEM, "out of memory for a cache key");
    ccc_status s = put(c, &p, f, data, size_B, err);
    free(p.dir);
    return s;
}
