/* ccc eval: a graph in the reference evaluator, on random inputs drawn from a seed: shapes, checksums and
 * first values of the outputs. Two graphs that should mean the same print the same. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "../passes/check.h"
#include "cmd.h"
#include "opt.h"

static const char program[] = "ccc eval";
enum { N_FIRST = 6 };

static ccc_status set_symbols(const ccc_graph *g, const opt_list *sets, ccc_sample_args *args, ccc_err *err)
{
    for (unsigned i = 0; i < sets->n; i++) {
        for (const char *p = sets->item[i]; *p;) {
            char name[32], *end;
            size_t n = strcspn(p, "=,");
            if (p[n] != '=' || !n || n >= sizeof name)
                return ccc_fail(err, CCC_E_ARG, "--set %s: SYMBOL=NUMBER is wanted", sets->item[i]);
            memcpy(name, p, n);
            name[n] = 0;
            int sym = ccc_graph_find_sym(g, name);
            if (sym < 0)
                return ccc_fail(err, CCC_E_ARG, "--set %s: the graph has no symbol %s", sets->item[i], name);
            args->sym_value[sym] = strtoll(p + n + 1, &end, 10);
            args->sym_given[sym] = true;
            if (end == p + n + 1 || (*end && *end != ','))
                return ccc_fail(err, CCC_E_ARG, "--set %s: SYMBOL=NUMBER is wanted", sets->item[i]);
            p = *end ? end + 1 : end;
        }
    }
    return CCC_OK;
}

static uint64_t count(const ccc_tensor *t)
{
    uint64_t n = 1;
    for (unsigned i = 0; i < t->type.rank; i++) n *= (uint64_t)t->dim[i];
    return n;
}

static void print_element(const ccc_tensor *t, uint64_t i, bool json)
{
    int64_t v = 0;
    int32_t v32;
    if (t->type.dtype == CCC_I64) memcpy(&v, (const char *)t->data + i * 8, 8);
    else if (t->type.dtype == CCC_I32) memcpy(&v32, (const char *)t->data + i * 4, 4), v = v32;
    else {
        float f = ccc_load_f32((ccc_dtype)t->type.dtype, t->data, i);
        if (json && !isfinite(f)) printf("null");
        else printf("%.9g", (double)f);
        return;
    }
    printf("%" PRId64, v);
}

static void print_tensor(const char *name, const ccc_tensor *t, bool json)
{
    uint64_t n = count(t);
    printf(json ? "{\"name\": \"%s\", \"dtype\": \"%s\", \"shape\": [" : "%-14s %s[", name,
           ccc_dtype_name((ccc_dtype)t->type.dtype));
    for (unsigned i = 0; i < t->type.rank; i++) printf("%s%" PRId64, i ? "," : "", t->dim[i]);
    printf(json ? "], \"xxh64\": \"%016" PRIx64 "\", \"first\": [" : "]  %016" PRIx64 " ",
           (uint64_t)XXH64(t->data, t->size_B, 0));
    for (uint64_t i = 0; i < n && i < N_FIRST; i++) {
        printf("%s", json ? (i ? ", " : "") : " ");
        print_element(t, i, json);
    }
    printf(json ? "]}" : n > N_FIRST ? " ...\n" : "\n");
}

/* Names of outputs and symbols may hold any printable text: only plain ones go into JSON as they are. */
static const char *json_name(const char *name, char *buf, size_t size)
{
    size_t n = 0;
    for (const char *s = name; *s && n + 3 < size; s++) {
        if (*s == '"' || *s == '\\') buf[n++] = '\\';
        buf[n++] = *s;
    }
    buf[n] = 0;
    return buf;
}

static void print_result(const ccc_graph *g, const ccc_sample *s, const ccc_sample_result *r, bool json)
{
    char name[600];
    printf(json ? "{\"symbols\": {" : "symbols       ");
    for (uint32_t i = 0; i < g->n_sym; i++)
        printf(json ? "%s\"%s\": %" PRId64 : "%s%s=%" PRId64, json ? (i ? ", " : "") : " ", g->sym[i].name,
               ccc_sample_sym(s, g->sym[i].name));
    printf(json ? "}, \"outputs\": [" : "\n");
    for (uint32_t i = 0; i < r->n_out; i++) {
        if (json && i) printf(", ");
        print_tensor(json ? json_name(g->out[i].name, name, sizeof name) : g->out[i].name, &r->out[i], json);
    }
    printf(json ? "], \"caches\": [" : "");
    for (uint32_t i = 0; i < r->n_cache; i++) {
        const ccc_sample_cache *c = &r->cache[i];
        uint64_t hash = XXH64(c->t.data, c->t.size_B, 0);
        if (json)
            printf("%s{\"layer\": %" PRId64 ", \"xxh64\": \"%016" PRIx64 "\"}", i ? ", " : "", c->layer,
                   hash);
        else printf("cache %-8" PRId64 " %016" PRIx64 "\n", c->layer, hash);
    }
    printf(json ? "]}\n" : "");
}

static ccc_status eval(const char *in, const opt_list *sets, int64_t seed, bool f64, bool json, ccc_err *err)
{
    ccc_buf text = {0};
    ccc_graph *g = NULL;
    ccc_sample *s = NULL;
    ccc_sample_result r = {0};
    ccc_sample_args args = {.seed = (uint64_t)seed};
    ccc_status status = ccc_read_file(&text, in, err);
    const char *data = text.data ? text.data : "", *file = strcmp(in, "-") ? in : "standard input";
    bool is_json = data[strspn(data, " \t\r\n")] == '{';
    if (status == CCC_OK) status = (is_json ? ccc_json_read : ccc_ir_parse)(&g, data, text.size_B, file, err);
    if (status == CCC_OK) status = set_symbols(g, sets, &args, err);
    if (status == CCC_OK) status = ccc_sample_new(&s, g, &args, err);
    if (status == CCC_OK) status = ccc_sample_eval(s, g, f64, &r, err);
    if (status == CCC_OK) print_result(g, s, &r, json);
    ccc_sample_release(&r);
    ccc_sample_free(s);
    ccc_graph_free(g);
    ccc_buf_free(&text);
    return status;
}

int cmd_eval(int argc, char **argv)
{
    const char *in = NULL;
    int64_t seed = 0;
    bool f64 = false, json = false;
    opt_list sets = {.n = 0};
    int n_args;
    const opt opts[] = {
        {"--set", OPT_LIST, &sets, "SYM=N[,SYM=N]",
         "values of symbols; usually T=5, S=2, R=2 and 3 for others, moved into their ranges"},
        {"--seed", OPT_NUMBER, &seed, "N", "seed of inputs, weights and caches; usually 0"},
        {"--f64", OPT_FLAG, &f64, NULL, "add up sums and dot products in f64"},
        {"--json", OPT_FLAG, &json, NULL, "one JSON object"},
        {0},
    };
    int status = opt_parse(
        argc, argv, opts, program, "MODEL.ir|MODEL.json [options]",
        "Evaluates a graph on random inputs with the reference evaluator (- is standard input) and prints, "
        "for each\n"
        "output, dtype, shape, checksum and first values, and a checksum of each cache after the step.",
        &in, 1, &n_args);
    if (status >= 0) return status;
    if (!n_args) return opt_usage(program, "give a graph");
    ccc_err err = {0};
    return eval(in, &sets, seed, f64, json, &err) == CCC_OK ? 0 : opt_fail(program, &err);
}
