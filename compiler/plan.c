/* A program: units (groups, or nodes alone) in order, each a launch; where values lie; which edges are programmatic.
 *
 * Memory. A value that leaves its unit gets a buffer of the arena, sized for the largest T of the program, alive from its unit to its last
 * reader and one unit longer: a kernel that starts early beside its predecessor never shares memory with it for different values.
 * Offsets are constants of the program (first fit, largest first), so tensor maps do not depend on the captured size. */
#include "plan.h"
#include <stdlib.h>
#include <string.h>

/* ---- the plan of a target -------------------------------------------------------------------------------------------------------- */
ccc_status plan_new(ccc_plan **out, const ccc_config *config, const ccc_target *target, ccc_err *err)
{
    ccc_arena *mem = ccc_arena_new();
    ccc_plan *p = mem ? ccc_arena_alloc(mem, sizeof *p) : NULL;
    if (!p) {
        ccc_arena_free(mem);
        return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    }
    p->mem = mem;
    p->config = config;
    p->target = target;
    *out = p;
    return CCC_OK;
}

void plan_free(ccc_plan *p)
{
    if (!p) return;
    ccc_buf_free(&p->constant);
    ccc_arena_free(p->mem);
}

static ccc_status io_row(ccc_plan *p, plan_builder *b, const ccc_graph *g, ccc_val v, const char *name, ccart_io *io, ccc_err *err)
{
    const ccc_type *t = &g->value[v].type;
    *io = (ccart_io){ .dtype = t->dtype, .rank = t->rank, .name = ccc_arena_strdup(p->mem, name), .optional = !strcmp(name, "inputs_embeds") };
    for (unsigned i = 0; i < t->rank; i++) CCC_TRY(px_dim(&io->dim_expr[i], b, g, t->dim[i], err));
    return io->name ? CCC_OK : ccc_fail(err, CCC_E_NOMEM, "out of memory");
}

ccc_status plan_io(ccc_plan *p, const ccc_graph *g, ccc_err *err)
{
    plan_builder b = { .plan = p, .g = g };
    uint32_t n_in = 0;
    for (ccc_nid i = 1; i < g->n_nodes; i++) n_in += g->node[i].op == CCC_OP_input;
    p->in = ccc_arena_alloc(p->mem, (n_in + 1) * sizeof *p->in);
    p->out = ccc_arena_alloc(p->mem, (g->n_out + 1) * sizeof *p->out);
    if (!p->in || !p->out) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    for (ccc_nid i = 1; i < g->n_nodes; i++)
        if (g->node[i].op == CCC_OP_input) {
            CCC_TRY(io_row(p, &b, g, g->node[i].out[0], ccc_attr_str(&g->node[i], "name"), &p->in[p->n_in], err));
            p->n_in++;
        }
    for (uint32_t i = 0; i < g->n_out; i++) {
        CCC_TRY(io_row(p, &b, g, g->out[i].val, g->out[i].name, &p->out[p->n_out], err));
        p->n_out++;
    }
    p->io_expr = b.expr;
    p->n_io_exprs = b.n_exprs;
    return b.oom ? ccc_fail(err, CCC_E_NOMEM, "out of memory") : CCC_OK;
}

void plan_spec(plan_kernel *k, const char *name, int64_t value)
{
    k->req.spec[k->req.n_specs++] = (ccc_spec){ name, value };
}

/* Everything that distinguishes two requests, as text. */
static const char *request_text(ccc_plan *p, const plan_kernel *k)
{
    ccc_buf t = { 0 };
    ccc_buf_printf(&t, "%s threads=%u min_blocks=%u shared=%u cluster=%u", k->req.tmpl, k->req.threads, k->req.min_blocks, k->shared_B, k->cluster);
    for (unsigned i = 0; i < k->req.n_specs; i++) ccc_buf_printf(&t, " %s=%lld", k->req.spec[i].name, (long long)k->req.spec[i].value);
    for (unsigned i = 0; i < k->req.n_hooks; i++) {
        const ccc_hook *h = &k->req.hook[i];
        ccc_buf_printf(&t, " %s(", h->name);
        for (unsigned j = 0; j < h->n; j++) {
            const ccc_hook_ins *x = &h->ins[j];
            ccc_buf_printf(&t, "%u.%u.%u.%u.%u.%u.%u.%lld.%lld.%a.%d;", x->kind, x->dtype, x->at, x->aux, x->a, x->b, x->op, (long long)x->ld, (long long)x->offset,
                           (double)x->imm, x->constant);
        }
        ccc_buf_printf(&t, ")");
    }
    const char *s = t.failed ? NULL : ccc_arena_strdup(p->mem, t.data);
    ccc_buf_free(&t);
    return s;
}

/* For people: the template, its constants, the ops of its hooks. */
static const char *request_name(ccc_plan *p, const plan_kernel *k)
{
    ccc_buf t = { 0 };
    ccc_buf_printf(&t, "%s", k->req.tmpl);
    for (unsigned i = 0; i < k->req.n_specs; i++) ccc_buf_printf(&t, " %s=%lld", k->req.spec[i].name, (long long)k->req.spec[i].value);
    for (unsigned i = 0; i < k->req.n_hooks; i++) {
        const ccc_hook *h = &k->req.hook[i];
        ccc_buf_printf(&t, " %s:", h->name);
        for (unsigned j = 0, n = 0; j < h->n; j++) {
            const ccc_hook_ins *x = &h->ins[j];
            if (x->kind == CCC_HOOK_ELT) ccc_buf_printf(&t, "%s%s", n++ ? "," : "", ccc_ops[x->op].name);
            if (x->kind == CCC_HOOK_CAST) ccc_buf_printf(&t, "%s%s", n++ ? "," : "", ccc_dtype_name((ccc_dtype)x->dtype));
            if (x->kind == CCC_HOOK_STORE) ccc_buf_printf(&t, "%sstore", n++ ? "," : "");
        }
    }
    const char *s = t.failed ? NULL : ccc_arena_strdup(p->mem, t.data);
    ccc_buf_free(&t);
    return s;
}

ccc_status plan_add_kernel(uint32_t *out, ccc_plan *p, const plan_kernel *k, ccc_err *err)
{
    const char *text = request_text(p, k);
    if (!text) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    for (uint32_t i = 0; i < p->n_kernels; i++)
        if (!strcmp(p->kernel[i].text, text)) {
            *out = i;
            return CCC_OK;
        }
    if (!CCC_GROW(p->mem, p->kernel, p->n_kernels, p->cap_kernels)) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    plan_kernel *n = &p->kernel[p->n_kernels];
    *n = *k;
    n->text = text;
    n->name = request_name(p, k);
    if (!n->name) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    *out = p->n_kernels++;
    return CCC_OK;
}

/* ---- arguments of a launch --------------------------------------------------------------------------------------------------------- */
static void add_param(plan_builder *b, ccart_param x)
{
    if (b->oom || !CCC_GROW(b->plan->mem, b->param, b->n_params, b->cap_params)) {
        b->oom = true;
        return;
    }
    b->param[b->n_params++] = x;
}

void pb_plain(plan_builder *b, size_t offset_B, size_t size_B, uint8_t kind, uint32_t index, int64_t value)
{
    add_param(b, (ccart_param){ .kind = kind, .size_B = (uint8_t)size_B, .offset_B = (uint16_t)offset_B, .index = index, .value = value });
}

void pb_imm(plan_builder *b, size_t offset_B, size_t size_B, const void *bytes)
{
    int64_t v = 0;
    memcpy(&v, bytes, size_B);
    pb_plain(b, offset_B, size_B, CCART_P_IMM, 0, v);
}

void pb_expr(plan_builder *b, size_t offset_B, size_t size_B, uint32_t expr)
{
    add_param(b, (ccart_param){ .kind = CCART_P_EXPR, .size_B = (uint8_t)size_B, .offset_B = (uint16_t)offset_B, .expr = expr });
}

static uint32_t new_buffer(plan_builder *b, uint64_t size_B)
{
    if (b->oom || !CCC_GROW(b->plan->mem, b->buffer, b->n_buffers, b->cap_buffers)) {
        b->oom = true;
        return 0;
    }
    b->buffer[b->n_buffers] = (plan_buffer){ (size_B + 255) & ~(uint64_t)255, 0, b->unit, b->unit };
    return b->n_buffers++;
}

uint32_t pb_scratch(plan_builder *b, uint64_t size_B) { return new_buffer(b, size_B); }

void pb_buffer(plan_builder *b, size_t offset_B, uint32_t buffer) { pb_plain(b, offset_B, 8, CCART_P_ARENA, buffer, 0); }

plan_loc pb_loc(plan_builder *b, ccc_val v)
{
    const ccc_node *n = ccc_def(b->g, v);
    if (n->op == CCC_OP_slice) {
        plan_loc l = pb_loc(b, n->in[0]);
        l.col += ccc_attr_int(n, "start");
        return l;
    }
    if (n->op == CCC_OP_kv_write) return pb_loc(b, n->in[0]);
    if (n->op == CCC_OP_cache) return (plan_loc){ CCART_P_KV, (uint32_t)ccc_attr_int(n, "layer"), 0, 0 };
    plan_loc l = b->loc[v];
    if (l.kind == CCART_P_ARENA && !b->oom && b->buffer[l.index].last < b->unit) b->buffer[l.index].last = b->unit;
    return l;
}

void pb_address(plan_builder *b, size_t offset_B, ccc_val v, int64_t extra_B)
{
    plan_loc l = pb_loc(b, v);
    int64_t at = l.col * (int64_t)ccc_dtype_bytes((ccc_dtype)b->g->value[v].type.dtype, 1) + extra_B;
    pb_plain(b, offset_B, 8, l.kind, l.index, at);
}

void pb_value(plan_builder *b, size_t offset_B, ccc_val v, int64_t extra_B)
{
    pb_address(b, offset_B, v, extra_B);
    pb_moves(b, v);
}

void pb_table(plan_builder *b, size_t offset_B, ccc_val v, ccc_val rows_of)
{
    const ccc_type *t = &b->g->value[v].type;
    pb_address(b, offset_B, v, 0);
    pb_moves_rows(b, rows_of, (int64_t)ccc_dtype_bytes((ccc_dtype)t->dtype, (uint64_t)ccc_type_last(t)), pb_loc(b, v).kind);
}

static int64_t rows_max(const plan_builder *b, const ccc_type *t)
{
    int64_t n = 1;
    for (unsigned i = 0; i + 1 < t->rank; i++) n *= ccc_dim_max(b->g, t->dim[i]);
    return n;
}

ccc_status pb_result(plan_builder *b, ccc_val v, ccc_err *err)
{
    const ccc_type *t = &b->g->value[v].type;
    int64_t cols = t->rank ? ccc_dim_max(b->g, t->dim[t->rank - 1]) : 1;
    for (uint32_t i = 0; i < b->g->n_out; i++)
        if (b->g->out[i].val == v) {
            b->loc[v] = (plan_loc){ CCART_P_OUTPUT, i, cols, 0 };
            return CCC_OK;
        }
    int64_t by = t->dtype == CCC_E4M3 ? 16 : 8, ld = t->rank > 1 ? (cols + by - 1) / by * by : cols; /* rows begin at 16 bytes, for wide loads */
    uint64_t size_B = ccc_dtype_bytes((ccc_dtype)t->dtype, (uint64_t)(rows_max(b, t) * ld));
    uint32_t buffer = new_buffer(b, size_B);
    b->loc[v] = (plan_loc){ CCART_P_ARENA, buffer, ld, 0 };
    return b->oom ? ccc_fail(err, CCC_E_NOMEM, "out of memory") : CCC_OK;
}

uint32_t pb_tmap(plan_builder *b, ccc_val v, int64_t rows, int64_t cols, uint32_t box_rows, uint32_t box_cols)
{
    plan_loc l = pb_loc(b, v);
    uint32_t elem_B = (uint32_t)ccc_dtype_bytes((ccc_dtype)b->g->value[v].type.dtype, 1);
    ccart_tmap m;
    pb_moves(b, v);
    memset(&m, 0, sizeof m); /* compared as bytes below, padding too */
    m.base_kind = l.kind;
    m.dtype = b->g->value[v].type.dtype;
    m.rank = 2;
    m.swizzle = 128;
    m.promotion = 4;
    m.index = l.index;
    m.value = l.col * elem_B;
    m.dim[0] = px_const(b, cols);
    m.dim[1] = px_const(b, rows);
    m.stride[0] = px_const(b, elem_B);
    m.stride[1] = px_const(b, l.ld * elem_B);
    m.box[0] = box_cols;
    m.box[1] = box_rows;
    for (uint32_t i = 0; i < b->n_tmaps; i++)
        if (!memcmp(&b->tmap[i], &m, sizeof m)) return i;
    if (b->oom || !CCC_GROW(b->plan->mem, b->tmap, b->n_tmaps, b->cap_tmaps)) {
        b->oom = true;
        return 0;
    }
    b->tmap[b->n_tmaps] = m;
    return b->n_tmaps++;
}

ccc_status pb_launch(plan_builder *b, const plan_kernel *k, const uint32_t grid[3], uint32_t first_param, uint32_t label, ccc_err *err)
{
    ccart_node n = { .kind = CCART_NODE_KERNEL, .edge = CCART_EDGE_FULL, .first_param = first_param, .n_params = b->n_params - first_param, .label = label };
    uint32_t number; /* n's fields have no alignment */
    CCC_TRY(plan_add_kernel(&number, b->plan, k, err));
    n.kernel = number;
    memcpy(n.grid, grid, sizeof n.grid);
    if (b->n_nodes && b->plan->config->programmatic_launch && (k->flags & CCART_KERNEL_PDL)) {
        const ccart_node *prev = &b->node[b->n_nodes - 1];
        if (prev->kind == CCART_NODE_KERNEL && (b->plan->kernel[prev->kernel].flags & CCART_KERNEL_PDL)) n.edge = CCART_EDGE_PROGRAMMATIC;
    }
    ccart_traffic moved = pb_traffic(b);
    if (b->oom || !CCC_GROW(b->plan->mem, b->node, b->n_nodes, b->cap_nodes) || !CCC_GROW(b->plan->mem, b->traffic, b->n_nodes, b->cap_traffic))
        return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    b->traffic[b->n_nodes] = moved;
    b->node[b->n_nodes++] = n;
    return CCC_OK;
}

/* ---- memory plan ---------------------------------------------------------------------------------------------------------------------- */
static int by_size(const void *x, const void *y)
{
    const plan_buffer *a = *(plan_buffer *const *)x, *b = *(plan_buffer *const *)y;
    if (a->size_B != b->size_B) return a->size_B < b->size_B ? 1 : -1;
    return a < b ? -1 : a > b;
}

static bool overlap_in_time(const plan_buffer *a, const plan_buffer *b) { return a->first <= b->last + 1 && b->first <= a->last + 1; }

/* Lowest offset at which x meets none of the placed buffers that live at the same time. */
static uint64_t first_fit(const plan_buffer *x, plan_buffer *const *placed, uint32_t n)
{
    uint64_t at = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (uint32_t i = 0; i < n; i++) {
            const plan_buffer *p = placed[i];
            if (overlap_in_time(x, p) && at < p->offset_B + p->size_B && p->offset_B < at + x->size_B) {
                at = p->offset_B + p->size_B;
                moved = true;
            }
        }
    }
    return at;
}

static ccc_status place_buffers(plan_builder *b, uint64_t *arena_B, ccc_err *err)
{
    plan_buffer **order = ccc_arena_alloc(b->plan->mem, (b->n_buffers + 1) * sizeof *order);
    if (!order) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    for (uint32_t i = 0; i < b->n_buffers; i++) order[i] = &b->buffer[i];
    qsort(order, b->n_buffers, sizeof *order, by_size);
    *arena_B = 0;
    for (uint32_t i = 0; i < b->n_buffers; i++) {
        order[i]->offset_B = first_fit(order[i], order, i);
        uint64_t end = order[i]->offset_B + order[i]->size_B;
        if (end > *arena_B) *arena_B = end;
    }
    for (uint32_t i = 0; i < b->n_params; i++) {
        ccart_param *q = &b->param[i];
        if (q->kind != CCART_P_ARENA) continue;
        q->expr = px_const(b, (int64_t)b->buffer[q->index].offset_B + q->value);
        q->index = 0;
        q->value = 0;
    }
    for (uint32_t i = 0; i < b->n_tmaps; i++) {
        ccart_tmap *m = &b->tmap[i];
        if (m->base_kind != CCART_P_ARENA) continue;
        m->base_expr = px_const(b, (int64_t)b->buffer[m->index].offset_B + m->value);
        m->index = 0;
        m->value = 0;
    }
    return b->oom ? ccc_fail(err, CCC_E_NOMEM, "out of memory") : CCC_OK;
}

/* ---- programs ------------------------------------------------------------------------------------------------------------------------- */
static ccc_status place_inputs(plan_builder *b, ccc_err *err)
{
    const ccc_graph *g = b->g;
    b->loc = ccc_arena_alloc(b->plan->mem, g->n_values * sizeof *b->loc);
    if (!b->loc) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    for (ccc_nid i = 1; i < g->n_nodes; i++) {
        if (g->node[i].op != CCC_OP_input) continue;
        const char *name = ccc_attr_str(&g->node[i], "name");
        ccc_val v = g->node[i].out[0];
        const ccc_type *t = &g->value[v].type;
        uint32_t k = 0;
        while (k < b->plan->n_in && strcmp(b->plan->in[k].name, name)) k++;
        if (k == b->plan->n_in) return ccc_fail(err, CCC_E_TYPE, "input '%s' is not in the model's table of inputs", name);
        b->loc[v] = (plan_loc){ CCART_P_INPUT, k, t->rank ? ccc_dim_max(g, t->dim[t->rank - 1]) : 1, 0 };
    }
    return CCC_OK;
}

/* Weights that a unit reads become final weights, in order of first use. */
static ccc_status place_weights(plan_builder *b, const ccc_group_info *u, ccc_err *err)
{
    for (unsigned i = 0; i < u->n_reads; i++) {
        ccc_val v = ccc_view_base(b->g, u->read[i], NULL);
        bool weight = false;
        if (!b->loc[v].kind) CCC_TRY(ccc_is_weight_value(&weight, b->g, v, err));
        if (!weight) continue;
        const ccc_type *t = &b->g->value[v].type;
        uint32_t w;
        CCC_TRY(plan_weight(&w, b->plan, b->g, v, err));
        b->loc[v] = (plan_loc){ CCART_P_WEIGHT, w, t->rank ? ccc_dim_max(b->g, t->dim[t->rank - 1]) : 1, 0 };
    }
    return CCC_OK;
}

static ccc_status check_outputs(const plan_builder *b, ccc_err *err)
{
    const ccc_graph *g = b->g;
    for (uint32_t i = 0; i < g->n_out; i++) {
        plan_loc l = b->loc[g->out[i].val];
        if (l.kind != CCART_P_OUTPUT) return ccc_fail(err, CCC_E_UNSUPPORTED, "output '%s' is an input, a weight or a slice; an output must be computed", g->out[i].name);
        if (l.index != i) return ccc_fail(err, CCC_E_UNSUPPORTED, "outputs '%s' and '%s' are the same value; name it once", g->out[l.index].name, g->out[i].name);
    }
    return CCC_OK;
}

ccc_status plan_program(ccc_plan *p, const ccc_graph *g, uint32_t mode, int64_t t_min, int64_t t_max, ccc_err *err)
{
    plan_builder b = { .plan = p, .g = g, .mode = mode, .t_min = t_min, .t_max = t_max };
    ccc_group_info *unit = NULL;
    unsigned n_units = 0;
    uint64_t arena_B = 0;
    CCC_TRY(place_inputs(&b, err));
    CCC_TRY(ccc_group_list(g, p->mem, &unit, &n_units, err));
    for (b.unit = 0; b.unit < n_units; b.unit++) {
        CCC_TRY(place_weights(&b, &unit[b.unit], err));
        CCC_TRY(plan_unit(&b, &unit[b.unit], err));
    }
    CCC_TRY(check_outputs(&b, err));
    CCC_TRY(place_buffers(&b, &arena_B, err));
    if (!CCC_GROW(p->mem, p->program, p->n_programs, p->cap_programs)) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    p->program[p->n_programs++] = (ccart_program){ .mode = mode, .t_min = t_min, .t_max = t_max, .expr = b.expr, .n_exprs = b.n_exprs, .tmap = b.tmap, .n_tmaps = b.n_tmaps,
                                                   .param = b.param, .n_params = b.n_params, .node = b.node, .n_nodes = b.n_nodes, .traffic = b.traffic, .n_traffic = b.n_nodes,
                                                   .arena_B = arena_B };
    if (p->arena_B < arena_B) p->arena_B = arena_B;
    if (p->counters_B < b.counters_B) p->counters_B = b.counters_B;
    return CCC_OK;
}
