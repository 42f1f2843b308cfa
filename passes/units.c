/* The units of a graph (groups, and nodes alone) in an order in which they can run. Each is placed behind
 * what it reads and, where it overwrites a cache, behind the readers of the version before; as far as that
 * leaves a choice, in the order of their first nodes, so that a graph has one order. */
#include "fuse.h"

#include <string.h>

typedef struct {
    const ccc_users *u;
    ccc_units *out;
    uint32_t *unit_of; /* by node: 1 + its unit, 0: runs nowhere */
    uint8_t *state;    /* by unit: 0 waiting, 1 entered, 2 placed */
    uint32_t *stack, n_order;
} lister;

/* Units get numbers in the order of their first nodes. */
static void number_units(lister *l, uint32_t *unit_of_group)
{
    const ccc_graph *g = l->u->g;
    for (ccc_nid i = 1; i < g->n_nodes; i++) {
        uint32_t group = g->node[i].group;
        if (!group && !ccc_is_unit_node(l->u, i)) continue;
        if (!group || !unit_of_group[group]) l->unit_of[i] = ++l->out->n;
        if (group && !unit_of_group[group]) unit_of_group[group] = l->out->n;
        if (group) l->unit_of[i] = unit_of_group[group];
        l->out->first[l->unit_of[i]]++; /* counted one place higher: first[u] of unit u - 1 */
    }
    for (uint32_t u = 1; u <= l->out->n; u++) l->out->first[u] += l->out->first[u - 1];
    for (ccc_nid i = g->n_nodes; i-- > 1;)
        if (l->unit_of[i]) l->out->member[--l->out->first[l->unit_of[i]]] = i;
    uint32_t total = 0;
    for (ccc_nid i = 1; i < g->n_nodes; i++) total += l->unit_of[i] != 0;
    memmove(l->out->first, l->out->first + 1, l->out->n * sizeof *l->out->first);
    l->out->first[l->out->n] = total;
}

/* A unit that makes `v` and is not placed, looking through views; -1: none. `self` does not count. */
static int64_t waiting_maker(const lister *l, ccc_val v, uint32_t self)
{
    const ccc_graph *g = l->u->g;
    ccc_nid d = g->value[v].def;
    while (!l->unit_of[d] && (ccc_ops[g->node[d].op].flags & CCC_VIEW)) d = g->value[g->node[d].in[0]].def;
    if (!l->unit_of[d] || l->unit_of[d] - 1 == self || l->state[l->unit_of[d] - 1] == 2) return -1;
    return l->unit_of[d] - 1;
}

/* a unit that must run before node n of unit `self` and is not placed; -1: none */
static int64_t waiting_for(const lister *l, ccc_nid n, uint32_t self)
{
    const ccc_graph *g = l->u->g;
    const ccc_node *node = &g->node[n];
    for (unsigned i = 0; i < node->n_in; i++) {
        int64_t u = waiting_maker(l, node->in[i], self);
        if (u >= 0) return u;
    }
    if (!(ccc_ops[node->op].flags & CCC_STATEFUL)) return -1;
    const ccc_users *u = l->u;
    for (uint32_t k = u->start[node->in[0]]; k < u->start[node->in[0] + 1];
         k++) { /* readers of the version that it overwrites */
        uint32_t unit = l->unit_of[u->user[k]];
        if (unit && unit - 1 != self && l->state[unit - 1] != 2) return unit - 1;
    }
    return -1;
}

static ccc_status place_unit(lister *l, uint32_t root, ccc_err *err)
{
    uint32_t depth = 0;
    l->stack[depth++] = root;
    l->state[root] = 1;
    while (depth) {
        uint32_t u = l->stack[depth - 1];
        int64_t missing = -1;
        for (uint32_t i = l->out->first[u]; i < l->out->first[u + 1] && missing < 0; i++)
            missing = waiting_for(l, l->out->member[i], u);
        if (missing >= 0 && l->state[missing] == 1) {
            ccc_nid n = l->out->member[l->out->first[u]];
            return ccc_fail(err, CCC_E_TYPE,
                            "group %u cannot run as one unit: a path leaves it and comes back",
                            l->u->g->node[n].group);
        }
        if (missing >= 0) {
            l->state[missing] = 1;
            l->stack[depth++] = (uint32_t)missing;
        } else {
            l->state[u] = 2;
            l->out->order[l->n_order++] = u;
            depth--;
        }
    }
    return CCC_OK;
}

ccc_status ccc_units_order(ccc_units *out, const ccc_users *u, ccc_arena *mem, ccc_err *err)
{
    const ccc_graph *g = u->g;
    size_t n = (size_t)g->n_nodes + 2;
    *out = (ccc_units){.member = ccc_arena_alloc(mem, n * sizeof *out->member),
                       .first = ccc_arena_alloc(mem, n * sizeof *out->first),
                       .order = ccc_arena_alloc(mem, n * sizeof *out->order)};
    lister l = {.u = u,
                .out = out,
                .unit_of = ccc_arena_alloc(mem, n * sizeof *l.unit_of),
                .state = ccc_arena_alloc(mem, n),
                .stack = ccc_arena_alloc(mem, n * sizeof *l.stack)};
    uint32_t *unit_of_group = ccc_arena_alloc(mem, g->n_groups * sizeof *unit_of_group);
    if (!out->member || !out->first || !out->order || !l.unit_of || !l.state || !l.stack || !unit_of_group)
        return ccc_fail(err, CCC_E_NOMEM, "out of memory for the order of a graph");
    number_units(&l, unit_of_group);
    for (uint32_t i = 0; i < out->n; i++)
        if (l.state[i] == 0) CCC_TRY(place_unit(&l, i, err));
    return CCC_OK;
}
