/* Sorting the nodes of a group into the hooks of a kernel. Where a node belongs follows from what it depends
 * on inside the group: not on the norm: IN; on the norm: OUT; on the anchor: EPILOGUE (PRE, if it is wider
 * than the halves of a pair). Groups may come from a text file, so each rule that a kernel relies on is
 * checked here and nothing is assumed of the passes. */
#include "fuse.h"

#include <string.h>

typedef struct {
    const ccc_graph *g;
    const ccc_users *u;
    ccc_arena *mem;
    uint8_t *mark; /* by node: in this group */
    uint8_t *part; /* by node of this group: 1 + its part, 0: anchor, norm, rope, half */
    ccc_nid half[2];
    ccc_group_info *info;
    ccc_err *err;
} sorter;

__attribute__((format(printf, 3, 4))) static ccc_status bad(sorter *s, ccc_nid n, const char *fmt, ...)
{
    char why[200], where[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    ccc_val v = s->g->node[n].out[0];
    const char *name = s->g->value[v].name, *op = ccc_ops[s->g->node[n].op].name;
    if (name) snprintf(where, sizeof where, "%%%s (%s)", name, op);
    else snprintf(where, sizeof where, "%%%u (%s)", v, op);
    if (!s->info->group) return ccc_fail(s->err, CCC_E_TYPE, "%s: %s", where, why);
    return ccc_fail(s->err, CCC_E_TYPE, "group %u (%s): %s: %s", s->info->group,
                    s->g->group[s->info->group].pass, where, why);
}

static ccc_status nomem(sorter *s)
{
    return ccc_fail(s->err, CCC_E_NOMEM, "out of memory for the groups of a graph");
}

static bool inside(const sorter *s, ccc_val v)
{
    return s->mark[s->g->value[v].def];
}
static ccc_op op_of(const sorter *s, ccc_nid n)
{
    return s->g->node[n].op;
}
static bool is_eltwise(const sorter *s, ccc_nid n)
{
    return ccc_ops[op_of(s, n)].flags & CCC_ELTWISE;
}

/* ---- which part */

/* the latest part that an operand inside the group comes from: IN < OUT (norm) < PRE (matmul) < EPILOGUE
 * (halves) */
static unsigned stage_of(const sorter *s, ccc_nid n)
{
    const ccc_node *node = &s->g->node[n];
    unsigned stage = CCC_PART_IN;
    for (unsigned i = 0; i < node->n_in; i++) {
        ccc_nid d = s->g->value[node->in[i]].def;
        if (!s->mark[d]) continue;
        unsigned from = s->part[d] ? s->part[d] - 1u : CCC_PART_IN;
        if (d == s->info->norm) from = CCC_PART_OUT;
        if (d == s->info->anchor && d != s->info->norm)
            from = s->info->pair ? CCC_PART_PRE : CCC_PART_EPILOGUE;
        if (s->info->pair && (d == s->half[0] || d == s->half[1])) from = CCC_PART_EPILOGUE;
        stage = from > stage ? from : stage;
    }
    return stage;
}

static ccc_status find_halves(sorter *s)
{
    ccc_group_info *f = s->info;
    unsigned n_half = 0;
    for (unsigned i = 0; i < f->n; i++) {
        if (op_of(s, f->node[i]) != CCC_OP_slice) continue;
        if (n_half == 2) return bad(s, f->node[i], "a third slice");
        s->half[n_half++] = f->node[i];
    }
    if (!n_half) return CCC_OK;
    if (n_half == 1 || op_of(s, f->anchor) != CCC_OP_matmul)
        return bad(s, s->half[0], "not one of the two halves of a matmul");
    const ccc_node *a = &s->g->node[s->half[0]], *b = &s->g->node[s->half[1]];
    if (a->in[0] != b->in[0] || !inside(s, a->in[0]))
        return bad(s, s->half[1], "the two slices are not of one value of the group");
    if (ccc_attr_int(a, "start")) {
        const ccc_node *t = a;
        ccc_nid h = s->half[0];
        s->half[0] = s->half[1], s->half[1] = h;
        a = b, b = t;
    }
    int64_t size = ccc_attr_int(a, "size"), last = ccc_type_last(&s->g->value[a->in[0]].type);
    if (ccc_attr_int(a, "start") || ccc_attr_int(b, "size") != size || ccc_attr_int(b, "start") != size ||
        last != 2 * size)
        return bad(s, s->half[1], "the two slices are not the two halves");
    f->pair = true;
    return CCC_OK;
}

/* Sets anchor, norm, ropes, halves; refuses members that are neither these nor elementwise. */
static ccc_status find_roles(sorter *s)
{
    ccc_group_info *f = s->info;
    for (unsigned i = 0; i < f->n; i++)
        if (!f->anchor || ccc_ops[op_of(s, f->node[i])].rank > ccc_ops[op_of(s, f->anchor)].rank)
            f->anchor = f->node[i];
    ccc_op anchor = op_of(s, f->anchor);
    for (unsigned i = 0; i < f->n; i++)
        if (op_of(s, f->node[i]) == CCC_OP_kv_write &&
            (f->node[i] == f->anchor || anchor == CCC_OP_attention))
            f->kv_write = f->node[i]; /* of several the last: the others are refused below */
    for (unsigned i = 0; i < f->n; i++) {
        ccc_nid n = f->node[i];
        ccc_op op = op_of(s, n);
        if (s->u->weight[s->g->node[n].out[0]])
            return bad(s, n, "weight data is not made by a step's kernel");
        if (op == CCC_OP_rms_norm && !f->norm && (n == f->anchor || anchor == CCC_OP_matmul)) f->norm = n;
        else if (op == CCC_OP_rope && anchor == CCC_OP_rope && n == f->anchor) f->rope_q = n;
        else if (op == CCC_OP_rope && f->kv_write) continue; /* which is which: see sort_rope */
        else if (n != f->anchor && n != f->kv_write && op != CCC_OP_slice && !is_eltwise(s, n))
            return bad(s, n, "no kernel has this beside its %s", ccc_ops[anchor].name);
    }
    return find_halves(s);
}

/* ---- parts */

static ccc_status add_part(sorter *s, ccc_part_kind k, bool allowed)
{
    ccc_group_info *f = s->info;
    unsigned n = 0;
    for (unsigned i = 0; i < f->n; i++) n += s->part[f->node[i]] == k + 1u;
    ccc_nid *node = ccc_arena_alloc(s->mem, (n + 1) * sizeof *node);
    if (!node) return nomem(s);
    f->part[k].node = node;
    for (unsigned i = 0; i < f->n; i++)
        if (s->part[f->node[i]] == k + 1u) node[f->part[k].n++] = f->node[i];
    if (n && !allowed)
        return bad(s, node[0], "the kernel of %s has no hook there", ccc_ops[op_of(s, f->anchor)].name);
    if (n) f->part[k].result = s->g->node[node[n - 1]].out[0];
    return CCC_OK;
}

static void set_arg(sorter *s, ccc_part_kind k, ccc_val a, ccc_val b)
{
    ccc_part *p = &s->info->part[k];
    p->arg[0] = a;
    p->arg[1] = b;
    p->n_args = (a != 0) + (b != 0);
    if (!p->n) p->result = a;
}

static ccc_status wire(sorter *s)
{
    ccc_group_info *f = s->info;
    const ccc_node *anchor = &s->g->node[f->anchor];
    ccc_val pre = anchor->out[0], out;
    if (f->norm) {
        const ccc_node *norm = &s->g->node[f->norm];
        f->x = f->part[CCC_PART_IN].n
                   ? ccc_chain_x(s->g, s->mark, f->part[CCC_PART_IN].node, f->part[CCC_PART_IN].n)
                   : norm->in[0];
        set_arg(s, CCC_PART_IN, f->x, 0);
        set_arg(s, CCC_PART_OUT, norm->out[0], 0);
        if (f->part[CCC_PART_IN].result != norm->in[0])
            return bad(s, f->norm, "it does not read the end of the chain in front of it");
        out = f->part[CCC_PART_OUT].result;
        if (f->norm != f->anchor && anchor->in[0] != out)
            return bad(s, f->anchor, "it does not read the end of the norm's chain");
    } else {
        f->x = anchor->op == CCC_OP_matmul ? anchor->in[0] : 0;
    }
    if (anchor->op == CCC_OP_matmul && inside(s, anchor->in[1]))
        return bad(s, f->anchor, "its weight is made in the group");
    if (f->norm == f->anchor) return CCC_OK;
    if (f->pair) {
        set_arg(s, CCC_PART_PRE, pre, 0);
        if (s->g->node[s->half[0]].in[0] != f->part[CCC_PART_PRE].result)
            return bad(s, s->half[0], "it does not read the end of the chain in front of it");
        if (!f->part[CCC_PART_EPILOGUE].n) return bad(s, f->anchor, "nothing combines its halves");
        set_arg(s, CCC_PART_EPILOGUE, s->g->node[s->half[0]].out[0], s->g->node[s->half[1]].out[0]);
    } else {
        set_arg(s, CCC_PART_EPILOGUE, pre, 0);
    }
    return CCC_OK;
}

/* k or v of the group's cache write; what of its quantisation is outside the group is somebody else's */
static ccc_kv_rows rows_written(const sorter *s, ccc_val v)
{
    ccc_kv_rows r = ccc_kv_rows_of(s->g, v);
    if (!s->mark[r.cast]) return (ccc_kv_rows){.rows = v, .times = 1};
    if (!s->mark[r.mul]) return (ccc_kv_rows){.rows = s->g->node[r.cast].in[0], .cast = r.cast, .times = 1};
    return r;
}

static bool quantises_rows(const sorter *s, ccc_nid n)
{
    const ccc_group_info *f = s->info;
    return n == f->k.cast || n == f->k.mul || n == f->v.cast || n == f->v.mul;
}

/* the rounding of a rotation that the cache write and the attention of its group read */
static bool rounds_rope(const sorter *s, ccc_nid n)
{
    const ccc_node *c = &s->g->node[n];
    return s->info->kv_write && c->op == CCC_OP_cast && inside(s, c->in[0]) &&
           ccc_def(s->g, c->in[0])->op == CCC_OP_rope;
}

static bool to_bf16(const sorter *s, ccc_nid n)
{
    const ccc_node *c = &s->g->node[n];
    return c->op == CCC_OP_cast && s->g->value[c->out[0]].type.dtype == CCC_BF16;
}

/* The kernel may have rounded to bf16 before it calls its hook. */
static ccc_status check_rounded(sorter *s, const ccc_part *e)
{
    for (unsigned i = 0; i < e->n; i++)
        if (ccc_reads_unrounded(s->g, s->info->anchor, e->node[i]))
            return bad(s, e->node[i], "the kernel of %s rounds to bf16 first",
                       ccc_ops[op_of(s, s->info->anchor)].name);
    return CCC_OK;
}

static ccc_status sort_parts(sorter *s)
{
    ccc_group_info *f = s->info;
    bool body = is_eltwise(s, f->anchor);
    for (unsigned i = 0; i < f->n; i++) {
        ccc_nid n = f->node[i];
        s->part[n] = 0;
        if (n == s->half[0] || n == s->half[1] || !is_eltwise(s, n) || rounds_rope(s, n) ||
            quantises_rows(s, n))
            continue;
        s->part[n] = (uint8_t)((body ? CCC_PART_BODY : stage_of(s, n)) + 1);
    }
    ccc_hooks hooks = ccc_op_hooks(op_of(s, f->anchor));
    CCC_TRY(add_part(s, CCC_PART_IN, f->norm != 0));
    CCC_TRY(add_part(s, CCC_PART_OUT, f->norm != 0));
    CCC_TRY(add_part(s, CCC_PART_PRE, f->pair));
    CCC_TRY(add_part(s, CCC_PART_EPILOGUE, hooks != CCC_HOOKS_NONE));
    CCC_TRY(add_part(s, CCC_PART_BODY, body));
    if (body) return CCC_OK;
    const ccc_part *e = &f->part[CCC_PART_EPILOGUE];
    if (hooks == CCC_HOOKS_ROUND) CCC_TRY(check_rounded(s, e));
    if (hooks == CCC_HOOKS_CAST && e->n && (e->n > 1 || !to_bf16(s, e->node[0])))
        return bad(s, e->node[0], "the kernel of %s takes a cast to bf16 and nothing else",
                   ccc_ops[op_of(s, f->anchor)].name);
    return wire(s);
}

/* rope_q, rope_k and their casts around a kv_write; what belongs to an attention behind it is sort_parts' */
static ccc_status sort_rope(sorter *s)
{
    ccc_group_info *f = s->info;
    const ccc_node *w = &s->g->node[f->kv_write];
    f->k = rows_written(s, w->in[1]);
    f->v = rows_written(s, w->in[2]);
    if (!f->k.cast != !f->v.cast)
        return bad(s, f->kv_write, "k and v must both become e4m3 in the group, or neither");
    for (unsigned i = 0; i < f->n; i++) {
        ccc_nid n = f->node[i];
        if (quantises_rows(s, n)) continue;
        if (op_of(s, n) == CCC_OP_cast) {
            const ccc_node *c = &s->g->node[n];
            if (f->anchor != f->kv_write && !rounds_rope(s, n)) continue;
            if (!rounds_rope(s, n) || s->g->value[c->out[0]].type.dtype != CCC_BF16)
                return bad(s, n, "not the rounding of a rotation to bf16");
            bool k = f->k.rows == c->out[0];
            ccc_nid *rope = k ? &f->rope_k : &f->rope_q;
            if (*rope) return bad(s, n, "a second rotated %s", k ? "k" : "q");
            *rope = s->g->value[c->in[0]].def;
            *(k ? &f->k_out : &f->q_out) = ccc_value_open(s->u, s->mark, c->out[0]) ? c->out[0] : 0;
        } else if (f->anchor == f->kv_write && n != f->anchor && op_of(s, n) != CCC_OP_rope) {
            return bad(s, n, "the kernel of kv_write has no hooks");
        }
    }
    for (unsigned i = 0; i < f->n; i++) {
        ccc_nid n = f->node[i];
        if (op_of(s, n) != CCC_OP_rope) continue;
        if (n != f->rope_q && n != f->rope_k)
            return bad(s, n, "a rotation that is not rounded to bf16 in the group");
        if (ccc_value_open(s->u, s->mark, s->g->node[n].out[0]))
            return bad(s, n, "its value before rounding is used elsewhere");
    }
    const ccc_node *q = &s->g->node[f->rope_q], *k = &s->g->node[f->rope_k];
    if (f->rope_q && f->rope_k &&
        (q->in[1] != k->in[1] || q->in[2] != k->in[2] ||
         ccc_attr_int(q, "head_size") != ccc_attr_int(k, "head_size")))
        return bad(s, f->rope_q, "q and k are not rotated by one table, positions and head size");
    return CCC_OK;
}

/* An attention with the rotation and cache write in front of it: they are its own, and nobody else's. */
static ccc_status check_own_write(sorter *s)
{
    ccc_group_info *f = s->info;
    const ccc_node *a = &s->g->node[f->anchor], *q = ccc_def(s->g, a->in[0]);
    ccc_val cache = s->g->node[f->kv_write].out[0];
    if (!f->rope_q || !f->rope_k) return bad(s, f->kv_write, "q and k must both be rotated in the group");
    if (a->in[1] != cache) return bad(s, f->anchor, "it does not read the cache that the group writes");
    if (q->op != CCC_OP_cast || s->g->value[q->in[0]].def != f->rope_q)
        return bad(s, f->anchor, "its q is not the one that the group rotates");
    if (f->q_out || f->k_out)
        return bad(s, f->q_out ? f->rope_q : f->rope_k, "the rotated rows are used outside the group");
    for (uint32_t k = s->u->start[cache]; k < s->u->start[cache + 1]; k++)
        if (op_of(s, s->u->user[k]) == CCC_OP_attention && s->u->user[k] != f->anchor)
            return bad(s, f->kv_write, "another attention reads the rows that the group writes");
    return CCC_OK;
}

/* ---- what goes in and out */

static bool known(const ccc_val *list, unsigned n, ccc_val v)
{
    for (unsigned i = 0; i < n; i++)
        if (list[i] == v) return true;
    return false;
}

static ccc_status add_reads_results(sorter *s)
{
    ccc_group_info *f = s->info;
    ccc_val *read = ccc_arena_alloc(s->mem, (size_t)f->n * CCC_MAX_IN * sizeof *read);
    ccc_val *result = ccc_arena_alloc(s->mem, (size_t)(f->n * CCC_MAX_OUT + 1) * sizeof *result), main = 0;
    if (!read || !result) return nomem(s);
    if (f->part[CCC_PART_BODY].n) main = f->part[CCC_PART_BODY].result;
    else if (f->norm == f->anchor) main = f->part[CCC_PART_OUT].result;
    else
        main = op_of(s, f->anchor) == CCC_OP_kv_write ? s->g->node[f->anchor].out[0]
                                                      : f->part[CCC_PART_EPILOGUE].result;
    result[f->n_results++] = main;
    for (unsigned i = 0; i < f->n; i++) {
        const ccc_node *n = &s->g->node[f->node[i]];
        for (unsigned j = 0; j < n->n_in; j++)
            if (!inside(s, n->in[j]) && !ccc_is_immediate(s->g, n->in[j]) &&
                !known(read, f->n_reads, n->in[j]))
                read[f->n_reads++] = n->in[j];
        for (unsigned j = 0; j < n->n_out; j++)
            if (n->out[j] != main && ccc_value_open(s->u, s->mark, n->out[j]))
                result[f->n_results++] = n->out[j];
    }
    f->read = read;
    f->result = result;
    return CCC_OK;
}

/* Only an input chain, rotated q and k, and a cache behind an attention, may leave by a second way. */
static ccc_status check_results(sorter *s)
{
    const ccc_group_info *f = s->info;
    for (unsigned i = 1; i < f->n_results; i++) {
        ccc_nid d = s->g->value[f->result[i]].def;
        bool in = s->part[d] == CCC_PART_IN + 1 && f->norm == f->anchor;
        if (!in && d != f->kv_write && f->result[i] != f->q_out && f->result[i] != f->k_out)
            return bad(s, d, "a second value leaves the group here");
    }
    return CCC_OK;
}

static ccc_status add_aux_of_part(sorter *s, ccc_part_kind k, ccc_aux *aux)
{
    ccc_group_info *f = s->info;
    const ccc_part *p = &f->part[k];
    if (!p->n) return CCC_OK;
    const ccc_type *t = &s->g->value[p->result].type;
    for (unsigned i = 0; i < p->n; i++) {
        const ccc_node *n = &s->g->node[p->node[i]];
        const ccc_type *own = &s->g->value[n->out[0]].type;
        if (f->group && (t->rank != 2 || own->rank != 2 || !ccc_dim_equal(own->dim[0], t->dim[0]) ||
                         !ccc_dim_equal(own->dim[1], t->dim[1])))
            return bad(s, p->node[i], "other rows or columns than the chain it is in");
        ccc_dim rows = own->rank > 1 ? own->dim[own->rank - 2] : ccc_dim_const(1),
                cols = own->rank ? own->dim[own->rank - 1] : rows;
        for (unsigned j = 0; j < n->n_in; j++) {
            ccc_val v = n->in[j];
            if (known(p->arg, p->n_args, v) || ccc_is_immediate(s->g, v)) continue;
            ccc_nid d = s->g->value[v].def;
            if (s->mark[d] && s->part[d] == k + 1u) continue;
            if (s->mark[d]) return bad(s, p->node[i], "it reads a value of another part of the group");
            int at = own->rank <= 2 ? ccc_aux_at_of(s->g, v, rows, cols) : -1;
            if (at < 0) return bad(s, p->node[i], "an operand does not have its rows and columns");
            unsigned a = 0;
            while (a < f->n_aux && (aux[a].val != v || aux[a].at != at)) a++;
            if (a == f->n_aux) aux[f->n_aux++] = (ccc_aux){v, (uint8_t)at, false, (uint8_t)k};
        }
    }
    return CCC_OK;
}

static ccc_status add_aux(sorter *s)
{
    ccc_group_info *f = s->info;
    ccc_aux *aux = ccc_arena_alloc(s->mem, (size_t)(f->n * (CCC_MAX_IN + 1) + 1) * sizeof *aux);
    if (!aux) return nomem(s);
    f->aux = aux;
    if (f->kv_write && f->anchor != f->kv_write) return add_aux_of_part(s, CCC_PART_EPILOGUE, aux);
    if (f->kv_write) return CCC_OK;
    for (unsigned k = 0; k < CCC_N_PARTS; k++) CCC_TRY(add_aux_of_part(s, (ccc_part_kind)k, aux));
    for (unsigned i = 1; i < f->n_results; i++)
        aux[f->n_aux++] = (ccc_aux){f->result[i], CCC_AUX_ROWCOL, true,
                                    (uint8_t)(s->part[s->g->value[f->result[i]].def] - 1)};
    return CCC_OK;
}

/* Describes the marked nodes info->node[]. */
static ccc_status describe(sorter *s)
{
    ccc_group_info *f = s->info;
    s->half[0] = s->half[1] = 0;
    CCC_TRY(find_roles(s));
    if (f->kv_write) CCC_TRY(sort_rope(s));
    if (f->anchor != f->kv_write) CCC_TRY(sort_parts(s));
    if (f->kv_write && f->anchor != f->kv_write) CCC_TRY(check_own_write(s));
    if (op_of(s, f->anchor) == CCC_OP_rope) f->q_out = f->part[CCC_PART_EPILOGUE].result;
    CCC_TRY(add_reads_results(s));
    CCC_TRY(check_results(s));
    return add_aux(s);
}

/* ---- entries */

static ccc_status sorter_new(sorter *s, ccc_users *u, const ccc_graph *g, ccc_arena *mem, ccc_err *err)
{
    *s = (sorter){.g = g, .u = u, .mem = mem, .err = err};
    CCC_TRY(ccc_users_new(u, g, mem, err));
    s->mark = ccc_arena_alloc(mem, g->n_nodes);
    s->part = ccc_arena_alloc(mem, g->n_nodes);
    return s->mark && s->part ? CCC_OK : nomem(s);
}

static ccc_status describe_nodes(sorter *s, const ccc_nid *node, unsigned n, ccc_group_info *out)
{
    *out = (ccc_group_info){.group = s->g->node[node[0]].group, .node = node, .n = n};
    s->info = out;
    for (unsigned i = 0; i < n; i++) s->mark[node[i]] = 1;
    ccc_status status = describe(s);
    for (unsigned i = 0; i < n; i++) s->mark[node[i]] = 0;
    return status;
}

static ccc_status describe_one(const ccc_graph *g, uint32_t group, ccc_nid nid, ccc_arena *mem,
                               ccc_group_info *out, ccc_err *err)
{
    sorter s;
    ccc_users u;
    unsigned n = 0;
    CCC_TRY(sorter_new(&s, &u, g, mem, err));
    ccc_nid *node = ccc_arena_alloc(mem, g->n_nodes * sizeof *node);
    if (!node) return nomem(&s);
    if (!group) node[n++] = nid;
    for (ccc_nid i = 1; group && i < g->n_nodes; i++)
        if (g->node[i].group == group) node[n++] = i;
    if (!n) return ccc_fail(err, CCC_E_TYPE, "group %u has no nodes", group);
    return describe_nodes(&s, node, n, out);
}

ccc_status ccc_group_describe(const ccc_graph *g, uint32_t group, ccc_arena *mem, ccc_group_info *out,
                              ccc_err *err)
{
    if (!group || group >= g->n_groups)
        return ccc_fail(err, CCC_E_ARG, "group %u is not one of the graph's", group);
    return describe_one(g, group, 0, mem, out, err);
}

ccc_status ccc_node_describe(const ccc_graph *g, ccc_nid nid, ccc_arena *mem, ccc_group_info *out,
                             ccc_err *err)
{
    if (!nid || nid >= g->n_nodes) return ccc_fail(err, CCC_E_ARG, "node %u is not one of the graph's", nid);
    if (!g->node[nid].group && (ccc_ops[g->node[nid].op].flags & (CCC_LEAF | CCC_VIEW)))
        return ccc_fail(err, CCC_E_ARG, "node %u (%s) is no kernel", nid, ccc_ops[g->node[nid].op].name);
    return describe_one(g, g->node[nid].group, nid, mem, out, err);
}

ccc_status ccc_group_list(const ccc_graph *g, ccc_arena *mem, ccc_group_info **out, unsigned *n, ccc_err *err)
{
    sorter s;
    ccc_users u;
    ccc_units units;
    CCC_TRY(sorter_new(&s, &u, g, mem, err));
    CCC_TRY(ccc_units_order(&units, &u, mem, err));
    ccc_group_info *info = ccc_arena_alloc(mem, (units.n + 1) * sizeof *info);
    if (!info) return nomem(&s);
    for (uint32_t i = 0; i < units.n; i++) {
        const uint32_t *first = units.first + units.order[i];
        CCC_TRY(describe_nodes(&s, units.member + first[0], first[1] - first[0], &info[i]));
    }
    *out = info;
    *n = units.n;
    return CCC_OK;
}

int ccc_group_aux(const ccc_graph *g, const ccc_group_info *info, ccc_part_kind part, ccc_val v, bool store)
{
    const ccc_part *p = &info->part[part];
    const ccc_type *t = &g->value[p->result].type;
    ccc_dim rows = t->rank > 1 ? t->dim[t->rank - 2] : ccc_dim_const(1),
            cols = t->rank ? t->dim[t->rank - 1] : rows;
    int at = store ? CCC_AUX_ROWCOL : ccc_aux_at_of(g, v, rows, cols);
    for (unsigned i = 0; i < info->n_aux; i++)
        if (info->aux[i].val == v && info->aux[i].store == store && info->aux[i].at == at) return (int)i;
    return -1;
}

ccc_val ccc_view_base(const ccc_graph *g, ccc_val v, int64_t *col)
{
    int64_t start = 0;
    for (const ccc_node *n = ccc_def(g, v); ccc_ops[n->op].flags & CCC_VIEW; n = ccc_def(g, v)) {
        start += ccc_attr_int(n, "start");
        v = n->in[0];
    }
    if (col) *col = start;
    return v;
}
