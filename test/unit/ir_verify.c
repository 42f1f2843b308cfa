/* What the verifier finds in graphs that were changed by hand. Faults that can be written as text are in
 * test/golden/ir. */
#include "../../ir/ir.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static ccc_graph *good(void)
{
    static const char *const text = "sym T 1..8 fact k = \"v\" group 1 \"p\" %x = input \"x\" : bf16[T,64] "
                                    "%w = weight \"w\" : bf16[32,64] %h = matmul %x, %w @1 %a = silu %h @1 "
                                    "%n = rms_norm %a {eps = 1e-05} return y = %n";
    ccc_graph *g = NULL;
    ccc_err err;
    cr_assert_eq(ccc_ir_parse(&g, text, strlen(text), "test", &err), CCC_OK, "%s", err.msg);
    return g;
}

static void expect(ccc_graph *g, const char *message)
{
    ccc_err err = {0};
    cr_expect_eq(ccc_ir_verify(g, &err), CCC_E_TYPE, "passes: %s", message);
    cr_expect_str_eq(err.msg, message);
    cr_expect_eq(ccc_ir_verify(g, NULL), CCC_E_TYPE);
    ccc_graph_free(g);
}

/* nodes and values 1 to 5: x, w, h, a, n */
#define BROKEN(name, message, ...)                                                                           \
    Test(ir_verify, name)                                                                                    \
    {                                                                                                        \
        ccc_graph *g = good();                                                                               \
        __VA_ARGS__;                                                                                         \
        expect(g, message);                                                                                  \
    }

BROKEN(order, "%h (matmul): operand 1 (%a) is defined later: nodes are not in topological order",
       g->node[3].in[0] = 4)
BROKEN(itself, "%a (silu): operand 1 (%a) is defined later: nodes are not in topological order",
       g->node[4].in[0] = 4)
BROKEN(no_operand, "%h (matmul): operand 2 names no value", g->node[3].in[1] = 0)
BROKEN(far_operand, "%h (matmul): operand 2 names no value", g->node[3].in[1] = 77)
BROKEN(operand_count, "%h (matmul): has 1 operands, takes 2", g->node[3].n_in = 1)
BROKEN(result_count, "node 3 (matmul) has the wrong number of results or operands", g->node[3].n_out = 0)
BROKEN(op_number, "node 3 has an unknown op", g->node[3].op = CCC_N_OPS)
BROKEN(result_of_other, "node 4 (silu): result 1 is not its own", g->node[4].out[0] = 3)
BROKEN(def_of_other, "node 4 (silu): result 1 is not its own", g->value[4].def = 3)
BROKEN(wrong_type, "%h (matmul): result 1 is bf16[T,32], and should be f32[T,32]",
       g->value[3].type.dtype = CCC_BF16)
BROKEN(rank, "%h (matmul): result 1 has more than 4 dims", g->value[3].type.rank = 200)
BROKEN(attr_range, "%n (rms_norm): attribute eps must be 0 or larger", g->node[5].attr[0].f = -1)
BROKEN(attr_finite, "%n (rms_norm): attribute eps must be finite", g->node[5].attr[0].f = NAN)
BROKEN(attr_null, "%w (weight): attribute name has no text", g->node[2].attr[0].s = NULL)
BROKEN(attr_utf8, "%w (weight): attribute name is not UTF-8 without control characters",
       g->node[2].attr[0].s = "a\xff")
BROKEN(value_name, "%a? (silu): its name is not UTF-8 without control characters", g->value[4].name = "a\t")
BROKEN(group_number, "%a (silu): group 7 is unknown", g->node[4].group = 7)
BROKEN(group_empty, "group 1 is empty", g->node[3].group = g->node[4].group = 0)
BROKEN(graph_name, "the graph's name is not UTF-8 without control characters", g->name = "\xc0\x80")
BROKEN(fact_text, "fact 0 is not UTF-8 without control characters", g->fact[0].value = "\x01")
BROKEN(group_text, "group 1 is not UTF-8 without control characters", g->group[1].pass = "\xed\xa0\x80")
BROKEN(symbol_count, "more than 16 symbols", g->n_sym = 17)
BROKEN(symbol_name, "symbol 0 has no proper name", g->sym[0].name = "1")
BROKEN(symbol_twice, "symbol T is defined twice", g->sym[g->n_sym++] = g->sym[0])
BROKEN(output_value, "output 'y' names no value", g->out[0].val = 0)
BROKEN(output_name, "output 0 has no proper name", g->out[0].name = "")
BROKEN(dim_factor, "%x (input): type bf16[0*T,64]: a symbol's factor must be 1 or larger",
       g->value[1].type.dim[0].a = 0)
BROKEN(dim_symbol, "%x (input): type bf16[?,64]: a dim names an unknown symbol",
       g->value[1].type.dim[0].sym = 9)
BROKEN(dim_plain, "%x (input): type bf16[T,64]: a constant dim is not in its plain form",
       g->value[1].type.dim[1].a = 3)
BROKEN(dim_range, "%x (input): type bf16[2199023255552*T,64]: a factor or term of a dim is out of range",
       g->value[1].type.dim[0].a = 1LL << 41)
BROKEN(dim_divisor, "%x (input): type bf16[ceildiv(T,0),64]: a divisor must be 1 to 1048576",
       g->value[1].type.dim[0].kind = CCC_DIM_CEILDIV)
BROKEN(dtype_none, "%x (input): needs a type", g->value[1].type.dtype = CCC_NONE)
BROKEN(dtype_number, "%x (input): a type has no dtype, a rank above 4 or an unknown layout",
       g->value[1].type.dtype = 99)
