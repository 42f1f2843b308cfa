/* Rows by their number: out[i] = table[ids[i]], or the caller's own row i where it gave `alt`. An id outside the table is clamped, so that
 * nothing is read that is not there, and reported through status. One block a row. The table may be an activation: all reads come after
 * the grid wait. */
#include "k.h"

KERNEL ccc_kernel(gather_args a)
{
    dependents_launch();
    grid_wait();
    for (i32 row = cta(); row < a.n; row += ncta()) {
        const u16 GLOBAL *from = a.alt ? a.alt + (i64)row * a.cols : a.table;
        if (!a.alt) {
            i32 id = a.ids[row], ok = imax(0, imin(id, a.table_rows - 1));
            if (id != ok && tid() == 0) status_set(a.status, (u32)a.bad_kind, (u32)row, (u32)id);
            from += (i64)ok * a.cols;
        }
        u16 GLOBAL *to = a.out + (i64)row * a.cols;
        if (a.cols % 8 == 0)
            for (i32 c = tid() * 8; c < a.cols; c += ntid() * 8) st16(to + c, ld16(from + c));
        else
            for (i32 c = tid(); c < a.cols; c += ntid()) to[c] = from[c];
    }
}
