/* ccc compile: a model into an artifact. Every option of compiler/config.def is a long option here; nothing is said about one in this file. */
#include "cmd.h"
#include "compile_opts.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char program[] = "ccc compile";

typedef struct { /* a command line, parsed */
    ccc_config config;
    opt_list ignore;
    const char *model, *out;
    bool explain, times, no_cache;
} request;

static int parse(request *r, int argc, char **argv)
{
    int n_args;
    ccc_config_init(&r->config);
    opt_set set = { compile_opt_set, &r->config };
    const opt own[] = {
        { "-o", OPT_TEXT, &r->out, "FILE", "the artifact to write; - is standard output" },
        { "-O", OPT_SET, &set, "LEVEL", "the same as --opt-level" },
        { "-j", OPT_SET, &set, "N", "the same as --jobs" },
        { "--no-cache", OPT_FLAG, &r->no_cache, NULL, "the same as --cache=false" },
        { "--ignore-config-key", OPT_LIST, &r->ignore, "KEY", "pass over a key of config.json that ccc does not know; may be given again" },
        { "--explain", OPT_FLAG, &r->explain, NULL, "print, for each candidate that was not fused, why" },
        { "--time-report", OPT_FLAG, &r->times, NULL, "print where the time went" },
    };
    enum { N_OWN = sizeof own / sizeof *own };
    opt *opts = compile_opts_new(own, N_OWN, &set);
    if (!opts) return opt_fail(program, &(ccc_err){ .msg = "out of memory" });
    int status = opt_parse(argc, argv, opts, program, "MODEL -o FILE [options]",
                           "Compiles a model ahead of time. MODEL is a Hugging Face folder (config.json alone is enough), a GGUF file, a model.json\n"
                           "or a text graph; - reads a graph from standard input.", &r->model, 1, &n_args);
    compile_opts_free(opts, N_OWN);
    if (status >= 0) return status;
    if (!n_args) return opt_usage(program, "no MODEL given");
    if (!r->out) return opt_usage(program, "no output given; use -o FILE");
    if (r->no_cache) r->config.cache = false;
    return -1;
}

static ccc_status compile_model(const request *r, ccc_compile_args *args, ccc_err *err)
{
    ccc_graph *g = NULL;
    ccc_buf bytes = { 0 };
    ccc_import_args import = { r->ignore.item, r->ignore.n, &r->config };
    ccc_status st = ccc_import(&g, r->model, &import, err);
    if (st == CCC_OK) st = ccc_compile(&bytes, g, args, err);
    if (st == CCC_OK) st = ccc_write_file(r->out, bytes.data, bytes.size_B, err);
    ccc_buf_free(&bytes);
    ccc_graph_free(g);
    return st;
}

int cmd_compile(int argc, char **argv)
{
    char cache_dir[PATH_MAX], ptxas[PATH_MAX];
    request r = { 0 };
    int status = parse(&r, argc, argv);
    if (status >= 0) return status;
    ccc_err err = { 0 };
    ccc_buf why = { 0 }, report = { 0 };
    bool tty = isatty(2) == 1;
    ccc_compile_args args = { .config = &r.config, .explain = r.explain ? &why : NULL, .time_report = r.times ? &report : NULL, .progress = compile_progress, .payload = &tty,
                              .warning = compile_warning };
    ccc_status st = compile_fill_in(&r.config, cache_dir, ptxas, &err);
    if (st == CCC_OK) st = compile_model(&r, &args, &err);
    if (st != CCC_OK && tty) fputs("\r\033[K", stderr);
    FILE *to = strcmp(r.out, "-") ? stdout : stderr;
    if (st == CCC_OK && why.data) fputs(why.data, to);
    if (st == CCC_OK && report.data) fputs(report.data, to);
    ccc_buf_free(&why);
    ccc_buf_free(&report);
    return st == CCC_OK ? 0 : opt_fail("ccc", &err);
}
