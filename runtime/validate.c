/* What the numbers of a decoded artifact mean, checked once when it is opened: every index, every range of an
 * argument struct, every expression, every size. Code behind this takes them as they are; only values that
 * depend on the step, the device or the caller are checked again when a program is resolved (resolve.c). */
#include "ccart_codec.h"
#include <string.h>

enum {
    MAX_HOST_SCRATCH_B = 64 << 20,
    MAX_CLUSTER = 16,
    MAX_THREADS = 1024,
    MAX_DIM_BITS = 46,
    BYTES_OF_TMAP = 128
};
#define VAR(x) (1u << CCART_VAR_##x)
enum {
    VARS_IO = VAR(T) | VAR(S) | VAR(R) | VAR(MAX_BLOCKS),
    VARS_STEP = VARS_IO | VAR(SM) | VAR(RANK) | VAR(WORLD) | VAR(KV_BLOCKS) | VAR(KV_BLOCK_STRIDE) |
                VAR(KV_TOKEN_STRIDE) | VAR(KV_HEAD_STRIDE),
    VARS_LOAD = VAR(SM) | VAR(RANK) | VAR(WORLD) | VAR(ROW0) | VAR(ROWS)
};
#define BAD(...) return ccc_fail(err, CCC_E_CORRUPT, __VA_ARGS__)

enum { N_KNOWN = 64, KNOWN = 1u << 31 }; /* a program has few expressions and many uses of each */
_Static_assert(CCART_N_VARS < 31, "a set of variables leaves room for KNOWN");

typedef struct { /* the program being looked at */
    const ccart_file *f;
    const ccart_target *t;
    const ccart_program *p;
    const char *what; /* "program" or "load program" */
    uint32_t number, vars;
    bool load;
    uint32_t *known; /* [N_KNOWN] the variables of its first expressions, KNOWN where one was checked */
} place;

static ccc_status expr_index(const place *w, uint32_t e, bool node, ccc_err *err)
{
    if (e >= w->p->n_exprs)
        BAD("target %s, %s %u: there is no expression %u", w->t->name, w->what, w->number, e);
    uint32_t used = e < N_KNOWN ? w->known[e] : 0;
    if (!(used & KNOWN)) {
        CCC_TRY(ccart_expr_check(&w->p->expr[e], &used, err));
        if (e < N_KNOWN) w->known[e] = used | KNOWN;
    }
    if (used & ~(w->vars | (node ? VAR(RESIDENT) : 0) | KNOWN))
        BAD("target %s, %s %u: expression %u uses a variable that has no value there", w->t->name, w->what,
            w->number, e);
    return CCC_OK;
}

/* Names are shown to people: nothing that a terminal obeys. */
static bool printable(const char *s)
{
    while (*s && (unsigned char)*s >= ' ' && *s != 0x7f) s++;
    return !*s;
}

/* ---- kernels */
static ccc_status module_index(const ccart_target *t, const ccart_kernel *k, uint32_t m, uint32_t kind,
                               ccc_err *err)
{
    if (m == UINT32_MAX) return CCC_OK;
    if (m >= t->n_modules || t->module[m].kind != kind || !t->module[m].size_B)
        BAD("target %s: kernel '%s' names a module that is not there", t->name, k->name);
    return CCC_OK;
}

static ccc_status check_kernel(const ccart_target *t, const ccart_kernel *k, ccc_err *err)
{
    bool host = t->kind == CCART_TARGET_HOST;
    CCC_TRY(module_index(t, k, k->cubin, host ? CCART_MODULE_HOST : CCART_MODULE_CUBIN, err));
    CCC_TRY(module_index(t, k, k->ptx, CCART_MODULE_PTX, err));
    if (k->cubin == UINT32_MAX && (host || k->ptx == UINT32_MAX))
        BAD("target %s: kernel '%s' has no code", t->name, k->name);
    if (host && (k->entry_B >= t->module[k->cubin].size_B || k->ptx != UINT32_MAX))
        BAD("target %s: kernel '%s' begins outside its image", t->name, k->name);
    if (!host && !*k->symbol) BAD("target %s: kernel '%s' has no symbol", t->name, k->name);
    if (k->threads < 1 || k->threads > MAX_THREADS || k->cluster < 1 || k->cluster > MAX_CLUSTER ||
        (host && k->cluster != 1))
        BAD("target %s: kernel '%s' has blocks of %u threads in clusters of %u", t->name, k->name, k->threads,
            k->cluster);
    if (k->shared_B > (host ? MAX_HOST_SCRATCH_B : CCART_MAX_SHARED_B))
        BAD("target %s: kernel '%s' wants %u bytes of shared memory", t->name, k->name, k->shared_B);
    if (k->args_B < 1 || k->args_B > CCART_MAX_ARGS_B || k->args_align < 1 || k->args_align > 64 ||
        (k->args_align & (k->args_align - 1)) || k->args_B % k->args_align)
        BAD("target %s: kernel '%s' has an argument struct of %u bytes aligned to %u", t->name, k->name,
            k->args_B, k->args_align);
    if (k->flags & ~(uint32_t)(CCART_KERNEL_PDL | CCART_KERNEL_COOPERATIVE))
        return ccc_fail(err, CCC_E_VERSION,
                        "target %s: kernel '%s' has a flag that this version does not know", t->name,
                        k->name);
    return CCC_OK;
}

/* ---- parameters */
static uint64_t buffer_of(const place *w, uint32_t kind,
                          uint32_t index) /* bytes of a thing whose size the artifact states; 0: none such */
{
    const ccart_target *t = w->t;
    switch (kind) {
    case CCART_P_WEIGHT:
        return index < t->n_weights ? t->weight[index].size_B : 0;
    case CCART_P_COUNTER:
        return t->counters_B;
    case CCART_P_CONST:
        return t->constant_B;
    default:
        return 0;
    }
}

static ccc_status check_address(const place *w, uint32_t kind, uint32_t index, int64_t value, uint32_t expr,
                                ccc_err *err)
{
    const ccart_target *t = w->t;
    switch (kind) {
    case CCART_P_WEIGHT:
    case CCART_P_COUNTER:
    case CCART_P_CONST:
        if (value >= 0 && (uint64_t)value < buffer_of(w, kind, index)) return CCC_OK;
        break;
    case CCART_P_ARENA:
        if (!w->load) return expr_index(w, expr, true, err);
        break;
    case CCART_P_INPUT:
        if (!w->load && index < t->n_in && value >= 0) return CCC_OK;
        break;
    case CCART_P_OUTPUT:
        if (!w->load && index < t->n_out && value >= 0) return CCC_OK;
        break;
    case CCART_P_KV:
        if (!w->load && index < w->f->n_layers && (value == 0 || value == 1)) return CCC_OK;
        break;
    case CCART_P_STATUS:
        if (!w->load && value >= 0 && value <= 12 && value % 4 == 0) return CCC_OK;
        break;
    case CCART_P_SRC:
        if ((w->load || w->p->mode == CCART_MODE_READ) && value >= 0) return CCC_OK;
        break;
    default:
        break;
    }
    BAD("target %s, %s %u: an address (kind %u, index %u) lies outside of what it names", t->name, w->what,
        w->number, kind, index);
}

static ccc_status check_param(const place *w, const ccart_kernel *k, const ccart_param *q,
                              uint64_t used[CCART_MAX_ARGS_B / 64], ccc_err *err)
{
    const char *bad_size = "target %s, %s %u: an argument of kernel '%s' has size %u at byte %u";
    unsigned n = q->size_B, align = n;
    bool fits = false;
    switch (q->kind) {
    case CCART_P_IMM:
        fits = n == 1 || n == 2 || n == 4 || n == 8;
        break;
    case CCART_P_EXPR:
        fits = n == 4 || n == 8;
        CCC_TRY(expr_index(w, q->expr, true, err));
        break;
    case CCART_P_TMAP:
        fits = n == BYTES_OF_TMAP && k->args_align == 64 && q->index < w->p->n_tmaps;
        align = 64;
        break;
    case CCART_P_SEED:
        fits = n == 8 && w->load;
        break;
    case CCART_P_PEER:
    case CCART_P_ADAPTER:
        return ccc_fail(err, CCC_E_UNSUPPORTED,
                        "target %s, %s %u: arguments of kind %u are for a later version", w->t->name, w->what,
                        w->number, q->kind);
    default:
        fits = n == 8;
        CCC_TRY(check_address(w, q->kind, q->index, q->value, q->expr, err));
    }
    if (!fits || q->offset_B % align || q->offset_B + n > k->args_B)
        BAD(bad_size, w->t->name, w->what, w->number, k->name, n, q->offset_B);
    uint64_t mask = n >= 64 ? UINT64_MAX : ((1ull << n) - 1) << q->offset_B % 64; /* aligned to its size: one word, or whole ones */
    for (unsigned i = q->offset_B / 64; i <= (q->offset_B + n - 1) / 64; i++) {
        if (used[i] & mask)
            BAD("target %s, %s %u: two arguments of kernel '%s' overlap at byte %u", w->t->name, w->what,
                w->number, k->name, q->offset_B);
        used[i] |= mask;
    }
    return CCC_OK;
}

static ccc_status check_tmap(const place *w, const ccart_tmap *m, ccc_err *err)
{
    uint64_t elem_B;
    bool fits = w->t->kind == CCART_TARGET_CUDA && !w->load && m->rank >= 1 && m->rank <= CCART_MAX_RANK;
    fits = fits &&
           (m->dtype == CCART_F32 || m->dtype == CCART_F16 || m->dtype == CCART_BF16 ||
            m->dtype == CCART_E4M3 || m->dtype == CCART_E4M3 + 1 || m->dtype == CCART_I32) &&
           ccart_storage_B(m->dtype, 1, &elem_B);
    fits = fits && (m->swizzle == 0 || m->swizzle == 32 || m->swizzle == 64 || m->swizzle == 128);
    fits = fits && (m->promotion <= 2 || m->promotion == 4);
    for (uint32_t i = 0; fits && i < m->rank; i++) fits = m->box[i] >= 1 && m->box[i] <= 256;
    fits = fits && m->box[0] * elem_B % 16 == 0 && (!m->swizzle || m->box[0] * elem_B <= m->swizzle);
    if (!fits)
        BAD("target %s, %s %u: a tensor map is not one that the hardware has", w->t->name, w->what,
            w->number);
    if (m->base_kind != CCART_P_WEIGHT && m->base_kind != CCART_P_ARENA && m->base_kind != CCART_P_INPUT &&
        m->base_kind != CCART_P_OUTPUT)
        BAD("target %s, %s %u: a tensor map describes an address of kind %u", w->t->name, w->what, w->number,
            m->base_kind);
    if (m->base_kind == CCART_P_ARENA) CCC_TRY(expr_index(w, m->base_expr, false, err));
    else CCC_TRY(check_address(w, m->base_kind, m->index, m->value, 0, err));
    for (uint32_t i = 0; i < m->rank; i++) {
        CCC_TRY(expr_index(w, m->dim[i], false, err));
        if (i) CCC_TRY(expr_index(w, m->stride[i], false, err));
    }
    return CCC_OK;
}

/* ---- nodes */
static ccc_status check_kernel_node(const place *w, const ccart_node *n, const ccart_node *before,
                                    ccc_err *err)
{
    if (n->kernel >= w->t->n_kernels)
        BAD("target %s, %s %u: there is no kernel %u", w->t->name, w->what, w->number, n->kernel);
    const ccart_kernel *k = &w->t->kernel[n->kernel];
    uint64_t used[CCART_MAX_ARGS_B / 64] = {0};
    for (int i = 0; i < 3; i++) CCC_TRY(expr_index(w, n->grid[i], true, err));
    for (uint32_t i = 0; i < n->n_params; i++)
        CCC_TRY(check_param(w, k, &w->p->param[n->first_param + i], used, err));
    if (n->edge == CCART_EDGE_PROGRAMMATIC &&
        (!(k->flags & CCART_KERNEL_PDL) || !before || before->kind != CCART_NODE_KERNEL))
        BAD("target %s, %s %u: a programmatic edge leads to kernel '%s', which does not wait for it",
            w->t->name, w->what, w->number, k->name);
    return CCC_OK;
}

static ccc_status check_memory_node(const place *w, const ccart_node *n, ccc_err *err)
{
    uint32_t want = n->kind == CCART_NODE_MEMSET ? 1 : 2;
    if (n->n_params != want || n->edge != CCART_EDGE_FULL || n->fill > 255)
        BAD("target %s, %s %u: a memory node has %u addresses and edge %u", w->t->name, w->what, w->number,
            n->n_params, n->edge);
    for (uint32_t i = 0; i < want; i++) {
        const ccart_param *q = &w->p->param[n->first_param + i];
        bool sized = q->kind == CCART_P_ARENA || q->kind == CCART_P_COUNTER || q->kind == CCART_P_INPUT ||
                     q->kind == CCART_P_OUTPUT ||
                     (i == 1 && (q->kind == CCART_P_WEIGHT || q->kind == CCART_P_CONST));
        if (!sized || w->load)
            BAD("target %s, %s %u: a memory node uses an address of kind %u", w->t->name, w->what, w->number,
                q->kind);
        CCC_TRY(check_address(w, q->kind, q->index, q->value, q->expr, err));
    }
    return expr_index(w, n->size_expr, false, err);
}

static ccc_status check_node(const place *w, uint32_t i, ccc_err *err)
{
    const ccart_node *n = &w->p->node[i];
    if (n->edge > CCART_EDGE_PROGRAMMATIC)
        return ccc_fail(err, CCC_E_VERSION, "target %s, %s %u: edge kind %u is not known to this version",
                        w->t->name, w->what, w->number, n->edge);
    if (n->first_param > w->p->n_params || n->n_params > w->p->n_params - n->first_param)
        BAD("target %s, %s %u: node %u has arguments that are not there", w->t->name, w->what, w->number, i);
    switch (n->kind) {
    case CCART_NODE_KERNEL:
        return check_kernel_node(w, n, i ? n - 1 : NULL, err);
    case CCART_NODE_MEMSET:
    case CCART_NODE_COPY:
        return check_memory_node(w, n, err);
    case CCART_NODE_SPLIT:
    case CCART_NODE_COLLECTIVE:
    case CCART_NODE_CHILD:
    case CCART_NODE_SWITCH:
        return ccc_fail(err, CCC_E_UNSUPPORTED, "target %s, %s %u: nodes of kind %u are for a later version",
                        w->t->name, w->what, w->number, n->kind);
    default:
        return ccc_fail(err, CCC_E_VERSION, "target %s, %s %u: node kind %u is not known to this version",
                        w->t->name, w->what, w->number, n->kind);
    }
}

static ccc_status check_program(place *w, ccc_err *err)
{
    const ccart_program *p = w->p;
    uint32_t known[N_KNOWN] = {0};
    w->known = known;
    if (w->load ? p->mode != 0 : p->mode < CCART_MODE_DECODE || p->mode > CCART_MODE_READ)
        return ccc_fail(err, CCC_E_VERSION, "target %s, %s %u: mode %u is not known to this version",
                        w->t->name, w->what, w->number, p->mode);
    if (p->t_min < 0 || p->t_max < p->t_min || (p->mode <= CCART_MODE_MIXED && p->t_max > INT32_MAX) ||
        p->arena_B > w->t->arena_B)
        BAD("target %s, %s %u: it serves %lld to %lld tokens in %llu bytes", w->t->name, w->what, w->number,
            (long long)p->t_min, (long long)p->t_max, (unsigned long long)p->arena_B);
    for (uint32_t i = 0; i < p->n_tmaps; i++) CCC_TRY(check_tmap(w, &p->tmap[i], err));
    for (uint32_t i = 0; i < p->n_nodes; i++) CCC_TRY(check_node(w, i, err));
    if (p->n_traffic && p->n_traffic != p->n_nodes)
        BAD("target %s, %s %u: it has %u nodes and states the traffic of %u", w->t->name, w->what, w->number,
            p->n_nodes, p->n_traffic);
    for (uint32_t i = 0; i < p->n_traffic; i++) {
        CCC_TRY(expr_index(w, p->traffic[i].memory_expr, false, err));
        CCC_TRY(expr_index(w, p->traffic[i].local_expr, false, err));
    }
    if (w->load && p->n_nodes != 1)
        BAD("target %s, %s %u: it has %u nodes, not 1", w->t->name, w->what, w->number, p->n_nodes);
    return CCC_OK;
}

/* ---- weights and io */
static ccc_status check_weights(const ccart_target *t, ccc_err *err)
{
    uint64_t total_B = 0;
    for (uint32_t i = 0; i < t->n_weights; i++) {
        const ccart_weight *w = &t->weight[i];
        uint64_t n, size_B;
        if (w->rank > CCART_MAX_RANK || !ccart_product(w->dim, w->rank, &n) || !n ||
            !ccart_storage_B(w->dtype, n, &size_B) || size_B != w->size_B)
            BAD("target %s: weight '%s' has a shape and a size that do not agree", t->name, w->name);
        if (size_B >> MAX_DIM_BITS || (total_B += size_B) >> MAX_DIM_BITS)
            BAD("target %s: weight '%s' is too large", t->name, w->name);
    }
    return CCC_OK;
}

static ccc_status check_segment(const ccart_target *t, const ccart_segment *s, ccc_err *err)
{
    const char *name = *s->source ? s->source : "(constants)";
    if (s->weight >= t->n_weights || s->dst_B > t->weight[s->weight].size_B ||
        s->dst_size_B > t->weight[s->weight].size_B - s->dst_B)
        BAD("target %s: source '%s' goes outside its weight", t->name, name);
    if ((s->load_program != UINT32_MAX && s->load_program >= t->n_load) ||
        (s->random_program != UINT32_MAX && s->random_program >= t->n_load))
        BAD("target %s: source '%s' names a load program that is not there", t->name, name);
    uint64_t n, size_B;
    if (s->rank > CCART_MAX_RANK || s->row_group < 1 || !ccart_product(s->dim, s->rank, &n) || !n ||
        n >> MAX_DIM_BITS)
        BAD("target %s: source '%s' has a shape that is not one", t->name, name);
    if (!*s->source) {
        if (s->plain || s->load_program == UINT32_MAX)
            BAD("target %s: a weight of constants has no load program", t->name);
        return CCC_OK;
    }
    if (!ccart_storage_B(s->src_dtype, n, &size_B) || !s->row_B || size_B % s->row_B ||
        size_B / s->row_B > INT32_MAX || size_B / s->row_B % (uint64_t)s->row_group)
        BAD("target %s: source '%s' has a shape and a row size that do not agree", t->name, name);
    if (s->plain ? s->dst_size_B != size_B : s->load_program == UINT32_MAX)
        BAD("target %s: source '%s' has neither the bytes of its weight nor a load program", t->name, name);
    return CCC_OK;
}

static ccc_status check_io(const ccart_target *t, const ccart_io *io, uint32_t n, ccc_err *err)
{
    for (uint32_t i = 0; i < n; i++) {
        uint64_t elem_B;
        if (!*io[i].name || io[i].rank > CCART_MAX_RANK || io[i].optional > 1 ||
            !ccart_storage_B(io[i].dtype, 1, &elem_B))
            BAD("target %s: input or output '%s' has no valid type", t->name, io[i].name);
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(io[i].name, io[k].name) == 0)
                BAD("target %s: '%s' is there twice", t->name, io[i].name);
        for (uint32_t k = 0; k < io[i].rank; k++) {
            uint32_t used;
            if (io[i].dim_expr[k] >= t->n_io_exprs)
                BAD("target %s: '%s' has a dimension that is not there", t->name, io[i].name);
            CCC_TRY(ccart_expr_check(&t->io_expr[io[i].dim_expr[k]], &used, err));
            if (used & ~(uint32_t)VARS_IO)
                BAD("target %s: '%s' has a dimension that depends on more than the step", t->name,
                    io[i].name);
        }
    }
    return CCC_OK;
}

static ccc_status check_names(const ccart_target *t, ccc_err *err)
{
    bool fine = *t->name && printable(t->name);
    for (uint32_t i = 0; fine && i < t->n_kernels; i++)
        fine = printable(t->kernel[i].name) && printable(t->kernel[i].symbol);
    for (uint32_t i = 0; fine && i < t->n_weights; i++) fine = printable(t->weight[i].name);
    for (uint32_t i = 0; fine && i < t->n_segments; i++) fine = printable(t->segment[i].source);
    for (uint32_t i = 0; fine && i < t->n_in; i++) fine = printable(t->in[i].name);
    for (uint32_t i = 0; fine && i < t->n_out; i++) fine = printable(t->out[i].name);
    if (!fine) BAD("target '%s' has a name that cannot be printed, or none", t->name);
    return CCC_OK;
}

static ccc_status check_target(const ccart_file *f, const ccart_target *t, ccc_err *err)
{
    CCC_TRY(check_names(t, err));
    if (t->kind != CCART_TARGET_CUDA && t->kind != CCART_TARGET_HOST)
        return ccc_fail(err, CCC_E_VERSION, "target %s: its kind %u is not known to this version", t->name,
                        t->kind);
    if (t->arena_B >> MAX_DIM_BITS || t->counters_B >> 32)
        BAD("target %s: its buffers are too large", t->name);
    for (uint32_t i = 0; i < t->n_kernels; i++) CCC_TRY(check_kernel(t, &t->kernel[i], err));
    CCC_TRY(check_weights(t, err));
    for (uint32_t i = 0; i < t->n_segments; i++) CCC_TRY(check_segment(t, &t->segment[i], err));
    CCC_TRY(check_io(t, t->in, t->n_in, err));
    CCC_TRY(check_io(t, t->out, t->n_out, err));
    for (uint32_t i = 0; i < t->n_programs; i++) {
        const ccart_program *p = &t->program[i];
        uint32_t vars = VARS_STEP | (p->mode == CCART_MODE_READ ? VAR(ROWS) : 0);
        CCC_TRY(check_program(&(place){f, t, p, "program", i, vars, false, NULL}, err));
    }
    for (uint32_t i = 0; i < t->n_load; i++)
        CCC_TRY(check_program(&(place){f, t, &t->load[i], "load program", i, VARS_LOAD, true, NULL}, err));
    return CCC_OK;
}

static ccc_status check_model(const ccart_file *f, ccc_err *err)
{
    const int64_t limit[] = {f->max_tokens, f->max_seqs, f->max_model_len, f->vocab, f->hidden};
    for (unsigned i = 0; i < sizeof limit / sizeof *limit; i++)
        if (limit[i] < 0 || limit[i] > INT32_MAX) BAD("a limit of the model is %lld", (long long)limit[i]);
    for (uint32_t i = 0; i < f->n_sizes; i++)
        if (!f->size[i] || f->size[i] > f->max_tokens || (i && f->size[i] <= f->size[i - 1]))
            BAD("the captured sizes are not ascending");
    if (!f->n_layers) return CCC_OK;
    if (f->kv_dtype != CCART_BF16 && f->kv_dtype != CCART_E4M3)
        return ccc_fail(err, CCC_E_UNSUPPORTED,
                        "this version keeps a KV cache in bf16 or e4m3, the artifact wants element type %u",
                        f->kv_dtype);
    if (f->kv_dtype == CCART_E4M3 && f->head_size % 16) BAD("a KV cache of e4m3 has heads of %u", f->head_size);
    if (f->kv_layout < 1 || f->kv_layout > 3)
        return ccc_fail(err, CCC_E_VERSION, "KV cache layout %u is not known to this version", f->kv_layout);
    if (f->n_layers > 65536 || !f->kv_heads || f->kv_heads > 65536 || !f->head_size || f->head_size > 65536 ||
        !f->kv_block_size || f->kv_block_size > 65536 || !f->max_tokens || !f->max_seqs || !f->max_model_len)
        BAD("the KV cache has %u layers of %u heads of %u in blocks of %u", f->n_layers, f->kv_heads,
            f->head_size, f->kv_block_size);
    return CCC_OK;
}

ccc_status ccart_validate(const ccart_file *f, ccc_err *err)
{
    CCC_TRY(check_model(f, err));
    if (!f->n_targets) BAD("the artifact has no target");
    for (uint32_t i = 0; i < f->n_targets; i++) {
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(f->target[i].name, f->target[k].name) == 0)
                BAD("target %s is there twice", f->target[i].name);
        CCC_TRY(check_target(f, &f->target[i], err));
    }
    return CCC_OK;
}
