/* Memory and bytes: an arena, a growing byte buffer with a sticky failure flag, whole-file reading and atomic writing. */
#ifndef CCC_BASE_H
#define CCC_BASE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "../runtime/ccc_err.h"

/* An arena gives memory that is freed all at once. Zeroed. Returns NULL when memory is out. Not thread-safe. */
typedef struct ccc_arena ccc_arena;
ccc_arena *ccc_arena_new(void);
void ccc_arena_free(ccc_arena *a);                       /* accepts NULL */
void *ccc_arena_alloc(ccc_arena *a, size_t size_B);      /* 16-byte aligned */
char *ccc_arena_strdup(ccc_arena *a, const char *s);
char *ccc_arena_strndup(ccc_arena *a, const char *s, size_t n);
char *ccc_arena_printf(ccc_arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A growing buffer from malloc. `data` is never NULL after the first append and is always followed by a 0 byte.
 * After a failed allocation `failed` stays set and appends do nothing: check once, at the end. */
typedef struct { char *data; size_t size_B, cap_B; bool failed; } ccc_buf;
void ccc_buf_put(ccc_buf *b, const void *bytes, size_t n);
void ccc_buf_printf(ccc_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void ccc_buf_u8(ccc_buf *b, uint8_t v);                  /* little endian, whatever the host */
void ccc_buf_u16(ccc_buf *b, uint16_t v);
void ccc_buf_u32(ccc_buf *b, uint32_t v);
void ccc_buf_u64(ccc_buf *b, uint64_t v);
void ccc_buf_str(ccc_buf *b, const char *s);             /* u32 length, bytes */
void ccc_buf_free(ccc_buf *b);                           /* leaves it empty and usable */

/* `path` "-" is standard input or output. A file is written to a temporary name beside it, synced and renamed: whole or not at all. */
ccc_status ccc_read_file(ccc_buf *out, const char *path, ccc_err *err);
ccc_status ccc_write_file(const char *path, const void *data, size_t size_B, ccc_err *err);

/* arrays in an arena that grow by doubling: GROW(arena, ptr, n, cap) makes room for one more, false when memory is out */
#define CCC_GROW(mem, ptr, n, cap) ((n) < (cap) || ccc_grow_((mem), (void **)&(ptr), (n), &(cap), sizeof *(ptr)))
bool ccc_grow_(ccc_arena *mem, void **ptr, uint32_t n, uint32_t *cap, size_t elem_B);
#endif
