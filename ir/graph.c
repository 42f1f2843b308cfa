/* Building and changing graphs. Everything is an index, so a clone is a copy of arrays and strings, and
 * compaction is one walk: each node in array order, before it the definitions that it needs and that are not
 * placed yet. That walk moves nodes which a pass added at the end in front of their first user, drops the
 * dead, and renumbers everything without gaps. */
#include "internal.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

ccc_status ccc_nomem(ccc_err *err)
{
    return ccc_fail(err, CCC_E_NOMEM, "out of memory");
}

ccc_status ccc_graph_new(ccc_graph **out, const char *name, ccc_err *err)
{
    ccc_arena *mem = ccc_arena_new();
    ccc_graph *g = mem ? ccc_arena_alloc(mem, sizeof *g) : NULL;
    if (g) {
        g->mem = mem;
        g->name = ccc_arena_strdup(mem, name ? name : "");
    }
    if (!g || !g->name || !CCC_GROW(mem, g->node, 0, g->cap_nodes) ||
        !CCC_GROW(mem, g->value, 0, g->cap_values) || !CCC_GROW(mem, g->group, 0, g->cap_groups)) {
        ccc_arena_free(mem);
        return ccc_nomem(err);
    }
    g->n_nodes = g->n_values = g->n_groups = 1;
    *out = g;
    return CCC_OK;
}

void ccc_graph_free(ccc_graph *g)
{
    if (g) ccc_arena_free(g->mem);
}

/* ---- clone */

static void *copy_array(ccc_arena *mem, const void *from, uint32_t n, size_t elem_B)
{
    void *p = ccc_arena_alloc(mem, (n ? n : 1) * elem_B);
    if (p && n) memcpy(p, from, n * elem_B);
    return p;
}

static bool copy_str(ccc_arena *mem, const char **s)
{
    return !*s || (*s = ccc_arena_strdup(mem, *s)) != NULL;
}

static bool copy_strings(ccc_graph *g)
{
    bool ok = copy_str(g->mem, &g->name);
    for (uint32_t i = 0; ok && i < g->n_sym; i++) ok = copy_str(g->mem, &g->sym[i].name);
    for (uint32_t i = 1; ok && i < g->n_values; i++) ok = copy_str(g->mem, &g->value[i].name);
    for (uint32_t i = 0; ok && i < g->n_out; i++) ok = copy_str(g->mem, &g->out[i].name);
    for (uint32_t i = 0; ok && i < g->n_facts; i++)
        ok = copy_str(g->mem, &g->fact[i].key) && copy_str(g->mem, &g->fact[i].value);
    for (uint32_t i = 1; ok && i < g->n_groups; i++) ok = copy_str(g->mem, &g->group[i].pass);
    for (ccc_nid n = 1; ok && n < g->n_nodes; n++) {
        const ccc_op_info *op = &ccc_ops[g->node[n].op];
        for (unsigned a = 0; ok && a < op->n_attr; a++)
            if (op->attr[a].kind == CCC_ATTR_STR) ok = copy_str(g->mem, &g->node[n].attr[a].s);
    }
    return ok;
}

ccc_status ccc_graph_clone(ccc_graph **out, const ccc_graph *from, ccc_err *err)
{
    ccc_graph *g;
    CCC_TRY(ccc_graph_new(&g, "", err));
    ccc_arena *mem = g->mem;
    *g = *from;
    g->mem = mem;
    g->node = copy_array(mem, from->node, g->cap_nodes = g->n_nodes, sizeof *g->node);
    g->value = copy_array(mem, from->value, g->cap_values = g->n_values, sizeof *g->value);
    g->out = copy_array(mem, from->out, g->cap_out = g->n_out, sizeof *g->out);
    g->fact = copy_array(mem, from->fact, g->cap_facts = g->n_facts, sizeof *g->fact);
    g->group = copy_array(mem, from->group, g->cap_groups = g->n_groups, sizeof *g->group);
    if (!g->node || !g->value || !g->out || !g->fact || !g->group || !copy_strings(g)) {
        ccc_arena_free(mem);
        return ccc_nomem(err);
    }
    *out = g;
    return CCC_OK;
}

/* ---- symbols, facts, groups, outputs */

int ccc_graph_find_sym(const ccc_graph *g, const char *name)
{
    for (uint32_t i = 0; i < g->n_sym; i++)
        if (strcmp(g->sym[i].name, name) == 0) return (int)i;
    return -1;
}

int ccc_graph_add_sym(ccc_graph *g, const char *name, int64_t min, int64_t max)
{
    int known = ccc_graph_find_sym(g, name);
    if (known >= 0) return known;
    if (g->n_sym == CCC_MAX_SYM || !ccc_is_ident(name) || strlen(name) >= CCC_SYM_NAME) return -1;
    char *copy = ccc_arena_strdup(g->mem, name);
    if (!copy) return -1;
    g->sym[g->n_sym] = (ccc_sym){copy, min, max};
    return (int)g->n_sym++;
}

ccc_status ccc_graph_set_fact(ccc_graph *g, const char *key, const char *value, ccc_err *err)
{
    uint32_t i = 0;
    while (i < g->n_facts && strcmp(g->fact[i].key, key) != 0) i++;
    char *v = ccc_arena_strdup(g->mem, value);
    if (!v) return ccc_nomem(err);
    if (i == g->n_facts) {
        char *k = ccc_arena_strdup(g->mem, key);
        if (!k || !CCC_GROW(g->mem, g->fact, g->n_facts, g->cap_facts)) return ccc_nomem(err);
        g->fact[g->n_facts++].key = k;
    }
    g->fact[i].value = v;
    return CCC_OK;
}

const char *ccc_graph_fact(const ccc_graph *g, const char *key)
{
    for (uint32_t i = 0; i < g->n_facts; i++)
        if (strcmp(g->fact[i].key, key) == 0) return g->fact[i].value;
    return NULL;
}

ccc_status ccc_graph_add_output(ccc_graph *g, const char *name, ccc_val v, ccc_err *err)
{
    if (v == 0 || v >= g->n_values) return ccc_fail(err, CCC_E_TYPE, "output '%s' names no value", name);
    char *copy = ccc_arena_strdup(g->mem, name);
    if (!copy || !CCC_GROW(g->mem, g->out, g->n_out, g->cap_out)) return ccc_nomem(err);
    g->out[g->n_out++] = (ccc_output){copy, v};
    return CCC_OK;
}

uint32_t ccc_graph_add_group(ccc_graph *g, const char *pass)
{
    char *copy = ccc_arena_strdup(g->mem, pass);
    if (!copy || !CCC_GROW(g->mem, g->group, g->n_groups, g->cap_groups)) return 0;
    g->group[g->n_groups].pass = copy;
    return g->n_groups++;
}

/* ---- adding a node */

static ccc_status fill_attrs(ccc_graph *g, ccc_node *n, const ccc_attr_arg *attrs, unsigned n_attrs,
                             ccc_err *err)
{
    const ccc_op_info *op = &ccc_ops[n->op];
    bool given[CCC_MAX_ATTR] = {false};
    for (unsigned i = 0; i < op->n_attr; i++) {
        if (op->attr[i].kind == CCC_ATTR_FLOAT) n->attr[i].f = op->attr[i].dflt;
        else if (op->attr[i].kind == CCC_ATTR_STR) n->attr[i].s = "";
        else n->attr[i].i = (int64_t)op->attr[i].dflt;
    }
    for (unsigned k = 0; k < n_attrs; k++) {
        int i = ccc_attr_find(n->op, attrs[k].name);
        if (i < 0) return ccc_fail(err, CCC_E_TYPE, "%s: has no attribute '%s'", op->name, attrs[k].name);
        if (given[i])
            return ccc_fail(err, CCC_E_TYPE, "%s: attribute '%s' is given twice", op->name, attrs[k].name);
        given[i] = true;
        n->attr[i] = attrs[k].v;
        if (op->attr[i].kind == CCC_ATTR_STR && !copy_str(g->mem, &n->attr[i].s)) return ccc_nomem(err);
        if (op->attr[i].kind == CCC_ATTR_STR && !n->attr[i].s) n->attr[i].s = "";
    }
    for (unsigned i = 0; i < op->n_attr; i++)
        if (op->attr[i].required && !given[i])
            return ccc_fail(err, CCC_E_TYPE, "%s: attribute '%s' is missing", op->name, op->attr[i].name);
    return CCC_OK;
}

static ccc_status infer(const ccc_graph *g, const ccc_node *n, const ccc_type *type, ccc_type *out,
                        ccc_err *err)
{
    const ccc_op_info *op = &ccc_ops[n->op];
    if (type) out[0] = *type;
    CCC_TRY(ccc_op_infer(g, n, out, err));
    if (!type || ccc_type_equal(type, &out[0])) return CCC_OK;
    char is[CCC_TYPE_TEXT], given[CCC_TYPE_TEXT];
    return ccc_fail(err, CCC_E_TYPE, "%s: yields %s, not %s", op->name, ccc_type_text(g, &out[0], is),
                    ccc_type_text(g, type, given));
}

ccc_status ccc_graph_add(ccc_graph *g, ccc_val *out, ccc_op op, const ccc_val *in, unsigned n_in,
                         const ccc_attr_arg *attrs, unsigned n_attrs, const ccc_type *type, const char *name,
                         ccc_err *err)
{
    if ((unsigned)op >= CCC_N_OPS) return ccc_fail(err, CCC_E_TYPE, "unknown op number %u", (unsigned)op);
    const ccc_op_info *info = &ccc_ops[op];
    if (n_in > CCC_MAX_IN)
        return ccc_fail(err, CCC_E_TYPE, "%s: has %u operands, takes at most %u", info->name, n_in,
                        info->max_in);
    ccc_node n = {.op = op, .n_in = (uint8_t)n_in, .n_out = info->n_out};
    for (unsigned i = 0; i < n_in; i++) {
        if (in[i] == 0 || in[i] >= g->n_values)
            return ccc_fail(err, CCC_E_TYPE, "%s: operand %u names no value", info->name, i + 1);
        n.in[i] = in[i];
    }
    ccc_type types[CCC_MAX_OUT] = {0};
    CCC_TRY(fill_attrs(g, &n, attrs, n_attrs, err));
    CCC_TRY(infer(g, &n, type, types, err));
    const char *copy = name;
    if (!copy_str(g->mem, &copy)) return ccc_nomem(err);
    if (!CCC_GROW(g->mem, g->node, g->n_nodes, g->cap_nodes)) return ccc_nomem(err);
    for (unsigned i = 0; i < info->n_out; i++) {
        if (!CCC_GROW(g->mem, g->value, g->n_values + i, g->cap_values)) return ccc_nomem(err);
        n.out[i] = g->n_values + i;
        g->value[n.out[i]] = (ccc_value){types[i], g->n_nodes, (uint8_t)i, i == 0 ? copy : NULL};
    }
    g->n_values += info->n_out;
    g->node[g->n_nodes++] = n;
    if (out) *out = n.out[0];
    return CCC_OK;
}

/* ---- looking */

const ccc_node *ccc_def(const ccc_graph *g, ccc_val v)
{
    assert(v && v < g->n_values);
    return &g->node[g->value[v].def];
}

uint32_t *ccc_graph_uses(const ccc_graph *g, ccc_arena *mem)
{
    uint32_t *uses = ccc_arena_alloc(mem, g->n_values * sizeof *uses);
    if (!uses) return NULL;
    for (ccc_nid n = 1; n < g->n_nodes; n++)
        for (unsigned i = 0; i < g->node[n].n_in; i++) uses[g->node[n].in[i]]++;
    for (uint32_t i = 0; i < g->n_out; i++) uses[g->out[i].val]++;
    return uses;
}

bool ccc_is_weighty(const ccc_graph *g, const ccc_node *n)
{
    if (n->op != CCC_OP_mul) return ccc_ops[n->op].flags & CCC_WEIGHTY;
    bool left = ccc_def(g, n->in[0])->op == CCC_OP_constant;
    return left != (ccc_def(g, n->in[1])->op == CCC_OP_constant);
}

ccc_status ccc_is_weight_value(bool *is, const ccc_graph *g, ccc_val v, ccc_err *err)
{
    const ccc_node *def = ccc_def(g, v);
    *is = ccc_is_weighty(g, def);
    if (!*is || def->n_in == 0) return CCC_OK;
    bool *seen = calloc(g->n_nodes, sizeof *seen);
    ccc_nid *todo = malloc(g->n_nodes * sizeof *todo); /* each node enters once */
    uint32_t n_todo = 0;
    if (seen && todo) todo[n_todo++] = g->value[v].def;
    while (*is && n_todo) {
        const ccc_node *n = &g->node[todo[--n_todo]];
        *is = ccc_is_weighty(g, n);
        for (unsigned i = 0; *is && i < n->n_in; i++) {
            ccc_nid d = g->value[n->in[i]].def;
            if (!seen[d]) todo[n_todo++] = d;
            seen[d] = true;
        }
    }
    ccc_status status = seen && todo ? CCC_OK : ccc_nomem(err);
    free(seen);
    free(todo);
    return status;
}

ccc_nid ccc_group_anchor(const ccc_graph *g, uint32_t group)
{
    ccc_nid best = 0;
    for (ccc_nid n = 1; n < g->n_nodes; n++)
        if (g->node[n].group == group &&
            (!best || ccc_ops[g->node[n].op].rank > ccc_ops[g->node[best].op].rank))
            best = n;
    return best;
}

/* ---- changing */

void ccc_graph_replace(ccc_graph *g, ccc_val from, ccc_val to)
{
    for (ccc_nid n = 1; n < g->n_nodes; n++)
        for (unsigned i = 0; i < g->node[n].n_in; i++)
            if (g->node[n].in[i] == from) g->node[n].in[i] = to;
    for (uint32_t i = 0; i < g->n_out; i++)
        if (g->out[i].val == from) g->out[i].val = to;
}

typedef struct { /* one compaction: state of nodes, the order found, a stack of nodes under way */
    enum { WAITING, ENTERED, PLACED } * state;
    ccc_nid *order, *stack;
    uint32_t n_order;
} walk;

/* Places node `root` behind everything that it needs. */
static ccc_status place(const ccc_graph *g, const bool *dead, walk *w, ccc_nid root, ccc_err *err)
{
    char name[CCC_TYPE_TEXT];
    uint32_t depth = 0;
    w->stack[depth++] = root;
    w->state[root] = ENTERED;
    while (depth) {
        ccc_nid n = w->stack[depth - 1], missing = 0;
        for (unsigned i = 0; i < g->node[n].n_in && !missing; i++) {
            ccc_nid d = g->value[g->node[n].in[i]].def;
            if (dead && dead[d])
                return ccc_fail(err, CCC_E_TYPE, "%s: operand %u (%s) is made by a dropped node",
                                ccc_ops[g->node[n].op].name, i + 1,
                                ccc_value_text(g, g->node[n].in[i], name));
            if (w->state[d] == ENTERED)
                return ccc_fail(err, CCC_E_TYPE, "%s: operand %u (%s) depends on the node itself: a cycle",
                                ccc_ops[g->node[n].op].name, i + 1,
                                ccc_value_text(g, g->node[n].in[i], name));
            if (w->state[d] == WAITING) missing = d;
        }
        if (missing) {
            w->state[missing] = ENTERED;
            w->stack[depth++] = missing;
        } else {
            w->state[n] = PLACED;
            w->order[w->n_order++] = n;
            depth--;
        }
    }
    return CCC_OK;
}

/* New numbers for groups: empty ones go, the others keep their order. */
static void renumber_groups(ccc_graph *g, uint32_t *map)
{
    for (ccc_nid n = 1; n < g->n_nodes; n++)
        if (g->node[n].group && g->node[n].group < g->n_groups) map[g->node[n].group] = 1;
    uint32_t kept = 1;
    for (uint32_t i = 1; i < g->n_groups; i++) {
        if (!map[i]) continue;
        g->group[kept] = g->group[i];
        map[i] = kept++;
    }
    for (ccc_nid n = 1; n < g->n_nodes; n++)
        if (g->node[n].group && g->node[n].group < g->n_groups) g->node[n].group = map[g->node[n].group];
    g->n_groups = kept;
}

/* Rebuilds node and value arrays in the order found. `node`, `value`, `number` are as large as the old
 * arrays. */
static void rebuild(ccc_graph *g, const walk *w, ccc_node *node, ccc_value *value, ccc_val *number)
{
    uint32_t n_values = 1;
    for (uint32_t k = 0; k < w->n_order; k++) {
        ccc_node n = g->node[w->order[k]];
        for (unsigned i = 0; i < n.n_in; i++) n.in[i] = number[n.in[i]];
        for (unsigned i = 0; i < n.n_out; i++) {
            value[n_values] = g->value[n.out[i]];
            value[n_values].def = k + 1;
            n.out[i] = number[n.out[i]] = n_values;
            n_values++;
        }
        node[k + 1] = n;
    }
    for (uint32_t i = 0; i < g->n_out; i++) g->out[i].val = number[g->out[i].val];
    memcpy(g->node + 1, node + 1, w->n_order * sizeof *node);
    memcpy(g->value + 1, value + 1, (n_values - 1) * sizeof *value);
    g->n_nodes = w->n_order + 1;
    g->n_values = n_values;
}

static ccc_status compact(ccc_graph *g, const bool *dead, ccc_arena *tmp, ccc_err *err)
{
    walk w = {.state = ccc_arena_alloc(tmp, g->n_nodes * sizeof *w.state),
              .order = ccc_arena_alloc(tmp, g->n_nodes * sizeof *w.order),
              .stack = ccc_arena_alloc(tmp, g->n_nodes * sizeof *w.stack)};
    ccc_node *node = ccc_arena_alloc(tmp, g->n_nodes * sizeof *node);
    ccc_value *value = ccc_arena_alloc(tmp, g->n_values * sizeof *value);
    ccc_val *number = ccc_arena_alloc(tmp, g->n_values * sizeof *number);
    uint32_t *groups = ccc_arena_alloc(tmp, g->n_groups * sizeof *groups);
    if (!w.state || !w.order || !w.stack || !node || !value || !number || !groups) return ccc_nomem(err);
    for (ccc_nid n = 1; n < g->n_nodes; n++)
        if (!(dead && dead[n]) && w.state[n] == WAITING) CCC_TRY(place(g, dead, &w, n, err));
    for (uint32_t i = 0; i < g->n_out; i++)
        if (w.state[g->value[g->out[i].val].def] != PLACED)
            return ccc_fail(err, CCC_E_TYPE, "output '%s' is made by a dropped node", g->out[i].name);
    rebuild(g, &w, node, value, number);
    renumber_groups(g, groups);
    return CCC_OK;
}

ccc_status ccc_graph_compact(ccc_graph *g, const bool *dead, ccc_err *err)
{
    ccc_arena *tmp = ccc_arena_new();
    ccc_status status = tmp ? compact(g, dead, tmp, err) : ccc_nomem(err);
    ccc_arena_free(tmp);
    return status;
}

/* ---- hash: over what the graph means; values count by their place in the order of nodes, not by number or
 * name */

static void hash_u64(XXH3_state_t *h, uint64_t v)
{
    unsigned char bytes[8];
    for (unsigned i = 0; i < 8; i++) bytes[i] = (unsigned char)(v >> (8 * i));
    XXH3_64bits_update(h, bytes, sizeof bytes);
}

static void hash_str(XXH3_state_t *h, const char *s)
{
    hash_u64(h, strlen(s));
    XXH3_64bits_update(h, s, strlen(s));
}

static void hash_type(XXH3_state_t *h, const ccc_type *t)
{
    hash_u64(h, (uint64_t)t->dtype | (uint64_t)t->rank << 8 | (uint64_t)t->layout << 16);
    for (unsigned i = 0; i < t->rank; i++) {
        hash_u64(h, (uint64_t)t->dim[i].a);
        hash_u64(h, (uint64_t)t->dim[i].b);
        hash_u64(h, (uint64_t)(uint32_t)t->dim[i].by | (uint64_t)(uint16_t)t->dim[i].sym << 32 |
                        (uint64_t)t->dim[i].kind << 48);
    }
}

static void hash_node(XXH3_state_t *h, const ccc_graph *g, const ccc_node *n)
{
    const ccc_op_info *op = &ccc_ops[n->op];
    hash_str(h, op->name);
    hash_u64(h, (uint64_t)n->n_in | (uint64_t)n->n_out << 8 | (uint64_t)n->group << 16);
    for (unsigned i = 0; i < n->n_in; i++)
        hash_u64(h, (uint64_t)g->value[n->in[i]].def << 8 | g->value[n->in[i]].result);
    for (unsigned i = 0; i < op->n_attr; i++) {
        if (op->attr[i].kind == CCC_ATTR_STR) hash_str(h, n->attr[i].s);
        else hash_u64(h, (uint64_t)n->attr[i].i); /* a float by its bits */
    }
    for (unsigned i = 0; i < n->n_out; i++) hash_type(h, &g->value[n->out[i]].type);
}

uint64_t ccc_graph_hash(const ccc_graph *g)
{
    XXH3_state_t h;
    XXH3_INITSTATE(&h);
    XXH3_64bits_reset(&h);
    hash_u64(&h, g->n_sym);
    for (uint32_t i = 0; i < g->n_sym; i++) {
        hash_str(&h, g->sym[i].name);
        hash_u64(&h, (uint64_t)g->sym[i].min);
        hash_u64(&h, (uint64_t)g->sym[i].max);
    }
    hash_u64(&h, g->n_nodes);
    for (ccc_nid n = 1; n < g->n_nodes; n++) hash_node(&h, g, &g->node[n]);
    hash_u64(&h, g->n_out);
    for (uint32_t i = 0; i < g->n_out; i++) {
        hash_str(&h, g->out[i].name);
        hash_u64(&h, (uint64_t)g->value[g->out[i].val].def << 8 | g->value[g->out[i].val].result);
    }
    hash_u64(&h, g->n_facts);
    for (uint32_t i = 0; i < g->n_facts; i++) {
        hash_str(&h, g->fact[i].key);
        hash_str(&h, g->fact[i].value);
    }
    hash_u64(&h, g->n_groups);
    for (uint32_t i = 1; i < g->n_groups; i++) hash_str(&h, g->group[i].pass);
    return XXH3_64bits_digest(&h);
}
