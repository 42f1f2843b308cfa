/* The op table: one row for each row of op.def, with the type rules that its rows name. A rule sees a node
 * whose operands exist and whose number of operands and kinds of attributes are right; it checks the types of
 * operands and the ranges of attributes and fills in the types of results. Building and verifying both go
 * through ccc_op_infer, so there is one set of rules. */
#include "internal.h"
#include "elt.h"
#include <assert.h>
#include <inttypes.h>
#include <string.h>

/* ---- messages: "OP: operand 2 (%w) is bf16[3,4]: it must be ..." */

static const ccc_type *in_type(const ccc_graph *g, const ccc_node *n, unsigned i)
{
    return &g->value[n->in[i]].type;
}

static ccc_status bad_operand(const ccc_graph *g, const ccc_node *n, unsigned i, const char *wanted,
                              ccc_err *err)
{
    char name[CCC_TYPE_TEXT], type[CCC_TYPE_TEXT];
    return ccc_fail(err, CCC_E_TYPE, "%s: operand %u (%s) is %s: it must be %s", ccc_ops[n->op].name, i + 1,
                    ccc_value_text(g, n->in[i], name), ccc_type_text(g, in_type(g, n, i), type), wanted);
}

static ccc_status bad_pair(const ccc_graph *g, const ccc_node *n, unsigned i, unsigned j, const char *what,
                           ccc_err *err)
{
    char name_i[CCC_TYPE_TEXT], type_i[CCC_TYPE_TEXT], name_j[CCC_TYPE_TEXT], type_j[CCC_TYPE_TEXT];
    return ccc_fail(err, CCC_E_TYPE, "%s: operands %u (%s is %s) and %u (%s is %s) do not fit: %s",
                    ccc_ops[n->op].name, i + 1, ccc_value_text(g, n->in[i], name_i),
                    ccc_type_text(g, in_type(g, n, i), type_i), j + 1, ccc_value_text(g, n->in[j], name_j),
                    ccc_type_text(g, in_type(g, n, j), type_j), what);
}

static ccc_status bad_attr(const ccc_node *n, const char *attr, const char *wanted, ccc_err *err)
{
    return ccc_fail(err, CCC_E_TYPE, "%s: attribute %s must be %s", ccc_ops[n->op].name, attr, wanted);
}

/* ---- questions that several rules ask */

static bool is_rows(const ccc_type *t)
{
    return t->layout == CCC_LAYOUT_ROW;
}

static bool is_float(const ccc_type *t)
{
    return is_rows(t) && ccc_dtype_is_float(t->dtype);
}

static bool is_quantised(const ccc_type *t)
{
    return is_rows(t) && (t->dtype == CCC_Q8_0 || t->dtype == CCC_Q4_1);
}

/* Rows can be moved: a row is a whole number of bytes. */
static bool has_rows(const ccc_type *t)
{
    return is_rows(t) && t->rank >= (ccc_dtype_block(t->dtype) > 1 ? 2 : 1);
}

static bool is_vector(const ccc_type *t, ccc_dtype d)
{
    return is_rows(t) && t->rank == 1 && t->dtype == d;
}

static bool is_static(const ccc_type *t)
{
    for (unsigned i = 0; i < t->rank; i++)
        if (!ccc_dim_is_const(t->dim[i], NULL)) return false;
    return true;
}

static ccc_type matrix(ccc_dtype d, ccc_dim rows, ccc_dim cols)
{
    return (ccc_type){.dtype = (uint8_t)d, .rank = 2, .dim = {rows, cols}};
}

static int64_t const_dim(const ccc_type *t, unsigned i)
{
    int64_t n;
    return i < t->rank && ccc_dim_is_const(t->dim[i], &n) ? n : -1;
}

/* ---- type rules of leaves: the type is given, the rule says which are allowed */

static ccc_status type_input(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err)
{
    (void)g;
    if (!*ccc_attr_str(n, "name")) return bad_attr(n, "name", "a name", err);
    return is_rows(out) ? CCC_OK
                        : ccc_fail(err, CCC_E_TYPE, "input: only a cache has the layout %s",
                                   ccc_layout_name(out->layout));
}

static ccc_status type_weight(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err)
{
    CCC_TRY(type_input(g, n, out, err));
    if (!is_static(out))
        return ccc_fail(err, CCC_E_TYPE, "weight '%s': all dims must be constant", ccc_attr_str(n, "name"));
    return ccc_attr_float(n, "init_std") >= 0 ? CCC_OK : bad_attr(n, "init_std", "0 or larger", err);
}

static ccc_status type_constant(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err)
{
    (void)g;
    if (!isfinite((float)ccc_attr_float(n, "value"))) return bad_attr(n, "value", "in the range of f32", err);
    *out = (ccc_type){.dtype = CCC_F32};
    return CCC_OK;
}

static ccc_status type_cache(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err)
{
    (void)g;
    if (ccc_attr_int(n, "layer") < 0 || ccc_attr_int(n, "layer") > 65535)
        return bad_attr(n, "layer", "0 to 65535", err);
    if (is_rows(out) || !ccc_dtype_is_float(out->dtype))
        return ccc_fail(err, CCC_E_TYPE,
                        "cache: the type must be a float one with the layout nhd, hnd or ccc");
    return CCC_OK;
}

static ccc_status type_rope_table(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err)
{
    (void)g;
    int64_t rotary = ccc_attr_int(n, "rotary"), rows = ccc_attr_int(n, "rows"),
            original = ccc_attr_int(n, "original_max_position");
    const char *scaling = ccc_attr_str(n, "scaling");
    double low = ccc_attr_float(n, "low_freq_factor"), high = ccc_attr_float(n, "high_freq_factor");
    if (rotary < 2 || rotary > 65536 || rotary % 2) return bad_attr(n, "rotary", "even, 2 to 65536", err);
    if (rows < 1 || rows > INT32_MAX) return bad_attr(n, "rows", "1 to 2147483647", err);
    if (!(ccc_attr_float(n, "theta") > 0)) return bad_attr(n, "theta", "larger than 0", err);
    if (*scaling && strcmp(scaling, "linear") != 0 && strcmp(scaling, "llama3") != 0)
        return bad_attr(n, "scaling", "empty, linear or llama3", err);
    if (!(ccc_attr_float(n, "factor") > 0)) return bad_attr(n, "factor", "larger than 0", err);
    if (!(low > 0) || !(high > low))
        return bad_attr(n, "high_freq_factor", "larger than low_freq_factor, which must be larger than 0",
                        err);
    if (original < 1 || original > INT32_MAX)
        return bad_attr(n, "original_max_position", "1 to 2147483647", err);
    *out = matrix(CCC_F32, ccc_dim_const(rows), ccc_dim_const(rotary));
    return CCC_OK;
}

/* ---- weight transforms and data movement */

static ccc_status type_concat(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err)
{
    int64_t rows = 0;
    if (ccc_attr_int(n, "axis") != 0) return bad_attr(n, "axis", "0", err);
    *out = *in_type(g, n, 0);
    if (!has_rows(out)) return bad_operand(g, n, 0, "a tensor with rows", err);
    for (unsigned i = 0; i < n->n_in; i++) {
        ccc_type t = *in_type(g, n, i);
        if (n->n_in > 1 && const_dim(&t, 0) < 0)
            return bad_operand(g, n, i, "one with a constant first dim", err);
        rows += const_dim(&t, 0);
        t.dim[0] = out->dim[0];
        if (!ccc_type_equal(&t, out))
            return bad_pair(g, n, 0, i, "they may differ in the first dim alone", err);
    }
    if (n->n_in > 1) out->dim[0] = ccc_dim_const(rows);
    return CCC_OK;
}

static ccc_status type_unpermute(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err)
{
    int64_t size = ccc_attr_int(n, "head_size");
    *out = *in_type(g, n, 0);
    if (size < 2 || size > 65536 || size % 2) return bad_attr(n, "head_size", "even, 2 to 65536", err);
    if (!has_rows(out)) return bad_operand(g, n, 0, "a tensor with rows", err);
    if (const_dim(out, 0) < 0 || const_dim(out, 0) % size)
        return bad_operand(g, n, 0, "of a constant number of rows, a multiple of head_size", err);
    return CCC_OK;
}

static ccc_status type_cast(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err)
{
    int64_t to = ccc_attr_int(n, "to");
    *out = *in_type(g, n, 0);
    if (!is_float(out) && !is_quantised(out))
        return bad_operand(g, n, 0, "a float tensor, q8_0 or q4_1", err);
    if (to <= CCC_NONE || to >= CCC_N_DTYPES || !ccc_dtype_is_float((ccc_dtype)to))
        return bad_attr(n, "to", "f64, f32, f16, bf16, e4m3 or e5m2", err);
    out->dtype = (uint8_t)to;
    return CCC_OK;
}

static ccc_status type_slice(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err)
{
    int64_t start = ccc_attr_int(n, "start"), size = ccc_attr_int(n, "size");
    *out = *in_type(g, n, 0);
    int64_t last = ccc_type_last(out);
    if (!is_rows(out) || last < 0) return bad_operand(g, n, 0, "a tensor whose last dim is constant", err);
    if (start < 0 || start >= last) return bad_attr(n, "start", "0 or larger and inside the last dim", err);
    if (size < 1 || size > last - start)
        return bad_attr(n, "size", "1 or larger, and start + size inside the last dim", err);
    if (start % ccc_dtype_block(out->dtype))
        return bad_attr(n, "start", "at the beginning of a block of the dtype", err);
    out->dim[out->rank - 1] = ccc_dim_const(size);
    return CCC_OK;
}

static ccc_status type_gather(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err)
{
    const ccc_type *table = in_type(g, n, 0), *ids = in_type(g, n, 1);
    if (!is_float(table) || table->rank != 2) return bad_operand(g, n, 0, "a float matrix", err);
    if (!is_vector(ids, CCC_I32)) return bad_operand(g, n, 1, "an i32 vector", err);
    *out = matrix(table->dtype, ids->dim[0], table->dim[1]);
    return CCC_OK;
}

static ccc_status type_embed(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err)
{
    CCC_TRY(type_gather(g, n, out, err));
    if (!ccc_type_equal(in_type(g, n, 2), out))
        return bad_pair(g, n, 0, 2,
                        "the rows given must have the table's dtype and width, one for each token", err);
    return CCC_OK;
}

/* ---- anchors */

static ccc_status type_matmul(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err)
{
    const ccc_type *x = in_type(g, n, 0), *w = in_type(g, n, 1);
    if (!is_float(x) || x->rank != 2) return bad_operand(g, n, 0, "a float matrix", err);
    if (!is_float(w) || w->rank != 2) return bad_operand(g, n, 1, "a float matrix", err);
    if (!ccc_dim_equal(x->dim[1], w->dim[1])) return bad_pair(g, n, 0, 1, "the last dims differ", err);
    *out = matrix(CCC_F32, x->dim[0], w->dim[0]);
    return CCC_OK;
}

static ccc_status type_rms_norm(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err)
{
    *out = *in_type(g, n, 0);
    if (!is_float(out) || ccc_type_last(out) < 0)
        return bad_operand(g, n, 0, "a float tensor whose last dim is constant", err);
    if (!(ccc_attr_float(n, "eps") >= 0)) return bad_attr(n, "eps", "0 or larger", err);
    out->dtype = CCC_F32;
    return CCC_OK;
}

static ccc_status type_rope(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err)
{
    const ccc_type *x = in_type(g, n, 0), *table = in_type(g, n, 1), *positions = in_type(g, n, 2);
    int64_t size = ccc_attr_int(n, "head_size"), last = ccc_type_last(x), rotary = ccc_type_last(table);
    if (size < 2 || size > 65536) return bad_attr(n, "head_size", "2 to 65536", err);
    if (!is_float(x) || x->rank != 2 || last < 0 || last % size)
        return bad_operand(g, n, 0, "a float matrix of heads times head_size columns", err);
    if (!is_rows(table) || table->dtype != CCC_F32 || table->rank != 2 || rotary < 2 || rotary % 2 ||
        rotary > size)
        return bad_operand(g, n, 1, "an f32 matrix of at most head_size, an even number, columns", err);
    if (!is_vector(positions, CCC_I64)) return bad_operand(g, n, 2, "an i64 vector", err);
    if (!ccc_dim_equal(x->dim[0], positions->dim[0]))
        return bad_pair(g, n, 0, 2, "one position for each row", err);
    *out = matrix(CCC_F32, x->dim[0], x->dim[1]);
    return CCC_OK;
}

static ccc_status type_kv_write(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err)
{
    const ccc_type *cache = in_type(g, n, 0), *slots = in_type(g, n, 3);
    if (is_rows(cache)) return bad_operand(g, n, 0, "a cache", err);
    int64_t cols = const_dim(cache, 0) * const_dim(cache, 2);
    for (unsigned i = 1; i <= 2; i++) {
        const ccc_type *t = in_type(g, n, i);
        if (!is_rows(t) || t->rank != 2 || ccc_type_last(t) != cols || t->dtype != cache->dtype)
            return bad_pair(g, n, 0, i,
                            "rows must have the cache's dtype and kv_heads times head_size columns", err);
        if (slots->rank == 1 && !ccc_dim_equal(t->dim[0], slots->dim[0]))
            return bad_pair(g, n, i, 3, "one slot for each row", err);
    }
    if (!is_vector(slots, CCC_I64)) return bad_operand(g, n, 3, "an i64 vector", err);
    *out = *cache;
    return CCC_OK;
}

/* Only numbers of 8 bits need scales: a wider cache holds K and V as they are. */
static ccc_status check_kv_scale(const ccc_node *n, const ccc_type *cache, const char *name, ccc_err *err)
{
    double v = ccc_attr_float(n, name);
    if (!(v >= CCC_KV_SCALE_LEAST && v <= CCC_KV_SCALE_MOST))
        return bad_attr(n, name, "from 1e-12 to 1e12", err);
    if (v != 1 && ccc_dtype_bytes((ccc_dtype)cache->dtype, 1) != 1)
        return bad_attr(n, name, "1 with a cache of more than 8 bits", err);
    return CCC_OK;
}

static ccc_status type_attention(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err)
{
    const ccc_type *q = in_type(g, n, 0), *cache = in_type(g, n, 1), *table = in_type(g, n, 2),
                   *lens = in_type(g, n, 3), *starts = in_type(g, n, 4);
    int64_t last = ccc_type_last(q);
    if (is_rows(cache)) return bad_operand(g, n, 1, "a cache", err);
    if (!is_float(q) || q->rank != 2 || last < 0)
        return bad_operand(g, n, 0, "a float matrix with a constant number of columns", err);
    if (last % (const_dim(cache, 0) * const_dim(cache, 2)))
        return bad_pair(g, n, 0, 1, "columns must be a multiple of kv_heads times head_size", err);
    if (!is_rows(table) || table->rank != 2 || table->dtype != CCC_I32)
        return bad_operand(g, n, 2, "an i32 matrix", err);
    if (!is_vector(lens, CCC_I32)) return bad_operand(g, n, 3, "an i32 vector", err);
    if (!is_vector(starts, CCC_I32)) return bad_operand(g, n, 4, "an i32 vector", err);
    if (!ccc_dim_equal(table->dim[0], lens->dim[0]))
        return bad_pair(g, n, 2, 3, "one row of blocks for each sequence", err);
    ccc_dim next = lens->dim[0];
    next.b++;
    if (next.kind != CCC_DIM_LINEAR || !ccc_dim_equal(starts->dim[0], next))
        return bad_pair(g, n, 3, 4, "one start for each sequence, and one more", err);
    CCC_TRY(check_kv_scale(n, cache, "k_scale", err));
    CCC_TRY(check_kv_scale(n, cache, "v_scale", err));
    *out = matrix(CCC_F32, q->dim[0], q->dim[1]);
    return CCC_OK;
}

static ccc_status type_argmax(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err)
{
    const ccc_type *x = in_type(g, n, 0);
    int64_t last = ccc_type_last(x);
    if (!is_float(x) || x->rank != 2 || last < 0 || last > INT32_MAX)
        return bad_operand(g, n, 0, "a float matrix with a constant number of columns", err);
    *out = (ccc_type){.dtype = CCC_I32, .rank = 1, .dim = {x->dim[0]}};
    return CCC_OK;
}

static ccc_status type_elt(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err)
{
    *out = (ccc_type){.dtype = CCC_F32};
    for (unsigned i = 0; i < n->n_in; i++) {
        const ccc_type *t = in_type(g, n, i);
        if (!is_float(t)) return bad_operand(g, n, i, "a float tensor", err);
        if (t->rank > out->rank) { /* what is there keeps its place at the right end */
            unsigned more = t->rank - out->rank;
            memmove(out->dim + more, out->dim, out->rank * sizeof out->dim[0]);
            for (unsigned j = 0; j < more; j++) out->dim[j] = ccc_dim_const(1);
            out->rank = t->rank;
        }
        for (unsigned j = 0; j < t->rank; j++) {
            ccc_dim *have = &out->dim[out->rank - t->rank + j], one = ccc_dim_const(1);
            if (ccc_dim_equal(*have, one)) *have = t->dim[j];
            else if (!ccc_dim_equal(t->dim[j], one) && !ccc_dim_equal(t->dim[j], *have))
                return bad_pair(g, n, 0, i, "dims must be equal, or 1", err);
        }
    }
    return CCC_OK;
}

/* ---- the table */

#define ELT(name, arity, flags, expr, help)                                                                  \
    static float elt_##name(float x, float y)                                                                \
    {                                                                                                        \
        (void)x;                                                                                             \
        (void)y;                                                                                             \
        return expr;                                                                                         \
    }
#define OP(...)
#include "op.def"

#define A_INT(name, required, dflt)                                                                          \
    {                                                                                                        \
        name, CCC_ATTR_INT, required, dflt                                                                   \
    }
#define A_FLT(name, required, dflt)                                                                          \
    {                                                                                                        \
        name, CCC_ATTR_FLOAT, required, dflt                                                                 \
    }
#define A_STR(name, required)                                                                                \
    {                                                                                                        \
        name, CCC_ATTR_STR, required, 0                                                                      \
    }
#define A_DT(name, required)                                                                                 \
    {                                                                                                        \
        name, CCC_ATTR_DTYPE, required, 0                                                                    \
    }
#define ROW(text, least, most, results, order, bits, rule, expr, words, ...)                                 \
    {.name = text,                                                                                           \
     .min_in = least,                                                                                        \
     .max_in = most,                                                                                         \
     .n_out = results,                                                                                       \
     .rank = order,                                                                                          \
     .flags = bits,                                                                                          \
     .attr = {__VA_ARGS__},                                                                                  \
     .n_attr = sizeof((ccc_attr_info[]){{0}, __VA_ARGS__}) / sizeof(ccc_attr_info) - 1,                      \
     .type = type_##rule,                                                                                    \
     .elt = expr,                                                                                            \
     .help = words},
#define ELT(name, arity, bits, expr, help)                                                                   \
    ROW(#name, arity, arity, 1, 1, CCC_ELTWISE | (bits), elt, elt_##name, help)
#define OP(name, least, most, results, order, bits, rule, help, ...)                                         \
    ROW(#name, least, most, results, order, bits, rule, NULL, help, __VA_ARGS__)
const ccc_op_info ccc_ops[CCC_N_OPS] = {
#include "op.def"
};

ccc_op ccc_op_find(const char *name)
{
    unsigned op = 0;
    while (op < CCC_N_OPS && strcmp(ccc_ops[op].name, name) != 0) op++;
    return (ccc_op)op;
}

int ccc_attr_find(ccc_op op, const char *name)
{
    for (unsigned i = 0; i < ccc_ops[op].n_attr; i++)
        if (strcmp(ccc_ops[op].attr[i].name, name) == 0) return (int)i;
    return -1;
}

int64_t ccc_attr_int(const ccc_node *n, const char *name)
{
    int i = ccc_attr_find(n->op, name);
    assert(i >= 0 &&
           (ccc_ops[n->op].attr[i].kind == CCC_ATTR_INT || ccc_ops[n->op].attr[i].kind == CCC_ATTR_DTYPE));
    return n->attr[i].i;
}

double ccc_attr_float(const ccc_node *n, const char *name)
{
    int i = ccc_attr_find(n->op, name);
    assert(i >= 0 && ccc_ops[n->op].attr[i].kind == CCC_ATTR_FLOAT);
    return n->attr[i].f;
}

const char *ccc_attr_str(const ccc_node *n, const char *name)
{
    int i = ccc_attr_find(n->op, name);
    assert(i >= 0 && ccc_ops[n->op].attr[i].kind == CCC_ATTR_STR);
    return n->attr[i].s;
}

ccc_status ccc_op_infer(const ccc_graph *g, const ccc_node *n, ccc_type out[CCC_MAX_OUT], ccc_err *err)
{
    const ccc_op_info *op = &ccc_ops[n->op];
    if (n->n_in < op->min_in || n->n_in > op->max_in) {
        if (op->min_in == op->max_in)
            return ccc_fail(err, CCC_E_TYPE, "%s: has %u operands, takes %u", op->name, n->n_in, op->min_in);
        return ccc_fail(err, CCC_E_TYPE, "%s: has %u operands, takes %u to %u", op->name, n->n_in, op->min_in,
                        op->max_in);
    }
    for (unsigned i = 0; i < op->n_attr; i++)
        if (op->attr[i].kind == CCC_ATTR_FLOAT && !isfinite(n->attr[i].f))
            return bad_attr(n, op->attr[i].name, "finite", err);
    if (op->flags & CCC_LEAF && out[0].dtype != CCC_NONE) CCC_TRY(ccc_type_check(g, &out[0], err));
    CCC_TRY(op->type(g, n, out, err));
    if (out[0].dtype == CCC_NONE) return ccc_fail(err, CCC_E_TYPE, "%s: needs a type", op->name);
    for (unsigned i = 0; i < op->n_out; i++) CCC_TRY(ccc_type_check(g, &out[i], err));
    return CCC_OK;
}
