/* In front of a norm, and a norm in front of a matmul.
 * First: elementwise producers of a norm's input join the norm. A value of theirs that is used elsewhere too
 * (the residual stream) becomes a second result of the kernel. Then: at few tokens a matmul can afford to
 * compute the norm of its rows again in every block, which saves a kernel, where the target says that its
 * weight is short enough for that. The norm's result must have no other reader. */
#include "fuse.h"

/* all users of v inside the region are the norm, or nodes of its input chain (the first n_in ones) */
static bool read_before_norm_only(const ccc_fuse *f, const ccc_region *r, ccc_nid norm, ccc_val v,
                                  unsigned first_in)
{
    for (uint32_t k = f->u.start[v]; k < f->u.start[v + 1]; k++) {
        ccc_nid user = f->u.user[k];
        bool before = user == norm || !f->mark[user];
        for (unsigned i = first_in; i < r->n; i++) before = before || r->node[i] == user;
        if (!before) return false;
    }
    return true;
}

static unsigned count_stores(const ccc_fuse *f, const ccc_region *r, unsigned first_in)
{
    unsigned n = 0;
    for (unsigned i = first_in; i < r->n; i++)
        n += ccc_value_open(&f->u, f->mark, f->g->node[r->node[i]].out[0]);
    return n;
}

/* May node n join the input chain of the norm? */
static const char *illegal_producer(ccc_fuse *f, ccc_region *r, ccc_nid norm, ccc_nid n, unsigned first_in)
{
    ccc_val v = f->g->node[n].out[0];
    if (!read_before_norm_only(f, r, norm, v, first_in)) return "its value is also read behind the norm";
    f->mark[n] = 1;
    r->n_stores = count_stores(f, r, first_in) + ccc_value_open(&f->u, f->mark, v);
    f->mark[n] = 0;
    return ccc_fuse_illegal(f, r, n);
}

static void add_group(ccc_fuse *f, ccc_region *r, ccc_nid n)
{
    for (ccc_nid m = f->next[n]; m != n; m = f->next[m])
        if (!ccc_region_add(f, r, m)) return;
}

static ccc_status producers_of_norm(ccc_fuse *f, ccc_nid norm, bool *progress, ccc_err *err)
{
    ccc_region r;
    uint32_t group = f->g->node[norm].group;
    if (group && ccc_group_anchor(f->g, group) != norm) return CCC_OK; /* a matmul has it already */
    ccc_region_start(f, &r, norm, f->g->node[norm].in[0]);
    add_group(f, &r, norm);
    unsigned first_in = r.n;
    for (unsigned i = first_in - 1; i < r.n; i++) {
        const ccc_node *n = &f->g->node[i < first_in ? norm : r.node[i]];
        for (unsigned j = 0; j < n->n_in; j++) {
            ccc_nid d = f->g->value[n->in[j]].def;
            const ccc_node *p = &f->g->node[d];
            if (f->mark[d] || f->u.weight[n->in[j]] || !(ccc_ops[p->op].flags & CCC_ELTWISE)) continue;
            const char *why = illegal_producer(f, &r, norm, d, first_in);
            if (why) ccc_fuse_explain(f, d, why);
            else ccc_region_add(f, &r, d);
        }
    }
    ccc_status status = CCC_OK;
    if (r.n > first_in) {
        *progress = true;
        status = ccc_region_commit(f, &r, group, err);
    }
    ccc_region_end(f, &r);
    return status;
}

/* The norm whose chain ends in `v`: in a group that v alone leaves, or alone itself. 0: there is none, *why
 * says so if there almost is. */
static ccc_nid norm_before(const ccc_fuse *f, ccc_val v, ccc_nid matmul, const char **why)
{
    ccc_nid d = f->g->value[v].def, m = d, norm = 0;
    do {
        if (f->g->node[m].op == CCC_OP_rms_norm) norm = m;
        else if (!(ccc_ops[f->g->node[m].op].flags & CCC_ELTWISE))
            return 0; /* a group around something larger */
        m = f->next[m];
    } while (m != d);
    if (!norm) return 0;
    for (uint32_t k = f->u.start[v]; k < f->u.start[v + 1]; k++)
        if (f->u.user[k] != matmul) *why = "the norm's result has other users than this matmul";
    if (f->u.n_out[v]) *why = "the norm's result is an output";
    return norm;
}

static ccc_status norm_of_matmul(ccc_fuse *f, ccc_nid matmul, bool *progress, ccc_err *err)
{
    const ccc_node *n = &f->g->node[matmul];
    const char *why = NULL;
    ccc_nid norm = norm_before(f, n->in[0], matmul, &why);
    if (!norm) return CCC_OK;
    ccc_region r;
    ccc_region_start(f, &r, norm, n->in[0]);
    add_group(f, &r, norm);
    unsigned open = ccc_region_open(f, &r); /* also what the matmul's own epilogue reads */
    ccc_region_add(f, &r, matmul);
    add_group(f, &r, matmul);
    int64_t max_N = f->ctx->caps.prologue_max_N;
    if (f->ctx->caps.prologue_max_T < ccc_dim_max(f->g, f->g->value[n->in[0]].type.dim[0]))
        why = "the norm stays apart at this many rows (prologue_max_T)";
    else if (max_N && max_N < ccc_dim_max(f->g, f->g->value[n->in[1]].type.dim[0]))
        why = "the norm stays apart from a weight of this many rows (prologue_max_N)";
    else if (r.n >= CCC_REGION_MAX) why = "the group is full";
    else if (!why && open > 1) why = "the norm's input chain has a second result";
    if (!why) why = ccc_fuse_illegal_set(f, r.node, r.n, 0);
    ccc_status status = CCC_OK;
    if (why) ccc_fuse_explain_always(f, norm, why);
    else *progress = true, status = ccc_region_commit(f, &r, n->group, err);
    ccc_region_end(f, &r);
    return status;
}

ccc_status ccc_pass_fuse_prologue(ccc_graph *g, ccc_pass_ctx *ctx, bool *progress, ccc_err *err)
{
    ccc_fuse f;
    CCC_TRY(ccc_fuse_new(&f, g, ctx, "fuse_prologue", err));
    for (ccc_nid i = 1; i < g->n_nodes; i++)
        if (g->node[i].op == CCC_OP_rms_norm && ccc_is_unit_node(&f.u, i))
            CCC_TRY(producers_of_norm(&f, i, progress, err));
    for (ccc_nid i = 1; i < g->n_nodes; i++)
        if (g->node[i].op == CCC_OP_matmul && ccc_is_unit_node(&f.u, i))
            CCC_TRY(norm_of_matmul(&f, i, progress, err));
    return ccc_fuse_end(&f, *progress, err);
}
