/* Some kernels cannot write f32: attention and the rotation end in a rounding to bf16. Their anchor and that
 * cast are one kernel by necessity, not for speed, so this pass also runs where nothing else is fused (-O0).
 */
#include "fuse.h"

ccc_status ccc_pass_fuse_round(ccc_graph *g, ccc_pass_ctx *ctx, bool *progress, ccc_err *err)
{
    ccc_fuse f;
    ccc_region r;
    CCC_TRY(ccc_fuse_new(&f, g, ctx, "fuse_round", err));
    for (ccc_nid i = 1; i < g->n_nodes; i++) {
        ccc_status status = CCC_OK;
        if (g->node[i].group || ccc_op_hooks(g->node[i].op) != CCC_HOOKS_CAST) continue;
        ccc_region_start(&f, &r, i, g->node[i].out[0]);
        if (ccc_region_grow(&f, &r)) *progress = true, status = ccc_region_commit(&f, &r, 0, err);
        ccc_region_end(&f, &r);
        if (status != CCC_OK) return status;
    }
    return ccc_fuse_end(&f, *progress, err);
}
