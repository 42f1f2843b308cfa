/* See rewrite.h: a table of replacements, applied to operands on the way and to outputs at the end. */
#include "rewrite.h"
#include "fuse.h"

ccc_status ccc_rewrite_start(ccc_rewrite *w, ccc_graph *g, ccc_arena *mem, ccc_err *err)
{
    *w = (ccc_rewrite){.g = g, .mem = mem, .n_values = g->n_values, .n_nodes = g->n_nodes};
    w->to = ccc_arena_alloc(mem, (g->n_values + 1) * sizeof *w->to);
    w->dead = ccc_arena_alloc(mem, (size_t)g->n_nodes + 1);
    if (!w->to || !w->dead)
        return ccc_fail(err, CCC_E_NOMEM, "out of memory for a pass over %u values", g->n_values);
    for (ccc_val v = 0; v < g->n_values; v++) w->to[v] = v;
    return CCC_OK;
}

static ccc_val look_up(const ccc_rewrite *w, ccc_val v)
{
    return v < w->n_values ? w->to[v] : v;
}

ccc_node *ccc_rewrite_node(ccc_rewrite *w, ccc_nid nid)
{
    ccc_node *n = &w->g->node[nid];
    for (unsigned i = 0; i < n->n_in; i++) n->in[i] = look_up(w, n->in[i]);
    return n;
}

void ccc_rewrite_value(ccc_rewrite *w, ccc_val from, ccc_val to)
{
    w->to[from] = to;
    w->dead[w->g->value[from].def] = true;
    w->progress = true;
}

ccc_status ccc_rewrite_end(ccc_rewrite *w, bool *progress, ccc_err *err)
{
    if (!w->progress) return CCC_OK;
    ccc_graph *g = w->g;
    for (uint32_t i = 0; i < g->n_out; i++) g->out[i].val = look_up(w, g->out[i].val);
    bool *dead = ccc_arena_alloc(w->mem, (size_t)g->n_nodes + 1); /* more nodes than at the start */
    if (!dead) return ccc_fail(err, CCC_E_NOMEM, "out of memory for a pass over %u nodes", g->n_nodes);
    for (ccc_nid i = 1; i < w->n_nodes; i++) dead[i] = w->dead[i];
    *progress = true;
    return ccc_graph_compact(g, dead, err);
}
