/* From a program and the numbers of a step to launches: expressions are evaluated, addresses put in, argument
 * structs filled. This is the whole of relocation; graphs and eager steps use the same function, so they
 * cannot differ. What the artifact could not promise when it was opened - that an address which depends on
 * the step lies inside its buffer - is checked here. Allocates nothing. */
#include "rt.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_GRID_X = 0x7fffffff, MAX_GRID_YZ = 65535, MAX_BLOCKS = 1 << 26 /* more than any step needs; a launch must end */, ARGS_ALIGN_B = 64 };
#define STALE(...) return ccc_fail(err, CCC_E_CORRUPT, __VA_ARGS__)

static size_t args_room(uint32_t args_B)
{
    return ((size_t)args_B + ARGS_ALIGN_B - 1) & ~(size_t)(ARGS_ALIGN_B - 1);
}

static size_t args_of(const ccart_target *t, const ccart_program *p)
{
    size_t args_B = 0;
    for (uint32_t i = 0; p && i < p->n_nodes; i++)
        if (p->node[i].kind == CCART_NODE_KERNEL) args_B += args_room(t->kernel[p->node[i].kernel].args_B);
    return args_B;
}

ccc_status rt_list_reserve(rt_list *l, const ccart_target *t, const ccart_program *p,
                           const ccart_program *behind, ccc_err *err)
{
    size_t args_B = args_of(t, p) + args_of(t, behind), n = (size_t)p->n_nodes + (behind ? behind->n_nodes : 0);
    if (n > l->cap || !l->launch) {
        rt_launch *to = realloc(l->launch, (n + 1) * sizeof *to);
        if (!to) return ccc_fail(err, CCC_E_NOMEM, "out of memory for the launches of a program");
        l->launch = to;
        l->cap = (uint32_t)n;
    }
    if (args_B > l->args_cap_B || !l->args) {
        free(l->args);
        l->args_cap_B = 0;
        l->args = aligned_alloc(ARGS_ALIGN_B, args_B + ARGS_ALIGN_B);
        if (!l->args) return ccc_fail(err, CCC_E_NOMEM, "out of memory for the arguments of a program");
        l->args_cap_B = args_B;
    }
    return CCC_OK;
}

void rt_list_free(rt_list *l)
{
    free(l->launch);
    free(l->args);
    *l = (rt_list){0};
}

static ccc_status number(int64_t *out, const rt_scope *s, const ccart_program *p, uint32_t e, ccc_err *err)
{
    if (!ccart_expr_eval(&p->expr[e], s->var, out))
        STALE("target %s: expression %u of a program overflows for this step", s->code->target->name, e);
    return CCC_OK;
}

/* The address of a thing and how many bytes lie behind it; NULL with 0 bytes for an optional input that is
 * not bound. */
static ccc_status address(char **out, uint64_t *left_B, const rt_scope *s, const ccart_program *p,
                          uint32_t kind, uint32_t index, int64_t value, uint32_t expr, ccc_err *err)
{
    const ccart_target *t = s->code->target;
    rt_buffer b = {0};
    int64_t at = value;
    switch (kind) {
    case CCART_P_WEIGHT:
        b = (rt_buffer){s->weights + s->weight_at_B[index], t->weight[index].size_B};
        break;
    case CCART_P_CONST:
        b = (rt_buffer){s->code->constant, t->constant_B};
        break;
    case CCART_P_ARENA:
        b = s->arena;
        CCC_TRY(number(&at, s, p, expr, err));
        break;
    case CCART_P_INPUT:
        b = s->in[index];
        break;
    case CCART_P_OUTPUT:
        b = s->out[index];
        break;
    case CCART_P_COUNTER:
        b = s->counters;
        break;
    case CCART_P_SRC:
        b = s->src;
        break;
    case CCART_P_STATUS:
        b = (rt_buffer){s->status, 16};
        break;
    case CCART_P_KV: /* the caller's: its size follows from its description */
        *out = value ? s->kv->v[index] : s->kv->k[index];
        *left_B = UINT64_MAX;
        return CCC_OK;
    default:
        STALE("target %s: an address of kind %u", t->name, kind);
    }
    *out = NULL;
    *left_B = 0;
    if (!b.p && (kind == CCART_P_INPUT || kind == CCART_P_SRC)) return CCC_OK;
    if (at < 0 || (uint64_t)at > b.size_B || (kind != CCART_P_ARENA && (uint64_t)at == b.size_B))
        STALE("target %s: byte %lld of a buffer (kind %u) of %llu bytes", t->name, (long long)at, kind,
              (unsigned long long)b.size_B);
    *out = b.p + at;
    *left_B = b.size_B - (uint64_t)at;
    return CCC_OK;
}

/* Encodes map i unless the one kept from before has the same numbers. */
static ccc_status tensor_map(const uint8_t **out, const rt_scope *s, const ccart_program *p, uint32_t i,
                             rt_tmap *kept, ccc_err *err)
{
    const ccart_tmap *m = &p->tmap[i];
    rt_tmap_key key;
    memset(&key, 0, sizeof key);
    char *base;
    uint64_t left_B, elem_B = 0, span_B;
    CCC_TRY(address(&base, &left_B, s, p, m->base_kind, m->index, m->value, m->base_expr, err));
    key.base = (uint64_t)(uintptr_t)base;
    bool fits = base && ccart_storage_B(m->dtype, 1, &elem_B), empty = false;
    span_B = elem_B;
    for (uint32_t k = 0; k < m->rank && fits; k++) {
        int64_t dim, stride = 0;
        CCC_TRY(number(&dim, s, p, m->dim[k], err));
        if (k) CCC_TRY(number(&stride, s, p, m->stride[k], err));
        key.dim[k] = (uint64_t)dim;
        key.stride[k] = (uint64_t)stride;
        uint64_t more_B = 0;
        empty |= dim == 0;
        fits = dim >= 0 && stride >= 0 && dim <= UINT32_MAX;
        fits =
            fits &&
            (empty || !__builtin_mul_overflow((uint64_t)dim - 1, k ? (uint64_t)stride : elem_B, &more_B)) &&
            !__builtin_add_overflow(span_B, more_B, &span_B);
    }
    if (!fits || (!empty && span_B > left_B))
        STALE("target %s: tensor map %u goes beyond its buffer", s->code->target->name, i);
    rt_tmap *to = &kept[i];
    *out = to->map;
    if (to->valid && memcmp(&to->key, &key, sizeof key) == 0) return CCC_OK;
    rt_tmap_spec spec = {.dtype = m->dtype,
                         .rank = m->rank,
                         .swizzle = m->swizzle,
                         .promotion = m->promotion,
                         .base = key.base};
    for (uint32_t k = 0; k < m->rank; k++) {
        spec.dim[k] =
            empty ? 1 : key.dim[k]; /* a map over nothing cannot be encoded; no block reads through it */
        spec.stride[k] = key.stride[k];
        spec.box[k] = m->box[k];
    }
    to->valid = false;
    CCC_TRY(s->code->device->backend->encode_tmap(s->code->device, to->map, &spec, err));
    to->key = key;
    to->valid = true;
    return CCC_OK;
}

static ccc_status argument(uint8_t *args, const rt_scope *s, const ccart_program *p, const ccart_param *q,
                           rt_tmap *tmaps, ccc_err *err)
{
    int64_t v = q->value;
    char *at;
    uint64_t left_B;
    const uint8_t *map = NULL;
    switch (q->kind) {
    case CCART_P_IMM:
        break;
    case CCART_P_EXPR:
        CCC_TRY(number(&v, s, p, q->expr, err));
        if (q->size_B == 4 && (v < INT32_MIN || v > INT32_MAX))
            STALE("target %s: a number for the kernel, %lld, does not fit in 32 bits", s->code->target->name,
                  (long long)v);
        break;
    case CCART_P_SEED:
        v = (int64_t)s->seed;
        break;
    case CCART_P_TMAP:
        CCC_TRY(tensor_map(&map, s, p, q->index, tmaps, err));
        memcpy(args + q->offset_B, map, 128);
        return CCC_OK;
    default:
        CCC_TRY(address(&at, &left_B, s, p, q->kind, q->index, q->value, q->expr, err));
        v = (int64_t)(intptr_t)at;
    }
    memcpy(args + q->offset_B, &v, q->size_B); /* little endian: the low bytes */
    return CCC_OK;
}

static ccc_status kernel_node(rt_launch *l, uint8_t *args, rt_scope *s, const ccart_program *p,
                              const ccart_node *n, rt_tmap *tmaps, ccc_err *err)
{
    const ccart_kernel *k = &s->code->target->kernel[n->kernel];
    s->var[CCART_VAR_RESIDENT] = s->code->kernel[n->kernel].resident;
    for (int i = 0; i < 3; i++) {
        int64_t v;
        CCC_TRY(number(&v, s, p, n->grid[i], err));
        if (v < 0 || v > (i ? MAX_GRID_YZ : MAX_GRID_X))
            STALE("target %s: kernel '%s' would get %lld blocks", s->code->target->name, k->name,
                  (long long)v);
        l->grid[i] = (uint32_t)v;
    }
    if ((uint64_t)l->grid[1] * l->grid[2] > MAX_BLOCKS || (uint64_t)l->grid[0] * l->grid[1] * l->grid[2] > MAX_BLOCKS)
        STALE("target %s: kernel '%s' would get %u x %u x %u blocks", s->code->target->name, k->name, l->grid[0], l->grid[1], l->grid[2]);
    if (l->grid[0] % k->cluster)
        STALE("target %s: %u blocks of kernel '%s' are no whole clusters of %u", s->code->target->name,
              l->grid[0], k->name, k->cluster);
    memset(args, 0, k->args_B);
    l->args = args;
    if (!l->grid[0] || !l->grid[1] || !l->grid[2]) return CCC_OK;
    for (uint32_t i = 0; i < n->n_params; i++)
        CCC_TRY(argument(args, s, p, &p->param[n->first_param + i], tmaps, err));
    return CCC_OK;
}

static ccc_status memory_node(rt_launch *l, rt_scope *s, const ccart_program *p, const ccart_node *n,
                              ccc_err *err)
{
    char *at[2] = {0};
    int64_t size_B;
    uint64_t left_B = 0;
    CCC_TRY(number(&size_B, s, p, n->size_expr, err));
    for (uint32_t i = 0; i < n->n_params; i++) {
        const ccart_param *q = &p->param[n->first_param + i];
        CCC_TRY(address(&at[i], &left_B, s, p, q->kind, q->index, q->value, q->expr, err));
        if (size_B < 0 || (uint64_t)size_B > left_B)
            STALE("target %s: a memory node goes beyond its buffer", s->code->target->name);
    }
    uintptr_t to = (uintptr_t)at[0], from = (uintptr_t)at[1];
    if (n->n_params == 2 && (to < from ? from - to : to - from) < (uint64_t)size_B)
        STALE("target %s: source and destination of a copy overlap", s->code->target->name);
    l->dst = at[0];
    l->src = at[1];
    l->size_B = (uint64_t)size_B;
    l->fill = (uint8_t)n->fill;
    return CCC_OK;
}

ccc_status rt_resolve(rt_list *out, rt_scope *s, const ccart_program *p, rt_tmap *tmaps, ccc_err *err)
{
    out->n = 0;
    out->args_B = 0;
    return rt_resolve_behind(out, s, p, tmaps, err);
}

/* May l, the first node of a program behind another one, start early? Its kernel waits by itself, and so did all that
 * started early before it. */
static bool joins(const ccart_target *t, const rt_list *list, const rt_launch *l)
{
    const rt_launch *before = list->n ? &list->launch[list->n - 1] : NULL;
    return l->node == 0 && l->kind == CCART_NODE_KERNEL && (t->kernel[l->kernel].flags & CCART_KERNEL_PDL) && before &&
           before->kind == CCART_NODE_KERNEL && before->edge == CCART_EDGE_PROGRAMMATIC;
}

ccc_status rt_resolve_behind(rt_list *out, rt_scope *s, const ccart_program *p, rt_tmap *tmaps, ccc_err *err)
{
    /* the first node, or one behind a node that had nothing to do and was left out, must not start beside the
     * one before */
    bool gap = true;
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        const ccart_node *n = &p->node[i];
        rt_launch *l = &out->launch[out->n];
        *l = (rt_launch){.kind = n->kind, .edge = n->edge, .kernel = n->kernel, .node = i, .label = n->label};
        if (n->kind == CCART_NODE_KERNEL) CCC_TRY(kernel_node(l, out->args + out->args_B, s, p, n, tmaps, err));
        else CCC_TRY(memory_node(l, s, p, n, err));
        if (n->kind == CCART_NODE_KERNEL ? !l->grid[0] || !l->grid[1] || !l->grid[2] : !l->size_B) {
            gap = true;
            continue;
        }
        if (n->kind == CCART_NODE_KERNEL) out->args_B += args_room(s->code->target->kernel[n->kernel].args_B);
        if (gap) l->edge = joins(s->code->target, out, l) ? CCART_EDGE_PROGRAMMATIC : CCART_EDGE_FULL;
        gap = false;
        out->n++;
    }
    return CCC_OK;
}

ccc_status rt_io_bytes(uint64_t *out, const ccart_target *t, const ccart_io *io,
                       const int64_t var[CCART_N_VARS], ccc_err *err)
{
    int64_t dim[CCART_MAX_RANK];
    uint64_t n;
    for (uint32_t i = 0; i < io->rank; i++)
        if (!ccart_expr_eval(&t->io_expr[io->dim_expr[i]], var, &dim[i]))
            STALE("target %s: the size of '%s' overflows", t->name, io->name);
    if (!ccart_product(dim, io->rank, &n) || !ccart_storage_B(io->dtype, n, out) || *out >> 46)
        STALE("target %s: '%s' has no valid size", t->name, io->name);
    return CCC_OK;
}
