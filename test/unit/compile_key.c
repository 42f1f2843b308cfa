/* The key of an artifact: every option that is said to enter it, every version, the graph and each of its attributes give another key;
 * options that only say how to work do not. */
#include <criterion/criterion.h>
#include <string.h>
#include "../../compiler/pack.h"

static const char model[] = "graph \"g\"\n"
                            "  sym T 1..64\n"
                            "  %x = input {name = \"x\"} : bf16[T,64]\n"
                            "  %n = rms_norm %x {eps = 1e-05} : f32[T,64]\n"
                            "  return y = %n\n"
                            "";
static const char *const versions[] = { "19.1.7", "13.0.88", "0123" };

static ccc_graph *parse(const char *text)
{
    ccc_graph *g = NULL;
    ccc_err e = { 0 };
    cr_assert(ccc_ir_parse(&g, text, strlen(text), "key.ir", &e) == CCC_OK, "%s", e.msg);
    return g;
}

static ccc_key key_with(const ccc_graph *g, const ccc_config *c, const char *const v[3], const ccc_buf *schedule)
{
    ccc_factors f = { 0 };
    ccc_err e = { 0 };
    cr_assert(ccc_artifact_factors(&f, g, c, v, schedule, &e) == CCC_OK, "%s", e.msg);
    ccc_key k = ccc_factors_key(&f);
    ccc_factors_free(&f);
    return k;
}

static ccc_key key_of(const ccc_graph *g, const ccc_config *c, const char *const v[3]) { return key_with(g, c, v, &(ccc_buf){ 0 }); }

static bool same(ccc_key a, ccc_key b) { return !memcmp(a.b, b.b, sizeof a.b); }

/* Another value that the option accepts. */
static const char *other_value(const ccc_option *o)
{
    static const struct { const char *name, *value; } given[] = { { "target", "sm_90a" }, { "sizes", "1,2" }, { "outputs", "hidden" }, { "kv_block_size", "32" },
                                                                  { "kv_layout", "nhd" }, { "disable_passes", "cse" }, { "opt_level", "0" },
                                                                  { "quantize", "fp8-static" }, { "kv_cache_dtype", "fp8" } };
    for (unsigned i = 0; i < sizeof given / sizeof *given; i++)
        if (!strcmp(o->name, given[i].name)) return given[i].value;
    if (o->kind == CCC_OPT_BOOL) return strcmp(o->dflt, "true") ? "true" : "false";
    return o->kind == CCC_OPT_INT ? "7" : "/somewhere";
}

Test(compile_key, every_option)
{
    ccc_graph *g = parse(model);
    ccc_config base;
    ccc_config_init(&base);
    ccc_key k = key_of(g, &base, versions);
    cr_assert(same(k, key_of(g, &base, versions)));
    for (const ccc_option *o = ccc_options; o->name; o++) {
        ccc_config c;
        ccc_err e = { 0 };
        ccc_config_init(&c);
        cr_assert(ccc_config_set(&c, o->name, other_value(o), &e) == CCC_OK, "%s: %s", o->name, e.msg);
        cr_assert(same(k, key_of(g, &c, versions)) == !o->in_key, "option %s", o->name);
    }
    ccc_graph_free(g);
}

Test(compile_key, every_version)
{
    ccc_graph *g = parse(model);
    ccc_config c;
    ccc_config_init(&c);
    ccc_key k = key_of(g, &c, versions);
    for (unsigned i = 0; i < 3; i++) {
        const char *v[3] = { versions[0], versions[1], versions[2] };
        v[i] = "another";
        cr_assert(!same(k, key_of(g, &c, v)), "version %u", i);
    }
    ccc_graph_free(g);
}

Test(compile_key, the_schedule)
{
    ccc_graph *g = parse(model);
    ccc_config c;
    ccc_config_init(&c);
    ccc_key k = key_of(g, &c, versions), other = key_with(g, &c, versions, &(ccc_buf){ "target sm_90a\n", 14, 15, false });
    cr_assert(!same(k, other));
    ccc_graph_free(g);
}

Test(compile_key, the_graph)
{
    static const char *const change[][2] = { { "1e-05", "1e-06" }, { "1..64", "1..65" }, { "\"x\"", "\"u\"" }, { "return y", "return z" } };
    ccc_graph *g = parse(model);
    ccc_config c;
    ccc_config_init(&c);
    ccc_key k = key_of(g, &c, versions);
    for (unsigned i = 0; i < sizeof change / sizeof *change; i++) {
        const char *at = strstr(model, change[i][0]);
        char text[1024];
        cr_assert(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - model), model, change[i][1], at + strlen(change[i][0]));
        ccc_graph *h = parse(text);
        cr_assert(!same(k, key_of(h, &c, versions)), "%s -> %s", change[i][0], change[i][1]);
        ccc_graph_free(h);
    }
    ccc_graph_free(g);
}
