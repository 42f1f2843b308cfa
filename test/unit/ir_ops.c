/* Every op against numbers that make_op_numbers.py computes with numpy; then what the numbers cannot show:
 * the order of sums, updates of the cache in place, inputs that are not bound, operands out of range. */
#include "../../ir/ir.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    const float *data;
    unsigned n;
} op_input;
typedef struct {
    const char *op, *graph;
    op_input in[8];
    const double *want;
    unsigned n_want;
    double tolerance;
} op_case;
#include "op_numbers.h"

typedef struct {
    const op_input *in;
    unsigned n_in;
    void *kept[8];
} source;

/* Gives the inputs of a case in the dtype that the graph asks for; the cache as it is. */
static ccc_status fetch(void *payload, const char *name, ccc_tensor *t, ccc_err *err)
{
    source *s = payload;
    for (unsigned i = 0; i < s->n_in && s->in[i].name; i++) {
        if (strcmp(s->in[i].name, name) != 0) continue;
        bool is_cache = t->type.layout != CCC_LAYOUT_ROW;
        if (is_cache) t->size_B = s->in[i].n * sizeof(float);
        t->data = s->kept[i] = calloc(t->size_B ? t->size_B : 1, 1);
        uint64_t most = is_cache ? s->in[i].n : t->size_B / ccc_dtype_bytes(t->type.dtype, 1);
        for (unsigned k = 0; k < s->in[i].n && k < most; k++)
            ccc_store_f32(is_cache ? CCC_F32 : t->type.dtype, t->data, k, s->in[i].data[k]);
        return CCC_OK;
    }
    if (strcmp(name, "i") == 0 || strcmp(name, "e") == 0) return CCC_OK; /* left unbound */
    return ccc_fail(err, CCC_E_ARG, "no tensor '%s'", name);
}

static ccc_graph *parse(const char *text)
{
    ccc_graph *g = NULL;
    ccc_err err;
    cr_assert_eq(ccc_ir_parse(&g, text, strlen(text), "case", &err), CCC_OK, "%s", err.msg);
    return g;
}

static ccc_status eval(const char *text, source *s, bool f64, ccc_tensor *out, ccc_err *err)
{
    ccc_graph *g = parse(text);
    ccc_eval_args args = {.accumulate_f64 = f64, .fetch = fetch, .payload = s};
    for (uint32_t i = 0; i < g->n_sym; i++) args.sym_value[i] = s->in[0].n;
    ccc_status status = ccc_ir_eval(g, &args, out, err);
    ccc_graph_free(g);
    return status;
}

static void forget(source *s)
{
    for (unsigned i = 0; i < 8; i++) free(s->kept[i]);
}

static void check_case(const op_case *c, bool f64)
{
    source s = {c->in, 8, {NULL}};
    ccc_tensor out;
    ccc_err err;
    cr_assert_eq(eval(c->graph, &s, f64, &out, &err), CCC_OK, "%s: %s", c->op, err.msg);
    for (unsigned i = 0; i < c->n_want; i++) {
        double got = (double)ccc_load_f32(out.type.dtype, out.data, i),
               bound = c->tolerance * fmax(1, fabs(c->want[i]));
        cr_expect(fabs(got - c->want[i]) <= bound, "%s[%u]: %.9g, not %.9g", c->op, i, got, c->want[i]);
    }
    ccc_tensor_release(&out);
    forget(&s);
}

Test(ir_ops, numbers)
{
    for (size_t i = 0; i < sizeof op_cases / sizeof *op_cases; i++) {
        check_case(&op_cases[i], false);
        check_case(&op_cases[i], true);
    }
}

Test(ir_ops, every_op_has_numbers)
{
    for (unsigned op = 0; op < CCC_N_OPS; op++) {
        bool found = false;
        for (size_t i = 0; i < sizeof op_cases / sizeof *op_cases; i++)
            found = found || strcmp(op_cases[i].op, ccc_ops[op].name) == 0;
        cr_expect(found, "%s has no golden numbers", ccc_ops[op].name);
    }
}

/* 2^24 + 1 + 1: in f32 and in increasing k each 1 is lost; in f64 none is. */
Test(ir_ops, matmul_adds_in_the_written_order)
{
    const float x[] = {16777216.0f, 1.0f, 1.0f}, w[] = {1, 1, 1};
    const op_input in[] = {{"x", x, 3}, {"w", w, 3}};
    const char *text =
        "%x = input \"x\" : f32[1,3] %w = weight \"w\" : f32[1,3] %y = matmul %x, %w return y = %y";
    for (int f64 = 0; f64 < 2; f64++) {
        source s = {in, 2, {NULL}};
        ccc_tensor out;
        ccc_err err;
        cr_assert_eq(eval(text, &s, f64, &out, &err), CCC_OK, "%s", err.msg);
        cr_expect_eq(*(float *)out.data, f64 ? 16777218.0f : 16777216.0f);
        ccc_tensor_release(&out);
        forget(&s);
    }
}

/* One large element in lane 0, then ones: those of lane 0 come first and are lost, those of other lanes are
 * added in the tree. */
Test(ir_ops, rms_norm_adds_lanes_then_a_tree)
{
    enum { N = 4096 + 8 };
    float x[N];
    for (int i = 0; i < N; i++) x[i] = i < 8 || i >= 4096 ? 1.0f : 0.0f; /* lane 0 has 16 elements */
    x[0] = 4096.0f;                                                      /* its square is 2^24 */
    x[8] = x[9] = 1.0f;                                                  /* lane 1 */
    const op_input in[] = {{"x", x, N}};
    source s = {in, 1, {NULL}};
    ccc_tensor out;
    ccc_err err;
    cr_assert_eq(eval("%x = input \"x\" : f32[1,4104] %y = rms_norm %x {eps = 0} return y = %y", &s, false,
                      &out, &err),
                 CCC_OK, "%s", err.msg);
    float sum = 16777216.0f + 2.0f;
    cr_expect_eq(((float *)out.data)[1], 1.0f / sqrtf(sum / (float)N));
    ccc_tensor_release(&out);
    forget(&s);
}

Test(ir_ops, kv_write_updates_the_cache_in_place)
{
    const float k[] = {1, 2, 3, 4}, v[] = {5, 6, 7, 8}, slots[] = {3, -1}, cache[16] = {0};
    const op_input in[] = {{"k", k, 4}, {"v", v, 4}, {"s", slots, 2}, {"kv.7", cache, 16}};
    const char *text =
        "%c = cache {layer = 7} : bf16.hnd[1,2,2] %k = input \"k\" : bf16[2,2] %v = input \"v\" : bf16[2,2] "
        "%s = input \"s\" : i64[2] %d = kv_write %c, %k, %v, %s";
    const float want[16] = {[10] = 1, [11] = 2, [14] = 5, [15] = 6}; /* block 1: K rows 0, 1, V rows 0, 1 */
    source s = {in, 4, {NULL}};
    ccc_err err;
    cr_assert_eq(eval(text, &s, false, NULL, &err), CCC_OK, "%s", err.msg);
    cr_expect_arr_eq(s.kept[3], want, sizeof want);
    forget(&s);
}

Test(ir_ops, quantised_weights_are_read)
{
    unsigned char q8[34] = {0x00, 0x38},
                  q4[20] = {0x00, 0x34, 0x00, 0xc0}; /* scales 0.5 and 0.25, least -2 */
    q8[2] = 127, q8[33] = 0x80, q4[4] = 0xf1, q4[19] = 0x0f;
    cr_expect_eq(ccc_load_f32(CCC_Q8_0, q8, 0), 63.5f);
    cr_expect_eq(ccc_load_f32(CCC_Q8_0, q8, 1), 0.0f);
    cr_expect_eq(ccc_load_f32(CCC_Q8_0, q8, 31), -64.0f);
    cr_expect_eq(ccc_load_f32(CCC_Q4_1, q4, 0), -1.75f);
    cr_expect_eq(ccc_load_f32(CCC_Q4_1, q4, 1), -2.0f);
    cr_expect_eq(ccc_load_f32(CCC_Q4_1, q4, 15), 1.75f);
    cr_expect_eq(ccc_load_f32(CCC_Q4_1, q4, 16), 1.75f);
    cr_expect_eq(ccc_load_f32(CCC_Q4_1, q4, 31), -2.0f);
}

static void fails(const char *text, const op_input *in, unsigned n_in, const char *message)
{
    source s = {in, n_in, {NULL}};
    ccc_tensor out[4];
    ccc_err err = {0};
    cr_expect_neq(eval(text, &s, false, out, &err), CCC_OK, "should fail: %s", message);
    cr_expect_str_eq(err.msg, message);
    forget(&s);
}

Test(ir_ops, operands_out_of_range)
{
    const float x[] = {1, 2, 3, 4}, bad_row[] = {2}, bad_slot[] = {4}, cache[8] = {0}, lens[] = {3},
                starts[] = {0, 1}, blocks[] = {0};
    const op_input in[] = {{"x", x, 4},    {"r", bad_row, 1}, {"s", bad_slot, 1}, {"kv.0", cache, 8},
                           {"l", lens, 1}, {"u", starts, 2},  {"b", blocks, 1}};
    fails("%x = input \"x\" : f32[2,2] %r = input \"r\" : i32[1] %y = gather %x, %r return y = %y", in, 7,
          "gather: row 0 asks for row 2 of a table of 2");
    fails("%x = input \"x\" : f32[1,4] %t = rope_table {rotary = 2, rows = 4, theta = 10000} %p = input "
          "\"s\" : i64[1] "
          "%y = rope %x, %t, %p {head_size = 2} return y = %y",
          in, 7, "rope: position 4 of row 0 is outside the table of 4");
    fails("%c = cache {layer = 0} : f32.nhd[1,2,2] %k = input \"x\" : f32[1,2] %s = input \"s\" : i64[1] %d "
          "= kv_write %c, %k, %k, %s",
          in, 7, "kv_write: slot 4 of row 0 is outside the cache of 1 blocks");
    fails("%c = cache {layer = 0} : f32.nhd[1,2,2] %q = input \"x\" : f32[1,2] %b = input \"b\" : i32[1,1] "
          "%l = input \"l\" : i32[1] "
          "%u = input \"u\" : i32[2] %y = attention %q, %c, %b, %l, %u {scale = 1} return y = %y",
          in, 7, "attention: sequence 0 has tokens 0 to 1 of 1 and length 3 of at most 2");
    fails("sym T 1..3 %x = input \"x\" : f32[T] return y = %x", in, 7, "T is 4, outside 1..3");
    fails("%i = input \"i\" : f32[2] %y = neg %i return y = %y", in, 7, "neg: operand 1 (%i) is not bound");
    fails("%t = weight \"x\" : f32[2,2] %i = input \"i\" : i32[1] %e = input \"e\" : f32[1,2] %y = embed %t, "
          "%i, %e return y = %y",
          in, 7, "embed: neither token ids nor embeddings are bound");
    fails("%x = input \"absent\" : f32[2] return y = %x", in, 7, "no tensor 'absent'");
}
