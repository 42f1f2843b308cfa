/* Weights. A value that depends on weights alone and is read by a kernel is a final weight. Its making - concat of segments, each a source
 * tensor that is cast, dequantised or unpermuted - becomes segments with a load program of one kernel each, run when weights are attached.
 * A segment whose source bytes are the final bytes is a plain copy. */
#include "plan.h"
#include "kernels/abi.h"
#include "kernels/attention_geometry.h"
#include "kernels/host_geometry.h"
#include <math.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* the two operands of a mul that scales weight data */
static const ccc_node *scale_of(const ccc_graph *g, const ccc_node *mul)
{
    const ccc_node *left = ccc_def(g, mul->in[0]);
    return left->op == CCC_OP_constant ? left : ccc_def(g, mul->in[1]);
}
static ccc_val scaled_by(const ccc_graph *g, const ccc_node *mul) { return mul->in[ccc_def(g, mul->in[0])->op == CCC_OP_constant]; }

/* Canonical text of a weight value: what it is made of, not which nodes of which clone make it. */
static ccc_status describe(ccc_buf *out, const ccc_graph *g, ccc_val v, ccc_err *err)
{
    const ccc_node *n = ccc_def(g, v);
    const ccc_type *t = &g->value[v].type;
    switch (n->op) {
    case CCC_OP_weight: ccc_buf_printf(out, "%s", ccc_attr_str(n, "name")); break;
    case CCC_OP_rope_table:
        ccc_buf_printf(out, "rope_table(%lld,%lld,%.17g,%s,%.17g,%.17g,%.17g,%lld)", (long long)ccc_attr_int(n, "rotary"), (long long)ccc_attr_int(n, "rows"),
                       ccc_attr_float(n, "theta"), ccc_attr_str(n, "scaling"), ccc_attr_float(n, "factor"), ccc_attr_float(n, "low_freq_factor"),
                       ccc_attr_float(n, "high_freq_factor"), (long long)ccc_attr_int(n, "original_max_position"));
        break;
    case CCC_OP_concat:
        for (unsigned i = 0; i < n->n_in; i++) {
            if (i) ccc_buf_printf(out, "+");
            CCC_TRY(describe(out, g, n->in[i], err));
        }
        break;
    case CCC_OP_cast:
        CCC_TRY(describe(out, g, n->in[0], err));
        ccc_buf_printf(out, ":%s", ccc_dtype_name((ccc_dtype)t->dtype));
        break;
    case CCC_OP_mul: { /* by a constant, whose bits say which */
        const ccc_node *c = scale_of(g, n);
        float s = (float)ccc_attr_float(c, "value");
        uint32_t bits;
        memcpy(&bits, &s, sizeof bits);
        CCC_TRY(describe(out, g, scaled_by(g, n), err));
        ccc_buf_printf(out, "*%08x", bits);
        break;
    }
    case CCC_OP_unpermute:
        CCC_TRY(describe(out, g, n->in[0], err));
        ccc_buf_printf(out, ":unpermute%lld", (long long)ccc_attr_int(n, "head_size"));
        break;
    default: return ccc_fail(err, CCC_E_UNSUPPORTED, "%s of weights cannot run in a load program; apply it to the weights beforehand", ccc_ops[n->op].name);
    }
    return out->failed ? ccc_fail(err, CCC_E_NOMEM, "out of memory") : CCC_OK;
}

static int64_t const_dim(const ccc_type *t, unsigned i) { int64_t n = 0; return ccc_dim_is_const(t->dim[i], &n) ? n : -1; }

static void type_shape(const ccc_type *t, int64_t *rows, int64_t *cols)
{
    *rows = t->rank < 2 ? 1 : const_dim(t, 0);
    *cols = t->rank ? const_dim(t, t->rank - 1) : 1;
}

/* ---- load programs: one kernel node each ---- */
static ccc_status add_load(uint32_t *out, ccc_plan *p, plan_builder *b, ccc_err *err)
{
    if (b->oom || !CCC_GROW(p->mem, p->load, p->n_load, p->cap_load)) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    p->load[p->n_load] = (ccart_program){ .expr = b->expr, .n_exprs = b->n_exprs, .param = b->param, .n_params = b->n_params, .node = b->node, .n_nodes = b->n_nodes };
    *out = p->n_load++;
    return CCC_OK;
}

/* Load kernels are right for every grid: some blocks a multiprocessor or thread, and no more than there is work. */
static uint32_t load_grid(plan_builder *b, bool cuda, uint32_t blocks)
{
    return px_op(b, CCART_X_MIN, blocks, px_op(b, CCART_X_MUL, px_var(b, CCART_VAR_SM), px_const(b, cuda ? 16 : CCC_HOST_BLOCKS)));
}

typedef struct { int64_t half; float scale; bool scaled; } load_chain; /* what happens to a source on its way */

static ccc_status load_kernel(uint32_t *out, ccc_plan *p, const ccart_segment *s, const ccc_node *w, uint32_t src_dtype, const load_chain *c, int64_t dst_row0, ccc_err *err)
{
    plan_builder b = { .plan = p };
    bool cuda = p->target->kind == CCC_TARGET_CUDA;
    plan_kernel k = { .req = { .target = p->target, .tmpl = "load", .threads = cuda ? CCC_LOAD_THREADS : 1 }, .args_B = sizeof(load_args), .args_align = 8, .cluster = 1 };
    plan_spec(&k, "SRC", src_dtype);
    plan_spec(&k, "DST", p->weight[s->weight].dtype);
    plan_spec(&k, "HALF", src_dtype ? c->half : 0); /* random rows are drawn in place */
    int64_t cols = s->rank < 2 ? (s->rank ? s->dim[0] : 1) : s->dim[1];
    const char *name = ccc_attr_str(w, "name");
    uint64_t hash = XXH64(name, strlen(name), 0);
    uint32_t elements = px_op(&b, CCART_X_MUL, px_var(&b, CCART_VAR_ROWS), px_const(&b, cols));
    uint32_t grid[3] = { load_grid(&b, cuda, px_op(&b, CCART_X_CEILDIV, elements, px_const(&b, CCC_LOAD_ELEMS))), px_const(&b, 1), px_const(&b, 1) };
    bool vector = s->rank < 2; /* one row, so its place in the weight is a number of bytes */
    pb_plain(&b, offsetof(load_args, dst), 8, CCART_P_WEIGHT, s->weight, vector ? (int64_t)s->dst_B : 0);
    if (src_dtype) pb_plain(&b, offsetof(load_args, src), 8, CCART_P_SRC, 0, 0);
    else PB_I64(&b, load_args, src, 0);
    if (src_dtype) PB_I64(&b, load_args, seed, 0);
    else pb_plain(&b, offsetof(load_args, seed), 8, CCART_P_SEED, 0, 0);
    PB_I64(&b, load_args, name_hash, (int64_t)hash);
    pb_expr(&b, offsetof(load_args, row0), 8, px_var(&b, CCART_VAR_ROW0));
    pb_expr(&b, offsetof(load_args, rows), 8, px_var(&b, CCART_VAR_ROWS));
    PB_I64(&b, load_args, cols, cols);
    PB_I64(&b, load_args, dst_row0, vector ? 0 : dst_row0);
    PB_F32(&b, load_args, mean, ccc_attr_float(w, "init_mean"));
    PB_F32(&b, load_args, std, ccc_attr_float(w, "init_std") * sqrt(3.0) / 8388608.0);
    PB_F32(&b, load_args, scale, c->scale);
    PB_I32(&b, load_args, draw, c->scaled && (s->src_dtype == CCC_BF16 || s->src_dtype == CCC_F16) ? s->src_dtype : 0);
    CCC_TRY(pb_launch(&b, &k, grid, 0, 0, err));
    return add_load(out, p, &b, err);
}

static ccc_status rope_segment(ccc_plan *p, ccart_segment *s, const ccc_node *n, ccc_err *err)
{
    int64_t half = ccc_attr_int(n, "rotary") / 2, rows = ccc_attr_int(n, "rows");
    float *freq = ccc_arena_alloc(p->mem, (size_t)half * 4);
    if (!freq) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    ccc_rope_inv_freq(n, freq);
    while (p->constant.size_B % 16 && !p->constant.failed) ccc_buf_u8(&p->constant, 0);
    int64_t at = (int64_t)p->constant.size_B;
    for (int64_t i = 0; i < half; i++) {
        uint32_t u;
        memcpy(&u, &freq[i], 4);
        ccc_buf_u32(&p->constant, u);
    }
    if (p->constant.failed) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    plan_builder b = { .plan = p };
    bool cuda = p->target->kind == CCC_TARGET_CUDA;
    plan_kernel k = { .req = { .target = p->target, .tmpl = "rope_table", .threads = cuda ? CCC_LOAD_THREADS : 1 }, .args_B = sizeof(rope_table_args), .args_align = 8, .cluster = 1 };
    uint32_t grid[3] = { load_grid(&b, cuda, px_const(&b, (rows * half + CCC_LOAD_THREADS - 1) / CCC_LOAD_THREADS)), px_const(&b, 1), px_const(&b, 1) };
    pb_plain(&b, offsetof(rope_table_args, dst), 8, CCART_P_WEIGHT, s->weight, 0);
    pb_plain(&b, offsetof(rope_table_args, inv_freq), 8, CCART_P_CONST, 0, at);
    PB_I32(&b, rope_table_args, rows, rows);
    PB_I32(&b, rope_table_args, half, half);
    PB_F32(&b, rope_table_args, scale, 1.0f);
    PB_I32(&b, rope_table_args, pad, 0);
    CCC_TRY(pb_launch(&b, &k, grid, 0, 0, err));
    CCC_TRY(add_load(&s->load_program, p, &b, err));
    s->random_program = s->load_program;
    return CCC_OK;
}

/* Walks from a segment's value back to its source: casts, an unpermute and a scale, in any order that one kernel can follow. */
static ccc_status walk_chain(load_chain *c, const ccc_node **source, const ccc_graph *g, ccc_val v, ccc_err *err)
{
    const ccc_node *n = ccc_def(g, v);
    *c = (load_chain){ .scale = 1 };
    for (unsigned casts = 0; n->op == CCC_OP_cast || n->op == CCC_OP_unpermute || n->op == CCC_OP_mul; n = ccc_def(g, n->op == CCC_OP_mul ? scaled_by(g, n) : n->in[0])) {
        if (n->op == CCC_OP_unpermute) {
            if (c->half) return ccc_fail(err, CCC_E_UNSUPPORTED, "a weight is unpermuted twice");
            c->half = ccc_attr_int(n, "head_size") / 2;
        } else if (n->op == CCC_OP_mul) {
            if (c->scaled) return ccc_fail(err, CCC_E_UNSUPPORTED, "a weight is scaled twice; keep one multiplication");
            c->scaled = true;
            c->scale = (float)ccc_attr_float(scale_of(g, n), "value");
        } else if ((casts++ || c->scaled) && g->value[n->out[0]].type.dtype != CCC_F32) {
            return ccc_fail(err, CCC_E_UNSUPPORTED, "a weight is rounded twice; keep one cast");
        }
    }
    *source = n;
    return CCC_OK;
}

/* One operand of the concat (or the whole): a chain from a weight, or a rope table. */
static ccc_status add_segment(ccc_plan *p, uint32_t weight, const ccc_graph *g, ccc_val v, int64_t *row, ccc_err *err)
{
    const ccart_weight *w = &p->weight[weight];
    ccart_segment s = { .weight = weight, .source = "", .row_group = 1, .load_program = UINT32_MAX, .random_program = UINT32_MAX };
    int64_t rows = 0, cols = 0;
    type_shape(&g->value[v].type, &rows, &cols);
    bool vector = g->value[v].type.rank < 2; /* concat joins vectors along their only dimension: `row` then counts elements */
    uint64_t dst_row_B = ccc_dtype_bytes((ccc_dtype)w->dtype, (uint64_t)cols);
    s.dst_B = (uint64_t)*row * (vector ? ccc_dtype_bytes((ccc_dtype)w->dtype, 1) : dst_row_B);
    s.dst_size_B = (uint64_t)rows * dst_row_B;
    const ccc_node *n = NULL;
    load_chain c;
    CCC_TRY(walk_chain(&c, &n, g, v, err));
    if (n->op != CCC_OP_weight && n->op != CCC_OP_rope_table)
        return ccc_fail(err, CCC_E_UNSUPPORTED, "%s of weights cannot run in a load program; apply it to the weights beforehand", ccc_ops[n->op].name);
    if (n->op == CCC_OP_rope_table && n != ccc_def(g, v))
        return ccc_fail(err, CCC_E_UNSUPPORTED, "%s of a rope table cannot run in a load program; read the table as it is", ccc_ops[ccc_def(g, v)->op].name);
    const ccc_type *st = &g->value[n->out[0]].type;
    s.src_dtype = st->dtype;
    s.rank = st->rank;
    for (unsigned i = 0; i < st->rank; i++) s.dim[i] = const_dim(st, i);
    s.row_B = ccc_dtype_bytes((ccc_dtype)st->dtype, (uint64_t)cols);
    if (c.half) s.row_group = (int32_t)(2 * c.half);
    if (n->op == CCC_OP_rope_table) {
        s.src_dtype = CCC_NONE;
        s.row_B = 0;
        CCC_TRY(rope_segment(p, &s, n, err));
    } else {
        static const ccc_dtype loads[] = { CCC_F32, CCC_F16, CCC_BF16, CCC_Q8_0, CCC_Q4_1 };
        s.plain = st->dtype == w->dtype && !c.half && !c.scaled;
        bool known = s.plain && st->dtype == CCC_E4M3;
        for (unsigned i = 0; i < sizeof loads / sizeof *loads; i++) known |= st->dtype == loads[i];
        if (!known) return ccc_fail(err, CCC_E_UNSUPPORTED, "weight '%s': no load kernel reads %s", ccc_attr_str(n, "name"), ccc_dtype_name((ccc_dtype)st->dtype));
        s.source = ccc_arena_strdup(p->mem, ccc_attr_str(n, "name"));
        if (!s.plain) CCC_TRY(load_kernel(&s.load_program, p, &s, n, st->dtype, &c, *row, err));
        CCC_TRY(load_kernel(&s.random_program, p, &s, n, 0, &c, *row, err));
    }
    if (!s.source || !CCC_GROW(p->mem, p->segment, p->n_segments, p->cap_segments)) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    p->segment[p->n_segments++] = s;
    *row += vector ? cols : rows;
    return CCC_OK;
}

static ccc_status new_weight(uint32_t *out, ccc_plan *p, const ccc_graph *g, ccc_val v, const char *name, ccc_err *err)
{
    const ccc_type *t = &g->value[v].type;
    ccart_weight w = { .name = name, .dtype = t->dtype, .rank = t->rank };
    uint64_t n = 1;
    for (unsigned i = 0; i < t->rank; i++) {
        w.dim[i] = const_dim(t, i);
        if (w.dim[i] < 1 || __builtin_mul_overflow(n, (uint64_t)w.dim[i], &n)) return ccc_fail(err, CCC_E_TYPE, "weight '%s' has a size that is not a positive constant", name);
    }
    if (t->dtype != CCC_BF16 && t->dtype != CCC_F32 && t->dtype != CCC_E4M3)
        return ccc_fail(err, CCC_E_UNSUPPORTED, "weight '%s' is %s where a kernel reads it; cast it to bf16, f32 or e4m3", name, ccc_dtype_name((ccc_dtype)t->dtype));
    w.size_B = ccc_dtype_bytes((ccc_dtype)t->dtype, n);
    if (!CCC_GROW(p->mem, p->weight, p->n_weights, p->cap_weights)) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    *out = p->n_weights++;
    p->weight[*out] = w;
    const ccc_node *d = ccc_def(g, v);
    int64_t row = 0;
    if (d->op != CCC_OP_concat) return add_segment(p, *out, g, v, &row, err);
    for (unsigned i = 0; i < d->n_in; i++) CCC_TRY(add_segment(p, *out, g, d->in[i], &row, err));
    return CCC_OK;
}

ccc_status plan_weight(uint32_t *out, ccc_plan *p, const ccc_graph *g, ccc_val v, ccc_err *err)
{
    ccc_buf text = { 0 };
    ccc_status st = describe(&text, g, v, err);
    const char *name = st == CCC_OK ? ccc_arena_strdup(p->mem, text.data) : NULL;
    ccc_buf_free(&text);
    CCC_TRY(st);
    if (!name) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    for (uint32_t i = 0; i < p->n_weights; i++)
        if (!strcmp(p->weight[i].name, name)) {
            *out = i;
            return CCC_OK;
        }
    return new_weight(out, p, g, v, name, err);
}
