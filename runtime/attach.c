/* The stream of weights to the device. A segment goes in pieces of whole rows. To a GPU: a few threads read
 * pieces into a ring of page-locked slots while the device copies earlier ones and runs their load programs,
 * all on one stream. On the CPU, and for tensors that are on the device already, programs read the source
 * where it is. */
#include "attach.h"
#include "pool.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_READERS = 16, MIN_SLOTS = 4, PIECES_A_SLOT = 8 };
typedef struct {
    uint32_t segment;
    uint64_t row0, rows;
} piece; /* of a prepared file: row0 is the block */

typedef struct {
    rt_attach *a;
    rt_scope scope;
    rt_list list;
    piece *piece;
    uint32_t n_pieces, cap_pieces;
    uint64_t slot_B, done_B, total_B;
    uint32_t n_slots;
    char *host, *device; /* the rings */
    void *event[RT_SLOTS];
    /* shared with the readers */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t claimed, retired; /* pieces begun by readers; pieces whose slot is free again */
    bool *ready, stop,
        in_place; /* in_place: readers write to where the bytes belong; the ring is the weights' buffer */
    ccc_status status;
    ccc_err error;
} stream;

static void report(stream *s, uint64_t more_B)
{
    s->done_B += more_B;
    if (s->a->args->progress) s->a->args->progress(s->a->args->payload, s->done_B, s->total_B);
}

/* ---- one piece on the device */
static ccc_status run_program(stream *s, uint32_t program, rt_buffer src, uint64_t row0, uint64_t rows,
                              ccc_err *err)
{
    rt_code *c = s->a->w->code;
    const ccart_program *p = &c->target->load[program];
    s->scope.src = src;
    s->scope.var[CCART_VAR_ROW0] = (int64_t)row0;
    s->scope.var[CCART_VAR_ROWS] = (int64_t)rows;
    CCC_TRY(rt_list_reserve(&s->list, c->target, p, err));
    CCC_TRY(rt_resolve(&s->list, &s->scope, p, NULL, err));
    return c->device->backend->run(c, &s->list, s->a->args->stream, err);
}

/* src: the piece's bytes where the device can read them. */
static ccc_status place_rows(stream *s, uint32_t segment, const void *src, uint64_t row0, uint64_t rows,
                             ccc_err *err)
{
    rt_code *c = s->a->w->code;
    const ccart_segment *g = &c->target->segment[segment];
    uint64_t size_B = rows * g->row_B;
    if (!g->plain)
        return run_program(s, g->load_program, (rt_buffer){(char *)(uintptr_t)src, size_B}, row0, rows, err);
    char *dst = s->a->w->base + s->a->w->at_B[g->weight] + g->dst_B + row0 * g->row_B;
    if (c->device->is_cuda)
        return c->device->backend->copy(c->device, dst, src, size_B, s->a->args->stream, err);
    rt_launch l = {
        .kind = CCART_NODE_COPY, .dst = dst, .src = src, .size_B = size_B}; /* dealt to all threads */
    return c->device->backend->run(c, &(rt_list){.launch = &l, .n = 1}, NULL, err);
}

/* Segments that need no ring: constants, random numbers, and sources that the device can read in place. */
static ccc_status place_directly(stream *s, ccc_err *err)
{
    rt_attach *a = s->a;
    const ccart_target *t = a->w->code->target;
    for (uint32_t i = 0; i < t->n_segments; i++) {
        const ccart_segment *g = &t->segment[i];
        uint64_t rows = rt_segment_rows(g);
        const void *src = a->place[i].device;
        if (!src && !a->w->code->device->is_cuda)
            src = a->place[i].host     ? a->place[i].host
                  : a->place[i].tensor ? cccrt_source_data(a->source, a->place[i].tensor)
                                       : NULL;
        if (!*g->source) CCC_TRY(run_program(s, g->load_program, (rt_buffer){0}, 0, rows, err));
        else if (a->args->random) CCC_TRY(run_program(s, g->random_program, (rt_buffer){0}, 0, rows, err));
        else if (src) CCC_TRY(place_rows(s, i, src, 0, rows, err));
        else continue;
        report(s, *g->source ? rows * g->row_B : 0);
    }
    return CCC_OK;
}

/* ---- the ring */
static ccc_status read_piece(const stream *s, const piece *p, char *to, ccc_err *err)
{
    const rt_attach *a = s->a;
    if (a->prepared) return rt_ccw_read(&a->ccw, (uint32_t)p->row0, to, err);
    const ccart_segment *g = &a->w->code->target->segment[p->segment];
    uint64_t at_B = p->row0 * g->row_B, size_B = p->rows * g->row_B;
    if (a->place[p->segment].tensor)
        return cccrt_source_read(a->source, a->place[p->segment].tensor, at_B, size_B, to, err);
    memcpy(to, (const char *)a->place[p->segment].host + at_B, size_B);
    return CCC_OK;
}

static void *reader(void *arg)
{
    stream *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!s->stop && s->claimed < s->n_pieces) {
        uint32_t i = s->claimed++;
        while (!s->stop && i - s->retired >= s->n_slots) pthread_cond_wait(&s->changed, &s->lock);
        if (s->stop) break;
        pthread_mutex_unlock(&s->lock);
        ccc_err e = {0};
        ccc_status status = read_piece(s, &s->piece[i], s->host + i % s->n_slots * s->slot_B, &e);
        pthread_mutex_lock(&s->lock);
        if (status != CCC_OK && s->status == CCC_OK) {
            s->status = status;
            s->error = e;
            s->stop = true;
        }
        s->ready[i] = true;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static ccc_status issue(stream *s, uint32_t i, ccc_err *err)
{
    rt_attach *a = s->a;
    cccrt_device *d = a->w->code->device;
    const piece *p = &s->piece[i];
    const char *host = s->host + i % s->n_slots * s->slot_B;
    if (a->prepared) {
        uint32_t size_B = rt_ccw_block_size(&a->ccw, (uint32_t)p->row0);
        char *dst = a->w->base + p->row0 * a->ccw.block_B;
        if (!s->in_place) CCC_TRY(d->backend->copy(d, dst, host, size_B, a->args->stream, err));
        report(s, size_B);
        return CCC_OK;
    }
    const ccart_segment *g = &a->w->code->target->segment[p->segment];
    const char *src = host;
    if (!g->plain) {
        char *to = s->device + i % s->n_slots * s->slot_B;
        CCC_TRY(d->backend->copy(d, to, host, p->rows * g->row_B, a->args->stream, err));
        src = to;
    }
    CCC_TRY(place_rows(s, p->segment, src, p->row0, p->rows, err));
    report(s, p->rows * g->row_B);
    return CCC_OK;
}

/* Frees the slots of all pieces before `end`. */
static ccc_status retire(stream *s, uint32_t end, ccc_err *err)
{
    cccrt_device *d = s->a->w->code->device;
    CCC_TRY(d->backend->event_wait(d, s->event[(end - 1) % s->n_slots], err));
    pthread_mutex_lock(&s->lock);
    s->retired = end;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return CCC_OK;
}

static ccc_status pump(stream *s, ccc_err *err)
{
    cccrt_device *d = s->a->w->code->device;
    uint32_t in_flight = s->n_slots < 3 ? 1 : s->n_slots / 3; /* copies keep the bus busy; all other slots are the readers' */
    for (uint32_t i = 0; i < s->n_pieces; i++) {
        pthread_mutex_lock(&s->lock);
        while (!s->ready[i] && !s->stop) pthread_cond_wait(&s->changed, &s->lock);
        bool stop = s->stop;
        pthread_mutex_unlock(&s->lock);
        if (stop) return CCC_OK; /* the reader's error is reported by the caller */
        CCC_TRY(issue(s, i, err));
        if (s->in_place) continue;
        CCC_TRY(d->backend->event_record(d, s->event[i % s->n_slots], s->a->args->stream, err));
        if (i + 1 > in_flight) CCC_TRY(retire(s, i + 1 - in_flight, err));
    }
    return CCC_OK;
}

static ccc_status with_readers(stream *s, ccc_err *err)
{
    pthread_t thread[MAX_READERS];
    unsigned n = rt_pool_processors(), started = 0;
    if (n > MAX_READERS) n = MAX_READERS;
    if (n > s->n_slots) n = s->n_slots; /* more would only wait */
    s->ready = calloc(s->n_pieces, sizeof *s->ready);
    if (!s->ready) return ccc_fail(err, CCC_E_NOMEM, "out of memory while weights are attached");
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    while (started < n && pthread_create(&thread[started], NULL, reader, s) == 0) started++;
    ccc_status status =
        started ? pump(s, err) : ccc_fail(err, CCC_E_NOMEM, "cannot start a thread that reads weights");
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < started; i++) pthread_join(thread[i], NULL);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s->ready);
    if (status == CCC_OK && s->status != CCC_OK) {
        if (err) *err = s->error;
        status = s->status;
    }
    return status;
}

/* ---- pieces */
static ccc_status add_piece(stream *s, piece p, ccc_err *err)
{
    if (s->n_pieces == s->cap_pieces) {
        uint32_t cap = s->cap_pieces ? 2 * s->cap_pieces : 256;
        piece *to = realloc(s->piece, cap * sizeof *to);
        if (!to) return ccc_fail(err, CCC_E_NOMEM, "out of memory while weights are attached");
        s->piece = to;
        s->cap_pieces = cap;
    }
    s->piece[s->n_pieces++] = p;
    return CCC_OK;
}

static uint64_t group_B(const ccart_segment *g)
{
    return (uint64_t)g->row_group * g->row_B;
}

static ccc_status cut_segment(stream *s, uint32_t i, ccc_err *err)
{
    const ccart_segment *g = &s->a->w->code->target->segment[i];
    uint64_t rows = rt_segment_rows(g), step = s->slot_B / group_B(g) * (uint64_t)g->row_group;
    for (uint64_t r = 0; r < rows; r += step)
        CCC_TRY(add_piece(s, (piece){i, r, rows - r < step ? rows - r : step}, err));
    return CCC_OK;
}

static ccc_status cut(stream *s, ccc_err *err)
{
    rt_attach *a = s->a;
    const ccart_target *t = a->w->code->target;
    s->slot_B = a->prepared ? a->ccw.block_B : RT_SLOT_B;
    for (uint32_t i = 0; i < (a->prepared ? a->ccw.n_blocks : 0); i++)
        CCC_TRY(add_piece(s, (piece){.row0 = i}, err));
    if (a->prepared) return CCC_OK;
    for (uint32_t i = 0; i < t->n_segments; i++)
        if (*t->segment[i].source && group_B(&t->segment[i]) > s->slot_B) s->slot_B = group_B(&t->segment[i]);
    for (uint32_t i = 0; i < t->n_segments; i++)
        if ((a->place[i].tensor || a->place[i].host) && a->w->code->device->is_cuda)
            CCC_TRY(cut_segment(s, i, err));
    return CCC_OK;
}

uint64_t rt_attach_staging_B(const ccart_target *t)
{
    uint64_t slot_B = RT_SLOT_B;
    bool load = false;
    for (uint32_t i = 0; i < t->n_segments; i++) {
        const ccart_segment *g = &t->segment[i];
        load |= *g->source && !g->plain;
        if (*g->source && group_B(g) > slot_B) slot_B = group_B(g);
    }
    return load ? slot_B * RT_SLOTS : 0;
}

/* Few for small models, because page-locked memory takes its time to get. */
static uint32_t slots_for(uint32_t n_pieces)
{
    uint32_t n = n_pieces / PIECES_A_SLOT;
    if (n < MIN_SLOTS) n = MIN_SLOTS;
    if (n > RT_SLOTS) n = RT_SLOTS;
    return n < n_pieces ? n : n_pieces;
}

static ccc_status run_ring(stream *s, ccc_err *err)
{
    rt_attach *a = s->a;
    cccrt_device *d = a->w->code->device;
    const rt_backend *b = d->backend;
    bool load = false;
    if (!d->is_cuda) { /* only prepared files get here */
        s->in_place = true;
        s->host = a->w->base;
        s->n_slots = s->n_pieces;
        return with_readers(s, err);
    }
    s->n_slots = slots_for(s->n_pieces);
    for (uint32_t i = 0; i < s->n_pieces && !a->prepared; i++)
        load |= !a->w->code->target->segment[s->piece[i].segment].plain;
    CCC_TRY(b->alloc_host(d, (void **)&s->host, NULL, s->slot_B * s->n_slots, err));
    ccc_status status = load ? b->alloc(d, (void **)&s->device, s->slot_B * s->n_slots, err) : CCC_OK;
    for (uint32_t i = 0; i < s->n_slots && status == CCC_OK; i++)
        status = b->event_new(d, &s->event[i], false, err);
    if (status == CCC_OK) status = with_readers(s, err);
    ccc_status end = b->stream_synchronize(
        d, a->args->stream, status == CCC_OK ? err : NULL); /* the device may still read the ring */
    if (status == CCC_OK) status = end;
    for (uint32_t i = 0; i < s->n_slots; i++)
        if (s->event[i]) b->event_free(d, s->event[i]);
    if (s->device) b->release(d, s->device);
    b->release_host(d, s->host);
    return status;
}

/* The bytes between weights are zeros, so that equal weights have equal buffers and equal prepared files. */
static ccc_status clear_gaps(const rt_attach *a, ccc_err *err)
{
    const ccart_target *t = a->w->code->target;
    cccrt_device *d = a->w->code->device;
    for (uint32_t i = 0; i < t->n_weights && !a->prepared; i++) {
        uint64_t from_B = a->w->at_B[i] + t->weight[i].size_B,
                 to_B = i + 1 < t->n_weights ? a->w->at_B[i + 1] : a->w->size_B;
        if (to_B > from_B)
            CCC_TRY(d->backend->fill(d, a->w->base + from_B, 0, to_B - from_B, a->args->stream, err));
    }
    return CCC_OK;
}

ccc_status rt_attach_run(rt_attach *a, ccc_err *err)
{
    rt_code *c = a->w->code;
    stream s = {.a = a};
    s.scope = (rt_scope){.code = c, .weights = a->w->base, .weight_at_B = a->w->at_B, .seed = a->args->seed};
    s.scope.var[CCART_VAR_SM] = c->device->n_sm;
    s.scope.var[CCART_VAR_WORLD] = 1;
    for (uint32_t i = 0; i < c->target->n_segments; i++)
        if (*c->target->segment[i].source)
            s.total_B += rt_segment_rows(&c->target->segment[i]) * c->target->segment[i].row_B;
    if (a->prepared) s.total_B = a->ccw.data_B;
    ccc_status status = clear_gaps(a, err);
    if (status == CCC_OK && !a->prepared) status = place_directly(&s, err);
    if (status == CCC_OK) status = cut(&s, err);
    if (status == CCC_OK && s.n_pieces) status = run_ring(&s, err);
    ccc_status end =
        c->device->backend->stream_synchronize(c->device, a->args->stream, status == CCC_OK ? err : NULL);
    rt_list_free(&s.list);
    free(s.piece);
    return status != CCC_OK ? status : end;
}
