/* Part of attn_decode.c and attn_join.c: the line of work of a decode step, where rows lie in it, and the output. A row is a (sequence, KV head). */
#include "hooks.h"
#include "kv.h"

SPEC(i32, ccc_OUT_F32);
enum { PAGE = CCC_PAGE };
#define G (ccc_HQ / ccc_HKV)
#define PART_STRIDE (ccc_decode_part_stride_B(G, ccc_D) / 4) /* floats of a partial result in memory: O, then (m, l) of each head */
typedef attention_args args_t;
/* W positions, per of them a block; pages of the longest row; of this lane's sequence: length, positions, running sum */
typedef struct { i32 W, per, most, len, v, inc; } plan_t;

INLINE i32 pages(i32 len) { return imax(1, (len + PAGE - 1) / PAGE); }
/* x / d, exact while the quotient is below 2^20: a reciprocal, then one correction */
INLINE i32 quo(i32 x, i32 d)
{
    i32 q = (i32)((float)x * rcp((float)d)), r = x - q * d;
    return r < 0 ? q - 1 : r >= d ? q + 1 : q;
}
INLINE i32 scan(i32 v)
{
    UNROLL for (i32 o = 1; o < 32; o <<= 1) {
        i32 u = shfl_up_i(v, o);
        if (lane() >= o) v += u;
    }
    return v;
}

/* ---- the line of work --------------------------------------------------------------------------------------------------------------- */
INLINE i32 len_of(const args_t *a, i32 s) { return s < a->S ? imin(imax(a->seq_lens[s], 0), a->max_blocks * ccc_BLOCK) : 0; }
INLINE i32 positions(const args_t *a, i32 s, i32 len) { return s < a->S ? pages(len) * ccc_HKV : 0; }
INLINE plan_t plan(const args_t *a, i32 blocks)
{
    plan_t p;
    i32 more = 0, longest = p.len = len_of(a, lane());
    p.v = positions(a, lane(), p.len);
    for (i32 s = lane() + 32; s < a->S; s += 32) {
        i32 len = len_of(a, s);
        more += positions(a, s, len);
        longest = imax(longest, len);
    }
    p.inc = scan(p.v);
    p.W = shfl_i(p.inc, 31);
    if (a->S > 32) p.W += redux_add(more);
    p.most = pages(redux_max(longest));
    p.per = imax((i32)((u32)(p.W + blocks - 1) / (u32)blocks), CCC_DECODE_LEAST);
    return p;
}
/* where a row starts; behind the last one: where the line ends */
INLINE i32 row_start(const plan_t *P, const args_t *a, i32 row)
{
    i32 base = 0, s0 = 0, seq = row / ccc_HKV, l = P->len, v = P->v, inc = P->inc;
    for (; seq >= s0 + 32; s0 += 32) {
        base += shfl_i(inc, 31);
        l = len_of(a, s0 + 32 + lane());
        v = positions(a, s0 + 32 + lane(), l);
        inc = scan(v);
    }
    return base + shfl_i(inc - v, seq - s0) + row % ccc_HKV * pages(shfl_i(l, seq - s0));
}
/* of rows that are as good as equally long: whether blocks without clusters have whole ones, nearly as even as pieces of the line */
INLINE i32 even(const args_t *a, const plan_t *P) { return P->most * (a->S * ccc_HKV) - P->W <= P->W / 64; }
INLINE i32 rows_each(const args_t *a, i32 blocks) { return (a->S * ccc_HKV + blocks - 1) / blocks; }
INLINE i32 dealt_whole(const args_t *a, const plan_t *P, i32 blocks) { return even(a, P) && rows_each(a, blocks) * blocks * 16 <= a->S * ccc_HKV * 17; }

/* ---- the output ------------------------------------------------------------------------------------------------------------------------- */
vf8 ccc_hook_epilogue(vf8 v, i32 row, i32 col, const aux_t *aux);
vf2 ccc_hook_epilogue_tail(vf2 v, i32 row, i32 col, const aux_t *aux);
/* elements e .. of the heads of row */
INLINE void put8(const args_t *a, i32 row, i32 e, vf8 v)
{
    i32 token = row / ccc_HKV, col = row % ccc_HKV * (G * ccc_D) + e;
    OUT_STORE(8, a->out, (i64)token * a->out_ld + col, ccc_hook_epilogue(v, token, col, &a->aux));
}
INLINE void put2(const args_t *a, i32 row, i32 e, vf2 v)
{
    i32 token = row / ccc_HKV, col = row % ccc_HKV * (G * ccc_D) + e;
    OUT_STORE(2, a->out, (i64)token * a->out_ld + col, ccc_hook_epilogue_tail(v, token, col, &a->aux));
}
/* no tokens: zeros; a NaN stays one */
INLINE float inverse(const args_t *a, float l) { return (l > 0 ? rcp(l) : l) * a->v_scale; }
INLINE void put_pair(const args_t *a, i32 row, i32 e, float x, float y, float l)
{
    float f = inverse(a, l);
    put2(a, row, e, (vf2){x * f, y * f});
}
