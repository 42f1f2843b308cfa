/* Matmuls of one input (q, k, v; gate and up) become one matmul over the weights laid one after another, and slices of its result:
 * one kernel that reads x once, and, for a pair of halves, something that fuse_act_mul can work with. The bits stay: a matmul's columns do not know
 * each other. Where every sibling is rounded to the same dtype at once, one cast of the whole result replaces theirs, so that the
 * cast can become the matmul's epilogue and the slices are views of memory. */
#include "fuse.h"

typedef struct {
    ccc_graph *g;
    ccc_pass_ctx *ctx;
    ccc_users u;
    bool *dead;
    ccc_nid sib[CCC_MAX_IN];
    unsigned n;
} siblings;

/* collects the ungrouped matmuls of x whose weights can be joined with the first one's */
static void collect(siblings *s, ccc_val x, ccc_nid first)
{
    s->n = 0;
    for (uint32_t k = s->u.start[x]; k < s->u.start[x + 1]; k++) {
        ccc_nid i = s->u.user[k];
        const ccc_node *n = &s->g->node[i];
        if (i < first || n->op != CCC_OP_matmul || n->in[0] != x || n->group || s->dead[i]) continue;
        const ccc_type *w = &s->g->value[n->in[1]].type, *w0 = &s->g->value[s->g->node[first].in[1]].type;
        const char *why = NULL;
        if (!s->u.weight[n->in[1]]) why = "its second operand is not weight data";
        else if (ccc_n_uses(&s->u, n->in[1]) != 1) why = "its weight has other users, which would need a copy of it";
        bool own = why != NULL; /* then it is said when the node itself is the first one */
        if (!own && w->dtype != w0->dtype) why = "its weight has another dtype than its sibling's";
        if (!own && s->n == CCC_MAX_IN) why = "a concat has no room for more";
        if (!why) s->sib[s->n++] = i;
        else if (ccc_n_uses(&s->u, x) > 1 && own == (i == first)) ccc_explain_line(s->ctx->explain, s->g, "merge_siblings", i, why);
        if (own && i == first) return;
    }
}

/* the dtype to which every sibling's result is cast, with no other use; CCC_NONE: not so */
static ccc_dtype common_cast(const siblings *s)
{
    ccc_dtype to = CCC_NONE;
    for (unsigned i = 0; i < s->n; i++) {
        ccc_val v = s->g->node[s->sib[i]].out[0];
        if (ccc_n_uses(&s->u, v) != 1 || s->u.n_out[v]) return CCC_NONE;
        const ccc_node *c = &s->g->node[s->u.user[s->u.start[v]]];
        ccc_dtype d = (ccc_dtype)s->g->value[c->out[0]].type.dtype;
        if (c->op != CCC_OP_cast || c->group || (i && d != to)) return CCC_NONE;
        to = d;
    }
    return to;
}

static ccc_status join(siblings *s, ccc_err *err)
{
    ccc_graph *g = s->g;
    ccc_val w[CCC_MAX_IN], v, in[2];
    ccc_dtype to = common_cast(s);
    for (unsigned i = 0; i < s->n; i++) w[i] = g->node[s->sib[i]].in[1];
    in[0] = g->node[s->sib[0]].in[0];
    CCC_TRY(ccc_graph_add(g, &in[1], CCC_OP_concat, w, s->n, NULL, 0, NULL, NULL, err));
    CCC_TRY(ccc_graph_add(g, &v, CCC_OP_matmul, in, 2, NULL, 0, NULL, NULL, err));
    ccc_attr_arg cast = {"to", {.i = to}};
    if (to != CCC_NONE) CCC_TRY(ccc_graph_add(g, &v, CCC_OP_cast, &v, 1, &cast, 1, NULL, NULL, err));
    int64_t start = 0;
    for (unsigned i = 0; i < s->n; i++) {
        ccc_nid old = s->sib[i];
        if (to != CCC_NONE) s->dead[old] = true, old = s->u.user[s->u.start[g->node[old].out[0]]];
        s->dead[old] = true;
        ccc_val from = g->node[old].out[0], piece;
        int64_t size = ccc_type_last(&g->value[from].type);
        ccc_attr_arg at[2] = {{"start", {.i = start}}, {"size", {.i = size}}};
        CCC_TRY(ccc_graph_add(g, &piece, CCC_OP_slice, &v, 1, at, 2, NULL, NULL, err));
        g->value[piece].name = g->value[from].name; /* the old value goes */
        g->value[from].name = NULL;
        ccc_graph_replace(g, from, piece);
        start += size;
    }
    return CCC_OK;
}

ccc_status ccc_pass_merge_siblings(ccc_graph *g, ccc_pass_ctx *ctx, bool *progress, ccc_err *err)
{
    siblings s = {.g = g, .ctx = ctx};
    ccc_nid n_nodes = g->n_nodes;
    CCC_TRY(ccc_users_new(&s.u, g, ctx->scratch, err));
    /* a merge adds at most 3 nodes and one more for each sibling, of which there are at least 2 */
    s.dead = ccc_arena_alloc(ctx->scratch, (size_t)n_nodes * 4);
    if (!s.dead) return ccc_pass_nomem(err, "merge_siblings");
    for (ccc_nid i = 1; i < n_nodes; i++) {
        if (g->node[i].op != CCC_OP_matmul || s.dead[i]) continue;
        collect(&s, g->node[i].in[0], i);
        if (s.n < 2) continue;
        *progress = true;
        CCC_TRY(join(&s, err));
    }
    return *progress ? ccc_graph_compact(g, s.dead, err) : CCC_OK;
}
