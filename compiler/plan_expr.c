/* Numbers that depend on the step. An expression is postfix code (runtime/ccart.h); equal code gets one number, so that a program
 * evaluates each only once. Constants are folded while building. */
#include "plan.h"
#include <assert.h>
#include <string.h>

static uint32_t intern(plan_builder *b, const uint8_t *code, uint32_t size_B)
{
    for (uint32_t i = 0; i < b->n_exprs; i++)
        if (b->expr[i].size_B == size_B && !memcmp(b->expr[i].code, code, size_B)) return i;
    uint8_t *copy = ccc_arena_alloc(b->plan->mem, size_B);
    if (!copy || !CCC_GROW(b->plan->mem, b->expr, b->n_exprs, b->cap_exprs)) {
        b->oom = true;
        return 0;
    }
    memcpy(copy, code, size_B);
    b->expr[b->n_exprs] = (ccart_expr){ copy, size_B };
    return b->n_exprs++;
}

static bool as_const(const plan_builder *b, uint32_t x, int64_t *v)
{
    if (b->expr[x].size_B != 9 || b->expr[x].code[0] != CCART_X_CONST) return false;
    uint64_t u = 0;
    for (int i = 0; i < 8; i++) u |= (uint64_t)b->expr[x].code[1 + i] << (8 * i);
    *v = (int64_t)u;
    return true;
}

uint32_t px_const(plan_builder *b, int64_t v)
{
    uint8_t code[9] = { CCART_X_CONST };
    for (int i = 0; i < 8; i++) code[1 + i] = (uint8_t)((uint64_t)v >> (8 * i));
    return intern(b, code, 9);
}

uint32_t px_var(plan_builder *b, int var) { return intern(b, (uint8_t[]){ CCART_X_VAR, (uint8_t)var }, 2); }

static bool fold(int op, int64_t x, int64_t y, int64_t *out)
{
    switch (op) {
    case CCART_X_ADD: return !__builtin_add_overflow(x, y, out);
    case CCART_X_SUB: return !__builtin_sub_overflow(x, y, out);
    case CCART_X_MUL: return !__builtin_mul_overflow(x, y, out);
    case CCART_X_CEILDIV:
        if (y <= 0 || x < 0) return false;
        *out = x / y + (x % y != 0);
        return true;
    case CCART_X_MIN: *out = x < y ? x : y; return true;
    case CCART_X_MAX: *out = x > y ? x : y; return true;
    }
    return false;
}

uint32_t px_op(plan_builder *b, int op, uint32_t x, uint32_t y)
{
    if (b->oom) return 0;
    int64_t cx = 0, cy = 0, r;
    bool kx = as_const(b, x, &cx), ky = as_const(b, y, &cy);
    if (kx && ky && fold(op, cx, cy, &r)) return px_const(b, r);
    if (ky && ((cy == 1 && (op == CCART_X_MUL || op == CCART_X_CEILDIV)) || (cy == 0 && (op == CCART_X_ADD || op == CCART_X_SUB)))) return x;
    if (kx && ((cx == 1 && op == CCART_X_MUL) || (cx == 0 && op == CCART_X_ADD))) return y;
    uint8_t code[CCART_MAX_EXPR_B];
    uint32_t nx = b->expr[x].size_B, ny = b->expr[y].size_B;
    assert(nx + ny + 1 <= sizeof code);
    memcpy(code, b->expr[x].code, nx);
    memcpy(code + nx, b->expr[y].code, ny);
    code[nx + ny] = (uint8_t)op;
    return intern(b, code, nx + ny + 1);
}

ccc_status px_dim(uint32_t *out, plan_builder *b, const ccc_graph *g, ccc_dim d, ccc_err *err)
{
    static const struct { const char *name; int var; } known[] = { { "T", CCART_VAR_T }, { "S", CCART_VAR_S }, { "R", CCART_VAR_R }, { "B", CCART_VAR_MAX_BLOCKS } };
    uint32_t e = px_const(b, d.b);
    if (d.sym >= 0) {
        int var = -1;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (!strcmp(g->sym[d.sym].name, known[i].name)) var = known[i].var;
        if (var < 0)
            return ccc_fail(err, CCC_E_UNSUPPORTED, "symbol '%s' has no value when a step runs; use T, S, R or B", g->sym[d.sym].name);
        e = px_op(b, CCART_X_ADD, px_op(b, CCART_X_MUL, px_var(b, var), px_const(b, d.a)), e);
    }
    if (d.kind != CCC_DIM_LINEAR) e = px_op(b, CCART_X_CEILDIV, e, px_const(b, d.by));
    if (d.kind == CCC_DIM_ROUNDUP) e = px_op(b, CCART_X_MUL, e, px_const(b, d.by));
    *out = e;
    return CCC_OK;
}
