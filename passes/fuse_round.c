/* Some kernels round what they made to bf16: attention and the rotation. Their anchor and that
 * cast are one kernel by necessity, not for speed, so this pass also runs where nothing else is fused (-O0).
 */
#include "fuse.h"

static bool rounds(ccc_op op)
{
    ccc_hooks h = ccc_op_hooks(op);
    return h == CCC_HOOKS_CAST || h == CCC_HOOKS_ROUND;
}

ccc_status ccc_pass_fuse_round(ccc_graph *g, ccc_pass_ctx *ctx, bool *progress, ccc_err *err)
{
    ccc_fuse f;
    ccc_region r;
    CCC_TRY(ccc_fuse_new(&f, g, ctx, "fuse_round", err));
    for (ccc_nid i = 1; i < g->n_nodes; i++) {
        ccc_status status = CCC_OK;
        if (g->node[i].group || !rounds(g->node[i].op)) continue;
        ccc_region_start(&f, &r, i, g->node[i].out[0]);
        r.hooks = CCC_HOOKS_CAST;
        if (ccc_region_grow(&f, &r)) *progress = true, status = ccc_region_commit(&f, &r, 0, err);
        ccc_region_end(&f, &r);
        if (status != CCC_OK) return status;
    }
    return ccc_fuse_end(&f, *progress, err);
}
