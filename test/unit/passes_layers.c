/* A llama-like model of L layers, built through the C API: the number of kernels that a layer becomes is a
 * promise. */
#include <criterion/criterion.h>
#include "../../passes/group.h"
#include "../../passes/pass.h"

enum { HIDDEN = 32, HEADS = 4, KV = 2, SIZE = 8, FFN = 48, VOCAB = 40 };

static ccc_graph *g;
static ccc_err err;

static ccc_val add(ccc_op op, const ccc_val *in, unsigned n, const ccc_attr_arg *attr, unsigned n_attr,
                   const ccc_type *t)
{
    ccc_val v = 0;
    cr_assert_eq(ccc_graph_add(g, &v, op, in, n, attr, n_attr, t, NULL, &err), CCC_OK, "%s", err.msg);
    return v;
}

static ccc_type type(ccc_dtype d, unsigned rank, ccc_dim a, ccc_dim b)
{
    return (ccc_type){.dtype = (uint8_t)d, .rank = (uint8_t)rank, .dim = {a, b}};
}

static ccc_val named(ccc_op op, const char *name, int i, ccc_type t)
{
    char buf[64];
    snprintf(buf, sizeof buf, name, i);
    ccc_attr_arg a = {"name", {.s = buf}};
    return add(op, NULL, 0, &a, 1, &t);
}

static ccc_val op1(ccc_op op, ccc_val x)
{
    return add(op, &x, 1, NULL, 0, NULL);
}
static ccc_val op2(ccc_op op, ccc_val x, ccc_val y)
{
    return add(op, (ccc_val[]){x, y}, 2, NULL, 0, NULL);
}

static ccc_val bf16(ccc_val x)
{
    ccc_attr_arg a = {"to", {.i = CCC_BF16}};
    return add(CCC_OP_cast, &x, 1, &a, 1, NULL);
}

static ccc_val linear(ccc_val x, const char *name, int layer, int64_t n, int64_t k)
{
    return op2(CCC_OP_matmul, x,
               named(CCC_OP_weight, name, layer, type(CCC_BF16, 2, ccc_dim_const(n), ccc_dim_const(k))));
}

static ccc_val norm(ccc_val x, const char *name, int layer)
{
    ccc_attr_arg eps = {"eps", {.f = 1e-5}};
    ccc_val c = bf16(add(CCC_OP_rms_norm, &x, 1, &eps, 1, NULL));
    return bf16(
        op2(CCC_OP_mul, c,
            named(CCC_OP_weight, name, layer, type(CCC_BF16, 1, ccc_dim_const(HIDDEN), ccc_dim_const(1)))));
}

typedef struct {
    ccc_val positions, slots, blocks, lens, starts, table;
} step;

static ccc_val layer(const step *s, ccc_val x, int l)
{
    ccc_attr_arg head = {"head_size", {.i = SIZE}}, scale = {"scale", {.f = 0.3}},
                 number = {"layer", {.i = l}};
    ccc_type cache = {.dtype = CCC_BF16,
                      .rank = 3,
                      .layout = CCC_LAYOUT_CCC,
                      .dim = {ccc_dim_const(KV), ccc_dim_const(16), ccc_dim_const(SIZE)}};
    ccc_val h = norm(x, "norm.%d", l);
    ccc_val q = bf16(linear(h, "q.%d", l, HEADS * SIZE, HIDDEN)),
            k = bf16(linear(h, "k.%d", l, KV * SIZE, HIDDEN)),
            v = bf16(linear(h, "v.%d", l, KV * SIZE, HIDDEN));
    q = bf16(add(CCC_OP_rope, (ccc_val[]){q, s->table, s->positions}, 3, &head, 1, NULL));
    k = bf16(add(CCC_OP_rope, (ccc_val[]){k, s->table, s->positions}, 3, &head, 1, NULL));
    ccc_val old = add(CCC_OP_cache, NULL, 0, &number, 1, &cache);
    ccc_val new = add(CCC_OP_kv_write, (ccc_val[]){old, k, v, s->slots}, 4, NULL, 0, NULL);
    ccc_val a =
        bf16(add(CCC_OP_attention, (ccc_val[]){q, new, s->blocks, s->lens, s->starts}, 5, &scale, 1, NULL));
    x = bf16(op2(CCC_OP_add, x, bf16(linear(a, "o.%d", l, HIDDEN, HEADS * SIZE))));
    h = norm(x, "norm2.%d", l);
    ccc_val gate = bf16(linear(h, "gate.%d", l, FFN, HIDDEN)), up = bf16(linear(h, "up.%d", l, FFN, HIDDEN));
    ccc_val p = bf16(op2(CCC_OP_mul, bf16(op1(CCC_OP_silu, gate)), up));
    return bf16(op2(CCC_OP_add, x, bf16(linear(p, "down.%d", l, HIDDEN, FFN))));
}

static void model(int n_layers)
{
    cr_assert_eq(ccc_graph_new(&g, "layers", &err), CCC_OK);
    ccc_graph_add_sym(g, "T", 0, 8);
    ccc_graph_add_sym(g, "S", 0, 8);
    ccc_graph_add_sym(g, "R", 0, 8);
    ccc_graph_add_sym(g, "B", 1, 8);
    ccc_dim T = ccc_dim_sym(0), S = ccc_dim_sym(1), R = ccc_dim_sym(2), B = ccc_dim_sym(3), S1 = S,
            none = ccc_dim_const(1);
    S1.b = 1;
    ccc_attr_arg rope[3] = {{"rotary", {.i = SIZE}}, {"rows", {.i = 128}}, {"theta", {.f = 10000}}};
    step s = {.positions = named(CCC_OP_input, "positions", 0, type(CCC_I64, 1, T, none)),
              .slots = named(CCC_OP_input, "slot_mapping", 0, type(CCC_I64, 1, T, none)),
              .blocks = named(CCC_OP_input, "block_table", 0, type(CCC_I32, 2, S, B)),
              .lens = named(CCC_OP_input, "seq_lens", 0, type(CCC_I32, 1, S, none)),
              .starts = named(CCC_OP_input, "query_start_loc", 0, type(CCC_I32, 1, S1, none)),
              .table = add(CCC_OP_rope_table, NULL, 0, rope, 3, NULL)};
    ccc_val ids = named(CCC_OP_input, "token_ids", 0, type(CCC_I32, 1, T, none)),
            rows = named(CCC_OP_input, "logits_indices", 0, type(CCC_I32, 1, R, none));
    ccc_val given = named(CCC_OP_input, "inputs_embeds", 0, type(CCC_BF16, 2, T, ccc_dim_const(HIDDEN)));
    ccc_val words =
        named(CCC_OP_weight, "embed", 0, type(CCC_BF16, 2, ccc_dim_const(VOCAB), ccc_dim_const(HIDDEN)));
    ccc_val x = add(CCC_OP_embed, (ccc_val[]){words, ids, given}, 3, NULL, 0, NULL);
    for (int l = 0; l < n_layers; l++) x = layer(&s, x, l);
    ccc_val logits = op2(CCC_OP_matmul, norm(op2(CCC_OP_gather, x, rows), "norm", 0), words); /* tied */
    cr_assert_eq(ccc_graph_add_output(g, "logits", logits, &err), CCC_OK);
    cr_assert_eq(ccc_graph_add_output(g, "next_tokens", op1(CCC_OP_argmax, logits), &err), CCC_OK);
}

static void add_time(void *payload, const ccc_pass *p, const ccc_graph *graph, bool progress, double seconds)
{
    (void)p, (void)graph, (void)progress;
    *(double *)payload += seconds;
}

/* Both pipelines; the number of kernels, and the seconds spent inside passes. */
static unsigned n_kernels(int n_layers, ccc_fuse_caps caps, bool check, double *seconds)
{
    ccc_group_info *u;
    unsigned n = 0;
    ccc_arena *mem = ccc_arena_new();
    ccc_pass_report report = {.after = add_time, .payload = seconds, .check = check};
    model(n_layers);
    *seconds = 0;
    while (ccc_pipeline_clean[n]) n++;
    cr_assert_eq(ccc_pass_run(g, ccc_pipeline_clean, n, &caps, NULL, &report, &err), CCC_OK, "%s", err.msg);
    for (n = 0; ccc_pipeline_fuse[n];) n++;
    cr_assert_eq(ccc_pass_run(g, ccc_pipeline_fuse, n, &caps, NULL, &report, &err), CCC_OK, "%s", err.msg);
    cr_assert_eq(ccc_group_list(g, mem, &u, &n, &err), CCC_OK, "%s", err.msg);
    ccc_graph_free(g);
    ccc_arena_free(mem);
    return n;
}

static const ccc_fuse_caps all = {.prologue_max_T = 8, .pair_epilogue = true, .max_aux = 8, .rope_kv = true};

Test(passes_layers, a_layer_is_six_kernels_at_few_tokens)
{
    double s;
    for (int l = 1; l < 5; l++)
        cr_assert_eq(n_kernels(l, all, l == 2, &s),
                     4u + 6u * (unsigned)l); /* embed, gather, norm and head, argmax */
}

Test(passes_layers, and_five_where_each_sequence_has_one)
{
    double s;
    ccc_fuse_caps caps = all;
    caps.rope_attention = true;
    for (int l = 1; l < 5; l++) cr_assert_eq(n_kernels(l, caps, l == 2, &s), 4u + 5u * (unsigned)l);
}

/* A weight of more rows than that keeps its norm apart: gate and up of a layer have more than q, k and v. */
Test(passes_layers, and_seven_where_one_weight_is_too_long)
{
    double s;
    ccc_fuse_caps caps = all;
    caps.prologue_max_N = (HEADS + 2 * KV) * SIZE;
    for (int l = 1; l < 5; l++) cr_assert_eq(n_kernels(l, caps, l == 2, &s), 4u + 7u * (unsigned)l);
}

Test(passes_layers, and_eight_at_many)
{
    double s;
    ccc_fuse_caps caps = all;
    caps.prologue_max_T = 7;
    for (int l = 1; l < 5; l++) cr_assert_eq(n_kernels(l, caps, l == 2, &s), 5u + 8u * (unsigned)l);
}

/* 32 layers take some 2 ms; the bound leaves room for sanitizers and a busy machine, and none for anything
 * quadratic. */
Test(passes_layers, passes_are_fast)
{
    double s, s1;
    n_kernels(32, all, false, &s1);
    cr_assert_eq(n_kernels(128, all, false, &s), 4u + 6u * 128u);
    cr_assert_lt(s, 1.0, "%f s", s);
    cr_log_info("32 layers: %.1f ms, 128 layers: %.1f ms", s1 * 1e3, s * 1e3);
}
