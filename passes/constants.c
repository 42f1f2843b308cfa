/* Computes elementwise ops on constants. The expression is the evaluator's own (ccc_ops[].elt), so the result
 * is what the graph says. A rounding cast of a constant becomes the rounded f32 constant where only
 * elementwise nodes read it: they widen it anyway. A result that is not finite stays as it is: the text form
 * has no such numbers. */
#include "rewrite.h"
#include "fuse.h"

#include <math.h>

static bool constant_of(const ccc_graph *g, ccc_val v, float *x)
{
    const ccc_node *n = ccc_def(g, v);
    if (n->op != CCC_OP_constant) return false;
    *x = (float)ccc_attr_float(n, "value");
    return true;
}

static bool only_eltwise_reads(const ccc_users *u, ccc_val v)
{
    for (uint32_t k = u->start[v]; k < u->start[v + 1]; k++)
        if (!(ccc_ops[u->g->node[u->user[k]].op].flags & CCC_ELTWISE)) return false;
    return !u->n_out[v];
}

static bool fold(const ccc_users *u, const ccc_node *n, float *y)
{
    float x[2] = {0, 0};
    const ccc_op_info *op = &ccc_ops[n->op];
    const ccc_type *t = &u->g->value[n->out[0]].type;
    if (!(op->flags & CCC_ELTWISE) || n->group || n->n_in > 2) return false;
    for (unsigned i = 0; i < n->n_in; i++)
        if (!constant_of(u->g, n->in[i], &x[i])) return false;
    if (op->elt) *y = op->elt(x[0], x[1]);
    else if (ccc_dtype_is_float((ccc_dtype)t->dtype)) *y = ccc_round_to((ccc_dtype)t->dtype, x[0]);
    else return false;
    return isfinite(*y) && (t->dtype == CCC_F32 || only_eltwise_reads(u, n->out[0]));
}

ccc_status ccc_pass_constants(ccc_graph *g, ccc_pass_ctx *ctx, bool *progress, ccc_err *err)
{
    ccc_rewrite w;
    ccc_users u;
    CCC_TRY(ccc_users_new(&u, g, ctx->scratch, err));
    CCC_TRY(ccc_rewrite_start(&w, g, ctx->scratch, err));
    for (ccc_nid i = 1; i < w.n_nodes; i++) {
        float y;
        const ccc_node *n = ccc_rewrite_node(&w, i);
        if (!fold(&u, n, &y)) continue;
        ccc_val old = n->out[0], c;
        ccc_type type = g->value[old].type;
        type.dtype = CCC_F32;
        ccc_attr_arg value = {"value", {.f = y}};
        CCC_TRY(ccc_graph_add(g, &c, CCC_OP_constant, NULL, 0, &value, 1, &type, NULL, err));
        ccc_rewrite_value(&w, old, c);
    }
    return ccc_rewrite_end(&w, progress, err);
}
