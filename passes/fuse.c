/* A region: the nodes of a group while it is being found. It grows along elementwise users; what it may take
 * is legal.c's business. Growing is greedy but exact about results: a value with two users (x * sigmoid(x))
 * first opens a second way out of the region and then closes it again, so growing goes on for some steps past
 * the last set that exactly one value leaves, and is cut back to it. */
#include "fuse.h"

#include <string.h>

enum { LOOK_AHEAD = 12 }; /* steps without a single way out before growing gives up */

static void link_groups(ccc_fuse *f)
{
    const ccc_graph *g = f->g;
    for (ccc_nid i = 0; i < g->n_nodes; i++) f->next[i] = f->far[i] = i;
    ccc_nid *first = f->stack; /* borrowed: by group, its first member */
    memset(first, 0, g->n_groups * sizeof *first);
    for (ccc_nid i = 1; i < g->n_nodes; i++) {
        uint32_t group = g->node[i].group;
        if (!group) continue;
        if (!first[group]) first[group] = i;
        ccc_nid tail = f->next[first[group]];
        if (i != first[group]) f->next[i] = tail, f->next[first[group]] = i;
        if (f->far[first[group]] < i) f->far[first[group]] = i;
    }
    for (ccc_nid i = 2; i < g->n_nodes; i++)
        if (f->far[i] < f->far[i - 1]) f->far[i] = f->far[i - 1];
}

ccc_status ccc_fuse_new(ccc_fuse *f, ccc_graph *g, ccc_pass_ctx *ctx, const char *pass, ccc_err *err)
{
    *f = (ccc_fuse){.g = g, .ctx = ctx, .pass = pass};
    CCC_TRY(ccc_users_new(&f->u, g, ctx->scratch, err));
    size_t n = (size_t)g->n_nodes + g->n_groups + 1;
    f->mark = ccc_arena_alloc(ctx->scratch, n);
    f->refused = ccc_arena_alloc(ctx->scratch, n);
    f->reason = ccc_arena_alloc(ctx->scratch, n * sizeof *f->reason);
    f->always = ccc_arena_alloc(ctx->scratch, n * sizeof *f->always);
    f->next = ccc_arena_alloc(ctx->scratch, n * sizeof *f->next);
    f->far = ccc_arena_alloc(ctx->scratch, n * sizeof *f->far);
    f->seen = ccc_arena_alloc(ctx->scratch, n * sizeof *f->seen);
    f->stack = ccc_arena_alloc(ctx->scratch, n * sizeof *f->stack);
    if (!f->mark || !f->refused || !f->reason || !f->always || !f->next || !f->far || !f->seen || !f->stack)
        return ccc_pass_nomem(err, pass);
    link_groups(f);
    return CCC_OK;
}

void ccc_region_start(ccc_fuse *f, ccc_region *r, ccc_nid anchor, ccc_val domain)
{
    const ccc_type *t = &f->g->value[domain].type;
    r->n = 0;
    r->n_stores = 0;
    r->anchor = anchor;
    r->hooks = ccc_op_hooks(f->g->node[anchor].op);
    r->rows = t->rank == 2 ? t->dim[0] : ccc_dim_const(-1); /* other ranks: nothing has these rows */
    r->cols = t->rank == 2 ? t->dim[1] : ccc_dim_const(-1);
    ccc_region_add(f, r, anchor);
}

bool ccc_region_add(ccc_fuse *f, ccc_region *r, ccc_nid n)
{
    if (r->n == CCC_REGION_MAX) return false;
    f->mark[n] = 1;
    r->node[r->n++] = n;
    return true;
}

bool ccc_region_add_group(ccc_fuse *f, ccc_region *r, ccc_nid n)
{
    ccc_nid m = n;
    do {
        if (!f->mark[m] && !ccc_region_add(f, r, m)) return false;
        m = f->next[m];
    } while (m != n);
    return true;
}

void ccc_region_truncate(ccc_fuse *f, ccc_region *r, unsigned n)
{
    while (r->n > n) f->mark[r->node[--r->n]] = 0;
}

void ccc_region_end(ccc_fuse *f, ccc_region *r)
{
    ccc_region_truncate(f, r, 0);
}

unsigned ccc_region_open(const ccc_fuse *f, const ccc_region *r)
{
    unsigned open = 0;
    for (unsigned i = 0; i < r->n; i++) {
        const ccc_node *n = &f->g->node[r->node[i]];
        if (ccc_ops[n->op].flags & CCC_STATEFUL) continue;
        for (unsigned j = 0; j < n->n_out; j++) open += ccc_value_open(&f->u, f->mark, n->out[j]);
    }
    return open;
}

const char ccc_no_hooks[] = "the kernel of the anchor has no hooks";

void ccc_explain_line(ccc_buf *out, const ccc_graph *g, const char *pass, ccc_nid n, const char *reason)
{
    if (!out) return;
    ccc_val v = g->node[n].out[0];
    const char *name = g->value[v].name, *op = ccc_ops[g->node[n].op].name;
    if (name) ccc_buf_printf(out, "%s: %%%s (%s): %s\n", pass, name, op, reason);
    else ccc_buf_printf(out, "%s: %%%u (%s): %s\n", pass, v, op, reason);
}

void ccc_fuse_explain(ccc_fuse *f, ccc_nid n, const char *reason)
{
    if (!f->reason[n] || reason != ccc_no_hooks) f->reason[n] = reason; /* any other reason says more */
}

void ccc_fuse_explain_always(ccc_fuse *f, ccc_nid n, const char *reason)
{
    f->reason[n] = reason;
    f->always[n] = true;
}

ccc_status ccc_fuse_end(ccc_fuse *f, bool progress, ccc_err *err)
{
    for (ccc_nid n = 1; n < f->g->n_nodes; n++)
        if (f->reason[n] && (f->always[n] || !f->g->node[n].group))
            ccc_explain_line(f->ctx->explain, f->g, f->pass, n, f->reason[n]);
    return progress ? ccc_graph_compact(f->g, NULL, err) : CCC_OK;
}

/* the lowest elementwise user of the region that has not been refused; 0: none */
static ccc_nid candidate(const ccc_fuse *f, const ccc_region *r)
{
    ccc_nid best = 0;
    for (unsigned i = 0; i < r->n; i++) {
        ccc_val v = f->g->node[r->node[i]].out[0];
        for (uint32_t k = f->u.start[v]; k < f->u.start[v + 1]; k++) {
            ccc_nid n = f->u.user[k];
            if (f->mark[n] || f->refused[n] || !(ccc_ops[f->g->node[n].op].flags & CCC_ELTWISE)) continue;
            if (!best || n < best) best = n;
        }
    }
    return best;
}

bool ccc_region_grow(ccc_fuse *f, ccc_region *r)
{
    unsigned start = r->n, keep = r->n, n_refused = 0;
    ccc_nid refused[CCC_REGION_MAX], n;
    while (r->n - keep < LOOK_AHEAD && n_refused < CCC_REGION_MAX && (n = candidate(f, r))) {
        const char *why = ccc_fuse_illegal(f, r, n);
        if (why) {
            ccc_fuse_explain(f, n, why);
            f->refused[n] = 1;
            refused[n_refused++] = n;
            continue;
        }
        ccc_region_add(f, r, n);
        if (ccc_region_open(f, r) == 1) keep = r->n;
    }
    for (unsigned i = keep; i < r->n; i++)
        ccc_fuse_explain(f, r->node[i], "more than one value would leave the group");
    for (unsigned i = 0; i < n_refused; i++) f->refused[refused[i]] = 0;
    ccc_region_truncate(f, r, keep);
    return keep > start;
}

ccc_status ccc_region_commit(ccc_fuse *f, const ccc_region *r, uint32_t group, ccc_err *err)
{
    ccc_nid lo = r->node[0], hi = r->node[0];
    if (!group) group = ccc_graph_add_group(f->g, f->pass);
    if (!group) return ccc_pass_nomem(err, f->pass);
    for (unsigned i = 0; i < r->n; i++) {
        f->g->node[r->node[i]].group = group;
        f->next[r->node[i]] = r->node[(i + 1) % r->n];
        lo = r->node[i] < lo ? r->node[i] : lo;
        hi = r->node[i] > hi ? r->node[i] : hi;
    }
    for (ccc_nid i = lo; i < hi; i++)
        if (f->far[i] < hi) f->far[i] = hi;
    return CCC_OK;
}
