/* What the subcommands of cccrt share: opening an artifact, a device and weights from command line options. */
#ifndef CCC_TOOL_RT_H
#define CCC_TOOL_RT_H
#include "../runtime/cccrt.h"
#include <stdbool.h>

typedef struct { /* filled from options */
    const char *artifact, *weights, *device; /* device: "cpu", "cuda", "cuda:N" or NULL: what is there */
    int64_t threads;
} rt_place;
typedef struct { cccrt_artifact *artifact; cccrt_device *device; cccrt_weights *weights; cccrt_device_props props; bool cuda; double open_ms, device_ms, attach_ms; } rt_machine;

/* What all subcommands ask of a place: an artifact, a device's name, a number of threads. -1 to go on, else wrong usage has been explained (2). */
int rt_usage(const rt_place *p, const char *program);
double rt_ms(void); /* monotonic milliseconds */
/* Opens device, artifact and weights. Shows progress of attaching on a terminal. */
ccc_status rt_open(rt_machine *m, const rt_place *place, ccc_err *err);
void rt_close(rt_machine *m);
/* The device called `name` as in rt_place. Without a name a GPU, else the CPU: then *no_gpu says why there is no GPU, and rt_explain adds it to a
 * message that the artifact cannot run here. */
ccc_status rt_choose_device(cccrt_device **out, const char *name, int64_t threads, ccc_err *no_gpu, ccc_err *err);
ccc_status rt_explain(ccc_status st, const ccc_err *no_gpu, ccc_err *err);
/* "1,2,3" or "@FILE" -> ids; *ids from malloc */
ccc_status rt_parse_ids(int32_t **ids, int64_t *n, const char *text, ccc_err *err);
/* "1,8,64" -> numbers, all at least `least` */
ccc_status rt_parse_numbers(int64_t *out, int max, int *n, const char *text, int64_t least, const char *what, ccc_err *err);

/* One sequence (or several of the same length) in a KV cache of its own: the loop of run and bench. */
typedef struct {
    rt_machine *m;
    cccrt_model model;
    cccrt_kv_cache *kv;
    cccrt_session *session;
    int32_t *block_table; int64_t blocks_per_seq;  /* [n_seqs][blocks_per_seq] */
    void *ids;                                     /* chain: the buffer that is token_ids and next_tokens */
    int64_t n_seqs, context;                       /* context: most tokens of a sequence */
} rt_runner;
/* Whether the artifact can do that many sequences of that many tokens: an error that names its limit. rt_runner_open asks this too. */
ccc_status rt_check(const rt_machine *m, int64_t n_seqs, int64_t context, ccc_err *err);
/* chain: next_tokens and token_ids are one buffer, so that steps feed each other on the device. */
ccc_status rt_runner_open(rt_runner *r, rt_machine *m, int64_t n_seqs, int64_t context, int graphs, bool chain, ccc_err *err);
void rt_runner_close(rt_runner *r);
/* Runs n tokens of sequence 0, which already holds `before` of them, in pieces that the artifact allows; the last row's argmax goes to *next. */
ccc_status rt_prefill(rt_runner *r, const int32_t *ids, int64_t n, int64_t before, int32_t *next, ccc_err *err);
/* One decode step of all sequences, each with `before` tokens in the cache; token ids in and out. */
ccc_status rt_decode(rt_runner *r, const int32_t *ids, int64_t before, int32_t *next, ccc_err *err);
#endif
