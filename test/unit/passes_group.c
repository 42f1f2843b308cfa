/* The runner's and the group description's interfaces. What groups look like is pinned by golden tests (ccc
 * opt --groups). */
#include <criterion/criterion.h>
#include <string.h>
#include "../../passes/group.h"
#include "../../passes/pass.h"

static const char text[] = "graph \"g\"\n"
                           "sym T 1..8\n"
                           "group 1 \"p\"\n"
                           "%x = input \"x\" : bf16[T,32]\n"
                           "%r = input \"r\" : bf16[T,32]\n"
                           "%half = constant {value = 0.5} : f32[]\n"
                           "%a = slice %x {start = 4, size = 24} : bf16[T,24]\n"
                           "%b = slice %a {start = 8, size = 16} : bf16[T,16]\n"
                           "%w = weight \"w\" : bf16[32,16]\n"
                           "%v = weight \"v\" : f32[32]\n"
                           "%m = matmul %b, %w : f32[T,32] @1\n"
                           "%mv = mul %m, %v : f32[T,32] @1\n"
                           "%mh = mul %mv, %half : f32[T,32] @1\n"
                           "%s = add %mh, %r : f32[T,32] @1\n"
                           "%y = cast %s {to = bf16} : bf16[T,32] @1\n"
                           "return y = %y\n";

static ccc_graph *read_text(const char *s)
{
    ccc_graph *g = NULL;
    ccc_err err;
    cr_assert_eq(ccc_ir_parse(&g, s, strlen(s), "text", &err), CCC_OK, "%s", err.msg);
    return g;
}

static ccc_val value(const ccc_graph *g, const char *name)
{
    for (ccc_val v = 1; v < g->n_values; v++)
        if (g->value[v].name && !strcmp(g->value[v].name, name)) return v;
    cr_assert_fail("no value %s", name);
    return 0;
}

Test(passes_group, parts_reads_results_aux)
{
    ccc_graph *g = read_text(text);
    ccc_arena *mem = ccc_arena_new();
    ccc_group_info u, same;
    ccc_err err;
    cr_assert_eq(ccc_group_describe(g, 1, mem, &u, &err), CCC_OK, "%s", err.msg);
    cr_assert_eq(ccc_node_describe(g, g->value[value(g, "mh")].def, mem, &same, &err), CCC_OK);
    cr_assert_eq(same.anchor, u.anchor);
    cr_assert_eq(g->node[u.anchor].op, CCC_OP_matmul);
    cr_assert_eq(u.n, 5);
    cr_assert_eq(u.norm, 0);
    cr_assert_not(u.pair);
    cr_assert_eq(u.x, value(g, "b"));
    const ccc_part *e = &u.part[CCC_PART_EPILOGUE];
    cr_assert_eq(e->n, 4);
    cr_assert_eq(e->n_args, 1);
    cr_assert_eq(e->arg[0], value(g, "m"));
    cr_assert_eq(e->result, value(g, "y"));
    cr_assert_eq(u.n_reads, 4); /* b, w, v, r: the constant is an immediate */
    cr_assert_eq(u.n_results, 1);
    cr_assert_eq(u.n_aux, 2);
    cr_assert_eq(ccc_group_aux(g, &u, CCC_PART_EPILOGUE, value(g, "v"), false), 0);
    cr_assert_eq(u.aux[0].at, CCC_AUX_COL);
    cr_assert_eq(ccc_group_aux(g, &u, CCC_PART_EPILOGUE, value(g, "r"), false), 1);
    cr_assert_eq(u.aux[1].at, CCC_AUX_ROWCOL);
    cr_assert_eq(ccc_group_aux(g, &u, CCC_PART_EPILOGUE, value(g, "r"), true), -1);
    cr_assert_eq(ccc_group_aux(g, &u, CCC_PART_EPILOGUE, value(g, "b"), false), -1);
    ccc_arena_free(mem);
    ccc_graph_free(g);
}

Test(passes_group, views_have_a_base_and_no_kernel)
{
    ccc_graph *g = read_text(text);
    ccc_arena *mem = ccc_arena_new();
    ccc_group_info u;
    ccc_err err;
    int64_t col;
    cr_assert_eq(ccc_view_base(g, value(g, "b"), &col), value(g, "x"));
    cr_assert_eq(col, 12);
    cr_assert_eq(ccc_view_base(g, value(g, "y"), &col), value(g, "y"));
    cr_assert_eq(col, 0);
    cr_assert_eq(ccc_node_describe(g, g->value[value(g, "b")].def, mem, &u, &err), CCC_E_ARG);
    cr_assert_eq(ccc_node_describe(g, g->n_nodes, mem, &u, &err), CCC_E_ARG);
    cr_assert_eq(ccc_node_describe(g, g->value[value(g, "w")].def, mem, &u, &err), CCC_E_ARG);
    cr_assert_eq(ccc_group_describe(g, 2, mem, &u, &err), CCC_E_ARG);
    cr_assert_eq(ccc_group_describe(g, 0, mem, &u, &err), CCC_E_ARG);
    ccc_arena_free(mem);
    ccc_graph_free(g);
}

/* An older version of a cache is read before it is overwritten, wherever the nodes stand in the file. */
Test(passes_group, readers_of_an_old_cache_come_first)
{
    ccc_graph *g = read_text(
        "graph \"g\"\nsym T 1..8\nsym S 1..2\nsym B 1..4\n"
        "%q = input \"q\" : bf16[T,8]\n%blocks = input \"b\" : i32[S,B]\n%lens = input \"l\" : i32[S]\n"
        "%starts = input \"s\" : i32[S+1]\n%slots = input \"m\" : i64[T]\n"
        "%old = cache {layer = 0} : bf16.nhd[1,16,8]\n"
        "%a = attention %q, %old, %blocks, %lens, %starts {scale = 1} : f32[T,8]\n"
        "%new = kv_write %old, %q, %q, %slots : bf16.nhd[1,16,8]\n"
        "%b = attention %q, %new, %blocks, %lens, %starts {scale = 1} : f32[T,8]\n"
        "return a = %a, b = %b\n");
    ccc_arena *mem = ccc_arena_new();
    ccc_group_info *u;
    ccc_err err;
    unsigned n;
    cr_assert_eq(ccc_group_list(g, mem, &u, &n, &err), CCC_OK, "%s", err.msg);
    cr_assert_eq(n, 3);
    cr_assert_eq(u[0].result[0], value(g, "a"));
    cr_assert_eq(u[1].result[0], value(g, "new"));
    cr_assert_eq(u[2].result[0], value(g, "b"));
    ccc_arena_free(mem);
    ccc_graph_free(g);
}

typedef struct {
    unsigned n, changed;
} counts;
static void count(void *payload, const ccc_pass *p, const ccc_graph *g, bool progress, double seconds)
{
    counts *c = payload;
    cr_assert_not_null(p->name);
    cr_assert_gt(g->n_nodes, 1);
    cr_assert_geq(seconds, 0);
    c->n++;
    c->changed += progress;
}

Test(passes_run, reports_every_pass_and_refuses_unknown_ones)
{
    ccc_graph *g = read_text("graph \"g\"\n%x = input \"x\" : f32[4]\n%d = silu %x : f32[4]\n%c = cast %x "
                             "{to = f32} : f32[4]\n%y = exp %c : f32[4]\nreturn y = %y\n");
    ccc_err err;
    counts c = {0, 0};
    ccc_pass_report report = {.after = count, .payload = &c, .check = true};
    cr_assert_eq(ccc_pass_run(g, (const char *const[]){"noop", "dce", "dce"}, 3, NULL, NULL, &report, &err),
                 CCC_OK, "%s", err.msg);
    cr_assert_eq(c.n, 3);
    cr_assert_eq(c.changed, 2);
    cr_assert_eq(g->n_nodes, 3);
    cr_assert_eq(ccc_pass_run(g, (const char *const[]){"nope"}, 1, NULL, NULL, NULL, &err), CCC_E_ARG);
    cr_assert_not_null(strstr(err.msg, "'nope'"));
    ccc_graph_free(g);
}

/* A pass that leaves something broken is named: here the graph was broken before. */
Test(passes_run, verifies_after_each_pass)
{
    ccc_graph *g = read_text(text);
    ccc_err err;
    g->value[value(g, "y")].type.dtype = CCC_F32; /* not what the cast yields */
    cr_assert_eq(ccc_pass_run(g, (const char *const[]){"dce"}, 1, NULL, NULL, NULL, &err), CCC_E_TYPE);
    cr_assert_eq(strncmp(err.msg, "after dce: ", 11), 0, "%s", err.msg);
    ccc_graph_free(g);
}

Test(passes_run, every_pass_is_in_a_pipeline_and_known)
{
    for (const ccc_pass *p = ccc_passes; p->name; p++) {
        bool used = false;
        for (const char *const *n = ccc_pipeline_clean; *n; n++) used = used || !strcmp(*n, p->name);
        for (const char *const *n = ccc_pipeline_fuse; *n; n++) used = used || !strcmp(*n, p->name);
        cr_assert(used, "%s", p->name);
        cr_assert_eq(ccc_pass_find(p->name), p);
        cr_assert_gt(strlen(p->help), 10);
    }
    cr_assert_null(ccc_pass_find("none"));
}
