/* Keeps a cache within a size. Objects are immutable and are made again when they are missed, so the least
 * recently used ones just go: no lock, no list beside the files. What tells the last use is the file's time
 * of change, which a hit renews (store.c). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "store.h"

typedef struct {
    struct timespec used;
    uint64_t size_B;
    char *path;
} object;
typedef struct {
    object *object;
    size_t n, cap;
    uint64_t total_B, freed_B;
    time_t now;
} store;

static ccc_status drop(store *s, const char *path, uint64_t size_B, ccc_err *err)
{
    if (unlink(path) && errno != ENOENT)
        return ccc_fail(err, CCC_E_IO, "cannot remove '%s': %s", path, strerror(errno));
    s->freed_B += size_B;
    return CCC_OK;
}

static ccc_status note(ccc_cache *c, ccc_cache_kind kind, const char *path, const char *hex2,
                       const char *name, void *payload, ccc_err *err)
{
    (void)c, (void)kind, (void)hex2;
    store *s = payload;
    struct stat st;
    if (lstat(path, &st)) return CCC_OK; /* somebody else was faster */
    if (ccc_obj_is_temporary(name))
        return s->now - st.st_mtim.tv_sec > CCC_TMP_OLD_S ? drop(s, path, (uint64_t)st.st_size, err) : CCC_OK;
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 256;
        object *more = realloc(s->object, cap * sizeof *more);
        if (!more) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
        s->object = more;
        s->cap = cap;
    }
    char *copy = malloc(strlen(path) + 1);
    if (!copy) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    strcpy(copy, path);
    s->object[s->n++] = (object){st.st_mtim, (uint64_t)st.st_size, copy};
    s->total_B += (uint64_t)st.st_size;
    return CCC_OK;
}

static int by_use(const void *a, const void *b)
{
    const object *x = a, *y = b;
    if (x->used.tv_sec != y->used.tv_sec) return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
    if (x->used.tv_nsec != y->used.tv_nsec) return x->used.tv_nsec < y->used.tv_nsec ? -1 : 1;
    return strcmp(x->path, y->path);
}

ccc_status ccc_cache_gc(ccc_cache *c, uint64_t max_B, uint64_t *freed_B, uint64_t *left_B, ccc_err *err)
{
    store s = {.now = time(NULL)};
    ccc_status status = ccc_obj_walk(c, CCC_CACHE_KERNEL, true, false, note, &s, err);
    if (status == CCC_OK) status = ccc_obj_walk(c, CCC_CACHE_ARTIFACT, true, false, note, &s, err);
    if (s.n) qsort(s.object, s.n, sizeof *s.object, by_use);
    for (size_t i = 0; i < s.n && status == CCC_OK && s.total_B > max_B; i++) {
        status = drop(&s, s.object[i].path, s.object[i].size_B, err);
        if (status == CCC_OK) s.total_B -= s.object[i].size_B;
    }
    for (size_t i = 0; i < s.n; i++) free(s.object[i].path);
    free(s.object);
    *freed_B = s.freed_B;
    *left_B = s.total_B;
    return status;
}
