/* Text and JSON forms: round trips of random graphs through both, numbers that read back exactly in any
 * locale, and garbage. */
#include "../../ir/ir.h"
#include "../../ir/internal.h"
#include <criterion/criterion.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state;
static uint32_t draw(uint32_t n) /* 0 .. n-1 */
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % n;
}

/* A graph of elementwise ops, norms, matmuls and casts over [T,32] matrices, with names of all kinds and
 * groups of two. */
static ccc_graph *random_graph(uint64_t seed)
{
    static const char *const names[] = {NULL, NULL,         "h",        "a.b", "layer 3",
                                        "7",  "\"quoted\\", "\xc3\xa4", "",    "x"};
    static const ccc_dtype floats[] = {CCC_F32, CCC_BF16, CCC_F16, CCC_E4M3};
    ccc_graph *g;
    ccc_err err;
    state = seed;
    cr_assert_eq(ccc_graph_new(&g, draw(2) ? "random" : "", &err), CCC_OK);
    int t = ccc_graph_add_sym(g, "T", 1 + draw(3), 8 + draw(9));
    if (draw(2)) ccc_graph_add_sym(g, "S", 0, 5);
    if (draw(2)) cr_assert_eq(ccc_graph_set_fact(g, draw(2) ? "theta" : "a key", "1 \"2\"", &err), CCC_OK);
    ccc_type rows = {.dtype = CCC_BF16, .rank = 2, .dim = {ccc_dim_sym(t), ccc_dim_const(32)}},
             square = {.dtype = CCC_BF16, .rank = 2, .dim = {ccc_dim_const(32), ccc_dim_const(32)}};
    rows.dim[0].a += draw(2);
    rows.dim[0].b = (int)draw(3) - 1;
    if (draw(2)) rows.dim[0].kind = (uint8_t)(1 + draw(2)), rows.dim[0].by = 2 + (int32_t)draw(7);
    ccc_attr_arg x_name = {"name", {.s = "x"}},
                 w_args[] = {{"name", {.s = "w"}},
                             {"init_std", {.f = ldexp(1 + draw(1000), -(int)draw(40))}}};
    ccc_val v[64];
    cr_assert_eq(ccc_graph_add(g, &v[0], CCC_OP_input, NULL, 0, &x_name, 1, &rows, "x", &err), CCC_OK, "%s",
                 err.msg);
    cr_assert_eq(ccc_graph_add(g, &v[1], CCC_OP_weight, NULL, 0, w_args, 1 + draw(2), &square, NULL, &err),
                 CCC_OK, "%s", err.msg);
    unsigned n = 2, wanted = 3 + draw(60);
    while (n < wanted) {
        static const ccc_op ops[] = {CCC_OP_add,    CCC_OP_mul,      CCC_OP_silu, CCC_OP_neg,
                                     CCC_OP_matmul, CCC_OP_rms_norm, CCC_OP_cast};
        ccc_op op = ops[draw(7)];
        ccc_val in[2] = {v[n > 2 && draw(2) ? n - 1
                           : draw(2)        ? 0
                           : n > 2          ? 2 + draw(n - 2)
                                            : 0],
                         op == CCC_OP_matmul ? v[1] : v[0]};
        ccc_attr_arg arg = op == CCC_OP_cast ? (ccc_attr_arg){"to", {.i = floats[draw(4)]}}
                                             : (ccc_attr_arg){"eps", {.f = draw(1000) / 7e6}};
        cr_assert_eq(ccc_graph_add(g, &v[n], op, in, ccc_ops[op].min_in, &arg,
                                   op == CCC_OP_cast || op == CCC_OP_rms_norm, NULL, names[draw(10)], &err),
                     CCC_OK, "%s", err.msg);
        if (draw(3) == 0 && ccc_ops[op].rank == 1 && in[0] == v[n - 1] && n > 2 && !g->node[n].group)
            g->node[n].group = g->node[n + 1].group = ccc_graph_add_group(g, "pass"); /* node n made v[n-1] */
        n++;
    }
    cr_assert_eq(ccc_graph_add_output(g, draw(2) ? "y" : "an output", v[n - 1], &err), CCC_OK);
    cr_assert_eq(ccc_ir_verify(g, &err), CCC_OK, "%s", err.msg);
    return g;
}

static void round_trip(const ccc_graph *g)
{
    ccc_buf text = {0}, json = {0}, text2 = {0}, json2 = {0};
    ccc_graph *from_text = NULL, *from_json = NULL;
    ccc_err err;
    cr_assert_eq(ccc_ir_print(g, &text), CCC_OK);
    cr_assert_eq(ccc_json_write(g, &json), CCC_OK);
    cr_assert_eq(ccc_ir_parse(&from_text, text.data, text.size_B, "text", &err), CCC_OK, "%s\n%s", err.msg,
                 text.data);
    cr_assert_eq(ccc_json_read(&from_json, json.data, json.size_B, "json", &err), CCC_OK, "%s\n%s", err.msg,
                 json.data);
    cr_assert_eq(ccc_ir_print(from_json, &text2), CCC_OK);
    cr_assert_eq(ccc_json_write(from_text, &json2), CCC_OK);
    cr_expect_str_eq(text2.data, text.data);
    cr_expect_str_eq(json2.data, json.data);
    cr_expect_eq(ccc_graph_hash(from_text), ccc_graph_hash(g));
    cr_expect_eq(ccc_graph_hash(from_json), ccc_graph_hash(g));
    ccc_graph_free(from_text);
    ccc_graph_free(from_json);
    ccc_buf_free(&text);
    ccc_buf_free(&json);
    ccc_buf_free(&text2);
    ccc_buf_free(&json2);
}

Test(ir_forms, random_graphs_go_through_both_forms)
{
    for (uint64_t seed = 0; seed < 300; seed++) {
        ccc_graph *g = random_graph(seed);
        round_trip(g);
        ccc_graph_free(g);
    }
}

Test(ir_forms, numbers_read_back_in_any_locale)
{
    static const struct {
        double v;
        const char *text;
    } cases[] = {{1e-5, "1e-05"},
                 {0.1, "0.1"},
                 {10000, "10000"},
                 {500000, "500000"},
                 {1e9, "1e+09"},
                 {-3, "-3"},
                 {-0.0, "-0"},
                 {1.0 / 3, "0.3333333333333333"},
                 {5e-324, "5e-324"},
                 {1.7976931348623157e308, "1.7976931348623157e+308"},
                 {0.08838834764831845, "0.08838834764831845"}};
    char buf[CCC_NUM_TEXT];
    double back;
    if (!setlocale(LC_ALL, "de_DE.UTF-8")) setlocale(LC_ALL, "C");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_expect_str_eq(ccc_double_text(cases[i].v, buf), cases[i].text);
        cr_expect(ccc_double_parse(buf, strlen(buf), &back) && memcmp(&back, &cases[i].v, sizeof back) == 0,
                  "%s", buf);
    }
    state = 1;
    for (int i = 0; i < 1000; i++) {
        double v = ldexp((double)draw(1u << 30) + draw(1u << 30) / 1073741824.0, (int)draw(1900) - 1000);
        ccc_double_text(v, buf);
        cr_expect(ccc_double_parse(buf, strlen(buf), &back) && back == v, "%s", buf);
    }
    cr_expect(!ccc_double_parse("1e999", 5, &back) && !ccc_double_parse("nan", 3, &back) &&
              !ccc_double_parse("1x", 2, &back) && !ccc_double_parse("", 0, &back));
}

/* A good text with bytes changed, cut or doubled is read or refused with a place; it never does harm. */
Test(ir_forms, garbage_is_refused)
{
    for (int json = 0; json < 2; json++) {
        ccc_graph *g = random_graph(5);
        ccc_buf b = {0};
        cr_assert_eq(json ? ccc_json_write(g, &b) : ccc_ir_print(g, &b), CCC_OK);
        ccc_graph_free(g);
        state = 99;
        for (int round = 0; round < 6000; round++) {
            char *copy = malloc(b.size_B);
            size_t n = draw(4) ? b.size_B : draw((uint32_t)b.size_B);
            memcpy(copy, b.data, n);
            for (unsigned k = draw(4) + 1; k && n; k--)
                copy[draw((uint32_t)n)] = draw(3) ? "%\"{}[]:,@*(-9e;\\ T\n"[draw(19)] : (char)draw(256);
            char *exact = malloc(n ? n : 1); /* so that reading past the end is seen */
            memcpy(exact, copy, n);
            ccc_err err = {.code = CCC_OK};
            g = NULL;
            ccc_status status = (json ? ccc_json_read : ccc_ir_parse)(&g, exact, n, "f", &err);
            cr_assert(status == CCC_OK ? g != NULL : err.code == status && strlen(err.msg) > 0);
            ccc_graph_free(g);
            free(copy);
            free(exact);
        }
        ccc_buf_free(&b);
    }
}

Test(ir_forms, deep_and_long_input_is_bounded)
{
    ccc_buf b = {0};
    ccc_graph *g;
    ccc_err err;
    for (int i = 0; i < 200000; i++) ccc_buf_put(&b, "[", 1);
    cr_expect_neq(ccc_json_read(&g, b.data, b.size_B, "f", &err), CCC_OK);
    ccc_buf_free(&b);
    ccc_buf_printf(&b, "%%0 = input \"x\" : f32[4]");
    for (int i = 1; i < 50000; i++) ccc_buf_printf(&b, " %%%d = neg %%%d", i, i - 1);
    cr_assert_eq(ccc_ir_parse(&g, b.data, b.size_B, "f", &err), CCC_OK, "%s", err.msg);
    cr_expect_eq(ccc_graph_compact(g, NULL, &err), CCC_OK);
    ccc_graph_free(g);
    ccc_buf_free(&b);
}

Test(ir_forms, errors_carry_line_and_column)
{
    static const char *const text = "sym T 1..8\n%x = input \"x\" : f32[T]\n%y = foo %x\n";
    static const char *const json = "{\"ccc_model\": 1,\n \"nodes\": [\n  {\"op\": \"constant\", \"value\": "
                                    "1, \"out\": \"c\"},\n  {\"op\": \"foo\", \"out\": \"c\"}]}";
    ccc_graph *g = NULL;
    ccc_err err;
    cr_expect_eq(ccc_ir_parse(&g, text, strlen(text), "a.ir", &err), CCC_E_PARSE);
    cr_expect_str_eq(err.msg, "a.ir:3:6: unknown op 'foo'");
    cr_expect(err.line == 3 && err.col == 6 && err.code == CCC_E_PARSE);
    cr_expect_eq(ccc_json_read(&g, json, strlen(json), "m.json", &err), CCC_E_PARSE);
    cr_expect_str_eq(err.msg, "m.json:4:10: nodes[1].op: unknown op 'foo'");
    cr_expect(err.line == 4 && err.col == 10);
    cr_expect_eq(ccc_ir_parse(&g, text, strlen(text), "a.ir", NULL), CCC_E_PARSE);
    cr_expect_eq(ccc_json_read(&g, json, strlen(json), "m.json", NULL), CCC_E_PARSE);
    cr_expect_null(g);
}
