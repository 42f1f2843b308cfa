/* Legality of fusion, all of it. A node may join a group when
 *   - it works on the same rows and columns as the part it joins, and every operand is in that part or can be
 * loaded by a hook (same shape, a row of it, a column of it, or a scalar), with dtypes that hooks know;
 *   - the kernel of the anchor has a hook there, and the hook stays small: memory operands, instructions,
 * live vectors;
 *   - the group can still run as one unit: no path leaves it and comes back, where a path may lead through
 * other groups (each of them runs as one unit too) and from the reader of an old version of a cache to its
 * writer. Each "no" has a reason in words, which --explain prints. */
#include "fuse.h"

static bool hook_dtype(unsigned d)
{
    return d == CCC_F32 || d == CCC_F16 || d == CCC_BF16 || d == CCC_E4M3 || d == CCC_E5M2;
}

static bool dim_is_one(ccc_dim d)
{
    int64_t n;
    return ccc_dim_is_const(d, &n) && n == 1;
}

int ccc_aux_at_of(const ccc_graph *g, ccc_val v, ccc_dim rows, ccc_dim cols)
{
    const ccc_type *t = &g->value[v].type;
    if (t->rank > 2 || t->layout != CCC_LAYOUT_ROW) return -1;
    bool one_row = t->rank < 2 || dim_is_one(t->dim[0]);
    bool one_col = t->rank < 1 || dim_is_one(t->dim[t->rank - 1]);
    bool same_cols = t->rank >= 1 && ccc_dim_equal(t->dim[t->rank - 1], cols);
    if (t->rank == 2 && same_cols && ccc_dim_equal(t->dim[0], rows)) return CCC_AUX_ROWCOL;
    if (one_row && one_col) return CCC_AUX_SCALAR;
    if (one_row && same_cols) return CCC_AUX_COL;
    if (t->rank == 2 && one_col && ccc_dim_equal(t->dim[0], rows)) return CCC_AUX_ROW;
    return -1;
}

ccc_val ccc_chain_x(const ccc_graph *g, const uint8_t *mark, const ccc_nid *node, unsigned n)
{
    ccc_val first = 0;
    for (unsigned i = 0; i < n; i++) {
        const ccc_node *p = &g->node[node[i]];
        const ccc_type *t = &g->value[p->out[0]].type;
        for (unsigned j = 0; j < p->n_in && t->rank == 2; j++) {
            if (mark[g->value[p->in[j]].def] ||
                ccc_aux_at_of(g, p->in[j], t->dim[0], t->dim[1]) != CCC_AUX_ROWCOL)
                continue;
            if (g->value[p->in[j]].type.dtype == CCC_BF16) return p->in[j];
            if (!first) first = p->in[j];
        }
    }
    return first;
}

ccc_hooks ccc_op_hooks(ccc_op op)
{
    static const uint8_t hooks[CCC_N_OPS] = {
        [CCC_OP_matmul] = CCC_HOOKS_ANY,
        [CCC_OP_rms_norm] = CCC_HOOKS_ANY,
        [CCC_OP_attention] = CCC_HOOKS_ROUND,
        [CCC_OP_rope] = CCC_HOOKS_CAST,
    };
    return ccc_ops[op].flags & CCC_ELTWISE ? CCC_HOOKS_ANY : (ccc_hooks)hooks[op];
}

/* ---- cycles */

static bool visit(ccc_fuse *f, ccc_nid n, ccc_nid last, unsigned *depth)
{
    if (f->mark[n]) return true;
    if (n <= last && f->seen[n] != f->epoch) f->seen[n] = f->epoch, f->stack[(*depth)++] = n;
    return false;
}

/* Visits what runs after `n`; true when that is a marked node and n is not. */
static bool visit_successors(ccc_fuse *f, ccc_nid n, ccc_nid last, unsigned *depth)
{
    const ccc_node *node = &f->g->node[n];
    bool inside = f->mark[n];
    for (unsigned i = 0; i < node->n_out; i++)
        for (uint32_t k = f->u.start[node->out[i]]; k < f->u.start[node->out[i] + 1]; k++)
            if (!(inside && f->mark[f->u.user[k]]) && visit(f, f->u.user[k], last, depth)) return true;
    for (unsigned i = 0; i < node->n_in; i++) {
        ccc_nid w = f->u.writer[node->in[i]];
        if (w && w != n && !(inside && f->mark[w]) && visit(f, w, last, depth)) return true;
    }
    return false;
}

/* Does a path leave the marked nodes and come back? Nodes behind `last` need no look: no group reaches back
 * across it. */
static bool reenters(ccc_fuse *f, const ccc_nid *node, unsigned n)
{
    ccc_nid last = 0;
    unsigned depth = 0;
    for (unsigned i = 0; i < n; i++) last = node[i] > last ? node[i] : last;
    while (f->far[last] > last) last = f->far[last];
    f->epoch++;
    for (unsigned i = 0; i < n; i++)
        if (visit_successors(f, node[i], last, &depth)) return true;
    while (depth) {
        ccc_nid at = f->stack[--depth], m = at;
        do { /* the whole unit runs when one of its nodes does */
            if (m != at) f->seen[m] = f->epoch;
            if (visit_successors(f, m, last, &depth)) return true;
            m = f->next[m];
        } while (m != at);
    }
    return false;
}

/* ---- the size of hooks */

static bool is_hook_node(const ccc_fuse *f, ccc_nid n)
{
    return ccc_ops[f->g->node[n].op].flags & CCC_ELTWISE;
}

/* Does a hook load v? Not what is made inside, and not immediates. */
static bool is_load(const ccc_fuse *f, ccc_val v)
{
    ccc_nid d = f->g->value[v].def;
    if (ccc_is_immediate(f->g, v)) return false;
    return !f->mark[d];
}

/* memory operands of all hooks; the x of a norm's input chain is none, as long as no other hook reads it */
static unsigned count_aux(const ccc_fuse *f, const ccc_nid *node, unsigned n)
{
    ccc_val seen[CCC_REGION_MAX * 2], x = 0;
    unsigned count = 0, n_in = 0;
    for (unsigned i = 0; i < n; i++)
        if (f->g->node[node[i]].op == CCC_OP_rms_norm) n_in = i;
    if (n_in) x = ccc_chain_x(f->g, f->mark, node, n_in);
    for (unsigned i = 0; i < n; i++) {
        const ccc_node *node_i = &f->g->node[node[i]];
        for (unsigned j = 0; is_hook_node(f, node[i]) && j < node_i->n_in; j++) {
            bool known = !is_load(f, node_i->in[j]) || (i < n_in && node_i->in[j] == x);
            for (unsigned k = 0; k < count; k++) known = known || seen[k] == node_i->in[j];
            if (!known && count < CCC_REGION_MAX * 2) seen[count++] = node_i->in[j];
        }
    }
    return count;
}

/* Most instructions of a hook, counting a load for each operand. Nodes between two that are not elementwise
 * are one hook; what stands before the halves of a pair is executed twice. */
static unsigned count_instructions(const ccc_fuse *f, const ccc_nid *node, unsigned n)
{
    unsigned most = 0, here = 4; /* arguments, and one to say the result again */
    bool slices = false;
    for (unsigned i = 0; i < n; i++) {
        const ccc_node *p = &f->g->node[node[i]];
        if (p->op == CCC_OP_slice) here = slices ? here : 2 * here, slices = true;
        else if (!is_hook_node(f, node[i])) here = 4;
        else here += 1 + p->n_in;
        most = here > most ? here : most;
    }
    return most;
}

/* most vectors of a hook that are alive at once, in the order of the nodes */
static unsigned count_live(const ccc_fuse *f, const ccc_nid *node, unsigned n)
{
    unsigned most = 0;
    for (unsigned at = 0; at < n; at++) {
        unsigned live = 0;
        for (unsigned i = 0; i <= at; i++) {
            ccc_val v = f->g->node[node[i]].out[0];
            bool later = i == at;
            for (uint32_t k = f->u.start[v]; k < f->u.start[v + 1]; k++) {
                ccc_nid user = f->u.user[k];
                for (unsigned j = at; j < n; j++) later = later || (j > at && node[j] == user);
            }
            live += later;
        }
        most = live > most ? live : most;
    }
    return most;
}

const char *ccc_fuse_illegal_set(ccc_fuse *f, const ccc_nid *unsorted, unsigned n, unsigned n_stores)
{
    ccc_nid node[CCC_REGION_MAX];
    for (unsigned i = 0, j; i < n; i++) { /* hooks execute their nodes in the order of the graph */
        for (j = i; j && node[j - 1] > unsorted[i]; j--) node[j] = node[j - 1];
        node[j] = unsorted[i];
    }
    unsigned n_aux = count_aux(f, node, n) + n_stores;
    if ((int)n_aux > f->ctx->caps.max_aux) return "its hooks would have more memory operands than max_aux";
    if (count_instructions(f, node, n) + n_stores > CCC_HOOK_INS)
        return "its hooks would have too many instructions";
    if (count_live(f, node, n) > CCC_HOOK_LIVE) return "too many vectors would be in registers at once";
    if (reenters(f, node, n)) return "a path leaves the group and comes back to it";
    return NULL;
}

bool ccc_reads_unrounded(const ccc_graph *g, ccc_nid anchor, ccc_nid nid)
{
    const ccc_node *n = &g->node[nid];
    if (n->op == CCC_OP_cast && g->value[n->out[0]].type.dtype == CCC_BF16) return false;
    for (unsigned i = 0; i < n->n_in; i++)
        if (g->value[n->in[i]].def == anchor) return true;
    return false;
}

ccc_kv_rows ccc_kv_rows_of(const ccc_graph *g, ccc_val v)
{
    ccc_kv_rows r = {.rows = v, .times = 1};
    const ccc_node *c = ccc_def(g, v);
    if (c->op != CCC_OP_cast || g->value[v].type.dtype != CCC_E4M3) return r;
    r.cast = g->value[v].def;
    r.rows = c->in[0];
    const ccc_node *m = ccc_def(g, r.rows);
    if (m->op != CCC_OP_mul) return r;
    unsigned by = ccc_is_immediate(g, m->in[0]) ? 0 : 1;
    if (!ccc_is_immediate(g, m->in[by])) return r;
    r.mul = g->value[r.rows].def;
    r.times = (float)ccc_attr_float(ccc_def(g, m->in[by]), "value");
    r.rows = m->in[1 - by];
    return r;
}

static const char *illegal_operands(ccc_fuse *f, const ccc_region *r, const ccc_node *n)
{
    for (unsigned i = 0; i < n->n_in; i++) {
        int at = ccc_aux_at_of(f->g, n->in[i], r->rows, r->cols);
        if (!hook_dtype(f->g->value[n->in[i]].type.dtype)) return "an operand has a dtype that no hook reads";
        if (at < 0) return "an operand does not have its rows and columns";
        if (f->mark[f->g->value[n->in[i]].def] && at != CCC_AUX_ROWCOL)
            return "an operand is another part of the group";
    }
    return NULL;
}

const char *ccc_fuse_illegal(ccc_fuse *f, const ccc_region *r, ccc_nid nid)
{
    const ccc_node *n = &f->g->node[nid];
    const ccc_type *t = &f->g->value[n->out[0]].type;
    if (!(ccc_ops[n->op].flags & CCC_ELTWISE)) return "it is not elementwise";
    if (f->u.weight[n->out[0]]) return "it is weight data, made when weights are attached";
    if (n->group) return "it is in another group";
    if (r->hooks == CCC_HOOKS_NONE) return ccc_no_hooks;
    if (r->hooks == CCC_HOOKS_CAST && (r->n > 1 || n->op != CCC_OP_cast || t->dtype != CCC_BF16))
        return "the kernel of the anchor takes a cast to bf16 and nothing else";
    if (r->hooks == CCC_HOOKS_ROUND && ccc_reads_unrounded(f->g, r->anchor, nid))
        return "the kernel of the anchor rounds to bf16 first";
    if (t->rank != 2 || !ccc_dim_equal(t->dim[0], r->rows)) return "it has other rows";
    if (!ccc_dim_equal(t->dim[1], r->cols)) return "it has other columns";
    if (!hook_dtype(t->dtype)) return "its dtype is not one that a hook can make";
    const char *why = illegal_operands(f, r, n);
    if (why) return why;
    if (r->n + 1 > CCC_REGION_MAX - 1) return "the group is full";
    ccc_nid all[CCC_REGION_MAX];
    for (unsigned i = 0; i < r->n; i++) all[i] = r->node[i];
    all[r->n] = nid;
    f->mark[nid] = 1;
    why = ccc_fuse_illegal_set(f, all, r->n + 1, r->n_stores);
    f->mark[nid] = 0;
    return why;
}
