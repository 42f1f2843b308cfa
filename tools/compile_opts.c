/* The options of compiler/config.def as command line options, for the subcommands that compile. */
#define _GNU_SOURCE
#include "compile_opts.h"
#include "paths.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

ccc_status compile_opt_set(void *payload, const char *name, const char *value, ccc_err *err)
{
    static const char *const alias[][2] = { { "-O", "opt_level" }, { "-j", "jobs" } };
    for (unsigned i = 0; i < sizeof alias / sizeof *alias; i++)
        if (!strcmp(name, alias[i][0])) return ccc_config_set(payload, alias[i][1], value, err);
    return ccc_config_set(payload, name + 2, value, err);
}

void compile_progress(void *payload, const char *what, unsigned done, unsigned total)
{
    if (*(bool *)payload) fprintf(stderr, "\r%s %u/%u%s", what, done, total, done == total ? "\r\033[K" : "");
}

void compile_warning(void *payload, const char *message)
{
    (void)payload;
    fprintf(stderr, "ccc: warning: %s\n", message);
}

void compile_opts_free(opt *o, unsigned n_own)
{
    for (opt *p = o + n_own; p->name || p->help; p++) {
        free((char *)p->name);
        free((char *)p->help);
    }
    free(o);
}

static bool has(const opt *own, unsigned n_own, const char *name)
{
    for (unsigned i = 0; i < n_own; i++)
        if (!strcmp(own[i].name, name)) return true;
    return false;
}

opt *compile_opts_new(const opt *own, unsigned n_own, opt_set *set)
{
    static const char *const value[] = { [CCC_OPT_INT] = "N", [CCC_OPT_BOOL] = "true|false", [CCC_OPT_STR] = "TEXT" };
    unsigned n = 0;
    while (ccc_options[n].name) n++;
    opt *o = calloc(n + n_own + 1, sizeof *o);
    if (!o) return NULL;
    memcpy(o, own, n_own * sizeof *o);
    for (unsigned i = 0, at = n_own; i < n; i++) {
        char *name = NULL, *help = NULL;
        const char *d = ccc_options[i].dflt;
        if (asprintf(&name, "--%s", ccc_options[i].name) < 0) name = NULL;
        if (asprintf(&help, "%s%s%s%s", ccc_options[i].help, *d ? " [" : "", d, *d ? "]" : "") < 0) help = NULL;
        o[at] = (opt){ name, OPT_SET, set, value[ccc_options[i].kind], help };
        if (!name || !help) {
            compile_opts_free(o, n_own);
            return NULL;
        }
        for (char *p = name; *p; p++)
            if (*p == '_') *p = '-';
        if (!has(own, n_own, name)) at++;
        else free(name), free(help), o[at] = (opt){ 0 };
    }
    return o;
}

ccc_status compile_fill_in(ccc_config *c, char *cache_dir, char *ptxas, ccc_err *err)
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
