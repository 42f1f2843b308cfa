/* Behind an anchor: the chain of elementwise nodes that read its result becomes the kernel's epilogue. Cast,
 * bias, scale, activation, residual add, a norm's weight: no case is special. The chain grows while it is
 * legal and one value leaves it; an operand that comes from elsewhere (a residual, a bias) is loaded by the
 * hook. */
#include "fuse.h"

ccc_status ccc_pass_fuse_epilogue(ccc_graph *g, ccc_pass_ctx *ctx, bool *progress, ccc_err *err)
{
    ccc_fuse f;
    ccc_region r;
    CCC_TRY(ccc_fuse_new(&f, g, ctx, "fuse_epilogue", err));
    for (ccc_nid i = 1; i < g->n_nodes; i++) {
        ccc_status status = CCC_OK;
        const ccc_node *n = &g->node[i];
        if (n->group || !(ccc_ops[n->op].flags & CCC_ANCHOR) || !ccc_is_unit_node(&f.u, i)) continue;
        ccc_region_start(&f, &r, i, n->out[0]);
        if (ccc_region_grow(&f, &r)) *progress = true, status = ccc_region_commit(&f, &r, 0, err);
        ccc_region_end(&f, &r);
        if (status != CCC_OK) return status;
    }
    return ccc_fuse_end(&f, *progress, err);
}
