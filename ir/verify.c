/* The verifier: every rule that a graph keeps, one message each. Rules of one node (operands defined before
 * it, types as its op infers them) are checked in one walk; then names, state and groups of the whole graph,
 * each in time linear in the graph. */
#include "internal.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

typedef struct {
    const ccc_graph *g;
    ccc_arena *mem;
    ccc_nid where;
    ccc_err *err;
} check;

/* "%h (matmul): message", and the node to blame */
__attribute__((format(printf, 3, 4))) static ccc_status blame(check *c, ccc_nid n, const char *fmt, ...)
{
    char name[CCC_TYPE_TEXT], msg[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    c->where = n;
    const ccc_node *node = &c->g->node[n];
    return ccc_fail(c->err, CCC_E_TYPE, "%s (%s): %s", ccc_value_text(c->g, node->out[0], name),
                    ccc_ops[node->op].name, msg);
}

/* ---- one node */

static ccc_status check_attrs(check *c, ccc_nid nid)
{
    const ccc_node *n = &c->g->node[nid];
    const ccc_op_info *op = &ccc_ops[n->op];
    for (unsigned i = 0; i < op->n_attr; i++) {
        if (op->attr[i].kind != CCC_ATTR_STR) continue;
        if (!n->attr[i].s) return blame(c, nid, "attribute %s has no text", op->attr[i].name);
        if (!ccc_is_printable(n->attr[i].s))
            return blame(c, nid, "attribute %s is not UTF-8 without control characters", op->attr[i].name);
    }
    return CCC_OK;
}

static ccc_status check_links(check *c, ccc_nid nid)
{
    const ccc_graph *g = c->g;
    const ccc_node *n = &g->node[nid];
    char name[CCC_TYPE_TEXT];
    if ((unsigned)n->op >= CCC_N_OPS) {
        c->where = nid;
        return ccc_fail(c->err, CCC_E_TYPE, "node %" PRIu32 " has an unknown op", nid);
    }
    if (n->n_out != ccc_ops[n->op].n_out || n->n_in > CCC_MAX_IN) {
        c->where = nid;
        return ccc_fail(c->err, CCC_E_TYPE,
                        "node %" PRIu32 " (%s) has the wrong number of results or operands", nid,
                        ccc_ops[n->op].name);
    }
    for (unsigned i = 0; i < n->n_out; i++) {
        ccc_val v = n->out[i];
        if (v == 0 || v >= g->n_values || g->value[v].def != nid || g->value[v].result != i) {
            c->where = nid;
            return ccc_fail(c->err, CCC_E_TYPE, "node %" PRIu32 " (%s): result %u is not its own", nid,
                            ccc_ops[n->op].name, i + 1);
        }
        if (g->value[v].name && !ccc_is_printable(g->value[v].name))
            return blame(c, nid, "its name is not UTF-8 without control characters");
    }
    for (unsigned i = 0; i < n->n_in; i++) {
        if (n->in[i] == 0 || n->in[i] >= g->n_values)
            return blame(c, nid, "operand %u names no value", i + 1);
        if (g->value[n->in[i]].def >= nid || g->value[n->in[i]].def == 0)
            return blame(c, nid, "operand %u (%s) is defined later: nodes are not in topological order",
                         i + 1, ccc_value_text(g, n->in[i], name));
    }
    if (n->group >= g->n_groups) return blame(c, nid, "group %" PRIu32 " is unknown", n->group);
    return CCC_OK;
}

static ccc_status check_types(check *c, ccc_nid nid)
{
    const ccc_graph *g = c->g;
    const ccc_node *n = &g->node[nid];
    char is[CCC_TYPE_TEXT], should[CCC_TYPE_TEXT];
    ccc_type out[CCC_MAX_OUT];
    ccc_err inner = {0};
    for (unsigned i = 0; i < n->n_out; i++) {
        out[i] = g->value[n->out[i]].type;
        if (out[i].rank > CCC_MAX_RANK)
            return blame(c, nid, "result %u has more than %d dims", i + 1, CCC_MAX_RANK);
    }
    ccc_status status = ccc_op_infer(g, n, out, &inner);
    size_t said = strlen(ccc_ops[n->op].name); /* "matmul: message": blame names the op */
    if (strncmp(inner.msg, ccc_ops[n->op].name, said) != 0 || inner.msg[said] != ':') said = 0;
    if (status != CCC_OK) return blame(c, nid, "%s", inner.msg + (said ? said + 2 : 0));
    for (unsigned i = 0; i < n->n_out; i++)
        if (!ccc_type_equal(&out[i], &g->value[n->out[i]].type))
            return blame(c, nid, "result %u is %s, and should be %s", i + 1,
                         ccc_type_text(g, &g->value[n->out[i]].type, is), ccc_type_text(g, &out[i], should));
    return CCC_OK;
}

/* ---- the whole graph: symbols, names */

static ccc_status check_head(check *c)
{
    const ccc_graph *g = c->g;
    if (g->n_sym > CCC_MAX_SYM) return ccc_fail(c->err, CCC_E_TYPE, "more than %d symbols", CCC_MAX_SYM);
    for (uint32_t i = 0; i < g->n_sym; i++) {
        const ccc_sym *s = &g->sym[i];
        if (!ccc_is_ident(s->name) || strlen(s->name) >= CCC_SYM_NAME)
            return ccc_fail(c->err, CCC_E_TYPE, "symbol %" PRIu32 " has no proper name", i);
        if (ccc_graph_find_sym(g, s->name) != (int)i)
            return ccc_fail(c->err, CCC_E_TYPE, "symbol %s is defined twice", s->name);
        if (s->min < 0 || s->max < s->min || s->max > INT32_MAX)
            return ccc_fail(c->err, CCC_E_TYPE,
                            "symbol %s: the range %" PRId64 "..%" PRId64
                            " must be inside 0..2147483647 and not empty",
                            s->name, s->min, s->max);
    }
    if (!ccc_is_printable(g->name))
        return ccc_fail(c->err, CCC_E_TYPE, "the graph's name is not UTF-8 without control characters");
    for (uint32_t i = 0; i < g->n_facts; i++)
        if (!ccc_is_printable(g->fact[i].key) || !ccc_is_printable(g->fact[i].value))
            return ccc_fail(c->err, CCC_E_TYPE, "fact %" PRIu32 " is not UTF-8 without control characters",
                            i);
    for (uint32_t i = 1; i < g->n_groups; i++)
        if (!ccc_is_printable(g->group[i].pass))
            return ccc_fail(c->err, CCC_E_TYPE, "group %" PRIu32 " is not UTF-8 without control characters",
                            i);
    return CCC_OK;
}

static ccc_status check_outputs(check *c)
{
    const ccc_graph *g = c->g;
    ccc_map names = {.mem = c->mem};
    for (uint32_t i = 0; i < g->n_out; i++) {
        const char *name = g->out[i].name;
        ccc_val v = g->out[i].val;
        if (!*name || !ccc_is_printable(name))
            return ccc_fail(c->err, CCC_E_TYPE, "output %" PRIu32 " has no proper name", i);
        if (v == 0 || v >= g->n_values)
            return ccc_fail(c->err, CCC_E_TYPE, "output '%.100s' names no value", name);
        if (g->value[v].type.layout != CCC_LAYOUT_ROW)
            return ccc_fail(c->err, CCC_E_TYPE, "output '%.100s' is a cache: caches are updated in place",
                            name);
        if (ccc_map_find(&names, name))
            return ccc_fail(c->err, CCC_E_TYPE, "two outputs have the name '%.100s'", name);
        if (!ccc_map_put(&names, name, i + 1)) return ccc_nomem(c->err);
    }
    return CCC_OK;
}

/* Inputs and weights are bound by name: one name, one tensor. The same weight may be named by several nodes
 * that agree. */
static ccc_status check_leaf(check *c, ccc_map *names, ccc_map *layers, ccc_nid nid)
{
    const ccc_node *n = &c->g->node[nid];
    if (n->op == CCC_OP_cache) {
        char *layer = ccc_arena_printf(c->mem, "%" PRId64, n->attr[0].i);
        if (!layer) return ccc_nomem(c->err);
        if (ccc_map_find(layers, layer)) return blame(c, nid, "layer %s has two caches", layer);
        return ccc_map_put(layers, layer, nid) ? CCC_OK : ccc_nomem(c->err);
    }
    int a = ccc_attr_find(n->op, "name");
    if (a < 0) return CCC_OK;
    ccc_nid other = ccc_map_find(names, n->attr[a].s);
    if (!other) return ccc_map_put(names, n->attr[a].s, nid) ? CCC_OK : ccc_nomem(c->err);
    const ccc_node *m = &c->g->node[other];
    bool same = m->op == n->op && ccc_type_equal(&c->g->value[m->out[0]].type, &c->g->value[n->out[0]].type);
    for (unsigned i = 0; same && i < ccc_ops[n->op].n_attr; i++)
        if (ccc_ops[n->op].attr[i].kind == CCC_ATTR_FLOAT) same = m->attr[i].f == n->attr[i].f;
    return same ? CCC_OK : blame(c, nid, "the name '%.100s' is taken by another tensor", n->attr[a].s);
}

/* ---- state: writer[v] is the node that makes the next version of the cache v */

static ccc_status check_state(check *c)
{
    const ccc_graph *g = c->g;
    char name[CCC_TYPE_TEXT];
    ccc_nid *writer = ccc_arena_alloc(c->mem, g->n_values * sizeof *writer);
    if (!writer) return ccc_nomem(c->err);
    for (ccc_nid n = 1; n < g->n_nodes; n++) {
        for (unsigned i = 0; i < g->node[n].n_in; i++) {
            ccc_val v = g->node[n].in[i];
            bool writes = i == 0 && ccc_ops[g->node[n].op].flags & CCC_STATEFUL;
            if (writes && writer[v])
                return blame(c, n, "%s is written a second time", ccc_value_text(g, v, name));
            if (writer[v])
                return blame(c, n, "%s is read after it was overwritten", ccc_value_text(g, v, name));
        }
        if (ccc_ops[g->node[n].op].flags & CCC_STATEFUL) writer[g->node[n].in[0]] = n;
    }
    return CCC_OK;
}

/* ---- groups */

static uint32_t root_of(uint32_t *parent, uint32_t i)
{
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
}

typedef struct {
    ccc_nid anchor, first;
    unsigned anchors, parts;
} group_info;

static void join(uint32_t *parent, group_info *in, ccc_nid a, ccc_nid b)
{
    if (root_of(parent, a) == root_of(parent, b)) return;
    parent[root_of(parent, a)] = root_of(parent, b);
    in->parts--;
}

/* Nodes of a group that read the same value are connected too: the rotations of q and k share a table. */
static ccc_status join_readers(check *c, uint32_t *parent, group_info *info)
{
    const ccc_graph *g = c->g;
    ccc_nid *next = ccc_arena_alloc(c->mem, g->n_nodes * sizeof *next),
            *head = ccc_arena_alloc(c->mem, g->n_groups * sizeof *head);
    ccc_nid *reader = ccc_arena_alloc(
        c->mem, g->n_values * sizeof *reader); /* by value: who read it last, while one group is looked at */
    if (!next || !head || !reader) return ccc_nomem(c->err);
    for (ccc_nid n = g->n_nodes; n-- > 1;) {
        next[n] = head[g->node[n].group];
        head[g->node[n].group] = n;
    }
    for (uint32_t i = 1; i < g->n_groups; i++) {
        for (ccc_nid n = head[i]; n; n = next[n]) {
            for (unsigned k = 0; k < g->node[n].n_in; k++) {
                ccc_nid *r = &reader[g->node[n].in[k]];
                if (*r && g->node[*r].group == i) join(parent, &info[i], *r, n);
                *r = n;
            }
        }
    }
    return CCC_OK;
}

/* One kernel a group: its nodes are connected by values, only ops that a kernel can hold are in it, and the
 * op with the largest rank is there once, unless all are elementwise. */
static ccc_status check_members(check *c)
{
    const ccc_graph *g = c->g;
    uint32_t *parent = ccc_arena_alloc(c->mem, g->n_nodes * sizeof *parent);
    group_info *info = ccc_arena_alloc(c->mem, g->n_groups * sizeof *info);
    if (!parent || !info) return ccc_nomem(c->err);
    for (ccc_nid n = 1; n < g->n_nodes; n++) {
        const ccc_node *node = &g->node[n];
        group_info *in = &info[node->group];
        parent[n] = n;
        if (!node->group) continue;
        if (!(ccc_ops[node->op].flags & (CCC_ANCHOR | CCC_ELTWISE | CCC_VIEW)))
            return blame(c, n, "is in group %" PRIu32 ", and cannot be a part of a kernel", node->group);
        in->parts++;
        if (!in->first) in->first = n;
        if (!in->anchor || ccc_ops[node->op].rank > ccc_ops[g->node[in->anchor].op].rank)
            in->anchor = n, in->anchors = 0;
        if (ccc_ops[node->op].rank == ccc_ops[g->node[in->anchor].op].rank) in->anchors++;
        for (unsigned i = 0; i < node->n_in; i++) {
            ccc_nid d = g->value[node->in[i]].def;
            if (g->node[d].group == node->group) join(parent, in, d, n);
        }
    }
    CCC_TRY(join_readers(c, parent, info));
    for (uint32_t i = 1; i < g->n_groups; i++) {
        if (!info[i].first) return ccc_fail(c->err, CCC_E_TYPE, "group %" PRIu32 " is empty", i);
        if (info[i].parts > 1) return blame(c, info[i].first, "group %" PRIu32 " is not connected", i);
        if (info[i].anchors > 1 && ccc_ops[g->node[info[i].anchor].op].flags & CCC_ANCHOR)
            return blame(c, info[i].anchor, "group %" PRIu32 " has more than one anchor", i);
    }
    return CCC_OK;
}

/* The graph with each group as one vertex has no cycle: else no order of kernels exists. Vertices are groups
 * (1..n_groups-1) and single nodes behind them; vertices without waiting operands are taken until none is
 * left. */
typedef struct {
    uint32_t *waiting, *head, *next, *to, n_edges;
} contraction;

static uint32_t vertex(const ccc_graph *g, ccc_nid n)
{
    return g->node[n].group ? g->node[n].group : g->n_groups + n;
}

static void add_edge(contraction *k, uint32_t from, uint32_t to)
{
    if (from == to) return;
    uint32_t e = ++k->n_edges;
    k->to[e] = to;
    k->next[e] = k->head[from];
    k->head[from] = e;
    k->waiting[to]++;
}

static ccc_status check_convex(check *c)
{
    const ccc_graph *g = c->g;
    size_t n_vertices = (size_t)g->n_groups + g->n_nodes, n_edges = 1;
    for (ccc_nid n = 1; n < g->n_nodes; n++)
        n_edges += 2 * (size_t)g->node[n].n_in; /* each operand, and each read before a write */
    contraction k = {.waiting = ccc_arena_alloc(c->mem, n_vertices * 4),
                     .head = ccc_arena_alloc(c->mem, n_vertices * 4),
                     .next = ccc_arena_alloc(c->mem, n_edges * 4),
                     .to = ccc_arena_alloc(c->mem, n_edges * 4)};
    uint32_t *todo = ccc_arena_alloc(c->mem, n_vertices * 4), n_todo = 0, done = 0;
    ccc_nid *writer = ccc_arena_alloc(c->mem, g->n_values * sizeof *writer);
    if (!k.waiting || !k.head || !k.next || !k.to || !todo || !writer) return ccc_nomem(c->err);
    for (ccc_nid n = 1; n < g->n_nodes; n++)
        if (ccc_ops[g->node[n].op].flags & CCC_STATEFUL) writer[g->node[n].in[0]] = n;
    for (ccc_nid n = 1; n < g->n_nodes; n++) {
        for (unsigned i = 0; i < g->node[n].n_in; i++) {
            add_edge(&k, vertex(g, g->value[g->node[n].in[i]].def), vertex(g, n));
            if (writer[g->node[n].in[i]]) add_edge(&k, vertex(g, n), vertex(g, writer[g->node[n].in[i]]));
        }
    }
    for (uint32_t v = 1; v < n_vertices; v++)
        if (!k.waiting[v]) todo[n_todo++] = v;
    while (done < n_todo)
        for (uint32_t e = k.head[todo[done++]]; e; e = k.next[e])
            if (--k.waiting[k.to[e]] == 0) todo[n_todo++] = k.to[e];
    for (ccc_nid n = 1; n < g->n_nodes; n++)
        if (g->node[n].group && k.waiting[g->node[n].group])
            return blame(c, n, "group %" PRIu32 " depends on a node that depends on the group",
                         g->node[n].group);
    return CCC_OK;
}

static ccc_status check_graph(check *c)
{
    const ccc_graph *g = c->g;
    ccc_map names = {.mem = c->mem}, layers = {.mem = c->mem};
    CCC_TRY(check_head(c));
    for (ccc_nid n = 1; n < g->n_nodes; n++) {
        CCC_TRY(check_links(c, n));
        CCC_TRY(check_attrs(c, n));
        CCC_TRY(check_types(c, n));
        if (ccc_ops[g->node[n].op].flags & CCC_LEAF) CCC_TRY(check_leaf(c, &names, &layers, n));
    }
    CCC_TRY(check_outputs(c));
    CCC_TRY(check_state(c));
    CCC_TRY(check_members(c));
    return g->n_groups > 1 ? check_convex(c) : CCC_OK;
}

ccc_status ccc_verify_at(const ccc_graph *g, ccc_nid *where, ccc_err *err)
{
    check c = {.g = g, .mem = ccc_arena_new(), .err = err};
    ccc_status status = c.mem ? check_graph(&c) : ccc_nomem(err);
    ccc_arena_free(c.mem);
    *where = c.where;
    return status;
}

ccc_status ccc_ir_verify(const ccc_graph *g, ccc_err *err)
{
    ccc_nid where;
    return ccc_verify_at(g, &where, err);
}
