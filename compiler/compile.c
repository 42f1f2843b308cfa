/* The whole compile on one screen: clean the graph once; for each target, for each program: narrow T, fuse, plan; compile the kernels, each
 * once, on as many threads as asked for; pack. The artifact itself is cached under everything that it depends on. */
#include "ccc.h"
#include "pack.h"
#include "plan.h"
#include "report.h"
#include "tune.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TARGETS = 8, MAX_PROGRAMS = 64 };

typedef struct {
    const ccc_compile_args *args;
    const ccc_config *config;
    ccc_graph *g;                   /* cleaned */
    ccc_codegen *codegen;
    ccc_cache *cache;
    const char *versions[3];
    ccc_buf schedule;               /* the file that the config names */
    pack_target target[MAX_TARGETS]; unsigned n_targets;
    ccc_report report;
    const char *stage;              /* of the pipeline that runs */
    unsigned n_dumps;
    ccc_status dumped; ccc_err dump_err; /* a pass hook cannot fail: kept until the pipeline has ended */
} compile;

/* ---- passes, with the ones that the caller left out ---------------------------------------------------------------------------------- */
static bool in_list(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = list; (p = strstr(p, name)); p += n)
        if ((p == list || p[-1] == ',') && (!p[n] || p[n] == ',')) return true;
    return false;
}

static ccc_status check_disabled(const char *list, ccc_err *err)
{
    for (const char *p = list; *p;) {
        char name[64];
        size_t n = strcspn(p, ",");
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        if (n >= sizeof name || !ccc_pass_find(name)) return ccc_fail(err, CCC_E_ARG, "disable_passes: no pass is called '%s'; see ccc opt --list-passes", name);
        p += n + (p[n] == ',');
    }
    return CCC_OK;
}

/* DUMP/007-sm_90a-decode-1..1-fuse_round.ir: any of these is an input of ccc opt. */
static ccc_status dump_graph(compile *c, const char *pass, const ccc_graph *g, ccc_err *err)
{
    char path[PATH_MAX];
    ccc_buf text = { 0 };
    int n = snprintf(path, sizeof path, "%s/%03u-%s%s%s.ir", c->config->dump, c->n_dumps++, c->stage, *pass ? "-" : "", pass);
    if (n < 0 || n >= (int)sizeof path) return ccc_fail(err, CCC_E_ARG, "the path of the dump folder is too long");
    for (char *p = path + strlen(c->config->dump); *p; p++)
        if (*p == ' ') *p = '-';
    ccc_status st = ccc_ir_print(g, &text) == CCC_OK && !text.failed ? CCC_OK : ccc_fail(err, CCC_E_NOMEM, "out of memory");
    if (st == CCC_OK) st = ccc_write_file(path, text.data, text.size_B, err);
    ccc_buf_free(&text);
    return st;
}

static void after_pass(void *payload, const ccc_pass *p, const ccc_graph *g, bool progress, double seconds)
{
    compile *c = payload;
    report_pass(&c->report, p, g, progress, seconds);
    if (progress && *c->config->dump && c->dumped == CCC_OK) c->dumped = dump_graph(c, p->name, g, &c->dump_err);
}

static ccc_status run_pipeline(compile *c, ccc_graph *g, const char *const *pipeline, const ccc_fuse_caps *caps, const char *stage, ccc_err *err)
{
    const char *name[64];
    unsigned n = 0;
    for (; *pipeline; pipeline++)
        if (!in_list(c->config->disable_passes, *pipeline)) name[n++] = *pipeline;
    ccc_pass_report r = { .after = after_pass, .payload = c };
    ccc_buf *why = c->args->explain, lines = { 0 };
    c->stage = stage;
    report_stage(&c->report, stage);
    ccc_status st = ccc_pass_run(g, name, n, caps, why ? &lines : NULL, &r, err);
    if (st == CCC_OK && lines.size_B) ccc_buf_printf(why, "%s\n%s", stage, lines.data);
    if (lines.failed) why->failed = true;
    ccc_buf_free(&lines);
    if (st == CCC_OK && c->dumped != CCC_OK) {
        if (err) *err = c->dump_err;
        st = c->dumped;
    }
    return st;
}

/* ---- planning -------------------------------------------------------------------------------------------------------------------------- */
static void narrow(ccc_graph *g, const plan_range *r)
{
    for (uint32_t i = 0; i < g->n_sym; i++) {
        ccc_sym *s = &g->sym[i];
        if (!strcmp(s->name, "T") || (!strcmp(s->name, "S") && r->mode == CCART_MODE_DECODE)) {
            s->min = r->t_min;
            s->max = r->t_max;
        } else if ((!strcmp(s->name, "S") || !strcmp(s->name, "R")) && s->max > r->t_max) {
            s->max = r->t_max; /* every sequence of a step has a token, every logit row is one of them */
        }
    }
}

static ccc_status plan_range_program(compile *c, ccc_plan *p, const plan_range *r, ccc_err *err)
{
    char stage[96];
    ccc_graph *g;
    ccc_fuse_caps caps = schedule_caps(p->target, c->config, c->g, r->mode);
    snprintf(stage, sizeof stage, "%s %s %lld..%lld", p->target->name, r->mode == CCART_MODE_DECODE ? "decode" : "mixed", (long long)r->t_min, (long long)r->t_max);
    CCC_TRY(ccc_graph_clone(&g, c->g, err));
    narrow(g, r);
    ccc_status st = run_pipeline(c, g, c->config->opt_level ? ccc_pipeline_fuse : ccc_pipeline_plain, &caps, stage, err);
    double t0 = report_now();
    if (st == CCC_OK) st = plan_program(p, g, r->mode, r->t_min, r->t_max, err);
    report_time(&c->report, "plan", report_now() - t0);
    ccc_graph_free(g);
    return st;
}

static ccc_status start_tune(ccc_plan *p, plan_range *range, unsigned *n, const ccc_tune_args *args, ccc_err *err)
{
    if (p->target->kind != CCC_TARGET_CUDA || p->config->batch_invariant) /* one kernel, or an order of sums that must not be chosen */
        return ccc_fail(err, CCC_E_UNSUPPORTED, "target %s%s: there is nothing to choose for its matmuls", p->target->name, p->config->batch_invariant ? " with batch_invariant" : "");
    p->tune = ccc_arena_alloc(p->mem, sizeof *p->tune);
    if (!p->tune) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    p->tune->args = args;
    return tune_ranges(range, n, args, err);
}

static ccc_status plan_target(compile *c, const ccc_target *row, pack_target *out, ccc_err *err)
{
    plan_range range[MAX_PROGRAMS];
    unsigned n;
    CCC_TRY(plan_new(&out->plan, c->config, row, err));
    CCC_TRY(schedule_open(out->plan, *c->config->schedule ? c->schedule.data : NULL, err));
    CCC_TRY(plan_io(out->plan, c->g, err));
    CCC_TRY(schedule_programs(range, MAX_PROGRAMS, &n, row, c->config, c->g, err));
    if (c->args->tune) CCC_TRY(start_tune(out->plan, range, &n, c->args->tune, err));
    for (unsigned i = 0; i < n; i++) CCC_TRY(plan_range_program(c, out->plan, &range[i], err));
    CCC_TRY(plan_service_programs(out->plan, c->g, err));
    out->code = calloc(out->plan->n_kernels + 1, sizeof *out->code);
    return out->code ? CCC_OK : ccc_fail(err, CCC_E_NOMEM, "out of memory");
}

static ccc_status plan_targets(compile *c, ccc_err *err)
{
    for (const char *p = c->config->target; *p;) {
        char name[64];
        size_t n = strcspn(p, ",");
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        const ccc_target *row = n < sizeof name ? ccc_target_find(name) : NULL;
        if (!row) return ccc_fail(err, CCC_E_ARG, "no target is called '%s'; see ccc compile --help", name);
        if (c->n_targets == MAX_TARGETS) return ccc_fail(err, CCC_E_ARG, "more than %d targets", MAX_TARGETS);
        CCC_TRY(plan_target(c, row, &c->target[c->n_targets++], err)); /* counted first: released on failure too */
        p += n + (p[n] == ',');
    }
    return c->n_targets ? CCC_OK : ccc_fail(err, CCC_E_ARG, "no target given");
}

/* ---- kernels, on several threads --------------------------------------------------------------------------------------------------------- */
typedef struct {
    compile *c;
    atomic_uint next, done;
    unsigned total;
    pthread_mutex_t lock;
    ccc_status status; /* of the first failing kernel in order, so that the message does not depend on timing */
    unsigned failed_at;
    ccc_err err;
} kernel_pool;

static void *kernel_worker(void *payload)
{
    kernel_pool *w = payload;
    for (unsigned i; (i = atomic_fetch_add(&w->next, 1)) < w->total;) {
        unsigned t = 0, k = i;
        while (k >= w->c->target[t].plan->n_kernels) k -= w->c->target[t++].plan->n_kernels;
        const plan_kernel *pk = &w->c->target[t].plan->kernel[k];
        ccc_err e = { 0 };
        ccc_status st = ccc_codegen_kernel(w->c->codegen, &pk->req, &w->c->target[t].code[k], &e);
        pthread_mutex_lock(&w->lock);
        if (st != CCC_OK && i < w->failed_at) {
            w->status = st;
            w->failed_at = i;
            w->err = e;
        }
        unsigned done = atomic_fetch_add(&w->done, 1) + 1;
        if (w->c->args->progress) w->c->args->progress(w->c->args->payload, "kernels", done, w->total);
        pthread_mutex_unlock(&w->lock);
    }
    return NULL;
}

static ccc_status compile_kernels(compile *c, ccc_err *err)
{
    kernel_pool w = { .c = c, .failed_at = ~0u };
    pthread_t thread[64];
    unsigned n = 0, jobs = c->config->jobs > 64 ? 64 : c->config->jobs < 1 ? 1 : (unsigned)c->config->jobs;
    for (unsigned i = 0; i < c->n_targets; i++) w.total += c->target[i].plan->n_kernels;
    pthread_mutex_init(&w.lock, NULL);
    while (n + 1 < jobs && n + 1 < w.total && !pthread_create(&thread[n], NULL, kernel_worker, &w)) n++;
    kernel_worker(&w);
    while (n) pthread_join(thread[--n], NULL);
    pthread_mutex_destroy(&w.lock);
    if (w.status != CCC_OK && err) *err = w.err;
    return w.status;
}

/* A programmatic edge needs proof: code generation looked at the LLVM IR, and every thread block of both kernels waits before it exits. */
static void settle_edges(compile *c)
{
    for (unsigned t = 0; t < c->n_targets; t++) {
        ccc_plan *p = c->target[t].plan;
        for (uint32_t k = 0; k < p->n_kernels; k++)
            if (!c->target[t].code[k].waits) p->kernel[k].flags &= ~(uint32_t)CCART_KERNEL_PDL;
        for (uint32_t i = 0; i < p->n_programs; i++) {
            ccart_node *n = p->program[i].node;
            for (uint32_t j = 0; j < p->program[i].n_nodes; j++)
                if (!(p->kernel[n[j].kernel].flags & CCART_KERNEL_PDL) || (j && !(p->kernel[n[j - 1].kernel].flags & CCART_KERNEL_PDL))) n[j].edge = CCART_EDGE_FULL;
        }
    }
}

/* ---- the artifact's key ------------------------------------------------------------------------------------------------------------------ */
ccc_status ccc_artifact_factors(ccc_factors *f, const ccc_graph *g, const ccc_config *config, const char *const versions[3], const ccc_buf *schedule, ccc_err *err)
{
    ccc_buf text = { 0 };
    ccc_arena *mem = ccc_arena_new();
    ccc_status st = mem ? ccc_ir_print(g, &text) : CCC_E_NOMEM;
    if (st == CCC_OK) {
        ccc_factor_str(f, "ccc", CCC_VERSION);
        ccc_factor_str(f, "build", ccc_build_id());
        ccc_factor_str(f, "llvm", versions[0]);
        ccc_factor_str(f, "ptxas", versions[1]);
        ccc_factor_str(f, "templates", versions[2]);
        ccc_factor_add(f, "schedule", schedule->data, schedule->size_B);
        for (const ccc_option *o = ccc_options; o->name && st == CCC_OK; o++) {
            const char *value = o->in_key ? ccc_config_text(config, o, mem) : "";
            if (!value) st = CCC_E_NOMEM;
            else if (o->in_key) ccc_factor_str(f, o->name, value);
        }
        ccc_factor_add(f, "graph", text.data, text.size_B);
    }
    if (text.failed || f->bytes.failed) st = CCC_E_NOMEM;
    ccc_buf_free(&text);
    ccc_arena_free(mem);
    return st == CCC_OK ? st : ccc_fail(err, CCC_E_NOMEM, "out of memory");
}

/* ---- the compile ------------------------------------------------------------------------------------------------------------------------- */
static ccc_status open_tools(compile *c, ccc_err *err)
{
    if (c->config->cache && *c->config->cache_dir) {
        CCC_TRY(ccc_cache_open(&c->cache, c->config->cache_dir, err));
        const char *warning = ccc_cache_warning(c->cache);
        if (warning && c->args->warning) c->args->warning(c->args->payload, warning);
    }
    bool ptxas = *c->config->ptxas && strcmp(c->config->ptxas, "none");
    ccc_codegen_args a = { .cache = c->cache, .ptxas = ptxas ? c->config->ptxas : NULL, .dump_dir = *c->config->dump ? c->config->dump : NULL,
                           .opt_level = c->config->opt_level ? (int)c->config->opt_level : 1 };
    CCC_TRY(ccc_codegen_new(&c->codegen, &a, err));
    ccc_codegen_versions(c->codegen, &c->versions[0], &c->versions[1], &c->versions[2]);
    return CCC_OK;
}

static ccc_status read_schedule(compile *c, ccc_err *err)
{
    if (!*c->config->schedule) return CCC_OK;
    CCC_TRY(ccc_read_file(&c->schedule, c->config->schedule, err));
    if (!c->schedule.size_B || strlen(c->schedule.data) != c->schedule.size_B) return ccc_fail(err, CCC_E_PARSE, "%s: not a text file", c->config->schedule);
    return CCC_OK;
}

static ccc_status build(compile *c, ccc_buf *out, ccc_err *err)
{
    static const ccc_fuse_caps none = { 0 };
    c->stage = "model";
    if (*c->config->dump) CCC_TRY(dump_graph(c, "", c->g, err));
    CCC_TRY(run_pipeline(c, c->g, ccc_pipeline_clean, &none, "clean", err));
    CCC_TRY(plan_targets(c, err));
    double t0 = report_now();
    CCC_TRY(compile_kernels(c, err));
    report_time(&c->report, "kernels", report_now() - t0);
    settle_edges(c);
    report_kernels(&c->report, c->target, c->n_targets);
    ccc_buf json = { 0 };
    ccc_status st = report_json(&c->report, &json, err);
    t0 = report_now();
    if (st == CCC_OK) st = ccc_pack(out, c->g, c->config, c->target, c->n_targets, c->versions, json.data, err);
    report_time(&c->report, "pack", report_now() - t0);
    ccc_buf_free(&json);
    return st;
}

ccc_status ccc_compile(ccc_buf *out, const ccc_graph *g, const ccc_compile_args *args, ccc_err *err)
{
    compile c = { .args = args, .config = args->config };
    ccc_factors key = { 0 };
    bool hit = false;
    double t0 = report_now();
    ccc_status st = check_disabled(args->config->disable_passes, err);
    if (st == CCC_OK) st = ccc_ir_verify(g, err);
    if (st == CCC_OK && !g->n_out) st = ccc_fail(err, CCC_E_TYPE, "the graph has no outputs: there is nothing to compile");
    if (st == CCC_OK) st = read_schedule(&c, err);
    if (st == CCC_OK) st = open_tools(&c, err);
    if (st == CCC_OK) st = ccc_artifact_factors(&key, g, c.config, c.versions, &c.schedule, err);
    bool keep = c.cache && !args->tune; /* candidates are made once */
    if (st == CCC_OK && keep && !args->explain && !*c.config->dump) st = ccc_cache_get(c.cache, CCC_CACHE_ARTIFACT, &key, out, &hit, err);
    if (st == CCC_OK && !hit) st = ccc_graph_clone(&c.g, g, err);
    if (st == CCC_OK && !hit) st = build(&c, out, err);
    if (st == CCC_OK && !hit && keep) st = ccc_cache_put(c.cache, CCC_CACHE_ARTIFACT, &key, out->data, out->size_B, err);
    const char *warning = c.cache ? ccc_cache_warning(c.cache) : NULL; /* asking takes it away */
    if (warning && args->warning) args->warning(args->payload, warning);
    if (st == CCC_OK && args->time_report) report_print(&c.report, c.codegen, args->time_report, hit, report_now() - t0);
    for (unsigned i = 0; i < c.n_targets; i++) {
        for (uint32_t k = 0; c.target[i].code && k < c.target[i].plan->n_kernels; k++) ccc_kernel_release(&c.target[i].code[k]);
        free(c.target[i].code);
        plan_free(c.target[i].plan);
    }
    ccc_factors_free(&key);
    ccc_buf_free(&c.schedule);
    ccc_graph_free(c.g);
    ccc_codegen_free(c.codegen);
    ccc_cache_close(c.cache);
    report_free(&c.report);
    return st;
}
