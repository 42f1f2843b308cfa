/* ccc tune: the candidates of a model's matmuls as one artifact, which `cccrt tune` times on a GPU; and, with --apply, what it measured put into
 * a schedule file, which later compiles read. */
#include "cmd.h"
#include "compile_opts.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char program[] = "ccc tune";
enum { MAX_TOKENS = 16 };

typedef struct { /* a command line, parsed */
    ccc_config config;
    opt_list ignore;
    const char *model, *out, *apply, *tokens;
    int64_t candidates, token[MAX_TOKENS];
    unsigned n_tokens;
    bool no_cache;
} request;

static int parse_tokens(request *r)
{
    for (const char *p = r->tokens; *p;) {
        char *end;
        errno = 0;
        long long v = strtoll(p, &end, 10);
        if (end == p || errno || v < 1 || (*end && *end != ',') || (*end && !end[1])) return opt_usage(program, "--tokens '%s': a list of numbers joined by commas is wanted", r->tokens);
        if (r->n_tokens == MAX_TOKENS) return opt_usage(program, "--tokens: more than %d numbers", MAX_TOKENS);
        r->token[r->n_tokens++] = v;
        p = *end ? end + 1 : end;
    }
    return r->n_tokens ? -1 : opt_usage(program, "--tokens: no number given");
}

static int parse(request *r, int argc, char **argv)
{
    int n_args;
    ccc_config_init(&r->config);
    r->config.target = "sm_90a";
    opt_set set = { compile_opt_set, &r->config };
    const opt own[] = {
        { "-o", OPT_TEXT, &r->out, "FILE", "the artifact to write, or with --apply the schedule file to change; - is standard output" },
        { "--tokens", OPT_TEXT, &r->tokens, "LIST", "tokens of the decode steps to tune for, joined by commas [1]" },
        { "--candidates", OPT_NUMBER, &r->candidates, "N", "at most so many for each shape [64]" },
        { "--apply", OPT_TEXT, &r->apply, "RESULT", "put the measurements of `cccrt tune -o RESULT` into the schedule file" },
        { "--target", OPT_TEXT, &r->config.target, "TEXT", "the target to tune [sm_90a]" },
        { "-O", OPT_SET, &set, "LEVEL", "the same as --opt-level" },
        { "-j", OPT_SET, &set, "N", "the same as --jobs" },
        { "--no-cache", OPT_FLAG, &r->no_cache, NULL, "the same as --cache=false" },
        { "--ignore-config-key", OPT_LIST, &r->ignore, "KEY", "pass over a key of config.json that ccc does not know; may be given again" },
    };
    enum { N_OWN = sizeof own / sizeof *own };
    opt *opts = compile_opts_new(own, N_OWN, &set);
    if (!opts) return opt_fail(program, &(ccc_err){ .msg = "out of memory" });
    int status = opt_parse(argc, argv, opts, program, "MODEL -o FILE [options], or --apply RESULT [-o FILE]",
                           "Makes an artifact of all shapes that the model's matmul kernels could have, for `cccrt tune` to time on a GPU. With --apply, changes a\n"
                           "schedule file by what was measured; without -o the built-in schedule so changed goes to standard output.", &r->model, 1, &n_args);
    compile_opts_free(opts, N_OWN);
    if (status >= 0) return status;
    if (r->apply) return n_args ? opt_usage(program, "--apply takes no MODEL") : -1;
    if (!n_args) return opt_usage(program, "no MODEL given");
    if (!r->out) return opt_usage(program, "no output given; use -o FILE");
    if (r->candidates < 2 || r->candidates > 1000) return opt_usage(program, "--candidates: a number from 2 to 1000");
    if (r->no_cache) r->config.cache = false;
    return parse_tokens(r);
}

static ccc_status make_candidates(request *r, ccc_err *err)
{
    char cache_dir[PATH_MAX], ptxas[PATH_MAX];
    bool tty = isatty(2) == 1;
    ccc_graph *g = NULL;
    ccc_buf bytes = { 0 };
    ccc_import_args import = { r->ignore.item, r->ignore.n, &r->config };
    ccc_tune_args tune = { r->token, r->n_tokens, r->candidates };
    ccc_compile_args args = { .config = &r->config, .progress = compile_progress, .payload = &tty, .warning = compile_warning, .tune = &tune };
    ccc_status st = compile_fill_in(&r->config, cache_dir, ptxas, err);
    if (st == CCC_OK) st = ccc_import(&g, r->model, &import, err);
    if (st == CCC_OK) st = ccc_compile(&bytes, g, &args, err);
    if (st == CCC_OK) st = ccc_write_file(r->out, bytes.data, bytes.size_B, err);
    if (st != CCC_OK && tty) fputs("\r\033[K", stderr);
    ccc_buf_free(&bytes);
    ccc_graph_free(g);
    return st;
}

/* A schedule file that is not there yet begins as the built-in one. */
static ccc_status apply(const request *r, ccc_err *err)
{
    ccc_buf result = { 0 }, schedule = { 0 }, out = { 0 }, log = { 0 };
    bool there = r->out && strcmp(r->out, "-") && !access(r->out, F_OK);
    ccc_status st = ccc_read_file(&result, r->apply, err);
    if (st == CCC_OK && there) st = ccc_read_file(&schedule, r->out, err);
    if (st == CCC_OK) st = ccc_schedule_apply(&out, &log, there ? &schedule : NULL, r->out, &result, r->apply, err);
    if (st == CCC_OK && log.data) fputs(log.data, stderr);
    if (st == CCC_OK) st = ccc_write_file(r->out ? r->out : "-", out.data, out.size_B, err);
    ccc_buf_free(&result);
    ccc_buf_free(&schedule);
    ccc_buf_free(&out);
    ccc_buf_free(&log);
    return st;
}

int cmd_tune(int argc, char **argv)
{
    request r = { .tokens = "1", .candidates = 64 };
    ccc_err err = { 0 };
    int status = parse(&r, argc, argv);
    if (status >= 0) return status;
    return (r.apply ? apply(&r, &err) : make_candidates(&r, &err)) == CCC_OK ? 0 : opt_fail("ccc", &err);
}
