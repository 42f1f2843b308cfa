/* A session's own struct, shared by its making (session.c), steps (step.c), the way of host arrays to the
 * device (stage.c) and measuring (timing.c). */
#ifndef CCCRT_SESSION_H
#define CCCRT_SESSION_H
#include "rt.h"

typedef enum {
    RT_TOKENS,
    RT_POSITIONS,
    RT_SLOTS_OF,
    RT_STARTS,
    RT_LOGITS,
    RT_LENS,
    RT_TABLE,
    RT_N_INPUTS
} rt_input; /* in the order of the io block */
typedef struct {
    const char *name;
    uint32_t dtype;
} rt_input_info;
extern const rt_input_info rt_inputs[RT_N_INPUTS];

typedef struct { /* page-locked memory that steps take room from, in two halves: one is filled while the
                    device reads the other */
    char *host;
    size_t half_B, used_B; /* used_B: in the current half */
    unsigned half;
    void *event[2]; /* recorded when a half is full */
    bool pending[2];
} rt_ring;

typedef struct {
    int64_t T, S, R;
    bool decode;
} rt_counts;

struct cccrt_session {
    cccrt_weights *weights;
    rt_code *code; /* of this session's artifact: not the weights' when they are shared by layout */
    cccrt_device *device;
    const ccart_file *file;
    const ccart_target *target;
    cccrt_kv kv;
    void **kv_address;
    int64_t max_blocks;
    int graphs;
    rt_scope scope;
    rt_list list;   /* scratch for eager steps, as large as the largest program */
    rt_tmap **tmap; /* [n_programs] */
    void **graph, **advancing; /* [n_sizes]; advancing: with the program that advances behind it */
    rt_buffer *in, *out;
    char *io;
    size_t io_B;                    /* the buffers that the session owns, in one allocation */
    int32_t in_of[RT_N_INPUTS];     /* index in target.in, -1: the model has no such input */
    int64_t dirty_end[RT_N_INPUTS]; /* elements (of T, S or R) at and behind this are padding, as far as this
                                       session wrote them */
    rt_ring ring;
    volatile uint32_t *status;
    void *status_device;
    bool counters_dirty;
    cccrt_timings timings;
};

/* ---- stage.c */
ccc_status rt_ring_new(cccrt_session *s, ccc_err *err);
void rt_ring_free(cccrt_session *s);
/* Copies the host arrays of a step into the bound buffers, padded from n to `padded` tokens, sequences and
 * rows (0: not padded). */
ccc_status rt_stage(cccrt_session *s, const cccrt_step_args *a, const rt_counts *n, int64_t padded,
                    void *stream, ccc_err *err);
const void *rt_step_array(const cccrt_step_args *a, rt_input i);
/* Elements that a step of n uses of input i. */
int64_t rt_input_rows(const rt_counts *n, rt_input i);
size_t rt_input_row_B(const cccrt_session *s,
                      rt_input i); /* bytes of one element or, of the block table, row */

/* ---- step.c */
ccc_status rt_check_step(const cccrt_session *s, const cccrt_step_args *a, rt_counts *n, ccc_err *err);
const ccart_program *rt_program_for(const cccrt_session *s, uint32_t mode, int64_t t);
/* Resolves p for n into l with the session's kept tensor maps. */
ccc_status rt_session_resolve(cccrt_session *s, rt_list *l, const ccart_program *p, const rt_counts *n,
                              ccc_err *err);
/* The graph of captured size number i, built if it is not there. */
ccc_status rt_session_graph(cccrt_session *s, uint32_t i, bool advancing, void *stream, ccc_err *err);
#endif
