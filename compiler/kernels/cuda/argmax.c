/* The lowest index of the largest value of a row; NaN counts as smallest. A row has a cluster of blocks, equal parts each: each turns its
 * best value into a key that orders like (value, lowest index first), sends it to the first one's shared memory, and the largest key wins.
 * Nothing is read before grid_wait(). */
#include "k.h"
#include "../attention_geometry.h"

/* 32 bits that order as the values do; NaN 0, and -0 is 0 */
INLINE u32 order(float v)
{
    u32 u = bits(v + 0.0f);
    return v != v ? 0 : u >> 31 ? ~u : u | 0x80000000u;
}
INLINE u64 key(float v, i32 i) { return (u64)order(v) << 32 | ~(u32)i; }
INLINE u64 larger(u64 a, u64 b) { return a > b ? a : b; }
INLINE u64 from_xor(u64 v, i32 m) { return (u64)(u32)shfl_xor_i((i32)(v >> 32), m) << 32 | (u32)shfl_xor_i((i32)v, m); }
INLINE u64 warp_largest(u64 v)
{
    UNROLL for (i32 m = 16; m; m >>= 1) v = larger(v, from_xor(v, m));
    return v;
}
/* AHEAD loads a thread at a time, as their latency is what a row lasts; behind the end the last ones again */
INLINE u64 best_of(const float GLOBAL *x, i32 from, i32 to)
{
    enum { STEP = CCC_ARGMAX_THREADS * 4, AHEAD = 8 };
    u64 best = 0;
    if (((u64)x & 15) == 0 && to % 4 == 0) {
        for (i32 at = from; at < to; at += AHEAD * STEP) {
            vf4 v[AHEAD];
            UNROLL for (i32 k = 0; k < AHEAD; k++) v[k] = *(const vf4 GLOBAL *)(x + imin(at + k * STEP + tid() * 4, to - 4));
            UNROLL for (i32 k = 0; k < AHEAD; k++)
                UNROLL for (i32 e = 0; e < 4; e++) best = larger(best, key(v[k][e], imin(at + k * STEP + tid() * 4, to - 4) + e));
        }
    } else {
        for (i32 i = from + tid(); i < to; i += CCC_ARGMAX_THREADS) best = larger(best, key(x[i], i));
    }
    return best;
}

KERNEL ccc_kernel(argmax_args a)
{
    dependents_launch();
    u64 SHARED *part = (u64 SHARED *)smem, *sent = part + CCC_ARGMAX_THREADS / 32;
    u32 bar = saddr(smem) + CCC_ARGMAX_SHARED_B - 8;
    i32 rank = cta() % CCC_ARGMAX_CLUSTER, row = cta_y();
    if (tid() == 0) {
        bar_init(bar, 1);
        bar_init_fence();
    }
    cluster_arrive();
    grid_wait();
    i32 per = (a.cols + CCC_ARGMAX_CLUSTER - 1) / CCC_ARGMAX_CLUSTER + 3 & ~3, from = rank * per;
    u64 best = warp_largest(best_of(a.x + (i64)row * a.x_ld, from, imin(from + per, a.cols)));
    if (lane() == 0) part[tid() >> 5] = best;
    cta_sync();
    cluster_wait();
    if (tid() >= 32) return;
    best = warp_largest(tid() < CCC_ARGMAX_THREADS / 32 ? part[tid()] : 0);
    if (tid() == 0) {
        if (rank == 0) bar_expect(bar, CCC_ARGMAX_CLUSTER * 8);
        st_async_f2(map_shared(saddr(sent + rank), 0), flt((u32)best), flt((u32)(best >> 32)), map_shared(bar, 0));
    }
    if (rank) return;
    while (!bar_try(bar, 0)) {}
    best = warp_largest(lane() < CCC_ARGMAX_CLUSTER ? sent[lane()] : 0);
    if (tid() == 0) a.out[row] = (i32)~(u32)best;
}
