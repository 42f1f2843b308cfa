/* The table of rope: row p holds cos, then sin, of (float)p * inv_freq[i] (an f32 product), times `scale`. A
 * unit of work is a row. */
#include "h.h"
#include "../cuda/sincos.h"

ENTRY ccc_kernel(const rope_table_args *a, const host_ctx *c)
{
    i64 end = share(a->rows, c->block[0] + 1, c->grid[0]);
    for (i64 r = share(a->rows, c->block[0], c->grid[0]); r < end; r++) {
        float *row = a->dst + r * 2 * a->half;
        for (i32 i = 0; i < a->half; i++) {
            float s, co;
            ccc_sincos((float)r * a->inv_freq[i], &s, &co);
            row[i] = co * a->scale;
            row[a->half + i] = s * a->scale;
        }
    }
}
