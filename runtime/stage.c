/* The way of a step's host arrays to the device. They are written, padded, into page-locked memory as they
 * lie in the session's io block, and go over in one transfer; only where much would be sent in vain, or where
 * buffers are the caller's, there are more. The host waits only when it is half a ring ahead of the device.
 * On the CPU the arrays are written to their buffers directly. */
#include "session.h"
#include <stdlib.h>
#include <string.h>

enum { RING_B = 1 << 20, MAX_GAP_B = 64 << 10, STEPS_IN_HALF = 4 };
typedef struct {
    rt_input input;
    char *dst;
    size_t size_B;
} part;

static size_t step_most_B(const cccrt_session *s) /* of the io block that one step can send */
{
    size_t n = 0;
    for (int i = 0; i < RT_N_INPUTS; i++)
        if (s->in_of[i] >= 0) n += (size_t)s->in[s->in_of[i]].size_B + RT_ALIGN_B;
    return n;
}

ccc_status rt_ring_new(cccrt_session *s, ccc_err *err)
{
    if (!s->device->is_cuda) return CCC_OK;
    const rt_backend *b = s->device->backend;
    size_t most_B = step_most_B(s);
    s->ring.half_B = most_B * STEPS_IN_HALF > RING_B ? most_B : RING_B;
    CCC_TRY(b->alloc_host(s->device, (void **)&s->ring.host, NULL, 2 * s->ring.half_B, err));
    memset(s->ring.host, 0, 2 * s->ring.half_B);
    for (int i = 0; i < 2; i++) CCC_TRY(b->event_new(s->device, &s->ring.event[i], false, err));
    return CCC_OK;
}

void rt_ring_free(cccrt_session *s)
{
    for (int i = 0; i < 2; i++)
        if (s->ring.event[i]) s->device->backend->event_free(s->device, s->ring.event[i]);
    if (s->ring.host) s->device->backend->release_host(s->device, s->ring.host);
}

/* Room for one step, contiguous. */
static ccc_status take_room(cccrt_session *s, char **out, size_t size_B, void *stream, ccc_err *err)
{
    rt_ring *r = &s->ring;
    const rt_backend *b = s->device->backend;
    if (size_B > r->half_B - r->used_B) {
        CCC_TRY(b->event_record(s->device, r->event[r->half], stream, err));
        r->pending[r->half] = true;
        r->half ^= 1;
        r->used_B = 0;
        if (r->pending[r->half]) CCC_TRY(b->event_wait(s->device, r->event[r->half], err));
        r->pending[r->half] = false;
    }
    *out = r->host + r->half * r->half_B + r->used_B;
    r->used_B += size_B;
    return CCC_OK;
}

const void *rt_step_array(const cccrt_step_args *a, rt_input i)
{
    const void *of[RT_N_INPUTS] = {a->token_ids,      a->positions, a->slot_mapping, a->query_start_loc,
                                   a->logits_indices, a->seq_lens,  a->block_table};
    return of[i];
}

int64_t rt_input_rows(const rt_counts *n, rt_input i)
{
    switch (i) {
    case RT_TOKENS:
    case RT_POSITIONS:
    case RT_SLOTS_OF:
        return n->T;
    case RT_STARTS:
        return n->S + 1;
    case RT_LOGITS:
        return n->R;
    default:
        return n->S;
    }
}

size_t rt_input_row_B(const cccrt_session *s, rt_input i)
{
    if (i == RT_TABLE) return (size_t)s->max_blocks * 4;
    return rt_inputs[i].dtype == CCART_I64 ? 8 : 4;
}

static void write_table(const cccrt_session *s, char *to, const cccrt_step_args *a, int64_t rows)
{
    int64_t stride = a->block_table_stride ? a->block_table_stride : s->max_blocks;
    size_t given_B = (size_t)(stride < s->max_blocks ? stride : s->max_blocks) * 4,
           row_size_B = (size_t)s->max_blocks * 4;
    for (int64_t r = 0; r < rows; r++) { /* whole rows: sequences that grow on the device reach the blocks
                                            behind their present length */
        memcpy(to + (size_t)r * row_size_B, a->block_table + r * stride, given_B);
        memset(to + (size_t)r * row_size_B + given_B, 0, row_size_B - given_B);
    }
}

/* n rows of the caller's, then padding up to `rows`. */
static void write_part(const cccrt_session *s, const part *p, char *to, const cccrt_step_args *a, int64_t n,
                       int64_t rows)
{
    size_t each_B = rt_input_row_B(s, p->input);
    if (p->input == RT_TABLE) {
        write_table(s, to, a, n);
        return;
    }
    memcpy(to, rt_step_array(a, p->input), (size_t)n * each_B);
    char *rest = to + (size_t)n * each_B;
    int64_t more = rows - n;
    switch (p->input) {
    case RT_SLOTS_OF:
        memset(rest, 0xff, (size_t)more * 8);
        break;
    case RT_STARTS: /* decode: the query of sequence i is token i */
        for (int64_t i = n; i < rows; i++) memcpy(to + 4 * i, &(int32_t){(int32_t)i}, 4);
        break;
    case RT_LOGITS:
        for (int64_t i = n; i < rows; i++)
            memcpy(to + 4 * i, n ? to + 4 * (n - 1) : (char *)&(int32_t){0}, 4);
        break;
    default:
        memset(rest, 0, (size_t)more * each_B);
    }
}

/* Between two arrays of one transfer lies the unused rest of the first one's buffer: it becomes padding too.
 * Remembers behind which element a buffer holds padding alone. */
static void pad_gap(cccrt_session *s, const part *p, char *to, size_t gap_B, int64_t n, int64_t rows)
{
    if (gap_B) memset(to + p->size_B, p->input == RT_SLOTS_OF ? 0xff : 0, gap_B);
    if (gap_B || s->dirty_end[p->input] <= rows) s->dirty_end[p->input] = n;
}

static ccc_status send(cccrt_session *s, const part *p, int count, const cccrt_step_args *a,
                       const rt_counts *n, const rt_counts *rows, void *stream, ccc_err *err)
{
    char *first = p[0].dst, *to = first;
    size_t span_B = (size_t)(p[count - 1].dst - first) + p[count - 1].size_B;
    if (s->device->is_cuda) CCC_TRY(take_room(s, &to, (span_B + 15) & ~(size_t)15, stream, err));
    for (int i = 0; i < count; i++) {
        int64_t have = rt_input_rows(n, p[i].input), want = rt_input_rows(rows, p[i].input);
        write_part(s, &p[i], to + (p[i].dst - first), a, have, want);
        size_t gap_B =
            s->device->is_cuda && i + 1 < count ? (size_t)(p[i + 1].dst - p[i].dst) - p[i].size_B : 0;
        pad_gap(s, &p[i], to + (p[i].dst - first), gap_B, have, want);
    }
    return s->device->is_cuda ? s->device->backend->copy(s->device, first, to, span_B, stream, err) : CCC_OK;
}

ccc_status rt_stage(cccrt_session *s, const cccrt_step_args *a, const rt_counts *n, int64_t padded,
                    void *stream, ccc_err *err)
{
    part run[RT_N_INPUTS];
    int count = 0;
    rt_counts rows = padded ? (rt_counts){padded, padded, padded, true} : *n;
    for (rt_input i = 0; i < RT_N_INPUTS; i++) {
        size_t size_B = (size_t)rt_input_rows(i == RT_TABLE ? n : &rows, i) * rt_input_row_B(s, i);
        if (!rt_step_array(a, i) || !size_B) continue;
        part p = {i, s->in[s->in_of[i]].p, size_B};
        if (count) {
            const char *end = run[count - 1].dst + run[count - 1].size_B;
            bool ours = run[0].dst >= s->io && run[0].dst < s->io + s->io_B && p.dst >= s->io &&
                        p.dst < s->io + s->io_B;
            if (!ours || p.dst < end || p.dst - end > MAX_GAP_B || i != run[count - 1].input + 1) {
                CCC_TRY(send(s, run, count, a, n, &rows, stream, err));
                count = 0;
            }
        }
        run[count++] = p;
    }
    return count ? send(s, run, count, a, n, &rows, stream, err) : CCC_OK;
}
