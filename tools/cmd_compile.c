/* ccc compile: a model into an artifact. Every option of compiler/config.def is a long option here; nothing is said about one in this file. */
#define _GNU_SOURCE
#include "cmd.h"
#include "opt.h"
#include "paths.h"
#include "../compiler/ccc.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char program[] = "ccc compile";

static ccc_status set_option(void *payload, const char *name, const char *value, ccc_err *err)
{
    static const char *const alias[][2] = { { "-O", "opt_level" }, { "-j", "jobs" } };
    for (unsigned i = 0; i < sizeof alias / sizeof *alias; i++)
        if (!strcmp(name, alias[i][0])) return ccc_config_set(payload, alias[i][1], value, err);
    return ccc_config_set(payload, name + 2, value, err);
}

typedef struct { bool tty; } watch;

static void show_progress(void *payload, const char *what, unsigned done, unsigned total)
{
    if (((watch *)payload)->tty) fprintf(stderr, "\r%s %u/%u%s", what, done, total, done == total ? "\r\033[K" : "");
}

static void show_warning(void *payload, const char *message)
{
    (void)payload;
    fprintf(stderr, "ccc: warning: %s\n", message);
}

static void free_options(opt *o, unsigned n_own)
{
    for (opt *p = o + n_own; p->name || p->help; p++) {
        free((char *)p->name);
        free((char *)p->help);
    }
    free(o);
}

/* Long options from the table; booleans take true or false, and --no-cache says --cache=false. */
static opt *make_options(const opt *own, unsigned n_own, opt_set *set)
{
    static const char *const value[] = { [CCC_OPT_INT] = "N", [CCC_OPT_BOOL] = "true|false", [CCC_OPT_STR] = "TEXT" };
    unsigned n = 0;
    while (ccc_options[n].name) n++;
    opt *o = calloc(n + n_own + 1, sizeof *o);
    if (!o) return NULL;
    memcpy(o, own, n_own * sizeof *o);
    for (unsigned i = 0; i < n; i++) {
        char *name = NULL, *help = NULL;
        const char *d = ccc_options[i].dflt;
        if (asprintf(&name, "--%s", ccc_options[i].name) < 0) name = NULL;
        if (asprintf(&help, "%s%s%s%s", ccc_options[i].help, *d ? " [" : "", d, *d ? "]" : "") < 0) help = NULL;
        o[n_own + i] = (opt){ name, OPT_SET, set, value[ccc_options[i].kind], help };
        if (!name || !help) {
            free_options(o, n_own);
            return NULL;
        }
        for (char *p = name; *p; p++)
            if (*p == '_') *p = '-';
    }
    return o;
}

/* What the libraries leave to the program: folders, ptxas, the number of processors. */
static ccc_status fill_in(ccc_config *c, char *cache_dir, char *ptxas, ccc_err *err)
{
    char folders[8192];
    if (!*c->cache_dir) {
        path_cache_dir(cache_dir, PATH_MAX);
        c->cache_dir = cache_dir;
    }
    path_program_dirs(folders, sizeof folders);
    if (strcmp(c->ptxas, "none")) {
        ccc_err missing = { 0 };
        ccc_status st = ccc_find_ptxas(ptxas, c->ptxas, folders, &missing);
        if (st != CCC_OK && *c->ptxas) {
            *err = missing;
            return st;
        }
        c->ptxas = st == CCC_OK && *ptxas ? ptxas : "none";
    }
    if (!c->jobs) {
        long n = sysconf(_SC_NPROCESSORS_ONLN);
        c->jobs = n > 0 ? n : 1;
    }
    if (*c->dump && mkdir(c->dump, 0777) && access(c->dump, W_OK)) return ccc_fail(err, CCC_E_IO, "cannot write into folder '%s'", c->dump);
    return CCC_OK;
}

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
    opt_set set = { set_option, &r->config };
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
    opt *opts = make_options(own, N_OWN, &set);
    if (!opts) return opt_fail(program, &(ccc_err){ .msg = "out of memory" });
    int status = opt_parse(argc, argv, opts, program, "MODEL -o FILE [options]",
                           "Compiles a model ahead of time. MODEL is a Hugging Face folder (config.json alone is enough), a GGUF file, a model.json\n"
                           "or a text graph; - reads a graph from standard input.", &r->model, 1, &n_args);
    free_options(opts, N_OWN);
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
    watch w = { isatty(2) == 1 };
    ccc_compile_args args = { .config = &r.config, .explain = r.explain ? &why : NULL, .time_report = r.times ? &report : NULL, .progress = show_progress, .payload = &w,
                              .warning = show_warning };
    ccc_status st = fill_in(&r.config, cache_dir, ptxas, &err);
    if (st == CCC_OK) st = compile_model(&r, &args, &err);
    if (st != CCC_OK && w.tty) fputs("\r\033[K", stderr);
    FILE *to = strcmp(r.out, "-") ? stdout : stderr;
    if (st == CCC_OK && why.data) fputs(why.data, to);
    if (st == CCC_OK && report.data) fputs(report.data, to);
    ccc_buf_free(&why);
    ccc_buf_free(&report);
    return st == CCC_OK ? 0 : opt_fail("ccc", &err);
}
