/* What the two kernels that rotate share, so that they give the same bits: the rotation itself, in f32 with one rounding to bf16, and
 * where a token's cosines and its place in the cache are. Pairs are elements i and i + half of a head:
 * a' = fma(a, cos, -(b * sin)), b' = fma(b, cos, a * sin). A table row is the cosines of all pairs, then the sines. */
#ifndef CCC_ROPE_H
#define CCC_ROPE_H
#include "kv.h"

INLINE float rope_lo(float a, float b, float c, float s) { return fma_(a, c, -(b * s)); }
INLINE float rope_hi(float a, float b, float c, float s) { return fma_(b, c, a * s); }

/* piece p of a head and its partner, which is half elements (a multiple of 8) further on */
INLINE void rope_pair(vu4 *lo, vu4 *hi, const float GLOBAL *row, i32 p, i32 half)
{
    vf8 a = bf16x8_f32(*lo), b = bf16x8_f32(*hi), x, y;
    const vf4 GLOBAL *cs = (const vf4 GLOBAL *)(row + p * 8), *sn = (const vf4 GLOBAL *)(row + half + p * 8);
    UNROLL for (i32 h = 0; h < 2; h++) {
        vf4 c = cs[h], s = sn[h];
        UNROLL for (i32 k = 0; k < 4; k++) {
            x[4 * h + k] = rope_lo(a[4 * h + k], b[4 * h + k], c[k], s[k]);
            y[4 * h + k] = rope_hi(a[4 * h + k], b[4 * h + k], c[k], s[k]);
        }
    }
    *lo = f32x8_bf16(x);
    *hi = f32x8_bf16(y);
}
/* the table row of token t; a position outside the table is reported, and forced into it */
INLINE const float GLOBAL *rope_row(const float GLOBAL *table, const i64 GLOBAL *positions, i32 rows, i32 rotary, u32 GLOBAL *status, i32 t)
{
    i64 pos = positions[t];
    if (pos < 0 || pos >= rows) {
        status_set(status, STATUS_BAD_POSITION, (u32)t, (u32)pos);
        pos = pos < 0 ? 0 : rows - 1;
    }
    return table + pos * rotary;
}
/* the slot of token t; -1: its row is not written. One outside the cache is reported */
INLINE i64 kv_slot(const i64 GLOBAL *slots, i32 kv_blocks, u32 GLOBAL *status, i32 t)
{
    i64 slot = slots[t];
    if (slot >= 0 && slot < (i64)kv_blocks * ccc_BLOCK) return slot;
    if (slot != -1) status_set(status, STATUS_BAD_SLOT, (u32)t, (u32)slot);
    return -1;
}
#endif
