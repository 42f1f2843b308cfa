/* cccrt run: token ids in, token ids out, greedy. The first id is written as soon as it is known, before the graphs of the captured sizes are built. */
#include "cmd.h"
#include "opt.h"
#include "runner.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { rt_place place; const char *tokens, *mode; int64_t steps, eos; bool json, build_all; } run_args;
typedef struct { double start, first, built, end; int64_t n_out; } run_times;

static void put_id(const run_args *a, int32_t id, int64_t i)
{
    printf(a->json ? (i ? ",%d" : "{\"tokens\":[%d") : (i ? ",%d" : "%d"), id);
    fflush(stdout);
}

static ccc_status generate(const run_args *a, rt_runner *r, const int32_t *ids, int64_t n, run_times *t, ccc_err *err)
{
    int32_t next;
    CCC_TRY(rt_prefill(r, ids, n, 0, &next, err));
    put_id(a, next, t->n_out++);
    t->first = rt_ms();
    if (a->build_all) CCC_TRY(cccrt_session_build_graphs(r->session, err));
    t->built = rt_ms();
    for (int64_t i = 1; i < a->steps && next != a->eos; i++) {
        CCC_TRY(rt_decode(r, &next, n + i - 1, &next, err));
        put_id(a, next, t->n_out++);
    }
    t->end = rt_ms();
    return CCC_OK;
}

static void print_json_rest(const rt_machine *m, const rt_runner *r, const run_times *t)
{
    cccrt_timings s = { .size_B = sizeof s };
    cccrt_session_timings(r->session, &s);
    printf("],\"device\":\"%s\",\"open_ms\":%.3f,\"device_ms\":%.3f,\"attach_ms\":%.3f,\"session_ms\":%.3f,\"first_token_ms\":%.3f,\"graphs\":%u,\"graph_nodes\":%u,\"graphs_ms\":%.3f,"
           "\"graphs_device_bytes\":%llu,\"decode_tokens\":%lld,\"decode_ms\":%.3f}",
           m->props.name, m->open_ms, m->device_ms, m->attach_ms, s.session_ms, t->first - t->start, s.n_graphs, s.n_graph_nodes, s.graphs_ms, (unsigned long long)s.graphs_device_B,
           (long long)t->n_out - 1, t->end - t->built);
}

static ccc_status run(const run_args *a, run_times *t, ccc_err *err)
{
    rt_machine m;
    rt_runner r = { 0 };
    int32_t *ids = NULL;
    int64_t n = 0;
    t->start = rt_ms();
    int graphs = !strcmp(a->mode, "none") ? CCCRT_GRAPHS_NONE : CCCRT_GRAPHS_ON_DEMAND;
    CCC_TRY(rt_parse_ids(&ids, &n, a->tokens, err));
    ccc_status st = rt_open(&m, &a->place, err);
    if (st == CCC_OK) st = rt_runner_open(&r, &m, 1, n + a->steps, graphs, false, err);
    if (st == CCC_OK) st = generate(a, &r, ids, n, t, err);
    if (st == CCC_OK && a->json) print_json_rest(&m, &r, t);
    if (t->n_out) printf("\n");
    rt_runner_close(&r);
    free(ids);
    rt_close(&m);
    return st;
}

int rt_run(int argc, char **argv)
{
    static const char program[] = "cccrt run";
    run_args a = { .steps = 16, .eos = -1, .mode = "full" };
    int n_args;
    const opt opts[] = {
        { "--weights", OPT_TEXT, &a.place.weights, "MODEL", "Hugging Face folder, .safetensors, GGUF, prepared .ccw file, or random:SEED" },
        { "--tokens", OPT_TEXT, &a.tokens, "IDS", "prompt: token ids joined by commas, or @FILE" },
        { "--steps", OPT_NUMBER, &a.steps, "N", "tokens to generate [16]" },
        { "--eos", OPT_NUMBER, &a.eos, "ID", "stop after this token" },
        { "--device", OPT_TEXT, &a.place.device, "DEVICE", "cpu, cuda or cuda:N; else what is there" },
        { "--threads", OPT_NUMBER, &a.place.threads, "N", "cpu: threads, 0: one for each processor [0]" },
        { "--cudagraph-mode", OPT_TEXT, &a.mode, "MODE", "full: decode steps replay graphs; none: every step is launched kernel by kernel [full]" },
        { "--build-all", OPT_FLAG, &a.build_all, NULL, "build the graphs of all captured sizes after the first token" },
        { "--json", OPT_FLAG, &a.json, NULL, "one JSON object with the tokens and the times" },
        { 0 },
    };
    int status = opt_parse(argc, argv, opts, program, "FILE.ccart --weights MODEL --tokens 1,2,3 [options]", "Runs a prompt and generates greedily.", &a.place.artifact, 1, &n_args);
    if (status >= 0) return status;
    if ((status = rt_usage(&a.place, program)) >= 0) return status;
    if (!a.place.weights) return opt_usage(program, "no weights given; use --weights");
    if (!a.tokens) return opt_usage(program, "no prompt given; use --tokens");
    if (a.steps < 1 || a.steps > 1 << 24) return opt_usage(program, "--steps: a number from 1 to %d", 1 << 24);
    if (strcmp(a.mode, "full") && strcmp(a.mode, "none")) return opt_usage(program, "--cudagraph-mode '%s': full or none", a.mode);
    run_times t = { 0 };
    ccc_err err = { 0 };
    ccc_status st = run(&a, &t, &err);
    return st == CCC_OK ? 0 : opt_fail("cccrt", &err);
}
