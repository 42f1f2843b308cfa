/* rms_norm of whole rows, one block a row: v = in(x), out = out(v * 1/sqrt(mean(v*v) + eps)). A thread keeps its part of the row in
 * registers between the two, so the row is read once and hook `in` runs once an element (it may store the sum of a residual). */
#include "../geometry.h"
#include "hooks.h"
#include "rowsum.h"

SPEC(i32, ccc_NT);
SPEC(i32, ccc_COLS);
SPEC(i32, ccc_OUT_F32);
HOOK vf8 ccc_hook_in(vf8 v, i32 row, i32 col, const aux_t *aux);
HOOK vf8 ccc_hook_out(vf8 v, i32 row, i32 col, const aux_t *aux);

HOOK void ccc_hook_in_weights(i32 row, i32 col, const aux_t *aux);
HOOK void ccc_hook_out_weights(i32 row, i32 col, const aux_t *aux);
HOOK void ccc_hook_out_take_weights(vf8 *taken, i32 row, i32 col, const aux_t *aux);
HOOK void ccc_hook_out_take_others(vf8 *taken, i32 row, i32 col, const aux_t *aux);
HOOK vf8 ccc_hook_out_taken(vf8 v, const vf8 *taken, i32 row, i32 col, const aux_t *aux);

enum { MAX_VECS = 8, MAX_AHEAD = 4 /* whose weights wait in registers */ };

KERNEL ccc_kernel(rows_args a)
{
    dependents_launch();
    i32 row = cta();
    vf8 taken[MAX_AHEAD][CCC_MAX_TAKEN];
    UNROLL for (i32 m = 0; m < MAX_VECS; m++) { /* the same for all rows */
        i32 col = (tid() + m * ccc_NT) * 8;
        if (m * ccc_NT * 8 < ccc_COLS && col < ccc_COLS) {
            ccc_hook_in_weights(0, col, &a.aux);
            if (m < MAX_AHEAD) ccc_hook_out_take_weights(taken[m], 0, col, &a.aux);
            else ccc_hook_out_weights(0, col, &a.aux);
        }
    }
    grid_wait();
    if (row >= a.rows) return;
    const u16 GLOBAL *x = a.x + (i64)row * a.x_ld;
    rowsum s = rowsum_zero();
    vf8 v[MAX_VECS];
    UNROLL for (i32 m = 0; m < MAX_VECS; m++) {
        i32 col = (tid() + m * ccc_NT) * 8;
        if (m * ccc_NT * 8 < ccc_COLS && ((m + 1) * ccc_NT * 8 <= ccc_COLS || col < ccc_COLS)) {
            v[m] = ccc_hook_in(bf16x8_f32(ld16(x + col)), row, col, &a.aux);
            if (m < MAX_AHEAD) ccc_hook_out_take_others(taken[m], row, col, &a.aux);
            rowsum_squares(&s, m % (512 / ccc_NT), v[m]);
        }
    }
    rowsum_put(&s, ccc_NT, saddr(smem));
    cta_sync();
    float scale = rms_scale(rowsum_get(ccc_NT, saddr(smem)), ccc_COLS, a.eps);
    UNROLL for (i32 m = 0; m < MAX_VECS; m++) {
        i32 col = (tid() + m * ccc_NT) * 8;
        if (m * ccc_NT * 8 < ccc_COLS && ((m + 1) * ccc_NT * 8 <= ccc_COLS || col < ccc_COLS)) {
            vf8 y = m < MAX_AHEAD ? ccc_hook_out_taken(v[m] * scale, taken[m < MAX_AHEAD ? m : 0], row, col, &a.aux) : ccc_hook_out(v[m] * scale, row, col, &a.aux);
            OUT_STORE(8, a.out, (i64)row * a.out_ld + col, y);
        }
    }
}
