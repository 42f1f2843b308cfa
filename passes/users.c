/* Who uses a value: one array of node ids for the whole graph, cut into a piece for each value. Made in two
 * sweeps (count, fill); a pass that changes the graph makes it anew, so that it can never be stale. */
#include "fuse.h"

#include <string.h>

static void fill(ccc_users *u)
{
    const ccc_graph *g = u->g;
    for (ccc_nid i = 1; i < g->n_nodes; i++)
        for (unsigned j = 0; j < g->node[i].n_in; j++) u->start[g->node[i].in[j] + 1]++;
    for (uint32_t v = 1; v <= g->n_values; v++) u->start[v] += u->start[v - 1];
    for (ccc_nid i = g->n_nodes;
         i-- > 1;) /* backwards: start[v + 1] counts down to where the next value's begin */
        for (unsigned j = 0; j < g->node[i].n_in; j++) u->user[--u->start[g->node[i].in[j] + 1]] = i;
    memmove(u->start, u->start + 1, g->n_values * sizeof *u->start);
    uint32_t total = 0;
    for (ccc_nid i = 1; i < g->n_nodes; i++) total += g->node[i].n_in;
    u->start[g->n_values] = total;
}

static void mark_weights(ccc_users *u)
{
    const ccc_graph *g = u->g;
    for (ccc_nid i = 1; i < g->n_nodes; i++) {
        const ccc_node *n = &g->node[i];
        bool weight = ccc_is_weighty(g, n);
        for (unsigned j = 0; j < n->n_in; j++) weight = weight && u->weight[n->in[j]];
        for (unsigned j = 0; j < n->n_out; j++) u->weight[n->out[j]] = weight;
    }
}

ccc_status ccc_users_new(ccc_users *u, const ccc_graph *g, ccc_arena *mem, ccc_err *err)
{
    size_t total = 0;
    for (ccc_nid i = 1; i < g->n_nodes; i++) total += g->node[i].n_in;
    *u = (ccc_users){.g = g};
    u->start = ccc_arena_alloc(mem, (g->n_values + 2) * sizeof *u->start);
    u->user = ccc_arena_alloc(mem, (total + 1) * sizeof *u->user);
    u->n_out = ccc_arena_alloc(mem, (g->n_values + 1) * sizeof *u->n_out);
    u->writer = ccc_arena_alloc(mem, (g->n_values + 1) * sizeof *u->writer);
    u->weight = ccc_arena_alloc(mem, (g->n_values + 1) * sizeof *u->weight);
    if (!u->start || !u->user || !u->n_out || !u->writer || !u->weight)
        return ccc_fail(err, CCC_E_NOMEM, "out of memory for the uses of %u values", g->n_values);
    fill(u);
    mark_weights(u);
    for (uint32_t i = 0; i < g->n_out; i++) u->n_out[g->out[i].val]++;
    for (ccc_nid i = 1; i < g->n_nodes; i++)
        if (ccc_ops[g->node[i].op].flags & CCC_STATEFUL) u->writer[g->node[i].in[0]] = i;
    return CCC_OK;
}

bool ccc_value_open(const ccc_users *u, const uint8_t *mark, ccc_val v)
{
    const ccc_value *val = &u->g->value[v];
    if (u->n_out[v]) return true;
    if ((ccc_ops[u->g->node[val->def].op].flags & CCC_STATEFUL) && !u->writer[v]) return true;
    for (uint32_t i = u->start[v]; i < u->start[v + 1]; i++)
        if (!mark[u->user[i]]) return true;
    return false;
}

bool ccc_is_unit_node(const ccc_users *u, ccc_nid n)
{
    const ccc_node *node = &u->g->node[n];
    if (ccc_ops[node->op].flags & (CCC_LEAF | CCC_VIEW)) return false;
    return !u->weight[node->out[0]];
}

bool ccc_is_immediate(const ccc_graph *g, ccc_val v)
{
    return ccc_def(g, v)->op == CCC_OP_constant;
}
