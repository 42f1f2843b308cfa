/* The lowest index of the largest value of a row; NaN counts as smallest. Several blocks share a row: each turns its best value into a
 * key that orders like (value, lowest index first) and the largest key wins, in whatever order the blocks arrive. The last one writes the
 * index and leaves the row's key and counter at zero. Nothing is read before grid_wait(). */
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
    enum { STEP = CCC_ARGMAX_THREADS * 4, AHEAD = 4 };
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
    grid_wait();
    i32 row = cta_y(), per = ((a.cols + ncta() - 1) / ncta() + 3) & ~3, from = imin(cta() * per, a.cols), to = imin(from + per, a.cols);
    u64 SHARED *part = (u64 SHARED *)smem;
    u64 best = warp_largest(best_of(a.x + (i64)row * a.x_ld, from, to));
    if (lane() == 0) part[tid() >> 5] = best;
    cta_sync();
    if (tid() >= 32) return;
    best = warp_largest(tid() < CCC_ARGMAX_THREADS / 32 ? part[tid()] : 0);
    if (tid() != 0) return;
    red_max_u64(a.best + row, best);
    if (atomic_add_acq_rel(a.count + row, 1) != ncta() - 1) return;
    a.out[row] = (i32)~(u32)atomic_max_u64(a.best + row, 0);
    a.best[row] = 0;
    a.count[row] = 0;
}
