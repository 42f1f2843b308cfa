/* ccc cache: what lies in the cache, whether it is whole, and how to get rid of it. The cache never needs
 * care: objects are immutable and a damaged one is compiled again; this is for looking, for CI that wants to
 * be sure, and for disks that are full. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include "../cache/cache.h"
#include "cmd.h"
#include "opt.h"
#include "paths.h"

static const char program[] = "ccc cache";
typedef struct {
    bool quiet;
    uint64_t n, size_B, damaged;
} totals;

static void show(void *payload, ccc_cache_kind kind, ccc_key key, uint64_t size_B, const char *label,
                 const char *status)
{
    totals *t = payload;
    char hex[33];
    ccc_key_hex(key, hex);
    t->n++;
    t->size_B += size_B;
    t->damaged += status != NULL;
    if (t->quiet && !status) return;
    printf("%s  %-8s  %9" PRIu64 "  %s%s%s\n", hex, kind == CCC_CACHE_KERNEL ? "kernel" : "artifact", size_B,
           label, status ? "  damaged: " : "", status ? status : "");
}

static ccc_status list(ccc_cache *c, bool check, int *status, ccc_err *err)
{
    totals t = {.quiet = check};
    CCC_TRY(ccc_cache_list(c, check, show, &t, err));
    printf("%" PRIu64 " objects, %" PRIu64 " bytes", t.n, t.size_B);
    if (check) printf(", %" PRIu64 " damaged", t.damaged);
    printf("\n");
    *status = t.damaged ? 1 : 0;
    return CCC_OK;
}

static ccc_status clear(ccc_cache *c, ccc_err *err)
{
    uint64_t freed_B;
    CCC_TRY(ccc_cache_clear(c, &freed_B, err));
    printf("%" PRIu64 " bytes freed\n", freed_B);
    return CCC_OK;
}

int cmd_cache(int argc, char **argv)
{
    char usual[PATH_MAX];
    const char *dir = NULL, *action = NULL, *warning;
    int n_args, status;
    const opt opts[] = {
        {"--cache-dir", OPT_TEXT, &dir, "DIR", "folder of the cache; usually $XDG_CACHE_HOME/ccc"}, {0}};
    status = opt_parse(argc, argv, opts, program, "list|verify|clear [--cache-dir DIR]",
                       "list shows every object: key, kind, bytes, what it is. verify checks every object; "
                       "the exit status is 1 when one is\n"
                       "damaged. clear removes all objects.",
                       &action, 1, &n_args);
    if (status >= 0) return status;
    if (!n_args) return opt_usage(program, "give list, verify or clear");
    bool check = !strcmp(action, "verify"), is_clear = !strcmp(action, "clear");
    if (!check && !is_clear && strcmp(action, "list") != 0)
        return opt_usage(program, "unknown action '%s'; give list, verify or clear", action);
    if (!dir) {
        path_cache_dir(usual, sizeof usual);
        dir = usual;
    }
    ccc_cache *c = NULL;
    ccc_err err = {0};
    ccc_status s = ccc_cache_open(&c, dir, &err);
    if (s == CCC_OK && (warning = ccc_cache_warning(c)))
        fprintf(stderr, "%s: warning: %s\n", program, warning);
    status = 0;
    if (s == CCC_OK) s = is_clear ? clear(c, &err) : list(c, check, &status, &err);
    ccc_cache_close(c);
    return s == CCC_OK ? status : opt_fail(program, &err);
}
