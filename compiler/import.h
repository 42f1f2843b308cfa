/* Import: from a model's files to the graph. Three parts meet in import_model: a reader fills it (config.json or GGUF metadata), an
 * architecture builds the graph from it, and the tensor table of the weight files, if there is one, says each tensor's dtype and confirms
 * its shape. An architecture is one file (arch_*.c) and one row of import_archs; adding one touches nothing else. */
#ifndef CCC_IMPORT_H
#define CCC_IMPORT_H
#include "ccc.h"
#include "../runtime/tensors.h"

typedef struct { double theta, factor, low_freq_factor, high_freq_factor; int64_t original_max_position; const char *scaling; /* "", "linear", "llama3" */ } import_rope;
typedef struct {
    int64_t hidden, intermediate, layers, heads, kv_heads, head_size, vocab, max_position;
    double eps;
    import_rope rope;
    ccc_op act;                     /* between gate and up */
    bool tied, attention_bias, mlp_bias;
    ccc_dtype dtype;                /* of weights when there is no tensor table */
} import_model;

/* ---- config.json, with an account of the keys: what is not asked for by name, nor on the list of keys that do not matter, is an error */
typedef struct import_config import_config;
ccc_status import_config_open(import_config **out, const char *path, const ccc_import_args *args, ccc_err *err);
void import_config_close(import_config *c);        /* accepts NULL */
const char *import_config_text(const import_config *c, size_t *size_B);
/* `key` may be "outer.inner". An absent or null key leaves *v as it is and is not an error; *found (may be NULL) says which it was. */
bool import_config_has(import_config *c, const char *key);
ccc_status import_config_int(import_config *c, const char *key, int64_t least, int64_t most, int64_t *v, bool *found, ccc_err *err);
ccc_status import_config_number(import_config *c, const char *key, double *v, bool *found, ccc_err *err); /* > 0 */
ccc_status import_config_bool(import_config *c, const char *key, bool *v, ccc_err *err);
ccc_status import_config_str(import_config *c, const char *key, const char **v, ccc_err *err); /* borrowed */
ccc_status import_config_missing(const import_config *c, const char *key, ccc_err *err);
ccc_status import_config_finish(import_config *c, const char *arch, ccc_err *err); /* names the first key left over */
ccc_status import_config_refuse(import_config *c, ccc_err *err);                   /* keys that stand for features this version lacks */
ccc_status import_config_rope(import_config *c, import_rope *rope, ccc_err *err);  /* rope_theta + rope_scaling, or rope_parameters */
ccc_status import_config_dtype(import_config *c, ccc_dtype *dtype, ccc_err *err);  /* torch_dtype or dtype */
ccc_status import_config_act(import_config *c, ccc_op *act, ccc_err *err);         /* hidden_act */

/* ---- quantisation */
typedef struct import_quantizer import_quantizer;
typedef struct { float input, weight; } import_scale;
ccc_status import_quantize_open(import_quantizer **out, const ccc_config *c, ccc_err *err); /* *out stays NULL: not asked for */
void import_quantize_close(import_quantizer *q);   /* accepts NULL */
/* Makes *largest, zeros at first, at least the scales of the projection whose weight is called `tensor`. Once a tensor. */
ccc_status import_quantize_scale(import_quantizer *q, const char *tensor, import_scale *largest, ccc_err *err);
ccc_status import_quantize_finish(const import_quantizer *q, ccc_err *err); /* names a row that no projection asked for */

/* ---- architectures */
typedef struct importer importer;
typedef struct {
    const char *name;       /* config.json "architectures" */
    const char *model_type; /* config.json "model_type" */
    const char *gguf;       /* GGUF general.architecture, NULL: none */
    ccc_status (*config)(import_model *m, import_config *c, ccc_err *err);
    void (*build)(importer *im);
} import_arch;
extern const import_arch *const import_archs[]; /* ends with NULL */
extern const import_arch import_llama;

/* ---- building. The first failure stays in `st`; every call after it does nothing and gives value 0: check once, at the end. */
struct importer {
    ccc_graph *g;
    import_model m;
    const import_arch *arch;
    const ccc_config *config;
    const cccrt_source *source;     /* NULL: no tensor table */
    bool *used;                     /* [tensors of source] */
    const char *file;               /* for messages */
    import_quantizer *quant;        /* NULL: none */
    bool gguf, want_hidden, want_logits, want_tokens;
    ccc_dim T, S, R, B;
    int64_t max_model_len;
    ccc_layout layout;              /* of the KV cache */
    ccc_dtype kv_dtype;             /* bf16 or e4m3 */
    ccc_status st; ccc_err *err;
};
typedef struct { /* a tensor of an architecture: '#' in a name is the layer's number */
    const char *hf, *gguf;
    bool norm;                      /* drawn around 1 by random:SEED */
    bool permuted;                  /* GGUF holds the rows in llama.cpp's order */
} import_tensor;
/* Builds and verifies the whole graph and checks that no tensor is left over. The caller has filled m, arch, config, source, file, gguf, err. */
ccc_status import_graph(ccc_graph **out, importer *im, const cccrt_fact *facts, uint32_t n_facts);
ccc_val import_node(importer *im, ccc_op op, const char *name, const ccc_attr_arg *attrs, unsigned n_attrs, unsigned n_in, ...);
ccc_val import_leaf(importer *im, ccc_op op, const char *name, const ccc_attr_arg *attrs, unsigned n_attrs, const ccc_type *type);
ccc_val import_input(importer *im, const char *name, ccc_dtype dtype, unsigned rank, ccc_dim d0, ccc_dim d1);
/* bf16[rows, cols], or bf16[rows] when cols is 0: weight, then cast, then unpermute, as far as they are needed. layer < 0: none */
ccc_val import_weight(importer *im, const import_tensor *t, int64_t layer, int64_t rows, int64_t cols);
/* The scales that n projections of one input share; zeros without quantisation. */
import_scale import_scales(importer *im, const import_tensor *const *t, unsigned n, int64_t layer);
/* x as the operand of projections: e4m3 of x / s.input, or x itself without quantisation. */
ccc_val import_operand(importer *im, ccc_val x, import_scale s, const char *name);
/* f32[T, rows]: the product of such an operand and the weight, scaled back */
ccc_val import_product(importer *im, const import_tensor *t, int64_t layer, ccc_val operand, int64_t rows, int64_t cols, import_scale s);
/* ---- the KV cache. options fills layout and kv_dtype */
typedef struct { float k, v; } import_kv_scale;
ccc_status import_kv_options(importer *im);
ccc_status import_kv_facts(importer *im);                                  /* after building */
ccc_val import_kv_cache(importer *im, int64_t layer);
import_kv_scale import_kv_scales(importer *im, int64_t layer);             /* 1 and 1 with a cache of bf16 */
ccc_val import_kv_rows(importer *im, ccc_val x, float scale, const char *name); /* k or v as the cache holds it: e4m3 of x / scale, or x itself */
/* The files may hold it, the graph does not need it: checked if it is there, and not left over. */
void import_unread(importer *im, const import_tensor *t, int64_t layer, int64_t rows, int64_t cols);
ccc_val import_cast(importer *im, ccc_val x, const char *name);            /* to bf16 */
ccc_val import_cast_to(importer *im, ccc_val x, ccc_dtype to, const char *name);
ccc_val import_times(importer *im, ccc_val x, float c);
void import_output(importer *im, const char *name, ccc_val v);
const char *import_name(importer *im, int64_t layer, const char *name);    /* "l3.q" */
ccc_status import_check_model(const import_model *m, const char *file, ccc_err *err); /* what any decoder needs to hold */

ccc_status import_hf(ccc_graph **out, const char *folder, const ccc_import_args *args, ccc_err *err);
ccc_status import_gguf(ccc_graph **out, const char *path, const ccc_import_args *args, ccc_err *err);
#endif
