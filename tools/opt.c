/* Options of a subcommand from one table. A long option takes its value as --name VALUE or --name=VALUE, a short one as -o VALUE or -oVALUE. */
#include "opt.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int opt_fail(const char *program, const ccc_err *err)
{
    fprintf(stderr, "%s: %s\n", program, err->msg); /* a position in a file stands in the message */
    return 1;
}

int opt_usage(const char *program, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "%s: ", program);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "; see %s --help\n", program);
    va_end(ap);
    return 2;
}

static void help(const opt *opts, const char *program, const char *usage, const char *about)
{
    printf("usage: %s %s\n%s\n", program, usage, about);
    if (opts->name) printf("\noptions:\n");
    for (const opt *o = opts; o->name; o++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
        if (strlen(left) < 28) printf("  %-28s %s\n", left, o->help);
        else printf("  %s\n  %-28s %s\n", left, "", o->help);
    }
}

/* The option that `arg` names; *value: text after '=' or, for short ones, behind the letter. */
static const opt *find(const opt *opts, const char *arg, const char **value)
{
    *value = NULL;
    for (const opt *o = opts; o->name; o++) {
        size_t n = strlen(o->name);
        bool is_long = o->name[1] == '-';
        if (strncmp(arg, o->name, n)) continue;
        if (!arg[n]) return o;
        if (is_long && arg[n] != '=') continue;
        if (!is_long && o->kind == OPT_FLAG) continue;
        *value = arg + n + (arg[n] == '=');
        return o;
    }
    return NULL;
}

static int store(const opt *o, const char *program, const char *value)
{
    char *end;
    ccc_err e;
    switch (o->kind) {
    case OPT_FLAG: *(bool *)o->to = true; break;
    case OPT_TEXT: *(const char **)o->to = value; break;
    case OPT_NUMBER:
        errno = 0;
        *(int64_t *)o->to = strtoll(value, &end, 10);
        if (end == value || *end || errno) return opt_usage(program, "%s: '%s' is not a whole number", o->name, value);
        break;
    case OPT_LIST: {
        opt_list *l = o->to;
        if (l->n == sizeof l->item / sizeof *l->item) return opt_usage(program, "%s is given too often", o->name);
        l->item[l->n++] = value;
        break;
    }
    case OPT_SET: {
        opt_set *s = o->to;
        if (s->set(s->payload, o->name, value, &e) != CCC_OK) return opt_usage(program, "%s", e.msg);
        break;
    }
    }
    return -1;
}

int opt_parse(int argc, char **argv, const opt *opts, const char *program, const char *usage, const char *about, const char **args, int max_args, int *n_args)
{
    bool only_args = false;
    *n_args = 0;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *value;
        if (!only_args && !strcmp(a, "--")) {
            only_args = true;
        } else if (only_args || a[0] != '-' || !a[1]) {
            if (*n_args == max_args) return opt_usage(program, "'%s' is one argument too many", a);
            args[(*n_args)++] = a;
        } else if (!strcmp(a, "--help") || !strcmp(a, "-h")) {
            help(opts, program, usage, about);
            return 0;
        } else {
            const opt *o = find(opts, a, &value);
            if (!o) return opt_usage(program, "unknown option '%s'", a);
            if (o->kind == OPT_FLAG && value) return opt_usage(program, "%s takes no value", o->name);
            if (o->kind != OPT_FLAG && !value) {
                if (i + 1 == argc) return opt_usage(program, "%s needs a value", o->name);
                value = argv[++i];
            }
            int status = store(o, program, value);
            if (status >= 0) return status;
        }
    }
    return -1;
}
