/* Weight files as one list of named tensors, whatever holds them: a Hugging Face folder (model.safetensors, or its index and shards),
 * one .safetensors file, or a GGUF file. Opening reads and checks every header: names, dtypes, shapes, that each tensor's bytes have the
 * size of its shape, lie inside its file and overlap no other's. After that a tensor's numbers can be trusted; its values never matter here.
 * Also here: the few facts of the source's own configuration (config.json or GGUF metadata) that tensors of equal names and shapes do not
 * show, as text that compares equal when they are equal. The importer takes its facts from the same functions.
 * Files: tensors.c (open, lookup, reading), jsonscan.c (bounded JSON), safetensors.c, gguf.c, facts.c. Internal to libcccrt and libccc. */
#ifndef CCCRT_TENSORS_H
#define CCCRT_TENSORS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "ccc_err.h"

/* The numbers of ir/ir.h's CCC_DTYPES that files can hold; a test compares them. */
enum { CCCRT_F32 = 1, CCCRT_F16 = 2, CCCRT_BF16 = 3, CCCRT_E4M3 = 4, CCCRT_E5M2 = 5, CCCRT_E8M0 = 6, CCCRT_I8 = 7, CCCRT_U8 = 8,
       CCCRT_I32 = 9, CCCRT_I64 = 10, CCCRT_Q8_0 = 14, CCCRT_Q4_1 = 15, CCCRT_F64 = 16 };
const char *cccrt_dtype_text(uint32_t dtype);                    /* "bf16"; "?" when it is none of the above */
bool cccrt_dtype_size(uint32_t dtype, uint32_t *block_B, uint32_t *block_elems); /* false: none of the above */

enum { CCCRT_SOURCE_RANK = 4 };
typedef enum { CCCRT_SOURCE_SAFETENSORS = 1, CCCRT_SOURCE_GGUF = 2 } cccrt_source_kind;
typedef struct {
    const char *name;
    uint32_t dtype, rank;
    int64_t dim[CCCRT_SOURCE_RANK];  /* elements, outermost first (GGUF's order reversed); rank 0: a scalar */
    uint32_t file;                   /* which file of the source */
    uint64_t offset_B, size_B;       /* in that file */
} cccrt_source_tensor;

typedef struct cccrt_source cccrt_source; /* immutable once open: any thread */
/* Told apart by content. On success *out is owned by the caller: release with cccrt_source_close. CCC_E_IO, CCC_E_CORRUPT (the message
 * names the file and the tensor), CCC_E_UNSUPPORTED (a dtype, a rank over 4, a GGUF version). Maps the files, reads headers alone. */
ccc_status cccrt_source_open(cccrt_source **out, const char *path, ccc_err *err);
void cccrt_source_close(cccrt_source *s);                        /* accepts NULL */
bool cccrt_source_present(const char *folder);                   /* does it hold model.safetensors or its index? */
cccrt_source_kind cccrt_source_get_kind(const cccrt_source *s);
uint32_t cccrt_source_count(const cccrt_source *s);
const cccrt_source_tensor *cccrt_source_get(const cccrt_source *s, uint32_t i);           /* file by file, by offset; NULL past the end */
const cccrt_source_tensor *cccrt_source_find(const cccrt_source *s, const char *name);    /* NULL: none */
/* Tensors that checkpoints carry and no model reads (buffers such as rotary_emb.inv_freq): neither missing nor too many. */
bool cccrt_source_ignorable(const char *name);
/* Behind "model.layers.N": names under which checkpoints carry the scale of K and of V of a layer, in order of preference. It is a constant
 * of the graph that an importer makes, and ignorable. */
enum { CCCRT_N_KV_SCALE_NAMES = 3 };
extern const char *const cccrt_k_scale_names[CCCRT_N_KV_SCALE_NAMES], *const cccrt_v_scale_names[CCCRT_N_KV_SCALE_NAMES];
bool cccrt_source_is_kv_scale(const char *name);
uint32_t cccrt_source_files(const cccrt_source *s);
const char *cccrt_source_path(const cccrt_source *s, uint32_t file);
int cccrt_source_fd(const cccrt_source *s, uint32_t file);       /* borrowed: for pread and posix_fadvise alone */
/* Bytes [offset_B, offset_B + size_B) of the tensor, by pread. CCC_E_ARG out of range, CCC_E_IO. */
ccc_status cccrt_source_read(const cccrt_source *s, const cccrt_source_tensor *t, uint64_t offset_B, uint64_t size_B, void *dst, ccc_err *err);
/* The tensor's bytes in the mapped file, valid until close. Aligned as the file has them, perhaps not at all. */
const void *cccrt_source_data(const cccrt_source *s, const cccrt_source_tensor *t);

/* ---- GGUF metadata, by key; false: no such key, another type, or the source is not a GGUF */
bool cccrt_gguf_str(const cccrt_source *s, const char *key, const char **value);
bool cccrt_gguf_u64(const cccrt_source *s, const char *key, uint64_t *value);             /* any integer type, not negative */
bool cccrt_gguf_f64(const cccrt_source *s, const char *key, double *value);               /* f32 or f64 */
bool cccrt_gguf_bool(const cccrt_source *s, const char *key, bool *value);
bool cccrt_gguf_array(const cccrt_source *s, const char *key, uint64_t *n);               /* its length */
uint32_t cccrt_gguf_keys(const cccrt_source *s);
const char *cccrt_gguf_key(const cccrt_source *s, uint32_t i);                            /* NULL past the end */

/* ---- facts */
enum { CCCRT_MAX_FACTS = 16 };
typedef struct { const char *key; char value[48]; } cccrt_fact; /* key: a literal */
/* "source" ("huggingface" or "gguf") and, where the source has a configuration (config.json in the folder or beside the file; GGUF
 * metadata): rope_theta, rope_scaling ("none", "linear", "llama3", ...), rope_factor, rope_low_freq_factor, rope_high_freq_factor,
 * rope_original_max_position, rms_norm_eps, heads, kv_heads, head_size, hidden_act, tie_word_embeddings; what does not apply is left out.
 * Numbers are rounded to f32 (GGUF keeps no more) and printed as the shortest text that reads back as the same f32.
 * An artifact's facts and these must agree in every key that both have. CCC_E_PARSE: a config.json that cannot be read. */
ccc_status cccrt_source_facts(const cccrt_source *s, cccrt_fact facts[CCCRT_MAX_FACTS], uint32_t *n, ccc_err *err);
/* The same from the text of a config.json; `file` for messages. */
ccc_status cccrt_config_facts(const char *text, size_t size_B, const char *file, cccrt_fact facts[CCCRT_MAX_FACTS], uint32_t *n, ccc_err *err);
/* One fact more, "kv_cache_scales": "default" where the source has none, else a hash of their names and values. */
ccc_status cccrt_source_kv_scales(const cccrt_source *s, cccrt_fact *out, ccc_err *err);
void cccrt_fact_number(char out[48], double v);                  /* the canonical text of a number, whatever the locale */
double cccrt_fact_value(double v);                               /* what that text says: 1e-05 for the f32 nearest to it */
#endif
