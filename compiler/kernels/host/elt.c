/* Elementwise over [rows, cols]: out = body(row, col), whose operands are all aux. A unit of work is a piece
 * of a row, PIECE columns wide. */
#include "hooks.h"

SPEC(i32, ccc_OUT_F32);

VF ccc_hook_body(i32 row, i32 col, const aux_t *aux);
float ccc_hook_body_tail(i32 row, i32 col, const aux_t *aux);

enum { PIECE = 1024 };

INLINE void piece(const elt_args *a, i32 row, i32 col, i32 end)
{
    i64 out = (i64)row * a->out_ld;
    for (; col + 8 <= end; col += 8) {
        VF y = ccc_hook_body(row, col, &a->aux);
        OUT_STORE(8, a->out, out + col, y);
    }
    ROLLED for (; col < end; col++) {
        float y = ccc_hook_body_tail(row, col, &a->aux);
        OUT_STORE(1, a->out, out + col, y);
    }
}

ENTRY ccc_kernel(const elt_args *a, const host_ctx *c)
{
    i64 per_row = ((i64)a->cols + PIECE - 1) / PIECE, units = a->rows * per_row,
        end = share(units, c->block[0] + 1, c->grid[0]);
    for (i64 u = share(units, c->block[0], c->grid[0]); u < end; u++) {
        i32 col = (i32)(u % per_row) * PIECE;
        piece(a, (i32)(u / per_row), col, imin(a->cols, col + PIECE));
    }
}
