/* The rotation of q, the rotation of k, their casts and the write of k and v to the cache are one kernel: one
 * pass over the packed rows of q, k and v. The q that belongs to a cache write is the one of the attention
 * that reads the cache's next version; it must be rotated by the same table and positions. */
#include "fuse.h"

/* v = cast(rope ...) to bf16: adds both nodes, returns the rope; 0: v is something else or taken */
static ccc_nid rope_cast(const ccc_fuse *f, ccc_val v, ccc_nid *cast)
{
    const ccc_node *c = ccc_def(f->g, v);
    *cast = f->g->value[v].def;
    if (c->op != CCC_OP_cast || f->g->value[v].type.dtype != CCC_BF16 || c->group) return 0;
    ccc_nid rope = f->g->value[c->in[0]].def;
    const ccc_node *n = &f->g->node[rope];
    return n->op == CCC_OP_rope && !n->group && ccc_n_uses(&f->u, c->in[0]) == 1 ? rope : 0;
}

/* the operand q of the attention that reads cache version v; 0: none, or several */
static ccc_val query_of(const ccc_fuse *f, ccc_val v)
{
    ccc_val q = 0;
    for (uint32_t k = f->u.start[v]; k < f->u.start[v + 1]; k++) {
        const ccc_node *n = &f->g->node[f->u.user[k]];
        if (n->op != CCC_OP_attention) continue;
        if (q && q != n->in[0]) return 0;
        q = n->in[0];
    }
    return q;
}

static bool is_bf16(const ccc_fuse *f, ccc_val v)
{
    return f->g->value[v].type.dtype == CCC_BF16;
}

/* Adds the quantisation of v, if it is for this write alone, and returns the rows in front of it; 0: it is
 * something else or taken. v of another dtype is rows as it is. */
static ccc_val add_quantisation(ccc_fuse *f, ccc_region *r, ccc_val v)
{
    const ccc_graph *g = f->g;
    ccc_kv_rows q = ccc_kv_rows_of(g, v);
    if (g->value[v].type.dtype != CCC_E4M3) return v;
    if (!q.cast || g->node[q.cast].group || ccc_n_uses(&f->u, v) != 1) return 0;
    if (q.mul && (g->node[q.mul].group || ccc_n_uses(&f->u, g->node[q.mul].out[0]) != 1)) return 0;
    if (q.mul) ccc_region_add(f, r, q.mul);
    ccc_region_add(f, r, q.cast);
    return q.rows;
}

static const char *add_rope(ccc_fuse *f, ccc_region *r, ccc_nid rope, ccc_nid cast)
{
    if (!is_bf16(f, f->g->node[rope].in[0])) return "the kernel rotates bf16";
    ccc_region_add(f, r, rope);
    ccc_region_add(f, r, cast);
    const char *why = ccc_fuse_illegal_set(f, r->node, r->n, 0);
    if (why) ccc_region_truncate(f, r, r->n - 2);
    return why;
}

static ccc_status try_write(ccc_fuse *f, ccc_region *r, bool *progress, ccc_err *err)
{
    const ccc_node *w = &f->g->node[r->anchor];
    ccc_val k_rows = add_quantisation(f, r, w->in[1]), v_rows = add_quantisation(f, r, w->in[2]);
    ccc_nid k_cast, q_cast, k = k_rows ? rope_cast(f, k_rows, &k_cast) : 0, q = 0;
    if (!k) {
        ccc_fuse_explain(f, r->anchor, "its k is not a rotation rounded to bf16, or is in another group");
        return CCC_OK;
    }
    if (!v_rows || !is_bf16(f, v_rows)) {
        ccc_fuse_explain(f, r->anchor, "its v is not bf16");
        return CCC_OK;
    }
    const char *why = add_rope(f, r, k, k_cast);
    if (why) {
        ccc_fuse_explain(f, k, why);
        return CCC_OK;
    }
    ccc_val query = query_of(f, w->out[0]);
    if (query) q = rope_cast(f, query, &q_cast);
    const ccc_node *a = &f->g->node[k], *b = &f->g->node[q];
    if (!q) why = "no attention reads the cache with a q that is a rotation rounded to bf16";
    else if (a->in[1] != b->in[1] || a->in[2] != b->in[2])
        why = "q is rotated by another table or other positions";
    else if (ccc_attr_int(a, "head_size") != ccc_attr_int(b, "head_size")) why = "q has another head size";
    else why = add_rope(f, r, q, q_cast);
    if (why) ccc_fuse_explain(f, q ? q : r->anchor, why);
    *progress = true;
    return ccc_region_commit(f, r, 0, err);
}

ccc_status ccc_pass_fuse_rope_kv(ccc_graph *g, ccc_pass_ctx *ctx, bool *progress, ccc_err *err)
{
    ccc_fuse f;
    ccc_region r;
    CCC_TRY(ccc_fuse_new(&f, g, ctx, "fuse_rope_kv", err));
    for (ccc_nid i = 1; i < g->n_nodes; i++) {
        if (g->node[i].op != CCC_OP_kv_write || g->node[i].group) continue;
        if (!ctx->caps.rope_kv) {
            ccc_fuse_explain(&f, i, "the target has no kernel for it (rope_kv)");
            continue;
        }
        ccc_region_start(&f, &r, i, g->node[i].in[1]);
        ccc_status status = try_write(&f, &r, progress, err);
        ccc_region_end(&f, &r);
        if (status != CCC_OK) return status;
    }
    return ccc_fuse_end(&f, *progress, err);
}
