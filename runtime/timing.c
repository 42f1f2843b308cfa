/* Measuring: the nodes of a program, a chain of decode steps, and the best rate at which the device
 * reads memory. These synchronise and may allocate; a step does neither. */
#include "session.h"
#include <stdlib.h>
#include <string.h>

enum {
    COPIES = 8,
    MAX_REPEATS = 1000,
    MAX_CHAIN = 1 << 20,
    READ_REPEATS = 10,
    FLUSH_REPEATS = 16,
    COLD_B = 256 << 20, /* more than caches hold */
    ENOUGH_B = 1 << 30, /* of weights in a run */
    SMALL_B = 64 << 10  /* a kernel that reads less from memory works on what the step itself made */
};
typedef struct {
    uint64_t weight;
    int64_t memory, local;
    uint64_t kv;
} rt_node_bytes;

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct {
    cccrt_session *s;
    void *stream, *from, *to;
} clock_pair;

static ccc_status clock_new(clock_pair *c, cccrt_session *s, ccc_err *err)
{
    const rt_backend *b = s->device->backend;
    *c = (clock_pair){.s = s};
    CCC_TRY(b->stream_new(s->device, &c->stream, err));
    CCC_TRY(b->event_new(s->device, &c->from, true, err));
    return b->event_new(s->device, &c->to, true, err);
}

static void clock_free(clock_pair *c)
{
    const rt_backend *b = c->s->device->backend;
    if (c->from) b->event_free(c->s->device, c->from);
    if (c->to) b->event_free(c->s->device, c->to);
    if (c->stream) b->stream_free(c->s->device, c->stream);
}

/* Milliseconds of one run of the list, or of the graph if there is one. */
static ccc_status time_once(double *ms, clock_pair *c, const rt_list *l, void *graph, ccc_err *err)
{
    cccrt_session *s = c->s;
    const rt_backend *b = s->device->backend;
    CCC_TRY(b->event_record(s->device, c->from, c->stream, err));
    CCC_TRY(graph ? b->graph_launch(s->device, graph, c->stream, err) : b->run(s->code, l, c->stream, err));
    CCC_TRY(b->event_record(s->device, c->to, c->stream, err));
    CCC_TRY(b->event_wait(s->device, c->to, err));
    return b->event_ms(s->device, ms, c->from, c->to, err);
}

/* ---- nodes
 * The same kernel over other weights of the same size, layer after layer, is timed as one chain, so that what
 * it reads comes from memory and not from the last step's cache. Where all of it together could still stay in
 * a cache, something else is read before each run. On a host, which runs one launch after the other, the
 * clock starts behind that. On a GPU both are one graph, so that the kernels do not wait for the host: what the
 * reading takes alone is taken off, and what is left counts only if it is more than that varies. */
typedef struct {
    clock_pair c;
    int repeats;
    double *sample;  /* [the greater of repeats and FLUSH_REPEATS] */
    void *other;     /* COLD_B bytes, and room for what the read program writes */
    rt_list flush;   /* reads them */
    double flush_ms, flush_spread_ms; /* with graphs: its median, and how far apart the quartiles are */
    rt_launch *turn; /* the launches of one run */
    rt_node_bytes *bytes;
} node_timer;

static ccc_status sample_once(double *ms, node_timer *t, const rt_list *untimed, const rt_list *l, void *graph,
                              ccc_err *err)
{
    cccrt_session *s = t->c.s;
    if (untimed->n) CCC_TRY(s->device->backend->run(s->code, untimed, t->c.stream, err));
    return time_once(ms, &t->c, l, graph, err);
}

/* Fills t->sample, sorted, with milliseconds of `repeats` runs of the n launches in t->turn. Of the first
 * `flush` of them the time is in it only where there are graphs. */
static ccc_status sample_turn(node_timer *t, uint32_t flush, uint32_t n, int repeats, ccc_err *err)
{
    cccrt_session *s = t->c.s;
    const rt_backend *b = s->device->backend;
    if (b->graph_new) flush = 0;
    rt_list untimed = {.launch = t->turn, .n = flush}, l = {.launch = t->turn + flush, .n = n - flush};
    void *graph = NULL;
    double warming_up;
    for (uint32_t i = 0; i < n; i++) t->turn[i].edge = CCART_EDGE_FULL;
    if (b->graph_new) /* so that the host's time to launch does not count */
        CCC_TRY(b->graph_new(&graph, s->code, &l, t->c.stream, err));
    ccc_status status = sample_once(&warming_up, t, &untimed, &l, graph, err);
    for (int i = 0; i < repeats && status == CCC_OK; i++)
        status = sample_once(&t->sample[i], t, &untimed, &l, graph, err);
    if (graph) b->graph_free(s->device, graph);
    if (status == CCC_OK) qsort(t->sample, (size_t)repeats, sizeof *t->sample, ascending);
    return status;
}

static const ccart_program *read_program(const cccrt_session *s)
{
    for (uint32_t i = 0; i < s->target->n_programs; i++)
        if (s->target->program[i].mode == CCART_MODE_READ) return &s->target->program[i];
    return NULL; /* nothing to flush with: then small kernels are timed from the cache */
}

static ccc_status make_flush(node_timer *t, const ccart_program *p, ccc_err *err)
{
    cccrt_session *s = t->c.s;
    CCC_TRY(s->device->backend->alloc(s->device, &t->other, COLD_B + RT_ALIGN_B, err));
    CCC_TRY(s->device->backend->fill(s->device, t->other, 1, COLD_B + RT_ALIGN_B, t->c.stream, err));
    CCC_TRY(rt_list_reserve(&t->flush, s->target, p, NULL, err));
    rt_scope scope = s->scope;
    scope.src = (rt_buffer){t->other, COLD_B};
    scope.status = (char *)t->other + COLD_B;
    scope.var[CCART_VAR_ROWS] = COLD_B;
    CCC_TRY(rt_resolve(&t->flush, &scope, p, s->tmap[p - s->target->program], err));
    if (!t->flush.n || !s->device->backend->graph_new) return CCC_OK;
    memcpy(t->turn, t->flush.launch, t->flush.n * sizeof *t->turn);
    CCC_TRY(sample_turn(t, 0, t->flush.n, FLUSH_REPEATS, err));
    t->flush_ms = t->sample[FLUSH_REPEATS / 2];
    t->flush_spread_ms = t->sample[3 * FLUSH_REPEATS / 4] - t->sample[FLUSH_REPEATS / 4];
    return CCC_OK;
}

/* What a node of p moves; without the artifact's word, the weights that it names. */
static ccc_status node_bytes(rt_node_bytes *out, const cccrt_session *s, const ccart_program *p,
                             uint32_t number, ccc_err *err)
{
    const ccart_node *n = &p->node[number];
    *out = (rt_node_bytes){0};
    for (uint32_t i = 0; i < n->n_params; i++) {
        const ccart_param *q = &p->param[n->first_param + i];
        if (q->kind == CCART_P_WEIGHT) out->weight += s->target->weight[q->index].size_B;
        else if (q->kind == CCART_P_TMAP && p->tmap[q->index].base_kind == CCART_P_WEIGHT)
            out->weight += s->target->weight[p->tmap[q->index].index].size_B;
    }
    out->memory = (int64_t)out->weight;
    if (!p->n_traffic) return CCC_OK;
    const ccart_traffic *f = &p->traffic[number];
    out->kv = f->kv_B;
    if (!ccart_expr_eval(&p->expr[f->memory_expr], s->scope.var, &out->memory) ||
        !ccart_expr_eval(&p->expr[f->local_expr], s->scope.var, &out->local) || out->memory < 0 ||
        out->local < 0)
        return ccc_fail(err, CCC_E_CORRUPT, "target %s: the traffic of node %u overflows for this step",
                        s->target->name, number);
    return CCC_OK;
}

static bool same_work(const node_timer *t, uint32_t i, uint32_t k)
{
    const rt_launch *a = &t->c.s->list.launch[i], *b = &t->c.s->list.launch[k];
    return a->kind == b->kind && a->kernel == b->kernel && a->size_B == b->size_B &&
           memcmp(a->grid, b->grid, sizeof a->grid) == 0 &&
           memcmp(&t->bytes[i], &t->bytes[k], sizeof *t->bytes) == 0;
}

/* Milliseconds of launch `first` and of each that does the same work; 0 if it is too short to be told. */
static ccc_status time_group(double *ms, node_timer *t, uint32_t first, ccc_err *err)
{
    const rt_list *all = &t->c.s->list;
    uint32_t before = 0;
    int64_t total_B = 0;
    for (uint32_t i = first; i < all->n; i++)
        if (same_work(t, first, i)) total_B += t->bytes[i].memory;
    if (total_B < COLD_B && (t->bytes[first].memory >= SMALL_B || t->bytes[first].kv)) before = t->flush.n;
    if (before) memcpy(t->turn, t->flush.launch, before * sizeof *t->turn);
    uint32_t end = before;
    int64_t used_B = 0;
    do
        for (uint32_t i = first; i < all->n && (used_B < ENOUGH_B || end < COPIES); i++) {
            if (!same_work(t, first, i)) continue;
            t->turn[end++] = all->launch[i];
            used_B += t->bytes[i].memory;
        }
    while (!before && end < COPIES);
    CCC_TRY(sample_turn(t, before, end, t->repeats, err));
    *ms = t->sample[t->repeats / 2];
    if (before) *ms = *ms - t->flush_ms > t->flush_spread_ms ? *ms - t->flush_ms : 0;
    *ms /= end - before;
    return CCC_OK;
}

static ccc_status time_nodes(node_timer *t, cccrt_node_time *times, uint32_t cap, ccc_err *err)
{
    cccrt_session *s = t->c.s;
    for (uint32_t i = 0; i < s->list.n && i < cap; i++) {
        const rt_launch *l = &s->list.launch[i];
        cccrt_node_time row = {.kernel = l->kind == CCART_NODE_KERNEL   ? s->target->kernel[l->kernel].name
                                         : l->kind == CCART_NODE_MEMSET ? "memset"
                                                                        : "copy",
                               .node = l->node,
                               .label = l->label,
                               .weight_B = t->bytes[i].weight};
        uint32_t like = 0;
        while (like < i && !same_work(t, like, i)) like++;
        if (like < i) row.ms = times[like].ms;
        else CCC_TRY(time_group(&row.ms, t, i, err));
        times[i].size_B = sizeof *times;
        rt_result(&times[i], &row, sizeof row);
    }
    return CCC_OK;
}

/* The program of a step, and its launches in the session's list. */
static ccc_status list_nodes(cccrt_session *s, const ccart_program **p, rt_counts *counts,
                             const cccrt_step_args *a, ccc_err *err)
{
    CCC_TRY(rt_check_step(s, a, counts, err));
    *p = counts->decode ? rt_program_for(s, CCART_MODE_DECODE, counts->T) : NULL;
    if (!*p) *p = rt_program_for(s, CCART_MODE_MIXED, counts->T);
    if (!*p)
        return ccc_fail(err, CCC_E_ARG, "the artifact has no program for %lld tokens", (long long)counts->T);
    return rt_session_resolve(s, &s->list, *p, counts, err);
}

static ccc_status measure_nodes(node_timer *t, const cccrt_step_args *a, cccrt_node_time *times, uint32_t cap,
                                uint32_t *n, ccc_err *err)
{
    cccrt_session *s = t->c.s;
    const ccart_program *p, *read = read_program(s);
    rt_counts counts;
    CCC_TRY(list_nodes(s, &p, &counts, a, err));
    CCC_TRY(rt_stage(s, a, &counts, 0, t->c.stream, err));
    *n = s->list.n;
    size_t room = *n + (size_t)COPIES + (read ? read->n_nodes : 0);
    t->bytes = calloc(room, sizeof *t->bytes);
    t->turn = calloc(room, sizeof *t->turn);
    t->sample = calloc((size_t)(t->repeats > FLUSH_REPEATS ? t->repeats : FLUSH_REPEATS), sizeof *t->sample);
    if (!t->bytes || !t->turn || !t->sample)
        return ccc_fail(err, CCC_E_NOMEM, "out of memory for measurements");
    for (uint32_t i = 0; i < *n; i++) CCC_TRY(node_bytes(&t->bytes[i], s, p, s->list.launch[i].node, err));
    if (read) CCC_TRY(make_flush(t, read, err));
    return time_nodes(t, times, cap, err);
}

ccc_status cccrt_time_nodes(cccrt_session *s, const cccrt_step_args *args, int repeats,
                            cccrt_node_time *times, uint32_t cap, uint32_t *n, ccc_err *err)
{
    cccrt_step_args a;
    CCC_TRY(rt_args(&a, sizeof a, args, "cccrt_step_args", err));
    if (repeats < 1 || repeats > MAX_REPEATS)
        return ccc_fail(err, CCC_E_ARG, "%d repeats; 1 to %d are possible", repeats, MAX_REPEATS);
    CCC_TRY(rt_enter(s->device, err));
    node_timer t = {.repeats = repeats};
    ccc_status status = clock_new(&t.c, s, err);
    if (status == CCC_OK) status = measure_nodes(&t, &a, times, cap, n, err);
    clock_free(&t.c);
    if (t.other) s->device->backend->release(s->device, t.other);
    rt_list_free(&t.flush);
    rt_leave(s->device);
    free(t.bytes);
    free(t.turn);
    free(t.sample);
    return status;
}

ccc_status cccrt_step_traffic(cccrt_session *s, const cccrt_step_args *args, cccrt_node_traffic *rows,
                              uint32_t cap, uint32_t *n, ccc_err *err)
{
    cccrt_step_args a;
    rt_counts counts;
    const ccart_program *p;
    CCC_TRY(rt_args(&a, sizeof a, args, "cccrt_step_args", err));
    size_t row_B = cap ? rows->size_B : sizeof *rows;
    if (row_B < sizeof row_B || row_B > 4096 || row_B % sizeof row_B)
        return ccc_fail(err, CCC_E_ARG,
                        "cccrt_node_traffic: size_B is %zu; set that of the first row to the size of the struct",
                        row_B);
    CCC_TRY(rt_enter(s->device, err));
    ccc_status status = list_nodes(s, &p, &counts, &a, err);
    rt_leave(s->device);
    for (uint32_t i = 0; status == CCC_OK && i < s->list.n && i < cap; i++) {
        rt_node_bytes b;
        void *to = (char *)rows + i * row_B;
        status = node_bytes(&b, s, p, s->list.launch[i].node, err);
        cccrt_node_traffic row = {.memory_B = (uint64_t)b.memory, .local_B = (uint64_t)b.local, .kv_B = b.kv};
        memcpy(to, &row_B, sizeof row_B);
        rt_result(to, &row, sizeof row);
    }
    if (status == CCC_OK) *n = s->list.n;
    return status;
}

/* ---- a step of some of its nodes */
/* A node may start early beside the one now before it if each node between could. */
static uint32_t pick_nodes(rt_launch *to, const rt_list *all, const uint8_t *run)
{
    uint32_t n = 0;
    bool early = true;
    for (uint32_t i = 0; i < all->n; i++) {
        early = early && all->launch[i].edge == CCART_EDGE_PROGRAMMATIC;
        if (!run[i]) continue;
        to[n] = all->launch[i];
        to[n++].edge = early ? CCART_EDGE_PROGRAMMATIC : CCART_EDGE_FULL;
        early = true;
    }
    return n;
}

static ccc_status time_picked(clock_pair *c, const rt_list *l, int n_steps, double *step_ms, ccc_err *err)
{
    const rt_backend *b = c->s->device->backend;
    void *graph = NULL;
    if (b->graph_new) CCC_TRY(b->graph_new(&graph, c->s->code, l, c->stream, err));
    ccc_status status = time_once(step_ms, c, l, graph, err);
    if (status == CCC_OK) status = b->event_record(c->s->device, c->from, c->stream, err);
    for (int i = 0; i < n_steps && status == CCC_OK; i++)
        status = graph ? b->graph_launch(c->s->device, graph, c->stream, err)
                       : b->run(c->s->code, l, c->stream, err);
    if (status == CCC_OK) status = b->event_record(c->s->device, c->to, c->stream, err);
    if (status == CCC_OK) status = b->event_wait(c->s->device, c->to, err);
    if (status == CCC_OK) status = b->event_ms(c->s->device, step_ms, c->from, c->to, err);
    if (graph) b->graph_free(c->s->device, graph);
    *step_ms /= n_steps;
    return status;
}

static ccc_status time_subset(clock_pair *c, const cccrt_step_args *a, const uint8_t *run, uint32_t n,
                              int n_steps, double *step_ms, ccc_err *err)
{
    cccrt_session *s = c->s;
    const ccart_program *p;
    rt_counts counts;
    CCC_TRY(list_nodes(s, &p, &counts, a, err));
    if (n != s->list.n) return ccc_fail(err, CCC_E_ARG, "the step has %u nodes, not %u", s->list.n, n);
    CCC_TRY(rt_stage(s, a, &counts, 0, c->stream, err));
    rt_list l = {.launch = calloc(n + 1, sizeof *l.launch)};
    if (!l.launch) return ccc_fail(err, CCC_E_NOMEM, "out of memory for measurements");
    l.n = pick_nodes(l.launch, &s->list, run);
    ccc_status status = time_picked(c, &l, n_steps, step_ms, err);
    free(l.launch);
    return status;
}

ccc_status cccrt_time_subset(cccrt_session *s, const cccrt_step_args *args, const uint8_t *run, uint32_t n,
                             int n_steps, double *step_ms, ccc_err *err)
{
    cccrt_step_args a;
    CCC_TRY(rt_args(&a, sizeof a, args, "cccrt_step_args", err));
    if (n_steps < 1 || n_steps > MAX_CHAIN) return ccc_fail(err, CCC_E_ARG, "%d steps", n_steps);
    CCC_TRY(rt_enter(s->device, err));
    clock_pair c;
    ccc_status status = clock_new(&c, s, err);
    if (status == CCC_OK) status = time_subset(&c, &a, run, n, n_steps, step_ms, err);
    clock_free(&c);
    rt_leave(s->device);
    return status;
}

/* ---- a chain of steps */
static ccc_status time_chain(clock_pair *c, int64_t n_seqs, int n_steps, double *step_ms, double *enqueue_ms,
                             ccc_err *err)
{
    cccrt_session *s = c->s;
    const rt_backend *b = s->device->backend;
    cccrt_step_args a = {.size_B = sizeof a,
                         .n_tokens = n_seqs,
                         .n_seqs = n_seqs,
                         .n_logits = n_seqs,
                         .max_query_len = 1,
                         .advance = 1};
    CCC_TRY(cccrt_step(s, &a, c->stream, err)); /* builds the graph */
    CCC_TRY(b->stream_synchronize(s->device, c->stream, err));
    CCC_TRY(b->event_record(s->device, c->from, c->stream, err));
    for (int i = 0; i < n_steps; i++) {
        double start = rt_now_ms();
        CCC_TRY(cccrt_step(s, &a, c->stream, err));
        enqueue_ms[i] = rt_now_ms() - start;
    }
    CCC_TRY(b->event_record(s->device, c->to, c->stream, err));
    CCC_TRY(b->event_wait(s->device, c->to, err));
    CCC_TRY(b->event_ms(s->device, step_ms, c->from, c->to, err));
    *step_ms /= n_steps;
    return CCC_OK;
}

ccc_status cccrt_time_chain(cccrt_session *s, int64_t n_seqs, int n_steps, double *step_ms, double *host_us,
                            ccc_err *err)
{
    if (n_steps < 1 || n_steps > MAX_CHAIN || n_seqs < 1)
        return ccc_fail(err, CCC_E_ARG, "a chain of %d steps of %lld sequences", n_steps, (long long)n_seqs);
    double *enqueue_ms = calloc((size_t)n_steps, sizeof *enqueue_ms);
    if (!enqueue_ms) return ccc_fail(err, CCC_E_NOMEM, "out of memory for measurements");
    clock_pair c;
    ccc_status status = rt_enter(s->device, err);
    if (status == CCC_OK) {
        status = clock_new(&c, s, err);
        if (status == CCC_OK) status = time_chain(&c, n_seqs, n_steps, step_ms, enqueue_ms, err);
        clock_free(&c);
        rt_leave(s->device);
    }
    if (status == CCC_OK) {
        qsort(enqueue_ms, (size_t)n_steps, sizeof *enqueue_ms, ascending);
        *host_us = 1e3 * enqueue_ms[n_steps / 2];
    }
    free(enqueue_ms);
    return status;
}

/* ---- the read ceiling */
/* A read program gets the bytes to read in VAR_ROWS and the weights as source; what it sums goes to the arena
 * instead of the status words, which lie in the host's memory. */
static ccc_status time_read(clock_pair *c, uint64_t size_B, double *gb_per_s, ccc_err *err)
{
    cccrt_session *s = c->s;
    uint64_t all_B = s->weights->size_B;
    bool any = false;
    s->scope.src = (rt_buffer){s->weights->base, all_B};
    s->scope.var[CCART_VAR_ROWS] = (int64_t)((size_B < all_B ? size_B : all_B) & ~(uint64_t)4095);
    *gb_per_s = 0;
    if (!s->scope.var[CCART_VAR_ROWS] || s->scope.arena.size_B < 16)
        return ccc_fail(err, CCC_E_ARG, "the model is too small to measure reading with");
    s->scope.status = s->scope.arena.p;
    for (uint32_t i = 0; i < s->target->n_programs; i++) {
        const ccart_program *p = &s->target->program[i];
        if (p->mode != CCART_MODE_READ) continue;
        any = true;
        CCC_TRY(rt_session_resolve(s, &s->list, p, &(rt_counts){1, 1, 1, false}, err));
        for (int k = 0; k < READ_REPEATS; k++) {
            double ms;
            CCC_TRY(time_once(&ms, c, &s->list, NULL, err));
            double rate = (double)s->scope.var[CCART_VAR_ROWS] / ms / 1e6;
            if (k && ms > 0 && rate > *gb_per_s) *gb_per_s = rate;
        }
    }
    return any ? CCC_OK
               : ccc_fail(err, CCC_E_UNSUPPORTED, "the artifact has no program that measures reading");
}

ccc_status cccrt_time_read(cccrt_session *s, size_t size_B, double *gb_per_s, ccc_err *err)
{
    CCC_TRY(rt_enter(s->device, err));
    clock_pair c;
    ccc_status status = clock_new(&c, s, err);
    if (status == CCC_OK) status = time_read(&c, size_B, gb_per_s, err);
    s->scope.status = s->status_device;
    clock_free(&c);
    rt_leave(s->device);
    return status;
}
