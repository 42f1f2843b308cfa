/* The stream of weights to the device. A segment goes in pieces of whole rows. To a GPU: each of a few
 * threads has two page-locked slots of its own; it reads (and checks) a piece into one while the device
 * copies the other, and hands it to the stream under a lock. Pieces arrive in any order: each knows its
 * place. On the CPU, and for tensors that are on the device already, programs read the source where it is. */
#include "attach.h"
#include "pool.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PIECES_A_READER = 8, HUGE_PAGE_B = 2 << 20, PAGE_B = 4096 };
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
    uint64_t slot_B, reported_B, total_B;
    char *device;  /* staging of load programs: a slot for each of the readers' */
    bool in_place; /* readers write to where the bytes belong: the CPU's weights */
    /* shared by the readers */
    pthread_mutex_t lock; /* of all below, of the stream, and of `list` and `scope` */
    pthread_cond_t changed;
    uint32_t claimed, running;
    uint64_t done_B;
    bool stop;
    ccc_status status;
    ccc_err error;
} stream;

typedef struct {
    stream *s;
    pthread_t thread;
    char *mapped, *slot[RT_SLOTS_A_READER], *device[RT_SLOTS_A_READER];
    bool locked;
    void *event[RT_SLOTS_A_READER]; /* the slot has been copied */
} reader;

/* From the thread that called, as its progress function expects. */
static void report(stream *s, uint64_t done_B)
{
    if (done_B != s->reported_B && s->a->args->progress)
        s->a->args->progress(s->a->args->payload, done_B, s->total_B);
    s->reported_B = done_B;
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
    CCC_TRY(rt_list_reserve(&s->list, c->target, p, NULL, err));
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
        if (*g->source) s->done_B += rows * g->row_B;
        report(s, s->done_B);
    }
    return CCC_OK;
}

/* ---- the readers */
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

static uint64_t piece_B(const stream *s, const piece *p)
{
    if (s->a->prepared) return rt_ccw_block_size(&s->a->ccw, (uint32_t)p->row0);
    return p->rows * s->a->w->code->target->segment[p->segment].row_B;
}

/* Copies slot k to its place, by way of a load program where the segment has one. */
static ccc_status issue(reader *r, const piece *p, unsigned k, ccc_err *err)
{
    stream *s = r->s;
    rt_attach *a = s->a;
    cccrt_device *d = a->w->code->device;
    void *on = a->args->stream;
    const char *from = r->slot[k];
    if (a->prepared)
        CCC_TRY(d->backend->copy(d, a->w->base + p->row0 * a->ccw.block_B, from, piece_B(s, p), on, err));
    else {
        if (!a->w->code->target->segment[p->segment].plain) {
            CCC_TRY(d->backend->copy(d, r->device[k], from, piece_B(s, p), on, err));
            from = r->device[k];
        }
        CCC_TRY(place_rows(s, p->segment, from, p->row0, p->rows, err));
    }
    return d->backend->event_record(d, r->event[k], on, err);
}

/* Page-locks the reader's slots: on huge pages where the kernel gives them, which takes a tenth of the time.
 * Done by each reader for its own, so that others read meanwhile. */
static ccc_status lock_slots(reader *r, ccc_err *err)
{
    stream *s = r->s;
    cccrt_device *d = s->a->w->code->device;
    uint64_t size_B = s->slot_B * RT_SLOTS_A_READER;
    r->mapped = mmap(NULL, size_B + HUGE_PAGE_B, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r->mapped == MAP_FAILED) {
        r->mapped = NULL;
        return ccc_fail(err, CCC_E_NOMEM, "out of memory while weights are attached");
    }
    char *p = r->mapped + (HUGE_PAGE_B - (uintptr_t)r->mapped % HUGE_PAGE_B) % HUGE_PAGE_B;
    madvise(p, size_B, MADV_HUGEPAGE); /* a wish: without huge pages it works too */
    for (uint64_t at_B = 0; at_B < size_B; at_B += PAGE_B)
        p[at_B] = 0; /* here, not under the driver's lock */
    for (unsigned k = 0; k < RT_SLOTS_A_READER; k++) r->slot[k] = p + k * s->slot_B;
    CCC_TRY(d->backend->lock_host(d, p, size_B, err));
    r->locked = true;
    for (unsigned k = 0; k < RT_SLOTS_A_READER; k++)
        CCC_TRY(d->backend->event_new(d, &r->event[k], false, err));
    return CCC_OK;
}

static void unlock_slots(reader *r)
{
    cccrt_device *d = r->s->a->w->code->device;
    for (unsigned k = 0; k < RT_SLOTS_A_READER; k++)
        if (r->event[k]) d->backend->event_free(d, r->event[k]);
    if (r->locked) d->backend->unlock_host(d, r->slot[0]);
    if (r->mapped) munmap(r->mapped, r->s->slot_B * RT_SLOTS_A_READER + HUGE_PAGE_B);
}

/* The next piece, NULL when there is none. */
static const piece *claim(stream *s)
{
    pthread_mutex_lock(&s->lock);
    const piece *p = s->stop || s->claimed == s->n_pieces ? NULL : &s->piece[s->claimed++];
    pthread_mutex_unlock(&s->lock);
    return p;
}

static ccc_status read_pieces(reader *r, ccc_err *err)
{
    stream *s = r->s;
    cccrt_device *d = s->a->w->code->device;
    uint64_t turn = 0;
    for (const piece *p; (p = claim(s)); turn++) {
        unsigned k = turn % RT_SLOTS_A_READER;
        if (!s->in_place && turn >= RT_SLOTS_A_READER) CCC_TRY(d->backend->event_wait(d, r->event[k], err));
        char *to = s->in_place ? s->a->w->base + p->row0 * s->a->ccw.block_B : r->slot[k];
        CCC_TRY(read_piece(s, p, to, err));
        pthread_mutex_lock(&s->lock);
        ccc_status status = s->in_place || s->stop ? CCC_OK : issue(r, p, k, err);
        s->done_B += piece_B(s, p);
        pthread_cond_signal(&s->changed);
        pthread_mutex_unlock(&s->lock);
        CCC_TRY(status);
    }
    return CCC_OK;
}

static ccc_status read_to_device(reader *r, ccc_err *err)
{
    stream *s = r->s;
    cccrt_device *d = s->a->w->code->device;
    CCC_TRY(d->backend->enter(d, err));
    ccc_status status = lock_slots(r, err);
    if (status == CCC_OK) status = read_pieces(r, err);
    ccc_status end = d->backend->stream_synchronize(
        d, s->a->args->stream, status == CCC_OK ? err : NULL); /* the device may still read the slots */
    unlock_slots(r);
    d->backend->leave(d);
    return status == CCC_OK ? end : status;
}

static void *reader_main(void *arg)
{
    reader *r = arg;
    stream *s = r->s;
    ccc_err e = {0};
    ccc_status status = s->in_place ? read_pieces(r, &e) : read_to_device(r, &e);
    pthread_mutex_lock(&s->lock);
    if (status != CCC_OK && s->status == CCC_OK) {
        s->status = status;
        s->error = e;
    }
    if (status != CCC_OK) s->stop = true;
    s->running--;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static ccc_status with_readers(stream *s, unsigned n, ccc_err *err)
{
    reader r[RT_READERS] = {0};
    unsigned started = 0;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    pthread_mutex_lock(&s->lock);
    for (bool ok = true; ok && started < n; started += ok) {
        r[started].s = s;
        for (unsigned k = 0; k < RT_SLOTS_A_READER && s->device; k++)
            r[started].device[k] = s->device + (started * RT_SLOTS_A_READER + k) * s->slot_B;
        ok = pthread_create(&r[started].thread, NULL, reader_main, &r[started]) == 0;
    }
    s->running = started; /* they wait for the lock to say that they have ended */
    while (s->running) {
        if (s->done_B == s->reported_B) pthread_cond_wait(&s->changed, &s->lock);
        uint64_t done_B = s->done_B;
        pthread_mutex_unlock(&s->lock);
        report(s, done_B);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    report(s, s->done_B);
    for (unsigned i = 0; i < started; i++) pthread_join(r[i].thread, NULL);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    if (!started) return ccc_fail(err, CCC_E_NOMEM, "cannot start a thread that reads weights");
    if (s->status != CCC_OK && err) *err = s->error;
    return s->status;
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

static uint64_t slot_for(const ccart_segment *g)
{
    return (group_B(g) + RT_ALIGN_B - 1) / RT_ALIGN_B * RT_ALIGN_B;
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
        if (*t->segment[i].source && slot_for(&t->segment[i]) > s->slot_B)
            s->slot_B = slot_for(&t->segment[i]);
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
        if (*g->source && slot_for(g) > slot_B) slot_B = slot_for(g);
    }
    return load ? slot_B * RT_READERS * RT_SLOTS_A_READER : 0;
}

/* Few for small models, because page-locked memory takes its time to get. */
static unsigned readers_for(uint32_t n_pieces)
{
    unsigned n = rt_pool_processors(), wanted = (n_pieces + PIECES_A_READER - 1) / PIECES_A_READER;
    if (n > RT_READERS) n = RT_READERS;
    return n < wanted ? n : wanted;
}

static ccc_status stream_pieces(stream *s, ccc_err *err)
{
    rt_attach *a = s->a;
    cccrt_device *d = a->w->code->device;
    unsigned n = readers_for(s->n_pieces);
    bool load = false;
    s->in_place = !d->is_cuda; /* of a CPU's only prepared files get here */
    for (uint32_t i = 0; i < s->n_pieces && !a->prepared; i++)
        load |= !a->w->code->target->segment[s->piece[i].segment].plain;
    if (load) CCC_TRY(d->backend->alloc(d, (void **)&s->device, s->slot_B * n * RT_SLOTS_A_READER, err));
    ccc_status status = with_readers(s, n, err);
    if (s->device) d->backend->release(d, s->device);
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
    if (status == CCC_OK && s.n_pieces) status = stream_pieces(&s, err);
    ccc_status end =
        c->device->backend->stream_synchronize(c->device, a->args->stream, status == CCC_OK ? err : NULL);
    rt_list_free(&s.list);
    free(s.piece);
    return status != CCC_OK ? status : end;
}
