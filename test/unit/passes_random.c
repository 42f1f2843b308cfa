/* Passes on random graphs: whatever the shape of the graph and the target's abilities, the result is
 * verified, has the same bits as before, and every group is one that a kernel can be made of, within the
 * limits given. */
#include <criterion/criterion.h>
#include "../../passes/check.h"
#include "../../passes/group.h"
#include "../../passes/pass.h"

static uint64_t state;
static unsigned pick(unsigned n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % n;
}

static ccc_graph *g;
static ccc_val pool[128];
static unsigned n_pool;

static void push(ccc_val v)
{
    if (n_pool < sizeof pool / sizeof *pool) pool[n_pool++] = v;
}

static ccc_val add(ccc_op op, const ccc_val *in, unsigned n, const ccc_attr_arg *attr, unsigned n_attr,
                   const ccc_type *t)
{
    ccc_val v = 0;
    ccc_err err;
    cr_assert_eq(ccc_graph_add(g, &v, op, in, n, attr, n_attr, t, NULL, &err), CCC_OK, "%s", err.msg);
    return v;
}

static ccc_type matrix(ccc_dtype d, ccc_dim rows, int64_t cols)
{
    return (ccc_type){.dtype = d, .rank = 2, .dim = {rows, ccc_dim_const(cols)}};
}

static ccc_val leaf(ccc_op op, ccc_type t)
{
    static unsigned count;
    char name[16];
    snprintf(name, sizeof name, "n%u", count++);
    ccc_attr_arg a = {"name", {.s = name}};
    return add(op, NULL, 0, &a, 1, &t);
}

static ccc_val cast(ccc_val v, ccc_dtype d)
{
    ccc_attr_arg a = {"to", {.i = d}};
    return add(CCC_OP_cast, &v, 1, &a, 1, NULL);
}

static const ccc_type *type(ccc_val v)
{
    return &g->value[v].type;
}

static ccc_val weight(int64_t rows, int64_t cols)
{
    return leaf(CCC_OP_weight, matrix(CCC_BF16, ccc_dim_const(rows), cols));
}

static ccc_val bf16(ccc_val v)
{
    return type(v)->dtype == CCC_BF16 ? v : cast(v, CCC_BF16);
}

static ccc_val random_operand(ccc_val beside)
{
    int64_t cols = ccc_type_last(type(beside));
    ccc_attr_arg value = {"value", {.f = pick(3) ? 0.5 : 1.0}};
    for (unsigned tries = 0; tries < 8; tries++) {
        ccc_val v = pool[pick(n_pool)];
        if (type(v)->rank == 2 && ccc_type_last(type(v)) == cols) return v;
    }
    switch (pick(3)) {
    case 0:
        return add(CCC_OP_constant, NULL, 0, &value, 1, &(ccc_type){.dtype = CCC_F32});
    case 1:
        return leaf(CCC_OP_weight, (ccc_type){.dtype = CCC_BF16, .rank = 1, .dim = {ccc_dim_const(cols)}});
    default:
        return leaf(CCC_OP_input, matrix(CCC_F32, ccc_dim_sym(0), 1));
    }
}

static void random_node(void)
{
    static const ccc_op unary[] = {CCC_OP_neg, CCC_OP_silu, CCC_OP_tanh, CCC_OP_relu, CCC_OP_sigmoid};
    static const ccc_op binary[] = {CCC_OP_add, CCC_OP_sub, CCC_OP_mul, CCC_OP_maximum};
    ccc_val v = pool[pick(3) ? n_pool - 1 - pick(n_pool < 4 ? n_pool : 4) : pick(n_pool)], in[2] = {v, 0};
    int64_t cols = ccc_type_last(type(v));
    ccc_attr_arg eps = {"eps", {.f = 1e-5}}, half[2] = {{"start", {.i = 0}}, {"size", {.i = cols / 2}}};
    switch (pick(8)) {
    case 0:
        push(add(unary[pick(5)], in, 1, NULL, 0, NULL));
        break;
    case 1:
    case 2:
        in[1] = random_operand(v);
        if (pick(2)) in[0] = in[1], in[1] = v;
        push(add(binary[pick(4)], in, 2, NULL, 0, NULL));
        break;
    case 3:
        push(cast(v, pick(3) ? CCC_BF16 : CCC_F32));
        break;
    case 4:
        push(bf16(add(CCC_OP_rms_norm, in, 1, &eps, 1, NULL)));
        break;
    case 5:
        in[0] = bf16(v);
        for (unsigned k = 1 + pick(3); k; k--) {
            in[1] = weight(pick(2) ? 8 : 16, cols);
            ccc_val y = add(CCC_OP_matmul, in, 2, NULL, 0, NULL);
            push(pick(4) ? bf16(y) : y);
        }
        break;
    default: /* a pair, as merge_siblings leaves it */
        if (cols % 2 || cols < 8) break;
        in[0] = add(CCC_OP_slice, &v, 1, half, 2, NULL);
        half[0].v.i = cols / 2;
        in[1] = add(CCC_OP_slice, &v, 1, half, 2, NULL);
        if (pick(2)) in[0] = add(CCC_OP_silu, in, 1, NULL, 0, NULL);
        push(add(CCC_OP_mul, in, 2, NULL, 0, NULL));
    }
}

static void random_graph(uint64_t seed)
{
    ccc_err err;
    state = seed * 977 + 5;
    cr_assert_eq(ccc_graph_new(&g, "random", &err), CCC_OK);
    cr_assert_eq(ccc_graph_add_sym(g, "T", 0, 8), 0);
    n_pool = 0;
    push(leaf(CCC_OP_input, matrix(CCC_BF16, ccc_dim_sym(0), 16)));
    push(leaf(CCC_OP_input, matrix(CCC_F32, ccc_dim_sym(0), 8)));
    for (unsigned n = 4 + pick(28); n; n--) random_node();
    for (unsigned i = 0; i < 3; i++) {
        char name[8];
        snprintf(name, sizeof name, "y%u", i);
        cr_assert_eq(ccc_graph_add_output(g, name, pool[n_pool - 1 - pick(n_pool < 4 ? n_pool : 4)], &err),
                     CCC_OK);
    }
}

static bool is_weight(ccc_val v)
{
    bool is;
    return ccc_is_weight_value(&is, g, v, NULL) == CCC_OK && is;
}

/* Every node that runs is in exactly one unit, behind everything it reads, and every unit keeps to the
 * limits. */
static void check_units(const ccc_fuse_caps *caps)
{
    ccc_err err;
    ccc_arena *mem = ccc_arena_new();
    ccc_group_info *u;
    unsigned n;
    cr_assert_eq(ccc_group_list(g, mem, &u, &n, &err), CCC_OK, "%s", err.msg);
    bool *done = ccc_arena_alloc(mem, g->n_nodes);
    for (ccc_nid i = 1; i < g->n_nodes; i++)
        done[i] = (ccc_ops[g->node[i].op].flags & CCC_LEAF) || is_weight(g->node[i].out[0]);
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < u[i].n_reads; k++)
            cr_assert(done[g->value[ccc_view_base(g, u[i].read[k], NULL)].def]);
        for (unsigned k = 0; k < u[i].n; k++) {
            cr_assert_not(done[u[i].node[k]]);
            done[u[i].node[k]] = true;
        }
        cr_assert_geq(u[i].n_results, 1);
        if (u[i].group) cr_assert_leq((int)u[i].n_aux, caps->max_aux);
        if (u[i].pair) cr_assert(caps->pair_epilogue);
        if (!u[i].norm || u[i].norm == u[i].anchor) continue;
        cr_assert_geq(caps->prologue_max_T, 8);
        if (caps->prologue_max_N)
            cr_assert_leq(ccc_dim_max(g, g->value[g->node[u[i].anchor].in[1]].type.dim[0]),
                          caps->prologue_max_N);
    }
    for (ccc_nid i = 1; i < g->n_nodes; i++) cr_assert(done[i] || (ccc_ops[g->node[i].op].flags & CCC_VIEW));
    ccc_arena_free(mem);
}

static void run_pipeline(const char *const *pipeline, const ccc_fuse_caps *caps)
{
    ccc_err err;
    unsigned n = 0;
    while (pipeline[n]) n++;
    ccc_pass_report report = {.check = true};
    ccc_buf explain = {0};
    cr_assert_eq(ccc_pass_run(g, pipeline, n, caps, &explain, &report, &err), CCC_OK, "%s", err.msg);
    cr_assert_not(explain.failed);
    ccc_buf_free(&explain);
}

Test(passes_random, same_bits_and_legal_groups)
{
    unsigned n_groups = 0, n_pairs = 0, n_second = 0;
    for (uint64_t seed = 0; seed < 400; seed++) {
        random_graph(seed);
        ccc_fuse_caps caps = {.prologue_max_T = pick(2) ? 8 : 7,
                              .prologue_max_N = pick(3) ? 0 : 16,
                              .pair_epilogue = pick(4) != 0,
                              .max_aux = pick(3) ? 8 : (int)pick(4),
                              .rope_kv = true};
        run_pipeline(ccc_pipeline_clean, &caps);
        run_pipeline(ccc_pipeline_fuse, &caps);
        check_units(&caps);
        n_groups += g->n_groups - 1;
        for (ccc_nid i = 1; i < g->n_nodes; i++) n_pairs += g->node[i].op == CCC_OP_slice && g->node[i].group;
        uint64_t before = ccc_graph_hash(g);
        run_pipeline(ccc_pipeline_fuse, &caps); /* again: everything is grouped that can be */
        check_units(&caps);
        n_second += ccc_graph_hash(g) != before;
        ccc_graph_free(g);
    }
    cr_assert_gt(n_groups, 800);
    cr_assert_gt(n_pairs, 40);
    cr_assert_eq(n_second, 0);
}
