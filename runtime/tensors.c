/* Opening a source of weights: which format it is, mapping its files, and the one table of tensors that every
 * format fills, with the checks that hold for all of them (sizes, ranges, overlap, names). */
#define _GNU_SOURCE
#include "tensors_impl.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *text;
    uint8_t block_B, elems;
} dtypes[] = {
    [CCCRT_F32] = {"f32", 4, 1},   [CCCRT_F16] = {"f16", 2, 1},     [CCCRT_BF16] = {"bf16", 2, 1},
    [CCCRT_E4M3] = {"e4m3", 1, 1}, [CCCRT_E5M2] = {"e5m2", 1, 1},   [CCCRT_E8M0] = {"e8m0", 1, 1},
    [CCCRT_I8] = {"i8", 1, 1},     [CCCRT_U8] = {"u8", 1, 1},       [CCCRT_I32] = {"i32", 4, 1},
    [CCCRT_I64] = {"i64", 8, 1},   [CCCRT_Q8_0] = {"q8_0", 34, 32}, [CCCRT_Q4_1] = {"q4_1", 20, 32},
    [CCCRT_F64] = {"f64", 8, 1},
};

bool cccrt_dtype_size(uint32_t dtype, uint32_t *block_B, uint32_t *block_elems)
{
    if (dtype >= sizeof dtypes / sizeof *dtypes || !dtypes[dtype].text) return false;
    *block_B = dtypes[dtype].block_B;
    *block_elems = dtypes[dtype].elems;
    return true;
}

const char *cccrt_dtype_text(uint32_t dtype)
{
    return dtype < sizeof dtypes / sizeof *dtypes && dtypes[dtype].text ? dtypes[dtype].text : "?";
}

/* ---- memory: chunks in a list, small requests share one */
typedef struct chunk {
    struct chunk *next;
    size_t used_B, cap_B;
} chunk;
enum { CHUNK_HEAD_B = (sizeof(chunk) + 15) / 16 * 16, CHUNK_B = 32768 };

void *cccrt_pool_alloc(void **pool, size_t size_B)
{
    if (size_B > SIZE_MAX / 2) return NULL;
    size_B = (size_B + 15) / 16 * 16;
    chunk *c = *pool;
    if (!c || c->cap_B - c->used_B < size_B) {
        size_t cap = size_B > CHUNK_B ? size_B : CHUNK_B;
        chunk *fresh = calloc(1, CHUNK_HEAD_B + cap);
        if (!fresh) return NULL;
        fresh->cap_B = cap;
        fresh->next = c;
        *pool = c = fresh;
    }
    void *p = (char *)c + CHUNK_HEAD_B + c->used_B;
    c->used_B += size_B;
    return p;
}

char *cccrt_pool_str(void **pool, const char *s, size_t n)
{
    char *p = cccrt_pool_alloc(pool, n + 1);
    if (p) memcpy(p, s, n);
    return p;
}

void cccrt_pool_free(void **pool)
{
    for (chunk *c = *pool, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    *pool = NULL;
}

/* ---- filling the source */
static ccc_status grow(void **array, uint32_t n, uint32_t *cap, size_t elem_B, ccc_err *err)
{
    if (n < *cap) return CCC_OK;
    uint32_t wanted = *cap ? *cap * 2 : 16;
    void *grown = realloc(*array, wanted * elem_B);
    if (!grown) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    *array = grown;
    *cap = wanted;
    return CCC_OK;
}

ccc_status cccrt_source_add_file(cccrt_source *s, const char *path, ccc_err *err)
{
    struct stat st;
    cccrt_source_file f = {.path = cccrt_pool_str(&s->pool, path, strlen(path))};
    if (!f.path) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    if (s->n_files == CCCRT_SRC_MAX_FILES)
        return ccc_fail(err, CCC_E_UNSUPPORTED, "more than %d weight files", CCCRT_SRC_MAX_FILES);
    CCC_TRY(grow((void **)&s->file, s->n_files, &s->cap_files, sizeof *s->file, err));
    f.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe in place of a file must not block */
    if (f.fd < 0) return ccc_fail(err, CCC_E_IO, "cannot open '%.300s': %s", path, strerror(errno));
    if (fstat(f.fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
        close(f.fd);
        return ccc_fail(err, CCC_E_IO, "'%.300s' is not a file, or is empty", path);
    }
    f.size_B = (uint64_t)st.st_size;
    void *map =
        f.size_B <= SIZE_MAX ? mmap(NULL, (size_t)f.size_B, PROT_READ, MAP_PRIVATE, f.fd, 0) : MAP_FAILED;
    if (map == MAP_FAILED) {
        int code = errno;
        close(f.fd);
        return ccc_fail(err, CCC_E_IO, "cannot map '%.300s': %s", path, strerror(code));
    }
    f.map = map;
    s->file[s->n_files++] = f;
    return CCC_OK;
}

void cccrt_source_drop_files(cccrt_source *s)
{
    for (uint32_t i = 0; i < s->n_files; i++) {
        munmap((void *)s->file[i].map, (size_t)s->file[i].size_B);
        close(s->file[i].fd);
    }
    free(s->file);
    s->file = NULL;
    s->n_files = s->cap_files = 0;
    cccrt_pool_free(&s->pool);
}

/* Bytes that the shape needs; false: more than 2^62, or rows that are not whole blocks. */
static bool shape_size(const cccrt_source_tensor *t, uint64_t *size_B)
{
    uint32_t block_B = 0, elems = 1;
    uint64_t n = 1;
    if (!cccrt_dtype_size(t->dtype, &block_B, &elems)) return false;
    for (uint32_t i = 0; i < t->rank; i++)
        if (t->dim[i] < 0 || __builtin_mul_overflow(n, (uint64_t)t->dim[i], &n)) return false;
    if (elems > 1 && (t->rank == 0 || t->dim[t->rank - 1] % elems)) return false;
    return !__builtin_mul_overflow(n / elems, (uint64_t)block_B, size_B) && *size_B <= UINT64_MAX / 4;
}

ccc_status cccrt_source_add_tensor(cccrt_source *s, const cccrt_source_tensor *t, ccc_err *err)
{
    const cccrt_source_file *f = &s->file[t->file];
    uint64_t need;
    if (!*t->name) return ccc_fail(err, CCC_E_CORRUPT, "%.300s: a tensor has no name", f->path);
    if (!shape_size(t, &need))
        return ccc_fail(err, CCC_E_CORRUPT, "%.150s: tensor '%.200s' has an impossible shape for %s", f->path,
                        t->name, cccrt_dtype_text(t->dtype));
    if (need != t->size_B)
        return ccc_fail(err, CCC_E_CORRUPT, "%.150s: tensor '%.200s' has %llu bytes, its shape needs %llu",
                        f->path, t->name, (unsigned long long)t->size_B, (unsigned long long)need);
    if (t->offset_B > f->size_B || t->size_B > f->size_B - t->offset_B)
        return ccc_fail(err, CCC_E_CORRUPT, "%.150s: tensor '%.200s' ends beyond the file", f->path, t->name);
    if (s->n_tensors == CCCRT_SRC_MAX_TENSORS)
        return ccc_fail(err, CCC_E_UNSUPPORTED, "%.300s: more than %d tensors", f->path,
                        CCCRT_SRC_MAX_TENSORS);
    CCC_TRY(grow((void **)&s->tensor, s->n_tensors, &s->cap_tensors, sizeof *s->tensor, err));
    s->tensor[s->n_tensors++] = *t;
    return CCC_OK;
}

static int by_place(const void *a, const void *b)
{
    const cccrt_source_tensor *x = a, *y = b;
    if (x->file != y->file) return x->file < y->file ? -1 : 1;
    if (x->offset_B != y->offset_B) return x->offset_B < y->offset_B ? -1 : 1;
    if (x->size_B != y->size_B) return x->size_B < y->size_B ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b, void *payload)
{
    const cccrt_source *s = payload;
    return strcmp(s->tensor[*(const uint32_t *)a].name, s->tensor[*(const uint32_t *)b].name);
}

/* Puts the table in order and checks what only shows in the whole: overlap and equal names. */
static ccc_status finish(cccrt_source *s, ccc_err *err)
{
    if (s->n_tensors) qsort(s->tensor, s->n_tensors, sizeof *s->tensor, by_place);
    const cccrt_source_tensor *last = NULL; /* the one before with bytes */
    for (uint32_t i = 0; i < s->n_tensors; i++) {
        const cccrt_source_tensor *t = &s->tensor[i];
        if (t->size_B == 0) continue;
        if (last && last->file == t->file && last->offset_B + last->size_B > t->offset_B)
            return ccc_fail(err, CCC_E_CORRUPT, "%.150s: tensors '%.140s' and '%.140s' overlap",
                            s->file[t->file].path, last->name, t->name);
        last = t;
    }
    s->by_name = malloc((s->n_tensors + 1) * sizeof *s->by_name);
    if (!s->by_name) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    for (uint32_t i = 0; i < s->n_tensors; i++) s->by_name[i] = i;
    qsort_r(s->by_name, s->n_tensors, sizeof *s->by_name, by_name, s);
    for (uint32_t i = 1; i < s->n_tensors; i++) {
        const cccrt_source_tensor *a = &s->tensor[s->by_name[i - 1]], *b = &s->tensor[s->by_name[i]];
        if (strcmp(a->name, b->name) != 0) continue;
        if (a->file == b->file)
            return ccc_fail(err, CCC_E_CORRUPT, "%.150s: tensor '%.200s' is there twice",
                            s->file[a->file].path, a->name);
        return ccc_fail(err, CCC_E_CORRUPT, "tensor '%.150s' is in '%.120s' and in '%.120s'", a->name,
                        s->file[a->file].path, s->file[b->file].path);
    }
    return CCC_OK;
}

/* ---- opening */
static bool readable(const char *folder, const char *name)
{
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n > 0 && (size_t)n < sizeof path && access(path, R_OK) == 0;
}

bool cccrt_source_present(const char *folder)
{
    return readable(folder, "model.safetensors") || readable(folder, "model.safetensors.index.json");
}

static ccc_status open_folder(cccrt_source *s, const char *folder, ccc_err *err)
{
    char path[4096];
    bool one = readable(folder, "model.safetensors");
    s->kind = CCCRT_SOURCE_SAFETENSORS;
    if (!cccrt_source_present(folder))
        return ccc_fail(err, CCC_E_IO,
                        "'%.300s' has neither model.safetensors nor model.safetensors.index.json", folder);
    if (readable(folder, "config.json")) {
        snprintf(path, sizeof path, "%s/config.json", folder);
        s->config = cccrt_pool_str(&s->pool, path, strlen(path));
        if (!s->config) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    }
    snprintf(path, sizeof path, one ? "%s/model.safetensors" : "%s/model.safetensors.index.json", folder);
    if (!one) return cccrt_safetensors_index(s, folder, path, err);
    CCC_TRY(cccrt_source_add_file(s, path, err));
    return cccrt_safetensors_read(s, 0, err);
}

static ccc_status open_file(cccrt_source *s, const char *path, ccc_err *err)
{
    CCC_TRY(cccrt_source_add_file(s, path, err));
    if (s->file[0].size_B >= 4 && memcmp(s->file[0].map, "GGUF", 4) == 0) {
        s->kind = CCCRT_SOURCE_GGUF;
        return cccrt_gguf_read(s, 0, err);
    }
    s->kind = CCCRT_SOURCE_SAFETENSORS;
    const char *slash =
        strrchr(path, '/'); /* a file of a model's folder: the config beside it describes it */
    char *folder =
        slash ? cccrt_pool_str(&s->pool, path, (size_t)(slash - path)) : cccrt_pool_str(&s->pool, ".", 1);
    if (!folder) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    if (readable(folder, "config.json")) {
        size_t n = strlen(folder) + sizeof "/config.json";
        s->config = cccrt_pool_alloc(&s->pool, n);
        if (!s->config) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
        snprintf(s->config, n, "%s/config.json", folder);
    }
    return cccrt_safetensors_read(s, 0, err);
}

ccc_status cccrt_source_open(cccrt_source **out, const char *path, ccc_err *err)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return ccc_fail(err, CCC_E_IO, "cannot open '%.300s': %s", path, strerror(errno));
    cccrt_source *s = calloc(1, sizeof *s);
    if (!s) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    ccc_status status = S_ISDIR(st.st_mode) ? open_folder(s, path, err) : open_file(s, path, err);
    if (status == CCC_OK) status = finish(s, err);
    if (status != CCC_OK) {
        cccrt_source_close(s);
        return status;
    }
    *out = s;
    return CCC_OK;
}

void cccrt_source_close(cccrt_source *s)
{
    if (!s) return;
    cccrt_source_drop_files(s);
    free(s->tensor);
    free(s->by_name);
    free(s->kv);
    free(s);
}

/* ---- questions */
cccrt_source_kind cccrt_source_get_kind(const cccrt_source *s)
{
    return s->kind;
}
uint32_t cccrt_source_count(const cccrt_source *s)
{
    return s->n_tensors;
}
const cccrt_source_tensor *cccrt_source_get(const cccrt_source *s, uint32_t i)
{
    return i < s->n_tensors ? &s->tensor[i] : NULL;
}
uint32_t cccrt_source_files(const cccrt_source *s)
{
    return s->n_files;
}
const char *cccrt_source_path(const cccrt_source *s, uint32_t file)
{
    return file < s->n_files ? s->file[file].path : NULL;
}
int cccrt_source_fd(const cccrt_source *s, uint32_t file)
{
    return file < s->n_files ? s->file[file].fd : -1;
}
const void *cccrt_source_data(const cccrt_source *s, const cccrt_source_tensor *t)
{
    return s->file[t->file].map + t->offset_B;
}

const cccrt_source_tensor *cccrt_source_find(const cccrt_source *s, const char *name)
{
    uint32_t lo = 0, hi = s->n_tensors;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int order = strcmp(name, s->tensor[s->by_name[mid]].name);
        if (order == 0) return &s->tensor[s->by_name[mid]];
        if (order < 0) hi = mid;
        else lo = mid + 1;
    }
    return NULL;
}

static bool ends_with(const char *name, const char *const *tails, size_t n_tails)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < n_tails; i++) {
        size_t tail = strlen(tails[i]);
        if (n >= tail && strcmp(name + n - tail, tails[i]) == 0) return true;
    }
    return false;
}

const char *const cccrt_k_scale_names[CCCRT_N_KV_SCALE_NAMES] = {
    ".self_attn.k_proj.k_scale", ".self_attn.attn.k_scale", ".self_attn.k_scale"};
const char *const cccrt_v_scale_names[CCCRT_N_KV_SCALE_NAMES] = {
    ".self_attn.v_proj.v_scale", ".self_attn.attn.v_scale", ".self_attn.v_scale"};
bool cccrt_source_is_kv_scale(const char *name)
{
    return ends_with(name, cccrt_k_scale_names, CCCRT_N_KV_SCALE_NAMES) ||
           ends_with(name, cccrt_v_scale_names, CCCRT_N_KV_SCALE_NAMES);
}

bool cccrt_source_ignorable(const char *name)
{
    static const char *const tails[] = {".rotary_emb.inv_freq", ".rotary_emb.cos_cached",
                                        ".rotary_emb.sin_cached"};
    return ends_with(name, tails, sizeof tails / sizeof *tails) || cccrt_source_is_kv_scale(name);
}

ccc_status cccrt_source_read(const cccrt_source *s, const cccrt_source_tensor *t, uint64_t offset_B,
                             uint64_t size_B, void *dst, ccc_err *err)
{
    const cccrt_source_file *f = &s->file[t->file];
    if (offset_B > t->size_B || size_B > t->size_B - offset_B)
        return ccc_fail(err, CCC_E_ARG, "read of bytes %llu to %llu of tensor '%.200s', which has %llu",
                        (unsigned long long)offset_B, (unsigned long long)(offset_B + size_B), t->name,
                        (unsigned long long)t->size_B);
    for (uint64_t done = 0; done < size_B;) {
        size_t want = size_B - done > 1 << 30 ? 1 << 30 : (size_t)(size_B - done);
        ssize_t got = pread(f->fd, (char *)dst + done, want, (off_t)(t->offset_B + offset_B + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return ccc_fail(err, CCC_E_IO, "cannot read '%.300s': %s", f->path, strerror(errno));
        if (got == 0) return ccc_fail(err, CCC_E_IO, "'%.300s' became shorter while it was read", f->path);
        done += (uint64_t)got;
    }
    return CCC_OK;
}
