/* Dims and types: a dim is a*sym + b, perhaps ceil-divided or rounded up. There is one form for each dim (a
 * constant has no symbol and is linear), so that equality is equality of fields; ccc_type_check says what
 * does not keep to it. */
#include "internal.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAX_BY = 1 << 20 };
static const int64_t MAX_DIM = (int64_t)1 << 40, MAX_ELEMS = (int64_t)1 << 48;

static const char *const layout_names[CCC_N_LAYOUTS] = {"row", "nhd", "hnd", "ccc"};

const char *ccc_layout_name(ccc_layout l)
{
    return (unsigned)l < CCC_N_LAYOUTS ? layout_names[l] : "?";
}

ccc_dim ccc_dim_const(int64_t n)
{
    return (ccc_dim){.b = n, .sym = -1};
}

ccc_dim ccc_dim_sym(int sym)
{
    return (ccc_dim){.a = 1, .sym = (int16_t)sym};
}

bool ccc_dim_is_const(ccc_dim d, int64_t *n)
{
    if (d.sym >= 0) return false;
    if (n) *n = d.b;
    return true;
}

bool ccc_dim_equal(ccc_dim a, ccc_dim b)
{
    return a.a == b.a && a.b == b.b && a.by == b.by && a.sym == b.sym && a.kind == b.kind;
}

static int64_t dim_at(ccc_dim d, int64_t x)
{
    int64_t v;
    if (__builtin_mul_overflow(d.a, x, &v) || __builtin_add_overflow(v, d.b, &v)) return INT64_MAX;
    if (d.kind == CCC_DIM_LINEAR || d.by <= 0) return v;
    int64_t n = v / d.by + (v % d.by > 0);
    if (d.kind == CCC_DIM_ROUNDUP && __builtin_mul_overflow(n, (int64_t)d.by, &n)) return INT64_MAX;
    return n;
}

int64_t ccc_dim_eval(const ccc_graph *g, ccc_dim d, const int64_t *sym_value)
{
    return dim_at(d, d.sym >= 0 && (uint32_t)d.sym < g->n_sym ? sym_value[d.sym] : 0);
}

int64_t ccc_dim_max(const ccc_graph *g, ccc_dim d)
{
    return dim_at(d, d.sym >= 0 && (uint32_t)d.sym < g->n_sym ? g->sym[d.sym].max : 0);
}

bool ccc_type_equal(const ccc_type *a, const ccc_type *b)
{
    if (a->dtype != b->dtype || a->rank != b->rank || a->layout != b->layout) return false;
    for (unsigned i = 0; i < a->rank; i++)
        if (!ccc_dim_equal(a->dim[i], b->dim[i])) return false;
    return true;
}

int64_t ccc_type_last(const ccc_type *t)
{
    int64_t n;
    return t->rank && ccc_dim_is_const(t->dim[t->rank - 1], &n) ? n : -1;
}

/* ---- text */

typedef struct {
    char *buf;
    size_t n, cap;
} text;

__attribute__((format(printf, 2, 3))) static void put(text *t, const char *fmt, ...)
{
    if (t->n >= t->cap) return;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->buf + t->n, t->cap - t->n, fmt, ap);
    va_end(ap);
    t->n += n > 0 ? (size_t)n : 0;
}

static void put_dim(text *t, const ccc_graph *g, ccc_dim d)
{
    if (d.kind != CCC_DIM_LINEAR) put(t, d.kind == CCC_DIM_CEILDIV ? "ceildiv(" : "roundup(");
    if (d.sym >= 0) {
        if (d.a != 1) put(t, "%" PRId64 "*", d.a);
        put(t, "%s", (uint32_t)d.sym < g->n_sym ? g->sym[d.sym].name : "?");
        if (d.b) put(t, "%+" PRId64, d.b);
    } else {
        put(t, "%" PRId64, d.b);
    }
    if (d.kind != CCC_DIM_LINEAR) put(t, ",%" PRId32 ")", d.by);
}

const char *ccc_type_text(const ccc_graph *g, const ccc_type *ty, char buf[CCC_TYPE_TEXT])
{
    text t = {buf, 0, CCC_TYPE_TEXT};
    put(&t, "%s", ccc_dtype_name(ty->dtype));
    if (ty->layout != CCC_LAYOUT_ROW) put(&t, ".%s", ccc_layout_name(ty->layout));
    put(&t, "[");
    for (unsigned i = 0; i < ty->rank && i < CCC_MAX_RANK; i++) {
        if (i) put(&t, ",");
        put_dim(&t, g, ty->dim[i]);
    }
    put(&t, "]");
    return buf;
}

/* ---- what a type may be */

static ccc_status check_dim(const ccc_graph *g, ccc_dim d, const char *shown, ccc_err *err)
{
    if (d.a < 0 || d.a > MAX_DIM || d.b < -MAX_DIM || d.b > MAX_DIM)
        return ccc_fail(err, CCC_E_TYPE, "type %s: a factor or term of a dim is out of range", shown);
    if (d.sym < 0) {
        if (d.sym != -1 || d.a || d.kind != CCC_DIM_LINEAR || d.by)
            return ccc_fail(err, CCC_E_TYPE, "type %s: a constant dim is not in its plain form", shown);
        if (d.b < 1) return ccc_fail(err, CCC_E_TYPE, "type %s: a constant dim must be 1 or larger", shown);
        return CCC_OK;
    }
    if ((uint32_t)d.sym >= g->n_sym)
        return ccc_fail(err, CCC_E_TYPE, "type %s: a dim names an unknown symbol", shown);
    if (d.a < 1) return ccc_fail(err, CCC_E_TYPE, "type %s: a symbol's factor must be 1 or larger", shown);
    if (d.kind > CCC_DIM_ROUNDUP || (d.kind == CCC_DIM_LINEAR) != (d.by == 0) || d.by < 0 || d.by > MAX_BY)
        return ccc_fail(err, CCC_E_TYPE, "type %s: a divisor must be 1 to %d", shown, MAX_BY);
    if (dim_at(d, g->sym[d.sym].min) < 0 || d.a * g->sym[d.sym].min + d.b < 0)
        return ccc_fail(err, CCC_E_TYPE, "type %s: a dim is negative where %s is %" PRId64, shown,
                        g->sym[d.sym].name, g->sym[d.sym].min);
    return CCC_OK;
}

ccc_status ccc_type_check(const ccc_graph *g, const ccc_type *t, ccc_err *err)
{
    if (t->dtype == CCC_NONE || t->dtype >= CCC_N_DTYPES || t->rank > CCC_MAX_RANK ||
        t->layout >= CCC_N_LAYOUTS)
        return ccc_fail(err, CCC_E_TYPE, "a type has no dtype, a rank above %d or an unknown layout",
                        CCC_MAX_RANK);
    char shown[CCC_TYPE_TEXT];
    ccc_type_text(g, t, shown);
    int64_t elems = 1;
    for (unsigned i = 0; i < t->rank; i++) {
        CCC_TRY(check_dim(g, t->dim[i], shown, err));
        if (__builtin_mul_overflow(elems, ccc_dim_max(g, t->dim[i]), &elems) || elems > MAX_ELEMS)
            return ccc_fail(err, CCC_E_TYPE, "type %s: more than 2^48 elements", shown);
    }
    int64_t last = ccc_type_last(t);
    int block = ccc_dtype_block(t->dtype);
    if (block > 1 && (last < 0 || last % block))
        return ccc_fail(err, CCC_E_TYPE,
                        "type %s: the last dim must be a multiple of %d, the elements of a block", shown,
                        block);
    if (t->layout != CCC_LAYOUT_ROW) {
        bool fixed = t->rank == 3;
        for (unsigned i = 0; i < t->rank; i++) fixed = fixed && ccc_dim_is_const(t->dim[i], NULL);
        if (!fixed)
            return ccc_fail(err, CCC_E_TYPE,
                            "type %s: a KV cache must be [kv_heads,block_size,head_size], all constant",
                            shown);
    }
    return CCC_OK;
}
