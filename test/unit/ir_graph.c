/* Building, cloning, replacing and compacting graphs; questions about dims, types and weights; the hash;
 * large graphs. */
#include "../../ir/ir.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static ccc_graph *parse(const char *text)
{
    ccc_graph *g = NULL;
    ccc_err err;
    cr_assert_eq(ccc_ir_parse(&g, text, strlen(text), "test", &err), CCC_OK, "%s", err.msg);
    return g;
}

static char *print(const ccc_graph *g)
{
    ccc_buf b = {0};
    cr_assert_eq(ccc_ir_print(g, &b), CCC_OK);
    return b.data;
}

static void expect_print(const ccc_graph *g, const char *want)
{
    char *got = print(g);
    cr_expect_str_eq(got, want);
    free(got);
}

static ccc_val find(const ccc_graph *g, const char *name)
{
    for (ccc_val v = 1; v < g->n_values; v++)
        if (g->value[v].name && strcmp(g->value[v].name, name) == 0) return v;
    cr_assert(false, "no value %s", name);
    return 0;
}

static bool is_weight(const ccc_graph *g, ccc_val v)
{
    bool is;
    return ccc_is_weight_value(&is, g, v, NULL) == CCC_OK && is;
}

static const char *const mlp =
    "sym T 1..8 group 1 \"p\" %x = input \"x\" : bf16[T,64] %w = weight \"w\" : bf16[32,64] "
    "%h = matmul %x, %w @1 %a = silu %h @1 %b = cast %a {to = bf16} return y = %b, z = %h";

Test(ir_graph, built_by_hand)
{
    ccc_graph *g;
    ccc_err err;
    ccc_val x, w, y;
    cr_assert_eq(ccc_graph_new(&g, "hand", &err), CCC_OK);
    int t = ccc_graph_add_sym(g, "T", 1, 8);
    cr_expect_eq(ccc_graph_add_sym(g, "T", 1, 9), t);
    cr_expect_eq(ccc_graph_add_sym(g, "not a word", 1, 9), -1);
    ccc_type rows = {.dtype = CCC_BF16, .rank = 2, .dim = {ccc_dim_sym(t), ccc_dim_const(64)}};
    ccc_type weights = {.dtype = CCC_BF16, .rank = 2, .dim = {ccc_dim_const(32), ccc_dim_const(64)}};
    ccc_attr_arg x_name = {"name", {.s = "x"}}, w_name = {"name", {.s = "w"}};
    cr_assert_eq(ccc_graph_add(g, &x, CCC_OP_input, NULL, 0, &x_name, 1, &rows, "x", &err), CCC_OK, "%s",
                 err.msg);
    cr_assert_eq(ccc_graph_add(g, &w, CCC_OP_weight, NULL, 0, &w_name, 1, &weights, NULL, &err), CCC_OK, "%s",
                 err.msg);
    cr_assert_eq(ccc_graph_add(g, &y, CCC_OP_matmul, (ccc_val[]){x, w}, 2, NULL, 0, NULL, NULL, &err), CCC_OK,
                 "%s", err.msg);
    cr_assert_eq(ccc_graph_add_output(g, "y", y, &err), CCC_OK);
    cr_expect_eq(ccc_def(g, w)->op, CCC_OP_weight);
    cr_expect_str_eq(ccc_attr_str(ccc_def(g, w), "name"), "w");
    cr_expect_eq(ccc_attr_float(ccc_def(g, w), "init_std"), 0.02);
    expect_print(
        g, "graph \"hand\"\nsym T 1..8\n\n%x = input \"x\" : bf16[T,64]\n%2 = weight \"w\" : bf16[32,64]\n"
           "%3 = matmul %x, %2 : f32[T,32]\n\nreturn y = %3\n");
    cr_expect_eq(ccc_graph_add(g, NULL, CCC_OP_matmul, (ccc_val[]){x, y}, 2, NULL, 0, NULL, NULL, &err),
                 CCC_E_TYPE);
    cr_expect_str_eq(
        err.msg,
        "matmul: operands 1 (%x is bf16[T,64]) and 2 (%3 is f32[T,32]) do not fit: the last dims differ");
    cr_expect_eq(ccc_graph_add(g, NULL, CCC_OP_rms_norm, &x, 1, NULL, 0, NULL, NULL, &err), CCC_E_TYPE);
    cr_expect_str_eq(err.msg, "rms_norm: attribute 'eps' is missing");
    cr_expect_eq(ccc_graph_add(g, NULL, CCC_OP_neg, (ccc_val[]){99}, 1, NULL, 0, NULL, NULL, &err),
                 CCC_E_TYPE);
    cr_expect_str_eq(err.msg, "neg: operand 1 names no value");
    cr_expect_eq(ccc_graph_add(g, NULL, CCC_OP_input, NULL, 0, &x_name, 1, NULL, NULL, &err), CCC_E_TYPE);
    cr_expect_str_eq(err.msg, "input: needs a type");
    cr_expect_eq(g->n_nodes, 4, "what failed has left no node");
    ccc_graph_free(g);
    ccc_graph_free(NULL);
}

Test(ir_graph, a_clone_is_equal_and_apart)
{
    ccc_graph *g = parse(mlp), *c;
    ccc_err err;
    char *before = print(g);
    cr_assert_eq(ccc_graph_clone(&c, g, &err), CCC_OK);
    cr_expect_eq(ccc_graph_hash(c), ccc_graph_hash(g));
    ccc_graph_free(g);
    expect_print(c, before);
    ccc_val out;
    cr_expect_eq(ccc_graph_add(c, &out, CCC_OP_neg, &c->out[0].val, 1, NULL, 0, NULL, NULL, &err), CCC_OK);
    cr_expect_eq(ccc_graph_add_output(c, "n", out, &err), CCC_OK);
    cr_expect_eq(ccc_graph_set_fact(c, "k", "v", &err), CCC_OK);
    cr_expect_neq(ccc_graph_add_group(c, "q"), 0);
    free(before);
    ccc_graph_free(c);
}

Test(ir_graph, uses_counts_operands_and_outputs)
{
    ccc_graph *g = parse(mlp);
    ccc_arena *mem = ccc_arena_new();
    uint32_t *uses = ccc_graph_uses(g, mem);
    cr_expect_eq(uses[find(g, "x")], 1);
    cr_expect_eq(uses[find(g, "h")], 2);
    cr_expect_eq(uses[find(g, "b")], 1);
    ccc_arena_free(mem);
    ccc_graph_free(g);
}

/* A pass adds a node at the end, redirects users to it, and drops the old one: compaction puts it where it
 * belongs. */
Test(ir_graph, compact_moves_and_drops)
{
    ccc_graph *g = parse(mlp);
    ccc_err err;
    ccc_val h = find(g, "h"), a = find(g, "a"), r;
    cr_assert_eq(ccc_graph_add(g, &r, CCC_OP_relu, &h, 1, NULL, 0, NULL, "r", &err), CCC_OK);
    ccc_graph_replace(g, a, r);
    bool dead[16] = {false};
    dead[g->value[a].def] = true;
    cr_expect_neq(ccc_ir_verify(g, &err), CCC_OK);
    cr_assert_eq(ccc_graph_compact(g, dead, &err), CCC_OK, "%s", err.msg);
    cr_assert_eq(ccc_ir_verify(g, &err), CCC_OK, "%s", err.msg);
    expect_print(g, "graph \"\"\nsym T 1..8\ngroup 1 \"p\"\n\n%x = input \"x\" : bf16[T,64]\n%w = weight "
                    "\"w\" : bf16[32,64]\n"
                    "%h = matmul %x, %w : f32[T,32] @1\n%r = relu %h : f32[T,32]\n%b = cast %r {to = bf16} : "
                    "bf16[T,32]\n\n"
                    "return y = %b, z = %h\n");
    ccc_graph_free(g);
}

Test(ir_graph, compact_drops_empty_groups_and_refuses_holes)
{
    ccc_graph *g = parse(
        "group 1 \"p\" group 2 \"q\" %x = input \"x\" : f32[4] %a = neg %x @1 %b = neg %x @2 return y = %b");
    ccc_err err;
    bool dead[4] = {false, false, true, false}, hole[4] = {false, true, false, false},
         out[4] = {false, false, false, true};
    cr_expect_neq(ccc_graph_compact(g, hole, &err), CCC_OK);
    cr_expect_str_eq(err.msg, "neg: operand 1 (%x) is made by a dropped node");
    cr_expect_neq(ccc_graph_compact(g, out, &err), CCC_OK);
    cr_expect_str_eq(err.msg, "output 'y' is made by a dropped node");
    cr_assert_eq(ccc_graph_compact(g, dead, &err), CCC_OK, "%s", err.msg);
    expect_print(
        g,
        "graph \"\"\ngroup 1 \"q\"\n\n%x = input \"x\" : f32[4]\n%b = neg %x : f32[4] @1\n\nreturn y = %b\n");
    ccc_val b = find(g, "b");
    g->node[g->value[b].def].in[0] = b;
    cr_expect_neq(ccc_graph_compact(g, NULL, &err), CCC_OK);
    cr_expect_str_eq(err.msg, "neg: operand 1 (%b) depends on the node itself: a cycle");
    ccc_graph_free(g);
}

Test(ir_graph, hash_sees_meaning_and_not_names)
{
    static const char *const variants[] = {
        "%x = input \"x\" : f32[4] %a = neg %x %b = exp %a return y = %b",
        "%x = input \"z\" : f32[4] %a = neg %x %b = exp %a return y = %b",
        "%x = input \"x\" : f32[5] %a = neg %x %b = exp %a return y = %b",
        "%x = input \"x\" : f32[4] %a = exp %x %b = neg %a return y = %b",
        "%x = input \"x\" : f32[4] %a = neg %x %b = exp %x return y = %b",
        "%x = input \"x\" : f32[4] %a = neg %x %b = exp %a return y = %a",
        "%x = input \"x\" : f32[4] %a = neg %x %b = exp %a return z = %b",
        "group 1 \"p\" %x = input \"x\" : f32[4] %a = neg %x @1 %b = exp %a return y = %b",
        "fact k = \"v\" %x = input \"x\" : f32[4] %a = neg %x %b = exp %a return y = %b",
        "sym T 1..2 %x = input \"x\" : f32[4] %a = neg %x %b = exp %a return y = %b",
    };
    enum { N = sizeof variants / sizeof *variants };
    uint64_t hash[N];
    for (unsigned i = 0; i < N; i++) {
        ccc_graph *g = parse(variants[i]);
        hash[i] = ccc_graph_hash(g);
        ccc_graph_free(g);
        for (unsigned j = 0; j < i; j++) cr_expect_neq(hash[i], hash[j], "%u and %u", i, j);
    }
    ccc_graph *g = parse("%1 = input \"x\" : f32[4] %other = neg %1 %7 = exp %other return y = %7");
    cr_expect_eq(ccc_graph_hash(g), hash[0]);
    ccc_graph_free(g);
}

Test(ir_graph, dims_and_weights)
{
    ccc_graph *g = parse("sym T 1..100 %x = input \"x\" : f32[2*T+1,ceildiv(T,16),roundup(2*T-1,8),7] %w = "
                         "weight \"w\" : q8_0[64,32] "
                         "%c = cast %w {to = bf16} %u = unpermute %c {head_size = 4} %j = concat %u, %c %m = "
                         "neg %j %k = constant {value = 1} return y = %x");
    const ccc_type *t = &g->value[find(g, "x")].type;
    const int64_t at[CCC_MAX_SYM] = {17};
    cr_expect_eq(ccc_dim_eval(g, t->dim[0], at), 35);
    cr_expect_eq(ccc_dim_eval(g, t->dim[1], at), 2);
    cr_expect_eq(ccc_dim_eval(g, t->dim[2], at), 40);
    cr_expect_eq(ccc_dim_max(g, t->dim[2]), 200);
    cr_expect_eq(ccc_type_last(t), 7);
    cr_expect(is_weight(g, find(g, "w")) && is_weight(g, find(g, "j")) &&
              is_weight(g, find(g, "k")));
    cr_expect(!is_weight(g, find(g, "x")) && !is_weight(g, find(g, "m")));
    ccc_graph_free(g);
}

Test(ir_graph, weights_joined_with_themselves_are_one_walk)
{
    ccc_buf b = {0};
    ccc_buf_printf(&b, "%%0 = weight \"w\" : f32[1]");
    for (int i = 1; i < 30; i++) ccc_buf_printf(&b, " %%%d = concat %%%d, %%%d", i, i - 1, i - 1);
    ccc_graph *g = parse(b.data);
    cr_expect(is_weight(g, 30));
    ccc_graph_free(g);
    ccc_buf_free(&b);
}

/* Everything that passes do for each step is about linear in the graph: 30000 nodes take well under a second.
 */
Test(ir_graph, large_graphs_are_no_trouble)
{
    ccc_graph *g =
        parse("sym T 1..8 %x = input \"x\" : bf16[T,64] %w = weight \"w\" : bf16[64,64] return y = %x");
    ccc_val v = 1;
    ccc_err err;
    clock_t begin = clock();
    for (int i = 0; i < 10000; i++) {
        cr_assert_eq(ccc_graph_add(g, &v, CCC_OP_matmul, (ccc_val[]){v, 2}, 2, NULL, 0, NULL, NULL, &err),
                     CCC_OK, "%s", err.msg);
        cr_assert_eq(ccc_graph_add(g, &v, CCC_OP_silu, &v, 1, NULL, 0, NULL, NULL, &err), CCC_OK);
        uint32_t group = ccc_graph_add_group(g, "p");
        g->node[g->n_nodes - 1].group = g->node[g->n_nodes - 2].group = group;
    }
    ccc_graph_replace(g, 1, 1);
    cr_assert_eq(ccc_graph_add_output(g, "z", v, &err), CCC_OK);
    cr_assert_eq(ccc_graph_compact(g, NULL, &err), CCC_OK);
    cr_assert_eq(ccc_ir_verify(g, &err), CCC_OK, "%s", err.msg);
    char *text = print(g);
    ccc_graph *again = parse(text);
    expect_print(again, text);
    cr_expect_lt((double)(clock() - begin) / CLOCKS_PER_SEC, 5.0);
    free(text);
    ccc_graph_free(again);
    ccc_graph_free(g);
}
