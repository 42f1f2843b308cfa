/* Merges nodes that compute the same: same op, operands, attributes and types. Operands are not reordered:
 * even an addition can tell its operands apart when both are NaN. Writers of a cache stay as they are, and so
 * do nodes of different groups. */
#include "rewrite.h"
#include "fuse.h"

#include <string.h>

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static uint64_t hash_node(const ccc_node *n)
{
    const ccc_op_info *op = &ccc_ops[n->op];
    uint64_t h = mix(n->op + 1u, n->group);
    for (unsigned i = 0; i < n->n_in; i++) h = mix(h, n->in[i]);
    for (unsigned i = 0; i < op->n_attr; i++) {
        uint64_t bits = 0;
        if (op->attr[i].kind == CCC_ATTR_STR)
            for (const char *s = n->attr[i].s; *s; s++) h = mix(h, (unsigned char)*s);
        else memcpy(&bits, &n->attr[i], sizeof bits);
        h = mix(h, bits);
    }
    return h;
}

static bool same_attr(const ccc_op_info *op, const ccc_node *a, const ccc_node *b)
{
    for (unsigned i = 0; i < op->n_attr; i++) {
        if (op->attr[i].kind == CCC_ATTR_STR ? strcmp(a->attr[i].s, b->attr[i].s) != 0
                                             : memcmp(&a->attr[i], &b->attr[i], sizeof a->attr[i]) != 0)
            return false;
    }
    return true;
}

static bool same_node(const ccc_graph *g, const ccc_node *a, const ccc_node *b)
{
    if (a->op != b->op || a->n_in != b->n_in || a->n_out != b->n_out || a->group != b->group) return false;
    if (memcmp(a->in, b->in, a->n_in * sizeof *a->in) != 0 || !same_attr(&ccc_ops[a->op], a, b)) return false;
    for (unsigned i = 0; i < a->n_out; i++)
        if (!ccc_type_equal(&g->value[a->out[i]].type, &g->value[b->out[i]].type)) return false;
    return true;
}

ccc_status ccc_pass_cse(ccc_graph *g, ccc_pass_ctx *ctx, bool *progress, ccc_err *err)
{
    ccc_rewrite w;
    CCC_TRY(ccc_rewrite_start(&w, g, ctx->scratch, err));
    size_t cap = 16;
    while (cap < (size_t)g->n_nodes * 2) cap *= 2;
    ccc_nid *slot = ccc_arena_alloc(ctx->scratch, cap * sizeof *slot);
    if (!slot) return ccc_pass_nomem(err, "cse");
    for (ccc_nid i = 1; i < w.n_nodes; i++) {
        const ccc_node *n = ccc_rewrite_node(&w, i);
        if (ccc_ops[n->op].flags & CCC_STATEFUL) continue;
        size_t at = hash_node(n) & (cap - 1);
        while (slot[at] && !same_node(g, &g->node[slot[at]], n)) at = (at + 1) & (cap - 1);
        if (!slot[at]) slot[at] = i;
        else
            for (unsigned j = 0; j < n->n_out; j++)
                ccc_rewrite_value(&w, n->out[j], g->node[slot[at]].out[j]);
    }
    return ccc_rewrite_end(&w, progress, err);
}
