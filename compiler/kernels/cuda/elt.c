/* An elementwise chain that found no anchor: out = body(row, col), all operands are the hook's. Grid-stride over vectors of WIDTH
 * elements of the [rows, cols] result; WIDTH 1 is for columns or strides that are no multiple of 8. */
#include "../geometry.h"
#include "hooks.h"

#ifndef WIDTH
#define WIDTH 8
#endif
typedef CAT(vf, WIDTH) vf;
SPEC(i32, ccc_OUT_F32);
HOOK vf ccc_hook_body(i32 row, i32 col, const aux_t *aux);

KERNEL ccc_kernel(elt_args a)
{
    dependents_launch();
    grid_wait();
    u32 width = (u32)a.cols / WIDTH, n = (u32)a.rows * width;
    for (u32 i = (u32)(cta() * CCC_ELT_THREADS + tid()); i < n; i += (u32)ncta() * CCC_ELT_THREADS) {
        i32 row = (i32)(i / width), col = (i32)(i % width) * WIDTH;
        vf y = ccc_hook_body(row, col, &a.aux);
        i64 at = (i64)row * a.out_ld + col;
        OUT_STORE(WIDTH, a.out, at, y);
    }
}
