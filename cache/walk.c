/* Visits or removes every object of a store. Only names that this store makes are looked at (two hex digits,
 * then thirty, or a left-over temporary file), so a folder that was given by mistake loses nothing of its
 * own. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "store.h"

typedef struct {
    char *path;
    size_t n, cap;
    char (*name)[33];
} names; /* names of one folder, sorted */

static bool is_hex(const char *s, size_t n)
{
    return strspn(s, "0123456789abcdef") == n && s[n] == 0;
}
bool ccc_obj_is_temporary(const char *s)
{
    return !strncmp(s, CCC_TMP_PREFIX, 4) && strlen(s) == 10;
}
static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static ccc_status read_names(names *out, const char *path, bool temporaries, size_t hex, ccc_err *err)
{
    DIR *d = opendir(path);
    if (!d && (errno == ENOENT || errno == ENOTDIR)) return CCC_OK;
    if (!d) return ccc_fail(err, CCC_E_IO, "cannot read the folder '%s': %s", path, strerror(errno));
    bool failed = false;
    for (struct dirent *e; !failed && (e = readdir(d));) {
        if (!is_hex(e->d_name, hex) && !(temporaries && ccc_obj_is_temporary(e->d_name))) continue;
        if (out->n == out->cap) {
            size_t cap = out->cap ? 2 * out->cap : 64;
            void *more = realloc(out->name, cap * sizeof *out->name);
            failed = !more;
            if (failed) break;
            out->name = more;
            out->cap = cap;
        }
        memcpy(out->name[out->n++], e->d_name,
               strlen(e->d_name) + 1); /* at most 30 characters, as was checked */
    }
    closedir(d);
    if (failed) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    if (out->n) qsort(out->name, out->n, sizeof *out->name, by_name);
    return CCC_OK;
}

static ccc_status walk_folder(ccc_cache *c, ccc_cache_kind kind, const char *path, const char *hex2,
                              bool temporaries, ccc_obj_visit *file, void *payload, ccc_err *err)
{
    names n = {0};
    ccc_status s = read_names(&n, path, temporaries, 30, err);
    for (size_t i = 0; i < n.n && s == CCC_OK; i++) {
        ccc_buf p = {0};
        ccc_buf_printf(&p, "%s/%s", path, n.name[i]);
        s = p.failed ? ccc_fail(err, CCC_E_NOMEM, "out of memory")
                     : file(c, kind, p.data, hex2, n.name[i], payload, err);
        ccc_buf_free(&p);
    }
    free(n.name);
    return s;
}

ccc_status ccc_obj_walk(ccc_cache *c, ccc_cache_kind kind, bool temporaries, bool prune, ccc_obj_visit *file,
                        void *payload, ccc_err *err)
{
    names n = {0};
    ccc_buf base = {0};
    ccc_buf_printf(&base, "%s/v1/%s", c->dir, ccc_cache_kind_name(kind));
    ccc_status s =
        base.failed ? ccc_fail(err, CCC_E_NOMEM, "out of memory") : read_names(&n, base.data, false, 2, err);
    for (size_t i = 0; i < n.n && s == CCC_OK; i++) {
        ccc_buf p = {0};
        ccc_buf_printf(&p, "%s/%s", base.data, n.name[i]);
        s = p.failed ? ccc_fail(err, CCC_E_NOMEM, "out of memory")
                     : walk_folder(c, kind, p.data, n.name[i], temporaries, file, payload, err);
        if (s == CCC_OK && prune) rmdir(p.data);
        ccc_buf_free(&p);
    }
    if (s == CCC_OK && prune) rmdir(base.data);
    ccc_buf_free(&base);
    free(n.name);
    return s;
}

/* ---- list ---------------------------------------------------------------------------------------------- */
typedef struct {
    bool check;
    ccc_cache_visit *visit;
    void *payload;
} lister;

static unsigned hex_value(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a' + 10);
}
static ccc_key key_of(const char *hex2, const char *hex30)
{
    ccc_key k;
    for (int i = 0; i < 16; i++) {
        const char *p = i == 0 ? hex2 : hex30 + 2 * (i - 1);
        k.b[i] = (uint8_t)(hex_value(p[0]) << 4 | hex_value(p[1]));
    }
    return k;
}

/* The value of the first factor, as far as it is plain text. */
static void label_of(char out[48], const char *factors, size_t size_B)
{
    out[0] = 0;
    const uint8_t *p = (const uint8_t *)factors;
    size_t at = 0;
    for (int i = 0; i < 2; i++) { /* name, value */
        if (size_B - at < 4) return;
        size_t n = p[at] | (size_t)p[at + 1] << 8 | (size_t)p[at + 2] << 16 | (size_t)p[at + 3] << 24;
        at += 4;
        if (n > size_B - at) return;
        for (size_t k = 0; i == 1 && k < n && k < 47 && p[at + k] >= ' ' && p[at + k] < 127; k++)
            out[k] = (char)p[at + k], out[k + 1] = 0;
        at += n;
    }
}

static ccc_status list_one(ccc_cache *c, ccc_cache_kind kind, const char *path, const char *hex2,
                           const char *name, void *payload, ccc_err *err)
{
    (void)c;
    lister *l = payload;
    ccc_buf object = {0};
    ccc_obj_header h = {0};
    const char *wrong = NULL;
    bool missing = false;
    ccc_key key = key_of(hex2, name), real;
    ccc_status s = ccc_obj_read(&object, &h, path, &missing, &wrong, err);
    if (s == CCC_OK && !missing) {
        char label[48] = "";
        if (!wrong) {
            ccc_factors f = {{object.data + CCC_OBJ_HEADER_B, h.factors_B, 0, false}};
            real = ccc_factors_key(&f);
            if (memcmp(&real, &key, sizeof key) != 0) wrong = "its factors do not belong to its name";
            label_of(label, f.bytes.data, h.factors_B);
        }
        l->visit(l->payload, kind, key, object.size_B, label, l->check ? wrong : NULL);
    }
    ccc_buf_free(&object);
    return s;
}

ccc_status ccc_cache_list(ccc_cache *c, bool check, ccc_cache_visit *visit, void *payload, ccc_err *err)
{
    lister l = {check, visit, payload};
    CCC_TRY(ccc_obj_walk(c, CCC_CACHE_KERNEL, false, false, list_one, &l, err));
    return ccc_obj_walk(c, CCC_CACHE_ARTIFACT, false, false, list_one, &l, err);
}

/* ---- clear --------------------------------------------------------------------------------------------- */
static ccc_status clear_one(ccc_cache *c, ccc_cache_kind kind, const char *path, const char *hex2,
                            const char *name, void *payload, ccc_err *err)
{
    (void)c, (void)kind, (void)hex2, (void)name;
    struct stat st;
    uint64_t *freed_B = payload, size_B = lstat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
    if (unlink(path) && errno != ENOENT)
        return ccc_fail(err, CCC_E_IO, "cannot remove '%s': %s", path, strerror(errno));
    *freed_B += size_B;
    return CCC_OK;
}

ccc_status ccc_cache_clear(ccc_cache *c, uint64_t *freed_B, ccc_err *err)
{
    *freed_B = 0;
    CCC_TRY(ccc_obj_walk(c, CCC_CACHE_KERNEL, true, true, clear_one, freed_B, err));
    CCC_TRY(ccc_obj_walk(c, CCC_CACHE_ARTIFACT, true, true, clear_one, freed_B, err));
    ccc_buf v1 = {0};
    ccc_buf_printf(&v1, "%s/v1", c->dir);
    ccc_status s = v1.failed ? ccc_fail(err, CCC_E_NOMEM, "out of memory") : CCC_OK;
    if (s == CCC_OK) rmdir(v1.data);
    ccc_buf_free(&v1);
    return s;
}
