/* Making and unmaking of sessions: the arena, inputs and outputs, counters, status words, and which kernels
 * and programs they need. Everything a step uses is allocated here. */
#include "session.h"
#include <stdlib.h>
#include <string.h>

const rt_input_info rt_inputs[RT_N_INPUTS] = {
    [RT_TOKENS] = {"token_ids", CCART_I32},      [RT_POSITIONS] = {"positions", CCART_I64},
    [RT_SLOTS_OF] = {"slot_mapping", CCART_I64}, [RT_STARTS] = {"query_start_loc", CCART_I32},
    [RT_LOGITS] = {"logits_indices", CCART_I32}, [RT_LENS] = {"seq_lens", CCART_I32},
    [RT_TABLE] = {"block_table", CCART_I32},
};
enum { STATUS_B = 16, MAX_BLOCKS_PER_SEQ = 1 << 24 };

static uint64_t align_up(uint64_t n)
{
    return (n + RT_ALIGN_B - 1) & ~(uint64_t)(RT_ALIGN_B - 1);
}

/* ---- the caller's KV cache */
static ccc_status take_kv(cccrt_session *s, const cccrt_kv *given, ccc_err *err)
{
    const ccart_file *f = s->file;
    if (!f->n_layers && !given) return CCC_OK;
    if (!f->n_layers) return ccc_fail(err, CCC_E_ARG, "the model has no KV cache, but one was given");
    if (!given) return ccc_fail(err, CCC_E_ARG, "the model needs a KV cache: give cccrt_session_args.kv");
    CCC_TRY(rt_args(&s->kv, sizeof s->kv, given, "cccrt_kv", err));
    cccrt_kv *kv = &s->kv, own = {0};
    uint64_t layer_B;
    bool joined;
    rt_kv_strides(f, &own, &layer_B, &joined);
    if (kv->n_layers != f->n_layers || !kv->k || !kv->v)
        return ccc_fail(err, CCC_E_ARG, "the KV cache has %u layers, the model has %u", kv->n_layers,
                        f->n_layers);
    if (kv->n_blocks < 1 || kv->n_blocks > INT32_MAX)
        return ccc_fail(err, CCC_E_ARG, "the KV cache has %lld blocks", (long long)kv->n_blocks);
    int64_t row_B = rt_kv_row_B(f);
    bool packed = kv->head_stride_B == own.head_stride_B && kv->token_stride_B == own.token_stride_B;
    bool spaced = !joined && kv->head_stride_B >= row_B &&
                  kv->token_stride_B >= row_B; /* an engine may leave room between tokens or heads */
    if ((!packed && !spaced) || kv->head_stride_B % 16 || kv->token_stride_B % 16 ||
        kv->block_stride_B % 16 || kv->block_stride_B < (packed ? own.block_stride_B : row_B) ||
        kv->block_stride_B > INT64_MAX / INT32_MAX)
        return ccc_fail(err, CCC_E_ARG,
                        "the KV cache's strides (block %lld, token %lld, head %lld) do not fit the layout; "
                        "packed would be %lld, %lld, %lld",
                        (long long)kv->block_stride_B, (long long)kv->token_stride_B,
                        (long long)kv->head_stride_B, (long long)own.block_stride_B,
                        (long long)own.token_stride_B, (long long)own.head_stride_B);
    s->kv_address = calloc(2 * (size_t)f->n_layers, sizeof *s->kv_address);
    if (!s->kv_address) return ccc_fail(err, CCC_E_NOMEM, "out of memory for a session");
    for (uint32_t i = 0; i < f->n_layers; i++) {
        s->kv_address[i] = kv->k[i];
        s->kv_address[f->n_layers + i] = kv->v[i];
        if (!kv->k[i] || !kv->v[i] || (uintptr_t)kv->k[i] % 16 || (uintptr_t)kv->v[i] % 16 ||
            (joined && kv->k[i] != kv->v[i]))
            return ccc_fail(err, CCC_E_ARG,
                            "the KV cache of layer %u has no address that fits: 16-byte aligned, and for "
                            "layout ccc one for K and V",
                            i);
    }
    kv->k = s->kv_address;
    kv->v = s->kv_address + f->n_layers;
    return CCC_OK;
}

/* ---- inputs and outputs */
static void step_vars(cccrt_session *s)
{
    int64_t *v = s->scope.var;
    v[CCART_VAR_SM] = s->device->n_sm;
    v[CCART_VAR_WORLD] = 1;
    v[CCART_VAR_MAX_BLOCKS] = s->max_blocks;
    v[CCART_VAR_KV_BLOCKS] = s->kv.n_blocks;
    v[CCART_VAR_KV_BLOCK_STRIDE] = s->kv.block_stride_B;
    v[CCART_VAR_KV_TOKEN_STRIDE] = s->kv.token_stride_B;
    v[CCART_VAR_KV_HEAD_STRIDE] = s->kv.head_stride_B;
    v[CCART_VAR_T] = s->file->max_tokens;
    v[CCART_VAR_S] = v[CCART_VAR_R] = s->file->max_seqs;
}

static rt_buffer *io_slot(cccrt_session *s, const char *name, const ccart_io **io)
{
    const ccart_target *t = s->target;
    for (uint32_t i = 0; i < t->n_in; i++)
        if (strcmp(t->in[i].name, name) == 0) return *io = &t->in[i], &s->in[i];
    for (uint32_t i = 0; i < t->n_out; i++)
        if (strcmp(t->out[i].name, name) == 0) return *io = &t->out[i], &s->out[i];
    return NULL;
}

static ccc_status bind(cccrt_session *s, const cccrt_binding *b, uint32_t n, ccc_err *err)
{
    for (uint32_t i = 0; i < n; i++) {
        const ccart_io *io = NULL;
        uint64_t want_B;
        rt_buffer *to = b[i].name ? io_slot(s, b[i].name, &io) : NULL;
        if (!to)
            return ccc_fail(err, CCC_E_ARG, "the model has no input or output '%s'",
                            b[i].name ? b[i].name : "(NULL)");
        step_vars(s);
        CCC_TRY(rt_io_bytes(&want_B, s->target, io, s->scope.var, err));
        if (!b[i].data || b[i].data_B < want_B || (uintptr_t)b[i].data % 16)
            return ccc_fail(err, CCC_E_ARG,
                            "the buffer for '%s' has %zu bytes; %llu, 16-byte aligned, are needed", b[i].name,
                            b[i].data_B, (unsigned long long)want_B);
        *to = (rt_buffer){b[i].data, b[i].data_B};
    }
    return CCC_OK;
}

static ccc_status find_inputs(cccrt_session *s, ccc_err *err)
{
    for (int k = 0; k < RT_N_INPUTS; k++) {
        s->in_of[k] = -1;
        for (uint32_t i = 0; i < s->target->n_in; i++) {
            const ccart_io *io = &s->target->in[i];
            if (strcmp(io->name, rt_inputs[k].name) != 0) continue;
            if (io->dtype != rt_inputs[k].dtype || io->rank != (k == RT_TABLE ? 2 : 1))
                return ccc_fail(err, CCC_E_UNSUPPORTED,
                                "input '%s' of the model is not the %s array that a step gives", io->name,
                                ccart_dtype_name(rt_inputs[k].dtype));
            s->in_of[k] = (int32_t)i;
        }
    }
    return CCC_OK;
}

/* Walks the buffers that the session must own: first the arrays of a step in their order, then the rest. With
 * base, places them. */
static ccc_status place_io(cccrt_session *s, char *base, ccc_err *err)
{
    const ccart_target *t = s->target;
    uint64_t at_B = 0, size_B;
    step_vars(s);
    for (uint32_t pass = 0; pass < RT_N_INPUTS + t->n_in + t->n_out; pass++) {
        uint32_t i = pass - RT_N_INPUTS;
        bool step = pass < RT_N_INPUTS, is_in = step || i < t->n_in;
        if (step && s->in_of[pass] < 0) continue;
        if (step) i = (uint32_t)s->in_of[pass];
        else if (!is_in) i -= t->n_in;
        const ccart_io *io = is_in ? &t->in[i] : &t->out[i];
        rt_buffer *b = is_in ? &s->in[i] : &s->out[i];
        if (b->p || io->optional) continue;
        CCC_TRY(rt_io_bytes(&size_B, t, io, s->scope.var, err));
        if (!base && b->size_B) continue; /* counted in an earlier pass */
        b->size_B = size_B ? size_B : 1;
        if (base) b->p = base + at_B;
        at_B += align_up(b->size_B);
    }
    s->io_B = at_B ? at_B : 1;
    return CCC_OK;
}

/* Steps write whole arrays into these buffers; an artifact may have said anything about their sizes. */
static ccc_status check_inputs(const cccrt_session *s, ccc_err *err)
{
    int64_t tokens = s->file->max_tokens ? s->file->max_tokens : 1;
    const rt_counts most = {tokens, s->file->max_seqs, s->file->max_seqs, false};
    for (rt_input i = 0; i < RT_N_INPUTS; i++) {
        const rt_buffer *b = s->in_of[i] < 0 ? NULL : &s->in[s->in_of[i]];
        uint64_t want_B = (uint64_t)rt_input_rows(&most, i) * rt_input_row_B(s, i);
        if (b && b->p && b->size_B < want_B)
            return ccc_fail(err, CCC_E_CORRUPT, "target %s: input '%s' has %llu bytes, a step may need %llu",
                            s->target->name, rt_inputs[i].name, (unsigned long long)b->size_B,
                            (unsigned long long)want_B);
    }
    return CCC_OK;
}

static bool owned(const cccrt_session *s, const char *p)
{
    return p >= s->io && p < s->io + s->io_B;
}

/* Padding: no token, no sequence, cache slot -1. */
static ccc_status clear_io(cccrt_session *s, void *stream, ccc_err *err)
{
    const rt_backend *b = s->device->backend;
    for (uint32_t i = 0; i < s->target->n_in && s->device->is_cuda; i++) /* memory of the CPU is zeros */
        if (owned(s, s->in[i].p)) CCC_TRY(b->fill(s->device, s->in[i].p, 0, s->in[i].size_B, stream, err));
    rt_buffer *slots = s->in_of[RT_SLOTS_OF] < 0 ? NULL : &s->in[s->in_of[RT_SLOTS_OF]];
    if (slots && owned(s, slots->p)) CCC_TRY(b->fill(s->device, slots->p, 0xff, slots->size_B, stream, err));
    return CCC_OK;
}

/* ---- memory */
static ccc_status allocate(cccrt_session *s, void *stream, ccc_err *err)
{
    const ccart_target *t = s->target;
    cccrt_device *d = s->device;
    const rt_backend *b = d->backend;
    uint64_t free_B, total_B, want_B = t->arena_B + t->counters_B + s->io_B;
    CCC_TRY(b->memory(d, &free_B, &total_B, err));
    if (want_B > free_B)
        return ccc_fail(
            err, CCC_E_NOMEM,
            "a session needs %llu bytes (arena %llu, inputs and outputs %llu), device '%s' has %llu free",
            (unsigned long long)want_B, (unsigned long long)t->arena_B, (unsigned long long)s->io_B, d->name,
            (unsigned long long)free_B);
    s->scope.arena.size_B = t->arena_B;
    s->scope.counters.size_B = t->counters_B;
    CCC_TRY(b->alloc(d, (void **)&s->scope.arena.p, t->arena_B ? t->arena_B : 1, err));
    CCC_TRY(b->alloc(d, (void **)&s->scope.counters.p, t->counters_B ? t->counters_B : 1, err));
    CCC_TRY(b->alloc(d, (void **)&s->io, s->io_B, err));
    CCC_TRY(b->alloc_host(d, (void **)&s->status, &s->status_device, STATUS_B, err));
    memset((void *)(uintptr_t)s->status, 0, STATUS_B);
    CCC_TRY(place_io(s, s->io, err));
    CCC_TRY(check_inputs(s, err));
    CCC_TRY(clear_io(s, stream, err));
    return b->fill(d, s->scope.counters.p, 0, t->counters_B ? t->counters_B : 1, stream, err);
}

static ccc_status prepare_programs(cccrt_session *s, ccc_err *err)
{
    const ccart_target *t = s->target;
    s->tmap = calloc(t->n_programs + 1, sizeof *s->tmap);
    s->graph = calloc(s->file->n_sizes + 1, sizeof *s->graph);
    s->advancing = calloc(s->file->n_sizes + 1, sizeof *s->advancing);
    if (!s->tmap || !s->graph || !s->advancing)
        return ccc_fail(err, CCC_E_NOMEM, "out of memory for a session");
    for (uint32_t i = 0; i < t->n_programs; i++) {
        const ccart_program *p = &t->program[i];
        bool decode = p->mode == CCART_MODE_DECODE || p->mode == CCART_MODE_MIXED;
        CCC_TRY(rt_list_reserve(&s->list, t, p, decode ? rt_program_for(s, CCART_MODE_ADVANCE, 1) : NULL, err));
        CCC_TRY(rt_code_need(s->code, p, err));
        if (!p->n_tmaps) continue;
        s->tmap[i] = aligned_alloc(64, p->n_tmaps * sizeof **s->tmap);
        if (!s->tmap[i]) return ccc_fail(err, CCC_E_NOMEM, "out of memory for a session");
        memset(s->tmap[i], 0, p->n_tmaps * sizeof **s->tmap);
    }
    return CCC_OK;
}

static ccc_status take_weights(cccrt_session *s, const cccrt_artifact *a, cccrt_weights *w, ccc_err *err)
{
    s->weights = cccrt_weights_retain(w);
    s->device = w->code->device;
    s->file = a->file;
    if (a == w->code->artifact) s->code = rt_code_retain(w->code);
    else CCC_TRY(rt_code_open(&s->code, (cccrt_artifact *)a, s->device, err));
    s->target = s->code->target;
    if (memcmp(s->target->layout_hash, w->code->target->layout_hash, sizeof s->target->layout_hash) != 0)
        return ccc_fail(err, CCC_E_ARG,
                        "the weights were attached for another artifact, whose weights lie differently");
    return CCC_OK;
}

static ccc_status create(cccrt_session *s, const cccrt_artifact *a, cccrt_weights *w,
                         const cccrt_session_args *g, ccc_err *err)
{
    CCC_TRY(take_weights(s, a, w, err));
    if (g->graphs < CCCRT_GRAPHS_ON_DEMAND || g->graphs > CCCRT_GRAPHS_NONE)
        return ccc_fail(err, CCC_E_ARG, "cccrt_session_args.graphs is %d", g->graphs);
    s->graphs = g->graphs;
    CCC_TRY(take_kv(s, g->kv, err));
    int64_t block = s->file->kv_block_size, most = block ? (s->file->max_model_len + block - 1) / block : 0;
    s->max_blocks = g->max_blocks_per_seq ? g->max_blocks_per_seq : most;
    if (s->max_blocks < 0 || s->max_blocks > MAX_BLOCKS_PER_SEQ)
        return ccc_fail(err, CCC_E_ARG, "max_blocks_per_seq is %lld", (long long)s->max_blocks);
    s->in = calloc(s->target->n_in + 1, sizeof *s->in);
    s->out = calloc(s->target->n_out + 1, sizeof *s->out);
    if (!s->in || !s->out) return ccc_fail(err, CCC_E_NOMEM, "out of memory for a session");
    CCC_TRY(find_inputs(s, err));
    CCC_TRY(bind(s, g->bindings, g->n_bindings, err));
    CCC_TRY(place_io(s, NULL, err));
    CCC_TRY(allocate(s, g->stream, err));
    CCC_TRY(prepare_programs(s, err));
    CCC_TRY(rt_ring_new(s, err));
    rt_scope *c = &s->scope;
    c->code = s->code;
    c->weights = w->base;
    c->weight_at_B = w->at_B;
    c->in = s->in;
    c->out = s->out;
    c->kv = &s->kv;
    c->status = s->status_device;
    return s->device->backend->stream_synchronize(s->device, g->stream, err);
}

ccc_status cccrt_session_create(cccrt_session **out, const cccrt_artifact *a, cccrt_weights *w,
                                const cccrt_session_args *args, ccc_err *err)
{
    double start = rt_now_ms();
    cccrt_session_args g;
    CCC_TRY(rt_args(&g, sizeof g, args, "cccrt_session_args", err));
    cccrt_device *d = w->code->device;
    CCC_TRY(rt_enter(d, err));
    cccrt_session *s = calloc(1, sizeof *s);
    ccc_status status =
        s ? create(s, a, w, &g, err) : ccc_fail(err, CCC_E_NOMEM, "out of memory for a session");
    if (status == CCC_OK) {
        s->timings = (cccrt_timings){.context_ms = d->context_ms,
                                     .open_ms = a->open_ms,
                                     .modules_ms = rt_code_modules_ms(s->code),
                                     .attach_ms = w->attach_ms,
                                     .session_ms = rt_now_ms() - start};
        if (g.graphs == CCCRT_GRAPHS_ALL) status = cccrt_session_build_graphs(s, err);
    }
    rt_leave(d);
    if (status != CCC_OK) {
        cccrt_session_close(s);
        return status;
    }
    *out = s;
    return CCC_OK;
}

static void free_graphs(cccrt_session *s)
{
    void **of[] = {s->graph, s->advancing};
    for (int k = 0; k < 2; k++)
        for (uint32_t i = 0; of[k] && i < s->file->n_sizes; i++) {
            if (of[k][i]) s->device->backend->graph_free(s->device, of[k][i]);
            of[k][i] = NULL;
        }
}

void cccrt_session_close(cccrt_session *s)
{
    if (!s) return;
    cccrt_device *d = s->device;
    if (d && rt_enter(d, NULL) == CCC_OK) { /* of a lost device nothing is left to give back */
        d->backend->synchronize(d, NULL);
        free_graphs(s);
        rt_ring_free(s);
        if (s->scope.arena.p) d->backend->release(d, s->scope.arena.p);
        if (s->scope.counters.p) d->backend->release(d, s->scope.counters.p);
        if (s->io) d->backend->release(d, s->io);
        if (s->status) d->backend->release_host(d, (void *)(uintptr_t)s->status);
        rt_leave(d);
    }
    for (uint32_t i = 0; s->tmap && i < s->target->n_programs; i++) free(s->tmap[i]);
    rt_list_free(&s->list);
    free(s->tmap);
    free(s->graph);
    free(s->advancing);
    free(s->in);
    free(s->out);
    free(s->kv_address);
    rt_code_close(s->code);
    cccrt_weights_close(s->weights);
    free(s);
}

ccc_status cccrt_session_rebind(cccrt_session *s, const cccrt_binding *b, uint32_t n, ccc_err *err)
{
    CCC_TRY(rt_enter(s->device, err));
    ccc_status status = s->device->backend->synchronize(s->device, err);
    if (status == CCC_OK) {
        status = bind(s, b, n, err);
        free_graphs(s);
        s->timings.n_graphs = s->timings.n_graph_nodes = 0;
    }
    rt_leave(s->device);
    return status;
}

ccc_status cccrt_session_buffer(cccrt_session *s, const char *name, void **data, size_t *data_B, ccc_err *err)
{
    const ccart_io *io;
    rt_buffer *b = io_slot(s, name, &io);
    if (!b) return ccc_fail(err, CCC_E_ARG, "the model has no input or output '%s'", name);
    if (!b->p) return ccc_fail(err, CCC_E_ARG, "input '%s' is optional and not bound", name);
    *data = b->p;
    *data_B = (size_t)b->size_B;
    return CCC_OK;
}

ccc_status cccrt_session_read(cccrt_session *s, const char *name, void *dst, size_t offset_B, size_t size_B,
                              void *stream, ccc_err *err)
{
    void *data;
    size_t data_B;
    CCC_TRY(cccrt_session_buffer(s, name, &data, &data_B, err));
    if (offset_B > data_B || size_B > data_B - offset_B)
        return ccc_fail(err, CCC_E_ARG, "bytes %zu to %zu of '%s' are wanted, it has %zu", offset_B,
                        offset_B + size_B, name, data_B);
    CCC_TRY(rt_enter(s->device, err));
    ccc_status status =
        size_B ? s->device->backend->copy(s->device, dst, (char *)data + offset_B, size_B, stream, err)
               : CCC_OK;
    if (status == CCC_OK) status = s->device->backend->stream_synchronize(s->device, stream, err);
    rt_leave(s->device);
    return status;
}

ccc_status cccrt_session_fill_arena(cccrt_session *s, int byte, ccc_err *err)
{
    return cccrt_device_fill(s->device, s->scope.arena.p, byte, (size_t)s->scope.arena.size_B, err);
}

void cccrt_session_timings(const cccrt_session *s, cccrt_timings *out)
{
    rt_result(out, &s->timings, sizeof s->timings);
}
