/* What a compile did and how long it took. The JSON goes into the artifact and holds no times (its bytes are deterministic); the times
 * are printed for --time-report. */
#ifndef CCC_REPORT_H
#define CCC_REPORT_H
#include "pack.h"

typedef struct { const ccc_pass *pass; unsigned runs, changed; double seconds; } report_row;
typedef struct { const char *what; double seconds; } report_span;
typedef struct {
    report_row pass[64]; unsigned n_passes;
    report_span span[16]; unsigned n_spans;
    ccc_buf stages;      /* JSON array elements: a stage and its passes that changed something */
    ccc_buf kernels;     /* JSON array elements */
    bool in_stage;
    unsigned in_pass;
} ccc_report;

const char *ccc_build_id(void);                                   /* hash of ccc's own sources (build_id.cmake): another compiler, another key */
double report_now(void);                                          /* seconds, monotonic */
void report_stage(ccc_report *r, const char *name);
void report_pass(void *report, const ccc_pass *p, const ccc_graph *g, bool progress, double seconds); /* ccc_pass_report.after */
void report_time(ccc_report *r, const char *what, double seconds); /* what: a literal */
void report_kernels(ccc_report *r, const pack_target *t, unsigned n);
ccc_status report_json(ccc_report *r, ccc_buf *out, ccc_err *err);
void report_print(ccc_report *r, ccc_codegen *c, ccc_buf *out, bool from_cache, double total_s);
void report_free(ccc_report *r);
#endif
