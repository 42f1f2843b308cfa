/* wgmma for gemm.c: one warpgroup multiplies 64 rows of A by BN rows of B (both K-major in shared memory, 128-byte swizzle), 16 bf16 or 32 e4m3 of
 * K at a time, into BN/2 f32 accumulators a thread. Thread t of the warpgroup holds, for i = 4*j + 2*h + c: row t/32*16 + t%32/4 + 8*h,
 * column 8*j + 2*(t%4) + c.
 *
 * Accumulators are "+f" operands of every product and of the wait: LLVM then cannot copy or spill one that the hardware still writes.
 * The first product of a tile has outputs only and a false scale, so nothing clears them. Between the first product and mma_settle
 * nothing may touch them. BN: 8, or a multiple of 16 up to 256, a literal, so that its operand list can be pasted together. */
#ifndef CCC_WGMMA_H
#define CCC_WGMMA_H
#include "k.h"

#define WG_R8 "%0,%1,%2,%3"
#define WG_R16 WG_R8 ",%4,%5,%6,%7"
#define WG_R32 WG_R16 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define WG_R48 WG_R32 ",%16,%17,%18,%19,%20,%21,%22,%23"
#define WG_R64 WG_R48 ",%24,%25,%26,%27,%28,%29,%30,%31"
#define WG_R80 WG_R64 ",%32,%33,%34,%35,%36,%37,%38,%39"
#define WG_R96 WG_R80 ",%40,%41,%42,%43,%44,%45,%46,%47"
#define WG_R112 WG_R96 ",%48,%49,%50,%51,%52,%53,%54,%55"
#define WG_R128 WG_R112 ",%56,%57,%58,%59,%60,%61,%62,%63"
#define WG_R144 WG_R128 ",%64,%65,%66,%67,%68,%69,%70,%71"
#define WG_R160 WG_R144 ",%72,%73,%74,%75,%76,%77,%78,%79"
#define WG_R176 WG_R160 ",%80,%81,%82,%83,%84,%85,%86,%87"
#define WG_R192 WG_R176 ",%88,%89,%90,%91,%92,%93,%94,%95"
#define WG_R208 WG_R192 ",%96,%97,%98,%99,%100,%101,%102,%103"
#define WG_R224 WG_R208 ",%104,%105,%106,%107,%108,%109,%110,%111"
#define WG_R240 WG_R224 ",%112,%113,%114,%115,%116,%117,%118,%119"
#define WG_R256 WG_R240 ",%120,%121,%122,%123,%124,%125,%126,%127"
#define WG_D4(c, d, i) c(d[i]), c(d[i + 1]), c(d[i + 2]), c(d[i + 3])
#define WG_D8(c, d, i) WG_D4(c, d, i), WG_D4(c, d, i + 4)
#define WG_V8(c, d) WG_D4(c, d, 0)
#define WG_V16(c, d) WG_D8(c, d, 0)
#define WG_V32(c, d) WG_V16(c, d), WG_D8(c, d, 8)
#define WG_V48(c, d) WG_V32(c, d), WG_D8(c, d, 16)
#define WG_V64(c, d) WG_V48(c, d), WG_D8(c, d, 24)
#define WG_V80(c, d) WG_V64(c, d), WG_D8(c, d, 32)
#define WG_V96(c, d) WG_V80(c, d), WG_D8(c, d, 40)
#define WG_V112(c, d) WG_V96(c, d), WG_D8(c, d, 48)
#define WG_V128(c, d) WG_V112(c, d), WG_D8(c, d, 56)
#define WG_V144(c, d) WG_V128(c, d), WG_D8(c, d, 64)
#define WG_V160(c, d) WG_V144(c, d), WG_D8(c, d, 72)
#define WG_V176(c, d) WG_V160(c, d), WG_D8(c, d, 80)
#define WG_V192(c, d) WG_V176(c, d), WG_D8(c, d, 88)
#define WG_V208(c, d) WG_V192(c, d), WG_D8(c, d, 96)
#define WG_V224(c, d) WG_V208(c, d), WG_D8(c, d, 104)
#define WG_V240(c, d) WG_V224(c, d), WG_D8(c, d, 112)
#define WG_V256(c, d) WG_V240(c, d), WG_D8(c, d, 120)
#if FP8
#define WG_MMA "wgmma.mma_async.sync.aligned.m64n" STR(BN) "k32.f32.e4m3.e4m3 {" CAT(WG_R, BN) "}, %[a], %[b], p, 1, 1;"
#else
#define WG_MMA "wgmma.mma_async.sync.aligned.m64n" STR(BN) "k16.f32.bf16.bf16 {" CAT(WG_R, BN) "}, %[a], %[b], p, 1, 1, 0, 0;"
#endif
#define WG_OUT(x) "=f"(x)
#define WG_BOTH(x) "+f"(x)

INLINE void mma_first(float *d, u64 a, u64 b) /* d = a*b */
{
    ASM("{ .reg .pred p; setp.ne.b32 p, 0, 0; " WG_MMA " }" : CAT(WG_V, BN)(WG_OUT, d) : [a] "l"(a), [b] "l"(b));
}
INLINE void mma_acc(float *d, u64 a, u64 b) /* d += a*b */
{
    ASM("{ .reg .pred p; setp.eq.b32 p, 0, 0; " WG_MMA " }" : CAT(WG_V, BN)(WG_BOTH, d) : [a] "l"(a), [b] "l"(b));
}
INLINE void mma_settle(float *d) /* nothing may read d before this */
{
    ASM("wgmma.wait_group.sync.aligned 0;" : CAT(WG_V, BN)(WG_BOTH, d) : : "memory");
}
INLINE void mma_fence(void) { ASM("wgmma.fence.sync.aligned;" ::: "memory"); }
INLINE void mma_commit(void) { ASM("wgmma.commit_group.sync.aligned;" ::: "memory"); }
INLINE void mma_one_left(void) { ASM("wgmma.wait_group.sync.aligned 1;" ::: "memory"); }
/* operand at shared address a: K-major, 128-byte swizzle, 8-row groups 1024 bytes apart; the next 32 bytes of k are mma_desc(a) + 2 */
INLINE u64 mma_desc(u32 a) { return 0x4000004000010000ull | (a >> 4); }
#endif
