/* ccc cache: what lies in the cache, whether it is whole, and how to get rid of it. The cache never needs
 * care: objects are immutable and a damaged one is compiled again; this is for looking, for CI that wants to
 * be sure, and for disks that are full. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
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

/* A whole number of bytes, or one with K, M, G or T behind it. */
static bool parse_size(uint64_t *size_B, const char *text)
{
    static const char units[] = "KMGT";
    char *end;
    if (*text < '0' || *text > '9') return false;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    const char *unit = *end ? strchr(units, *end) : NULL;
    if (errno || (*end && (!unit || end[1]))) return false;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    *size_B = (uint64_t)n << shift;
    return *size_B >> shift == n;
}

static ccc_status gc(ccc_cache *c, uint64_t max_B, ccc_err *err)
{
    uint64_t freed_B, left_B;
    CCC_TRY(ccc_cache_gc(c, max_B, &freed_B, &left_B, err));
    printf("%" PRIu64 " bytes freed, %" PRIu64 " bytes left\n", freed_B, left_B);
    return CCC_OK;
}

static ccc_status act(ccc_cache *c, const char *action, uint64_t max_B, int *status, ccc_err *err)
{
    if (strcmp(action, "clear") == 0) return clear(c, err);
    if (strcmp(action, "gc") == 0) return gc(c, max_B, err);
    return list(c, strcmp(action, "verify") == 0, status, err);
}

int cmd_cache(int argc, char **argv)
{
    char usual[PATH_MAX];
    static const char *const actions[] = {"list", "verify", "gc", "clear"};
    const char *dir = NULL, *action = NULL, *max_size = NULL, *warning;
    uint64_t max_B = 0;
    int n_args, status;
    const opt opts[] = {
        {"--cache-dir", OPT_TEXT, &dir, "DIR", "folder of the cache; usually $XDG_CACHE_HOME/ccc"},
        {"--max-size", OPT_TEXT, &max_size, "N", "gc: bytes to keep at most; 500K, 200M, 2G or 1T"},
        {0}};
    status = opt_parse(argc, argv, opts, program, "list|verify|gc|clear [--cache-dir DIR] [--max-size N]",
                       "list shows every object: key, kind, bytes, what it is. verify checks every object; "
                       "the exit status is 1 when one is\n"
                       "damaged. gc removes what was not used for longest until --max-size is kept; compiles "
                       "may run meanwhile.\nclear removes all objects.",
                       &action, 1, &n_args);
    if (status >= 0) return status;
    if (!n_args) return opt_usage(program, "give list, verify, gc or clear");
    bool known = false;
    for (unsigned i = 0; i < sizeof actions / sizeof *actions; i++) known |= !strcmp(action, actions[i]);
    if (!known) return opt_usage(program, "unknown action '%s'; give list, verify, gc or clear", action);
    bool is_gc = !strcmp(action, "gc");
    if (is_gc != (max_size != NULL)) return opt_usage(program, "--max-size and gc need each other");
    if (is_gc && !parse_size(&max_B, max_size))
        return opt_usage(program, "--max-size '%s': a whole number of bytes, or one with K, M, G or T",
                         max_size);
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
    if (s == CCC_OK) s = act(c, action, max_B, &status, &err);
    ccc_cache_close(c);
    return s == CCC_OK ? status : opt_fail(program, &err);
}
