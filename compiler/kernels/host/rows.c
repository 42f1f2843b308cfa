/* rms_norm of rows with fused chains before and after: v = in(x), out = out(v * (1 / sqrt(mean of v*v +
 * eps))). The sum of squares has the one order of all row sums: element k belongs to lane (k / 8) % 512, a
 * lane adds its elements in rising k, then lanes are added in a tree of distances 256, 128 .. 1. `in` runs
 * once an element; its results stay in scratch. */
#include "hooks.h"

SPEC(i32, ccc_OUT_F32);

VF ccc_hook_in(VF v, i32 row, i32 col, const aux_t *aux);
float ccc_hook_in_tail(float v, i32 row, i32 col, const aux_t *aux);
VF ccc_hook_out(VF v, i32 row, i32 col, const aux_t *aux);
float ccc_hook_out_tail(float v, i32 row, i32 col, const aux_t *aux);

enum { LANES = 512 };

INLINE float sum_squares(const float *v, i32 n)
{
    float lane[LANES];
    i32 used = imin((n + 7) / 8, LANES), from = 1;
    for (i32 l = 0; l < used; l++) {
        float s = 0.0f;
        for (i32 k = l * 8; k < n; k += LANES * 8)
            ROLLED for (i32 j = k; j < imin(k + 8, n); j++) s = fma1(v[j], v[j], s);
        lane[l] = s;
    }
    while (from < used) from *= 2; /* lanes that got nothing are zero: adding them changes no bit */
    ROLLED for (i32 l = used; l < from; l++) lane[l] = 0.0f;
    for (i32 d = from / 2; d; d /= 2)
        for (i32 l = 0; l < d; l++) lane[l] += lane[l + d];
    return n ? lane[0] : 0.0f;
}

INLINE void one_row(const rows_args *a, i32 row, float *v)
{
    const u16 *x = a->x + (i64)row * a->x_ld;
    i64 out = (i64)row * a->out_ld;
    i32 n = a->cols, whole = n / 8 * 8;
    for (i32 k = 0; k < whole; k += 8) st8f(v + k, ccc_hook_in(ld8b(x + k), row, k, &a->aux));
    ROLLED for (i32 k = whole; k < n; k++) v[k] = ccc_hook_in_tail(bf16_f32(x[k]), row, k, &a->aux);
    float r = 1.0f / sqrt1(sum_squares(v, n) / (float)n + a->eps);
    for (i32 k = 0; k < whole; k += 8) {
        VF y = ccc_hook_out(ld8f(v + k) * r, row, k, &a->aux);
        OUT_STORE(8, a->out, out + k, y);
    }
    ROLLED for (i32 k = whole; k < n; k++) {
        float y = ccc_hook_out_tail(v[k] * r, row, k, &a->aux);
        OUT_STORE(1, a->out, out + k, y);
    }
}

ENTRY ccc_kernel(const rows_args *a, const host_ctx *c)
{
    i64 end = share(a->rows, c->block[0] + 1, c->grid[0]);
    for (i64 row = share(a->rows, c->block[0], c->grid[0]); row < end; row++)
        one_row(a, (i32)row, c->scratch);
}
