/* A step: check what the host gave, choose a program, copy host arrays over, launch. Nothing here allocates
 * or waits; a graph is built when a size is first used and the session was not told otherwise. */
#include "session.h"
#include <stdlib.h>

static bool given_out_of_range(const cccrt_step_args *a, rt_input input, int64_t i, int64_t low, int64_t end,
                               int64_t *value)
{
    const void *p = rt_step_array(a, input);
    *value = rt_inputs[input].dtype == CCART_I64 ? ((const int64_t *)p)[i] : ((const int32_t *)p)[i];
    return *value < low || *value >= end;
}

static ccc_status check_range(const cccrt_step_args *a, rt_input input, int64_t n, int64_t low, int64_t end,
                              ccc_err *err)
{
    int64_t v;
    for (int64_t i = 0; rt_step_array(a, input) && i < n; i++)
        if (given_out_of_range(a, input, i, low, end, &v))
            return ccc_fail(err, CCC_E_ARG, "%s[%lld] is %lld, which is not in %lld .. %lld",
                            rt_inputs[input].name, (long long)i, (long long)v, (long long)low,
                            (long long)end - 1);
    return CCC_OK;
}

static ccc_status check_table(const cccrt_session *s, const cccrt_step_args *a, int64_t n_seqs, ccc_err *err)
{
    int64_t block = s->file->kv_block_size,
            stride = a->block_table_stride ? a->block_table_stride : s->max_blocks;
    if (a->block_table_stride < 0)
        return ccc_fail(err, CCC_E_ARG, "block_table_stride is %lld", (long long)stride);
    for (int64_t r = 0; r < n_seqs && a->seq_lens; r++) {
        int64_t used = (a->seq_lens[r] + block - 1) / block;
        if (used > s->max_blocks || (a->block_table && used > stride))
            return ccc_fail(err, CCC_E_ARG, "sequence %lld needs %lld blocks, block_table has room for %lld",
                            (long long)r, (long long)used,
                            (long long)(stride < s->max_blocks ? stride : s->max_blocks));
        for (int64_t i = 0; i < used && a->block_table; i++) {
            int32_t b = a->block_table[r * stride + i];
            if (b < 0 || b >= s->kv.n_blocks)
                return ccc_fail(err, CCC_E_ARG, "block_table[%lld][%lld] is %d, the cache has %lld blocks",
                                (long long)r, (long long)i, b, (long long)s->kv.n_blocks);
        }
    }
    return CCC_OK;
}

static ccc_status check_starts(const cccrt_step_args *a, const rt_counts *n, int64_t *longest, ccc_err *err)
{
    const int32_t *q = a->query_start_loc;
    *longest = 0;
    if (q[0] != 0 || q[n->S] != n->T)
        return ccc_fail(err, CCC_E_ARG,
                        "query_start_loc begins with %d and ends with %d; it must be 0 and the %lld tokens",
                        q[0], q[n->S], (long long)n->T);
    for (int64_t i = 0; i < n->S; i++) {
        int64_t len = (int64_t)q[i + 1] - q[i];
        if (len < 0)
            return ccc_fail(err, CCC_E_ARG, "query_start_loc[%lld] is smaller than the entry before it",
                            (long long)i + 1);
        if (a->seq_lens && len > a->seq_lens[i])
            return ccc_fail(err, CCC_E_ARG, "sequence %lld has %lld query tokens, but seq_lens[%lld] is %d",
                            (long long)i, (long long)len, (long long)i, a->seq_lens[i]);
        if (len > *longest) *longest = len;
    }
    return CCC_OK;
}

static ccc_status check_counts(const cccrt_session *s, const cccrt_step_args *a, rt_counts *n, ccc_err *err)
{
    const ccart_file *f = s->file;
    *n = (rt_counts){a->n_tokens, a->n_seqs, a->n_logits, false};
    if (!f->max_tokens && !n->T) n->T = 1; /* a model whose shapes are all fixed */
    int64_t most = f->max_tokens ? f->max_tokens : 1;
    if (n->T < 0 || n->T > most)
        return ccc_fail(
            err, CCC_E_ARG,
            "%lld tokens in a step; the artifact was compiled for up to %lld (max_num_batched_tokens)",
            (long long)n->T, (long long)most);
    if (n->S < 0 || n->S > f->max_seqs || n->S > n->T)
        return ccc_fail(err, CCC_E_ARG,
                        "%lld sequences in a step of %lld tokens; the artifact was compiled for up to %lld "
                        "(max_num_seqs)",
                        (long long)n->S, (long long)n->T, (long long)f->max_seqs);
    if (n->R < 0 || n->R > f->max_seqs || n->R > n->T)
        return ccc_fail(err, CCC_E_ARG,
                        "%lld rows of logits in a step of %lld tokens; up to %lld are possible",
                        (long long)n->R, (long long)n->T, (long long)f->max_seqs);
    if (f->n_layers && !n->S && n->T)
        return ccc_fail(err, CCC_E_ARG, "n_seqs is 0 in a step of %lld tokens", (long long)n->T);
    for (rt_input i = 0; i < RT_N_INPUTS; i++) {
        if (rt_step_array(a, i) && s->in_of[i] < 0)
            return ccc_fail(err, CCC_E_ARG, "the model has no input '%s'", rt_inputs[i].name);
        if (rt_step_array(a, i) && !s->in[s->in_of[i]].p)
            return ccc_fail(err, CCC_E_ARG, "input '%s' is optional and not bound", rt_inputs[i].name);
    }
    return CCC_OK;
}

ccc_status rt_check_step(const cccrt_session *s, const cccrt_step_args *a, rt_counts *n, ccc_err *err)
{
    const ccart_file *f = s->file;
    int64_t longest = 0;
    if (a->mode < CCCRT_STEP_AUTO || a->mode > CCCRT_STEP_MIXED)
        return ccc_fail(err, CCC_E_ARG, "cccrt_step_args.mode is %d", a->mode);
    CCC_TRY(check_counts(s, a, n, err));
    CCC_TRY(check_range(a, RT_TOKENS, n->T, 0, f->vocab ? f->vocab : INT64_MAX, err));
    CCC_TRY(check_range(a, RT_POSITIONS, n->T, 0, f->max_model_len ? f->max_model_len : INT64_MAX, err));
    CCC_TRY(check_range(a, RT_SLOTS_OF, n->T, -1, s->kv.n_blocks * f->kv_block_size, err));
    CCC_TRY(check_range(a, RT_LENS, n->S, 0, f->max_model_len + 1, err));
    CCC_TRY(check_range(a, RT_LOGITS, n->R, 0, n->T, err));
    if (f->n_layers) CCC_TRY(check_table(s, a, n->S, err));
    if (a->query_start_loc) CCC_TRY(check_starts(a, n, &longest, err));
    if (a->max_query_len < 0 || (longest && a->max_query_len && a->max_query_len < longest))
        return ccc_fail(err, CCC_E_ARG, "max_query_len is %lld, a sequence has %lld query tokens",
                        (long long)a->max_query_len, (long long)longest);
    if (!longest) longest = a->max_query_len ? a->max_query_len : n->T == n->S ? 1 : n->T;
    n->decode = n->S && n->T == n->S && longest == 1 && a->mode != CCCRT_STEP_MIXED;
    return CCC_OK;
}

const ccart_program *rt_program_for(const cccrt_session *s, uint32_t mode, int64_t t)
{
    for (uint32_t i = 0; i < s->target->n_programs; i++) {
        const ccart_program *p = &s->target->program[i];
        if (p->mode == mode && t >= p->t_min && t <= p->t_max) return p;
    }
    return NULL;
}

ccc_status rt_session_resolve(cccrt_session *s, rt_list *l, const ccart_program *p, const rt_counts *n,
                              ccc_err *err)
{
    s->scope.var[CCART_VAR_T] = n->T;
    s->scope.var[CCART_VAR_S] = n->S;
    s->scope.var[CCART_VAR_R] = n->R;
    return rt_resolve(l, &s->scope, p, s->tmap[p - s->target->program], err);
}

static ccc_status advance_program(const ccart_program **out, const cccrt_session *s, int64_t n_seqs,
                                  ccc_err *err)
{
    *out = rt_program_for(s, CCART_MODE_ADVANCE, n_seqs);
    return *out ? CCC_OK
                : ccc_fail(err, CCC_E_UNSUPPORTED, "the artifact cannot advance %lld sequences on the device",
                           (long long)n_seqs);
}

ccc_status rt_session_graph(cccrt_session *s, uint32_t i, bool advancing, void *stream, ccc_err *err)
{
    void **graph = advancing ? &s->advancing[i] : &s->graph[i];
    if (*graph) return CCC_OK;
    int64_t t = s->file->size[i];
    const ccart_program *p = rt_program_for(s, CCART_MODE_DECODE, t), *behind;
    double start = rt_now_ms();
    CCC_TRY(rt_session_resolve(s, &s->list, p, &(rt_counts){t, t, t, true}, err));
    if (advancing) {
        CCC_TRY(advance_program(&behind, s, t, err));
        CCC_TRY(rt_resolve_behind(&s->list, &s->scope, behind, s->tmap[behind - s->target->program], err));
    }
    CCC_TRY(s->device->backend->graph_new(graph, s->code, &s->list, stream, err));
    s->timings.graphs_ms += rt_now_ms() - start;
    s->timings.n_graphs++;
    s->timings.n_graph_nodes += s->list.n;
    return CCC_OK;
}

ccc_status cccrt_session_build_graphs(cccrt_session *s, ccc_err *err)
{
    uint64_t before_B, after_B, total_B;
    if (!s->device->backend->graph_new) return CCC_OK;
    CCC_TRY(rt_enter(s->device, err));
    void *stream = NULL;
    ccc_status status = s->device->backend->memory(s->device, &before_B, &total_B, err);
    if (status == CCC_OK) status = s->device->backend->stream_new(s->device, &stream, err);
    for (uint32_t i = 0; i < s->file->n_sizes && status == CCC_OK; i++)
        if (rt_program_for(s, CCART_MODE_DECODE, s->file->size[i]))
            status = rt_session_graph(s, i, false, stream, err);
    if (status == CCC_OK) status = s->device->backend->stream_synchronize(s->device, stream, err);
    if (stream) s->device->backend->stream_free(s->device, stream);
    if (status == CCC_OK) status = s->device->backend->memory(s->device, &after_B, &total_B, err);
    if (status == CCC_OK && before_B > after_B) s->timings.graphs_device_B += before_B - after_B;
    rt_leave(s->device);
    return status;
}

/* ---- choosing */
/* May the rows behind a step's own be padding up to a captured size? Arrays given now are padded when they
 * are copied; those on the device must hold padding already, unless nothing is to be padded. */
static bool can_pad(const cccrt_session *s, const cccrt_step_args *a, const rt_counts *n, int64_t size)
{
    bool rows = s->in_of[RT_LOGITS] < 0 || n->R == n->T; /* a graph computes `size` rows of logits */
    if (size == n->T && rows) return true;
    if (!rows && !a->logits_indices) return false;
    for (rt_input i = 0; i < RT_N_INPUTS; i++)
        if (s->in_of[i] >= 0 && i != RT_TABLE && !rt_step_array(a, i) &&
            s->dirty_end[i] > rt_input_rows(n, i))
            return false;
    return true;
}

/* The number of the captured size that serves this step, or -1. */
static int32_t choose_size(const cccrt_session *s, const cccrt_step_args *a, const rt_counts *n)
{
    if (!n->decode || s->graphs == CCCRT_GRAPHS_NONE || a->mode != CCCRT_STEP_AUTO ||
        !s->device->backend->graph_new)
        return -1;
    for (uint32_t i = 0; i < s->file->n_sizes; i++) {
        int64_t size = s->file->size[i];
        if (size < n->T) continue;
        return size <= s->file->max_seqs && rt_program_for(s, CCART_MODE_DECODE, size) &&
                       can_pad(s, a, n, size)
                   ? (int32_t)i
                   : -1;
    }
    return -1;
}

/* ---- reports of kernels */
static ccc_status take_status(cccrt_session *s, const char *when, ccc_err *err)
{
    static const char *const what[] = {
        "", "a token id", "a cache slot", "a block number", "a row of logits_indices", "a position"};
    uint32_t kind = s->status[0], index = s->status[1], value = s->status[2];
    if (!kind) return CCC_OK;
    for (int i = 0; i < 4; i++) s->status[i] = 0;
    return ccc_fail(err, CCC_E_ARG, "%s was out of range in %s: number %u had the value %d and was clamped",
                    kind < sizeof what / sizeof *what ? what[kind] : "a value", when, index, (int32_t)value);
}

static ccc_status run_list(cccrt_session *s, void *stream, ccc_err *err)
{
    ccc_status status = s->device->backend->run(s->code, &s->list, stream, err);
    if (status != CCC_OK)
        s->counters_dirty = true; /* a part of the launches may have left its counts behind */
    return status;
}

static ccc_status clean_counters(cccrt_session *s, void *stream, ccc_err *err)
{
    if (!s->counters_dirty) return CCC_OK;
    CCC_TRY(s->device->backend->fill(s->device, s->scope.counters.p, 0,
                                     s->scope.counters.size_B ? s->scope.counters.size_B : 1, stream, err));
    s->counters_dirty = false;
    return CCC_OK;
}

static ccc_status advance(cccrt_session *s, int64_t n_seqs, void *stream, ccc_err *err)
{
    const ccart_program *p;
    CCC_TRY(advance_program(&p, s, n_seqs, err));
    CCC_TRY(rt_session_resolve(s, &s->list, p, &(rt_counts){n_seqs, n_seqs, n_seqs, true}, err));
    return run_list(s, stream, err);
}

static ccc_status check_advance(const cccrt_session *s, const cccrt_step_args *a, const rt_counts *n,
                                ccc_err *err)
{
    const ccart_program *p;
    if (!a->advance) return CCC_OK;
    if (n->T != n->S || !n->S)
        return ccc_fail(err, CCC_E_ARG,
                        "advance with %lld tokens of %lld sequences; it is for steps of one token each",
                        (long long)n->T, (long long)n->S);
    return advance_program(&p, s, n->S, err);
}

static ccc_status step(cccrt_session *s, const cccrt_step_args *a, void *stream, ccc_err *err)
{
    rt_counts n;
    CCC_TRY(take_status(s, "an earlier step", err));
    CCC_TRY(rt_check_step(s, a, &n, err));
    if (!n.T) return CCC_OK;
    CCC_TRY(check_advance(s, a, &n, err));
    const rt_backend *b = s->device->backend;
    int32_t size = choose_size(s, a, &n);
    bool capturing = s->device->is_cuda && b->capturing(s->device, stream), any = false;
    for (rt_input i = 0; i < RT_N_INPUTS; i++) any |= rt_step_array(a, i) != NULL;
    if (capturing && any)
        return ccc_fail(
            err, CCC_E_ARG,
            "host arrays cannot be given while the stream is captured; a replay would copy other numbers");
    bool graph = size >= 0 && !capturing; /* a graph cannot be replayed into a capture */
    bool one = graph && a->advance && n.S == s->file->size[size]; /* padding must stay padding */
    if (graph) CCC_TRY(rt_session_graph(s, (uint32_t)size, one, stream, err));
    const ccart_program *p = n.decode ? rt_program_for(s, CCART_MODE_DECODE, n.T) : NULL;
    if (!p) p = rt_program_for(s, CCART_MODE_MIXED, n.T);
    if (!graph && !p)
        return ccc_fail(err, CCC_E_ARG, "the artifact has no program for %lld tokens", (long long)n.T);
    if (!graph) CCC_TRY(rt_session_resolve(s, &s->list, p, &n, err)); /* before anything is enqueued */
    CCC_TRY(clean_counters(s, stream, err));
    CCC_TRY(rt_stage(s, a, &n, graph ? s->file->size[size] : 0, stream, err));
    if (graph) CCC_TRY(b->graph_launch(s->device, one ? s->advancing[size] : s->graph[size], stream, err));
    else CCC_TRY(run_list(s, stream, err));
    return a->advance && !one ? advance(s, n.S, stream, err) : CCC_OK;
}

ccc_status cccrt_step(cccrt_session *s, const cccrt_step_args *args, void *stream, ccc_err *err)
{
    cccrt_step_args a;
    CCC_TRY(rt_args(&a, sizeof a, args, "cccrt_step_args", err));
    CCC_TRY(rt_enter(s->device, err));
    ccc_status status = step(s, &a, stream, err);
    rt_leave(s->device);
    return status;
}

ccc_status cccrt_advance(cccrt_session *s, int64_t n_seqs, void *stream, ccc_err *err)
{
    if (n_seqs < 0 || n_seqs > s->file->max_seqs)
        return ccc_fail(err, CCC_E_ARG, "%lld sequences; up to %lld are possible", (long long)n_seqs,
                        (long long)s->file->max_seqs);
    CCC_TRY(rt_enter(s->device, err));
    ccc_status status = advance(s, n_seqs, stream, err);
    rt_leave(s->device);
    return status;
}

ccc_status cccrt_check(cccrt_session *s, void *stream, ccc_err *err)
{
    CCC_TRY(rt_enter(s->device, err));
    ccc_status status = s->device->backend->stream_synchronize(s->device, stream, err);
    rt_leave(s->device);
    return status == CCC_OK ? take_status(s, "a step", err) : status;
}
