/* Drops what nothing needs. Needed are the outputs and the writes to caches: a cache's last version has no
 * reader in this step, but the next step reads it. One sweep from the end suffices, because nodes are in
 * topological order. */
#include "fuse.h"

ccc_status ccc_pass_dce(ccc_graph *g, ccc_pass_ctx *ctx, bool *progress, ccc_err *err)
{
    bool *live = ccc_arena_alloc(ctx->scratch, g->n_nodes);
    bool *dead = ccc_arena_alloc(ctx->scratch, g->n_nodes);
    if (!live || !dead) return ccc_pass_nomem(err, "dce");
    for (uint32_t i = 0; i < g->n_out; i++) live[g->value[g->out[i].val].def] = true;
    for (ccc_nid i = g->n_nodes; i-- > 1;) {
        const ccc_node *n = &g->node[i];
        dead[i] = !live[i] && !(ccc_ops[n->op].flags & CCC_STATEFUL);
        if (dead[i]) *progress = true;
        for (unsigned j = 0; !dead[i] && j < n->n_in; j++) live[g->value[n->in[j]].def] = true;
    }
    return *progress ? ccc_graph_compact(g, dead, err) : CCC_OK;
}
