/* Behind an anchor: the chain of elementwise nodes that read its result becomes the kernel's epilogue. Cast,
 * bias, scale, activation, residual add, a norm's weight: no case is special. The chain grows while it is
 * legal and one value leaves it; an operand that comes from elsewhere (a residual, a bias) is loaded by the
 * hook. Attention has a group by then, with its rounding and perhaps what stands in front of it: the chain
 * joins that. */
#include "fuse.h"

static ccc_status try_anchor(ccc_fuse *f, ccc_region *r, bool *progress, ccc_err *err)
{
    if (!ccc_region_add_group(f, r, r->anchor) || !ccc_region_grow(f, r)) return CCC_OK;
    *progress = true;
    return ccc_region_commit(f, r, f->g->node[r->anchor].group, err);
}

ccc_status ccc_pass_fuse_epilogue(ccc_graph *g, ccc_pass_ctx *ctx, bool *progress, ccc_err *err)
{
    ccc_fuse f;
    ccc_region r;
    CCC_TRY(ccc_fuse_new(&f, g, ctx, "fuse_epilogue", err));
    for (ccc_nid i = 1; i < g->n_nodes; i++) {
        const ccc_node *n = &g->node[i];
        if (n->group && ccc_op_hooks(n->op) != CCC_HOOKS_ROUND) continue;
        if (!(ccc_ops[n->op].flags & CCC_ANCHOR) || !ccc_is_unit_node(&f.u, i)) continue;
        ccc_region_start(&f, &r, i, n->out[0]);
        ccc_status status = try_anchor(&f, &r, progress, err);
        ccc_region_end(&f, &r);
        if (status != CCC_OK) return status;
    }
    return ccc_fuse_end(&f, *progress, err);
}
