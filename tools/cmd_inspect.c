/* ccc inspect: what is in an artifact. The library describes it target by target (runtime/README.md, "info"); here the lists of all
 * targets become one each, every row with its target's name, so that a script need not know how many targets there are. As text,
 * weights that differ in the number of their layer alone are one line. */
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../runtime/cccrt.h"
#include "cmd.h"
#include "opt.h"

static const char program[] = "ccc inspect";

/* ---- one object */
static json_t *report_row(const json_t *report, const char *target, const char *kernel)
{
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(report, "kernels"), i, row) {
        const char *t = json_string_value(json_object_get(row, "target")), *k = json_string_value(json_object_get(row, "name"));
        if (t && k && !strcmp(t, target) && !strcmp(k, kernel)) return row;
    }
    return NULL;
}

/* Moves the rows of target[name] to out[name]; kernels get what ptxas said of them. */
static int move_rows(json_t *out, json_t *target, const char *name, const json_t *report)
{
    static const char *const said[] = {"registers", "spill_bytes", "stack_bytes"};
    json_t *all = json_object_get(out, name), *row;
    const char *target_name = json_string_value(json_object_get(target, "name"));
    size_t i;
    int failed = 0;
    if (!all) failed |= json_object_set_new(out, name, all = json_array());
    json_array_foreach(json_object_get(target, name), i, row) {
        json_t *to = json_pack("{s:s}", "target", target_name), *more = NULL;
        failed |= json_object_update(to, row) | json_array_append_new(all, to);
        if (!strcmp(name, "kernels")) more = report_row(report, target_name, json_string_value(json_object_get(row, "name")));
        for (unsigned k = 0; more && k < sizeof said / sizeof *said; k++)
            if (json_object_get(more, said[k])) failed |= json_object_set(to, said[k], json_object_get(more, said[k]));
    }
    failed |= json_object_del(target, name);
    return failed;
}

/* The library's object into that of `ccc inspect --json`; NULL: out of memory. */
static json_t *regroup(json_t *info)
{
    static const char *const lists[] = {"kernels", "programs", "weights", "sources"};
    json_t *report = json_object_get(info, "report"), *passes = json_object_get(report, "passes"), *memory = json_object(), *t;
    size_t i;
    int failed = 0;
    json_array_foreach(json_object_get(info, "targets"), i, t) {
        for (unsigned k = 0; k < sizeof lists / sizeof *lists; k++) failed |= move_rows(info, t, lists[k], report);
        failed |= json_object_set(memory, json_string_value(json_object_get(t, "name")), json_object_get(t, "memory"));
        failed |= json_object_del(t, "memory");
    }
    failed |= json_object_set_new(info, "memory", memory);
    failed |= passes ? json_object_set(info, "passes", passes) : json_object_set_new(info, "passes", json_array());
    failed |= json_object_del(info, "report");
    return failed ? NULL : info;
}

/* ---- text */
static const char *text_of(const json_t *row, const char *key)
{
    const char *s = json_string_value(json_object_get(row, key));
    return s ? s : "";
}

static long long number_of(const json_t *row, const char *key) { return json_integer_value(json_object_get(row, key)); }
static double mb_of(const json_t *row, const char *key) { return (double)number_of(row, key) / 1e6; }
static bool belongs(const json_t *row, const char *target) { return !strcmp(text_of(row, "target"), target); }

static void print_model(const json_t *info, const char *path)
{
    const json_t *m = json_object_get(info, "model"), *sizes = json_object_get(info, "sizes");
    printf("%s: format %s, %lld bytes\n", path, text_of(info, "format"), number_of(info, "bytes"));
    if (number_of(m, "layers"))
        printf("model: %lld layers, hidden %lld, vocabulary %lld; %lld KV heads of %lld, cache %s in layout %s, blocks of %lld\n", number_of(m, "layers"), number_of(m, "hidden"),
               number_of(m, "vocab"), number_of(m, "kv_heads"), number_of(m, "head_size"), text_of(m, "kv_dtype"), text_of(m, "kv_layout"), number_of(m, "kv_block_size"));
    if (number_of(m, "layers"))
        printf("limits: %lld tokens and %lld sequences a step, context %lld\n", number_of(m, "max_tokens"), number_of(m, "max_seqs"), number_of(m, "max_model_len"));
    if (json_array_size(sizes))
        printf("captured sizes: %zu, from %lld to %lld\n", json_array_size(sizes), (long long)json_integer_value(json_array_get(sizes, 0)),
               (long long)json_integer_value(json_array_get(sizes, json_array_size(sizes) - 1)));
}

static void print_memory(const json_t *info, const char *target)
{
    const json_t *m = json_object_get(json_object_get(info, "memory"), target);
    printf("  memory: weights %.1f MB, arena %.1f MB, inputs and outputs %.1f MB, KV cache %.3f MB a block; %.1f MB more while weights are attached\n", mb_of(m, "weights_bytes"),
           mb_of(m, "arena_bytes"), mb_of(m, "io_bytes"), mb_of(m, "kv_bytes_a_block"), mb_of(m, "attach_extra_device_bytes"));
}

static void print_kernels(const json_t *info, const char *target)
{
    size_t i;
    json_t *k;
    printf("  kernels\n    %8s %8s %8s %8s %8s  name\n", "code B", "PTX B", "shared B", "threads", "regs");
    json_array_foreach(json_object_get(info, "kernels"), i, k)
        if (belongs(k, target))
            printf("    %8lld %8lld %8lld %8lld %8lld  %s%s\n", number_of(k, "code_bytes"), number_of(k, "ptx_bytes"), number_of(k, "shared_bytes"), number_of(k, "threads"),
                   number_of(k, "registers"), text_of(k, "name"), number_of(k, "spill_bytes") ? " (spills registers)" : "");
}

static void print_programs(const json_t *info, const char *target)
{
    size_t i;
    json_t *p;
    printf("  programs\n    %-8s %-12s %6s %12s\n", "mode", "tokens", "nodes", "arena B");
    json_array_foreach(json_object_get(info, "programs"), i, p)
        if (belongs(p, target)) {
            char range[48] = "any";
            if (number_of(p, "tokens_max") < INT32_MAX) snprintf(range, sizeof range, "%lld to %lld", number_of(p, "tokens_min"), number_of(p, "tokens_max"));
            printf("    %-8s %-12s %6lld %12lld\n", text_of(p, "mode"), range, number_of(p, "nodes"), number_of(p, "arena_bytes"));
        }
}

/* "blk.7.attn_norm.weight:bf16 bf16 [576]" -> "blk.*.attn_norm.weight:bf16 bf16 [576]"; NULL: out of memory */
static char *pattern_of(const json_t *w)
{
    const char *name = text_of(w, "name");
    char *shape = json_dumps(json_object_get(w, "shape"), JSON_COMPACT), *out = shape ? malloc(strlen(name) + strlen(shape) + 32) : NULL, *to = out;
    for (const char *p = name; out && *p;) {
        size_t digits = strspn(p, "0123456789");
        bool is_layer = digits && p > name && p[-1] == '.' && p[digits] == '.';
        *to++ = is_layer ? '*' : *p;
        p += is_layer ? digits : 1;
    }
    if (out) sprintf(to, " %.12s %s", text_of(w, "dtype"), shape);
    free(shape);
    return out;
}

static void print_weights(const json_t *info, const char *target)
{
    json_t *count = json_object(), *w, *n;
    const char *name;
    size_t i;
    json_array_foreach(json_object_get(info, "weights"), i, w) {
        char *pattern = belongs(w, target) ? pattern_of(w) : NULL;
        if (pattern) json_object_set_new(count, pattern, json_integer(json_integer_value(json_object_get(count, pattern)) + 1));
        free(pattern);
    }
    printf("  weights\n    %8s  made from, dtype, shape\n", "count");
    json_object_foreach(count, name, n) printf("    %8lld  %s\n", (long long)json_integer_value(n), name);
    json_decref(count);
}

static void print_pairs(const json_t *object, const char *title)
{
    const char *key;
    json_t *v;
    if (!json_object_size(object)) return;
    printf("%s\n", title);
    json_object_foreach((json_t *)object, key, v) printf("  %-32s %s\n", key, json_string_value(v));
}

static void print_passes(const json_t *info)
{
    size_t i, k;
    json_t *p, *name;
    if (!json_array_size(json_object_get(info, "passes"))) return;
    printf("passes that changed the graph\n");
    json_array_foreach(json_object_get(info, "passes"), i, p) {
        printf("  %-32s", text_of(p, "stage"));
        json_array_foreach(json_object_get(p, "changed_by"), k, name) printf(" %s", json_string_value(name));
        printf("\n");
    }
}

static void print_text(const json_t *info, const char *path)
{
    size_t i;
    json_t *t;
    print_model(info, path);
    json_array_foreach(json_object_get(info, "targets"), i, t) {
        const char *name = text_of(t, "name");
        printf("target %s, %s\n", name, !strcmp(text_of(t, "kind"), "host") ? "machine code for the CPU" : "code for a GPU");
        print_memory(info, name);
        print_kernels(info, name);
        print_programs(info, name);
        print_weights(info, name);
    }
    print_passes(info);
    print_pairs(json_object_get(info, "facts"), "facts");
    print_pairs(json_object_get(info, "provenance"), "provenance");
}

int cmd_inspect(int argc, char **argv)
{
    const char *path = NULL;
    bool json = false;
    int n_args;
    const opt opts[] = {{"--json", OPT_FLAG, &json, NULL, "one JSON object (tools/README.md)"}, {0}};
    int status = opt_parse(argc, argv, opts, program, "FILE.ccart [--json]", "Shows kernels, programs, weights, memory, provenance and passes of an artifact.", &path, 1, &n_args);
    if (status >= 0) return status;
    if (!n_args) return opt_usage(program, "no artifact given");
    cccrt_artifact *a = NULL;
    char *text = NULL;
    ccc_err err = {0};
    json_error_t je;
    ccc_status st = cccrt_artifact_open(&a, path, NULL, &err);
    if (st == CCC_OK) st = cccrt_artifact_info(&text, a, &err);
    json_t *info = st == CCC_OK ? json_loads(text, 0, &je) : NULL;
    if (st == CCC_OK && !info) st = ccc_fail(&err, CCC_E_CORRUPT, "'%s': its report is not well-formed: %s", path, je.text);
    if (st == CCC_OK && !regroup(info)) st = ccc_fail(&err, CCC_E_NOMEM, "out of memory");
    if (st == CCC_OK && json) json_dumpf(info, stdout, JSON_INDENT(1)), printf("\n");
    else if (st == CCC_OK) print_text(info, path);
    json_decref(info);
    cccrt_free(text);
    cccrt_artifact_close(a);
    return st == CCC_OK ? 0 : opt_fail("ccc", &err);
}
