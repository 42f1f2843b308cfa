/* Adds up the parts that attn_decode (JOINED) leaves of rows that cross its blocks, in the order of the blocks. Many blocks read the parts of a row,
 * where attn_decode has one read them all: 5 us of 54 with two KV heads and 131072 tokens. They are small and there beside those of attn_decode,
 * before it ends. A block has CCC_JOIN_ELEMS elements of a row, four a lane; each of its groups of eight lanes has some of the parts.
 *
 * Before grid_wait() it reads seq_lens. */
#include "attn_rows.h"

enum { GROUPS = CCC_JOIN_THREADS / 8, AT_ONCE = 9 /* parts, in one round trip */ };
typedef struct { vf4 x; float M, L; } sum_t;
/* s, and behind it t */
INLINE sum_t joined(sum_t s, sum_t t)
{
    float M = fmax2(s.M, t.M), u = ex2(s.M - M), v = ex2(t.M - M);
    sum_t r = {0, M, fma_(t.L, v, s.L * u)};
    UNROLL for (i32 i = 0; i < 4; i++) r.x[i] = fma_(t.x[i], v, s.x[i] * u);
    return r;
}
INLINE sum_t shuffled(sum_t t, i32 mask)
{
    sum_t r = {0, shfl_xor(t.M, mask), shfl_xor(t.L, mask)};
    UNROLL for (i32 i = 0; i < 4; i++) r.x[i] = shfl_xor(t.x[i], mask);
    return r;
}
/* parts from..to of a row whose first one is of block `first`: elements e to e + 3 */
INLINE sum_t sum_parts(const args_t *a, i32 first, i32 from, i32 to, i32 e)
{
    sum_t s = {0, -1e30f, 0};
    NO_UNROLL for (i32 c = from; c <= to; c += AT_ONCE) {
        vf4 o[AT_ONCE];
        vf2 ml[AT_ONCE];
        float M = s.M;
        UNROLL for (i32 k = 0; k < AT_ONCE; k++) {
            i32 i = imin(c + k, to);
            const float GLOBAL *p = a->part + (i64)(2 * i + (i == first)) * PART_STRIDE;
            o[k] = *(const vf4 GLOBAL *)(p + e);
            ml[k] = *(const vf2 GLOBAL *)(p + G * ccc_D + e / ccc_D * 2);
        }
        UNROLL for (i32 k = 0; k < AT_ONCE; k++) M = fmax2(M, ml[k].x);
        float w = ex2(s.M - M);
        s = (sum_t){s.x * w, M, s.L * w};
        UNROLL for (i32 k = 0; k < AT_ONCE; k++) {
            w = c + k > to ? 0 : ex2(ml[k].x - M);
            UNROLL for (i32 i = 0; i < 4; i++) s.x[i] = fma_(o[k][i], w, s.x[i]);
            s.L = fma_(ml[k].y, w, s.L);
        }
    }
    return s;
}

/* grid: (HQ * D / CCC_JOIN_ELEMS, S) */
KERNEL ccc_kernel(attention_args a)
{
    dependents_launch();
    plan_t P = plan(&a, a.blocks);
    i32 at = cta() * CCC_JOIN_ELEMS, row = cta_y() * ccc_HKV + at / (G * ccc_D), e = at % (G * ccc_D) + (tid() & 7) * 4, group = tid() >> 3;
    i32 start = row_start(&P, &a, row), end = row_start(&P, &a, row + 1), first = quo(start, P.per), last = quo(end - 1, P.per);
    i32 whole = first == last || dealt_whole(&a, &P, a.blocks);
    grid_wait();
    if (whole) return;
    i32 each = (last - first + GROUPS) / GROUPS, from = first + group * each;
    sum_t s = sum_parts(&a, first, from, imin(from + each - 1, last), e);
    float SHARED *second = (float SHARED *)smem; /* of the second warp */
    s = joined(s, shuffled(s, 8)); /* right in lanes 0 to 7 of the warp */
    s = joined(s, shuffled(s, 16));
    if (tid() >= 32 && lane() < 8) {
        *(vf4 SHARED *)(second + lane() * 8) = s.x;
        *(vf2 SHARED *)(second + lane() * 8 + 4) = (vf2){s.M, s.L};
    }
    cta_sync();
    if (tid() >= 8) return;
    vf2 ml = *(const vf2 SHARED *)(second + lane() * 8 + 4);
    s = joined(s, (sum_t){*(const vf4 SHARED *)(second + lane() * 8), ml.x, ml.y});
    UNROLL for (i32 i = 0; i < 4; i += 2) put_pair(&a, row, e + i, s.x[i], s.x[i + 1], s.L);
}
