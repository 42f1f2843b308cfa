/* gate and up are the two halves of one matmul (merge_siblings): y[t][n] = tree(acc[n], acc[n + N/2]), and a
 * kernel that computes both columns together never writes the wide result. Any elementwise tree over the
 * halves is legal that ends in one value; what stands between matmul and the halves (a cast, a bias) is
 * executed for both. */
#include "fuse.h"

/* Adds the full-width chain behind the matmul. Returns its last value, which nobody but slices may read. */
static ccc_val full_width(ccc_fuse *f, ccc_region *r)
{
    ccc_val v = f->g->node[r->anchor].out[0];
    while (ccc_n_uses(&f->u, v) == 1 && !f->u.n_out[v]) {
        ccc_nid user = f->u.user[f->u.start[v]];
        if (ccc_fuse_illegal(f, r, user) || !ccc_region_add(f, r, user)) break;
        v = f->g->node[user].out[0];
    }
    return v;
}

/* The two slices that read v: exactly its two halves, lower first. */
static bool find_halves(const ccc_fuse *f, ccc_val v, ccc_nid half[2])
{
    int64_t last = ccc_type_last(&f->g->value[v].type);
    if (ccc_n_uses(&f->u, v) != 2 || f->u.n_out[v] || last < 2 || last % 2) return false;
    half[0] = half[1] = 0;
    for (unsigned i = 0; i < 2; i++) {
        ccc_nid n = f->u.user[f->u.start[v] + i];
        const ccc_node *s = &f->g->node[n];
        if (s->op != CCC_OP_slice || s->group || ccc_attr_int(s, "size") != last / 2) return false;
        int64_t start = ccc_attr_int(s, "start");
        if (start != 0 && start != last / 2) return false;
        half[start != 0] = n;
    }
    return half[0] && half[1];
}

static ccc_status try_matmul(ccc_fuse *f, ccc_region *r, bool *progress, ccc_err *err)
{
    ccc_nid half[2];
    if (!find_halves(f, full_width(f, r), half)) return CCC_OK; /* not a candidate */
    const ccc_type *t = &f->g->value[f->g->node[half[0]].out[0]].type;
    if (!f->ctx->caps.pair_epilogue) {
        ccc_fuse_explain(f, r->anchor, "the target's matmul cannot combine two halves (pair_epilogue)");
        return CCC_OK;
    }
    if (t->rank != 2 || !ccc_region_add(f, r, half[0]) || !ccc_region_add(f, r, half[1])) return CCC_OK;
    r->rows = t->dim[0];
    r->cols = t->dim[1];
    if (!ccc_region_grow(f, r)) {
        ccc_fuse_explain(f, r->anchor,
                         "the two halves are not combined into one value by elementwise nodes alone");
        return CCC_OK;
    }
    *progress = true;
    return ccc_region_commit(f, r, 0, err);
}

ccc_status ccc_pass_fuse_act_mul(ccc_graph *g, ccc_pass_ctx *ctx, bool *progress, ccc_err *err)
{
    ccc_fuse f;
    ccc_region r;
    CCC_TRY(ccc_fuse_new(&f, g, ctx, "fuse_act_mul", err));
    for (ccc_nid i = 1; i < g->n_nodes; i++) {
        if (g->node[i].op != CCC_OP_matmul || g->node[i].group || !ccc_is_unit_node(&f.u, i)) continue;
        ccc_region_start(&f, &r, i, g->node[i].out[0]);
        ccc_status status = try_matmul(&f, &r, progress, err);
        ccc_region_end(&f, &r);
        if (status != CCC_OK) return status;
    }
    return ccc_fuse_end(&f, *progress, err);
}
