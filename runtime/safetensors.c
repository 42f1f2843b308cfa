/* The safetensors format: u64 length of a JSON header, the header, then the bytes of all tensors. The header
 * maps a name to
 * {"dtype", "shape", "data_offsets": [begin, end)} relative to the end of the header. The bytes must be
 * covered without gaps and without overlap, as the format demands: a file that is not so was cut off or made
 * to deceive. A model of several files has an index that names the file of each tensor. */
#include "tensors_impl.h"
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *text;
    uint32_t dtype;
} dtypes[] = {
    {"F32", CCCRT_F32},      {"F16", CCCRT_F16},      {"BF16", CCCRT_BF16},    {"F64", CCCRT_F64},
    {"F8_E4M3", CCCRT_E4M3}, {"F8_E5M2", CCCRT_E5M2}, {"F8_E8M0", CCCRT_E8M0}, {"I8", CCCRT_I8},
    {"U8", CCCRT_U8},        {"I32", CCCRT_I32},      {"I64", CCCRT_I64},
};

static uint64_t le64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

typedef struct {
    cccrt_source *s;
    uint32_t file;
    uint64_t data_at;
} reader;

static ccc_status read_dtype(const reader *r, cccrt_scan *j, cccrt_source_tensor *t, ccc_err *err)
{
    char text[32];
    CCC_TRY(cccrt_scan_string(j, text, sizeof text, err));
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(text, dtypes[i].text) == 0) t->dtype = dtypes[i].dtype;
    if (t->dtype) return CCC_OK;
    return ccc_fail(err, CCC_E_UNSUPPORTED, "%.150s: tensor '%.200s' has dtype %s, which is not supported",
                    r->s->file[r->file].path, t->name, text);
}

static ccc_status read_shape(const reader *r, cccrt_scan *j, cccrt_source_tensor *t, ccc_err *err)
{
    bool first = true, more;
    CCC_TRY(cccrt_scan_open(j, '[', err));
    for (;;) {
        uint64_t n;
        CCC_TRY(cccrt_scan_element(j, &first, &more, err));
        if (!more) return CCC_OK;
        CCC_TRY(cccrt_scan_u64(j, &n, err));
        if (t->rank == CCCRT_SOURCE_RANK)
            return ccc_fail(err, CCC_E_UNSUPPORTED, "%.150s: tensor '%.200s' has more than %d dimensions",
                            r->s->file[r->file].path, t->name, CCCRT_SOURCE_RANK);
        if (n > INT64_MAX) return cccrt_scan_fail(j, err, "number is too large");
        t->dim[t->rank++] = (int64_t)n;
    }
}

static ccc_status read_offsets(const reader *r, cccrt_scan *j, cccrt_source_tensor *t, ccc_err *err)
{
    bool first = true, more;
    uint64_t at[2];
    CCC_TRY(cccrt_scan_open(j, '[', err));
    for (int i = 0; i < 2; i++) {
        CCC_TRY(cccrt_scan_element(j, &first, &more, err));
        if (!more) return cccrt_scan_fail(j, err, "expected two offsets");
        CCC_TRY(cccrt_scan_u64(j, &at[i], err));
    }
    CCC_TRY(cccrt_scan_element(j, &first, &more, err));
    if (more) return cccrt_scan_fail(j, err, "expected two offsets");
    uint64_t room = r->s->file[r->file].size_B - r->data_at;
    if (at[0] > at[1] || at[1] > room)
        return ccc_fail(
            err, CCC_E_CORRUPT,
            "%.150s: tensor '%.200s' has bytes %llu to %llu, but the file has %llu after its header",
            r->s->file[r->file].path, t->name, (unsigned long long)at[0], (unsigned long long)at[1],
            (unsigned long long)room);
    t->offset_B = r->data_at + at[0];
    t->size_B = at[1] - at[0];
    return CCC_OK;
}

static ccc_status read_tensor(const reader *r, cccrt_scan *j, cccrt_source_tensor *t, ccc_err *err)
{
    bool first = true, more, has_dtype = false, has_shape = false, has_offsets = false;
    char key[32];
    CCC_TRY(cccrt_scan_open(j, '{', err));
    for (;;) {
        CCC_TRY(cccrt_scan_member(j, &first, key, sizeof key, &more, err));
        if (!more) break;
        bool *has = strcmp(key, "dtype") == 0          ? &has_dtype
                    : strcmp(key, "shape") == 0        ? &has_shape
                    : strcmp(key, "data_offsets") == 0 ? &has_offsets
                                                       : NULL;
        if (!has || *has)
            return cccrt_scan_fail(
                j, err, has ? "key given twice" : "expected \"dtype\", \"shape\" or \"data_offsets\"");
        *has = true;
        CCC_TRY(has == &has_dtype   ? read_dtype(r, j, t, err)
                : has == &has_shape ? read_shape(r, j, t, err)
                                    : read_offsets(r, j, t, err));
    }
    if (!has_dtype || !has_shape || !has_offsets)
        return cccrt_scan_fail(j, err, "a tensor needs \"dtype\", \"shape\" and \"data_offsets\"");
    return CCC_OK;
}

static int by_offset(const void *a, const void *b)
{
    const cccrt_source_tensor *x = a, *y = b;
    if (x->offset_B != y->offset_B) return x->offset_B < y->offset_B ? -1 : 1;
    return (x->size_B > y->size_B) - (x->size_B < y->size_B);
}

/* Overlap is found by the reader of any format; gaps are this format's own rule. */
static ccc_status check_cover(const reader *r, uint32_t first, ccc_err *err)
{
    const cccrt_source *s = r->s;
    uint64_t at = r->data_at;
    if (s->n_tensors > first) qsort(s->tensor + first, s->n_tensors - first, sizeof *s->tensor, by_offset);
    for (uint32_t i = first; i < s->n_tensors; i++) {
        const cccrt_source_tensor *t = &s->tensor[i];
        if (t->size_B == 0) continue;
        if (t->offset_B < at) return CCC_OK; /* overlap: reported with both names by the caller */
        if (t->offset_B > at)
            return ccc_fail(err, CCC_E_CORRUPT,
                            "%.150s: %llu bytes before tensor '%.200s' belong to no tensor",
                            s->file[r->file].path, (unsigned long long)(t->offset_B - at), t->name);
        at += t->size_B;
    }
    if (at != s->file[r->file].size_B)
        return ccc_fail(err, CCC_E_CORRUPT, "%.150s: the last %llu bytes belong to no tensor",
                        s->file[r->file].path, (unsigned long long)(s->file[r->file].size_B - at));
    return CCC_OK;
}

ccc_status cccrt_safetensors_read(cccrt_source *s, uint32_t file, ccc_err *err)
{
    const cccrt_source_file *f = &s->file[file];
    if (f->size_B < 9)
        return ccc_fail(err, CCC_E_CORRUPT, "%.300s: too short for a safetensors file", f->path);
    uint64_t n = le64(f->map);
    if (n > CCCRT_SRC_MAX_HEADER_B || n > f->size_B - 8 || f->map[8] != '{')
        return ccc_fail(err, CCC_E_CORRUPT,
                        "%.300s: neither a safetensors nor a GGUF file, or cut off in its header", f->path);
    reader r = {s, file, 8 + n};
    cccrt_scan j = {(const char *)f->map + 8, (const char *)f->map + 8, (const char *)f->map + 8 + n, f->path,
                    0};
    char name[CCCRT_SRC_MAX_NAME_B];
    bool first = true, more;
    uint32_t first_tensor = s->n_tensors;
    CCC_TRY(cccrt_scan_open(&j, '{', err));
    for (;;) {
        CCC_TRY(cccrt_scan_member(&j, &first, name, sizeof name, &more, err));
        if (!more) break;
        if (strcmp(name, "__metadata__") == 0) {
            CCC_TRY(cccrt_scan_skip(&j, err));
            continue;
        }
        cccrt_source_tensor t = {.name = cccrt_pool_str(&s->pool, name, strlen(name)), .file = file};
        if (!t.name) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
        CCC_TRY(read_tensor(&r, &j, &t, err));
        CCC_TRY(cccrt_source_add_tensor(s, &t, err));
    }
    CCC_TRY(cccrt_scan_end(&j, err));
    return check_cover(&r, first_tensor, err);
}

static ccc_status add_shard(cccrt_source *s, cccrt_scan *j, const char *folder, const char *name,
                            uint32_t *file, ccc_err *err)
{
    size_t n = strlen(folder) + strlen(name) + 2;
    if (!*name || strchr(name, '/') || strcmp(name, "..") == 0)
        return cccrt_scan_fail(j, err, "a file name in \"weight_map\" is not a plain name");
    char *path = cccrt_pool_alloc(&s->pool, n);
    if (!path) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    snprintf(path, n, "%s/%s", folder, name);
    for (*file = 0; *file < s->n_files; ++*file)
        if (strcmp(s->file[*file].path, path) == 0) return CCC_OK;
    CCC_TRY(cccrt_source_add_file(s, path, err));
    return cccrt_safetensors_read(s, *file, err);
}

typedef struct {
    const char *name;
    uint32_t file;
} entry;
typedef struct {
    entry *e;
    size_t n, cap;
} entries;

/* "weight_map": each file is opened when first named; what the index says of each tensor is kept and compared
 * at the end. */
static ccc_status read_weight_map(cccrt_source *s, cccrt_scan *j, const char *folder, entries *list,
                                  ccc_err *err)
{
    char name[CCCRT_SRC_MAX_NAME_B], file[256];
    bool first = true, more;
    CCC_TRY(cccrt_scan_open(j, '{', err));
    for (;;) {
        CCC_TRY(cccrt_scan_member(j, &first, name, sizeof name, &more, err));
        if (!more) return CCC_OK;
        CCC_TRY(cccrt_scan_string(j, file, sizeof file, err));
        if (list->n == CCCRT_SRC_MAX_TENSORS) return cccrt_scan_fail(j, err, "too many tensors");
        if (list->n == list->cap) {
            size_t cap = list->cap ? list->cap * 2 : 256;
            entry *grown = realloc(list->e, cap * sizeof *grown);
            if (!grown) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
            list->e = grown;
            list->cap = cap;
        }
        entry *e = &list->e[list->n++];
        e->name = cccrt_pool_str(&s->pool, name, strlen(name));
        if (!e->name) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
        CCC_TRY(add_shard(s, j, folder, file, &e->file, err));
    }
}

static int entry_by_name(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

static ccc_status check_entries(const cccrt_source *s, const char *index, entries *list, ccc_err *err)
{
    qsort(list->e, list->n, sizeof *list->e, entry_by_name);
    for (size_t i = 1; i < list->n; i++)
        if (strcmp(list->e[i - 1].name, list->e[i].name) == 0)
            return ccc_fail(err, CCC_E_CORRUPT, "%.200s: tensor '%.200s' is listed twice", index,
                            list->e[i].name);
    for (uint32_t i = 0; i < s->n_tensors; i++) {
        entry key = {s->tensor[i].name, 0};
        entry *e = bsearch(&key, list->e, list->n, sizeof *list->e, entry_by_name);
        if (!e)
            return ccc_fail(err, CCC_E_CORRUPT, "%.200s: tensor '%.200s' is in '%.90s' but not in the index",
                            index, key.name, s->file[s->tensor[i].file].path);
        if (e->file == s->tensor[i].file) e->file = UINT32_MAX; /* found */
    }
    for (size_t i = 0; i < list->n; i++)
        if (list->e[i].file != UINT32_MAX)
            return ccc_fail(err, CCC_E_CORRUPT, "%.200s: tensor '%.200s' is not in '%.90s' as the index says",
                            index, list->e[i].name, s->file[list->e[i].file].path);
    return CCC_OK;
}

static ccc_status read_index(cccrt_source *s, cccrt_scan *j, const char *folder, entries *list, ccc_err *err)
{
    char key[64];
    bool first = true, more, seen = false;
    CCC_TRY(cccrt_scan_open(j, '{', err));
    for (;;) {
        CCC_TRY(cccrt_scan_member(j, &first, key, sizeof key, &more, err));
        if (!more) break;
        bool map = strcmp(key, "weight_map") == 0;
        if (map && seen) return cccrt_scan_fail(j, err, "\"weight_map\" is given twice");
        seen |= map;
        CCC_TRY(map ? read_weight_map(s, j, folder, list, err) : cccrt_scan_skip(j, err));
    }
    if (!seen) return cccrt_scan_fail(j, err, "the index has no \"weight_map\"");
    return cccrt_scan_end(j, err);
}

ccc_status cccrt_safetensors_index(cccrt_source *s, const char *folder, const char *index, ccc_err *err)
{
    cccrt_source one = {0}; /* maps the index alone, so that it does not count among the weight files */
    entries list = {0};
    ccc_status st = cccrt_source_add_file(&one, index, err);
    if (st == CCC_OK && one.file[0].size_B > CCCRT_SRC_MAX_HEADER_B)
        st = ccc_fail(err, CCC_E_CORRUPT, "%.300s: too large for an index", index);
    if (st == CCC_OK) {
        const char *text = (const char *)one.file[0].map;
        cccrt_scan j = {text, text, text + one.file[0].size_B, index, 0};
        st = read_index(s, &j, folder, &list, err);
    }
    if (st == CCC_OK) st = check_entries(s, index, &list, err);
    free(list.e);
    cccrt_source_drop_files(&one);
    return st;
}
