/* Expressions: the numbers of a launch program that depend on the step. Postfix code over int64 with a stack
 * of 16; checked once, when the artifact is opened, so that evaluation needs to look at arithmetic alone. */
#include "ccart_codec.h"
#include <string.h>

static int64_t load_i64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) v |= (uint64_t)p[i] << 8 * i;
    return (int64_t)v;
}

ccc_status ccart_expr_check(const ccart_expr *e, uint32_t *vars, ccc_err *err)
{
    uint32_t used = 0, depth = 0;
    if (e->size_B > CCART_MAX_EXPR_B)
        return ccc_fail(err, CCC_E_CORRUPT, "expression of %u bytes, at most %d are allowed", e->size_B,
                        CCART_MAX_EXPR_B);
    for (uint32_t i = 0; i < e->size_B;) {
        uint8_t op = e->code[i++];
        uint32_t operand_B = op == CCART_X_CONST ? 8 : op == CCART_X_VAR ? 1 : 0;
        if (op < CCART_X_CONST || op > CCART_X_MAX)
            return ccc_fail(err, CCC_E_CORRUPT, "expression has an unknown operation %u at byte %u", op,
                            i - 1);
        if (e->size_B - i < operand_B)
            return ccc_fail(err, CCC_E_CORRUPT, "expression ends inside an operand");
        if (op == CCART_X_VAR) {
            if (e->code[i] >= CCART_N_VARS)
                return ccc_fail(err, CCC_E_CORRUPT, "expression has an unknown variable %u", e->code[i]);
            used |= 1u << e->code[i];
        }
        i += operand_B;
        if (operand_B) {
            if (++depth > CCART_MAX_EXPR_DEPTH)
                return ccc_fail(err, CCC_E_CORRUPT, "expression needs more than %d values at once",
                                CCART_MAX_EXPR_DEPTH);
        } else if (depth-- < 2) {
            return ccc_fail(err, CCC_E_CORRUPT, "expression lacks an operand at byte %u", i - 1);
        }
    }
    if (depth != 1) return ccc_fail(err, CCC_E_CORRUPT, "expression leaves %u values, not 1", depth);
    if (vars) *vars = used;
    return CCC_OK;
}

static bool apply(uint8_t op, int64_t a, int64_t b, int64_t *out)
{
    switch (op) {
    case CCART_X_ADD:
        return !__builtin_add_overflow(a, b, out);
    case CCART_X_SUB:
        return !__builtin_sub_overflow(a, b, out);
    case CCART_X_MUL:
        return !__builtin_mul_overflow(a, b, out);
    case CCART_X_CEILDIV:
        if (b < 1) return false;
        *out = a / b + (a % b > 0);
        return true;
    case CCART_X_MIN:
        *out = a < b ? a : b;
        return true;
    default:
        *out = a > b ? a : b;
        return true;
    }
}

bool ccart_expr_eval(const ccart_expr *e, const int64_t var[CCART_N_VARS], int64_t *out)
{
    int64_t stack[CCART_MAX_EXPR_DEPTH];
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->size_B;) {
        uint8_t op = e->code[i++];
        if (op == CCART_X_CONST) {
            stack[n++] = load_i64(e->code + i);
            i += 8;
        } else if (op == CCART_X_VAR) {
            stack[n++] = var[e->code[i++]];
        } else {
            n--;
            if (!apply(op, stack[n - 1], stack[n], &stack[n - 1])) return false;
        }
    }
    *out = stack[0];
    return true;
}
