/* Passes over the graph. A pass is one file with one entry and one row in pass.def; ccc_pass_run is the only
 * caller. */
#ifndef CCC_PASS_H
#define CCC_PASS_H
#include "../ir/ir.h"

/* What the target's kernels can fuse; decides legality together with the graph. compiler/ fills it from the
 * target and the T range. */
typedef struct {
    int prologue_max_T;     /* most rows of a matmul that rms_norm may be fused in front of; 0: never */
    int64_t prologue_max_N; /* most rows of that matmul's weight; 0: any */
    bool pair_epilogue;     /* a matmul's two halves may be combined in its epilogue (silu(gate)*up) */
    int max_aux;            /* memory operands and results of a hook besides the main ones */
    bool rope_kv;           /* rope(q), rope(k), kv_write as one kernel */
    bool rope_attention; /* these and the attention behind them as one kernel; each sequence has one token */
} ccc_fuse_caps;

typedef struct ccc_pass_ctx {
    ccc_fuse_caps caps;
    ccc_arena *scratch; /* emptied after each pass by the runner */
    ccc_buf *explain;   /* NULL, or receives one line for each candidate that was not fused, and why */
} ccc_pass_ctx;

typedef ccc_status (*ccc_pass_fn)(ccc_graph *g, ccc_pass_ctx *ctx, bool *progress, ccc_err *err);
typedef struct {
    const char *name, *help;
    ccc_pass_fn run;
} ccc_pass;
#define PASS(name, help)                                                                                     \
    ccc_status ccc_pass_##name(ccc_graph *g, ccc_pass_ctx *ctx, bool *progress, ccc_err *err);
#include "pass.def"
extern const ccc_pass ccc_passes[]; /* ends with name NULL */
const ccc_pass *ccc_pass_find(const char *name);

typedef struct { /* what a run reports; the hooks are for dumps and tests */
    void (*after)(void *payload, const ccc_pass *p, const ccc_graph *g, bool progress, double seconds);
    void *payload;
    bool check; /* also evaluate before and after on random inputs, and require the same bits */
} ccc_pass_report;
/* Runs the named passes in order: run, verify (message prefixed "after NAME: "), no progress means the same
 * hash, and print o parse o print == print. */
ccc_status ccc_pass_run(ccc_graph *g, const char *const *names, unsigned n, const ccc_fuse_caps *caps,
                        ccc_buf *explain, const ccc_pass_report *report, ccc_err *err);

/* The pipelines, one screen, in pass.c: clean-up for the whole model once, fusion once per (target, mode,
 * T range). */
extern const char *const ccc_pipeline_clean[]; /* ends with NULL */
extern const char *const ccc_pipeline_fuse[];
extern const char *const ccc_pipeline_plain[]; /* -O0 */
#endif
