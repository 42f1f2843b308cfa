/* Matmuls of one input (q, k, v; gate and up) become one matmul over the weights laid one after another, and
 * slices of its result: one kernel that reads x once, and, for a pair of halves, something that fuse_act_mul
 * can work with. The bits stay: a matmul's columns do not know each other. What every sibling does next (a
 * bias, the rounding) is done once to the whole result, in front of the slices, so that it can become the
 * matmul's epilogue and the slices are views of memory. */
#include "fuse.h"
#include "rewrite.h"

#include <string.h>

typedef struct {
    ccc_graph *g;
    ccc_pass_ctx *ctx;
    ccc_users u;
    ccc_rewrite w;
    ccc_nid sib[CCC_MAX_IN]; /* the matmuls, then the last node of each one's chain that has moved in front of
                                the slices */
    unsigned n;
} siblings;

/* collects the ungrouped matmuls of x whose weights can be joined with the first one's */
static void collect(siblings *s, ccc_val x, ccc_nid first)
{
    s->n = 0;
    for (uint32_t k = s->u.start[x]; k < s->u.start[x + 1]; k++) {
        ccc_nid i = s->u.user[k];
        const ccc_node *n = &s->g->node[i];
        if (i < first || n->op != CCC_OP_matmul || n->in[0] != x || n->group || s->w.dead[i]) continue;
        const ccc_type *w = &s->g->value[n->in[1]].type, *w0 = &s->g->value[s->g->node[first].in[1]].type;
        const char *why = NULL;
        if (!s->u.weight[n->in[1]]) why = "its second operand is not weight data";
        else if (ccc_n_uses(&s->u, n->in[1]) != 1)
            why = "its weight has other users, which would need a copy of it";
        bool own = why != NULL; /* then it is said when the node itself is the first one */
        if (!own && w->dtype != w0->dtype) why = "its weight has another dtype than its sibling's";
        if (!own && s->n == CCC_MAX_IN) why = "a concat has no room for more";
        if (!why) s->sib[s->n++] = i;
        else if (ccc_n_uses(&s->u, x) > 1 && own == (i == first))
            ccc_explain_line(s->ctx->explain, s->g, "merge_siblings", i, why);
        if (own && i == first) return;
    }
}

/* What sibling i does next, if nothing else reads it: the only user; 0: several */
static ccc_nid next_of(const siblings *s, unsigned i)
{
    ccc_val v = s->g->node[s->sib[i]].out[0];
    if (ccc_n_uses(&s->u, v) != 1 || s->u.n_out[v]) return 0;
    ccc_nid n = s->u.user[s->u.start[v]];
    return s->g->node[n].group ? 0 : n;
}

/* Which operand of a two-operand elementwise node is a vector over the columns of v, weight data that nobody
 * else reads: 0, 1, or -1. */
static int vector_side(const siblings *s, const ccc_node *n, ccc_val v)
{
    if (!(ccc_ops[n->op].flags & CCC_ELTWISE) || n->n_in != 2) return -1;
    int side = n->in[0] == v;
    const ccc_type *t = &s->g->value[n->in[side]].type, *tv = &s->g->value[v].type;
    bool fits = t->rank == 1 && tv->rank == 2 && ccc_dim_equal(t->dim[0], tv->dim[1]);
    return fits && s->u.weight[n->in[side]] && ccc_n_uses(&s->u, n->in[side]) == 1 ? side : -1;
}

/* Which operand of a two-operand elementwise node is a constant, beside v: 0, 1, or -1. */
static int constant_side(const siblings *s, const ccc_node *n, ccc_val v)
{
    if (!(ccc_ops[n->op].flags & CCC_ELTWISE) || n->n_in != 2 || n->in[0] == n->in[1]) return -1;
    int side = n->in[0] == v;
    return ccc_is_immediate(s->g, n->in[side]) ? side : -1;
}

static bool same_constant(const ccc_graph *g, ccc_val a, ccc_val b)
{
    double x = ccc_attr_float(ccc_def(g, a), "value"), y = ccc_attr_float(ccc_def(g, b), "value");
    return memcmp(&x, &y, sizeof x) == 0;
}

/* Do all siblings do the same next: a cast to one dtype (*side -1), or one op with one constant or with a
 * vector each of one dtype (*side: the operand)? */
static bool common_next(const siblings *s, ccc_nid next[CCC_MAX_IN], int *side)
{
    for (unsigned i = 0; i < s->n; i++) {
        if (!(next[i] = next_of(s, i))) return false;
        const ccc_node *n = &s->g->node[next[i]], *n0 = &s->g->node[next[0]];
        bool cast = n->op == CCC_OP_cast;
        ccc_val v = s->g->node[s->sib[i]].out[0];
        int at = cast ? -1 : constant_side(s, n, v);
        bool constant = at >= 0;
        if (!cast && !constant) at = vector_side(s, n, v);
        if (i == 0) *side = at;
        if (n->op != n0->op || at != *side || (!cast && at < 0)) return false;
        ccc_val a = cast ? n->out[0] : n->in[at], b = cast ? n0->out[0] : n0->in[at];
        if (!cast && constant != ccc_is_immediate(s->g, b)) return false;
        if (constant && !same_constant(s->g, a, b)) return false;
        if (s->g->value[a].type.dtype != s->g->value[b].type.dtype) return false;
    }
    return true;
}

/* Does the next common step to the whole value *v. */
static ccc_status move_step(siblings *s, const ccc_nid next[CCC_MAX_IN], int side, ccc_val *v, ccc_err *err)
{
    ccc_graph *g = s->g;
    ccc_op op = g->node[next[0]].op;
    ccc_val vector[CCC_MAX_IN], in[2] = {*v, *v};
    ccc_attr_arg to = {"to", {.i = g->value[g->node[next[0]].out[0]].type.dtype}};
    for (unsigned i = 0; i < s->n; i++) {
        s->w.dead[s->sib[i]] = true;
        s->sib[i] = next[i];
        if (side >= 0) vector[i] = g->node[next[i]].in[side];
    }
    if (side < 0) return ccc_graph_add(g, v, op, in, 1, &to, 1, NULL, NULL, err);
    if (ccc_is_immediate(g, vector[0])) {
        in[side] = vector[0];
        return ccc_graph_add(g, v, op, in, 2, NULL, 0, NULL, NULL, err);
    }
    CCC_TRY(ccc_graph_add(g, &in[side], CCC_OP_concat, vector, s->n, NULL, 0, NULL, NULL, err));
    return ccc_graph_add(g, v, op, in, 2, NULL, 0, NULL, NULL, err);
}

static ccc_status join(siblings *s, ccc_err *err)
{
    ccc_graph *g = s->g;
    ccc_val w[CCC_MAX_IN], v, in[2];
    ccc_nid next[CCC_MAX_IN];
    for (unsigned i = 0; i < s->n; i++) w[i] = g->node[s->sib[i]].in[1];
    in[0] = g->node[s->sib[0]].in[0];
    CCC_TRY(ccc_graph_add(g, &in[1], CCC_OP_concat, w, s->n, NULL, 0, NULL, NULL, err));
    CCC_TRY(ccc_graph_add(g, &v, CCC_OP_matmul, in, 2, NULL, 0, NULL, NULL, err));
    for (int side = 0; side >= 0 && common_next(s, next, &side);) CCC_TRY(move_step(s, next, side, &v, err));
    int64_t start = 0;
    for (unsigned i = 0; i < s->n; i++) {
        ccc_val from = g->node[s->sib[i]].out[0], piece;
        int64_t size = ccc_type_last(&g->value[from].type);
        ccc_attr_arg at[2] = {{"start", {.i = start}}, {"size", {.i = size}}};
        CCC_TRY(ccc_graph_add(g, &piece, CCC_OP_slice, &v, 1, at, 2, NULL, NULL, err));
        g->value[piece].name = g->value[from].name; /* the old value goes */
        g->value[from].name = NULL;
        ccc_rewrite_value(&s->w, from, piece);
        start += size;
    }
    return CCC_OK;
}

ccc_status ccc_pass_merge_siblings(ccc_graph *g, ccc_pass_ctx *ctx, bool *progress, ccc_err *err)
{
    siblings s = {.g = g, .ctx = ctx};
    CCC_TRY(ccc_users_new(&s.u, g, ctx->scratch, err));
    CCC_TRY(ccc_rewrite_start(&s.w, g, ctx->scratch, err));
    for (ccc_nid i = 1; i < s.w.n_nodes; i++) {
        if (g->node[i].op != CCC_OP_matmul || s.w.dead[i]) continue;
        collect(&s, g->node[i].in[0], i);
        if (s.n >= 2) CCC_TRY(join(&s, err));
    }
    for (ccc_nid i = 1; s.w.progress && i < g->n_nodes; i++)
        ccc_rewrite_node(&s.w, i); /* users, and the new nodes' own operands */
    return ccc_rewrite_end(&s.w, progress, err);
}
