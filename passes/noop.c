/* Removes what changes no bit: a cast to the type a value has, a slice of everything, a concat of one, x*1,
 * x/1, x-0, x+(-0). x+0 is not among them: it turns -0 into 0. Where x is narrower than f32, the elementwise
 * op still widens it: a cast remains. */
#include "rewrite.h"
#include "fuse.h"

#include <math.h>

/* For `op` with the constant c as operand `side`: is the result the other operand? */
static bool is_identity(ccc_op op, unsigned side, double c)
{
    static const struct {
        ccc_op op;
        double c;
        bool left;
    } rule[] = {
        {CCC_OP_mul, 1.0, true},
        {CCC_OP_div, 1.0, false},
        {CCC_OP_sub, 0.0, false},
        {CCC_OP_add, -0.0, true},
    };
    for (unsigned i = 0; i < sizeof rule / sizeof *rule; i++)
        if (rule[i].op == op && rule[i].c == c && signbit(rule[i].c) == signbit(c) &&
            (side == 1 || rule[i].left))
            return true;
    return false;
}

/* The operand that the node passes on, or 0. */
static ccc_val passed_on(const ccc_graph *g, const ccc_node *n)
{
    const ccc_type *t = &g->value[n->out[0]].type;
    if (n->op == CCC_OP_cast || n->op == CCC_OP_slice || (n->op == CCC_OP_concat && n->n_in == 1))
        return ccc_type_equal(t, &g->value[n->in[0]].type) ? n->in[0] : 0;
    for (unsigned i = 0; i < n->n_in && n->n_in == 2; i++) {
        const ccc_node *c = ccc_def(g, n->in[i]);
        if (c->op != CCC_OP_constant || !is_identity(n->op, i, (float)ccc_attr_float(c, "value"))) continue;
        ccc_type other = g->value[n->in[1 - i]].type;
        if (!ccc_dtype_is_float((ccc_dtype)other.dtype)) continue;
        other.dtype = t->dtype;
        if (ccc_type_equal(&other, t)) return n->in[1 - i];
    }
    return 0;
}

ccc_status ccc_pass_noop(ccc_graph *g, ccc_pass_ctx *ctx, bool *progress, ccc_err *err)
{
    ccc_rewrite w;
    CCC_TRY(ccc_rewrite_start(&w, g, ctx->scratch, err));
    for (ccc_nid i = 1; i < w.n_nodes; i++) {
        const ccc_node *n = ccc_rewrite_node(&w, i);
        ccc_val old = n->out[0], v = n->group ? 0 : passed_on(g, n);
        if (!v) continue;
        uint8_t dtype = g->value[old].type.dtype;
        ccc_attr_arg to = {"to", {.i = dtype}};
        if (g->value[v].type.dtype != dtype)
            CCC_TRY(ccc_graph_add(g, &v, CCC_OP_cast, &v, 1, &to, 1, NULL, NULL, err));
        ccc_rewrite_value(&w, old, v);
    }
    return ccc_rewrite_end(&w, progress, err);
}
