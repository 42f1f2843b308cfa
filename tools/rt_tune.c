/* cccrt tune: times what `ccc tune` made. Every candidate alone, from memory; then of each shape the best few, the choice by rule and that of the
 * schedule in use, in whole steps, in turn, since only there it shows what a kernel does to its neighbours. The other shapes are as in use, or as
 * they were found to be best before: two shapes that are best with the others by rule need not be so together. The result is a file for
 * `ccc tune --apply`.
 *
 * The artifact holds a decode step in which each matmul stands once for every candidate. A node's label leads to the fact "tune.<label>", a row
 * of a schedule: class and shape, then the constants, then as a comment whether it is the choice by rule or the one in use. */
#define _GNU_SOURCE
#include "cmd.h"
#include "opt.h"
#include "runner.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char program[] = "cccrt tune";
enum { MAX_TOKENS = 16, MAX_SHAPES = 64, ROUNDS = 7, HEATS = 2 /* rounds of all */, FINALISTS = 5 /* of the others, and the rule */, MOST = 17, SHOWN = 8 };
#define WRONG_FROM 0.1
#define WRONG_FROM_E4M3 0.5
typedef struct { const char *row; uint32_t label, shape, count; bool by_rule, in_use; double us, bytes, step_us; } candidate;
typedef struct { const char *name; size_t name_len; uint32_t rule, used /* UINT32_MAX: none, or the rule */, best; } shape; /* candidates by number */
typedef struct {
    rt_place place;
    const char *out;
    int64_t repeats, in_steps, context;
    rt_machine m;
    double ceiling; /* GB/s */
    FILE *json;
    unsigned n_written;
} tuner;
typedef struct { /* a decode step of so many tokens */
    tuner *t;
    rt_runner r;
    int64_t tokens;
    cccrt_node_time *time;
    cccrt_node_traffic *moved;
    uint8_t *run;
    candidate **of; /* of each node, NULL: it is none */
    uint32_t n_nodes;
    candidate *c;
    uint32_t n_c;
    shape shape[MAX_SHAPES];
    uint32_t n_shapes;
    double rule_ms, best_ms;
} step_tuner;

static cccrt_step_args args_of(int64_t tokens)
{
    return (cccrt_step_args){ .size_B = sizeof(cccrt_step_args), .n_tokens = tokens, .n_seqs = tokens, .n_logits = tokens, .max_query_len = 1 };
}

/* ---- candidates ------------------------------------------------------------------------------------------------------------------ */
/* The shape in a row: what stands between its class and its constants. NULL: not a row. */
static const char *shape_in(const char *row, size_t *len)
{
    const char *from = strchr(row, ' '), *T = strstr(row, " T=");
    if (!from || !T || T <= from || row[strspn(row, "abcdefghijklmnopqrstuvwxyzNKT0123456789_=.# ")]) return NULL;
    *len = (size_t)(T - from) + 3 + strcspn(T + 3, " ");
    return from;
}

static ccc_status add_shape(step_tuner *s, candidate *c, ccc_err *err)
{
    size_t len = 0;
    const char *name = shape_in(c->row, &len);
    if (!name) return ccc_fail(err, CCC_E_CORRUPT, "fact tune.%u is not a row of a schedule", c->label);
    for (c->shape = 0; c->shape < s->n_shapes; c->shape++)
        if (s->shape[c->shape].name_len == len && !memcmp(s->shape[c->shape].name, name, len)) break;
    if (c->shape == MAX_SHAPES) return ccc_fail(err, CCC_E_UNSUPPORTED, "more than %d shapes", MAX_SHAPES);
    if (c->shape == s->n_shapes) s->shape[s->n_shapes++] = (shape){ name, len, UINT32_MAX, UINT32_MAX, 0 };
    if (c->by_rule) s->shape[c->shape].rule = (uint32_t)(c - s->c);
    if (c->in_use) s->shape[c->shape].used = (uint32_t)(c - s->c);
    return CCC_OK;
}

static ccc_status candidate_of(candidate **out, step_tuner *s, uint32_t label, ccc_err *err)
{
    char key[32];
    *out = NULL;
    for (uint32_t i = 0; i < s->n_c && !*out; i++)
        if (s->c[i].label == label) *out = &s->c[i];
    if (*out) return CCC_OK;
    snprintf(key, sizeof key, "tune.%u", label);
    const char *row = cccrt_artifact_fact(s->t->m.artifact, key);
    if (!row) return CCC_OK; /* no candidate: there is one kernel for this node */
    *out = &s->c[s->n_c++];
    **out = (candidate){ .row = row, .label = label, .by_rule = strstr(row, "# by rule") != NULL, .in_use = strstr(row, "# in use") != NULL };
    return add_shape(s, *out, err);
}

/* Times of nodes to those of candidates. */
static ccc_status gather_times(step_tuner *s, ccc_err *err)
{
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        candidate *c;
        CCC_TRY(candidate_of(&c, s, s->time[i].label, err));
        s->of[i] = c;
        if (!c) continue;
        c->us += 1e3 * s->time[i].ms;
        c->bytes += (double)(s->moved[i].memory_B + s->moved[i].local_B);
        c->count++;
    }
    for (uint32_t i = 0; i < s->n_shapes; i++) {
        shape *h = &s->shape[i];
        if (h->rule == UINT32_MAX) return ccc_fail(err, CCC_E_CORRUPT, "shape%.*s has no candidate by rule", (int)h->name_len, h->name);
        h->best = h->used != UINT32_MAX ? h->used : h->rule;
    }
    for (uint32_t i = 0; i < s->n_c; i++) s->c[i].us /= s->c[i].count, s->c[i].bytes /= s->c[i].count;
    return s->n_c ? CCC_OK : ccc_fail(err, CCC_E_ARG, "the artifact holds no candidates; make one with ccc tune");
}

/* ---- in whole steps -------------------------------------------------------------------------------------------------------------- */
/* Marks the nodes of a step with one candidate a shape: `chosen` of its own shape, else the best known or the rule's. */
static void mark(step_tuner *s, const candidate *chosen, bool best)
{
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        const candidate *c = s->of[i];
        const shape *h = c ? &s->shape[c->shape] : NULL;
        s->run[i] = !c || c == (chosen && chosen->shape == c->shape ? chosen : &s->c[best ? h->best : h->rule]);
    }
}

static ccc_status time_step(double *ms, step_tuner *s, int n_steps, ccc_err *err)
{
    cccrt_step_args a = args_of(s->tokens);
    return cccrt_time_subset(s->r.session, &a, s->run, s->n_nodes, n_steps, ms, err);
}

static int by_value(const void *x, const void *y) { return (*(const double *)x > *(const double *)y) - (*(const double *)x < *(const double *)y); }

/* Steps that take about 30 ms together. */
static ccc_status steps_in_a_row(int *n, step_tuner *s, ccc_err *err)
{
    double ms;
    mark(s, NULL, false);
    CCC_TRY(time_step(&ms, s, 2, err));
    *n = ms > 10 ? 3 : ms > 0.1 ? (int)(30 / ms) : 300;
    return CCC_OK;
}

/* The candidates of a shape in order of their time alone, after the rule's choice and what is in use: at most `most` numbers, 2 or more. */
static uint32_t front_runners(uint32_t *out, const step_tuner *s, uint32_t number, uint32_t most)
{
    uint32_t n = 0;
    out[n++] = s->shape[number].rule;
    if (s->shape[number].used != UINT32_MAX) out[n++] = s->shape[number].used;
    while (n < most) {
        uint32_t best = UINT32_MAX;
        for (uint32_t i = 0; i < s->n_c; i++) {
            bool taken = s->c[i].shape != number;
            for (uint32_t k = 0; k < n; k++) taken |= out[k] == i;
            if (!taken && (best == UINT32_MAX || s->c[i].us < s->c[best].us)) best = i;
        }
        if (best == UINT32_MAX) break;
        out[n++] = best;
    }
    return n;
}

/* Relative distance of logits. A sum in another order moves them by a hundredth, by
 * a fifth where inputs are rounded to e4m3 on the way; a kernel that does not work leaves nothing of them. */
static double apart(const float *x, const float *y, size_t n)
{
    double d = 0, size = 0;
    for (size_t i = 0; i < n; i++) d += ((double)x[i] - y[i]) * ((double)x[i] - y[i]), size += (double)y[i] * y[i];
    return size > 0 ? d / size : d > 0;
}

static ccc_status logits_with(float *out, step_tuner *s, const candidate *c, ccc_err *err)
{
    double ms;
    mark(s, c, false);
    CCC_TRY(time_step(&ms, s, 1, err));
    return cccrt_session_read(s->r.session, "logits", out, 0, (size_t)(s->tokens * s->r.model.vocab) * sizeof *out, NULL, err);
}

/* What does not compute the model is not timed. */
static ccc_status check(step_tuner *s, uint32_t number, ccc_err *err)
{
    uint32_t who[MOST], n = front_runners(who, s, number, (uint32_t)s->t->in_steps + 2);
    size_t values = (size_t)(s->tokens * s->r.model.vocab);
    float *rule = malloc(2 * values * sizeof *rule), *mine = rule ? rule + values : NULL;
    ccc_status st = rule ? logits_with(rule, s, &s->c[who[0]], err) : ccc_fail(err, CCC_E_NOMEM, "out of memory");
    for (uint32_t i = 1; i < n && st == CCC_OK; i++) {
        st = logits_with(mine, s, &s->c[who[i]], err);
        double d = st == CCC_OK ? apart(mine, rule, values) : 0, wrong_from = strstr(s->c[who[i]].row, " e4m3 ") ? WRONG_FROM_E4M3 : WRONG_FROM;
        if (st == CCC_OK && !(d <= wrong_from * wrong_from)) st = ccc_fail(err, CCC_E_DEVICE, "'%s' does not compute what '%s' does: the logits' relative distance is %g", s->c[who[i]].row, s->c[who[0]].row, sqrt(d));
    }
    free(rule);
    return st;
}

typedef struct { uint32_t who; int n; double ms[ROUNDS]; } runner; /* n: rounds that it was in */

static int by_heats(const void *x, const void *y)
{
    const runner *a = x, *b = y;
    return by_value(&(double){ a->ms[0] + a->ms[1] }, &(double){ b->ms[0] + b->ms[1] });
}

/* All run the first rounds, the rule's choice (the first) and the best of the others all of them. */
static ccc_status compete(step_tuner *s, uint32_t number, int n_steps, ccc_err *err)
{
    uint32_t who[MOST], n = front_runners(who, s, number, (uint32_t)s->t->in_steps + 2);
    shape *h = &s->shape[number];
    runner r[MOST];
    for (uint32_t i = 0; i < n; i++) r[i] = (runner){ .who = who[i] };
    for (int round = 0; round < ROUNDS; round++) { /* in turn, so that a clock that drifts is nobody's gain */
        if (round == HEATS) qsort(r + 1, n - 1, sizeof *r, by_heats);
        for (uint32_t i = 0; i < n && (round < HEATS || i <= FINALISTS); i++) {
            mark(s, &s->c[r[i].who], true);
            CCC_TRY(time_step(&r[i].ms[r[i].n++], s, n_steps, err));
        }
    }
    h->best = h->rule;
    for (uint32_t i = 0; i < n; i++) {
        qsort(r[i].ms, (size_t)r[i].n, sizeof *r[i].ms, by_value);
        s->c[r[i].who].step_us = 1e3 * r[i].ms[r[i].n / 2];
        if (i <= FINALISTS && s->c[r[i].who].step_us < s->c[h->best].step_us) h->best = r[i].who;
    }
    return CCC_OK;
}

/* All best together, beside all by rule. */
static ccc_status compare_all(step_tuner *s, int n_steps, ccc_err *err)
{
    double ms[2][ROUNDS];
    for (int round = 0; round < ROUNDS; round++)
        for (int best = 0; best < 2; best++) {
            mark(s, NULL, best);
            CCC_TRY(time_step(&ms[best][round], s, n_steps, err));
        }
    for (int best = 0; best < 2; best++) qsort(ms[best], ROUNDS, sizeof **ms, by_value);
    s->rule_ms = ms[0][ROUNDS / 2];
    s->best_ms = ms[1][ROUNDS / 2];
    return CCC_OK;
}

/* ---- what is said ----------------------------------------------------------------------------------------------------------------- */
static double gbs_of(const candidate *c) { return c->us > 0 ? c->bytes / c->us / 1e3 : 0; }

static void print_shape(const step_tuner *s, uint32_t number)
{
    const shape *h = &s->shape[number];
    const candidate *rule = &s->c[h->rule];
    uint32_t order[SHOWN + 1], n = front_runners(order, s, number, SHOWN + 1);
    printf("\n%.*s: %.2f MB, %u in a step\n  %9s %8s %7s %10s  constants\n", (int)h->name_len - 1, h->name + 1, rule->bytes / 1e6, rule->count, "us", "GB/s", "share", "step us");
    for (uint32_t i = 0; i < n; i++) {
        const candidate *c = &s->c[order[i]];
        char step[24] = "-";
        if (c->step_us > 0) snprintf(step, sizeof step, "%.1f", c->step_us);
        size_t len = 0;
        const char *at = shape_in(c->row, &len);
        printf("  %9.2f %8.0f %6.1f%% %10s  %.*s%s%s\n", c->us, gbs_of(c), 100 * gbs_of(c) / s->t->ceiling, step, (int)(at - c->row), c->row, at + len,
               order[i] == h->best && c->step_us > 0 ? " <- best" : "");
    }
}

static void print_step(const step_tuner *s)
{
    tuner *t = s->t;
    for (uint32_t i = 0; i < s->n_shapes; i++) print_shape(s, i);
    if (s->best_ms > 0) printf("\nstep of %lld: %.4f ms by rule, %.4f ms with the best of each\n", (long long)s->tokens, s->rule_ms, s->best_ms);
    for (uint32_t i = 0; t->json && i < s->n_c; i++) {
        const candidate *c = &s->c[i];
        fprintf(t->json, "%s\n{\"row\":\"%s\",\"tokens\":%lld,\"count\":%u,\"us\":%.3f,\"bytes\":%.0f,\"gb_per_s\":%.1f,\"share\":%.4f,\"step_us\":", t->n_written++ ? "," : "", c->row, (long long)s->tokens,
                c->count, c->us, c->bytes, gbs_of(c), gbs_of(c) / t->ceiling);
        if (c->step_us > 0) fprintf(t->json, "%.2f}", c->step_us);
        else fprintf(t->json, "null}");
    }
    fflush(stdout);
}

/* ---- a number of tokens ------------------------------------------------------------------------------------------------------------ */
static ccc_status time_alone(step_tuner *s, ccc_err *err)
{
    cccrt_step_args a = args_of(s->tokens);
    cccrt_node_traffic none;
    CCC_TRY(cccrt_step_traffic(s->r.session, &a, &none, 0, &s->n_nodes, err));
    s->time = calloc(s->n_nodes + 1, sizeof *s->time);
    s->moved = calloc(s->n_nodes + 1, sizeof *s->moved);
    s->run = calloc(s->n_nodes + 1, 1);
    s->of = calloc(s->n_nodes + 1, sizeof(candidate *));
    s->c = calloc(s->n_nodes + 1, sizeof *s->c);
    if (!s->time || !s->moved || !s->run || !s->of || !s->c) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    s->moved[0].size_B = sizeof *s->moved;
    CCC_TRY(cccrt_step_traffic(s->r.session, &a, s->moved, s->n_nodes, &s->n_nodes, err));
    CCC_TRY(cccrt_time_nodes(s->r.session, &a, (int)s->t->repeats, s->time, s->n_nodes, &s->n_nodes, err));
    return gather_times(s, err);
}

static ccc_status measure(step_tuner *s, ccc_err *err)
{
    tuner *t = s->t;
    int n_steps = 0;
    int32_t *ids = calloc((size_t)s->tokens, sizeof *ids);
    ccc_status st = ids ? rt_runner_open(&s->r, &t->m, s->tokens, t->context, CCCRT_GRAPHS_NONE, false, err) : ccc_fail(err, CCC_E_NOMEM, "out of memory");
    for (int64_t i = 0; i < s->tokens && st == CCC_OK; i++) ids[i] = (int32_t)((i * 7919 + 17) % s->r.model.vocab);
    if (st == CCC_OK) st = rt_decode(&s->r, ids, 0, ids, err); /* so that kernels find numbers, and not zeros */
    if (st == CCC_OK && !(t->ceiling > 0)) st = cccrt_time_read(s->r.session, (size_t)4 << 30, &t->ceiling, err);
    if (st == CCC_OK) st = time_alone(s, err);
    for (uint32_t i = 0; i < s->n_shapes && st == CCC_OK && t->in_steps; i++) st = check(s, i, err);
    if (st == CCC_OK) st = rt_decode(&s->r, ids, t->context - 1, ids, err); /* from here on: with so many tokens in the cache */
    if (st == CCC_OK && t->in_steps) st = steps_in_a_row(&n_steps, s, err);
    for (uint32_t i = 0; i < s->n_shapes && st == CCC_OK && t->in_steps; i++) st = compete(s, i, n_steps, err);
    if (st == CCC_OK && t->in_steps) st = compare_all(s, n_steps, err);
    if (st == CCC_OK) print_step(s);
    rt_runner_close(&s->r);
    free(ids);
    return st;
}

static ccc_status tune_step(tuner *t, int64_t tokens, ccc_err *err)
{
    step_tuner *s = calloc(1, sizeof *s);
    if (!s) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    s->t = t;
    s->tokens = tokens;
    ccc_status st = measure(s, err);
    free(s->time), free(s->moved), free(s->run), free(s->of), free(s->c), free(s);
    return st;
}

/* ---- all of them -------------------------------------------------------------------------------------------------------------------- */
static ccc_status run(tuner *t, ccc_err *err)
{
    int64_t tokens[MAX_TOKENS];
    int n = 0;
    const char *list, *target;
    ccc_err wrong;
    CCC_TRY(rt_open(&t->m, &t->place, err));
    CCC_TRY(cccrt_device_can_run(&target, t->m.device, t->m.artifact, err));
    cccrt_model model = { .size_B = sizeof model };
    cccrt_artifact_model(t->m.artifact, &model);
    if (!t->context) t->context = model.max_model_len < 1024 ? model.max_model_len : 1024;
    list = cccrt_artifact_fact(t->m.artifact, "tune.tokens");
    if (!list || rt_parse_numbers(tokens, MAX_TOKENS, &n, list, 1, "tune.tokens", &wrong) != CCC_OK)
        return ccc_fail(err, CCC_E_ARG, "'%s' holds no candidates; make such an artifact with ccc tune", t->place.artifact);
    if (t->json) fprintf(t->json, "{\"tune\":1,\"device\":\"%s\",\"target\":\"%s\",\"candidates\":[", t->m.props.name, target);
    for (int i = 0; i < n; i++) CCC_TRY(tune_step(t, tokens[i], err));
    if (t->json) fprintf(t->json, "\n],\"read_ceiling_gb_per_s\":%.1f}\n", t->ceiling);
    printf("\n%s, read ceiling %.0f GB/s\n", t->m.props.name, t->ceiling);
    return CCC_OK;
}

/* The result is written under another name and renamed, so that a failure leaves no half of one. */
static ccc_status run_into_file(tuner *t, ccc_err *err)
{
    char *name = NULL;
    if (t->out && asprintf(&name, "%s.tmp", t->out) < 0) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    if (name && !(t->json = fopen(name, "w"))) {
        ccc_status st = ccc_fail(err, CCC_E_IO, "cannot write '%s': %s", name, strerror(errno));
        free(name);
        return st;
    }
    ccc_status st = run(t, err);
    if (t->json) {
        bool bad = ferror(t->json) != 0;
        bad |= fclose(t->json) != 0;
        if (st == CCC_OK && (bad || rename(name, t->out))) st = ccc_fail(err, CCC_E_IO, "cannot write '%s': %s", t->out, strerror(errno));
        if (st != CCC_OK) unlink(name);
    }
    free(name);
    rt_close(&t->m);
    return st;
}

int rt_tune(int argc, char **argv)
{
    tuner t = { .place = { .weights = "random:1" }, .repeats = 9, .in_steps = 4 };
    int n_args;
    const opt opts[] = {
        { "-o", OPT_TEXT, &t.out, "FILE", "the result as JSON, for ccc tune --apply" },
        { "--repeats", OPT_NUMBER, &t.repeats, "N", "runs of which the median is taken [9]" },
        { "--in-steps", OPT_NUMBER, &t.in_steps, "N", "of each shape, so many of the best alone are also timed in whole steps, 0 to 15 [4]" },
        { "--context", OPT_NUMBER, &t.context, "N", "tokens in the cache of each sequence, in whole steps; 0: 1024, or as many as the artifact allows [0]" },
        { "--device", OPT_TEXT, &t.place.device, "DEVICE", "cuda or cuda:N" },
        { 0 },
    };
    int status = opt_parse(argc, argv, opts, program, "FILE.ccart [-o RESULT.json] [options]", "Times the candidates in an artifact that ccc tune has made, with random weights.", &t.place.artifact, 1,
                           &n_args);
    if (status >= 0) return status;
    if ((status = rt_usage(&t.place, program)) >= 0) return status;
    if (t.repeats < 1 || t.repeats > 1000) return opt_usage(program, "--repeats: a number from 1 to 1000");
    if (t.in_steps < 0 || t.in_steps > 15) return opt_usage(program, "--in-steps: a number from 0 to 15");
    if (t.context < 0 || t.context > 1 << 20) return opt_usage(program, "--context: a number from 0 to 1048576");
    ccc_err err = { 0 };
    return run_into_file(&t, &err) == CCC_OK ? 0 : opt_fail("cccrt", &err);
}
