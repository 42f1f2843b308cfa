/* What the two kernels that rotate share, so that they give the same bits: the rotation itself, in f32 with one rounding to bf16, and
 * where a token's cosines and its place in the cache are. Pairs are elements i and i + half of a head:
 * a' = fma(a, cos, -(b * sin)), b' = fma(b, cos, a * sin). A table row is the cosines of all pairs, then the sines. */
#ifndef CCC_ROPE_H
#define CCC_ROPE_H
#include "kv.h"

INLINE float rope_lo(float a, float b, float c, float s) { return fma_(a, c, -(b * s)); }
INLINE float rope_hi(float a, float b, float c, float s) { return fma_(b, c, a * s); }

typedef struct { vf4 c[2], s[2]; } turn_t; /* of a piece */
/* a piece of a head and its partner */
INLINE void rope_turn(vu4 *lo, vu4 *hi, const turn_t *t)
{
    vf8 a = bf16x8_f32(*lo), b = bf16x8_f32(*hi), x, y;
    UNROLL for (i32 k = 0; k < 8; k++) {
        x[k] = rope_lo(a[k], b[k], t->c[k / 4][k % 4], t->s[k / 4][k % 4]);
        y[k] = rope_hi(a[k], b[k], t->c[k / 4][k % 4], t->s[k / 4][k % 4]);
    }
    *lo = f32x8_bf16(x);
    *hi = f32x8_bf16(y);
}
/* pieces p and p + half / 8, with half a multiple of 8 */
INLINE void rope_pair(vu4 *lo, vu4 *hi, const float GLOBAL *row, i32 p, i32 half)
{
    const vf4 GLOBAL *c = (const vf4 GLOBAL *)(row + p * 8), *s = (const vf4 GLOBAL *)(row + half + p * 8);
    turn_t t = {{c[0], c[1]}, {s[0], s[1]}};
    rope_turn(lo, hi, &t);
}
/* the table row of token t, at position pos; a position outside the table is reported, and forced into it */
INLINE const float GLOBAL *rope_row(const float GLOBAL *table, i64 pos, i32 rows, i32 rotary, u32 GLOBAL *status, i32 t)
{
    if (pos < 0 || pos >= rows) {
        status_set(status, STATUS_BAD_POSITION, (u32)t, (u32)pos);
        pos = pos < 0 ? 0 : rows - 1;
    }
    return table + pos * rotary;
}
/* the slot of token t; -1: its row is not written. One outside the cache is reported */
INLINE i64 kv_slot(i64 slot, i32 kv_blocks, u32 GLOBAL *status, i32 t)
{
    if (slot >= 0 && slot < (i64)kv_blocks * ccc_BLOCK) return slot;
    if (slot != -1) status_set(status, STATUS_BAD_SLOT, (u32)t, (u32)slot);
    return -1;
}
#endif
