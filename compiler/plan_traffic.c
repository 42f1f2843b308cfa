/* How many bytes each launch must move at least, so that `cccrt bench` can set its time beside that of reading them. The functions that set
 * a launch's arguments say here what stands behind them; what a kernel reads twice, and indices, are not counted. Sums are kept as numbers
 * for each of T, S and R: one short expression a launch, however many operands it has. */
#include "plan.h"
#include <string.h>

enum { CONSTANT, OF_T, OF_S, OF_R };

/* Rows of a value, all dimensions but the last. One of them may depend on the step; more, or other forms, are taken at their largest. */
static void rows(const plan_builder *b, ccc_val v, int64_t out[4])
{
    static const char *const name[] = { [OF_T] = "T", [OF_S] = "S", [OF_R] = "R" };
    const ccc_type *t = &b->g->value[v].type;
    int64_t n = 1, per[4] = { 1 };
    bool taken = false;
    for (unsigned i = 0; i + 1 < t->rank; i++) {
        ccc_dim d = t->dim[i];
        int of = CONSTANT;
        for (int k = OF_T; k <= OF_R && d.sym >= 0; k++)
            if (!strcmp(b->g->sym[d.sym].name, name[k])) of = k;
        if (of == CONSTANT || d.kind != CCC_DIM_LINEAR || taken) {
            n *= ccc_dim_max(b->g, d);
            continue;
        }
        per[of] = d.a;
        per[CONSTANT] = d.b;
        taken = true;
    }
    for (int k = 0; k < 4; k++) out[k] = n * per[k];
}

static int64_t *place(plan_builder *b, uint8_t kind) { return kind == CCART_P_WEIGHT || kind == CCART_P_KV ? b->moves.memory_B : b->moves.local_B; }

static void add(int64_t to_B[4], const int64_t n[4], int64_t each_B)
{
    for (int k = 0; k < 4; k++) to_B[k] += n[k] * each_B;
}

void pb_moves(plan_builder *b, ccc_val v)
{
    const ccc_type *t = &b->g->value[v].type;
    int64_t n[4];
    if (t->dtype == CCC_I32 || t->dtype == CCC_I64) return;
    rows(b, v, n);
    uint64_t cols = t->rank ? (uint64_t)ccc_dim_max(b->g, t->dim[t->rank - 1]) : 1;
    add(place(b, pb_loc(b, v).kind), n, (int64_t)ccc_dtype_bytes((ccc_dtype)t->dtype, cols));
}

void pb_moves_rows(plan_builder *b, ccc_val v, int64_t row_B, uint8_t kind)
{
    int64_t n[4];
    rows(b, v, n);
    add(place(b, kind), n, row_B);
}

void pb_moves_kv(plan_builder *b, int64_t kv_B) { b->moves.kv_B += (uint32_t)kv_B; }

static uint32_t sum(plan_builder *b, const int64_t n_B[4])
{
    static const int var[] = { [OF_T] = CCART_VAR_T, [OF_S] = CCART_VAR_S, [OF_R] = CCART_VAR_R };
    uint32_t e = px_const(b, n_B[CONSTANT]);
    for (int k = OF_T; k <= OF_R; k++)
        if (n_B[k]) e = px_op(b, CCART_X_ADD, px_op(b, CCART_X_MUL, px_var(b, var[k]), px_const(b, n_B[k])), e);
    return e;
}

ccart_traffic pb_traffic(plan_builder *b)
{
    ccart_traffic t = { .memory_expr = sum(b, b->moves.memory_B), .local_expr = sum(b, b->moves.local_B), .kv_B = b->moves.kv_B };
    b->moves = (plan_moves){ 0 };
    return t;
}
