/* Small weight files for tests, built in memory and written to a scratch folder. */
#ifndef READERS_MAKE_H
#define READERS_MAKE_H
#include "../../ir/base.h"
#include "../../runtime/tensors.h"

/* A folder of this test process; removed with everything in it by make_clean. */
const char *make_folder(void);
const char *make_path(const char *name);                         /* "FOLDER/name", valid until the next-but-three call */
void make_write(const char *name, const void *data, size_t size_B);
void make_clean(void);

/* safetensors: header text, padded as given, and data_B bytes 0, 1, 2, ... */
void make_safetensors(ccc_buf *out, const char *header, size_t data_B);

/* GGUF: header, then keys and tensors in order, then data */
typedef struct { ccc_buf keys, tensors; uint64_t n_keys, n_tensors, data_B, align; } make_gguf;
void gguf_str(make_gguf *g, const char *key, const char *value);
void gguf_u32(make_gguf *g, const char *key, uint32_t value);
void gguf_f32(make_gguf *g, const char *key, float value);
void gguf_bool(make_gguf *g, const char *key, bool value);
void gguf_strings(make_gguf *g, const char *key, unsigned n);     /* an array of n strings */
void gguf_tensor(make_gguf *g, const char *name, uint32_t type, uint64_t inner, uint64_t outer); /* outer 0: rank 1. Placed after the one before */
void gguf_finish(make_gguf *g, ccc_buf *out);
void gguf_llama(make_gguf *g, bool tied);                         /* keys and tensors of a whole one-layer model: hidden 64, 4 heads of 16, 2 kv heads, ffn 96, vocab 32 */

/* Calls `open` on every truncation of the bytes and on every byte changed in several ways; returns how many were accepted. */
unsigned make_mutations(const ccc_buf *bytes, const char *name, unsigned *n_tried);
#endif
