/* What the readers of weight files share: the open source, memory that is freed with it, the bounded JSON scanner, and the table of
 * tensors that each format fills. */
#ifndef CCCRT_TENSORS_IMPL_H
#define CCCRT_TENSORS_IMPL_H
#include "tensors.h"

enum { /* limits of what a header may ask for, far above any real model */
    CCCRT_SRC_MAX_TENSORS = 1 << 18, CCCRT_SRC_MAX_FILES = 1024, CCCRT_SRC_MAX_NAME_B = 512,
    CCCRT_SRC_MAX_HEADER_B = 100 * 1000 * 1000, CCCRT_SRC_MAX_CONFIG_B = 4 << 20,
    CCCRT_GGUF_MAX_KEYS = 65536, CCCRT_GGUF_MAX_STR_B = 64 << 20, CCCRT_GGUF_MAX_ARRAY = 1 << 26, CCCRT_GGUF_MAX_DEPTH = 4,
    CCCRT_JSON_MAX_DEPTH = 32
};

typedef struct { char *path; int fd; const uint8_t *map; uint64_t size_B; } cccrt_source_file;
typedef struct { const char *key; uint32_t type; uint64_t n; uint64_t u; int64_t i; double f; const char *str; } cccrt_gguf_kv; /* n: array length */
struct cccrt_source {
    cccrt_source_kind kind;
    void *pool;                              /* list of chunks */
    cccrt_source_file *file; uint32_t n_files, cap_files;
    cccrt_source_tensor *tensor; uint32_t n_tensors, cap_tensors;
    uint32_t *by_name;                       /* tensor numbers in order of name */
    cccrt_gguf_kv *kv; uint32_t n_kv;        /* in order of key */
    char *config;                            /* path of config.json, NULL: none */
};

void *cccrt_pool_alloc(void **pool, size_t size_B);          /* zeroed, 16-byte aligned; NULL: memory is out */
char *cccrt_pool_str(void **pool, const char *s, size_t n);
void cccrt_pool_free(void **pool);

ccc_status cccrt_source_add_file(cccrt_source *s, const char *path, ccc_err *err);
void cccrt_source_drop_files(cccrt_source *s);               /* unmaps and closes; frees the list and the pool */
ccc_status cccrt_source_add_tensor(cccrt_source *s, const cccrt_source_tensor *t, ccc_err *err); /* checks dims, size and range */
ccc_status cccrt_safetensors_read(cccrt_source *s, uint32_t file, ccc_err *err);
ccc_status cccrt_safetensors_index(cccrt_source *s, const char *folder, const char *index, ccc_err *err);
ccc_status cccrt_gguf_read(cccrt_source *s, uint32_t file, ccc_err *err);

/* JSON: a cursor over text that need not end in 0. Errors carry line and column and the file's name. */
typedef struct { const char *begin, *p, *end, *file; unsigned depth; } cccrt_scan;
typedef enum { CCCRT_JSON_BAD, CCCRT_JSON_OBJECT, CCCRT_JSON_ARRAY, CCCRT_JSON_STRING, CCCRT_JSON_NUMBER, CCCRT_JSON_BOOL, CCCRT_JSON_NULL } cccrt_json_kind;
ccc_status cccrt_scan_fail(const cccrt_scan *s, ccc_err *err, const char *what);
cccrt_json_kind cccrt_scan_peek(cccrt_scan *s);              /* kind of the value that comes next */
ccc_status cccrt_scan_open(cccrt_scan *s, char bracket, ccc_err *err);                  /* '{' or '[' */
/* Next member or element; `first` starts true. *more is false when the bracket has been closed. */
ccc_status cccrt_scan_member(cccrt_scan *s, bool *first, char *key, size_t key_cap, bool *more, ccc_err *err);
ccc_status cccrt_scan_element(cccrt_scan *s, bool *first, bool *more, ccc_err *err);
ccc_status cccrt_scan_string(cccrt_scan *s, char *out, size_t cap, ccc_err *err);       /* decoded, ends in 0 */
ccc_status cccrt_scan_u64(cccrt_scan *s, uint64_t *out, ccc_err *err);
ccc_status cccrt_scan_f64(cccrt_scan *s, double *out, ccc_err *err);
ccc_status cccrt_scan_bool(cccrt_scan *s, bool *out, ccc_err *err);
ccc_status cccrt_scan_skip(cccrt_scan *s, ccc_err *err);                                /* any value */
ccc_status cccrt_scan_end(cccrt_scan *s, ccc_err *err);                                 /* white space alone is left */
#endif
