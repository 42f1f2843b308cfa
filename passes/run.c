/* The pass runner, which trusts no pass: after each one the graph is verified, a pass that reports no
 * progress must have changed nothing, and the text form must read back as itself. With `check`, the graph is
 * also evaluated on random data, bit for bit. */
#include "pass.h"
#include "check.h"

#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static ccc_status prefix(ccc_err *err, const char *pass, ccc_status status)
{
    if (!err || status == CCC_OK) return status;
    char msg[sizeof err->msg];
    snprintf(msg, sizeof msg, "after %s: %.*s", pass, (int)sizeof msg - 64, err->msg);
    memcpy(err->msg, msg, sizeof msg);
    return status;
}

static ccc_status round_trip(const ccc_graph *g, ccc_err *err)
{
    ccc_buf a = {0}, b = {0};
    ccc_graph *read = NULL;
    ccc_status status = ccc_ir_print(g, &a);
    if (status == CCC_OK && !a.failed)
        status = ccc_ir_parse(&read, a.data, a.size_B, "the printed graph", err);
    if (status == CCC_OK && read) status = ccc_ir_print(read, &b);
    if (a.failed || b.failed || status == CCC_E_NOMEM)
        status = ccc_fail(err, CCC_E_NOMEM, "out of memory for the text of the graph");
    else if (status == CCC_OK && (a.size_B != b.size_B || memcmp(a.data, b.data, a.size_B) != 0))
        status = ccc_fail(err, CCC_E_TYPE, "the text form does not read back as itself");
    ccc_graph_free(read);
    ccc_buf_free(&a);
    ccc_buf_free(&b);
    return status;
}

/* One pass and everything that is checked of it. */
static ccc_status run_one(ccc_graph *g, const ccc_pass *p, ccc_pass_ctx *ctx, const ccc_pass_report *report,
                          ccc_check *check, ccc_err *err)
{
    bool progress = false;
    uint64_t before = ccc_graph_hash(g);
    double start = now();
    ctx->scratch = ccc_arena_new();
    if (!ctx->scratch) return ccc_fail(err, CCC_E_NOMEM, "pass %s: out of memory", p->name);
    ccc_status status = p->run(g, ctx, &progress, err);
    ccc_arena_free(ctx->scratch);
    ctx->scratch = NULL;
    double seconds = now() - start;
    CCC_TRY(prefix(err, p->name, status));
    CCC_TRY(prefix(err, p->name, ccc_ir_verify(g, err)));
    if (!progress && ccc_graph_hash(g) != before)
        return ccc_fail(err, CCC_E_TYPE, "after %s: the pass reports no progress but changed the graph",
                        p->name);
    if (progress) CCC_TRY(prefix(err, p->name, round_trip(g, err)));
    if (progress && check) CCC_TRY(prefix(err, p->name, ccc_check_same(check, g, err)));
    if (report && report->after) report->after(report->payload, p, g, progress, seconds);
    return CCC_OK;
}

static ccc_status run_all(ccc_graph *g, const char *const *names, unsigned n, ccc_pass_ctx *ctx,
                          const ccc_pass_report *report, ccc_check *check, ccc_err *err)
{
    for (unsigned i = 0; i < n; i++) {
        const ccc_pass *p = ccc_pass_find(names[i]);
        if (!p)
            return ccc_fail(err, CCC_E_ARG, "no pass is named '%s': ccc opt --list-passes lists them",
                            names[i]);
        CCC_TRY(run_one(g, p, ctx, report, check, err));
    }
    return CCC_OK;
}

ccc_status ccc_pass_run(ccc_graph *g, const char *const *names, unsigned n, const ccc_fuse_caps *caps,
                        ccc_buf *explain, const ccc_pass_report *report, ccc_err *err)
{
    ccc_pass_ctx ctx = {.explain = explain};
    ccc_check *check = NULL;
    if (caps) ctx.caps = *caps;
    if (report && report->check) CCC_TRY(ccc_check_new(&check, g, err));
    ccc_status status = run_all(g, names, n, &ctx, report, check, err);
    ccc_check_free(check);
    return status;
}
