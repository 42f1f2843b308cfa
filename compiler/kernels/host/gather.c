/* embed, gather: rows of a bf16 table named by i32 ids, or rows given instead. A unit of work is a row. */
#include "h.h"

INLINE void copy_row(u16 *out, const u16 *in, i32 cols)
{
    i32 i = 0;
    for (; i + 8 <= cols; i += 8) st4u(out + i, ld4u(in + i));
    ROLLED for (; i < cols; i++) out[i] = in[i];
}

ENTRY ccc_kernel(const gather_args *a, const host_ctx *c)
{
    i64 end = share(a->n, c->block[0] + 1, c->grid[0]);
    for (i64 i = share(a->n, c->block[0], c->grid[0]); i < end; i++) {
        if (a->alt) {
            copy_row(a->out + i * a->cols, a->alt + i * a->cols, a->cols);
            continue;
        }
        i32 id = a->ids[i];
        if (id < 0 || id >= a->table_rows) {
            status_set(a->status, (u32)a->bad_kind, (u32)i, (u32)id);
            id = imax(0, imin(id, a->table_rows - 1));
        }
        copy_row(a->out + i * a->cols, a->table + (i64)id * a->cols, a->cols);
    }
}
