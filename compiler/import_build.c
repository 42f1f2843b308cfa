/* Building a graph while importing: nodes with a failure that sticks, weights that pass through the casts
 * they need, and the account of the weight files' tensors: one that the model needs and the files lack, one
 * of another shape, one that is left over, each is an error by name. All weights become bf16, norms' too: one
 * kind of weight for every kernel, and the values that bf16 checkpoints hold anyway. */
#include "import.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static void fail_nomem(importer *im)
{
    im->st = ccc_fail(im->err, CCC_E_NOMEM, "out of memory");
}

ccc_val import_leaf(importer *im, ccc_op op, const char *name, const ccc_attr_arg *attrs, unsigned n_attrs,
                    const ccc_type *type)
{
    ccc_val v = 0;
    if (im->st == CCC_OK) im->st = ccc_graph_add(im->g, &v, op, NULL, 0, attrs, n_attrs, type, name, im->err);
    return v;
}

ccc_val import_node(importer *im, ccc_op op, const char *name, const ccc_attr_arg *attrs, unsigned n_attrs,
                    unsigned n_in, ...)
{
    ccc_val in[CCC_MAX_IN], v = 0;
    va_list ap;
    va_start(ap, n_in);
    for (unsigned i = 0; i < n_in; i++) in[i] = va_arg(ap, ccc_val);
    va_end(ap);
    if (im->st == CCC_OK)
        im->st = ccc_graph_add(im->g, &v, op, in, n_in, attrs, n_attrs, NULL, name, im->err);
    return v;
}

ccc_val import_cast(importer *im, ccc_val x, const char *name)
{
    return import_node(im, CCC_OP_cast, name, (ccc_attr_arg[]){{"to", {.i = CCC_BF16}}}, 1, 1, x);
}

ccc_val import_input(importer *im, const char *name, ccc_dtype dtype, unsigned rank, ccc_dim d0, ccc_dim d1)
{
    ccc_type t = {.dtype = (uint8_t)dtype, .rank = (uint8_t)rank, .dim = {d0, d1}};
    return import_leaf(im, CCC_OP_input, name, (ccc_attr_arg[]){{"name", {.s = name}}}, 1, &t);
}

void import_output(importer *im, const char *name, ccc_val v)
{
    if (im->st == CCC_OK) im->st = ccc_graph_add_output(im->g, name, v, im->err);
}

const char *import_name(importer *im, int64_t layer, const char *name)
{
    const char *s = layer < 0 ? name : ccc_arena_printf(im->g->mem, "l%" PRId64 ".%s", layer, name);
    if (!s && im->st == CCC_OK) fail_nomem(im);
    return s ? s : name;
}

/* ---- weights */
static const char *tensor_name(importer *im, const import_tensor *t, int64_t layer)
{
    const char *pattern = im->gguf ? t->gguf : t->hf, *mark = strchr(pattern, '#');
    if (!mark) return pattern;
    const char *s =
        ccc_arena_printf(im->g->mem, "%.*s%" PRId64 "%s", (int)(mark - pattern), pattern, layer, mark + 1);
    if (!s && im->st == CCC_OK) fail_nomem(im);
    return s ? s : "";
}

/* The dtype that the tensor has in the files, after checking that it is there with the wanted shape. */
static ccc_dtype source_dtype(importer *im, const char *name, unsigned rank, const int64_t *dim)
{
    if (!im->source) return im->m.dtype;
    char have[96] = "", want[96] = "";
    const cccrt_source_tensor *t = cccrt_source_find(im->source, name);
    if (!t) {
        im->st = ccc_fail(im->err, CCC_E_TYPE, "%.200s: tensor '%.150s' is missing", im->file, name);
        return CCC_NONE;
    }
    im->used[t - cccrt_source_get(im->source, 0)] = true;
    bool same = t->rank == rank;
    for (unsigned i = 0; i < t->rank; i++)
        snprintf(have + strlen(have), sizeof have - strlen(have), "%s%" PRId64, i ? ", " : "", t->dim[i]);
    for (unsigned i = 0; i < rank; i++)
        snprintf(want + strlen(want), sizeof want - strlen(want), "%s%" PRId64, i ? ", " : "", dim[i]);
    for (unsigned i = 0; same && i < rank; i++) same = t->dim[i] == dim[i];
    if (!same)
        im->st = ccc_fail(im->err, CCC_E_TYPE,
                          "%.200s: tensor '%.120s' is [%s], the model's configuration needs [%s]", im->file,
                          name, have, want);
    else if (t->dtype != CCC_BF16 && t->dtype != CCC_F16 && t->dtype != CCC_F32 && t->dtype != CCC_Q8_0 &&
             t->dtype != CCC_Q4_1)
        im->st = ccc_fail(im->err, CCC_E_UNSUPPORTED,
                          "%.200s: tensor '%.150s' has dtype %s; f32, f16, bf16, q8_0 and q4_1 are supported",
                          im->file, name, cccrt_dtype_text(t->dtype));
    return (ccc_dtype)t->dtype;
}

/* the tensor as the files hold it */
static ccc_val stored_weight(importer *im, const import_tensor *t, int64_t layer, int64_t rows, int64_t cols,
                             ccc_dtype *dtype)
{
    if (im->st != CCC_OK) return 0;
    int64_t dim[2] = {rows, cols};
    unsigned rank = cols ? 2 : 1;
    const char *name = tensor_name(im, t, layer);
    ccc_type type = {.rank = (uint8_t)rank, .dim = {ccc_dim_const(rows), ccc_dim_const(cols)}};
    if (!cols) type.dim[1] = (ccc_dim){0};
    type.dtype = (uint8_t)source_dtype(im, name, rank, dim);
    ccc_attr_arg attrs[] = {{"name", {.s = name}},
                            {"init_mean", {.f = t->norm ? 1 : 0}},
                            {"init_std", {.f = t->norm ? 0.1 : 0.02}}};
    *dtype = (ccc_dtype)type.dtype;
    return import_leaf(im, CCC_OP_weight, NULL, attrs, 3, &type);
}

static ccc_val in_order(importer *im, const import_tensor *t, ccc_val v)
{
    if (!im->gguf || !t->permuted) return v;
    return import_node(im, CCC_OP_unpermute, NULL, (ccc_attr_arg[]){{"head_size", {.i = im->m.head_size}}}, 1,
                       1, v);
}

ccc_val import_weight(importer *im, const import_tensor *t, int64_t layer, int64_t rows, int64_t cols)
{
    ccc_dtype dtype = CCC_BF16;
    ccc_val v = stored_weight(im, t, layer, rows, cols, &dtype);
    return in_order(im, t, dtype == CCC_BF16 ? v : import_cast(im, v, NULL));
}

/* ---- quantisation: e4m3(v * (1/scale)) on both sides, and the product of the scales on the sum */
ccc_val import_cast_to(importer *im, ccc_val x, ccc_dtype to, const char *name)
{
    return import_node(im, CCC_OP_cast, name, (ccc_attr_arg[]){{"to", {.i = to}}}, 1, 1, x);
}

ccc_val import_times(importer *im, ccc_val x, float c)
{
    ccc_type scalar = {.dtype = CCC_F32};
    ccc_attr_arg value = {"value", {.f = (double)c}};
    ccc_val k = import_leaf(im, CCC_OP_constant, NULL, &value, 1, &scalar);
    return import_node(im, CCC_OP_mul, NULL, NULL, 0, 2, x, k);
}

import_scale import_scales(importer *im, const import_tensor *const *t, unsigned n, int64_t layer)
{
    import_scale s = {0, 0};
    for (unsigned i = 0; i < n && im->quant && im->st == CCC_OK; i++) {
        const char *name = tensor_name(im, t[i], layer);
        if (im->st == CCC_OK) im->st = import_quantize_scale(im->quant, name, &s, im->err);
    }
    return s;
}

ccc_val import_operand(importer *im, ccc_val x, import_scale s, const char *name)
{
    if (!im->quant || im->st != CCC_OK) return x;
    return import_cast_to(im, import_times(im, x, 1.0f / s.input), CCC_E4M3, name);
}

ccc_val import_product(importer *im, const import_tensor *t, int64_t layer, ccc_val operand, int64_t rows,
                       int64_t cols, import_scale s)
{
    if (!im->quant)
        return import_node(im, CCC_OP_matmul, NULL, NULL, 0, 2, operand,
                           import_weight(im, t, layer, rows, cols));
    ccc_dtype dtype = CCC_BF16;
    ccc_val w = stored_weight(im, t, layer, rows, cols, &dtype);
    if (im->st != CCC_OK) return 0;
    if (!ccc_dtype_is_float(dtype)) w = import_cast_to(im, w, CCC_F32, NULL);
    w = in_order(im, t, import_cast_to(im, import_times(im, w, 1.0f / s.weight), CCC_E4M3, NULL));
    return import_times(im, import_node(im, CCC_OP_matmul, NULL, NULL, 0, 2, operand, w), s.input * s.weight);
}

void import_unread(importer *im, const import_tensor *t, int64_t layer, int64_t rows, int64_t cols)
{
    const char *name = tensor_name(im, t, layer);
    if (im->st != CCC_OK || !im->source || !cccrt_source_find(im->source, name)) return;
    source_dtype(im, name, cols ? 2 : 1, (int64_t[]){rows, cols});
}

static ccc_status check_left_over(const importer *im)
{
    const cccrt_source_tensor *t;
    for (uint32_t i = 0; im->source && (t = cccrt_source_get(im->source, i)); i++)
        if (!im->used[i] && !cccrt_source_ignorable(t->name))
            return ccc_fail(im->err, CCC_E_TYPE, "%.200s: tensor '%.150s' is not one that %s reads%s",
                            im->file, t->name, im->arch->name,
                            im->m.tied ? " (the head is tied to the embedding)" : "");
    return CCC_OK;
}

/* ---- the whole */
static ccc_status wanted_outputs(importer *im)
{
    for (const char *p = im->config->outputs;;) {
        size_t n = strcspn(p, ",");
        bool *want = n == 6 && !memcmp(p, "hidden", n)   ? &im->want_hidden
                     : n == 6 && !memcmp(p, "logits", n) ? &im->want_logits
                     : n == 6 && !memcmp(p, "tokens", n) ? &im->want_tokens
                                                         : NULL;
        if (!want || *want)
            return ccc_fail(
                im->err, CCC_E_ARG,
                "option 'outputs': '%.60s' is not a list of hidden, logits and tokens, each at most once",
                im->config->outputs);
        *want = true;
        if (!p[n]) return CCC_OK;
        p += n + 1;
    }
}

static ccc_status symbols(importer *im)
{
    const ccc_config *c = im->config;
    int64_t limit = im->m.max_position;
    CCC_TRY(import_kv_options(im));
    im->max_model_len = c->max_model_len ? c->max_model_len : limit;
    if (im->max_model_len > limit)
        return ccc_fail(im->err, CCC_E_ARG,
                        "option 'max_model_len': %" PRId64 " is more than the model's %" PRId64,
                        im->max_model_len, limit);
    int64_t blocks = (im->max_model_len + c->kv_block_size - 1) / c->kv_block_size;
    int t = ccc_graph_add_sym(im->g, "T", 1, c->max_num_batched_tokens),
        s = ccc_graph_add_sym(im->g, "S", 1, c->max_num_seqs);
    int r = ccc_graph_add_sym(im->g, "R", 1, c->max_num_seqs), b = ccc_graph_add_sym(im->g, "B", 1, blocks);
    if (t < 0 || s < 0 || r < 0 || b < 0) return ccc_fail(im->err, CCC_E_NOMEM, "out of memory");
    im->T = ccc_dim_sym(t);
    im->S = ccc_dim_sym(s);
    im->R = ccc_dim_sym(r);
    im->B = ccc_dim_sym(b);
    return CCC_OK;
}

static ccc_status set_count(importer *im, const char *key, int64_t v)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, v);
    return ccc_graph_set_fact(im->g, key, text, im->err);
}

static ccc_status set_facts(importer *im, const cccrt_fact *facts, uint32_t n)
{
    CCC_TRY(ccc_graph_set_fact(im->g, "architecture", im->arch->name, im->err));
    for (uint32_t i = 0; i < n; i++)
        CCC_TRY(ccc_graph_set_fact(im->g, facts[i].key, facts[i].value, im->err));
    if (im->quant) {
        CCC_TRY(ccc_graph_set_fact(im->g, "quantize", im->config->quantize, im->err));
        const char *from = *im->config->quantize_scales ? "file" : "default";
        CCC_TRY(ccc_graph_set_fact(im->g, "quantize_scales", from, im->err));
    }
    CCC_TRY(set_count(im, "hidden_size", im->m.hidden));
    CCC_TRY(set_count(im, "intermediate_size", im->m.intermediate));
    CCC_TRY(set_count(im, "vocab_size", im->m.vocab));
    return set_count(im, "layers", im->m.layers);
}

ccc_status import_graph(ccc_graph **out, importer *im, const cccrt_fact *facts, uint32_t n_facts)
{
    uint32_t n = im->source ? cccrt_source_count(im->source) : 0;
    CCC_TRY(import_check_model(&im->m, im->file, im->err));
    CCC_TRY(ccc_graph_new(&im->g, im->arch->model_type, im->err));
    im->used = calloc((size_t)n + 1, sizeof *im->used);
    im->st = im->used ? wanted_outputs(im) : ccc_fail(im->err, CCC_E_NOMEM, "out of memory");
    if (im->st == CCC_OK) im->st = import_quantize_open(&im->quant, im->config, im->err);
    if (im->st == CCC_OK) im->st = symbols(im);
    if (im->st == CCC_OK) im->st = set_facts(im, facts, n_facts);
    if (im->st == CCC_OK) im->arch->build(im);
    if (im->st == CCC_OK) im->st = import_kv_facts(im);
    if (im->st == CCC_OK) im->st = check_left_over(im);
    if (im->st == CCC_OK) im->st = import_quantize_finish(im->quant, im->err);
    if (im->st == CCC_OK) im->st = ccc_ir_verify(im->g, im->err);
    free(im->used);
    import_quantize_close(im->quant);
    if (im->st == CCC_OK) *out = im->g;
    else ccc_graph_free(im->g);
    return im->st;
}

ccc_status import_check_model(const import_model *m, const char *file, ccc_err *err)
{
    if (m->head_size < 8 || m->head_size > 256 || m->head_size % 8)
        return ccc_fail(err, CCC_E_UNSUPPORTED,
                        "%.200s: a head size of %" PRId64 " is not supported; multiples of 8 up to 256 are",
                        file, m->head_size);
    if (m->heads % m->kv_heads)
        return ccc_fail(err, CCC_E_TYPE,
                        "%.200s: %" PRId64 " heads are not a multiple of %" PRId64 " key-value heads", file,
                        m->heads, m->kv_heads);
    if (m->hidden % 8 || m->intermediate % 8)
        return ccc_fail(err, CCC_E_UNSUPPORTED,
                        "%.200s: hidden size %" PRId64 " and intermediate size %" PRId64
                        " must be multiples of 8",
                        file, m->hidden, m->intermediate);
    return CCC_OK;
}
