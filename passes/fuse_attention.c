/* On a decode step, where a sequence has one token, the row that is written to the cache is the last one
 * that the same attention reads: rotation, cache write and attention become one kernel. That needs the
 * rotated rows and the written version of the cache to have no other reader, and what says where rows belong
 * to be inputs of the step: the kernel looks at it before the kernels in front of it have ended. */
#include "fuse.h"

static bool is_input(const ccc_fuse *f, ccc_val v)
{
    return ccc_def(f->g, v)->op == CCC_OP_input;
}

/* Does anybody but the cache write read the rotated k, or a step of its way to e4m3? */
static bool k_has_readers(const ccc_fuse *f, const ccc_node *write)
{
    ccc_val v = write->in[1];
    while (ccc_n_uses(&f->u, v) == 1) {
        const ccc_node *n = ccc_def(f->g, v);
        if (n->op == CCC_OP_rope || (n->op != CCC_OP_cast && n->op != CCC_OP_mul)) return false;
        v = n->in[n->op == CCC_OP_mul && ccc_is_immediate(f->g, n->in[0])];
    }
    return true;
}

/* Why the cache write w and its group do not fit attention a; NULL: they do. */
static const char *illegal_write(const ccc_fuse *f, ccc_nid a, ccc_nid w)
{
    const ccc_node *n = &f->g->node[a], *q = ccc_def(f->g, n->in[0]), *rope = ccc_def(f->g, q->in[0]);
    const ccc_node *write = &f->g->node[w];
    if (write->op != CCC_OP_kv_write) return "nothing is written to the cache in front of it";
    if (!write->group || q->group != write->group || q->op != CCC_OP_cast || rope->op != CCC_OP_rope)
        return "its q is not rotated in the group of the cache write";
    if (ccc_n_uses(&f->u, n->in[0]) != 1 || k_has_readers(f, write))
        return "the rotated rows have other readers";
    for (uint32_t k = f->u.start[n->in[1]]; k < f->u.start[n->in[1] + 1]; k++)
        if (f->u.user[k] != a && f->g->node[f->u.user[k]].op == CCC_OP_attention)
            return "another attention reads the same rows of the cache";
    if (ccc_type_last(&f->g->value[rope->in[1]].type) != ccc_attr_int(rope, "head_size"))
        return "a part of each head is not rotated";
    if (!is_input(f, rope->in[2]) || !is_input(f, write->in[3]))
        return "positions or slots are not inputs of the step";
    return NULL;
}

static ccc_status try_attention(ccc_fuse *f, ccc_region *r, bool *progress, ccc_err *err)
{
    ccc_nid w = f->g->value[f->g->node[r->anchor].in[1]].def;
    const char *why = f->ctx->caps.rope_attention ? illegal_write(f, r->anchor, w)
                                                  : "the target has no kernel for it here (rope_attention)";
    if (!why) {
        bool all = ccc_region_add_group(f, r, r->anchor) && ccc_region_add_group(f, r, w);
        why = all ? ccc_fuse_illegal_set(f, r->node, r->n, 0) : "the group is full";
    }
    if (why) {
        ccc_fuse_explain_always(f, r->anchor, why);
        return CCC_OK;
    }
    *progress = true;
    return ccc_region_commit(f, r, 0, err);
}

ccc_status ccc_pass_fuse_attention(ccc_graph *g, ccc_pass_ctx *ctx, bool *progress, ccc_err *err)
{
    ccc_fuse f;
    ccc_region r;
    CCC_TRY(ccc_fuse_new(&f, g, ctx, "fuse_attention", err));
    for (ccc_nid i = 1; i < g->n_nodes; i++) {
        ccc_nid write = g->node[i].op == CCC_OP_attention ? g->value[g->node[i].in[1]].def : 0;
        if (!write || (g->node[i].group && g->node[i].group == g->node[write].group)) continue; /* done */
        ccc_region_start(&f, &r, i, g->node[i].out[0]);
        ccc_status status = try_attention(&f, &r, progress, err);
        ccc_region_end(&f, &r);
        if (status != CCC_OK) return status;
    }
    return ccc_fuse_end(&f, *progress, err);
}
