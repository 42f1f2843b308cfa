/* The GGUF format, version 3: a magic, counts, metadata (typed key/value pairs), the table of tensors, then
 * their bytes, each tensor aligned. All metadata is walked and checked; of arrays only the length is kept
 * (vocabularies are not our business). Dimensions stand innermost first in the file and are turned round
 * here. */
#include "tensors_impl.h"
#include <stdlib.h>
#include <string.h>

enum { T_U8, T_I8, T_U16, T_I16, T_U32, T_I32, T_F32, T_BOOL, T_STR, T_ARRAY, T_U64, T_I64, T_F64, N_TYPES };
static const uint8_t type_B[N_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

static const struct {
    uint32_t id;
    const char *text;
    uint32_t dtype;
} tensor_types[] = {
    /* dtype 0: known, not supported */
    {0, "F32", CCCRT_F32},    {1, "F16", CCCRT_F16}, {2, "Q4_0", 0},          {3, "Q4_1", CCCRT_Q4_1},
    {6, "Q5_0", 0},           {7, "Q5_1", 0},        {8, "Q8_0", CCCRT_Q8_0}, {9, "Q8_1", 0},
    {10, "Q2_K", 0},          {11, "Q3_K", 0},       {12, "Q4_K", 0},         {13, "Q5_K", 0},
    {14, "Q6_K", 0},          {15, "Q8_K", 0},       {16, "IQ2_XXS", 0},      {17, "IQ2_XS", 0},
    {18, "IQ3_XXS", 0},       {19, "IQ1_S", 0},      {20, "IQ4_NL", 0},       {21, "IQ3_S", 0},
    {22, "IQ2_S", 0},         {23, "IQ4_XS", 0},     {24, "I8", 0},           {25, "I16", 0},
    {26, "I32", 0},           {27, "I64", 0},        {28, "F64", 0},          {29, "IQ1_M", 0},
    {30, "BF16", CCCRT_BF16}, {34, "TQ1_0", 0},      {35, "TQ2_0", 0},        {39, "MXFP4", 0},
};

typedef struct {
    cccrt_source *s;
    const cccrt_source_file *f;
    uint32_t file;
    uint64_t at;
} reader;

static ccc_status cut_off(const reader *r, ccc_err *err)
{
    return ccc_fail(err, CCC_E_CORRUPT, "%.300s: cut off at byte %llu of its header", r->f->path,
                    (unsigned long long)r->at);
}

static ccc_status read_uint(reader *r, unsigned size_B, uint64_t *out, ccc_err *err)
{
    *out = 0;
    if (r->f->size_B - r->at < size_B) return cut_off(r, err);
    for (unsigned i = size_B; i-- > 0;) *out = *out << 8 | r->f->map[r->at + i];
    r->at += size_B;
    return CCC_OK;
}

static ccc_status string(reader *r, const char **out, uint64_t *n,
                         ccc_err *err) /* borrowed from the map, not ended by 0 */
{
    CCC_TRY(read_uint(r, 8, n, err));
    if (*n > r->f->size_B - r->at) return cut_off(r, err);
    if (*n > CCCRT_GGUF_MAX_STR_B)
        return ccc_fail(err, CCC_E_UNSUPPORTED, "%.300s: a string of %llu bytes", r->f->path,
                        (unsigned long long)*n);
    *out = (const char *)r->f->map + r->at;
    r->at += *n;
    return CCC_OK;
}

/* A key or a tensor's name: short, printable, copied. */
static ccc_status name(reader *r, const char *what, const char **out, ccc_err *err)
{
    const char *text;
    uint64_t n;
    CCC_TRY(string(r, &text, &n, err));
    bool good = n > 0 && n < CCCRT_SRC_MAX_NAME_B;
    for (uint64_t i = 0; good && i < n; i++) good = (unsigned char)text[i] >= 0x20 && text[i] != 0x7f;
    if (!good)
        return ccc_fail(err, CCC_E_CORRUPT, "%.300s: %s before byte %llu is empty, too long or not printable",
                        r->f->path, what, (unsigned long long)r->at);
    *out = cccrt_pool_str(&r->s->pool, text, (size_t)n);
    return *out ? CCC_OK : ccc_fail(err, CCC_E_NOMEM, "out of memory");
}

/* Moves over an array's elements; returns its length. */
static ccc_status array(reader *r, const char *key, unsigned depth, uint64_t *n, ccc_err *err)
{
    uint64_t type;
    CCC_TRY(read_uint(r, 4, &type, err));
    CCC_TRY(read_uint(r, 8, n, err));
    if (type >= N_TYPES)
        return ccc_fail(err, CCC_E_CORRUPT, "%.150s: key '%.200s' is an array of unknown type %llu",
                        r->f->path, key, (unsigned long long)type);
    if (*n > CCCRT_GGUF_MAX_ARRAY || depth == CCCRT_GGUF_MAX_DEPTH)
        return ccc_fail(err, CCC_E_UNSUPPORTED,
                        "%.150s: key '%.200s' is an array of %llu elements, or arrays too deep", r->f->path,
                        key, (unsigned long long)*n);
    if (type_B[type]) {
        if (*n > (r->f->size_B - r->at) / type_B[type]) return cut_off(r, err);
        r->at += *n * type_B[type];
        return CCC_OK;
    }
    for (uint64_t i = 0; i < *n;
         i++) { /* each element takes at least 8 bytes of the file: bounded by its length */
        const char *text;
        uint64_t len;
        CCC_TRY(type == T_STR ? string(r, &text, &len, err) : array(r, key, depth + 1, &len, err));
    }
    return CCC_OK;
}

static ccc_status value(reader *r, cccrt_gguf_kv *kv, ccc_err *err)
{
    if (kv->type == T_ARRAY) return array(r, kv->key, 0, &kv->n, err);
    if (kv->type == T_STR) {
        const char *text;
        CCC_TRY(string(r, &text, &kv->n, err));
        kv->str = cccrt_pool_str(&r->s->pool, text, (size_t)kv->n);
        return kv->str ? CCC_OK : ccc_fail(err, CCC_E_NOMEM, "out of memory");
    }
    CCC_TRY(read_uint(r, type_B[kv->type], &kv->u, err));
    float f;
    uint32_t low = (uint32_t)kv->u;
    switch (kv->type) {
    case T_I8:
        kv->i = (int8_t)kv->u;
        break;
    case T_I16:
        kv->i = (int16_t)kv->u;
        break;
    case T_I32:
        kv->i = (int32_t)kv->u;
        break;
    case T_I64:
        kv->i = (int64_t)kv->u;
        break;
    case T_F32:
        memcpy(&f, &low, sizeof f), kv->f = f;
        break;
    case T_F64:
        memcpy(&kv->f, &kv->u, sizeof kv->f);
        break;
    case T_BOOL:
        if (kv->u > 1)
            return ccc_fail(err, CCC_E_CORRUPT, "%.150s: key '%.200s' is neither true nor false", r->f->path,
                            kv->key);
        break;
    }
    return CCC_OK;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const cccrt_gguf_kv *)a)->key, ((const cccrt_gguf_kv *)b)->key);
}

static ccc_status metadata(reader *r, uint64_t n, ccc_err *err)
{
    cccrt_source *s = r->s;
    if (n > CCCRT_GGUF_MAX_KEYS ||
        n > (r->f->size_B - r->at) / 13) /* a pair takes at least 8 + 4 + 1 bytes */
        return ccc_fail(err, CCC_E_CORRUPT, "%.300s: claims %llu metadata keys", r->f->path,
                        (unsigned long long)n);
    s->kv = calloc((size_t)n + 1, sizeof *s->kv);
    if (!s->kv) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    for (uint64_t i = 0; i < n; i++) {
        cccrt_gguf_kv *kv = &s->kv[i];
        uint64_t type;
        CCC_TRY(name(r, "a key", &kv->key, err));
        CCC_TRY(read_uint(r, 4, &type, err));
        if (type >= N_TYPES)
            return ccc_fail(err, CCC_E_CORRUPT, "%.150s: key '%.200s' has unknown type %llu", r->f->path,
                            kv->key, (unsigned long long)type);
        kv->type = (uint32_t)type;
        CCC_TRY(value(r, kv, err));
    }
    s->n_kv = (uint32_t)n;
    qsort(s->kv, s->n_kv, sizeof *s->kv, by_key);
    for (uint32_t i = 1; i < s->n_kv; i++)
        if (strcmp(s->kv[i - 1].key, s->kv[i].key) == 0)
            return ccc_fail(err, CCC_E_CORRUPT, "%.150s: key '%.200s' is there twice", r->f->path,
                            s->kv[i].key);
    return CCC_OK;
}

static ccc_status tensor_type(const reader *r, uint64_t id, cccrt_source_tensor *t, ccc_err *err)
{
    const char *text = "unknown";
    for (size_t i = 0; i < sizeof tensor_types / sizeof *tensor_types; i++) {
        if (tensor_types[i].id != id) continue;
        t->dtype = tensor_types[i].dtype;
        text = tensor_types[i].text;
    }
    if (t->dtype) return CCC_OK;
    return ccc_fail(err, CCC_E_UNSUPPORTED,
                    "%.150s: tensor '%.200s' has type %s (%llu); supported are F32, F16, BF16, Q8_0 and Q4_1",
                    r->f->path, t->name, text, (unsigned long long)id);
}

static ccc_status tensor_info(reader *r, cccrt_source_tensor *t, ccc_err *err)
{
    uint64_t rank, type, inner[CCCRT_SOURCE_RANK];
    CCC_TRY(name(r, "a tensor's name", &t->name, err));
    CCC_TRY(read_uint(r, 4, &rank, err));
    if (rank > CCCRT_SOURCE_RANK)
        return ccc_fail(err, CCC_E_UNSUPPORTED, "%.150s: tensor '%.200s' has more than %d dimensions",
                        r->f->path, t->name, CCCRT_SOURCE_RANK);
    for (uint64_t i = 0; i < rank; i++) CCC_TRY(read_uint(r, 8, &inner[i], err));
    t->rank = (uint32_t)rank;
    for (uint32_t i = 0; i < t->rank; i++) {
        if (inner[rank - 1 - i] > INT64_MAX)
            return ccc_fail(err, CCC_E_CORRUPT, "%.150s: tensor '%.200s' has an impossible shape", r->f->path,
                            t->name);
        t->dim[i] = (int64_t)inner[rank - 1 - i];
    }
    CCC_TRY(read_uint(r, 4, &type, err));
    CCC_TRY(tensor_type(r, type, t, err));
    return read_uint(r, 8, &t->offset_B, err); /* relative to the data so far */
}

/* The size is not in the file: it follows from shape and type. Overflow and rows of broken blocks give 0 and
 * fail when added. */
static uint64_t implied_size(const cccrt_source_tensor *t)
{
    uint32_t block_B, elems;
    uint64_t n = 1;
    if (!cccrt_dtype_size(t->dtype, &block_B, &elems)) return 0;
    for (uint32_t i = 0; i < t->rank; i++)
        if (__builtin_mul_overflow(n, (uint64_t)t->dim[i], &n)) return 0;
    return __builtin_mul_overflow(n / elems, (uint64_t)block_B, &n) ? 0 : n;
}

ccc_status cccrt_gguf_read(cccrt_source *s, uint32_t file, ccc_err *err)
{
    reader r = {s, &s->file[file], file, 4};
    uint64_t version, n_tensors, n_kv, align = 32;
    CCC_TRY(read_uint(&r, 4, &version, err));
    if (version != 3)
        return ccc_fail(err, version > 3 && version < 1 << 16 ? CCC_E_VERSION : CCC_E_UNSUPPORTED,
                        "%.300s: GGUF version %llu; only version 3 (little endian) is supported", r.f->path,
                        (unsigned long long)version);
    CCC_TRY(read_uint(&r, 8, &n_tensors, err));
    CCC_TRY(read_uint(&r, 8, &n_kv, err));
    CCC_TRY(metadata(&r, n_kv, err));
    cccrt_gguf_u64(s, "general.alignment", &align);
    if (align < 8 || align > 1 << 20 || align & (align - 1))
        return ccc_fail(err, CCC_E_CORRUPT, "%.300s: general.alignment is %llu", r.f->path,
                        (unsigned long long)align);
    if (n_tensors > CCCRT_SRC_MAX_TENSORS || n_tensors > (r.f->size_B - r.at) / 25)
        return ccc_fail(err, CCC_E_CORRUPT, "%.300s: claims %llu tensors", r.f->path,
                        (unsigned long long)n_tensors);
    cccrt_source_tensor *list = calloc((size_t)n_tensors + 1, sizeof *list);
    ccc_status st = list ? CCC_OK : ccc_fail(err, CCC_E_NOMEM, "out of memory");
    for (uint64_t i = 0; st == CCC_OK && i < n_tensors; i++) st = tensor_info(&r, &list[i], err);
    uint64_t data_at = (r.at + align - 1) / align * align; /* r.at is within the file: cannot overflow */
    for (uint64_t i = 0; st == CCC_OK && i < n_tensors; i++) {
        cccrt_source_tensor *t = &list[i];
        t->file = file;
        t->size_B = implied_size(t);
        if (t->offset_B % align || __builtin_add_overflow(t->offset_B, data_at, &t->offset_B))
            st = ccc_fail(err, CCC_E_CORRUPT, "%.150s: tensor '%.200s' lies at an impossible offset",
                          r.f->path, t->name);
        else st = cccrt_source_add_tensor(s, t, err);
    }
    free(list);
    return st;
}

/* ---- questions */
static const cccrt_gguf_kv *find(const cccrt_source *s, const char *key)
{
    cccrt_gguf_kv wanted = {.key = key};
    return s->n_kv ? bsearch(&wanted, s->kv, s->n_kv, sizeof *s->kv, by_key) : NULL;
}

bool cccrt_gguf_str(const cccrt_source *s, const char *key, const char **out)
{
    const cccrt_gguf_kv *kv = find(s, key);
    if (!kv || kv->type != T_STR) return false;
    *out = kv->str;
    return true;
}

bool cccrt_gguf_u64(const cccrt_source *s, const char *key, uint64_t *out)
{
    const cccrt_gguf_kv *kv = find(s, key);
    if (!kv) return false;
    bool is_signed = kv->type == T_I8 || kv->type == T_I16 || kv->type == T_I32 || kv->type == T_I64;
    bool is_unsigned = kv->type == T_U8 || kv->type == T_U16 || kv->type == T_U32 || kv->type == T_U64;
    if (!is_unsigned && !(is_signed && kv->i >= 0)) return false;
    *out = is_signed ? (uint64_t)kv->i : kv->u;
    return true;
}

bool cccrt_gguf_f64(const cccrt_source *s, const char *key, double *out)
{
    const cccrt_gguf_kv *kv = find(s, key);
    if (!kv || (kv->type != T_F32 && kv->type != T_F64)) return false;
    *out = kv->f;
    return true;
}

bool cccrt_gguf_bool(const cccrt_source *s, const char *key, bool *out)
{
    const cccrt_gguf_kv *kv = find(s, key);
    if (!kv || kv->type != T_BOOL) return false;
    *out = kv->u != 0;
    return true;
}

bool cccrt_gguf_array(const cccrt_source *s, const char *key, uint64_t *n)
{
    const cccrt_gguf_kv *kv = find(s, key);
    if (!kv || kv->type != T_ARRAY) return false;
    *n = kv->n;
    return true;
}

uint32_t cccrt_gguf_keys(const cccrt_source *s)
{
    return s->n_kv;
}
const char *cccrt_gguf_key(const cccrt_source *s, uint32_t i)
{
    return i < s->n_kv ? s->kv[i].key : NULL;
}
