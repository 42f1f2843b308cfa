/* ccc inspect: what is in an artifact, as text or as the JSON object that runtime/README.md documents ("info") plus the compiler's report of
 * its passes. */
#include "cmd.h"
#include "opt.h"
#include "../runtime/cccrt.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char program[] = "ccc inspect";

static void print_rows(const json_t *list, const char *title, const char *const *keys)
{
    size_t i;
    json_t *row;
    if (!json_array_size(list)) return;
    printf("%s (%zu)\n", title, json_array_size(list));
    json_array_foreach((json_t *)list, i, row) {
        printf(" ");
        for (const char *const *k = keys; *k; k++) {
            json_t *v = json_object_get(row, *k);
            char *text = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
            if (json_is_string(v)) printf(" %s", json_string_value(v));
            else if (text) printf(" %s=%s", *k, text);
            free(text);
        }
        printf("\n");
    }
}

static void print_pairs(const json_t *object, const char *title)
{
    const char *key;
    json_t *v;
    if (!json_object_size(object)) return;
    printf("%s\n", title);
    json_object_foreach((json_t *)object, key, v) {
        char *text = json_is_string(v) ? NULL : json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
        printf("  %-32s %s\n", key, text ? text : json_string_value(v));
        free(text);
    }
}

static void print_text(const json_t *info)
{
    size_t i;
    json_t *t, *v;
    const char *key;
    json_object_foreach((json_t *)info, key, v)
        if (!json_is_object(v) && !json_is_array(v)) {
            char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
            printf("%-16s %s\n", key, text);
            free(text);
        }
    json_array_foreach(json_object_get(info, "targets"), i, t) {
        printf("target %s\n", json_string_value(json_object_get(t, "name")));
        print_pairs(json_object_get(t, "memory"), "memory");
        print_rows(json_object_get(t, "kernels"), "kernels", (const char *[]){ "name", "threads", "shared_bytes", "code_bytes", NULL });
        print_rows(json_object_get(t, "programs"), "programs", (const char *[]){ "mode", "t_min", "t_max", "nodes", "arena_bytes", NULL });
        print_rows(json_object_get(t, "weights"), "weights", (const char *[]){ "name", "dtype", "shape", NULL });
    }
    print_pairs(json_object_get(info, "facts"), "facts");
    print_pairs(json_object_get(info, "provenance"), "provenance");
    print_rows(json_object_get(info, "passes"), "passes", (const char *[]){ "stage", "changed_by", NULL });
}

int cmd_inspect(int argc, char **argv)
{
    const char *path = NULL;
    bool json = false;
    int n_args;
    const opt opts[] = { { "--json", OPT_FLAG, &json, NULL, "one JSON object" }, { 0 } };
    int status = opt_parse(argc, argv, opts, program, "FILE.ccart [--json]", "Shows kernels, programs, weights, memory, provenance and passes of an artifact.", &path, 1, &n_args);
    if (status >= 0) return status;
    if (!n_args) return opt_usage(program, "no artifact given");
    cccrt_artifact *a = NULL;
    char *text = NULL;
    ccc_err err = { 0 };
    json_error_t je;
    ccc_status st = cccrt_artifact_open(&a, path, NULL, &err);
    if (st == CCC_OK) st = cccrt_artifact_info(&text, a, &err);
    json_t *info = st == CCC_OK ? json_loads(text, 0, &je) : NULL;
    if (st == CCC_OK && !info) st = ccc_fail(&err, CCC_E_CORRUPT, "'%s': its report is not well-formed: %s", path, je.text);
    if (st == CCC_OK && json) {
        json_dumpf(info, stdout, JSON_INDENT(1));
        printf("\n");
    } else if (st == CCC_OK) {
        print_text(info);
    }
    json_decref(info);
    cccrt_free(text);
    cccrt_artifact_close(a);
    return st == CCC_OK ? 0 : opt_fail("ccc", &err);
}
