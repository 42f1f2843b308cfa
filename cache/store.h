/* The files of a store: DIR/v1/{kernel,artifact}/ab/cdef..., one object each, named by its key. Shared by
 * store.c and walk.c. An object: magic (8 bytes), u32 size of the factors, u32 zero, u64 size of the payload,
 * XXH3-128 of the payload, factors, payload. Whether a file is whole can be told from the file alone: sizes
 * must add up, the payload must have its hash, and the factors must hash to the file's name. */
#ifndef CCC_CACHE_STORE_H
#define CCC_CACHE_STORE_H
#include <pthread.h>
#include "cache.h"

enum { CCC_OBJ_HEADER_B = 40, CCC_N_KINDS = 2 };
#define CCC_OBJ_MAGIC "CCCOBJ1\n"
#define CCC_OBJ_MAX_B (UINT64_C(1) << 30)
#define CCC_TMP_PREFIX "tmp."
enum {
    CCC_STAMP_S =
        3600, /* a hit renews an object's time of change when it is older than this: gc goes by it */
    CCC_TMP_OLD_S = 3600 /* a temporary file that nobody changed for so long has lost its writer */
};

struct ccc_cache {
    char *dir;            /* without "/v1" */
    pthread_mutex_t lock; /* of what follows */
    char pending[256], shown[256];
};
const char *ccc_cache_kind_name(ccc_cache_kind kind);
void ccc_cache_warn(ccc_cache *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
typedef struct {
    char *dir, *file;
} ccc_obj_path; /* from malloc, one block: free dir */
bool ccc_obj_path_make(ccc_obj_path *p, const ccc_cache *c, ccc_cache_kind kind, ccc_key k);

typedef struct {
    uint32_t factors_B;
    uint64_t payload_B;
    uint8_t hash[16];
} ccc_obj_header;
/* Reads a whole object. *wrong is NULL, or says what is the matter with it; `missing` when there is no file.
 */
ccc_status ccc_obj_read(ccc_buf *out, ccc_obj_header *h, const char *path, bool *missing, const char **wrong,
                        ccc_err *err);

/* Calls `file` with every object of a kind, in order of names; with temporaries, for them too. `prune`
 * removes folders that are empty then. */
typedef ccc_status ccc_obj_visit(ccc_cache *c, ccc_cache_kind kind, const char *path, const char *hex2,
                                 const char *name, void *payload, ccc_err *err);
ccc_status ccc_obj_walk(ccc_cache *c, ccc_cache_kind kind, bool temporaries, bool prune, ccc_obj_visit *file,
                        void *payload, ccc_err *err);
bool ccc_obj_is_temporary(const char *name);
#endif
