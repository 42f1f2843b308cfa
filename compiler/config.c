/* Options of a compile. config.def is the only list: the fields of ccc_config, their defaults, the table for
 * --help and for the cache key, and the checks here are all made from it. A value that cannot be honoured is
 * an error now, not a surprise later. */
#include "ccc.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

const ccc_option ccc_options[] = {
#define OPT_INT(name, dflt, key, help, ...) {#name, CCC_OPT_INT, #dflt, key, help},
#define OPT_BOOL(name, dflt, key, help, ...) {#name, CCC_OPT_BOOL, #dflt, key, help},
#define OPT_STR(name, dflt, key, help, ...) {#name, CCC_OPT_STR, dflt, key, help},
#include "config.def"
    {NULL, CCC_OPT_INT, NULL, false, NULL},
};

static const struct {
    size_t offset;
    int64_t least, most;
    const char *allowed;
} rules[] = {
    /* beside ccc_options, row by row */
#define OPT_INT(name, dflt, key, help, least, most) {offsetof(ccc_config, name), least, most, ""},
#define OPT_BOOL(name, dflt, key, help, ...) {offsetof(ccc_config, name), 0, 1, ""},
#define OPT_STR(name, dflt, key, help, allowed) {offsetof(ccc_config, name), 0, 0, allowed},
#include "config.def"
};

void ccc_config_init(ccc_config *c)
{
#define OPT_INT(name, dflt, key, help, ...) c->name = dflt;
#define OPT_BOOL(name, dflt, key, help, ...) c->name = dflt;
#define OPT_STR(name, dflt, key, help, ...) c->name = dflt;
#include "config.def"
}

static bool same_name(const char *name,
                      const char *given) /* dashes of the command line are underscores here */
{
    for (; *name && (*name == *given || (*name == '_' && *given == '-')); name++, given++) continue;
    return *name == 0 && *given == 0;
}

static bool is_allowed(const char *allowed, const char *value)
{
    size_t n = strlen(value);
    for (const char *p = allowed;; p++) {
        const char *bar = strchr(p, '|');
        size_t len = bar ? (size_t)(bar - p) : strlen(p);
        if (len == n && memcmp(p, value, n) == 0) return true;
        if (!bar) return false;
        p = bar;
    }
}

static ccc_status set_int(int64_t *field, unsigned row, const char *value, ccc_err *err)
{
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (end == value || *end || errno || (*value != '-' && (*value < '0' || *value > '9')))
        return ccc_fail(err, CCC_E_ARG, "option '%s': '%.100s' is not a whole number", ccc_options[row].name,
                        value);
    if (v < rules[row].least || v > rules[row].most)
        return ccc_fail(err, CCC_E_ARG, "option '%s': %lld is out of range, it may be %lld to %lld",
                        ccc_options[row].name, v, (long long)rules[row].least, (long long)rules[row].most);
    if (strcmp(ccc_options[row].name, "kv_block_size") == 0 && v != 16 && v != 32 && v != 64)
        return ccc_fail(err, CCC_E_ARG, "option 'kv_block_size': %lld is not 16, 32 or 64", v);
    *field = v;
    return CCC_OK;
}

ccc_status ccc_config_set(ccc_config *c, const char *name, const char *value, ccc_err *err)
{
    unsigned row = 0;
    while (ccc_options[row].name && !same_name(ccc_options[row].name, name)) row++;
    if (!ccc_options[row].name) return ccc_fail(err, CCC_E_ARG, "unknown option '%.100s'", name);
    void *field = (char *)c + rules[row].offset;
    switch (ccc_options[row].kind) {
    case CCC_OPT_INT:
        return set_int(field, row, value, err);
    case CCC_OPT_BOOL:
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
            return ccc_fail(err, CCC_E_ARG, "option '%s': '%.100s' is neither true nor false",
                            ccc_options[row].name, value);
        *(bool *)field = value[0] == 't';
        return CCC_OK;
    default:
        if (*rules[row].allowed && !is_allowed(rules[row].allowed, value))
            return ccc_fail(err, CCC_E_ARG, "option '%s': '%.100s' is not one of %s", ccc_options[row].name,
                            value, rules[row].allowed);
        *(const char **)field = value;
        return CCC_OK;
    }
}

char *ccc_config_text(const ccc_config *c, const ccc_option *o, ccc_arena *mem)
{
    const void *field = (const char *)c + rules[o - ccc_options].offset;
    if (o->kind == CCC_OPT_INT) return ccc_arena_printf(mem, "%lld", (long long)*(const int64_t *)field);
    if (o->kind == CCC_OPT_BOOL) return ccc_arena_strdup(mem, *(const bool *)field ? "true" : "false");
    return ccc_arena_strdup(mem, *(const char *const *)field);
}
