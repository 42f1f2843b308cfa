/* A content-addressed store. Key = XXH3-128 of a canonical serialisation of all factors. The factors lie
 * beside the object and are compared byte for byte on a hit: a collision or a missing factor is a miss.
 * Objects are immutable: temporary file, fsync, rename; readers lock nothing; a damaged object is a miss and
 * is reported. Thread- and process-safe. */
#ifndef CCC_CACHE_H
#define CCC_CACHE_H
#include "../ir/base.h"

/* Factors: an ordered list of name/value pairs, serialised as u32 name size, name, u32 value size, value.
 * Whoever computes a key adds each thing that the result depends on; no path, host name, user, time. */
typedef struct {
    ccc_buf bytes;
} ccc_factors;
void ccc_factor_add(ccc_factors *f, const char *name, const void *value, size_t size_B);
void ccc_factor_str(ccc_factors *f, const char *name, const char *value);
void ccc_factor_int(ccc_factors *f, const char *name, int64_t value);
void ccc_factors_free(ccc_factors *f);
typedef struct {
    uint8_t b[16];
} ccc_key;
ccc_key ccc_factors_key(const ccc_factors *f);
void ccc_key_hex(ccc_key k, char out[33]);

typedef enum { CCC_CACHE_KERNEL, CCC_CACHE_ARTIFACT } ccc_cache_kind;
typedef struct ccc_cache ccc_cache;
ccc_status ccc_cache_open(ccc_cache **out, const char *dir,
                          ccc_err *err); /* makes the folder; a read-only one still serves hits. CCC_OK with a
                                            warning kept when the folder is writable by others */
void ccc_cache_close(ccc_cache *c);
const char *ccc_cache_warning(
    ccc_cache *c); /* NULL or one line about the folder or a damaged object, valid until the next call */
/* *found tells hit or miss; on a hit *out holds the object (release with ccc_buf_free). Only trouble of the
 * machine is an error (out of memory). */
ccc_status ccc_cache_get(ccc_cache *c, ccc_cache_kind kind, const ccc_factors *f, ccc_buf *out, bool *found,
                         ccc_err *err);
ccc_status ccc_cache_put(ccc_cache *c, ccc_cache_kind kind, const ccc_factors *f, const void *data,
                         size_t size_B,
                         ccc_err *err); /* a full disk or read-only folder: a warning, CCC_OK */
/* Walks all objects in order of key. label: the value of the first factor. status: NULL if whole (or not
 * checked), else what is wrong with it. */
typedef void ccc_cache_visit(void *payload, ccc_cache_kind kind, ccc_key key, uint64_t size_B,
                             const char *label, const char *status);
ccc_status ccc_cache_list(ccc_cache *c, bool check, ccc_cache_visit *visit, void *payload, ccc_err *err);
/* Removes what was not used for longest until at most max_B bytes of objects are left, and temporary files of
 * writers that are gone. May run beside compiles and other gc: who misses an object makes it again. */
ccc_status ccc_cache_gc(ccc_cache *c, uint64_t max_B, uint64_t *freed_B, uint64_t *left_B, ccc_err *err);
ccc_status ccc_cache_clear(ccc_cache *c, uint64_t *freed_B,
                           ccc_err *err); /* removes this store's files alone */
#endif
