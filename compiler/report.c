/* What a compile did (JSON, deterministic) and how long it took (a table for people). */
#define _POSIX_C_SOURCE 200809L
#include "report.h"
#include <sys/resource.h>
#include <time.h>

double report_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void end_stage(ccc_report *r)
{
    if (r->in_stage) ccc_buf_printf(&r->stages, "]}");
    r->in_stage = false;
}

void report_stage(ccc_report *r, const char *name)
{
    end_stage(r);
    ccc_buf_printf(&r->stages, "%s{\"stage\":\"%s\",\"changed_by\":[", r->stages.size_B ? "," : "", name);
    r->in_stage = true;
    r->in_pass = 0;
}

void report_pass(void *report, const ccc_pass *p, const ccc_graph *g, bool progress, double seconds)
{
    (void)g;
    ccc_report *r = report;
    unsigned i = 0;
    while (i < r->n_passes && r->pass[i].pass != p) i++;
    if (i == r->n_passes) {
        if (i == sizeof r->pass / sizeof *r->pass) return;
        r->pass[r->n_passes++] = (report_row){ .pass = p };
    }
    r->pass[i].runs++;
    r->pass[i].changed += progress;
    r->pass[i].seconds += seconds;
    if (progress && r->in_stage) ccc_buf_printf(&r->stages, "%s\"%s\"", r->in_pass++ ? "," : "", p->name);
}

void report_time(ccc_report *r, const char *what, double seconds)
{
    unsigned i = 0;
    while (i < r->n_spans && r->span[i].what != what) i++;
    if (i == sizeof r->span / sizeof *r->span) return;
    if (i == r->n_spans) r->span[r->n_spans++] = (report_span){ what, 0 };
    r->span[i].seconds += seconds;
}

void report_kernels(ccc_report *r, const pack_target *t, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        for (uint32_t k = 0; k < t[i].plan->n_kernels; k++) {
            const plan_kernel *p = &t[i].plan->kernel[k];
            const ccc_kernel_code *c = &t[i].code[k];
            ccc_buf_printf(&r->kernels, "%s{\"target\":\"%s\",\"name\":\"%s\",\"registers\":%u,\"spill_bytes\":%u,\"stack_bytes\":%u,\"code_bytes\":%zu,\"ptx_bytes\":%zu}",
                           r->kernels.size_B ? "," : "", t[i].plan->target->name, p->name, c->n_regs, c->spill_B, c->stack_B, c->code_B, c->ptx_B);
        }
}

ccc_status report_json(ccc_report *r, ccc_buf *out, ccc_err *err)
{
    end_stage(r);
    ccc_buf_printf(out, "{\"passes\":[%s],\"kernels\":[%s]}", r->stages.size_B ? r->stages.data : "", r->kernels.size_B ? r->kernels.data : "");
    return out->failed || r->stages.failed || r->kernels.failed ? ccc_fail(err, CCC_E_NOMEM, "out of memory") : CCC_OK;
}

void report_print(ccc_report *r, ccc_codegen *c, ccc_buf *out, bool from_cache, double total_s)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    if (from_cache) ccc_buf_printf(out, "%-28s %9.1f ms  (whole artifact from the cache, LLVM not loaded)\n", "total", 1e3 * total_s);
    if (!from_cache) {
        ccc_codegen_times t = { 0 };
        ccc_codegen_times_get(c, &t);
        for (unsigned i = 0; i < r->n_passes; i++)
            ccc_buf_printf(out, "pass %-23s %9.1f ms  %u runs, %u changed the graph\n", r->pass[i].pass->name, 1e3 * r->pass[i].seconds, r->pass[i].runs, r->pass[i].changed);
        for (unsigned i = 0; i < r->n_spans; i++) ccc_buf_printf(out, "%-28s %9.1f ms\n", r->span[i].what, 1e3 * r->span[i].seconds);
        ccc_buf_printf(out, "  %u kernels compiled, %u from the cache; summed over threads: parse %.0f, optimise %.0f, emit %.0f, ptxas %.0f ms\n", t.n_compiled, t.n_cached,
                       1e3 * t.parse_s, 1e3 * t.optimise_s, 1e3 * t.emit_s, 1e3 * t.ptxas_s);
        ccc_buf_printf(out, "%-28s %9.1f ms\n", "total", 1e3 * total_s);
    }
    ccc_buf_printf(out, "%-28s %9.1f MB\n", "peak memory", (double)use.ru_maxrss / 1024.0);
}

void report_free(ccc_report *r)
{
    ccc_buf_free(&r->stages);
    ccc_buf_free(&r->kernels);
}
