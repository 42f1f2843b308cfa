/* Measuring: each node of a program alone, a chain of decode steps, and the best rate at which the device
 * reads memory. These synchronise and may allocate; a step does neither. */
#include "session.h"
#include <stdlib.h>

enum { COPIES = 8, MAX_REPEATS = 1000, MAX_CHAIN = 1 << 20, READ_REPEATS = 10 };

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

/* ---- one node */
static ccc_status time_launch(double *ms, clock_pair *c, const rt_launch *one, int repeats, double *sample,
                              ccc_err *err)
{
    cccrt_session *s = c->s;
    const rt_backend *b = s->device->backend;
    rt_launch copies[COPIES];
    rt_list l = {.launch = copies, .n = COPIES};
    void *graph = NULL;
    for (int i = 0; i < COPIES; i++) {
        copies[i] = *one;
        copies[i].edge = CCART_EDGE_FULL;
    }
    if (b->graph_new)
        CCC_TRY(b->graph_new(&graph, s->code, &l, c->stream,
                             err)); /* so that the host's time to launch does not count */
    ccc_status status = time_once(ms, c, &l, graph, err); /* the first is for warming up */
    for (int i = 0; i < repeats && status == CCC_OK; i++) status = time_once(&sample[i], c, &l, graph, err);
    if (graph) b->graph_free(s->device, graph);
    if (status != CCC_OK) return status;
    qsort(sample, (size_t)repeats, sizeof *sample, ascending);
    *ms = sample[repeats / 2] / COPIES;
    return CCC_OK;
}

static uint64_t node_weights_B(const ccart_target *t, const ccart_program *p, const ccart_node *n)
{
    uint64_t total_B = 0;
    for (uint32_t i = 0; i < n->n_params; i++) {
        const ccart_param *q = &p->param[n->first_param + i];
        if (q->kind == CCART_P_WEIGHT) total_B += t->weight[q->index].size_B;
        else if (q->kind == CCART_P_TMAP && p->tmap[q->index].base_kind == CCART_P_WEIGHT)
            total_B += t->weight[p->tmap[q->index].index].size_B;
    }
    return total_B;
}

static ccc_status time_nodes(cccrt_session *s, const cccrt_step_args *a, int repeats, double *sample,
                             cccrt_node_time *times, uint32_t cap, uint32_t *n, ccc_err *err)
{
    rt_counts counts;
    CCC_TRY(rt_check_step(s, a, &counts, err));
    const ccart_program *p = counts.decode ? rt_program_for(s, CCART_MODE_DECODE, counts.T) : NULL;
    if (!p) p = rt_program_for(s, CCART_MODE_MIXED, counts.T);
    if (!p)
        return ccc_fail(err, CCC_E_ARG, "the artifact has no program for %lld tokens", (long long)counts.T);
    clock_pair c;
    ccc_status status = clock_new(&c, s, err);
    if (status == CCC_OK) status = rt_stage(s, a, &counts, 0, c.stream, err);
    if (status == CCC_OK) status = rt_session_resolve(s, &s->list, p, &counts, err);
    *n = s->list.n;
    for (uint32_t i = 0; i < s->list.n && i < cap && status == CCC_OK; i++) {
        const rt_launch *l = &s->list.launch[i];
        cccrt_node_time t = {.kernel = l->kind == CCART_NODE_KERNEL   ? s->target->kernel[l->kernel].name
                                       : l->kind == CCART_NODE_MEMSET ? "memset"
                                                                      : "copy",
                             .node = l->node,
                             .label = l->label,
                             .weight_B = node_weights_B(s->target, p, &p->node[l->node])};
        status = time_launch(&t.ms, &c, l, repeats, sample, err);
        times[i].size_B = sizeof *times;
        rt_result(&times[i], &t, sizeof t);
    }
    clock_free(&c);
    return status;
}

ccc_status cccrt_time_nodes(cccrt_session *s, const cccrt_step_args *args, int repeats,
                            cccrt_node_time *times, uint32_t cap, uint32_t *n, ccc_err *err)
{
    cccrt_step_args a;
    CCC_TRY(rt_args(&a, sizeof a, args, "cccrt_step_args", err));
    if (repeats < 1 || repeats > MAX_REPEATS)
        return ccc_fail(err, CCC_E_ARG, "%d repeats; 1 to %d are possible", repeats, MAX_REPEATS);
    double *sample = malloc((size_t)repeats * sizeof *sample);
    if (!sample) return ccc_fail(err, CCC_E_NOMEM, "out of memory for measurements");
    ccc_status status = rt_enter(s->device, err);
    if (status == CCC_OK) {
        status = time_nodes(s, &a, repeats, sample, times, cap, n, err);
        rt_leave(s->device);
    }
    free(sample);
    return status;
}

/* ---- a chain of steps */
static ccc_status time_chain(clock_pair *c, int64_t n_seqs, int n_steps, double *step_ms, double *host_us,
                             ccc_err *err)
{
    cccrt_session *s = c->s;
    const rt_backend *b = s->device->backend;
    cccrt_step_args a = {
        .size_B = sizeof a, .n_tokens = n_seqs, .n_seqs = n_seqs, .n_logits = n_seqs, .max_query_len = 1};
    double host_ms = 0;
    CCC_TRY(cccrt_step(s, &a, c->stream, err)); /* builds the graph */
    CCC_TRY(cccrt_advance(s, n_seqs, c->stream, err));
    CCC_TRY(b->stream_synchronize(s->device, c->stream, err));
    CCC_TRY(b->event_record(s->device, c->from, c->stream, err));
    for (int i = 0; i < n_steps; i++) {
        double start = rt_now_ms();
        CCC_TRY(cccrt_step(s, &a, c->stream, err));
        host_ms += rt_now_ms() - start;
        CCC_TRY(cccrt_advance(s, n_seqs, c->stream, err));
    }
    CCC_TRY(b->event_record(s->device, c->to, c->stream, err));
    CCC_TRY(b->event_wait(s->device, c->to, err));
    CCC_TRY(b->event_ms(s->device, step_ms, c->from, c->to, err));
    *step_ms /= n_steps;
    *host_us = host_ms * 1e3 / n_steps;
    return CCC_OK;
}

ccc_status cccrt_time_chain(cccrt_session *s, int64_t n_seqs, int n_steps, double *step_ms, double *host_us,
                            ccc_err *err)
{
    if (n_steps < 1 || n_steps > MAX_CHAIN || n_seqs < 1)
        return ccc_fail(err, CCC_E_ARG, "a chain of %d steps of %lld sequences", n_steps, (long long)n_seqs);
    CCC_TRY(rt_enter(s->device, err));
    clock_pair c;
    ccc_status status = clock_new(&c, s, err);
    if (status == CCC_OK) status = time_chain(&c, n_seqs, n_steps, step_ms, host_us, err);
    clock_free(&c);
    rt_leave(s->device);
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
