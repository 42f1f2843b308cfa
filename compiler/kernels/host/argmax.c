/* argmax of rows of f32: the lowest index of the largest value; a NaN is smaller than everything, a row of
 * NaNs gives 0. A unit of work is a row. Eight columns side by side each keep their own best; a strict
 * comparison keeps the first, the last step takes the lowest of equals. */
#include "h.h"

INLINE i32 one_row(const float *x, i32 n)
{
    VF best = splat(-__builtin_inff());
    VI at = (VI)0x7fffffff, col = {0, 1, 2, 3, 4, 5, 6, 7}; /* 0x7fffffff: nothing but -inf and NaN so far */
    i32 i = 0;
    for (; i + 8 <= n; i += 8, col += 8) {
        VF v = ld8f(x + i);
        VI more = v > best;
        at = more ? col : at;
        best = more ? v : best;
    }
    float top = -__builtin_inff();
    i32 where = 0x7fffffff;
    for (i32 l = 0; l < 8; l++)
        if (best[l] > top || (best[l] == top && at[l] < where)) top = best[l], where = at[l];
    ROLLED for (; i < n; i++)
        if (x[i] > top) top = x[i], where = i;
    if (where != 0x7fffffff) return where;
    ROLLED for (i = 0; i < n; i++) /* no number above -inf: the first -inf, if there is one */
        if (x[i] == x[i]) return i;
    return 0;
}

ENTRY ccc_kernel(const argmax_args *a, const host_ctx *c)
{
    i64 end = share(a->rows, c->block[0] + 1, c->grid[0]);
    for (i64 r = share(a->rows, c->block[0], c->grid[0]); r < end; r++)
        a->out[r] = one_row(a->x + r * a->x_ld, a->cols);
}
