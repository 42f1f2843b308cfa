/* What matvec.c needs beyond emu.h. */
#include "emu.h"
#define HOOK
INLINE vu4 ldg16_once_if(const void *p, i32 on) { vu4 zero = 0; return on ? ld16(p) : zero; }
INLINE float lds4_f(u32 a) { return *(float *)emu_shared(a, 4); }
INLINE void sts4_f(u32 a, float v) { *(float *)emu_shared(a, 4) = v; }
INLINE void sts8(u32 a, vu2 v) { *(vu2 *)emu_shared(a, 8) = v; }
INLINE void bulk_load(u32 dst, const void *src, u32 n, u32 bar) { bulk_load_hint(dst, src, n, bar, 0); }
INLINE vf4 e4m3x4_f32(u32 u)
{
    vf4 r;
    for (int i = 0; i < 4; i++) r[i] = f16_f32(emu_e4m3_f16((u16)(u >> 8 * i & 255)));
    return r;
}
INLINE float warp_sum(float v) { for (i32 d = 16; d; d >>= 1) v += shfl_xor(v, d); return v; }
