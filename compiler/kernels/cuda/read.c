/* Reads memory and adds it up, to learn how fast this device can: pieces of CCC_READ_B in address order, a block each (the fastest order found). Two
 * ways, of which the faster counts: loads of 16 bytes, four a thread of 1024, and (BULK) copies to shared memory, two a warp of four. On an H100 they
 * are equal, on an H200 copies are 8 % faster. The sum is there so that nothing can be left out. */
#include "k.h"
#include "../attention_geometry.h"

/* the last bytes of all that are no whole 16 */
INLINE u32 rest(const read_args *a)
{
    u32 sum = 0;
    for (u64 i = a->bytes & ~15ull; i + 4 <= a->bytes; i += 4) sum += *(const u32 GLOBAL *)((const char GLOBAL *)a->src + i);
    return sum;
}
INLINE u32 sum_of(vu4 v) { return v.x + v.y + v.z + v.w; }
#if BULK
enum { WARPS = CCC_READ_BULK_THREADS / 32, COPIES = 2, PIECE = CCC_READ_B / WARPS / COPIES, O_PARTS = CCC_READ_B, O_BARS = O_PARTS + WARPS * 4 };
INLINE u32 sum_read(const read_args *a)
{
    i32 w = uniform(tid() >> 5);
    u64 at = (u64)cta() * CCC_READ_B + (u64)w * (COPIES * PIECE), left = at < (a->bytes & ~15ull) ? (a->bytes & ~15ull) - at : 0;
    u32 bars = saddr(smem) + O_BARS + w * COPIES * 8, sum = 0;
    if (lane() == 0) {
        UNROLL for (i32 k = 0; k < COPIES; k++) bar_init(bars + k * 8, 1);
        bar_init_fence();
        u64 policy = policy_evict_first();
        UNROLL for (i32 k = 0; k < COPIES; k++) {
            if (left <= (u64)k * PIECE) break;
            u32 n = left - k * PIECE < PIECE ? (u32)(left - k * PIECE) : PIECE;
            bar_expect(bars + k * 8, n);
            bulk_load_hint(saddr(smem) + (w * COPIES + k) * PIECE, (const char GLOBAL *)a->src + at + k * PIECE, n, bars + k * 8, policy);
        }
    }
    warp_sync();
    NO_UNROLL for (i32 k = 0; k < COPIES; k++) {
        if (left <= (u64)k * PIECE) break;
        i32 n = left - k * PIECE < PIECE ? (i32)(left - k * PIECE) : PIECE;
        while (!bar_try(bars + k * 8, 0)) {}
        for (i32 i = lane() * 16; i < n; i += 512) sum += sum_of(*(const vu4 SHARED *)(smem + (w * COPIES + k) * PIECE + i));
    }
    return sum;
}
#else
enum { WARPS = CCC_READ_THREADS / 32, O_PARTS = 0 };
INLINE u32 sum_read(const read_args *a)
{
    u64 at = (u64)cta() * CCC_READ_B + (u64)tid() * 16;
    const char GLOBAL *p = (const char GLOBAL *)a->src + at;
    vu4 v[4] = {0, 0, 0, 0};
    if (((u64)cta() + 1) * CCC_READ_B <= a->bytes) {
        UNROLL for (i32 k = 0; k < 4; k++) v[k] = ldg16_once(p + k * (CCC_READ_B / 4));
    } else {
        UNROLL for (i32 k = 0; k < 4; k++)
            if (at + (u64)k * (CCC_READ_B / 4) + 16 <= a->bytes) v[k] = ldg16_once(p + k * (CCC_READ_B / 4));
    }
    return sum_of(v[0] + v[1] + v[2] + v[3]);
}
#endif

KERNEL ccc_kernel(read_args a)
{
    u32 sum = sum_read(&a);
    if (tid() == 0 && cta() == ncta() - 1) sum += rest(&a);
    sum = (u32)redux_add((i32)sum);
    u32 SHARED *part = (u32 SHARED *)(smem + O_PARTS);
    if (lane() == 0) part[tid() >> 5] = sum;
    cta_sync();
    if (tid() >= 32) return;
    sum = (u32)redux_add(tid() < WARPS ? (i32)part[tid()] : 0);
    if (tid() == 0) red_add(a.out, sum);
}
