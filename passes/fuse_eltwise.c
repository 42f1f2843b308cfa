/* What no anchor took: connected elementwise nodes become one kernel over rows and columns. A region starts
 * at the first such node, grows along users, then takes producers whose value only the region reads, and
 * again, until neither adds anything. */
#include "fuse.h"

static bool is_free(const ccc_fuse *f, ccc_nid n)
{
    return !f->g->node[n].group && (ccc_ops[f->g->node[n].op].flags & CCC_ELTWISE) &&
           ccc_is_unit_node(&f->u, n);
}

static bool only_region_reads(const ccc_fuse *f, ccc_nid n)
{
    return !ccc_value_open(&f->u, f->mark, f->g->node[n].out[0]);
}

static bool take_producers(ccc_fuse *f, ccc_region *r)
{
    unsigned start = r->n;
    for (unsigned i = 0; i < r->n; i++) {
        const ccc_node *n = &f->g->node[r->node[i]];
        for (unsigned j = 0; j < n->n_in; j++) {
            ccc_nid d = f->g->value[n->in[j]].def;
            if (f->mark[d] || !is_free(f, d) || !only_region_reads(f, d)) continue;
            const char *why = ccc_fuse_illegal(f, r, d);
            if (why) ccc_fuse_explain(f, d, why);
            else ccc_region_add(f, r, d);
        }
    }
    return r->n > start;
}

ccc_status ccc_pass_fuse_eltwise(ccc_graph *g, ccc_pass_ctx *ctx, bool *progress, ccc_err *err)
{
    ccc_fuse f;
    ccc_region r;
    CCC_TRY(ccc_fuse_new(&f, g, ctx, "fuse_eltwise", err));
    for (ccc_nid i = 1; i < g->n_nodes; i++) {
        ccc_status status = CCC_OK;
        if (!is_free(&f, i)) continue;
        ccc_region_start(&f, &r, i, g->node[i].out[0]);
        bool grown;
        do {
            grown = ccc_region_grow(&f, &r);
            grown = take_producers(&f, &r) || grown;
        } while (grown);
        if (r.n > 1) *progress = true, status = ccc_region_commit(&f, &r, 0, err);
        ccc_region_end(&f, &r);
        if (status != CCC_OK) return status;
    }
    return ccc_fuse_end(&f, *progress, err);
}
