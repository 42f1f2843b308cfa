/* Reads memory and adds it up, to learn how fast this device can: blocks of 1024 threads, four 16-byte loads a thread, one piece a block,
 * blocks in address order (the fastest shape found). The sum is only there so that nothing can be left out. */
#include "k.h"
#include "../attention_geometry.h"

KERNEL ccc_kernel(read_args a)
{
    u64 at = (u64)cta() * CCC_READ_B + (u64)tid() * 16;
    const char GLOBAL *p = (const char GLOBAL *)a.src + at;
    vu4 v[4] = {0, 0, 0, 0};
    if (((u64)cta() + 1) * CCC_READ_B <= a.bytes) {
        UNROLL for (i32 k = 0; k < 4; k++) v[k] = ldg16_once(p + k * (CCC_READ_B / 4));
    } else {
        UNROLL for (i32 k = 0; k < 4; k++)
            if (at + (u64)k * (CCC_READ_B / 4) + 16 <= a.bytes) v[k] = ldg16_once(p + k * (CCC_READ_B / 4));
        if (tid() == 0) /* what is left of the last 16 bytes */
            for (u64 i = a.bytes & ~15ull; i + 4 <= a.bytes; i += 4) v[0].x += *(const u32 GLOBAL *)((const char GLOBAL *)a.src + i);
    }
    vu4 t = v[0] + v[1] + v[2] + v[3];
    u32 sum = (u32)redux_add((i32)(t.x + t.y + t.z + t.w));
    u32 SHARED *part = (u32 SHARED *)smem;
    if (lane() == 0) part[tid() >> 5] = sum;
    cta_sync();
    if (tid() >= 32) return;
    sum = (u32)redux_add((i32)part[tid()]);
    if (tid() == 0) red_add(a.out, sum);
}
